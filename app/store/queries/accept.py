"""The SQL that stores changes, a group of them in a handful of statements.

**Order.** Whoever stores a change of an entity holds that entity's lock until the transaction is committed. So
whichever replicas take an entity's changes, they do so one after the other: each sees what the one before has
decided, and its deliveries have greater numbers than those that were committed before. Deliveries of different
entities may be committed in another order than that of their numbers; a dispatcher that takes the lowest
number it sees never takes an entity's second alert before its first.

**Locks** are taken in one order everywhere, or transactions would wait for each other in a circle: entities
by the number that stands for them, then incidents by their id, then deliveries.
"""

from collections.abc import Iterable, Sequence

from app.model.change import CatalogChange
from app.model.delivery import Alert
from app.rules.decide import MEMORY
from app.store.columns import (
    alert_values,
    change_values,
    incident_of,
    incident_values,
    time_or_none,
    to_micros,
)
from app.store.group import Entity, Group
from app.store.locks import lock_of
from app.store.queries import reports as runs
from app.store.queries.last_known import find_known, put_known
from app.store.rows import Accepted, Incoming
from app.store.transaction import Session

CHANGE = "key, received_at, at, action, resource, blueprint, entity, teams, reason, alerts, body, traceparent"
INCIDENT = "id, rule, blueprint, entity, state, opened_at, changed_at, resolved_at, due_at, severity, moves, flapping"
MOVED = "state, opened_at, changed_at, resolved_at, due_at, severity, moves, flapping"
DELIVERY = (
    "change_id, incident_id, queue, destination, notification, created_at, waiting_since, due_at, repeat_after,"
    " state, ended_at"
)


async def accept(db: Session, batch: Sequence[Incoming]) -> list[Accepted]:
    """Write changes with what they lead to, or say which were there."""
    await db.lock(sorted({lock_of(_entity(one.change)) for one in batch}))
    # Only now: what was committed while we waited for the locks must be seen.
    rows = await db.fetch(
        "SELECT key, alerts, id FROM changes WHERE key = ANY($1)", [one.change.key for one in batch]
    )
    ids = {key: number for key, _, number in rows}
    unseen = [one for one in batch if one.change.key not in ids]
    group = await _look_up(db, [one.change for one in unseen]) if unseen else Group()
    if watched := {_entity(one.change) for one in unseen if one.watched}:
        group.known = await find_known(db, watched)
    accepted = group.take(
        [(_entity(one.change), one) for one in batch], {key: alerts for key, alerts, _ in rows}
    )
    await _write(db, group, ids)
    if reports := [one for one in batch if one.report]:
        await runs.put(db, reports)
    return accepted


async def put_alert(db: Session, alert: Alert, change_id: int, now: int) -> None:
    """Write an alert of the listener's own, beside a change that is stored; `now` in micros."""
    await db.execute(runs.QUEUE, alert.queue, alert.destination)
    await db.insert("deliveries", DELIVERY, [(change_id, *alert_values(alert, now), "pending", None)])


async def _look_up(db: Session, changes: Iterable[CatalogChange]) -> Group:
    """Return what the decisions rest on: each entity's newest time, and its incidents, which stay locked."""
    since: dict[Entity, int] = {}
    for change in changes:
        at = to_micros(change.at - MEMORY)
        since[_entity(change)] = min(at, since.get(_entity(change), at))
    group = Group()
    newest = await db.for_each(
        "SELECT (SELECT max(at) FROM changes WHERE blueprint = $1 AND entity = $2)", "text, text", list(since)
    )
    group.last_at = {one: time_or_none(at) for one, (at,) in zip(since, newest, strict=True)}
    rows = await db.for_each(
        "SELECT blueprint, entity, id, rule, state, opened_at, changed_at, resolved_at, due_at, severity, moves,"
        " flapping FROM incidents WHERE blueprint = $1 AND entity = $2"
        " AND (resolved_at IS NULL OR resolved_at >= $3) ORDER BY id",
        "text, text, bigint",
        [(*entity, at) for entity, at in since.items()],
        lock="incidents",
    )
    for row in rows:
        group.incidents.setdefault((row[0], row[1]), {})[row[2]] = incident_of(*row)
    return group


async def _write(db: Session, group: Group, ids: dict[str, int]) -> None:
    """Write all that a group of changes leads to, and add the numbers that they get."""
    if not group.changes:
        return
    ids |= dict(
        await db.insert(
            "changes", CHANGE, [change_values(*one) for one in group.changes], returning="key, id"
        )
    )
    if group.new:
        await db.insert("entities", "blueprint, entity", sorted(group.new), conflict="DO NOTHING")
    if group.moved:
        moved = ", ".join(f"{name} = excluded.{name}" for name in MOVED.split(", "))
        values = [incident_values(one) for one in group.moves]
        await db.insert("incidents", INCIDENT, values, conflict=f"(id) DO UPDATE SET {moved}")
    cancelled: list[int] = []
    for incident, now in group.cancelled.items():
        rows = await db.fetch(
            f"UPDATE deliveries {db.later} SET state = 'cancelled', ended_at = $1 WHERE incident_id = $2"
            f" AND {db.pending} AND (due_at > 0 OR repeat_after IS NOT NULL)"
            " AND (due_at > $1 OR repeat_after IS NOT NULL) RETURNING id",
            now,
            incident,
        )
        cancelled += (number for (number,) in rows)
    if group.alerts:
        queues = {alert.queue: alert.destination for _, alert, _ in group.alerts}
        there = await db.fetch("SELECT name FROM queues WHERE name = ANY($1)", sorted(queues))
        for queue in sorted(queues.keys() - {name for (name,) in there}):
            await db.execute(runs.QUEUE, queue, queues[queue])
        rows = []
        for place, (key, alert, now) in enumerate(group.alerts):
            ended_at = group.ended.get(place)
            state = "pending" if ended_at is None else "cancelled"
            rows.append((ids[key], *alert_values(alert, now), state, ended_at))
        await db.insert("deliveries", DELIVERY, rows)
    if group.learned:
        await put_known(db, group.learned)
    if cancelled:
        await runs.tell(db, cancelled, max(group.cancelled.values()))


def _entity(change: CatalogChange) -> Entity:
    return change.blueprint.replace("\0", "\N{REPLACEMENT CHARACTER}"), change.entity.replace(
        "\0", "\N{REPLACEMENT CHARACTER}"
    )
