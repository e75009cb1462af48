"""What a run in Port is told of the change that it brought: the sum of all that became of it."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from app.model.change import CatalogChange
from app.model.delivery import Alert
from app.model.notification import Message, Notification, one_line

RUNS = "port/runs"
"""The destination that stands for all runs in Port; no destination of a rules file may have this name."""
RUN = re.compile(r"[\w.:-]{1,200}", re.ASCII)
AGAIN = "This change came before; nothing is told twice."
MAX_SUMMARY = 1_000
MAX_NAMES = 20


@dataclass(frozen=True, slots=True)
class Report:
    """A report on its way into the store: the run, and the delivery, whose words are made when it is sent."""

    run: str
    delivery: Alert

    @classmethod
    def of(cls, change: CatalogChange, queue: str) -> "Report | None":
        """Return the report that a change's run waits for, if it waits for one.

        Args:
            change: The change.
            queue: The queue that the report is to wait in.
        """
        if change.report_to is None or not RUN.fullmatch(change.report_to):
            return None
        # A notice: what is said of an alert is no alert, so that no silence keeps it back.
        notice = Notification.notice(f"Report to run {change.report_to}", change.at)
        about = {"blueprint": one_line(change.blueprint), "entity": one_line(change.entity)}
        return cls(change.report_to, Alert(RUNS, queue, notice.model_copy(update=about)))


@dataclass(frozen=True, slots=True)
class Told:
    """One alert of a change, and where it stands.

    Attributes:
        destination: The destination's name.
        state: ``pending``, ``delivered``, ``dead``, ``silenced`` or ``cancelled``.
        detail: What came of the last try; empty if there was none.
        message: The message that tells of it, where the channel has a name for it.
    """

    destination: str
    state: str
    detail: str = ""
    message: Message | None = None


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a change until now.

    Attributes:
        received_at: When it came, UTC.
        reason: Why it alerted, or not.
        alerts: What was to be told at once or later, reminders apart.
        again: The run that asks brought a change that had come before.
        reports: How many reports wait for this run.
    """

    received_at: datetime
    reason: str
    alerts: tuple[Told, ...] = ()
    again: bool = False
    reports: int = 0

    @property
    def has_ended(self) -> bool:
        """Whether nothing is to be told any more."""
        return all(one.state != "pending" for one in self.alerts)

    @property
    def failed(self) -> bool:
        """Whether somebody did not hear of it who should have."""
        return any(one.state == "dead" for one in self.alerts)

    @property
    def label(self) -> str:
        """What became of it, in a word or two."""
        states = {one.state for one in self.alerts}
        if self.failed:
            return "Not delivered"
        if self.again:
            return "Duplicate"
        labels = {"delivered": "Delivered", "silenced": "Silenced", "cancelled": "Not needed"}
        return next((label for state, label in labels.items() if state in states), "Ignored")

    @property
    def line(self) -> str:
        """That it is accepted, and for whom, for a person."""
        number = f"{len(self.alerts)} alert{'s' if len(self.alerts) > 1 else ''}"
        return self._said([f"Accepted: {number}, for {_names(self.alerts)}: {self.reason}."])

    @property
    def summary(self) -> str:
        """What became of it in the end, in sentences, for a person."""
        return self._said(self._ends() if self.alerts else [f"Ignored: {self.reason}."])

    def _said(self, parts: Iterable[str]) -> str:
        first = [AGAIN] if self.again else []
        return one_line(" ".join([*first, *parts]), MAX_SUMMARY)

    def _ends(self) -> Iterator[str]:
        by_state: dict[str, list[Told]] = {}
        for one in self.alerts:
            by_state.setdefault(one.state, []).append(one)
        # What failed comes first: a long reason must not push it out.
        yield from (f"Not told {one.destination}: {one.detail}." for one in by_state.get("dead", []))
        if delivered := by_state.get("delivered"):
            yield f"Told {_names(delivered)}."
        yield from (f"{one.destination} is silenced: {one.detail}." for one in by_state.get("silenced", []))
        if cancelled := by_state.get("cancelled"):
            yield f"Later there was nothing to tell {_names(cancelled)} any more."
        yield f"Why: {self.reason}."

    def ending(self, links: Iterable[str]) -> Mapping[str, object]:
        """Return the end of the run, as ``PATCH /v1/actions/runs/{id}`` takes it.

        Args:
            links: Where the messages are that tell of it.
        """
        ending = {
            "status": "FAILURE" if self.failed else "SUCCESS",
            "statusLabel": self.label,
            "summary": self.summary,
        }
        found = list(dict.fromkeys(links))
        return ending | ({"link": found} if found else {})


def _names(alerts: Iterable[Told]) -> str:
    names = list(dict.fromkeys(one.destination for one in alerts))
    if len(names) > MAX_NAMES:
        names = [*names[:MAX_NAMES], f"{len(names) - MAX_NAMES} more"]
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
