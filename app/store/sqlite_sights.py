"""The SQL of what people look at besides changes: deliveries, incidents, counts, the quarantine."""

import json
import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from app.alerts.incident import Incident, Step
from app.alerts.notification import Notification
from app.alerts.retry import Outcome
from app.store.columns import delivery_of, from_micros, to_micros
from app.store.rows import State
from app.store.sqlite_search import END, number_of
from app.store.views import AttemptRow, Counts, DeliveryRow, IncidentRow, Page, QuarantineRow

FIRST_BYTES = 2_000
DELIVERIES = (
    "SELECT deliveries.id, changes.key, lane, deliveries.destination, deliveries.state, held,"
    "  notification, created_at, ended_at, max(next_at, due_at),"
    "  (SELECT count(*) FROM attempts WHERE delivery_id = deliveries.id),"
    "  (SELECT detail FROM attempts WHERE delivery_id = deliveries.id ORDER BY id DESC LIMIT 1),"
    "  change_id, incident_id"
    " FROM deliveries JOIN lanes ON lanes.name = lane JOIN changes ON changes.id = change_id"
)
INCIDENTS = (
    "SELECT id, rule, blueprint, entity, state, opened_at, changed_at, resolved_at, due_at, severity, moves,"
    "  flapping, (SELECT notification FROM deliveries WHERE incident_id = incidents.id"
    "   ORDER BY deliveries.id DESC LIMIT 1)"
    " FROM incidents"
)


def deliveries(
    db: sqlite3.Connection, state: State | None, before: str | None, limit: int
) -> Page[DeliveryRow]:
    """Return deliveries, those of the newest change first."""
    change, _, delivery = (before or f"{END}.{END}").partition(".")
    values: dict[str, Any] = {
        "change": END if before is None else number_of(change),
        "delivery": END if before is None else number_of(delivery),
        "limit": limit + 1,
    }
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
    found = [_delivery(*row) for row in rows[:limit]]
    last = found[-1] if found else None
    more = last is not None and len(rows) > limit
    return Page(found, f"{last.change_id}.{last.delivery.id}" if last and more else None)


def deliveries_of(db: sqlite3.Connection, changes: Sequence[int]) -> list[DeliveryRow]:
    """Return the deliveries of changes, oldest first."""
    rows = db.execute(
        f"{DELIVERIES} WHERE change_id IN (SELECT value FROM json_each(?))"
        " AND (message_id IS NULL OR deliveries.state = 'dead') ORDER BY deliveries.id LIMIT 1000",
        (json.dumps(list(changes)),),
    )
    return [_delivery(*row) for row in rows]


def delivery(db: sqlite3.Connection, number: int) -> DeliveryRow | None:
    """Return one delivery."""
    row = db.execute(f"{DELIVERIES} WHERE deliveries.id = ?", (number,)).fetchone()
    return _delivery(*row) if row else None


def _delivery(*row: Any) -> DeliveryRow:
    *columns, change_id, incident_id = row
    return DeliveryRow(delivery_of(*columns), change_id, incident_id)


def attempts(db: sqlite3.Connection, numbers: Sequence[int]) -> list[AttemptRow]:
    """Return every attempt of deliveries, oldest first."""
    rows = db.execute(
        "SELECT delivery_id, outcome, detail, started_at, ended_at FROM attempts"
        " WHERE delivery_id IN (SELECT value FROM json_each(?)) ORDER BY id LIMIT 5000",
        (json.dumps(list(numbers)),),
    )
    return [
        AttemptRow(delivery_id, Outcome(outcome), detail, from_micros(started_at), from_micros(ended_at))
        for delivery_id, outcome, detail, started_at, ended_at in rows
    ]


def worst(db: sqlite3.Connection, limit: int) -> list[IncidentRow]:
    """Return open incidents: the worst first, of those the oldest."""
    rows = db.execute(
        f"{INCIDENTS} WHERE resolved_at IS NULL"
        " ORDER BY CASE severity WHEN 'critical' THEN 0 WHEN 'warning' THEN 1 ELSE 2 END, opened_at LIMIT ?",
        (limit,),
    )
    return [_incident(*row) for row in rows]


def incident(db: sqlite3.Connection, name: str) -> IncidentRow | None:
    """Return one incident."""
    row = db.execute(f"{INCIDENTS} WHERE id = ?", (name,)).fetchone()
    return _incident(*row) if row else None


def incidents(
    db: sqlite3.Connection,
    is_open: bool | None,
    of: tuple[str, str] | None,
    since: datetime | None,
    before: str | None,
    limit: int,
) -> Page[IncidentRow]:
    """Return incidents, those that opened last first; `of` a blueprint's entity."""
    opened_at, _, name = (before or str(END)).partition(".")
    values: dict[str, Any] = {
        "opened_at": END if before is None else number_of(opened_at),
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
    found = [_incident(*row) for row in rows[:limit]]
    last = found[-1].incident if found else None
    more = last is not None and len(rows) > limit
    return Page(found, f"{to_micros(last.opened_at)}.{last.id}" if last and more else None)


def _incident(*row: Any) -> IncidentRow:
    id_, rule, blueprint, entity, state, opened_at, changed_at, resolved_at, due_at, *others, text = row
    severity, moves, flapping = others
    found = Incident(
        id=id_,
        rule=rule,
        blueprint=blueprint,
        entity=entity,
        state=state,
        opened_at=from_micros(opened_at),
        changed_at=from_micros(changed_at),
        resolved_at=None if resolved_at is None else from_micros(resolved_at),
        due_at=None if due_at is None else from_micros(due_at),
        severity=severity,
        moves=tuple(map(from_micros, json.loads(moves))),
        flapping=bool(flapping),
    )
    return IncidentRow(found, _said(text))


def _said(text: str | None) -> Notification | None:
    if text is None:
        return None
    try:
        return Notification.model_validate_json(text)
    except ValidationError:  # written by another release
        return None


def told_since(db: sqlite3.Connection, since: int, limit: int) -> list[Notification]:
    """Return what was decided to be told since then, micros, once for each change and rule, oldest first."""
    found: dict[tuple[int, str], Notification] = {}
    rows = db.execute(
        "SELECT change_id, created_at, notification FROM deliveries ORDER BY id DESC LIMIT ?", (limit,)
    )
    for change_id, created_at, text in rows:
        if created_at < since:
            break
        said = _said(text)
        if said is None or said.step in (Step.REMINDED, Step.NOTICE):
            continue
        found.setdefault((change_id, said.rule), said)
    return sorted(found.values(), key=lambda one: one.at)


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


def quarantine(db: sqlite3.Connection, before: int, limit: int) -> list[QuarantineRow]:
    """Return what is in quarantine, each body cut, newest first."""
    rows = db.execute(
        "SELECT id, substr(body, 1, ?), length(body), signed_at, received_at, path, reason FROM quarantine"
        " WHERE id < ? ORDER BY id DESC LIMIT ?",
        (FIRST_BYTES, before, limit),
    )
    return [_quarantined(*row) for row in rows]


def quarantined(db: sqlite3.Connection, number: int) -> QuarantineRow | None:
    """Return one body that is in quarantine, whole."""
    row = db.execute(
        "SELECT id, body, length(body), signed_at, received_at, path, reason FROM quarantine WHERE id = ?",
        (number,),
    ).fetchone()
    return _quarantined(*row) if row else None


def _quarantined(
    id_: int, body: bytes, size: int, signed_at: int, received_at: int, path: str, reason: str
) -> QuarantineRow:
    return QuarantineRow(id_, body, size, from_micros(signed_at), from_micros(received_at), path, reason)
