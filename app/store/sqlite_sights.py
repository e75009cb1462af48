"""The SQL of what people look at besides changes: deliveries, incidents, counts, the quarantine."""

import json
import sqlite3
from collections.abc import Sequence
from datetime import datetime
from itertools import takewhile
from typing import Any

from app.alerts.notification import Notification
from app.alerts.report import RUNS
from app.store.columns import to_micros
from app.store.rows import State
from app.store.view_rows import (
    FIRST_BYTES,
    INCIDENTS,
    QUARANTINE,
    WORST,
    attempt_row_of,
    deliveries_page,
    delivery_row_of,
    incident_row_of,
    incidents_page,
    news_in,
    number_of,
    quarantine_page,
    quarantine_row_of,
    start_of_deliveries,
    start_of_incidents,
)
from app.store.views import AttemptRow, Counts, DeliveryRow, IncidentRow, Page, QuarantineRow

DELIVERIES = (
    "SELECT deliveries.id, changes.key, lane, deliveries.destination, deliveries.state, held,"
    "  notification, created_at, ended_at, max(next_at, due_at),"
    "  (SELECT count(*) FROM attempts WHERE delivery_id = deliveries.id),"
    "  (SELECT detail FROM attempts WHERE delivery_id = deliveries.id ORDER BY id DESC LIMIT 1),"
    "  change_id, incident_id"
    " FROM deliveries JOIN lanes ON lanes.name = lane JOIN changes ON changes.id = change_id"
)


def deliveries(
    db: sqlite3.Connection, state: State | None, before: str | None, limit: int
) -> Page[DeliveryRow]:
    """Return deliveries, those of the newest change first."""
    change, delivery = start_of_deliveries(before)
    values: dict[str, Any] = {"change": change, "delivery": delivery, "limit": limit + 1}
    # A change of a message is not an alert, but one that failed must be seen.
    where = ["(change_id, deliveries.id) < (:change, :delivery)"]
    where.append("(message_id IS NULL OR deliveries.state = 'dead')")
    if state is not None:
        where.append("deliveries.state = :state")
        values["state"] = State.PENDING if state is State.HELD else state
        if state in (State.HELD, State.PENDING):
            where.append(f"held IS {'NOT NULL' if state is State.HELD else 'NULL'}")
    rows = db.execute(
        f"{DELIVERIES} WHERE {' AND '.join(where)} ORDER BY change_id DESC, deliveries.id DESC LIMIT :limit",
        values,
    ).fetchall()
    return deliveries_page(rows, limit)


def deliveries_of(db: sqlite3.Connection, changes: Sequence[int]) -> list[DeliveryRow]:
    """Return the deliveries of changes, oldest first."""
    rows = db.execute(
        f"{DELIVERIES} WHERE change_id IN (SELECT value FROM json_each(?))"
        f" AND (message_id IS NULL OR deliveries.state = 'dead' OR deliveries.destination = '{RUNS}')"
        " ORDER BY deliveries.id LIMIT 1000",
        (json.dumps(list(changes)),),
    )
    return [delivery_row_of(*row) for row in rows]


def delivery(db: sqlite3.Connection, number: int) -> DeliveryRow | None:
    """Return one delivery."""
    row = db.execute(f"{DELIVERIES} WHERE deliveries.id = ?", (number,)).fetchone()
    return delivery_row_of(*row) if row else None


def attempts(db: sqlite3.Connection, numbers: Sequence[int]) -> list[AttemptRow]:
    """Return every attempt of deliveries, oldest first."""
    rows = db.execute(
        "SELECT delivery_id, outcome, detail, started_at, ended_at FROM attempts"
        " WHERE delivery_id IN (SELECT value FROM json_each(?)) ORDER BY id LIMIT 5000",
        (json.dumps(list(numbers)),),
    )
    return [attempt_row_of(*row) for row in rows]


def worst(db: sqlite3.Connection, limit: int) -> list[IncidentRow]:
    """Return open incidents: the worst first, of those the oldest."""
    rows = db.execute(f"{INCIDENTS} WHERE resolved_at IS NULL ORDER BY {WORST} LIMIT ?", (limit,))
    return [incident_row_of(*row) for row in rows]


def incident(db: sqlite3.Connection, name: str) -> IncidentRow | None:
    """Return one incident."""
    row = db.execute(f"{INCIDENTS} WHERE id = ?", (name,)).fetchone()
    return incident_row_of(*row) if row else None


def incidents(
    db: sqlite3.Connection,
    is_open: bool | None,
    of: tuple[str, str] | None,
    since: datetime | None,
    before: str | None,
    limit: int,
) -> Page[IncidentRow]:
    """Return incidents, those that opened last first; `of` a blueprint's entity."""
    opened_at, name = start_of_incidents(before)
    values: dict[str, Any] = {
        "opened_at": opened_at,
        "name": name,
        "limit": limit + 1,
        "since": None if since is None else to_micros(since),
    }
    where = ["(opened_at, id) < (:opened_at, :name)"]
    if is_open is not None:
        where.append(f"resolved_at IS {'NULL' if is_open else 'NOT NULL'}")
    if since is not None:
        where.append("(resolved_at IS NULL OR resolved_at >= :since)")
    if of is not None:
        where.append("blueprint = :blueprint AND entity = :entity")
        values["blueprint"], values["entity"] = of
    rows = db.execute(
        f"{INCIDENTS} WHERE {' AND '.join(where)} ORDER BY opened_at DESC, id DESC LIMIT :limit", values
    ).fetchall()
    return incidents_page(rows, limit)


def told_since(db: sqlite3.Connection, since: int, limit: int) -> list[Notification]:
    """Return what was decided to be told since then, micros, once for each change and rule, oldest first."""
    rows = db.execute(
        "SELECT created_at, change_id, notification FROM deliveries ORDER BY id DESC LIMIT ?", (limit,)
    )
    return news_in(others for created_at, *others in takewhile(lambda row: row[0] >= since, rows))


def counts(db: sqlite3.Connection, since: int) -> Counts:
    """Return counts of the time since then, micros; a change of a message is no alert."""
    ended = db.execute(
        "SELECT state, count(*) FROM deliveries INDEXED BY deliveries_by_end"
        " WHERE ended_at >= ? AND message_id IS NULL GROUP BY state",
        (since,),
    ).fetchall()
    return Counts(
        _one(db, "SELECT count(*) FROM changes WHERE received_at >= ?", since),
        dict.fromkeys(State, 0) | {State(state): number for state, number in ended},
        _one(db, "SELECT count(*) FROM deliveries WHERE state = 'pending' AND message_id IS NULL"),
        _one(db, "SELECT count(*) FROM deliveries WHERE state = 'dead'"),
        _one(db, "SELECT count(*) FROM incidents WHERE resolved_at IS NULL"),
        _one(db, "SELECT count(*) FROM quarantine"),
    )


def _one(db: sqlite3.Connection, query: str, *values: Any) -> int:
    number: int = db.execute(query, values).fetchone()[0]
    return number


def quarantine(db: sqlite3.Connection, before: str | None, limit: int) -> Page[QuarantineRow]:
    """Return what is in quarantine, each body cut, newest first."""
    rows = db.execute(
        f"SELECT id, coalesce(substr(body, 1, ?), x''), {QUARANTINE} WHERE id < ? ORDER BY id DESC LIMIT ?",
        (FIRST_BYTES, number_of(before), limit + 1),
    ).fetchall()
    return quarantine_page(rows, limit)


def quarantined(db: sqlite3.Connection, number: int) -> QuarantineRow | None:
    """Return one body that is in quarantine, whole."""
    row = db.execute(f"SELECT id, body, {QUARANTINE} WHERE id = ?", (number,)).fetchone()
    return quarantine_row_of(*row) if row else None
