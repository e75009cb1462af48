"""The SQL of attempts, of reminders, and of what people do to deliveries.

Each function is a part of one transaction on the connection given.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from app.model.delivery import Outcome
from app.model.notification import Notification
from app.model.report import RUNS
from app.store.columns import to_micros
from app.store.group import Entity
from app.store.queries.last_known import prune_known
from app.store.queries.messages import PENDING
from app.store.transaction import Session

OLD = {
    "changes": (
        "received_at < $1 AND NOT EXISTS ("
        "  SELECT 1 FROM deliveries LEFT JOIN silences ON silences.id = silence_id"
        "  WHERE change_id = changes.id AND (state = 'pending' OR (state = 'silenced' AND NOT settled)))"
    ),
    "incidents": "resolved_at < $1",
    "messages": (
        "posted_at < $1 AND NOT EXISTS (SELECT 1 FROM incident_messages WHERE message_id = messages.id)"
        # A run's reports go with their change.
        f" AND (queue <> '{RUNS}' OR NOT EXISTS (SELECT 1 FROM deliveries WHERE message_id = messages.id))"
    ),
    "quarantine": "received_at < $1",
}
"""What may be deleted of each table."""


async def put_attempts(
    db: Session, ids: Sequence[int], outcome: Outcome, detail: str, started_at: int, ended_at: int
) -> None:
    """Write what came of deliveries, by number; the times in micros."""
    if not ids:
        return
    await db.execute(
        "INSERT INTO attempts (delivery_id, outcome, detail, started_at, ended_at)"
        " SELECT id, $2, $3, $4, $5 FROM deliveries WHERE id = ANY($1)",
        ids,
        outcome,
        detail,
        started_at,
        ended_at,
    )
    if outcome in (Outcome.DELIVERED, Outcome.DEAD, Outcome.SILENCED):
        await db.execute(
            "UPDATE deliveries SET state = $2, ended_at = $3 WHERE id = ANY($1)", ids, outcome, ended_at
        )


async def put_reminders(db: Session, ids: Sequence[int], now: datetime) -> None:
    """Write the next reminder after each of these that is one, as long as its incident is open."""
    reminders = await db.fetch(
        "SELECT id FROM deliveries WHERE id = ANY($1) AND repeat_after IS NOT NULL", list(ids)
    )
    if not reminders:  # as nearly always; what follows takes long for a thousand, and holds up who stores
        return
    rows = await db.fetch(
        # Of an incident and a queue one at a time.
        "SELECT min(told.id), repeat_after, notification"
        " FROM deliveries AS told JOIN incidents ON incidents.id = incident_id"
        " WHERE told.id = ANY($1) AND resolved_at IS NULL AND NOT EXISTS ("
        "   SELECT 1 FROM deliveries WHERE incident_id = told.incident_id AND queue = told.queue"
        f"  AND {PENDING} AND repeat_after IS NOT NULL)"
        " GROUP BY told.incident_id, told.queue, repeat_after, notification",
        [number for (number,) in reminders],
    )
    for number, after, text in rows:
        due_at = now + timedelta(microseconds=after)
        again = Notification.model_validate_json(text).model_copy(update={"at": due_at})
        await db.execute(
            "INSERT INTO deliveries (change_id, incident_id, queue, destination, notification, created_at,"
            "  waiting_since, due_at, repeat_after)"
            " SELECT change_id, incident_id, queue, destination, $1, $2, $3, $3, repeat_after"
            " FROM deliveries WHERE id = $4",
            again.model_dump_json(),
            to_micros(now),
            to_micros(due_at),
            number,
        )


async def release_hold(db: Session, destination: str, now: datetime) -> int:
    """Let the queues of a destination that are on hold send at once; return how many there were."""
    rows = await db.fetch(
        "UPDATE queues SET on_hold = NULL, failures = 0, next_at = $1 WHERE destination = $2 AND on_hold IS NOT NULL"
        " RETURNING name",
        to_micros(now),
        destination,
    )
    await db.execute_many(
        "UPDATE deliveries SET waiting_since = $1 WHERE queue = $2 AND state = 'pending'",
        [(to_micros(now), name) for (name,) in rows],
    )
    return len(rows)


async def retry(
    db: Session,
    now: datetime,
    ids: Sequence[int] | None,
    rule: str | None,
    destination: str | None,
    since: int | None,
) -> int:
    """Make deliveries pending and their queues due; return how many. `since` in micros."""
    rows = await db.fetch(
        "UPDATE deliveries SET state = 'pending', ended_at = NULL, due_at = least(due_at, $1),"
        "  waiting_since = $1"
        " WHERE (state = 'dead' OR $2 AND state = 'pending') AND (NOT $2 OR id = ANY($3))"
        " AND ($4::text IS NULL OR notification::json ->> 'rule' = $4)"
        " AND ($5::text IS NULL OR destination = $5) AND ($6::bigint IS NULL OR ended_at >= $6)"
        " RETURNING queue",
        to_micros(now),
        ids is not None,
        list(ids or ()),
        rule,
        destination,
        since,
    )
    await db.execute(
        "UPDATE queues SET next_at = $1 WHERE name = ANY($2)", to_micros(now), [queue for (queue,) in rows]
    )
    return len(rows)


async def prune(db: Session, before: int, limit: int) -> int:
    """Delete what is older than `before`, micros, and neither pending nor open; return how many rows.

    Of each table no more than `limit` rows, found by an index; two replicas at the same moment take different
    ones.
    """
    deleted = 0
    entities: set[Entity] = set()
    for table, old in OLD.items():
        rows = await db.fetch(
            f"DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE {old} LIMIT $2"
            f" FOR UPDATE SKIP LOCKED) RETURNING {'blueprint, entity' if table == 'changes' else '1'}",
            before,
            limit,
        )
        deleted += len(rows)
        if table == "changes":
            entities = {(blueprint, entity) for blueprint, entity in rows}
    await db.execute("DELETE FROM silences WHERE settled AND ends_at < $1", before)
    await prune_known(db, before, limit)
    await db.forget_entities(sorted(entities))
    return deleted
