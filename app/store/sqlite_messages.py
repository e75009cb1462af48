"""The SQL of messages that can be found again and changed, and of the incidents that they tell of.

Each function is a part of one transaction on the connection given.
"""

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from app.alerts.notification import Message
from app.store.columns import UPDATES, story_of


def told_by(db: sqlite3.Connection, message_id: int) -> dict[str, Any]:
    """Return a message, and what it tells of: of each incident the first and the last notification."""
    channel, ts = db.execute("SELECT channel, ts FROM messages WHERE id = ?", (message_id,)).fetchone()
    rows = db.execute(
        "SELECT first.notification, last.notification FROM ("
        "  SELECT min(deliveries.id) AS first_id, max(deliveries.id) AS last_id FROM incident_messages"
        "  JOIN deliveries ON deliveries.incident_id = incident_messages.incident_id"
        "    AND deliveries.lane = incident_messages.lane"
        "  WHERE incident_messages.message_id = ? AND state IN ('delivered', 'silenced')"
        "  GROUP BY incident_messages.incident_id)"
        " JOIN deliveries AS first ON first.id = first_id JOIN deliveries AS last ON last.id = last_id"
        " ORDER BY first_id",
        (message_id,),
    )
    stories = (story_of(first, last) for first, last in rows)
    return {"message": Message(channel, ts), "stories": tuple(one for one in stories if one)}


def keep(db: sqlite3.Connection, lane: str, ids: Sequence[int], message: Message | None, now: int) -> None:
    """Let the incidents that have no message in the channel have this one; in another channel is none."""
    if message is None:
        return
    db.execute(
        "INSERT OR IGNORE INTO messages (lane, channel, ts, posted_at) VALUES (?, ?, ?, ?)",
        (lane, message.channel, message.ts, now),
    )
    (message_id,) = db.execute(
        "SELECT id FROM messages WHERE lane = ? AND ts = ?", (lane, message.ts)
    ).fetchone()
    db.executemany(
        "INSERT INTO incident_messages (incident_id, lane, message_id)"
        " SELECT incidents.id, ?, ? FROM deliveries JOIN incidents ON incidents.id = incident_id"
        " WHERE deliveries.id = ?"
        " ON CONFLICT (incident_id, lane) DO UPDATE SET message_id = excluded.message_id"
        " WHERE (SELECT channel FROM messages WHERE id = incident_messages.message_id) <> ?",
        [(lane, message_id, one, message.channel) for one in ids],
    )


def update_others(
    db: sqlite3.Connection, lane: str, ids: Sequence[int], message: Message | None, now: int
) -> None:
    """Let the messages that the incidents had before say how they are now, each once."""
    stale = db.execute(
        "SELECT messages.id, max(deliveries.id) FROM deliveries"
        " JOIN incident_messages ON incident_messages.incident_id = deliveries.incident_id"
        "   AND incident_messages.lane = deliveries.lane"
        " JOIN messages ON messages.id = incident_messages.message_id"
        " WHERE deliveries.id IN (SELECT value FROM json_each(?)) AND ts IS NOT ? GROUP BY messages.id",
        (json.dumps(ids), message and message.ts),
    ).fetchall()
    for message_id, number in stale:
        db.execute(
            "INSERT OR IGNORE INTO lanes (name, destination)"
            " SELECT ?, destination FROM deliveries WHERE id = ?",
            (lane + UPDATES, number),
        )
        db.execute(
            "INSERT INTO deliveries (change_id, incident_id, lane, destination, notification, created_at,"
            "  waiting_since, due_at, message_id)"
            " SELECT change_id, incident_id, ?, destination, notification, ?, ?, 0, ? FROM deliveries"
            # One that is on its way says how it was when it was claimed: it needs one more after it.
            " WHERE id = ? AND NOT EXISTS (SELECT 1 FROM deliveries JOIN lanes ON lanes.name = lane"
            "   WHERE lane = ? AND state = 'pending' AND message_id = ? AND holder IS NULL)",
            (lane + UPDATES, now, now, message_id, number, lane + UPDATES, message_id),
        )


def forget(db: sqlite3.Connection, lane: str, message: Message, now: int) -> None:
    """Let nobody answer to a message, or change it, that is not there any more."""
    row = db.execute("SELECT id FROM messages WHERE lane = ? AND ts = ?", (lane, message.ts)).fetchone()
    if row:
        db.execute("DELETE FROM incident_messages WHERE message_id = ?", row)
        db.execute(
            "UPDATE deliveries SET state = 'cancelled', ended_at = ?"
            " WHERE lane = ? AND state = 'pending' AND message_id = ?",
            (now, lane + UPDATES, *row),
        )
