"""The SQL of messages that can be found again and changed, and of the incidents that they tell of.

Each function is a part of one transaction on the connection given.
"""

from collections.abc import Sequence
from typing import Any

from app.model.notification import Message
from app.store.columns import UPDATES, story_of
from app.store.transaction import Session

PENDING = "state || '' = 'pending'"  # of a message's few deliveries, without the index of all that wait


async def told_by(db: Session, message_id: int) -> dict[str, Any]:
    """Return a message, and what it tells of: of each incident the first and the last notification."""
    ((channel, ts),) = await db.fetch("SELECT channel, ts FROM messages WHERE id = $1", message_id)
    rows = await db.fetch(
        "SELECT first.notification, last.notification FROM ("
        "  SELECT min(deliveries.id) AS first_id, max(deliveries.id) AS last_id FROM incident_messages"
        "  JOIN deliveries ON deliveries.incident_id = incident_messages.incident_id"
        "    AND deliveries.queue = incident_messages.queue"
        "  WHERE incident_messages.message_id = $1 AND state IN ('delivered', 'silenced')"
        "  GROUP BY incident_messages.incident_id) AS ends"
        " JOIN deliveries AS first ON first.id = first_id JOIN deliveries AS last ON last.id = last_id"
        " ORDER BY first_id",
        message_id,
    )
    stories = (story_of(*row) for row in rows)
    return {"message": Message(channel, ts), "stories": tuple(one for one in stories if one)}


async def keep(db: Session, queue: str, ids: Sequence[int], message: Message | None, now: int) -> None:
    """Let the incidents that have no message in the channel have this one; in another channel is none."""
    if message is None:
        return
    await db.execute(
        "INSERT INTO messages (queue, channel, ts, posted_at) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT (queue, ts) DO NOTHING",
        queue,
        message.channel,
        message.ts,
        now,
    )
    message_id = await db.fetchval("SELECT id FROM messages WHERE queue = $1 AND ts = $2", queue, message.ts)
    await db.execute(
        "INSERT INTO incident_messages (incident_id, queue, message_id)"
        " SELECT DISTINCT incidents.id, $2, $3::bigint FROM deliveries"
        " JOIN incidents ON incidents.id = incident_id WHERE deliveries.id = ANY($1) ORDER BY incidents.id"
        " ON CONFLICT (incident_id, queue) DO UPDATE SET message_id = excluded.message_id"
        " WHERE (SELECT channel FROM messages WHERE id = incident_messages.message_id) <> $4",
        ids,
        queue,
        message_id,
        message.channel,
    )


async def update_others(
    db: Session, queue: str, ids: Sequence[int], message: Message | None, now: int
) -> None:
    """Let the messages that the incidents had before say how they are now, each once."""
    if not ids:
        return
    rows = await db.fetch(
        "SELECT messages.id AS message_id, max(deliveries.id) AS delivery_id FROM deliveries"
        " JOIN incident_messages ON incident_messages.incident_id = deliveries.incident_id"
        "   AND incident_messages.queue = deliveries.queue"
        " JOIN messages ON messages.id = incident_messages.message_id"
        " WHERE deliveries.id = ANY($1) AND ts IS DISTINCT FROM $2 GROUP BY messages.id ORDER BY messages.id",
        ids,
        message and message.ts,
    )
    for message_id, number in rows:
        await db.execute(
            "INSERT INTO queues (name, destination) SELECT $1, destination FROM deliveries WHERE id = $2"
            " ON CONFLICT (name) DO NOTHING",
            queue + UPDATES,
            number,
        )
        # Whoever claims that queue at this moment must have said so, or must see what is written here.
        await db.execute("SELECT 1 FROM queues WHERE name = $1 FOR NO KEY UPDATE", queue + UPDATES)
        await db.execute(
            "INSERT INTO deliveries (change_id, incident_id, queue, destination, notification, created_at,"
            "  waiting_since, due_at, message_id)"
            " SELECT change_id, incident_id, $1, destination, notification, $2, $2, 0, $3 FROM deliveries"
            # One that is on its way says how it was when it was claimed: it needs one more after it.
            " WHERE id = $4 AND NOT EXISTS (SELECT 1 FROM deliveries JOIN queues ON queues.name = queue"
            f"  WHERE queue = $1 AND {PENDING} AND message_id = $3 AND holder IS NULL)",
            queue + UPDATES,
            now,
            message_id,
            number,
        )


async def forget(db: Session, queue: str, message: Message, now: int) -> None:
    """Let nobody answer to a message, or change it, that is not there any more."""
    number = await db.fetchval("SELECT id FROM messages WHERE queue = $1 AND ts = $2", queue, message.ts)
    if number is None:
        return
    await db.execute("DELETE FROM incident_messages WHERE message_id = $1", number)
    await db.execute(
        "UPDATE deliveries SET state = 'cancelled', ended_at = $1"
        " WHERE queue = $2 AND state = 'pending' AND message_id = $3",
        now,
        queue + UPDATES,
        number,
    )
