"""Which change matters, and who hears of it.

Matching needs only the change, so it runs in the request; deciding needs the entity's state, so it runs
inside the store's transaction. Both are pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from app.alerts.change import ENTITY, UPDATE, CatalogChange
from app.alerts.diff import PropertyChange, diff
from app.alerts.incident import Incident, advance
from app.alerts.notification import Notification, text_of

DEFAULT_DESTINATION = "default"


@dataclass(frozen=True, slots=True)
class Rule:
    """Which changes matter, who hears of them, and what ends the trouble.

    Attributes:
        name: Unique among the rules.
        property: The property whose change matters.
        healthy: The value that ends an incident.
        action: The action that matters.
        destination: The name of the destination that hears of it.
    """

    name: str
    property: str
    healthy: str
    action: str = UPDATE
    destination: str = DEFAULT_DESTINATION


BUILT_IN = Rule(name="health", property="healthStatus", healthy="Healthy")
"""What holds without a rules file: any UPDATE that changes `healthStatus` alerts the default destination."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A rule that a change matches, and the value that it is about."""

    rule: Rule
    main: PropertyChange


@dataclass(frozen=True, slots=True)
class Match:
    """What can be said of a change without knowing any state.

    Attributes:
        change: The change.
        changes: What changed in it.
        hits: The rules that match.
        reason: Why they do, or why none does.
    """

    change: CatalogChange
    changes: tuple[PropertyChange, ...]
    hits: tuple[Hit, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class EntityState:
    """What the store knows of an entity when a decision is taken.

    Attributes:
        last_at: When the newest change of the entity that was seen so far happened; None if none was.
        incidents: Its open incidents.
    """

    last_at: datetime | None = None
    incidents: tuple[Incident, ...] = ()


@dataclass(frozen=True, slots=True)
class Alert:
    """One notification for one destination.

    Attributes:
        destination: The destination's name.
        lane: The lane it waits in: the unit of order and of rate.
        notification: What to say.
        incident_id: The incident it belongs to, if any.
    """

    destination: str
    lane: str
    notification: Notification
    incident_id: str | None


@dataclass(frozen=True, slots=True)
class Decision:
    """What a change leads to.

    Attributes:
        reason: Why, also if there is no alert.
        alerts: What to tell whom.
        incidents: The incidents that it opened or moved, as they are now.
    """

    reason: str
    alerts: tuple[Alert, ...] = ()
    incidents: tuple[Incident, ...] = field(default=())


def match(rules: Sequence[Rule], change: CatalogChange) -> Match:
    """Return which rules a change matches, and why."""
    if change.resource != ENTITY:
        return Match(change, (), (), f"a change of resource type {change.resource!r}, not of an entity")
    changes = diff(change.before, change.after)
    hits = []
    misses = []
    for rule in rules:
        main = next((one for one in changes if one.path == ("properties", rule.property)), None)
        if change.action != rule.action:
            misses.append(f"rule {rule.name!r} watches {rule.action}, this is {change.action!r}")
        elif main is None:
            misses.append(f"rule {rule.name!r}: {rule.property} did not change")
        else:
            hits.append(Hit(rule, main))
    reason = "; ".join([f"rule {hit.rule.name!r} matches" for hit in hits] or misses)
    return Match(change, changes, tuple(hits), reason)


def decide(matched: Match, state: EntityState) -> Decision:
    """Return what a matched change leads to, given the entity's state.

    A change that is older than the newest one seen still alerts, marked as late, but moves no incident.
    """
    change = matched.change
    late = state.last_at is not None and change.at < state.last_at
    alerts = []
    moved = []
    for hit in matched.hits:
        now = text_of(hit.main.after)
        open_incident = next((one for one in state.incidents if one.rule == hit.rule.name), None)
        candidate = Incident(
            id=f"{hit.rule.name}-{change.key[:16]}",
            rule=hit.rule.name,
            blueprint=change.blueprint,
            entity=change.entity,
            state=now,
            opened_at=change.at,
            changed_at=change.at,
        )
        step, incident = advance(
            open_incident, candidate=candidate, resolves=now == hit.rule.healthy, late=late
        )
        if incident is not None and incident is not open_incident:
            moved.append(incident)
        notification = Notification.about(
            change,
            hit.main,
            matched.changes,
            rule=hit.rule.name,
            step=step,
            opened_at=incident.opened_at if incident else None,
            late=late,
        )
        destination = hit.rule.destination
        alerts.append(Alert(destination, destination, notification, incident.id if incident else None))
    reason = f"{matched.reason} (late: a newer change was seen)" if late and alerts else matched.reason
    return Decision(reason, tuple(alerts), tuple(moved))
