"""A digest of what waits for one channel: a line for each entity under each rule, alike lines in groups."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from app.model.change import CREATE, DELETE
from app.model.incident import RANKS, Step
from app.model.notification import CLOSED, Notification, text_of

GroupBy = Literal["rule", "transition", "blueprint", "team", "severity"]
BY_RULE_AND_TRANSITION: tuple[GroupBy, ...] = ("rule", "transition")

MAX_VALUES = 5
MAX_ALONE = 8  # more transitions that one entity each went through would be more headings than lines
LEFT_OUT = "…"
ENDED = -1
"""Less bad than `RANKS` of any trouble that lasts."""
ENDS = {DELETE: "deleted", CLOSED: "closed"}
"""The end of an incident that is no recovery, by the action."""
COUNTED = ("critical", "warning", "info", "deleted", "closed", "resolved")
"""What a headline counts, the worst first."""
NOT_CHANGES = frozenset({Step.REMINDED, Step.SETTLED, Step.NOTICE, Step.ACKNOWLEDGED, Step.ESCALATED})
STILL = frozenset({Step.REMINDED, Step.ACKNOWLEDGED, Step.ESCALATED})
"""Alerts that say how it still is, and bring no new value."""

_Key = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Chain:
    """The values that a property went through, as text, none twice in a row; only one if it stayed."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Transition:
    """Where a line came from, and where it is now.

    Attributes:
        before: Its first value; None if it only stayed where it is.
        after: Its last value; empty if it is about none.
        happened: What happened, where it is about no value.
    """

    before: str | None
    after: str
    happened: str = ""


@dataclass(frozen=True)
class Line:
    """The alerts of one entity under one rule as one line, or one notice.

    Attributes:
        positions: Where its notifications stand among all.
        notifications: The alerts, oldest first; one at least.
        complete: Nothing happened between the notifications; else they are but the first and the last.
    """

    positions: tuple[int, ...]
    notifications: tuple[Notification, ...]
    complete: bool = True

    @cached_property
    def chains(self) -> tuple[Chain, ...]:
        """The values of each property that its alerts are about."""
        chains: dict[str, list[str]] = {}
        for notification in self.notifications:
            change = notification.change
            if change is None:
                continue
            values = chains.setdefault(change.name, [])
            # A reminder is no change: its "before" was the state of the alert before it.
            if notification.step in STILL:
                if values:  # after a change that came late it would seem to be one back
                    continue
            elif not values:
                values.append(text_of(change.before))
            after = text_of(change.after)
            if not values or values[-1] != after:
                values.append(after)
        return tuple(Chain(name, tuple(values)) for name, values in chains.items())

    @cached_property
    def last(self) -> Notification:
        """The newest alert: the state now."""
        return self.notifications[-1]

    @property
    def is_notice(self) -> bool:
        """Whether it is about no entity."""
        return self.last.step is Step.NOTICE

    @property
    def ended(self) -> bool:
        """Whether its incident is over."""
        return is_over(self.last)

    @cached_property
    def badness(self) -> int:
        """How bad it is now: the more, the worse; `ENDED` is the least."""
        return ENDED if self.ended else RANKS[self.last.severity]

    @property
    def changes(self) -> int:
        """How many of its notifications are changes; a reminder is none."""
        return sum(notification.step not in NOT_CHANGES for notification in self.notifications)

    @property
    def transition(self) -> Transition | None:
        """Its first and last value; None for numbers and the like, which no two entities share."""
        change = self.last.change
        if change is None:
            last = self.last
            if last.step is Step.FLAPPING or last.step in STILL:  # its line says how often, or for how long
                return None
            return Transition(None, "", " ".join((last.action, last.timer or "", last.closed, last.state)))
        if self.last.step is Step.FLAPPING or self.last.action in (CREATE, DELETE):  # its line says more
            return None
        # Two entities rarely share a number, so that a group for each would be as long as the list.
        if not (_is_state(change.before) and _is_state(change.after)):
            return None
        if len(self.notifications) == 1 and self.last.step not in STILL:  # as nearly always: no chain for it
            before, after = text_of(change.before), text_of(change.after)
            return Transition(None if before == after else before, after)
        values = next(chain.values for chain in self.chains if chain.name == change.name)
        return Transition(values[0] if len(values) > 1 else None, values[-1])


@dataclass(frozen=True, slots=True)
class LineGroup:
    """Lines that have in common what they are grouped by.

    Attributes:
        lines: By arrival; one at least.
        transition: The one that all went through, if they are grouped by it and there is one.
    """

    lines: tuple[Line, ...]
    transition: Transition | None = None

    @property
    def worst(self) -> Line:
        """The worst of its lines, the first if several are."""
        return max(self.lines, key=lambda line: line.badness)


def is_over(notification: Notification) -> bool:
    """Tell whether the trouble is over. While it flaps it is not: it may be back at any moment."""
    step = notification.step
    ended = notification.ended and step in (Step.SETTLED, Step.NOTICED) and not notification.late
    return step is Step.RESOLVED or ended


def gather(notifications: Sequence[Notification]) -> list[Line]:
    """Gather notifications into a line for each entity under each rule and each notice, by arrival."""
    together: dict[_Key, list[int]] = {}
    for position, notification in enumerate(notifications):
        key: _Key = (notification.rule, notification.blueprint, notification.entity)
        together.setdefault((position,) if notification.step is Step.NOTICE else key, []).append(position)
    lines = []
    for positions in together.values():
        if len(positions) == 1:  # as nearly always
            lines.append(Line(tuple(positions), (notifications[positions[0]],)))
            continue
        oldest_first: list[Notification] = []
        for notification in (notifications[position] for position in positions):
            # The others are in order: `at` may be when reconciling found one.
            later = (place for place, other in enumerate(oldest_first) if _is_before(notification, other))
            place = next(later, None)
            oldest_first.insert(len(oldest_first) if place is None else place, notification)
        lines.append(Line(tuple(positions), tuple(oldest_first)))
    return lines


def _is_before(notification: Notification, other: Notification) -> bool:
    """Tell whether it happened before one that came first: it is late, or closes what goes on as another."""
    goes_on = notification.action == CLOSED and other.opened_at != notification.opened_at
    return (notification.late or goes_on) and other.at > notification.at


def grouped(lines: Iterable[Line], by: tuple[GroupBy, ...] = BY_RULE_AND_TRANSITION) -> list[LineGroup]:
    """Group lines: the worst group first, then the largest, then the one that arrived first.

    The lines of a group have in common what they are grouped `by`. Notices are a group of their own.
    """
    by_key: dict[_Key, list[Line]] = {}
    for line in lines:
        by_key.setdefault(_key(line, by), []).append(line)
    groups = [
        LineGroup(tuple(sorted(together, key=_arrival)), _transition(key))
        for key, together in _with_those_alone_together(by_key).items()
    ]
    return sorted(
        groups, key=lambda group: (-group.worst.badness, -len(group.lines), _arrival(group.lines[0]))
    )


def outcome(notification: Notification) -> str:
    """Choose the word of `COUNTED` that a headline counts it under: how bad it is, or how it ended."""
    if is_over(notification):
        return ENDS.get(notification.action, "resolved")
    return notification.severity


def shortened(values: tuple[str, ...]) -> tuple[str, ...]:
    """Shorten a list of values for a person: of more than `MAX_VALUES` the middle is left out."""
    if len(values) <= MAX_VALUES:
        return values
    kept = MAX_VALUES // 2  # the first and the last values are what matters
    return (*values[:kept], LEFT_OUT, *values[-kept:])


FACTS: dict[GroupBy, Callable[[Line], object]] = {
    "rule": lambda line: line.last.rule,
    "transition": lambda line: line.transition,
    "blueprint": lambda line: line.last.blueprint,
    "team": lambda line: line.last.teams,
    "severity": lambda line: line.last.severity,
}


def _key(line: Line, by: tuple[GroupBy, ...]) -> _Key:
    if line.is_notice:
        return (Step.NOTICE,)
    return tuple([FACTS[name](line) for name in by])


def _with_those_alone_together(groups: dict[_Key, list[Line]]) -> dict[_Key, list[Line]]:
    """Merge the groups of one line, where too many differ only in the transition."""
    alone: dict[_Key, list[_Key]] = {}
    for key, lines in groups.items():
        if len(lines) == 1 and (transition := _transition(key)):
            # None keeps the place, so that groups by other facts stay apart.
            common = tuple(None if part is transition else part for part in key)
            alone.setdefault(common, []).append(key)
    merged = dict(groups)
    for common, keys in alone.items():
        if len(keys) > MAX_ALONE:
            lines = [line for key in keys for line in merged.pop(key)]
            merged[common] = merged.get(common, []) + lines
    return merged


def _transition(key: _Key) -> Transition | None:
    return next((part for part in key if isinstance(part, Transition)), None)


def _is_state(value: object) -> bool:
    return value is None or isinstance(value, str | bool)


def _arrival(line: Line) -> int:
    return min(line.positions)
