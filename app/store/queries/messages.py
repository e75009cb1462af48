"""Messages that can be found again and updated, and the incidents that they are about."""

from collections.abc import Sequence
from typing import Any

from app.model.notification import Message
from app.model.times import Micros
from app.store.columns import acknowledgement_of
from app.store.kin import shown
from app.store.queries import deliveries
from app.store.rows import notification_of
from app.store.transaction import Row, Transaction

UPDATES = "/updates"
"""What is added to a queue's name for the queue in which updates of its messages wait."""
NEWEST = (
    "SELECT max(message_id) FROM incident_messages"
    " WHERE incident_id = deliveries.incident_id AND queue = deliveries.queue"
)
"""The message of a delivery's incident that its next alert answers to."""


async def stories(tx: Transaction, message_id: int, at: Micros) -> dict[str, Any]:
    """Read a message at a time, and of each of its incidents the first and the last notification, and its id.

    The last one says who looks after the incident now.

    Returns:
        The fields ``message`` and ``stories`` of a `Claim`.
    """
    ((channel, ts),) = await tx.fetch("SELECT channel, ts FROM messages WHERE id = $1", message_id)
    rows = await tx.fetch(
        "SELECT first.notification, last.notification, incidents.id, acknowledged_at, acknowledged_by,"
        "  version FROM ("
        "  SELECT incident_messages.incident_id, min(deliveries.id) AS first_id,"
        "    max(deliveries.id) AS last_id FROM incident_messages"
        "  JOIN deliveries ON deliveries.incident_id = incident_messages.incident_id"
        "    AND deliveries.queue = incident_messages.queue"
        "  WHERE incident_messages.message_id = $1 AND state IN ('delivered', 'silenced')"
        "  GROUP BY incident_messages.incident_id) AS ends"
        " JOIN deliveries AS first ON first.id = first_id JOIN deliveries AS last ON last.id = last_id"
        " JOIN incidents ON incidents.id = ends.incident_id"
        " ORDER BY first_id",
        message_id,
    )
    readable = []
    for first, last, incident_id, acknowledged_at, acknowledged_by, version in rows:
        begin, end = notification_of(first), notification_of(last)
        if begin is None or end is None:  # its line stays as it is
            continue
        now = {"acknowledged": acknowledgement_of(acknowledged_at, acknowledged_by), "version": version}
        (last_now,) = await shown.with_others(tx, [(incident_id, end.but(**now))], at)
        readable.append((last_now if first == last else begin, last_now, incident_id))
    return {"message": Message(channel, ts), "stories": tuple(readable)}


async def incidents_of(tx: Transaction, message: Message) -> list[str]:
    """List the incidents, by id, that a message is about."""
    rows = await tx.fetch(
        "SELECT DISTINCT incident_id FROM incident_messages JOIN messages ON messages.id = message_id"
        " WHERE channel = $1 AND ts = $2 ORDER BY incident_id",
        message.channel,
        message.ts,
    )
    return [name for (name,) in rows]


async def of_incidents(tx: Transaction, incidents: Sequence[str]) -> dict[tuple[str, str], Message]:
    """Read the newest message that each incident has in each queue's channel, by incident and queue."""
    rows = await tx.fetch(
        "SELECT incident_id, links.queue, channel, ts FROM incident_messages AS links"
        " JOIN messages ON messages.id = message_id WHERE incident_id = ANY($1) ORDER BY message_id",
        list(incidents),
    )
    return {(incident, queue): Message(channel, ts) for incident, queue, channel, ts in rows}


async def keep(tx: Transaction, queue: str, ids: Sequence[int], message: Message | None, now: Micros) -> None:
    """Link each incident of some deliveries to a message, unless it has one in the same channel already.

    A queue's channel may be another one since: what the incident has in the old one stays its own, too.
    """
    if message is None:
        return
    await tx.execute(
        "INSERT INTO messages (queue, channel, ts, posted_at) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT (queue, ts) DO NOTHING",
        queue,
        message.channel,
        message.ts,
        now,
    )
    message_id = await tx.fetch_value(
        "SELECT id FROM messages WHERE queue = $1 AND ts = $2", queue, message.ts
    )
    await tx.execute(
        "INSERT INTO incident_messages (incident_id, queue, message_id)"
        " SELECT DISTINCT incidents.id, $2, CAST($3 AS bigint) FROM deliveries"
        " JOIN incidents ON incidents.id = incident_id WHERE deliveries.id = ANY($1)"
        f" AND NOT EXISTS (SELECT 1 FROM messages WHERE id = ({NEWEST}) AND channel = $4)"
        " ORDER BY incidents.id ON CONFLICT DO NOTHING",
        list(ids),
        queue,
        message_id,
        message.channel,
    )


async def update_others(
    tx: Transaction, queue: str, ids: Sequence[int], message: Message | None, now: Micros
) -> None:
    """Let the messages that the incidents of some deliveries had before be updated, each once."""
    if not ids:
        return
    rows = await tx.fetch(
        "SELECT messages.id AS message_id, max(deliveries.id) AS delivery_id FROM deliveries"
        " JOIN incident_messages ON incident_messages.incident_id = deliveries.incident_id"
        "   AND incident_messages.queue = deliveries.queue"
        " JOIN messages ON messages.id = incident_messages.message_id"
        " WHERE deliveries.id = ANY($1) AND ts IS DISTINCT FROM $2 GROUP BY messages.id ORDER BY messages.id",
        list(ids),
        message and message.ts,
    )
    await _update(tx, [(queue, *row) for row in rows], now)


async def acted_on(tx: Transaction, incidents: Sequence[str], since: Micros) -> bool:
    """Tell whether somebody did something to one of some incidents since a time."""
    acted = await tx.fetch_value(
        "SELECT 1 FROM actions WHERE incident_id = ANY($1) AND at >= $2 LIMIT 1", list(incidents), since
    )
    return acted is not None


async def refresh(tx: Transaction, incident_id: str, now: Micros) -> None:
    """Let every message of an incident be updated to how that is now."""
    rows = await tx.fetch(
        "SELECT incident_messages.queue, incident_messages.message_id, max(deliveries.id)"
        " FROM incident_messages"
        " JOIN deliveries ON deliveries.incident_id = incident_messages.incident_id"
        "   AND deliveries.queue = incident_messages.queue"
        " WHERE incident_messages.incident_id = $1 GROUP BY 1, 2 ORDER BY 1, 2",
        incident_id,
    )
    await _update(tx, rows, now)


async def _update(tx: Transaction, wanted: Sequence[Row], now: Micros) -> None:
    """Write an update of each message, given by its queue, its number and a delivery that it is about."""
    for queue, message_id, delivery_id in wanted:
        name = queue + UPDATES
        ((*copied, incident_id),) = await tx.fetch(
            f"SELECT {deliveries.COPIED}, incident_id FROM deliveries WHERE id = $1", delivery_id
        )
        update = deliveries.following(
            copied, now, kind="update", queue=name, incident_id=incident_id, message_id=message_id
        )
        await deliveries.make_queues(tx, {name: update.destination})
        # A process that claims that queue now must have done so, or must see what is written here.
        await tx.fetch("SELECT 1 FROM queues WHERE name = $1 FOR NO KEY UPDATE", name)
        # An update that is being sent shows the state at its claim: it needs another one after it.
        waits = await tx.fetch_value(
            "SELECT 1 FROM deliveries JOIN queues ON queues.name = queue"
            f" WHERE queue = $1 AND {tx.waits} AND message_id = $2 AND holder IS NULL AND due_at <= $3",
            name,
            message_id,
            now,
        )
        if not waits:
            await deliveries.insert(tx, [update])


async def update_soon(tx: Transaction, incidents: Sequence[str], now: Micros, due_at: Micros) -> None:
    """Let the messages of incidents, by id, be updated at a time, unless they will be later than now."""
    rows = await tx.fetch(
        "SELECT messages.id, max(deliveries.id) FROM incident_messages AS links"
        " JOIN messages ON messages.id = links.message_id JOIN deliveries"
        "   ON deliveries.incident_id = links.incident_id AND deliveries.queue = links.queue"
        " WHERE links.incident_id = ANY($1) AND deliveries.kind = 'alert'"
        "   AND NOT EXISTS (SELECT 1 FROM deliveries AS later WHERE later.message_id = messages.id"
        "     AND later.state = 'pending' AND later.due_at > $2)"
        " GROUP BY messages.id ORDER BY messages.id",
        list(incidents),
        now,
    )
    updates = []
    for message_id, delivery_id in rows:
        ((*copied, incident_id),) = await tx.fetch(
            f"SELECT {deliveries.COPIED}, incident_id FROM deliveries WHERE id = $1", delivery_id
        )
        update = deliveries.following(
            copied, now, kind="update", incident_id=incident_id, message_id=message_id, due_at=due_at
        )
        updates.append(update._replace(queue=update.queue + UPDATES, waiting_since=due_at))
    await deliveries.insert(tx, updates)


async def forget(tx: Transaction, queue: str, message: Message, now: Micros) -> None:
    """Forget a message that is not there any more: nothing answers to it, and nothing updates it."""
    number = await tx.fetch_value("SELECT id FROM messages WHERE queue = $1 AND ts = $2", queue, message.ts)
    if number is None:
        return
    await tx.execute("DELETE FROM incident_messages WHERE message_id = $1", number)
    await tx.execute(
        "UPDATE deliveries SET state = 'cancelled', ended_at = $1"
        " WHERE queue = $2 AND state = 'pending' AND message_id = $3",
        now,
        queue + UPDATES,
        number,
    )
