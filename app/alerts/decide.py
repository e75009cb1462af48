"""Does a change matter, who hears of it, and where does it stand with the incident?

Matching needs only the change, so it runs in the request; deciding needs the entity's state, so it runs
inside the store's transaction. Both are pure.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from app.alerts.change import ENTITY, CatalogChange
from app.alerts.condition import Results
from app.alerts.diff import PropertyChange, diff, same
from app.alerts.incident import Incident, Step, advance
from app.alerts.notification import Notification, text_of
from app.alerts.rules import Rule, RuleSet

REASONS = 5  # more of them nobody reads


@dataclass(frozen=True, slots=True)
class Route:
    """A way to a destination.

    Attributes:
        destination: The destination's name.
        lane: The lane there: the unit of order and of rate.
        steps: What of an incident it hears of.
    """

    destination: str
    lane: str
    steps: frozenset[Step] = frozenset(Step)


@dataclass(frozen=True, slots=True)
class Hit:
    """A rule that a change has something to say to.

    Attributes:
        rule: The rule.
        matches: The change is one that the rule is about.
        resolves: The change ends the incident that the rule may have open.
        routes: Who would hear of it.
        lapses: The change ends that incident if nobody has heard of it yet: what must last did not.
        state: The state that it leaves the entity in.
    """

    rule: Rule
    matches: bool
    resolves: bool
    routes: tuple[Route, ...] = ()
    lapses: bool = False
    state: str = ""


@dataclass(frozen=True, slots=True)
class Match:
    """What can be said of a change without knowing any state.

    Attributes:
        change: The change.
        changes: What changed in it.
        hits: The rules that match, or would resolve.
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
        lane: The lane it waits in.
        notification: What to say.
        incident_id: The incident it belongs to, if any.
        due_at: Not before this time; None: now.
        repeat: How long after it to say it again, as long as the incident is open.
    """

    destination: str
    lane: str
    notification: Notification
    incident_id: str | None = None
    due_at: datetime | None = None
    repeat: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What a change leads to.

    Attributes:
        reason: Why, also if there is no alert.
        alerts: What to tell whom.
        incidents: The incidents that it opened or moved, as they are now.
        cancel: The incidents of which what was to be told later is not to be told any more.
    """

    reason: str
    alerts: tuple[Alert, ...] = ()
    incidents: tuple[Incident, ...] = field(default=())
    cancel: tuple[str, ...] = ()


def match(rules: RuleSet, change: CatalogChange, results: Results) -> Match:
    """Return which rules a change matches or would resolve, and why.

    Args:
        rules: The rules.
        change: The change.
        results: What `rules.programs` came to.
    """
    if change.resource != ENTITY:
        return Match(change, (), (), f"a change of resource type {change.resource!r}, not of an entity")
    changes = diff(change.before, change.after)
    hits = []
    for rule in rules.candidates(change, changes):
        hit = Hit(
            rule,
            matches=rule.matches(change, results),
            resolves=rule.resolves(change, results),
            lapses=rule.wait is not None and rule.lapses(change),
            state=rule.state(change, results),
        )
        if hit.matches or hit.resolves or hit.lapses:
            hits.append(hit)
    matching = [f"rule {hit.rule.name!r} matches" for hit in hits if hit.matches]
    return Match(change, changes, tuple(hits), "; ".join(matching) or _misses(rules, change))


def _misses(rules: RuleSet, change: CatalogChange) -> str:
    about = rules.about(change.blueprint)
    if not about:
        return f"no rule is about blueprint {change.blueprint!r}"
    reasons = [f"rule {rule.name!r}: {why_not(rule, change)}" for rule in about[:REASONS]]
    if len(about) > REASONS:
        reasons.append(f"and {len(about) - REASONS} more do not match")
    return "; ".join(reasons)


def why_not(rule: Rule, change: CatalogChange) -> str:
    """Return in a few words why a rule does not match a change that it does not match."""
    if change.action not in rule.on:
        return f"watches {', '.join(rule.on)}, this is {change.action!r}"
    main = rule.when.main(change) if rule.when else None
    if main is None:
        return "its condition does not hold"
    if same(main.before, main.after):
        return f"{main.name} did not change"
    return f"{main.name} went from {text_of(main.before)[:50]} to {text_of(main.after)[:50]}"


def decide(matched: Match, state: EntityState, now: datetime) -> Decision:
    """Return what a matched change leads to, given the entity's state.

    A change that is older than the newest one seen still alerts, marked as late, but moves no incident.

    Args:
        matched: What `match` said, with the hits' routes.
        state: What the store knows of the entity.
        now: The time, UTC.
    """
    change = matched.change
    late = state.last_at is not None and change.at < state.last_at
    parts = [_decide_hit(hit, matched, state, late, now) for hit in matched.hits]
    reason = "; ".join([matched.reason, *(part.reason for part in parts if part.reason)])
    if late and any(part.alerts for part in parts):
        reason += "; late: a newer change was seen"
    return Decision(
        reason,
        tuple(alert for part in parts for alert in part.alerts),
        tuple(incident for part in parts for incident in part.incidents),
        tuple(incident for part in parts for incident in part.cancel),
    )


def _decide_hit(hit: Hit, matched: Match, state: EntityState, late: bool, now: datetime) -> Decision:
    rule, change = hit.rule, matched.change
    incident = next((one for one in state.incidents if one.rule == rule.name), None)
    if not rule.has_incident or late:
        if late and rule.wait and hit.matches:  # a newer change has the answer to whether it lasts
            return Decision(f"rule {rule.name!r}: too late to see whether it lasts")
        return Decision("", _alerts(hit, matched, Step.NOTICED, None, late=late) if hit.matches else ())
    resolves = hit.resolves or (hit.lapses and _waits(incident, now))
    if not hit.matches and (incident is None or not resolves):
        return Decision("")
    candidate = Incident(
        id=f"{rule.name}-{change.key[:16]}",
        rule=rule.name,
        blueprint=change.blueprint,
        entity=change.entity,
        state=hit.state,
        opened_at=change.at,
        changed_at=change.at,
        due_at=change.at + rule.wait if rule.wait else None,
    )
    step, after = advance(incident, candidate=candidate, resolves=resolves)
    if after is None:
        if rule.wait:  # it ends as it begins: there is nothing that could last
            return Decision(f"rule {rule.name!r}: it did not last")
        return Decision("", _alerts(hit, matched, step, None))
    if incident is not None and step is Step.CHANGED and incident.state == after.state:
        done = "waits to tell" if _waits(incident, now) else "has told"
        return Decision(f"rule {rule.name!r} {done} of {after.state!r} already")
    return _told(hit, matched, step, after, now)


def _waits(incident: Incident | None, now: datetime) -> bool:
    """Tell whether nobody has heard of an incident yet."""
    return incident is not None and incident.due_at is not None and now < incident.due_at


def _told(hit: Hit, matched: Match, step: Step, after: Incident, now: datetime) -> Decision:
    """Return what is told of an incident that moved, and what is not to be told any more."""
    rule, waits = hit.rule, _waits(after, now)
    cancel = () if step is Step.OPENED else (after.id,)
    if step is Step.RESOLVED:
        if waits:
            return Decision(f"rule {rule.name!r}: it did not last", (), (after,), cancel)
        return Decision(
            f"rule {rule.name!r}: its incident ends", _alerts(hit, matched, step, after), (after,), cancel
        )
    if waits:
        alerts = _alerts(hit, matched, Step.OPENED, after, due_at=after.due_at)
    else:
        alerts = _alerts(hit, matched, step, after)
    if rule.again_after:
        due_at = (after.due_at if waits and after.due_at else now) + rule.again_after
        alerts += _alerts(hit, matched, Step.REMINDED, after, due_at=due_at, repeat=rule.again_after)
    return Decision("", alerts, (after,), cancel)


def _alerts(
    hit: Hit,
    matched: Match,
    step: Step,
    incident: Incident | None,
    *,
    late: bool = False,
    due_at: datetime | None = None,
    repeat: timedelta | None = None,
) -> tuple[Alert, ...]:
    change, rule = matched.change, hit.rule
    notification = Notification.about(
        change,
        rule.main(change),
        matched.changes,
        rule=rule.name,
        severity=rule.severity,
        step=step,
        opened_at=incident.opened_at if incident else None,
        late=late,
    )
    if due_at is not None and step is Step.REMINDED:
        notification = notification.model_copy(update={"at": due_at})
    incident_id = incident.id if incident else None
    heard = Step.RESOLVED if step is Step.NOTICED and hit.resolves else step
    channels: dict[str, Route] = {}
    for route in hit.routes:
        channels.setdefault(route.lane, route)  # two names of one channel are one channel
    return tuple(
        Alert(route.destination, route.lane, notification, incident_id, due_at, repeat)
        for route in channels.values()
        if heard in route.steps
    )
