"""What is open follows the rules in force, whenever these are read, and whom it escalates to."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from app.model.incident import ALL_STEPS, Incident, Route, Step
from app.model.times import MICRO, micros_or_none, to_micros
from app.rules.kin.quiet import hold, may_be_quiet
from app.rules.rule import RuleSet
from app.rules.rulebook import Rulebook
from app.store.columns import told_json
from app.store.kin import causes, members
from app.store.queries import audit
from app.store.queries.accept import INCIDENT, incident_of
from app.store.queries.incidents import LAST_NOTIFICATION, Later, close, locked, put_later, put_told
from app.store.rows import notification_of
from app.store.transaction import Transaction
from app.store.views import AuditEntry

RULES_FILE = "rules file"
"""Who closes the incidents of a rule that is gone, in the audit trail."""


async def follow(tx: Transaction, rules: RuleSet, now: datetime, *, limit: int) -> list[Incident]:
    """Let open incidents follow the rules in force.

    Those whose rule can never end them are closed, with an entry in the audit trail, and so are those of
    groups that have few enough members by now. Those that still wait for their first alert wait as long as
    their rule says now.

    Args:
        tx: The transaction.
        rules: The rules in force.
        now: The time, UTC.
        limit: How many are closed at most, so that no transaction is long.

    Returns:
        Those that were closed.
    """
    rows = await tx.fetch(f"SELECT {INCIDENT} FROM incidents WHERE resolved_at IS NULL ORDER BY id")
    incidents = [incident_of(row) for row in rows]
    pairs = {(incident.rule, incident.blueprint) for incident in incidents}
    gone = {pair: why for pair in sorted(pairs) if (why := rules.why_gone(*pair))}
    over = [incident for incident in incidents if (incident.rule, incident.blueprint) in gone][:limit]
    kept = [incident for incident in incidents if (incident.rule, incident.blueprint) not in gone]
    moved = {incident.id for incident in kept if _due_anew(incident, rules, now) != incident.due_at}
    loose, astray = _loosened(incidents, rules), await members.astray(tx, kept, rules, now)
    groups = [incident.id for incident in incidents if (rule := rules.by_name.get(incident.rule)) and rule.of]
    names = [*moved, *loose, *astray.ties, *groups, *(incident.id for incident in over)]
    # All in one go: two processes that read the rules again must not wait for each other in a circle.
    still = await locked(tx, names, {key[1:] for key in astray.keys})
    for incident in still:
        if incident.id in moved and (due_at := _due_anew(incident, rules, now)):
            await members.wait_until(tx, incident.id, to_micros(incident.due_at or due_at), to_micros(due_at))
    # As they are now that they are locked; what another process moved meanwhile follows its rules.
    if astray.ties:
        again = await members.astray(tx, [each for each in still if each.id in astray.ties], rules, now)
        astray = again.only(astray.keys)
    reasons = await _follow_ties(tx, rules, astray, groups, now)
    await causes.let_go(tx, astray.loose | loose, to_micros(now))
    reasons |= {incident.id: gone[incident.rule, incident.blueprint] for incident in over}
    closed: list[Incident] = []
    for reason in dict.fromkeys(reasons.values()):
        names = [incident_id for incident_id, text in reasons.items() if text == reason]
        closed += await close(tx, names, reason, now)
    for incident in closed:
        why = reasons.get(incident.id, "too few of what it counts are open")
        about = f"{incident.blueprint} {incident.entity}: {why}"
        await audit.write(tx, AuditEntry(now, RULES_FILE, "close incident", f"Incident of {about}."))
    return closed


async def _follow_ties(
    tx: Transaction, rules: RuleSet, astray: members.Astray, groups: Sequence[str], now: datetime
) -> dict[str, str]:
    """Let ties follow the rules in force, and give those of some groups that end by it, with the reason.

    What the rules tie no more would count although it has ended. Groups that another process has opened
    meanwhile are not locked here, and are left to it.
    """
    await causes.put_ties(tx, astray.ties, astray.before)
    rows = await tx.fetch(
        "SELECT DISTINCT incidents.rule, ties.rule FROM incident_ties AS ties"
        " JOIN incidents ON incidents.id = ties.incident_id"
    )
    loose = sorted((rule, other) for rule, other in rows if not rules.family.ties(rule, other))
    await tx.execute_many(
        "DELETE FROM incident_ties WHERE rule = $2"
        " AND incident_id IN (SELECT id FROM incidents WHERE rule = $1)",
        loose,
    )
    rows = await tx.fetch(
        "SELECT id, rule, blueprint, entity, at_least FROM incidents"
        " WHERE id = ANY($1) AND resolved_at IS NULL AND at_least IS NOT NULL ORDER BY id",
        [*groups],
    )
    pairs = [(row, rule) for row in rows if (rule := rules.by_name.get(row[1])) and rule.of]
    await tx.execute_many(
        "UPDATE incidents SET at_least = $2, until = $3 WHERE id = $1",
        [
            (row[0], least, least - 1 if rule.until is None else rule.until)
            for row, rule in pairs
            for least in (rule.at_least or row[4],)  # what a share comes to is counted by the next change
        ],
    )
    ends = await members.counted(tx, {(row[1], row[2], row[3]) for row, _ in pairs}, to_micros(now))
    keys = astray.keys
    if other := [row[0] for row, _ in pairs if (row[1], row[2], row[3]) in keys and not ends[row[0]]]:
        await causes.refresh(tx, other, to_micros(now))
    return {name: why for name, why in ends.items() if why}


def _loosened(incidents: Sequence[Incident], rules: RuleSet) -> dict[str, str]:
    """Find the incidents, by id, that the rules in force do not let be quiet, each with the reason."""
    by_id = {incident.id: incident for incident in incidents}
    loose = {}
    for incident in incidents:
        rule, cause = rules.by_name.get(incident.rule), by_id.get(incident.quiet or "")
        if rule is None or incident.quiet is None:
            continue  # if its own rule is gone, it is closed
        if cause is None:
            loose[incident.id] = "what explained it is over"
            continue
        while_, group = rule.quiet_while, rules.by_name.get(cause.rule)
        explains = while_ is not None and while_.rule == cause.rule and may_be_quiet(rule, incident.severity)
        counts = group is not None and group.of == rule.name and group.members == "quiet"
        if not (explains or (counts and incident.severity != "critical")):
            why = f"rule {rule.name!r} is not quiet while {cause.rule!r} has an incident any more"
            loose[incident.id] = why
    return loose


async def follow_escalations(tx: Transaction, book: Rulebook, now: datetime) -> int:
    """Let open incidents escalate as the rules in force say; give how many that changes.

    What was sent stays sent. One that did not escalate before counts from now.

    Args:
        tx: The transaction.
        book: The rules in force, with their destinations.
        now: The time, UTC.
    """
    rows = await tx.fetch(
        f"SELECT {INCIDENT}, {LAST_NOTIFICATION} FROM incidents"
        " WHERE resolved_at IS NULL AND acknowledged_at IS NULL"
        " AND (escalates_from IS NOT NULL OR rule = ANY($1)) ORDER BY id",
        [rule.name for rule in book.rules.rules if rule.escalate],
    )
    waiting: dict[str, dict[timedelta, list[Route]]] = {row[0]: {} for row in rows}
    for name, destination, queue, after in await tx.fetch(
        "SELECT incident_id, destination, queue, repeat_after FROM deliveries WHERE incident_id = ANY($1)"
        " AND state || '' = 'pending' AND step = 'escalated' AND due_at > $2 ORDER BY repeat_after, id",
        [*waiting],
        to_micros(now),
    ):
        steps = book.queues[destination].steps if destination in book.queues else ALL_STEPS
        places = waiting[name].setdefault(after * MICRO, [])
        places.append(Route(destination, queue, steps))
    wanted: dict[str, list[Later]] = {}
    for *columns, text in rows:
        incident, last = incident_of(columns), notification_of(text) if text else None
        rule = book.rules.by_name.get(incident.rule)
        if rule is not None and last is not None:
            since = incident.escalates_from or max(now, incident.due_at or now)
            spans = [entry.after for entry in rule.escalate if since + entry.after > now]
            # The first that is to come is the first still, whenever that is now.
            before = dict(zip(spans, waiting[incident.id].values(), strict=False)) | waiting[incident.id]
            wanted[incident.id] = [
                (Step.ESCALATED, route, span, since + span)
                for span, route in book.escalations(rule, last.teams, incident.entity, since, before)
                if since + span > now and Step.OPENED in route.steps
            ]
    changed = [
        name
        for name, later in wanted.items()
        if {(route.destination, span) for _, route, span, _ in later}
        != {(place.destination, span) for span, places in waiting[name].items() for place in places}
    ]
    for incident in await locked(tx, changed):
        if incident.acknowledged is None:
            await _escalate_anew(tx, incident, wanted[incident.id], now)
    return len(changed)


async def _escalate_anew(tx: Transaction, incident: Incident, later: Sequence[Later], now: datetime) -> None:
    """Replace what escalates of an incident from now on."""
    await tx.execute(
        # At no time: an acknowledgement that is taken back must not bring it back.
        "UPDATE deliveries SET state = 'cancelled', ended_at = $2, due_at = 0 WHERE incident_id = $1"
        f" AND {tx.waits} AND step = 'escalated' AND due_at > $2",
        incident.id,
        to_micros(now),
    )
    queues = {place.queue for place in incident.told_so_far}
    places = {
        route.queue: replace(route, later=True) for _, route, _, _ in later if route.queue not in queues
    }
    since = later[0][3] - later[0][2] if later else None
    await tx.execute(
        "UPDATE incidents SET told = $2, escalates_from = $3 WHERE id = $1",
        incident.id,
        told_json((*incident.told_so_far, *places.values())),
        micros_or_none(since),
    )
    await put_later(tx, incident, later, now)


async def leave(tx: Transaction, addresses: Mapping[str, str], now: datetime) -> dict[str, tuple[str, int]]:
    """Note where destinations are, and in the audit trail which open incidents those that moved leave behind.

    Args:
        tx: The transaction.
        addresses: The address of each destination by its name; see `Notifier.address`.
        now: The time, UTC.

    Returns:
        Of each that moved and leaves any behind: the address that it had before, and how many.
    """
    await tx.lock([("move destination",)])  # every replica reads the file: the first says so
    rows = await tx.fetch("SELECT destination, address FROM addresses")
    before: dict[str, str] = {name: address for name, address in rows}  # noqa: C416 - rows are no tuples
    changed = {name: address for name, address in addresses.items() if before.get(name) != address}
    gone = before.keys() - addresses.keys()
    if not changed and not gone:
        return {}
    rows = await tx.fetch(
        # Of one that waits nobody has heard.
        f"SELECT {INCIDENT} FROM incidents WHERE resolved_at IS NULL AND quiet IS NULL"
        " AND coalesce(due_at, 0) <= $1",
        to_micros(now),
    )
    told = Counter(
        name for row in rows for name in {place.destination for place in incident_of(row).told_so_far}
    )
    left = {name: (before[name], told[name]) for name in changed if name in before and told[name]}
    for name, (_, number) in left.items():
        details = f"{name} has another address: its old one is not told the end of {number} open incidents."
        await audit.write(tx, AuditEntry(now, RULES_FILE, "move destination", details))
    await tx.execute_many(
        "INSERT INTO addresses (destination, address) VALUES ($1, $2)"
        " ON CONFLICT (destination) DO UPDATE SET address = excluded.address",
        sorted(changed.items()),
    )
    # One that comes back must be where it was: what it told waits.
    over = [name for name in gone if not told[name]]
    await tx.execute("DELETE FROM addresses WHERE destination = ANY($1)", over)
    return left


def _due_anew(incident: Incident, rules: RuleSet, now: datetime) -> datetime | None:
    """Say when an incident alerts first by the rules in force, if it waits to."""
    wait = hold(rules.by_name[incident.rule], incident.severity)
    if incident.due_at is None or incident.due_at <= now or incident.quiet or rules.by_name[incident.rule].of:
        return incident.due_at  # a group's is a matter of its members
    if wait and incident.opened_at > now:  # our clock is behind Port's
        return min(incident.due_at, now + wait)
    return max(now, incident.opened_at + wait) if wait else now


async def reach(tx: Transaction, escalations: Mapping[int, str], now: datetime) -> set[int]:
    """Note that escalations are sent now: from here on their places are told of the incident to its end.

    Args:
        tx: The transaction.
        escalations: The incident of each delivery, by its number.
        now: The time, UTC.

    Returns:
        The deliveries that nobody needs any more: somebody looks after the incident, or it is over.
    """
    attended = {incident.id: incident for incident in await locked(tx, sorted({*escalations.values()}))}
    rows = await tx.fetch(
        "SELECT id, incident_id, destination, queue FROM deliveries WHERE id = ANY($1)"
        f" AND {tx.waits} ORDER BY id",
        [*escalations],
    )
    needless = set(escalations)
    for number, incident_id, destination, queue in rows:
        incident = attended.get(incident_id)
        if incident is None or incident.acknowledged:
            continue
        needless.discard(number)
        place = next((place for place in incident.told if place.queue == queue), Route(destination, queue))
        attended[incident_id] = incident.reaching(place)
        await put_told(tx, attended[incident_id])
    await tx.execute(
        f"UPDATE deliveries SET state = 'cancelled', ended_at = $2 WHERE id = ANY($1) AND {tx.waits}",
        sorted(needless),
        to_micros(now),
    )
    return needless
