"""Deleting what is old, but nothing that is pending or open."""

from datetime import datetime, timedelta

from app.model.incident import CATALOG_QUEUES
from app.model.times import MICRO, Micros, from_micros, to_micros
from app.store.transaction import EntityKey, Transaction

OLD = {
    "changes": (
        "received_at < $1 AND NOT EXISTS ("
        "  SELECT 1 FROM deliveries LEFT JOIN silences ON silences.id = silence_id"
        "  LEFT JOIN incidents ON incidents.id = deliveries.incident_id WHERE change_id = changes.id"
        # Of an open incident too: its end goes out in the words of its beginning.
        "  AND (deliveries.state = 'pending' OR (deliveries.state = 'silenced' AND NOT settled)"
        "    OR (incidents.id IS NOT NULL AND resolved_at IS NULL)))"
    ),
    "incidents": "resolved_at < $1",
    "actions": "at < $1",
    "messages": (
        "posted_at < $1 AND NOT EXISTS (SELECT 1 FROM incident_messages WHERE message_id = messages.id)"
    ),
    "quarantine": "received_at < $1",
    "reconcile_runs": "started_at < $1",
}
"""What may be deleted of each table, found by an index."""


async def cutoff(tx: Transaction, retention: timedelta, now: datetime, share: timedelta) -> datetime:
    """Decide what is old enough to be deleted, and note it.

    A clock that is wrong by a month must not delete a month: so at each call only a share more is old than at
    the last one, however late it is. A shorter retention is somebody's decision, and counts at once.

    Args:
        tx: The transaction.
        retention: How long to keep what is neither pending nor open.
        now: The time, UTC.
        share: How much more history may be old than at the last call.

    Returns:
        The time, UTC, before which all is old.
    """
    pruned_to, before = await tx.fetch_row("SELECT pruned_to, retention FROM clock") or (0, 0)
    old = to_micros(now - retention)
    if pruned_to:
        shorter = max(0, before - retention // MICRO)
        old = Micros(min(old, pruned_to + shorter + share // MICRO))
    await tx.execute("UPDATE clock SET pruned_to = $1, retention = $2", old, retention // MICRO)
    return from_micros(old)


async def prune(tx: Transaction, *, before: datetime, limit: int) -> int:
    """Delete what arrived before a time, UTC, and give how many rows; until that is 0 there may be more.

    Args:
        tx: The transaction.
        before: The time, UTC.
        limit: How many rows of each table at most, so that no transaction is long.
    """
    deleted = 0
    entities: set[EntityKey] = set()
    for table, old in OLD.items():
        # Two replicas at the same moment delete different rows; materialized: PostgreSQL may read it twice.
        rows = await tx.fetch(
            f"WITH old AS MATERIALIZED (SELECT id FROM {table} WHERE {old} LIMIT $2 FOR UPDATE SKIP LOCKED)"
            f" DELETE FROM {table} WHERE id IN (SELECT id FROM old)"
            f" RETURNING {'blueprint, entity' if table == 'changes' else '1'}",
            to_micros(before),
            limit,
        )
        deleted += len(rows)
        if table == "changes":
            entities = {(blueprint, entity) for blueprint, entity in rows}
    await tx.execute("DELETE FROM silences WHERE settled AND ends_at < $1", to_micros(before))
    await tx.execute(
        "WITH old AS MATERIALIZED (SELECT blueprint, entity FROM last_known"
        "  WHERE gone AND moved_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)"
        " DELETE FROM last_known WHERE (blueprint, entity) IN (SELECT blueprint, entity FROM old)",
        to_micros(before),
        limit,
    )
    await tx.forget_entities(sorted(entities))
    return deleted + await _forget_queue(tx, to_micros(before))


async def _forget_queue(tx: Transaction, before: Micros) -> int:
    """Forget a queue that the catalog named, and that has sent nothing since a time; give how many: 0 or 1.

    Only one at a time: to look for what is left of it is to read all deliveries.
    """
    quiet = await tx.fetch(
        "SELECT name FROM queues WHERE next_at < $1 AND holder IS NULL"
        f" AND substr(name, 1, 1) IN {CATALOG_QUEUES} ORDER BY name",
        before,
    )
    for (name,) in quiet:
        if await tx.fetch_value("SELECT 1 FROM deliveries WHERE queue = $1 LIMIT 1", name):
            continue
        if not await tx.fetch("SELECT 1 FROM queues WHERE name = $1 FOR UPDATE SKIP LOCKED", name):
            continue
        left = "SELECT 1 FROM deliveries WHERE queue = $1"  # as it is now that nothing more can come
        forget = f"DELETE FROM queues WHERE name = $1 AND NOT EXISTS ({left}) RETURNING 1"
        if await tx.fetch_value(forget, name):
            return 1
    return 0
