"""The life of an incident: opened, changed, resolved."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal, NamedTuple

from app.model.immutable import Immutable, immutable

Severity = Literal["critical", "warning", "info"]
RANKS: dict[Severity, int] = {"info": 0, "warning": 1, "critical": 2}
"""The more, the worse."""


class Step(StrEnum):
    """The step of an incident that an alert is about."""

    OPENED = "opened"
    CHANGED = "changed"
    RESOLVED = "resolved"
    NOTICED = "noticed"
    """It moved nothing: its rule knows no incidents, it came late, or it resolves what never opened."""
    REMINDED = "reminded"
    """Not a change: the incident is still open."""
    FLAPPING = "flapping"
    """It changes too often: there are no more alerts until it is stable."""
    SETTLED = "settled"
    """It flapped, and has been stable since."""
    NOTICE = "notice"
    """Not about an entity: a notice of the listener itself."""
    ACKNOWLEDGED = "acknowledged"
    """Somebody looks after it. Only a destination that asks for this step gets it."""
    ESCALATED = "escalated"
    """Not a change: nobody has acknowledged it for as long as its rule's `escalate` allows."""

    def of_job(self, *, ended: bool) -> "Step":
        """Map it to the step that a job, which knows only begin, change and end, takes it for.

        Args:
            ended: Whether all is well by then.
        """
        if self is Step.ESCALATED:  # there it begins
            return Step.OPENED
        if self is Step.NOTICED and ended:
            return Step.RESOLVED
        if self is Step.SETTLED:
            return Step.RESOLVED if ended else Step.CHANGED
        return self


CATALOG_QUEUES = ("#", "@")
"""What the names of queues begin with that the catalog chooses: of channels, and of people."""
ALL_STEPS = frozenset(Step) - {Step.ACKNOWLEDGED}
"""The steps that a channel is alerted of; its messages show an acknowledgement in their own place."""
EVERY_STEP = frozenset(Step)
"""The steps that a channel is alerted of whose messages cannot be updated."""
Way = Literal["slack", "page", "api", "command"]


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who acts on an incident.

    Attributes:
        name: What to call them.
        way: Where they did it.
        id: What tells them from others there: Slack's id of a user; empty: the name does.
    """

    name: str
    way: Way
    id: str = ""

    @property
    def in_trail(self) -> str:
        """What the audit trail calls them."""
        return f"{self.name} (Slack {self.id})" if self.way == "slack" else self.name


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Who looks after an incident, since when, UTC."""

    at: datetime
    by: Person


@immutable(frozen=True, slots=True)
class Route:
    """A way to a destination.

    Attributes:
        destination: The destination's name.
        queue: The queue there: the unit of order and of rate.
        steps: The steps of an incident that it is alerted of.
        why: Why this change goes there in another one's place; empty: it does not.
        later: It is told nothing yet: an escalation leads there, if it comes to that.
        at_any_time: No hours keep anything back there: the way that led there has none.
    """

    destination: str
    queue: str
    steps: frozenset[Step] = ALL_STEPS
    why: str = field(default="", compare=False)  # of one change, where the way is that of an incident
    later: bool = False
    at_any_time: bool = False


class Tie(NamedTuple):
    """What an incident's alert depends on besides its own entity: an incident of another one.

    Attributes:
        rule: The rule of the other incident.
        blueprint: The blueprint of its entity.
        entity: The identifier of its entity.
        quiets: While the other one is open, nobody is alerted of this one.
        counts_from: The other one is that of a group, in which this one counts from then on, in microseconds
            since 1970; None: it is not.
        field: The field of the incident's own entity that leads to the other one.
    """

    rule: str
    blueprint: str
    entity: str
    quiets: bool = True
    counts_from: int | None = None
    field: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """What the other incident is found by."""
        return self[:3]


@immutable(frozen=True)
class Incident(Immutable):
    """Something wrong with one entity, by one rule.

    Attributes:
        id: Unique for ever.
        rule: The rule's name.
        blueprint: The entity's blueprint.
        entity: The entity's identifier.
        state: The value that it is in now, as text (``Degraded``).
        opened_at: When it opened, UTC.
        changed_at: When its state last moved, UTC.
        resolved_at: When it ended, UTC; None while it is open.
        due_at: It does not alert before this time, UTC, and never does if it ends before then.
        severity: How bad it is now.
        moves: When it last opened, changed or ended, UTC, as many as its rule's `flap` counts.
        openings: When it began within 24 hours before it last did, and when it last did, UTC.
        quiet: The id of the incident that explains it: while that is open, nobody is alerted of it.
        ties: The incidents that may explain it, by what they are found by; not kept once it has ended.
        flapping: It moves too often: there are no more alerts until it is stable.
        told: Where it was alerted. Its later steps are told there too, wherever its rule sends by then.
        acknowledged: Who looks after it; None: nobody, it got worse since, or it is over.
        version: Grows with each step and each acknowledgement.
        escalates_from: From when its escalations count, UTC; None: it has none.
    """

    id: str
    rule: str
    blueprint: str
    entity: str
    state: str
    opened_at: datetime
    changed_at: datetime
    resolved_at: datetime | None = None
    due_at: datetime | None = None
    severity: Severity = "warning"
    moves: tuple[datetime, ...] = ()
    flapping: bool = False
    told: tuple[Route, ...] = ()
    openings: tuple[datetime, ...] = ()
    acknowledged: Acknowledgement | None = None
    version: int = 1
    escalates_from: datetime | None = None
    quiet: str | None = None
    ties: tuple[Tie, ...] = ()

    @property
    def told_so_far(self) -> tuple[Route, ...]:
        """Where it was alerted, without the places that only an escalation would reach."""
        return tuple(place for place in self.told if not place.later)

    def reaching(self, route: Route) -> "Incident":
        """Copy it with a place that is told of it from now on, to its end."""
        # A job has several queues: it may have been told in another one. But each channel of the catalog's
        # is a place of its own.
        name = "" if route.queue.startswith(CATALOG_QUEUES) else route.destination
        here = [place for place in self.told if place.queue == route.queue or place.destination == name]
        if not all(place.later for place in here):
            return self
        others = (place for place in self.told if place not in here)
        return self.but(told=(*others, replace(route, later=False)))

    def told_as(self, other: "Incident") -> "Incident":
        """Copy it with the destinations that were told of another incident, too."""
        incident, names = self, {place.destination for place in self.told_so_far}
        for place in other.told_so_far:
            incident = incident if place.destination in names else incident.reaching(place)
        return incident

    def over(self, at: datetime) -> "Incident":
        """Copy it as over, since a time, UTC: nobody looks after it, and nothing more of it escalates."""
        return self.but(resolved_at=at, acknowledged=None, escalates_from=None, told=self.told_so_far)


def counted(incident: Incident, at: datetime, changes: int, within: timedelta) -> Incident:
    """Note that an incident opens, changes or ends at a time, and whether it flaps from then on.

    Args:
        incident: The incident.
        at: The time, UTC.
        changes: From so many on it flaps.
        within: That is, so many within this time; and stable is what has not changed for as long.
    """
    # Stable for a whole window starts the count again, however many moves came before.
    stable = bool(incident.moves) and at - incident.moves[-1] >= within
    recent = () if stable else tuple(move for move in incident.moves if at - move < within)
    moves = (*recent, at)[-changes:]  # older ones cannot make the number full again
    return incident.but(moves=moves, flapping=(incident.flapping and not stable) or len(moves) >= changes)


def place_of(destination: str, queue: str, channels: Mapping[str, str] | None = None) -> str:
    """Name where an alert goes as people know it: its channel or person, where that is known.

    Args:
        destination: The destination's name, for where neither is known.
        queue: The queue's name, which is the place itself where the catalog chooses it.
        channels: The channels that are known, by their queues' names.
    """
    return queue if queue.startswith(CATALOG_QUEUES) else (channels or {}).get(queue, destination)


def advance(
    incident: Incident | None, *, candidate: Incident, resolves: bool
) -> tuple[Step, Incident | None]:
    """Move the open incident, if there is one, by a matching change; give the step and the incident after.

    The `candidate` is the incident that the change would open. A change that `resolves` opens none.
    """
    # An end without a beginning still alerts, where a rule says so: the beginning may have been missed.
    if incident is None:
        return (Step.NOTICED, None) if resolves else (Step.OPENED, candidate)
    # The incident keeps its id, by which its messages and jobs are found.
    at, version = candidate.changed_at, incident.version + 1
    # At its end how bad it was: the state that all is well in has no severity of its own.
    severity = incident.severity if resolves else candidate.severity
    moved = incident.but(state=candidate.state, changed_at=at, severity=severity, version=version)
    return (Step.RESOLVED, moved.over(at)) if resolves else (Step.CHANGED, moved)


def places_of(told: Collection[Route], routes: tuple[Route, ...]) -> tuple[Route, ...]:
    """List where an alert goes: where its rule sends now, and where its incident was told; no queue twice."""
    if not told and len(routes) == 1:
        return routes
    queue_of = {place.destination: place.queue for place in told}
    places: dict[str, Route] = {}
    for route in routes:
        if route.why and told:  # the catalog names no place any more, and those that it named are told
            continue
        # By the queue that it was told in: another one might be faster, and overtake it. But what the
        # catalog names is a place of its own, beside the one that it named before.
        queue = route.queue
        if not queue.startswith(CATALOG_QUEUES):
            queue = queue_of.get(route.destination, queue)
        place = Route(route.destination, queue, route.steps, route.why, at_any_time=route.at_any_time)
        if queue not in places or place.at_any_time:
            places[queue] = place
    for place in told:
        places.setdefault(place.queue, place)
    return tuple(places.values())
