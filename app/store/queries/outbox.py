"""The SQL that reads for people and for other parts, each function a query on the connection given."""

from datetime import datetime

from app.model.delivery import State
from app.store.columns import (
    BODIES_AT_ONCE,
    DELIVERIES_IN,
    change_of,
    delivery_of,
    from_micros,
    quarantined_of,
    queue_of,
    time_or_none,
    to_micros,
)
from app.store.rows import Delivery, Quarantined, QueueState, StoredChange, Tally
from app.store.transaction import Session


async def deliveries(db: Session, state: State | None, limit: int) -> list[Delivery]:
    """Return deliveries, newest first."""
    rows = await db.fetch(
        "SELECT deliveries.id, changes.key, queue, deliveries.destination, deliveries.state, on_hold,"
        "  notification, created_at, ended_at, greatest(next_at, due_at),"
        "  (SELECT count(*) FROM attempts WHERE delivery_id = deliveries.id),"
        "  (SELECT detail FROM attempts WHERE delivery_id = deliveries.id ORDER BY id DESC LIMIT 1)"
        " FROM deliveries JOIN queues ON queues.name = queue JOIN changes ON changes.id = change_id"
        # A change of a message is not an alert, but one that failed must be seen.
        " WHERE (message_id IS NULL OR deliveries.state = 'dead')"
        f" AND {DELIVERIES_IN[state]} ORDER BY deliveries.id DESC LIMIT $1",
        limit,
    )
    return [delivery_of(*row) for row in rows]


async def queues(db: Session, now: datetime) -> list[QueueState]:
    """Return how every queue is, by name."""
    rows = await db.fetch(
        "SELECT name, destination, on_hold, failures, next_at,"
        "  (SELECT count(*) FROM deliveries WHERE queue = name AND state = 'pending' AND due_at <= $1),"
        "  (SELECT waiting_since FROM deliveries WHERE queue = name AND state = 'pending' AND due_at <= $1"
        "   ORDER BY id LIMIT 1),"
        '  delivered_at FROM queues ORDER BY name COLLATE "C"',
        to_micros(now),
    )
    return [queue_of(*row) for row in rows]


async def count(db: Session) -> dict[State, int]:
    """Return how many deliveries stand where."""
    rows = await db.fetch(
        "SELECT CASE WHEN state = 'pending' AND on_hold IS NOT NULL THEN 'on_hold' ELSE state END, count(*)"
        " FROM deliveries JOIN queues ON queues.name = queue WHERE message_id IS NULL GROUP BY 1"
    )
    return dict.fromkeys(State, 0) | {State(state): number for state, number in rows}


async def tally(db: Session, now: datetime) -> Tally:
    """Return the numbers that are watched; each has an index that holds little else."""
    open_ = await db.fetch(
        "SELECT rule, severity, count(*) FROM incidents WHERE resolved_at IS NULL GROUP BY rule, severity"
    )
    numbers = await db.fetchrow(
        "SELECT (SELECT count(*) FROM deliveries WHERE state = 'dead'),"
        " (SELECT count(*) FROM silences WHERE starts_at <= $1 AND ends_at > $1 AND NOT settled),"
        " (SELECT max(version) FROM schema_version)",
        to_micros(now),
    )
    return Tally({(rule, severity): number for rule, severity, number in open_}, *numbers)


async def changes(
    db: Session, since: datetime, blueprint: str | None, after: StoredChange | None, limit: int
) -> list[StoredChange]:
    """Return changes in the order in which they arrived; see `Store.changes`."""
    start = (to_micros(since), 0) if after is None else (to_micros(after.received_at), after.id)
    rows = db.rows(
        "SELECT id, key, received_at, at, action, resource, blueprint, entity, reason, alerts, body"
        " FROM changes WHERE (received_at, id) > ($1, $2) AND ($3::text IS NULL OR blueprint = $3)"
        " ORDER BY received_at, id LIMIT $4",
        *start,
        blueprint,
        limit,
    )
    found: list[StoredChange] = []
    length = 0
    async for row in rows:
        found.append(change_of(*row))
        length += len(found[-1].body)
        if length > BODIES_AT_ONCE:
            break
    return found


async def told(db: Session, since: datetime) -> dict[tuple[str, str], int]:
    """Return how many alerts were stored since a time, by rule and destination."""
    rows = await db.fetch(
        "SELECT notification::json ->> 'rule', destination, count(*) FROM deliveries"
        " WHERE created_at >= $1 AND state <> 'cancelled' AND repeat_after IS NULL"
        " AND message_id IS NULL AND notification::json ->> 'rule' <> '' GROUP BY 1, 2",
        to_micros(since),
    )
    return {(rule, destination): number for rule, destination, number in rows}


async def last_at(db: Session, blueprint: str, entity: str) -> datetime | None:
    """Return when the newest change of an entity that was seen happened."""
    micros = await db.fetchval(
        "SELECT max(at) FROM changes WHERE blueprint = $1 AND entity = $2",
        blueprint,
        entity,
    )
    return time_or_none(micros)


async def history(db: Session, since: datetime, after: int, limit: int) -> list[tuple[int, datetime, bytes]]:
    """Return stored changes in the order in which they came: number, time of arrival, signed bytes."""
    rows = await db.fetch(
        "SELECT id, received_at, body FROM changes WHERE id > $1 AND received_at >= $2 ORDER BY id LIMIT $3",
        after,
        to_micros(since),
        limit,
    )
    return [(id_, from_micros(received_at), body) for id_, received_at, body in rows]


async def quarantined(db: Session) -> list[Quarantined]:
    """Return what is in quarantine, oldest first."""
    rows = await db.fetch("SELECT id, body, signed_at, received_at, path, reason FROM quarantine ORDER BY id")
    return [quarantined_of(*row) for row in rows]
