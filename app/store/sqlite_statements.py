"""The SQL that changes the store, each function a part of one transaction on the connection given."""

import json
import sqlite3
from collections.abc import Sequence
from datetime import datetime, timedelta

from app.alerts.decide import Alert
from app.alerts.notification import Notification
from app.alerts.report import RUNS
from app.store.columns import alert_values, micros_or_none, time_or_none, to_micros
from app.store.sqlite_known import prune_known

PUT_LANE = "INSERT OR IGNORE INTO lanes (name, destination) VALUES (?, ?)"


def put_alert(db: sqlite3.Connection, alert: Alert, change_id: int, now: int) -> None:
    """Write an alert of the listener's own, beside a change that is stored; `now` in micros."""
    db.execute(PUT_LANE, (alert.lane, alert.destination))
    db.execute(
        "INSERT INTO deliveries"
        " (change_id, incident_id, lane, destination, notification, created_at, waiting_since, due_at,"
        "  repeat_after) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (change_id, *alert_values(alert, now)),
    )


def put_reminders(db: sqlite3.Connection, ids: Sequence[int], now: datetime) -> None:
    """Write the next reminder after each of these that is one, as long as its incident is open."""
    reminders = db.execute(
        "SELECT id FROM deliveries WHERE id IN (SELECT value FROM json_each(?)) AND repeat_after IS NOT NULL"
        " ORDER BY id",
        (json.dumps(ids),),
    ).fetchall()
    for (number,) in reminders:
        row = db.execute(
            "SELECT repeat_after, notification FROM deliveries AS told"
            " JOIN incidents ON incidents.id = incident_id"
            " WHERE told.id = ? AND resolved_at IS NULL AND NOT EXISTS ("
            "   SELECT 1 FROM deliveries WHERE incident_id = told.incident_id AND lane = told.lane"
            "   AND state = 'pending' AND repeat_after IS NOT NULL)",
            (number,),
        ).fetchone()
        if row is None:
            continue
        due_at = now + timedelta(microseconds=row[0])
        again = Notification.model_validate_json(row[1]).model_copy(update={"at": due_at})
        db.execute(
            "INSERT INTO deliveries (change_id, incident_id, lane, destination, notification, created_at,"
            "  waiting_since, due_at, repeat_after)"
            " SELECT change_id, incident_id, lane, destination, ?, ?, ?, ?, repeat_after"
            " FROM deliveries WHERE id = ?",
            (again.model_dump_json(), to_micros(now), to_micros(due_at), to_micros(due_at), number),
        )


def last_at(db: sqlite3.Connection, blueprint: str, entity: str) -> datetime | None:
    """Return when the newest change of an entity that was seen happened."""
    (micros,) = db.execute(
        "SELECT max(at) FROM changes WHERE blueprint = ? AND entity = ?", (blueprint, entity)
    ).fetchone()
    return time_or_none(micros)


def retry(
    db: sqlite3.Connection,
    now: datetime,
    ids: Sequence[int] | None,
    rule: str | None,
    destination: str | None,
    since: datetime | None,
) -> int:
    """Make deliveries pending and their lanes due; return how many."""
    where, chosen = (
        ("state = 'dead'", [])
        if ids is None
        else (f"state IN ('pending', 'dead') AND id IN ({', '.join('?' * len(ids))})", list[object](ids))
    )
    for condition, value in (
        ("notification ->> 'rule' = ?", rule),
        ("destination = ?", destination),
        ("ended_at >= ?", micros_or_none(since)),
    ):
        if value is not None:
            where += f" AND {condition}"
            chosen.append(value)
    lanes = db.execute(
        "UPDATE deliveries SET state = 'pending', ended_at = NULL, due_at = min(due_at, ?), waiting_since = ?"
        f" WHERE {where} RETURNING lane",
        (to_micros(now), to_micros(now), *chosen),
    ).fetchall()
    db.executemany("UPDATE lanes SET next_at = ? WHERE name = ?", {(to_micros(now), *lane) for lane in lanes})
    return len(lanes)


def unhold(db: sqlite3.Connection, destination: str, now: datetime) -> int:
    """Let the lanes of a destination that are held send at once; return how many there were."""
    micros = to_micros(now)
    names = db.execute(
        "UPDATE lanes SET held = NULL, failures = 0, next_at = ? WHERE destination = ? AND held IS NOT NULL"
        " RETURNING name",
        (micros, destination),
    ).fetchall()
    db.executemany(
        "UPDATE deliveries SET waiting_since = ? WHERE lane = ? AND state = 'pending'",
        [(micros, *name) for name in names],
    )
    return len(names)


def prune(db: sqlite3.Connection, before: int, limit: int) -> int:
    """Delete what is older than `before`, micros, and neither pending nor open; return how many rows.

    Of each table no more than `limit` rows, found by an index: nobody waits long for this transaction.
    """
    changes = (
        "DELETE FROM changes WHERE id IN (SELECT id FROM changes WHERE received_at < ? AND NOT EXISTS ("
        "  SELECT 1 FROM deliveries LEFT JOIN silences ON silences.id = silence_id"
        "  WHERE change_id = changes.id AND (state = 'pending' OR (state = 'silenced' AND NOT settled)))"
        " LIMIT ?)"
    )
    incidents = "DELETE FROM incidents WHERE id IN (SELECT id FROM incidents WHERE resolved_at < ? LIMIT ?)"
    messages = (
        "DELETE FROM messages WHERE id IN (SELECT id FROM messages WHERE posted_at < ? AND NOT EXISTS ("
        "  SELECT 1 FROM incident_messages WHERE message_id = messages.id)"
        # A run's reports go with their change.
        f" AND (lane <> '{RUNS}' OR NOT EXISTS (SELECT 1 FROM deliveries WHERE message_id = messages.id))"
        " LIMIT ?)"
    )
    # The oldest by number: a time stands behind its body, which is long to read past, and has no index.
    oldest = "SELECT id FROM quarantine ORDER BY id LIMIT ?"
    quarantine = f"DELETE FROM quarantine WHERE received_at < ? AND id IN ({oldest})"
    db.execute("DELETE FROM silences WHERE settled AND ends_at < ?", (before,))
    prune_known(db, before, limit)
    return sum(
        db.execute(one, (before, limit)).rowcount for one in (changes, incidents, messages, quarantine)
    )
