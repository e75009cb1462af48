"""The SQL that reads for people and for other programs."""

import sqlite3
from datetime import datetime

from app.store.columns import BODIES_AT_ONCE, DELIVERIES_IN, change_of, delivery_of, lane_of, to_micros
from app.store.rows import Delivery, LaneState, State, StoredChange, Tally


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


def tally(db: sqlite3.Connection, now: datetime) -> Tally:
    """Return the numbers that are watched; each has an index that holds little else."""
    open_ = db.execute(
        "SELECT rule, severity, count(*) FROM incidents WHERE resolved_at IS NULL GROUP BY rule, severity"
    )
    numbers = db.execute(
        "SELECT (SELECT count(*) FROM deliveries WHERE state = 'dead'),"
        " (SELECT count(*) FROM silences WHERE starts_at <= :now AND ends_at > :now AND NOT settled),"
        " (SELECT max(version) FROM schema_version)",
        {"now": to_micros(now)},
    )
    incidents = {(rule, severity): number for rule, severity, number in open_}
    return Tally(incidents, *numbers.fetchone())


def changes(
    db: sqlite3.Connection, since: datetime, blueprint: str | None, after: StoredChange | None, limit: int
) -> list[StoredChange]:
    """Return changes in the order in which they arrived; see `Store.changes`."""
    start = (to_micros(since), 0) if after is None else (to_micros(after.received_at), after.id)
    # The plus keeps SQLite from the index by entity, with which it would sort all there is for each page.
    of_blueprint = "" if blueprint is None else " AND +blueprint = ?"
    cursor = db.execute(
        "SELECT id, key, received_at, at, action, resource, blueprint, entity, reason, alerts, body"
        f" FROM changes WHERE (received_at, id) > (?, ?){of_blueprint} ORDER BY received_at, id LIMIT ?",
        (*start, *(() if blueprint is None else (blueprint,)), limit),
    )
    found: list[StoredChange] = []
    length = 0
    for row in cursor:
        found.append(change_of(*row))
        length += len(found[-1].body)
        if length > BODIES_AT_ONCE:
            break
    return found
