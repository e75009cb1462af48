"""Who hears of a change, and where does it stand with the incident?

It needs the entity's state, so it runs inside the store's transaction, and is pure.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from app.model.change import CatalogChange
from app.model.delivery import Alert
from app.model.incident import RANKS, Incident, Step, advance
from app.model.notification import Notification
from app.rules.flap import LONGEST_WINDOW, moved
from app.rules.last_known import Known, covered, follow, notice
from app.rules.match import Hit, Match, Route

REOPENS_WITHIN = timedelta(hours=1)
"""Trouble that comes back sooner is the same incident, opened again: one story, one message in Slack."""
MEMORY = LONGEST_WINDOW
"""How long the store remembers an incident that has ended."""


@dataclass(frozen=True, slots=True)
class EntityState:
    """What the store knows of an entity when a decision is taken.

    Attributes:
        last_at: When the newest change of the entity that was seen so far happened; None if none was.
        incidents: Its open incidents, and those that ended within `MEMORY` before the change.
        known: Its last known state, where that is kept.
    """

    last_at: datetime | None = None
    incidents: tuple[Incident, ...] = ()
    known: Known | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What a change leads to.

    Attributes:
        reason: Why, also if there is no alert.
        alerts: What to tell whom.
        incidents: The incidents that it opened or moved, as they are now.
        cancel: The incidents of which what was to be told later is not to be told any more.
        known: What is known of the entity from now on; None: as before.
        noticed: A comparison with Port has told of the change before it came.
        overtaken: It is not to be stored, because what it rests on is no longer so.
    """

    reason: str
    alerts: tuple[Alert, ...] = ()
    incidents: tuple[Incident, ...] = field(default=())
    cancel: tuple[str, ...] = ()
    known: Known | None = None
    noticed: bool = False
    overtaken: bool = False


OVERTAKEN = Decision("overtaken", overtaken=True)


def decide(matched: Match, state: EntityState, now: datetime, *, noticed: bool = False) -> Decision:
    """Return what a matched change leads to, given the entity's state.

    A change that is older than the newest one seen still alerts, marked as late, but moves no incident.

    Args:
        matched: What `match` said, with the hits' routes.
        state: What the store knows of the entity.
        now: The time, UTC.
        noticed: It is no change that Port told us of, but a difference from what is known, and so the newest
            that there is, whatever its time.
    """
    change = matched.change
    late = not noticed and state.last_at is not None and change.at < state.last_at
    hits, told = matched.hits, tuple[str, ...]()
    if not noticed and state.known and state.known.told:
        told = tuple(hit.rule.name for hit in hits if covered(state.known, hit.rule, change))
        hits = tuple(hit for hit in hits if hit.rule.name not in told)
    parts = [_decide_hit(hit, matched, state, late, now) for hit in hits]
    before = (f"rule {name!r}: noticed by comparison already" for name in told)
    reason = "; ".join([matched.reason, *before, *(part.reason for part in parts if part.reason)])
    if late and any(part.alerts for part in parts):
        reason += "; late: a newer change was seen"
    return Decision(
        reason,
        tuple(alert for part in parts for alert in part.alerts),
        tuple(incident for part in parts for incident in part.incidents),
        tuple(incident for part in parts for incident in part.cancel),
        _known(matched, state, now, hits, parts, noticed=noticed),
        noticed=bool(told),
    )


def _known(
    matched: Match,
    state: EntityState,
    now: datetime,
    hits: tuple[Hit, ...],
    parts: list[Decision],
    *,
    noticed: bool,
) -> Known | None:
    """Return what is known of the entity from now on; None: as before."""
    if matched.watched is None:
        return None
    if not noticed:
        return follow(state.known, matched.change, matched.changes, matched.watched, now)
    pairs = zip(hits, parts, strict=True)
    rules = [hit.rule for hit, part in pairs if part.alerts or part.incidents or part.reason]
    return notice(state.known, matched.change, matched.changes, matched.watched, rules, now)


def _decide_hit(hit: Hit, matched: Match, state: EntityState, late: bool, now: datetime) -> Decision:
    rule, change = hit.rule, matched.change
    mine = [one for one in state.incidents if one.rule == rule.name]
    incident = next((one for one in mine if one.resolved_at is None), None)
    if not rule.has_incident or late:
        if late and rule.wait and hit.matches:  # a newer change has the answer to whether it lasts
            return Decision(f"rule {rule.name!r}: too late to see whether it lasts")
        if late and hit.matches and any(one.flapping for one in mine):
            return Decision(f"rule {rule.name!r}: it flaps, which was told")
        return Decision("", _alerts(hit, matched, Step.NOTICED, None, late=late) if hit.matches else ())
    resolves = hit.resolves or (hit.lapses and _waits(incident, now))
    if not hit.matches and (incident is None or not resolves):
        return Decision("")
    step, after = advance(incident, candidate=_candidate(hit, change, mine), resolves=resolves)
    if after is None:
        if rule.wait:  # it ends as it begins: there is nothing that could last
            return Decision(f"rule {rule.name!r}: it did not last")
        return Decision("", _alerts(hit, matched, step, None))
    if incident is not None and step is Step.CHANGED and incident.state == after.state:
        done = "waits to tell" if _waits(incident, now) else "has told"
        return Decision(f"rule {rule.name!r} {done} of {after.state!r} already")
    worse = incident is not None and RANKS[after.severity] > RANKS[incident.severity]
    return _told(hit, matched, step, after, now, worse=worse)


def _candidate(hit: Hit, change: CatalogChange, incidents: list[Incident]) -> Incident:
    """Return the incident that a change would open: a new one, or one that ended lately, again."""
    rule = hit.rule
    window = max(REOPENS_WITHIN, rule.flap.within if rule.flap else timedelta(0))
    ended = [one for one in incidents if one.resolved_at and change.at - one.resolved_at <= window]
    again = max(ended, key=lambda one: one.changed_at, default=None)
    return Incident(
        id=again.id if again else f"{rule.name}-{change.key[:16]}",
        rule=rule.name,
        blueprint=change.blueprint,
        entity=change.entity,
        state=hit.state,
        opened_at=change.at,
        changed_at=change.at,
        due_at=change.at + rule.wait if rule.wait else None,
        severity=rule.severity_of(change, hit.state),
        moves=again.moves if again else (),
        flapping=again is not None and again.flapping,
    )


def _waits(incident: Incident | None, now: datetime) -> bool:
    """Tell whether nobody has heard of an incident yet."""
    return incident is not None and incident.due_at is not None and now < incident.due_at


def _told(hit: Hit, matched: Match, step: Step, after: Incident, now: datetime, *, worse: bool) -> Decision:
    """Return what is told of an incident that moved, and what is not to be told any more."""
    rule, waits = hit.rule, _waits(after, now)
    if rule.flap and (after.flapping or not waits):
        began = after.flapping
        after = moved(after, rule.flap, matched.change.at)
        if after.flapping:
            return _flaps(hit, matched, after, now, began=began)
    cancel = (after.id,)  # also when it opens: it may be one that ended, and of which a word is still to come
    if step is Step.RESOLVED:
        if waits:
            return Decision(f"rule {rule.name!r}: it did not last", (), (after,), cancel)
        return Decision(
            f"rule {rule.name!r}: its incident ends", _alerts(hit, matched, step, after), (after,), cancel
        )
    if waits:
        alerts = _alerts(hit, matched, Step.OPENED, after, due_at=after.due_at)
    else:
        alerts = _alerts(hit, matched, step, after, worse=worse)
    if rule.again_after:
        due_at = (after.due_at if waits and after.due_at else now) + rule.again_after
        alerts += _alerts(hit, matched, Step.REMINDED, after, due_at=due_at, repeat=rule.again_after)
    return Decision("", alerts, (after,), cancel)


def _flaps(hit: Hit, matched: Match, after: Incident, now: datetime, *, began: bool) -> Decision:
    """Return what is told of an incident that moves too often: once that it does, and what it settles on."""
    rule = hit.rule
    assert rule.flap is not None  # noqa: S101 - tells mypy what the caller has seen
    facts: dict[str, Any] = {"moves": len(after.moves), "window": rule.flap.within}
    # From now: of changes that were kept up on their way, more may follow at any moment.
    settled_at = max(matched.change.at, now) + rule.flap.within
    alerts = () if began else _alerts(hit, matched, Step.FLAPPING, after, **facts)
    alerts += _alerts(hit, matched, Step.SETTLED, after, due_at=settled_at, **facts)
    if rule.again_after and after.resolved_at is None:
        due_at = settled_at + rule.again_after
        alerts += _alerts(hit, matched, Step.REMINDED, after, due_at=due_at, repeat=rule.again_after)
    reason = f"rule {rule.name!r}: it flaps, which {'was told' if began else 'is told once'}"
    return Decision(reason, alerts, (after,), (after.id,))


def _alerts(
    hit: Hit,
    matched: Match,
    step: Step,
    incident: Incident | None,
    *,
    due_at: datetime | None = None,
    repeat: timedelta | None = None,
    **facts: Any,
) -> tuple[Alert, ...]:
    change, rule = matched.change, hit.rule
    notification = Notification.about(
        change,
        rule.main(change),
        matched.changes,
        rule=rule.name,
        severity=incident.severity if incident else rule.severity_of(change, hit.state),
        step=step,
        opened_at=incident.opened_at if incident else None,
        ended=incident.resolved_at is not None if incident else hit.resolves,
        **facts,
    )
    if due_at is not None and step is Step.REMINDED:
        notification = notification.model_copy(update={"at": due_at})
    incident_id = incident.id if incident else None
    heard = _heard(hit, step, incident)
    channels: dict[str, Route] = {}
    for route in hit.routes:
        channels.setdefault(route.queue, route)  # two names of one channel are one channel
    return tuple(
        Alert(route.destination, route.queue, notification, incident_id, due_at, repeat)
        for route in channels.values()
        if heard in route.steps
    )


def _heard(hit: Hit, step: Step, incident: Incident | None) -> Step:
    """Return which step of an incident a job takes it for."""
    if step is Step.NOTICED and hit.resolves:
        return Step.RESOLVED
    if step is Step.SETTLED:
        return Step.RESOLVED if incident and incident.resolved_at else Step.CHANGED
    return step
