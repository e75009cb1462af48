"""Judges what is expected at a time of a test by what happened until then."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from fnmatch import fnmatchcase

from app.model.delivery import State
from app.model.digest import is_over
from app.model.incident import ALL_STEPS, Step
from app.model.notification import one_line
from app.store import queries
from app.store.store import Store
from app.store.views import Delivery, IncidentFilter, StoredChange
from app.suite.clock import TEST_START, SuiteClock, offset
from app.suite.model import EVERYBODY, ExpectedAlert, Moment
from app.suite.recorder import RecordedAlert, reasons_of, shown

MAX_SHOWN = 12
"""Nobody reads more lines about one expectation."""
MAX_TEXT_CHARS = 300


@dataclass(frozen=True, slots=True)
class Unmet:
    """An expectation that does not hold.

    Attributes:
        line: Its line in the suite.
        at: When it was looked at.
        expected: What was expected.
        happened: What happened instead, line by line.
        why: Why, line by line: decisions, and what became of alerts that were not sent.
    """

    line: int
    at: str
    expected: str
    happened: Sequence[str]
    why: Sequence[str]


@dataclass(slots=True)
class Judge:
    """Looks at what destinations were told.

    Attributes:
        store: Has what was not told.
        clock: The time of the test.
        alerts: What was told, in order.
        steps: The steps of an incident of which each destination is alerted.
        changes: What was decided, in order.
    """

    store: Store
    clock: SuiteClock
    alerts: list[RecordedAlert]
    steps: Mapping[str, frozenset[Step]]
    changes: list[StoredChange] = field(default_factory=list)
    _looked: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    _looked_at: dict[str, timedelta] = field(default_factory=dict)

    async def unmet(self, moment: Moment, line: int) -> list[Unmet]:
        """Give what a step expects and what does not hold now."""
        deliveries = (await self.store.read(queries.page.deliveries, limit=1000)).rows
        problems = list(self._problems(moment, line, deliveries))
        entity = moment.acknowledge or moment.unacknowledge
        if entity and not await self.store.read(queries.incidents.worst, 1, IncidentFilter(entity=entity)):
            why = list(self._decisions(EVERYBODY))[:MAX_SHOWN]
            at = offset(self.clock.since)
            problems.insert(0, Unmet(line, at, f"{entity} has an open incident", ["it has none"], why))
        for key, names in moment.destinations():
            for name in names if key in {"told", "not told", "resolved"} else ():
                for destination in {name, *self._fitting(name)}:
                    self._looked[destination] = len(self.alerts)
                    self._looked_at[destination] = self.clock.since
        return problems

    def _problems(self, moment: Moment, line: int, deliveries: Sequence[Delivery]) -> Iterator[Unmet]:
        for name, wanted in (moment.told or {}).items():
            new = self._new(name)
            if not (new if wanted is None else _as_wanted(wanted, new)):
                what = "something" if wanted is None else _several(wanted)
                says = any(alert.says for alert in wanted or ())
                yield self._unmet(line, f"{name} is told {what}", name, deliveries, says=says)
        looked = {*(moment.told or ()), *(moment.resolved or ())}
        for pattern in moment.not_told or ():
            for name in self._fitting(pattern):
                # A pattern means the others.
                if self._new(name) and (name == pattern or name not in looked):
                    yield self._unmet(line, f"{name} is told nothing", name, deliveries)
        for name in moment.resolved or ():
            if not any(is_over(alert.notification) for alert in self._new(name)):
                yield self._unmet(line, f"{name} is told that an incident is resolved", name, deliveries)
        reasons = list(self._reasons(deliveries))
        for part in moment.because or ():
            if not any(part in reason for reason in reasons):
                at, happened = offset(self.clock.since), reasons or ["nothing was decided yet"]
                yield Unmet(line, at, f"the reason has {part!r}", happened, [])

    def _fitting(self, pattern: str) -> list[str]:
        """List the destinations that a pattern fits, of those that were told anything."""
        names = dict.fromkeys(alert.destination for alert in self.alerts)
        return [name for name in names if fnmatchcase(name, pattern)]

    def _new(self, destination: str) -> list[RecordedAlert]:
        return [
            alert for alert in self.alerts[self._looked[destination] :] if alert.destination == destination
        ]

    def _unmet(
        self, line: int, expected: str, name: str, deliveries: Sequence[Delivery], *, says: bool = False
    ) -> Unmet:
        new = self._new(name)
        happened = []
        for alert in new:
            happened.append(f"{offset(alert.since)} {alert.shown()}")
            if says:
                happened.append(f"  it says: {one_line(alert.text, MAX_TEXT_CHARS)}")
        if not new:
            since = self._looked_at.get(name)
            happened = ["it was told nothing" + (f" since {offset(since)}" if since is not None else "")]
        why = [*self._untold(name, deliveries), *self._decisions(name), *self._deaf(name)]
        return Unmet(line, offset(self.clock.since), expected, happened[:MAX_SHOWN], why[:MAX_SHOWN])

    def _untold(self, name: str, deliveries: Sequence[Delivery]) -> Iterator[str]:
        """Yield what became of a destination's alerts that were not sent."""
        for delivery in sorted(deliveries, key=lambda delivery: delivery.id):
            if name not in (delivery.destination, delivery.queue) or delivery.state is State.DELIVERED:
                continue
            what = shown(delivery.notification)
            if delivery.state is State.PENDING and delivery.next_at is not None:
                yield f"not sent before {offset(delivery.next_at - TEST_START)}: {what}"
            elif delivery.state is State.CANCELLED:
                yield f"cancelled, since its incident moved before it was due: {what}"
            else:
                state = str(delivery.state).replace("_", " ")
                yield f"{state} ({delivery.detail}): {what}"

    def _decisions(self, name: str) -> Iterator[str]:
        """Yield the decisions since a destination was looked at, the newest first."""
        since = TEST_START + self._looked_at.get(name, TEST_START - TEST_START)
        changes = [change for change in reversed(self.changes) if change.received_at >= since]
        for change in changes or self.changes[-1:]:
            first, *others = reasons_of(change.reason)
            yield f"{offset(change.received_at - TEST_START)} {change.entity}: {first}"
            yield from (f"  {reason}" for reason in others)

    def _deaf(self, name: str) -> Iterator[str]:
        """Yield of which steps a destination is alerted, if not of all."""
        steps = self.steps.get(name, ALL_STEPS)
        if not steps >= ALL_STEPS:
            yield f"`steps` of {name}: only {', '.join(step for step in Step if step in steps)}"

    def _reasons(self, deliveries: Sequence[Delivery]) -> Iterator[str]:
        if self.changes:
            last = self.changes[-1]
            yield last.reason
            for delivery in deliveries:
                if (
                    delivery.change_id == last.id
                    and delivery.state is not State.DELIVERED
                    and delivery.detail
                ):
                    yield f"{delivery.destination}: {delivery.detail}"


def _as_wanted(wanted: Sequence[ExpectedAlert], alerts: Sequence[RecordedAlert]) -> bool:
    return len(wanted) == len(alerts) and all(map(_fits, wanted, alerts))


def _fits(wanted: ExpectedAlert, alert: RecordedAlert) -> bool:
    facts = alert.notification
    return (
        wanted.step in (None, facts.step)
        and wanted.rule in (None, facts.rule)
        and wanted.entity in (None, facts.entity)
        and wanted.severity in (None, facts.severity)
        and wanted.digest in (None, alert.together > 1)
        and all(part in alert.text for part in wanted.says or ())
    )


def _several(wanted: Sequence[ExpectedAlert]) -> str:
    return ", then ".join(map(_one, wanted))


def _one(wanted: ExpectedAlert) -> str:
    facts = wanted.model_dump(exclude_unset=True, exclude={"step"})
    shown_facts = ", ".join(f"{name} {_plain(value)}" for name, value in facts.items())
    step = wanted.step or "any alert"
    return f"{step} ({shown_facts})" if shown_facts else str(step)


def _plain(value: object) -> str:
    return " and ".join(map(repr, value)) if isinstance(value, tuple) else str(value)
