"""Storing changes: many in one transaction and in a handful of statements.

**Order.** A process that stores a change of an entity holds the entity's lock until the transaction is
committed. So replicas store an entity's changes one after the other: each sees what the one before
has decided, and its deliveries have greater numbers than those that were committed before. Deliveries of
different entities may be committed in another order than that of their numbers; a dispatcher that takes the
lowest number it sees never takes an entity's second alert before its first.

**Locks** are taken in one order everywhere, or transactions would wait for each other in a circle: entities
first, then incidents by their id, then deliveries.
"""

import json
from collections.abc import Sequence
from functools import lru_cache
from operator import itemgetter

from app.model.incident import Incident, Tie
from app.model.times import from_micros, micros_or_none, time_or_none, times_json, times_of, to_micros
from app.rules.decide import MEMORY, Decision
from app.store.columns import acknowledgement_columns, acknowledgement_of, told_json, told_of
from app.store.group import SILENCES_FOLLOW, Group, entity_of, former_of
from app.store.kin import causes, groups, relatives
from app.store.queries import deliveries, reports
from app.store.queries.last_known import find_last_known, put_last_known
from app.store.rows import Accepted, Incoming
from app.store.transaction import CLOCK, Columns, EntityKey, Row, Transaction

CHANGE_COLUMNS: Columns = {
    "key": "text",
    "received_at": "bigint",
    "at": "bigint",
    "action": "text",
    "resource": "text",
    "blueprint": "text",
    "entity": "text",
    "teams": "text",
    "reason": "text",
    "alerts": "bigint",
    "body": "bytea",
    "traceparent": "text",
}
INCIDENT_COLUMNS: Columns = {
    "id": "text",
    "rule": "text",
    "blueprint": "text",
    "entity": "text",
    "state": "text",
    "opened_at": "bigint",
    "changed_at": "bigint",
    "resolved_at": "bigint",
    "due_at": "bigint",
    "severity": "text",
    "moves": "text",
    "flapping": "boolean",
    "told": "text",
    "openings": "text",
    "acknowledged_at": "bigint",
    "acknowledged_by": "text",
    "version": "bigint",
    "escalates_from": "bigint",
    "quiet": "text",
}
INCIDENT = ", ".join(f"incidents.{name}" for name in INCIDENT_COLUMNS)
"""The columns of `incident_of`."""
REMEMBERED = "blueprint = $1 AND entity = $2 AND (resolved_at IS NULL OR resolved_at >= $3)"
"""The condition of an entity's incidents that a decision rests on."""
MOVED = ", ".join(f"{name} = excluded.{name}" for name in [*INCIDENT_COLUMNS][3:])


SEEN = "SELECT key, alerts, id FROM changes WHERE key = ANY($1) UNION ALL SELECT NULL, stepped, 0 FROM clock"


async def accept(tx: Transaction, batch: Sequence[Incoming]) -> list[Accepted]:
    """Store changes with what they lead to; give what became of each, in the same order.

    A change that was stored before is left as it is. Of any other, the entity's state is looked up, `decide`
    is called, and the change, its alerts, its incidents and the entity's new last known state are written. A
    change whose decision is `overtaken` is not stored. A report is stored once for each run and change.

    Args:
        tx: The transaction.
        batch: The changes, in the order of their arrival.
    """
    keyed = [(entity_of(incoming.change), incoming) for incoming in batch]
    tied = [(entity, incoming) for entity, incoming in keyed if incoming.kins]
    above = await relatives.entities_above(tx, tied)
    keys = above.union(each for entity, incoming in keyed for each in _entities(entity, incoming))
    await tx.lock(keys, shared=CLOCK)
    # Only now: what was committed while we waited for the locks must be seen.
    found = await tx.fetch(SEEN, [incoming.change.key for incoming in batch])
    rows = [row for row in found if row[0] is not None]
    stepped: int = next(number for key, number, _ in found if key is None)
    keyed = [(entity, incoming.at(stepped)) for entity, incoming in keyed]
    ids: dict[str, int] = {key: number for key, _, number in rows}
    unseen = [(entity, incoming) for entity, incoming in keyed if incoming.change.key not in ids]
    group = await _look_up(tx, unseen) if unseen else Group()
    if watched := {each for key, incoming in unseen if incoming.watched for each in _entities(key, incoming)}:
        group.known = await find_last_known(tx, watched)
    if tied and unseen:
        await relatives.look_up(tx, tied, group)
    accepted = group.take(keyed, {key: alerts for key, alerts, _ in rows})
    accepted = await groups.take_in(tx, group, accepted, INCIDENT, incident_of)
    if group.changes:
        await _write(tx, group, ids)
    for _, incoming in keyed:
        if incoming.report:
            await reports.put(tx, incoming.report, ids[incoming.change.key], to_micros(incoming.received_at))
    return accepted


async def _look_up(tx: Transaction, changes: Sequence[tuple[EntityKey, Incoming]]) -> Group:
    """Read what the decisions rest on: each entity's newest time, and its incidents, which stay locked."""
    since: dict[EntityKey, int] = {}
    for key, incoming in changes:
        at = to_micros(incoming.change.at - MEMORY)
        for entity in _entities(key, incoming):
            since[entity] = min(at, since.get(entity, at))
    group = Group()
    wanted, types = [(*entity, at) for entity, at in since.items()], ("text", "text", "bigint")
    newest = await tx.fetch_each(
        "SELECT (SELECT max(at) FROM changes WHERE blueprint = $1 AND entity = $2),"
        f" EXISTS (SELECT 1 FROM incidents WHERE {REMEMBERED})",
        types,
        wanted,
    )
    group.last_at = {entity: time_or_none(at) for entity, (at, _) in zip(since, newest, strict=True)}
    # Most have none: then sqlite3 need not name the nineteen columns of each.
    wanted = [values for values, (_, some) in zip(wanted, newest, strict=True) if some]
    query = f"SELECT {INCIDENT} FROM incidents WHERE {REMEMBERED}"
    rows = await tx.fetch_each(query, types, wanted) if wanted else []
    own = {row[0] for row in rows}
    ids = [*own, *await relatives.below(tx, changes)]
    if ids:  # in the order in which a recorded delivery locks them, which may just have moved one's places
        locked = await tx.lock_rows("incidents", ids, columns=INCIDENT)
        rows = [row for row in locked if row[0] in own] or rows
    tied = await relatives.look_up_ties(tx, changes, own, group)
    for row in sorted(rows, key=itemgetter(0)):
        incident = incident_of(row, tied.get(row[0], ()))
        group.incidents.setdefault((incident.blueprint, incident.entity), {})[incident.id] = incident
    return group


async def _write(tx: Transaction, group: Group, ids: dict[str, int]) -> None:
    """Write all that a group of changes leads to, and add the numbers that the changes get to `ids`."""
    changes = [_change_row(incoming, decision) for incoming, decision in group.changes]
    numbers = await tx.insert_numbered("changes", CHANGE_COLUMNS, changes)
    ids.update(zip((incoming.change.key for incoming, _ in group.changes), numbers, strict=True))
    if group.new:
        names = {"blueprint": "text", "entity": "text"}
        await tx.insert_many("entities", names, sorted(group.new), conflict="DO NOTHING")
    if group.moved:
        incidents = [_incident_row(incident) for incident in group.moves]
        conflict = f"(id) DO UPDATE SET {MOVED}"
        await tx.insert_many("incidents", INCIDENT_COLUMNS, incidents, conflict=conflict)
    cancelled = await deliveries.cancel_later(tx, group.cancelled) if group.cancelled else []
    if renamed := group.renamed:
        await deliveries.rewrite(tx, renamed, lambda name, waits: waits.renamed(renamed[name]))
        await causes.rename(tx, group)
    if patterns := group.renames:
        for statement in SILENCES_FOLLOW:
            await tx.execute_many(statement, patterns)
    if group.alerts:
        alerts = [
            deliveries.of_alert(alert, ids[key], now, ended_at=group.ended.get(place))
            for place, (key, alert, now) in enumerate(group.alerts)
        ]
        await deliveries.insert(tx, alerts)
    if group.last_known:
        await put_last_known(tx, group.last_known)
    if group.family is not None:
        await causes.settle(tx, group.family, numbers, to_micros(group.changes[-1][0].received_at))
    if cancelled:
        await reports.announce(tx, cancelled, max(group.cancelled.values()))


@lru_cache(maxsize=1024)
def _teams_json(teams: tuple[str, ...]) -> str:
    return json.dumps(teams)


def _change_row(incoming: Incoming, decision: Decision) -> Row:
    change = incoming.change
    return (
        change.key,
        to_micros(incoming.received_at),
        to_micros(change.at),
        change.action,
        change.resource,
        change.blueprint,
        change.entity,
        _teams_json(change.teams),
        decision.reason,
        len(decision.alerts),
        incoming.body,
        incoming.traceparent,
    )


def _incident_row(incident: Incident) -> Row:
    return (
        incident.id,
        incident.rule,
        incident.blueprint,
        incident.entity,
        incident.state,
        to_micros(incident.opened_at),
        to_micros(incident.changed_at),
        micros_or_none(incident.resolved_at),
        micros_or_none(incident.due_at),
        incident.severity,
        times_json(incident.moves),
        incident.flapping,
        told_json(incident.told),
        times_json(incident.openings),
        *acknowledgement_columns(incident.acknowledged),
        incident.version,
        micros_or_none(incident.escalates_from),
        incident.quiet,
    )


def incident_of(row: Row, ties: tuple[Tie, ...] = ()) -> Incident:
    """Read an incident, which has these ties, from a row of the columns `INCIDENT`."""
    (
        id_,
        rule,
        blueprint,
        entity,
        state,
        opened_at,
        changed_at,
        resolved_at,
        due_at,
        severity,
        moves,
        flapping,
        told,
        openings,
        acknowledged_at,
        acknowledged_by,
        version,
        escalates_from,
        quiet,
    ) = row
    return Incident(
        id_,
        rule,
        blueprint,
        entity,
        state,
        from_micros(opened_at),
        from_micros(changed_at),
        time_or_none(resolved_at),
        time_or_none(due_at),
        severity,
        times_of(moves),
        bool(flapping),
        told_of(told),
        times_of(openings),
        acknowledgement_of(acknowledged_at, acknowledged_by),
        version,
        time_or_none(escalates_from),
        quiet,
        ties,
    )


def _entities(entity: EntityKey, incoming: Incoming) -> tuple[EntityKey, ...]:
    """List the entities whose state a change rests on: its own, and what that was called before."""
    former = former_of(incoming.change)
    return (entity,) if former is None or former == entity else (entity, former)
