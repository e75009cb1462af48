"""The SQL that reads for people and for other programs."""

import sqlite3
from datetime import datetime

from pydantic import ValidationError

from app.alerts.incident import Step
from app.alerts.notification import Notification
from app.store.rows import Delivery, LaneState, State, StoredChange, Tally
from app.store.sqlite_lanes import UNREADABLE
from app.store.sqlite_statements import EPOCH, from_micros, to_micros

BODIES_AT_ONCE = 8 * 1024 * 1024


def deliveries(db: sqlite3.Connection, state: State | None, limit: int) -> list[Delivery]:
    """Return deliveries, newest first."""
    where: dict[State | None, str] = {
        None: "true",
        State.PENDING: "deliveries.state = 'pending' AND held IS NULL",
        State.HELD: "deliveries.state = 'pending' AND held IS NOT NULL",
        State.DEAD: "deliveries.state = 'dead'",
        State.DELIVERED: "deliveries.state = 'delivered'",
        State.CANCELLED: "deliveries.state = 'cancelled'",
        State.SILENCED: "deliveries.state = 'silenced'",
    }
    rows = db.execute(
        "SELECT deliveries.id, changes.key, lane, deliveries.destination, deliveries.state, held,"
        "  notification, created_at, ended_at, max(next_at, due_at),"
        "  (SELECT count(*) FROM attempts WHERE delivery_id = deliveries.id),"
        "  (SELECT detail FROM attempts WHERE delivery_id = deliveries.id ORDER BY id DESC LIMIT 1)"
        " FROM deliveries JOIN lanes ON lanes.name = lane JOIN changes ON changes.id = change_id"
        # A change of a message is not an alert, but one that failed must be seen.
        " WHERE (message_id IS NULL OR deliveries.state = 'dead')"
        f" AND {where[state]} ORDER BY deliveries.id DESC LIMIT ?",
        (limit,),
    )
    return [read_delivery(*row) for row in rows]


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
    return [
        LaneState(
            name=name,
            destination=destination,
            waiting=waiting,
            oldest_at=None if oldest_at is None else from_micros(oldest_at),
            held=held,
            failures=failures,
            next_at=from_micros(next_at),
            delivered_at=None if delivered_at is None else from_micros(delivered_at),
        )
        for name, destination, held, failures, next_at, waiting, oldest_at, delivered_at in rows
    ]


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


def read_delivery(
    id_: int,
    key: str,
    lane: str,
    destination: str,
    state: str,
    held: str | None,
    notification: str,
    created_at: int,
    ended_at: int | None,
    next_at: int,
    attempts: int,
    detail: str | None,
) -> Delivery:
    """Return a delivery as people look at it, from its columns; times in micros."""
    waits = state == State.PENDING
    return Delivery(
        id=id_,
        change_key=key,
        lane=lane,
        destination=destination,
        state=State.HELD if waits and held is not None else State(state),
        notification=_readable(notification),
        created_at=from_micros(created_at),
        ended_at=None if ended_at is None else from_micros(ended_at),
        attempts=attempts,
        detail=(held if waits and held is not None else detail) or "",
        next_at=from_micros(next_at) if waits else None,
    )


def _readable(text: str) -> Notification:
    try:
        return Notification.model_validate_json(text)
    except ValidationError:
        return Notification(
            step=Step.NOTICED, rule="", blueprint="", entity="?", title=UNREADABLE, change=None, at=EPOCH
        )


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
    for id_, key, received_at, at, *more in cursor:
        found.append(StoredChange(id_, key, from_micros(received_at), from_micros(at), *more))
        length += len(found[-1].body)
        if length > BODIES_AT_ONCE:
            break
    return found
