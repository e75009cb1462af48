"""The SQL of reports: runs in Port that are told what became of the change which they brought.

A run is kept as a message that can be changed, and a report as a change of it. So what waits for one run goes
out as one, and nothing of it counts as an alert.

Each function is a part of one transaction on the connection given.
"""

import sqlite3
from collections.abc import Iterable

from app.alerts.incident import Step
from app.alerts.report import RUNS, Fate, Report
from app.store.columns import fate_of

ALERT = (
    "deliveries.message_id IS NULL AND deliveries.repeat_after IS NULL"
    f" AND deliveries.notification ->> 'step' <> '{Step.NOTICE}'"
)
"""What of a change's deliveries its run is told of: no reminder, and nothing said of another delivery."""
FIRST_OF_EACH_RUN = (
    "SELECT min(report.id) FROM deliveries AS report JOIN messages ON messages.id = report.message_id"
    " WHERE report.change_id = :change AND messages.lane = :runs GROUP BY messages.id"
)


def put(db: sqlite3.Connection, report: Report, change_id: int, now: int) -> None:
    """Write a report, unless the run has one of this change; `now` in micros."""
    where, run = (report.delivery.lane, report.delivery.destination), (RUNS, report.run)
    db.execute(
        "INSERT OR IGNORE INTO messages (lane, channel, ts, posted_at) VALUES (?, '', ?, ?)", (*run, now)
    )
    (message_id,) = db.execute("SELECT id FROM messages WHERE lane = ? AND ts = ?", run).fetchone()
    if db.execute(
        "SELECT 1 FROM deliveries WHERE change_id = ? AND +message_id = ?", (change_id, message_id)
    ).fetchone():
        return
    db.execute("INSERT OR IGNORE INTO lanes (name, destination) VALUES (?, ?)", where)
    said = report.delivery.notification.model_dump_json()
    db.execute(
        "INSERT INTO deliveries (change_id, lane, destination, notification, created_at, waiting_since,"
        "  due_at, message_id) VALUES (?, ?, ?, ?, ?, ?, 0, ?)",
        (change_id, *where, said, now, now, message_id),
    )


def tell(db: sqlite3.Connection, ended: Iterable[int], now: int) -> None:
    """Let runs hear of it that deliveries have ended, if nothing else of their changes waits any more."""
    if not db.execute("SELECT 1 FROM messages WHERE lane = ? LIMIT 1", (RUNS,)).fetchone():
        return  # nobody asks for reports
    changes = {
        change_id
        for number in ended
        for (change_id,) in db.execute(
            f"SELECT change_id FROM deliveries WHERE id = ? AND {ALERT}", (number,)
        )
    }
    for change_id in sorted(changes):
        if db.execute(
            f"SELECT 1 FROM deliveries WHERE change_id = ? AND +state = 'pending' AND {ALERT}", (change_id,)
        ).fetchone():
            continue
        db.execute(
            "INSERT INTO deliveries (change_id, lane, destination, notification, created_at, waiting_since,"
            "  due_at, message_id)"
            " SELECT change_id, lane, destination, notification, :now, :now, 0, message_id FROM deliveries"
            f" WHERE id IN ({FIRST_OF_EACH_RUN})",
            {"now": now, "change": change_id, "runs": RUNS},
        )


def fate(db: sqlite3.Connection, run: str) -> Fate | None:
    """Return what became of the change that a run has brought."""
    change = db.execute(
        "SELECT changes.id, received_at, reason, min(report.created_at),"
        "  count(*) FILTER (WHERE report.state = 'pending') FROM messages"
        " JOIN deliveries AS report ON report.message_id = messages.id"
        " JOIN changes ON changes.id = report.change_id"
        " WHERE messages.lane = ? AND ts = ? GROUP BY changes.id ORDER BY changes.id DESC LIMIT 1",
        (RUNS, run),
    ).fetchone()
    if change is None:
        return None
    change_id, *facts = change
    alerts = db.execute(
        "SELECT destination, state,"
        "  (SELECT detail FROM attempts WHERE delivery_id = deliveries.id ORDER BY id DESC LIMIT 1),"
        "  channel, ts"
        " FROM deliveries"
        " LEFT JOIN incident_messages ON incident_messages.incident_id = deliveries.incident_id"
        "   AND incident_messages.lane = deliveries.lane"
        # What belongs to no incident has no row there: its message was posted when it was told.
        " LEFT JOIN messages ON messages.id = coalesce(incident_messages.message_id, (SELECT posted.id"
        "   FROM messages AS posted WHERE posted_at = ended_at AND posted.lane = deliveries.lane))"
        f" WHERE change_id = ? AND {ALERT} ORDER BY deliveries.id",
        (change_id,),
    )
    return fate_of(facts, alerts)
