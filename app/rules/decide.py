"""Decides which alerts a change leads to, and moves the incident.

It needs the entity's state, so it runs inside the store's transaction; it is pure.
"""

from collections.abc import Iterable, Iterator
from dataclasses import field, replace
from datetime import datetime, timedelta
from typing import Any

from app.model.change import UPDATE, CatalogChange
from app.model.delivery import Alert
from app.model.immutable import Immutable, immutable
from app.model.incident import RANKS, Incident, Route, Step, advance, counted, places_of
from app.rules.kin.quiet import UNTIL_TOLD, Causes, tied, waits, why_moved, why_not_late, why_quiet
from app.rules.last_known import LastKnown, after_change, after_reconciling, was_alerted
from app.rules.match import Hit, Match, make_alerts
from app.rules.rule import Rule
from app.rules.values import MAX_WINDOW

REOPENS_WITHIN = timedelta(hours=1)
"""Trouble that comes back sooner is the same incident, opened again: one story, one message in Slack."""
MEMORY = MAX_WINDOW
"""How long the store keeps an incident that has ended."""
MAX_OPENINGS = 99  # in a day: more is too often, whatever the number


@immutable(frozen=True, slots=True)
class EntityState:
    """The state of an entity when a decision is taken.

    Attributes:
        last_at: When the newest change of the entity that was seen so far happened; None if none was.
        incidents: Its open incidents, and those that ended within `MEMORY` before the change.
        known: Its last known state, where that is kept.
        causes: What is open of other entities that may explain its incidents.
        step: By how much the clock was set since the change arrived.
    """

    last_at: datetime | None = None
    incidents: tuple[Incident, ...] = ()
    known: LastKnown | None = None
    causes: Causes = field(default_factory=dict)
    step: timedelta = timedelta(0)


@immutable(frozen=True)
class Decision(Immutable):
    """What a change leads to.

    Attributes:
        reason: Why, also if there is no alert.
        alerts: The alerts to send, now or later.
        incidents: The incidents that it opened or moved, as they are now.
        cancel: The incidents whose later alerts are not to be sent any more.
        known: The entity's last known state from now on; None: as before.
        already_alerted: Reconciling has alerted of the change before it came.
        overtaken: It is not to be stored: another change moved the state that it rests on.
    """

    reason: str
    alerts: tuple[Alert, ...] = ()
    incidents: tuple[Incident, ...] = ()
    cancel: tuple[str, ...] = ()
    known: LastKnown | None = None
    already_alerted: bool = False
    overtaken: bool = False


OVERTAKEN = Decision("overtaken", overtaken=True)


def decide(matched: Match, state: EntityState, now: datetime, *, reconciled: bool = False) -> Decision:
    """Decide on a matched change, given the entity's state.

    A change that is older than the newest one seen still alerts, marked as late, but moves no incident. One
    that is `reconciled` was not sent by Port: it is a difference that reconciling found, and so the newest
    that there is, whatever its time.
    """
    change = matched.change
    # By the event's own time: webhooks overtake one another, and a queue in front of us may hold one back.
    late = not reconciled and state.last_at is not None and change.at < state.last_at
    hits, alerted = matched.hits, tuple[str, ...]()
    if state.known and state.known.alerted:
        alerted = tuple(
            hit.rule.name for hit in hits if was_alerted(state.known, hit.rule, change, reconciled=reconciled)
        )
        hits = tuple(hit for hit in hits if hit.rule.name not in alerted)
    if state.incidents and not late:
        hits += tuple(_well_again(matched, state, reconciled))
    parts = [_decide_hit(hit, matched, state, late, now) for hit in hits]
    reasons = [matched.reason, *(f"rule {name!r}: alerted by reconciling already" for name in alerted)]
    alerts, incidents, cancel = tuple[Alert, ...](), tuple[Incident, ...](), tuple[str, ...]()
    for part in parts:
        alerts += part.alerts
        incidents += part.incidents
        cancel += part.cancel
        if part.reason:
            reasons.append(part.reason)
    if late and alerts:
        reasons.append("late: a newer change was seen")
    # Only rules that had something to decide: for the others a late webhook may still be news.
    pairs = zip(hits, parts, strict=True)
    deciding = (hit.rule for hit, part in pairs if part.alerts or part.incidents or part.reason)
    known = _last_known(matched, state, now, deciding, reconciled=reconciled)
    return Decision("; ".join(reasons), alerts, incidents, cancel, known, already_alerted=bool(alerted))


def _well_again(matched: Match, state: EntityState, reconciled: bool) -> Iterator[Hit]:
    """Yield the rules whose open incidents a change ends though none of their values changed with it.

    The change that made the entity well may be lost, or come late. Only what is open is looked at.
    """
    change, rules = matched.change, matched.rules
    if change.action != UPDATE or change.after is None or not change.after.properties:
        return  # a body that says nothing of the values shows nothing
    hits = {hit.rule.name for hit in matched.hits}
    for incident in state.incidents:
        rule = rules.by_name.get(incident.rule) if rules else None
        if incident.resolved_at or rules is None or rule is None or rule.name in hits:
            continue
        if rule.reads_scorecards and reconciled:
            continue
        lapses = rule.wait is not None and rule.lapses(change)
        resolves = rule.resolves(change, matched.results)
        if (resolves or lapses) and rule in rules.about(change.blueprint, change.resource):
            kin = matched.kins.get(rule.name)
            yield Hit(rule, False, resolves, (), lapses, rule.state(change, matched.results), kin=kin)


def _last_known(
    matched: Match, state: EntityState, now: datetime, rules: Iterable[Rule], *, reconciled: bool
) -> LastKnown | None:
    """Move the last known state; None: it stays as it is, or none is kept."""
    if matched.watched is None:
        return None
    if not reconciled:
        return after_change(state.known, matched.change, matched.changes, matched.watched, now)
    return after_reconciling(state.known, matched.change, matched.changes, matched.watched, rules, now)


def _decide_hit(hit: Hit, matched: Match, state: EntityState, late: bool, now: datetime) -> Decision:
    hit = hit.to(places_of((), hit.routes))
    rule, change = hit.rule, matched.change
    mine = [incident for incident in state.incidents if incident.rule == rule.name]
    incident = next((incident for incident in mine if incident.resolved_at is None), None)
    # A late change may alert, but it says nothing of the present: it must neither open nor end an incident.
    if not rule.has_incident or late:
        if why := why_not_late(hit, change, state, mine) if late and hit.matches else "":
            return Decision(f"rule {rule.name!r}: {why}")
        return Decision("", make_alerts(hit, matched, Step.NOTICED, None, late=late) if hit.matches else ())
    # While nobody was alerted, the end of `when` is enough; afterwards `resolve` decides, if there is one.
    resolves = hit.resolves or (hit.lapses and waits(incident, now))
    if not hit.matches and (incident is None or not resolves):
        same = incident and tied(incident, incident, hit.kin, state.causes, state.known, now)
        return _retied(hit, incident, same, state, "")
    step, after = advance(incident, candidate=_candidate(hit, change, mine, now), resolves=resolves)
    if after is None:
        if rule.wait:  # it ends as it begins: there is nothing that could last
            return Decision(f"rule {rule.name!r}: it did not last")
        return Decision("", make_alerts(hit, matched, step, None))
    after = tied(after, incident, hit.kin, state.causes, state.known, now)
    still = incident is not None and (incident.state, incident.due_at) == (after.state, after.due_at)
    if incident is not None and step is Step.CHANGED and still:
        done = "waits to alert" if waits(incident, now) else "has alerted"
        return _retied(hit, incident, after, state, f"rule {rule.name!r} {done} of {after.state!r} already")
    # Getting worse mentions people again; getting better does not.
    rise = RANKS[after.severity] - RANKS[incident.severity] if incident is not None else 0
    if step is Step.CHANGED and waits(incident, now) and not waits(after, now):
        step, rise = Step.OPENED, 0  # it is too bad to be quiet any longer, and news to everybody
    # What still waits has alerted nobody.
    told = after.told_so_far if after.flapping or not (waits(after, now) or waits(incident, now)) else ()
    hit = hit.to(places_of(told, hit.routes))
    facts: dict[str, Any] = {"worse": rise > 0, "better": rise < 0}
    if rise > 0 and after.acknowledged:  # somebody looks after what is less bad than this
        facts["unacknowledged"] = after.acknowledged.by.name
        after = after.but(acknowledged=None, escalates_from=None)
    decision = _moved(hit, matched, step, after, now, **facts)
    queues = {alert.queue for alert in decision.alerts}
    places = tuple(place for place in hit.routes if place in told or place.queue in queues)
    alerts, (moved,) = decision.alerts, decision.incidents
    moved = moved.but(told=places)
    if moved.resolved_at is None and (rule.escalate or moved.acknowledged):
        later = tuple(place for place in after.told if place.later)
        moved, escalations = _escalates(hit, matched, moved, later, now)
        alerts += escalations
    reason = decision.reason or why_quiet(rule, after, state.causes)
    return Decision(reason, alerts, (moved,), decision.cancel)


def _candidate(hit: Hit, change: CatalogChange, incidents: list[Incident], now: datetime) -> Incident:
    """Make the incident that a change would open: a new one, or one that ended lately, again."""
    rule = hit.rule
    again, openings = _lately(rule, change.at, incidents) if incidents else (None, [])
    return Incident(
        id=again.id if again else f"{rule.name}-{change.key[:24]}",
        version=again.version + 1 if again else 1,
        rule=rule.name,
        blueprint=change.blueprint,
        entity=change.entity,
        state=hit.state,
        opened_at=change.at,
        changed_at=change.at,
        due_at=min(change.at, now) + rule.wait if rule.wait else None,  # our clock may be hours behind Port's
        severity=rule.severity_of(change, hit.state),
        moves=again.moves if again else (),
        flapping=again is not None and again.flapping,
        # Of one that flaps the end was perhaps not told yet.
        told=again.told if again and again.flapping else (),
        openings=(*openings[-MAX_OPENINGS:], change.at),
    )


def _lately(rule: Rule, at: datetime, incidents: list[Incident]) -> tuple[Incident | None, list[datetime]]:
    """Find the one of an entity's incidents that a time would open again, and when they opened before."""
    # At least as long as the flap window: flapping is counted within one incident.
    window = max(REOPENS_WITHIN, rule.flap.within if rule.flap else timedelta(0))
    ended = [past for past in incidents if past.resolved_at and at - past.resolved_at <= window]
    earlier = {opening for past in incidents for opening in past.openings}
    openings = sorted([opening for opening in earlier if timedelta(0) < at - opening <= MEMORY])
    return max(ended, key=lambda past: past.changed_at, default=None), openings


def _retied(
    hit: Hit, before: Incident | None, after: Incident | None, state: EntityState, why: str
) -> Decision:
    """Decide on an incident of which at most what may explain it moved; if not even that did, say why."""
    if before is None or after is None or (after.quiet, after.ties) == (before.quiet, before.ties):
        return Decision(why)
    return Decision(why_moved(hit.rule, before, after, state.causes), incidents=(after,))


def _moved(hit: Hit, matched: Match, step: Step, after: Incident, now: datetime, **facts: Any) -> Decision:
    """Decide on the alerts of an incident that moved, and cancel those that were to come later."""
    rule, untold = hit.rule, waits(after, now)
    if rule.flap and (after.flapping or not untold):
        began = after.flapping
        after = counted(after, matched.change.at, rule.flap.changes, rule.flap.within)
        if after.flapping:
            return _flaps(hit, matched, after, now, began=began, **facts)
    cancel = (after.id,)  # also when it opens: one that ended may still have an alert to come
    if step is Step.RESOLVED:
        if after.quiet:
            return Decision(f"rule {rule.name!r}: it was quiet, and ends so", (), (after,), cancel)
        if untold:
            unheard = after.but(openings=after.openings[:-1])
            return Decision(f"rule {rule.name!r}: it did not last", (), (unheard,), cancel)
        return Decision(
            f"rule {rule.name!r}: its incident ends", make_alerts(hit, matched, step, after), (after,), cancel
        )
    first_at = UNTIL_TOLD if after.quiet else after.due_at
    if untold:
        alerts = make_alerts(hit, matched, Step.OPENED, after, due_at=first_at)
    else:
        alerts = make_alerts(hit, matched, step, after, **facts)
    # Reminders count from the first alert, which may be yet to come.
    if rule.again_after and after.acknowledged is None:
        due_at = (first_at if untold and first_at else now) + rule.again_after
        alerts += make_alerts(hit, matched, Step.REMINDED, after, due_at=due_at, repeat=rule.again_after)
    return Decision("", alerts, (after,), cancel)


def _escalates(
    hit: Hit, matched: Match, incident: Incident, later: Iterable[Route], now: datetime
) -> tuple[Incident, tuple[Alert, ...]]:
    """Decide where an incident goes that nobody acknowledges; what was to come before was cancelled."""
    first_at = UNTIL_TOLD if incident.quiet else incident.due_at if waits(incident, now) else None
    since = (None if first_at else incident.escalates_from) or first_at or now
    reached = {place.queue for place in incident.told}
    alerts, places = tuple[Alert, ...](), {place.queue: place for place in later}
    if incident.acknowledged:  # the places stay, for the time when that is taken back
        more = tuple(place for queue, place in places.items() if queue not in reached)
        return incident.but(told=(*incident.told, *more)), ()
    for span, routes in hit.escalations:
        # One whose time has come is lost only if it has not been sent.
        wanted = tuple(route for route in routes if since + span > now or route.queue not in reached)
        facts: dict[str, Any] = {"due_at": since + span, "repeat": span, "window": span}
        alerts += make_alerts(hit.to(wanted), matched, Step.ESCALATED, incident, **facts)
        places |= {route.queue: replace(route, later=True) for route in wanted}
    more = tuple(place for queue, place in places.items() if queue not in reached)
    return incident.but(told=(*incident.told, *more), escalates_from=since), alerts


def _flaps(
    hit: Hit, matched: Match, after: Incident, now: datetime, *, began: bool, **moved: Any
) -> Decision:
    """Decide on an incident that moves too often: one alert that it flaps, and one of what it settles on."""
    rule = hit.rule
    assert rule.flap is not None  # noqa: S101 - tells mypy what the caller has seen
    facts: dict[str, Any] = {"moves": len(after.moves), "window": rule.flap.within}
    facts["unacknowledged"] = moved.get("unacknowledged", "")
    # From now, not from the change: more changes that were delayed like it may follow at any moment.
    settled_at = now + rule.flap.within
    alerts = () if began else make_alerts(hit, matched, Step.FLAPPING, after, **facts)
    alerts += make_alerts(hit, matched, Step.SETTLED, after, due_at=settled_at, **facts)
    if rule.again_after and after.resolved_at is None and after.acknowledged is None:
        due_at = settled_at + rule.again_after
        alerts += make_alerts(hit, matched, Step.REMINDED, after, due_at=due_at, repeat=rule.again_after)
    reason = f"rule {rule.name!r}: it flaps, which {'was alerted' if began else 'is alerted once'}"
    return Decision(reason, alerts, (after,), (after.id,))
