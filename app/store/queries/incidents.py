"""The incidents, as the page, the API and the commands show them; closed where no change will end them."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime

from app.model.delivery import State
from app.model.incident import Incident, Step
from app.model.notification import Notification
from app.model.times import micros_or_none, to_micros
from app.rules.kin.quiet import hold, waits
from app.rules.rule import RuleSet
from app.store.cursor import LAST, number_of, page_of
from app.store.kin import causes, shown
from app.store.queries import audit, deliveries, reports
from app.store.queries.accept import INCIDENT, incident_of
from app.store.queries.page import readable
from app.store.transaction import Row, Transaction
from app.store.views import AuditEntry, IncidentFilter, IncidentRow, Page

INCIDENT_ROW = (
    f"{INCIDENT}, (SELECT notification FROM deliveries WHERE incident_id = incidents.id"
    " ORDER BY deliveries.id DESC LIMIT 1), (SELECT blueprint || ' ' || entity || ', rule ' || rule"
    " FROM incidents AS cause WHERE cause.id = incidents.quiet)"
)
"""The columns of `_incident_row_of`."""
RULES_FILE = "rules file"
"""Who closes the incidents of a rule that is gone, in the audit trail."""
WORST_FIRST = "CASE severity WHEN 'critical' THEN 0 WHEN 'warning' THEN 1 ELSE 2 END, opened_at"


ALL_OF_THEM = IncidentFilter()


async def worst(tx: Transaction, limit: int, which: IncidentFilter = ALL_OF_THEM) -> list[IncidentRow]:
    """Read open incidents that a filter fits: the worst first, of those the oldest."""
    values: list[object] = [limit]
    where = f"resolved_at IS NULL{_fits(which, values)}"
    rows = await tx.fetch(
        f"SELECT {INCIDENT_ROW} FROM incidents WHERE {where} ORDER BY {WORST_FIRST} LIMIT $1",
        *values,
    )
    return [_incident_row_of(row) for row in rows]


def _fits(which: IncidentFilter, values: list[object]) -> str:
    """Write a filter's conditions, each after an AND, and add their values to those of the statement."""
    where = ""
    for column, value in (
        ("severity", which.severity),
        ("blueprint", which.blueprint),
        ("rule", which.rule),
    ):
        if value is not None:
            values.append(value)
            where += f" AND incidents.{column} = ${len(values)}"
    if which.text is not None:
        values.append("%" + "".join(f"\\{char}" if char in "\\%_" else char for char in which.text) + "%")
        where += rf" AND lower(incidents.entity) LIKE lower(${len(values)}) ESCAPE '\'"
    if which.team is not None:  # the change that it was alerted on names the teams, as JSON
        values.append(json.dumps(which.team))
        where += (
            " AND EXISTS (SELECT 1 FROM deliveries JOIN changes ON changes.id = change_id"
            f" WHERE incident_id = incidents.id AND replace(teams, ${len(values)}, '') <> teams)"
        )
    where += shown.TOP if which.top else ""
    if which.ids is not None:
        values.append(list(which.ids))
        where += f" AND incidents.id = ANY(${len(values)})"
    return where


async def stuck(tx: Transaction, since: datetime, now: datetime) -> dict[State, list[str]]:
    """Find the open incidents, by id, of which an alert is dead, or due and waiting since a time, UTC.

    What waits in a queue on hold counts at once. The keys are `DEAD` and `PENDING`.
    """
    select = (
        "SELECT DISTINCT incident_id FROM deliveries JOIN queues ON queues.name = queue"
        " JOIN incidents ON incidents.id = incident_id"
        " WHERE resolved_at IS NULL AND kind = 'alert' AND deliveries.state ="
    )
    dead = await tx.fetch(f"{select} 'dead' ORDER BY 1")
    waits = await tx.fetch(
        f"{select} 'pending' AND deliveries.due_at <= $2 AND (on_hold IS NOT NULL OR waiting_since < $1)"
        " ORDER BY 1",
        to_micros(since),
        to_micros(now),
    )
    return {State.PENDING: [name for (name,) in waits], State.DEAD: [name for (name,) in dead]}


async def incident(tx: Transaction, name: str) -> IncidentRow | None:
    """Read one incident."""
    row = await tx.fetch_row(f"SELECT {INCIDENT_ROW} FROM incidents WHERE id = $1", name)
    return _incident_row_of(row) if row else None


async def page(
    tx: Transaction,
    *,
    is_open: bool | None = None,
    blueprint: str | None = None,
    entity: str | None = None,
    since: datetime | None = None,
    which: IncidentFilter = ALL_OF_THEM,
    before: str | None = None,
    limit: int,
) -> Page[IncidentRow]:
    """Read incidents, those that opened last first.

    Args:
        tx: The transaction.
        is_open: Only those that are open, or only those that have ended.
        blueprint: With `entity`: only this entity's.
        entity: The entity's identifier.
        since: Only those that were open at or after this time, UTC.
        which: Only those that it fits.
        before: A page's `next`.
        limit: How many at most.

    Raises:
        ValueError: No page has given `before`.
    """
    opened_at, _, name = (before or f"{LAST}.").partition(".")
    values: list[object] = [LAST if before is None else number_of(opened_at), name, limit + 1]
    where = "(opened_at, id) < ($1, $2)"
    if is_open is not None:
        where += f" AND resolved_at IS {'NULL' if is_open else 'NOT NULL'}"
    if since is not None:
        values.append(micros_or_none(since))
        where += f" AND (resolved_at IS NULL OR resolved_at >= ${len(values)})"
    if blueprint is not None and entity is not None:
        values += (blueprint, entity)
        where += f" AND blueprint = ${len(values) - 1} AND entity = ${len(values)}"
    where += _fits(which, values)
    rows = await tx.fetch(
        f"SELECT {INCIDENT_ROW} FROM incidents WHERE {where} ORDER BY opened_at DESC, id DESC LIMIT $3",
        *values,
    )
    return page_of(
        rows, limit, _incident_row_of, lambda last: f"{to_micros(last.incident.opened_at)}.{last.incident.id}"
    )


async def close(tx: Transaction, names: Sequence[str], why: str, now: datetime) -> list[Incident]:
    """Close incidents, by id, and alert of it wherever they were told.

    Args:
        tx: The transaction.
        names: Their ids.
        why: The reason, as a part of a sentence.
        now: The time, UTC.

    Returns:
        Those that were open.
    """
    closed = await _locked(tx, names)
    at, alerts = to_micros(now), []
    ids = {incident.id: at for incident in closed}
    await tx.execute_many("UPDATE incidents SET resolved_at = $2 WHERE id = $1", list(ids.items()))
    await causes.end(tx, dict.fromkeys(ids, f"is closed, {why}"), at)
    cancelled = await deliveries.cancel_later(tx, ids) if ids else []
    for incident in closed:
        last = await tx.fetch_row(
            f"SELECT {deliveries.COPIED} FROM deliveries WHERE incident_id = $1 ORDER BY id DESC LIMIT 1",
            incident.id,
        )
        # Of one that waits or is quiet nobody has heard.
        if last is None or waits(incident, now):
            continue
        alert = deliveries.following(last, at, incident_id=incident.id, step=Step.RESOLVED)
        said_last = Notification.model_validate_json(alert.notification).named(incident.entity)
        text = said_last.closing(why, now).model_dump_json()
        alerts += [
            alert._replace(notification=text, destination=place.destination, queue=place.queue)
            for place in incident.told
            if Step.RESOLVED in place.steps
        ]
    await deliveries.insert(tx, alerts)
    await reports.announce(tx, cancelled, at)
    if groups := await causes.emptied(tx, [*ids]):
        closed += await close(tx, groups, "all that it counted was closed", now)
    return closed


async def follow(tx: Transaction, rules: RuleSet, now: datetime, *, limit: int) -> list[Incident]:
    """Let open incidents follow the rules in force.

    Those whose rule can never end them are closed, with an entry in the audit trail. Those that still wait
    for their first alert wait as long as their rule says now.

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
    kept = (incident for incident in incidents if (incident.rule, incident.blueprint) not in gone)
    moved = [incident.id for incident in kept if _due_anew(incident, rules, now) != incident.due_at]
    loose = causes.loosened(incidents, rules)
    # All in one go: two processes that read the rules again must not wait for each other in a circle.
    for incident in await _locked(tx, [*moved, *loose, *(incident.id for incident in over)]):
        if incident.id in moved and (due_at := _due_anew(incident, rules, now)):
            await _wait_until(tx, incident, due_at)
    await causes.release(tx, loose, to_micros(now))
    closed: list[Incident] = []
    for pair, why in gone.items():
        names = [incident.id for incident in over if (incident.rule, incident.blueprint) == pair]
        closed += await close(tx, names, why, now)
    for incident in closed:
        about = f"{incident.blueprint} {incident.entity}: {gone[incident.rule, incident.blueprint]}"
        await audit.write(tx, AuditEntry(now, RULES_FILE, "close incident", f"Incident of {about}."))
    return closed


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
    told = Counter(name for row in rows for name in {place.destination for place in incident_of(row).told})
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


async def _locked(tx: Transaction, names: Sequence[str]) -> list[Incident]:
    """Read those of some incidents that are open, and keep them as they are until the end."""
    where = "FROM incidents WHERE id = ANY($1) AND resolved_at IS NULL ORDER BY id"
    entities = await tx.fetch(f"SELECT blueprint, entity {where}", list(names))
    if not entities:
        return []
    await tx.lock({(blueprint, entity) for blueprint, entity in entities})
    below = await causes.below(tx, names)
    await tx.lock_rows("incidents", sorted({*names, *below}))
    return [incident_of(row) for row in await tx.fetch(f"SELECT {INCIDENT} {where}", list(names))]


def _due_anew(incident: Incident, rules: RuleSet, now: datetime) -> datetime | None:
    """Say when an incident alerts first by the rules in force, if it waits to."""
    wait = hold(rules.by_name[incident.rule], incident.severity)
    if incident.due_at is None or incident.due_at <= now or incident.quiet:
        return incident.due_at
    return max(now, incident.opened_at + wait) if wait else now


async def _wait_until(tx: Transaction, incident: Incident, due_at: datetime) -> None:
    """Let an incident alert first at another time, and move what is to be said after that."""
    await tx.execute("UPDATE incidents SET due_at = $2 WHERE id = $1", incident.id, to_micros(due_at))
    await tx.execute(
        "UPDATE deliveries SET due_at = due_at + $2, waiting_since = waiting_since + $2"
        f" WHERE incident_id = $1 AND {tx.waits} AND due_at >= $3",
        incident.id,
        to_micros(due_at) - to_micros(incident.due_at or due_at),
        to_micros(incident.due_at or due_at),
    )


def _incident_row_of(row: Row) -> IncidentRow:
    *columns, text, cause = row
    return IncidentRow(incident_of(columns), None if text is None else readable(text), cause or "")
