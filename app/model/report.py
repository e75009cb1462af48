"""The report to a run in Port about the change that it brought: what became of all its alerts."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from app.model.change import CatalogChange
from app.model.delivery import Alert
from app.model.notification import Message, Notification, one_line

RUNS = "port/runs"
"""The destination that stands for all runs in Port; no destination of a rules file may have this name."""
# It becomes part of a path of Port's API.
RUN_ID = re.compile(r"[\w.:-]{1,200}", re.ASCII)
DUPLICATE_NOTE = "This change came before; nothing is sent twice."
MAX_SUMMARY_CHARS = 1_000
MAX_NAMES = 20


@dataclass(frozen=True, slots=True)
class Report:
    """A report on its way into the store: the run, and the delivery, whose words are made when it is sent."""

    run: str
    delivery: Alert

    @classmethod
    def of(cls, change: CatalogChange, queue: str) -> "Report | None":
        """Make the report that a change's run waits for, if it waits for one; it is to wait in `queue`."""
        if change.report_to is None or not RUN_ID.fullmatch(change.report_to):
            return None
        # A notice, which no silence suppresses: a report about an alert is no alert.
        notice = Notification.notice(f"Report to run {change.report_to}", change.at)
        about = {"blueprint": one_line(change.blueprint), "entity": one_line(change.entity)}
        return cls(change.report_to, Alert(RUNS, queue, notice.but(**about)))


@dataclass(frozen=True, slots=True)
class ReportedAlert:
    """One alert of a change, and its state.

    Attributes:
        destination: The destination's name.
        state: ``pending``, ``delivered``, ``dead``, ``silenced`` or ``cancelled``.
        detail: The result of the last attempt; empty if there was none.
        message: The message that has it, where the channel gives messages an id.
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
        reason: The decision's reason.
        alerts: Its alerts, reminders apart.
        again: The run that asks brought a change that had come before.
        reports: How many reports wait for this run.
    """

    received_at: datetime
    reason: str
    alerts: tuple[ReportedAlert, ...] = ()
    again: bool = False
    reports: int = 0

    @property
    def has_ended(self) -> bool:
        """Whether nothing is pending any more."""
        return all(alert.state != "pending" for alert in self.alerts)

    @property
    def failed(self) -> bool:
        """Whether an alert was given up."""
        return any(alert.state == "dead" for alert in self.alerts)

    @property
    def label(self) -> str:
        """What became of it, in a word or two."""
        states = {alert.state for alert in self.alerts}
        if self.failed:  # before all: it is what somebody must look at
            return "Not delivered"
        if self.again:
            return "Duplicate"
        labels = {"delivered": "Delivered", "silenced": "Silenced", "cancelled": "Not needed"}
        return next((label for state, label in labels.items() if state in states), "Ignored")

    @property
    def line(self) -> str:
        """That it is accepted, and for whom, for a person."""
        number = f"{len(self.alerts)} alert{'s' if len(self.alerts) > 1 else ''}"
        return self._sentences([f"Accepted: {number}, for {_names(self.alerts)}: {self.reason}."])

    @property
    def summary(self) -> str:
        """What became of it in the end, in sentences, for a person."""
        return self._sentences(self._ends() if self.alerts else [f"Ignored: {self.reason}."])

    def _sentences(self, parts: Iterable[str]) -> str:
        first = [DUPLICATE_NOTE] if self.again else []
        return one_line(" ".join([*first, *parts]), MAX_SUMMARY_CHARS)

    def _ends(self) -> Iterator[str]:
        by_state: dict[str, list[ReportedAlert]] = {}
        for alert in self.alerts:
            by_state.setdefault(alert.state, []).append(alert)
        # What failed comes first: a long reason must not push it out.
        for alert in by_state.get("dead", []):
            yield f"Not delivered to {alert.destination}: {alert.detail}."
        if delivered := by_state.get("delivered"):
            yield f"Delivered to {_names(delivered)}."
        for alert in by_state.get("silenced", []):
            yield f"{alert.destination} is silenced: {alert.detail}."
        if cancelled := by_state.get("cancelled"):
            yield f"No longer needed for {_names(cancelled)}."
        yield f"Why: {self.reason}."

    def ending(self, links: Iterable[str]) -> Mapping[str, object]:
        """Make the end of the run, as ``PATCH /v1/actions/runs/{id}`` takes it, with its messages' links."""
        ending = {
            "status": "FAILURE" if self.failed else "SUCCESS",
            "statusLabel": self.label,
            "summary": self.summary,
        }
        once = list(dict.fromkeys(links))
        return ending | ({"link": once} if once else {})


def _names(alerts: Iterable[ReportedAlert]) -> str:
    names = list(dict.fromkeys(alert.destination for alert in alerts))
    if len(names) > MAX_NAMES:
        names = [*names[:MAX_NAMES], f"{len(names) - MAX_NAMES} more"]
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
