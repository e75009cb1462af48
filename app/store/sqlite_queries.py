"""The SQL that reads deliveries for people."""

import sqlite3
from datetime import datetime

from app.store.columns import DELIVERIES_IN, delivery_of, lane_of, to_micros
from app.store.rows import Delivery, LaneState, State


def deliveries(db: sqlite3.Connection, state: State | None, limit: int) -> list[Delivery]:
    """Return deliveries, newest first."""
    rows = db.execute(
        "SELECT deliveries.id, changes.key, lane, deliveries.destination, deliveries.state, held,"
        "  notification, created_at, ended_at, max(next_at, due_at),"
        "  (SELECT count(*) FROM attempts WHERE delivery_id = deliveries.id),"
        "  (SELECT detail FROM attempts WHERE delivery_id = deliveries.id ORDER BY id DESC LIMIT 1)"
        " FROM deliveries JOIN lanes ON lanes.name = lane JOIN changes ON changes.id = change_id"
        # A change of a message is not an alert, but one that failed must be seen.
        " WHERE (message_id IS NULL OR deliveries.state = 'dead')"
        f" AND {DELIVERIES_IN[state]} ORDER BY deliveries.id DESC LIMIT ?",
        (limit,),
    )
    return [delivery_of(*row) for row in rows]


def lanes(db: sqlite3.Connection, now: datetime) -> list[LaneState]:
    """Return how every lane is, by name."""
    rows = db.execute(
        "SELECT name, destination, held, failures, next_at,"
        "  (SELECT count(*) FROM deliveries WHERE lane = name AND state = 'pending' AND due_at <= :now),"
        "  (SELECT waiting_since FROM deliveries WHERE lane = name AND state = 'pending' AND due_at <= :now"
        "   ORDER BY id LIMIT 1),"
        "  delivered_at FROM lanes ORDER BY name",
        {"now": to_micros(now)},
    )
    return [lane_of(*row) for row in rows]
