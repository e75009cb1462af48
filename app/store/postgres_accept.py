"""The SQL that stores changes, a group of them in a handful of statements.

**Order.** Whoever stores a change of an entity holds that entity's advisory lock until the transaction is
committed. So whichever replicas take an entity's changes, they do so one after the other: each sees what the
one before has decided, and its deliveries have greater numbers than those that were committed before.
Deliveries of different entities may be committed in another order than that of their numbers; a dispatcher
that takes the lowest number it sees never takes an entity's second alert before its first.

**Locks** are taken in one order everywhere, or transactions would wait for each other in a circle: entities
by the number that stands for them, then incidents by their id, then deliveries.
"""

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any

import asyncpg

from app.alerts.change import CatalogChange
from app.alerts.decide import MEMORY, Alert, Decision
from app.store import postgres_runs as runs
from app.store.columns import (
    alert_values,
    change_values,
    incident_of,
    incident_values,
    time_or_none,
    to_micros,
)
from app.store.group import Entity, Group
from app.store.postgres_known import find_known, put_known
from app.store.postgres_pool import Connection
from app.store.rows import Accepted, Incoming

Row = tuple[Any, ...]

CHANGES = (
    "INSERT INTO changes (key, received_at, at, action, resource, blueprint, entity, teams, reason, alerts,"
    "  body, traceparent)"
    " SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[],"
    "  $7::text[], $8::text[], $9::text[], $10::bigint[], $11::bytea[], $12::text[])"
    " ON CONFLICT (key) DO NOTHING RETURNING key, id"
)
ENTITIES = (
    "INSERT INTO entities (blueprint, entity) SELECT * FROM unnest($1::text[], $2::text[])"
    " ON CONFLICT DO NOTHING"
)
INCIDENTS = (
    "INSERT INTO incidents (id, rule, blueprint, entity, state, opened_at, changed_at, resolved_at, due_at,"
    "  severity, moves, flapping)"
    " SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[],"
    "  $7::bigint[], $8::bigint[], $9::bigint[], $10::text[], $11::text[], $12::boolean[])"
    " ON CONFLICT (id) DO UPDATE SET state = excluded.state, opened_at = excluded.opened_at,"
    "  changed_at = excluded.changed_at, resolved_at = excluded.resolved_at, due_at = excluded.due_at,"
    "  severity = excluded.severity, moves = excluded.moves, flapping = excluded.flapping"
)
STILL_PENDING = "state || '' = 'pending'"
"""Of an incident's or a message's few deliveries, those that wait; without the index of all that wait.

When a storm begins, the server's statistics say for a while that little waits, and it would look through all.
"""
DELIVERIES = (
    "INSERT INTO deliveries (change_id, incident_id, lane, destination, notification, created_at,"
    "  waiting_since, due_at, repeat_after, state, ended_at)"
    # Numbers are given in the order of what the query returns, which is that of the decisions.
    " SELECT change_id, incident_id, lane, destination, notification, created_at, waiting_since, due_at,"
    "  repeat_after, CASE WHEN ended_at IS NULL THEN 'pending' ELSE 'cancelled' END, ended_at"
    " FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[],"
    "  $8::bigint[], $9::bigint[], $10::bigint[]) WITH ORDINALITY AS given (change_id, incident_id, lane,"
    "  destination, notification, created_at, waiting_since, due_at, repeat_after, ended_at, place)"
    " ORDER BY place"
)


def storable(text: str) -> str:
    """Return a text without the one character that PostgreSQL cannot store."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def storable_json(text: str) -> str:
    """Return JSON without the one character on which PostgreSQL's functions for JSON fail."""
    return text.replace(r"\u0000", r"\ufffd")


def columns(rows: Sequence[Row]) -> list[list[Any]]:
    """Return rows as the columns that `unnest` takes; there must be one row at least."""
    return [
        [storable(value) if isinstance(value, str) else value for value in column]
        for column in zip(*rows, strict=True)
    ]


async def _write(db: Connection, group: Group) -> None:
    """Write all that a group of changes leads to."""
    if not group.changes:
        return
    ids = {
        row["key"]: row["id"]
        for row in await db.fetch(CHANGES, *columns([_change_values(*one) for one in group.changes]))
    }
    if len(ids) < len(group.changes):
        # Our locks exclude it; but should another release lock otherwise, a second look tells.
        raise asyncpg.SerializationError("a change was stored by another replica at the same moment")
    if group.new:
        await db.execute(ENTITIES, *columns(sorted(group.new)))
    if group.moved:
        await db.execute(INCIDENTS, *columns([incident_values(one) for one in group.moves]))
    cancelled = []
    if group.cancelled:
        cancelled = await db.fetch(
            "UPDATE deliveries SET state = 'cancelled', ended_at = since"
            " FROM unnest($1::text[], $2::bigint[]) AS cancelled (incident, since)"
            f" WHERE incident_id = incident AND {STILL_PENDING}"
            " AND (due_at > since OR repeat_after IS NOT NULL) RETURNING id",
            *columns(list(group.cancelled.items())),
        )
    if group.alerts:
        lanes = sorted({alert.lane: alert.destination for _, alert, _ in group.alerts}.items())
        await db.execute(runs.LANES, *columns(lanes))
        rows = [
            (ids[key], *_alert_values(alert, now), group.ended.get(place))
            for place, (key, alert, now) in enumerate(group.alerts)
        ]
        await db.execute(DELIVERIES, *columns(rows))
    if group.learned:
        await put_known(db, group.learned)
    if cancelled:
        await runs.tell(db, [row["id"] for row in cancelled], max(group.cancelled.values()))


async def accept(db: Connection, batch: Sequence[Incoming]) -> list[Accepted]:
    """Write changes with what they lead to, or say which were there."""
    await db.execute(
        "SELECT pg_advisory_xact_lock(entity) FROM unnest($1::bigint[]) AS entity",
        sorted({lock_of(_entity(one.change)) for one in batch}),
    )
    # Only now: what was committed while we waited for the locks must be seen.
    rows = await db.fetch(
        "SELECT key, alerts FROM changes WHERE key = ANY($1)", [one.change.key for one in batch]
    )
    seen = {row["key"]: row["alerts"] for row in rows}
    unseen = [one for one in batch if one.change.key not in seen]
    fresh = [one.change for one in unseen]
    group = await _look_up(db, fresh) if fresh else Group()
    if watched := {_entity(one.change) for one in unseen if one.watched}:
        group.known = await find_known(db, watched)
    accepted = group.take([(_entity(one.change), one) for one in batch], seen)
    await _write(db, group)
    if reports := [one for one in batch if one.report]:
        await runs.put(db, reports)
    return accepted


async def put_alert(db: Connection, alert: Alert, change_id: int, now: int) -> None:
    """Write an alert that a change leads to; `now` in micros."""
    await db.execute(runs.LANES, [alert.lane], [alert.destination])
    await db.execute(DELIVERIES, *columns([(change_id, *_alert_values(alert, now), None)]))


def _change_values(incoming: Incoming, decision: Decision) -> Row:
    *first, teams, reason, alerts, body, traceparent = change_values(incoming, decision)
    return (*first, storable_json(teams), reason, alerts, body, traceparent)


def _alert_values(alert: Alert, now: int) -> Row:
    *first, notification, created_at, waiting_since, due_at, repeat = alert_values(alert, now)
    return (*first, storable_json(notification), created_at, waiting_since, due_at, repeat)


def _entity(change: CatalogChange) -> Entity:
    return storable(change.blueprint), storable(change.entity)


def lock_of(entity: Entity) -> int:
    """Return the number of the advisory lock that stands for a blueprint's entity."""
    digest = blake2b("\0".join(entity).encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)


async def _look_up(db: Connection, changes: Iterable[CatalogChange]) -> Group:
    """Return what the decisions rest on: each entity's newest time, and its incidents, which stay locked."""
    since: dict[Entity, int] = {}
    for change in changes:
        at = to_micros(change.at - MEMORY)
        since[_entity(change)] = min(at, since.get(_entity(change), at))
    wanted = columns([(*entity, at) for entity, at in since.items()])
    newest = await db.fetch(
        "SELECT (SELECT max(at) FROM changes WHERE changes.blueprint = one.blueprint"
        "  AND changes.entity = one.entity) AS at"
        " FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS one (blueprint, entity, place)"
        " ORDER BY place",
        *wanted[:2],
    )
    rows = await db.fetch(
        "SELECT incidents.blueprint, incidents.entity, id, rule, state, opened_at, changed_at, resolved_at,"
        "  due_at, severity, moves, flapping FROM incidents"
        " JOIN unnest($1::text[], $2::text[], $3::bigint[]) AS one (blueprint, entity, since)"
        "  ON incidents.blueprint = one.blueprint AND incidents.entity = one.entity"
        " WHERE resolved_at IS NULL OR resolved_at >= since ORDER BY id FOR NO KEY UPDATE OF incidents",
        *wanted,
    )
    group = Group({one: time_or_none(row["at"]) for one, row in zip(since, newest, strict=True)})
    for row in rows:
        known = group.incidents.setdefault((row["blueprint"], row["entity"]), {})
        known[row["id"]] = incident_of(*row)
    return group
