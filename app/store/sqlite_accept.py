"""The SQL that stores changes, a group of them in one transaction: each statement for all of them in turn."""

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from app.alerts.decide import MEMORY
from app.store import sqlite_runs as runs
from app.store.columns import alert_values, change_values, incident_of, incident_values, to_micros
from app.store.group import Entity, Group
from app.store.rows import Accepted, Incoming
from app.store.sqlite_known import find_known, put_known
from app.store.sqlite_statements import PUT_LANE, last_at


def accept(db: sqlite3.Connection, batch: Sequence[Incoming]) -> list[Accepted]:
    """Write changes with what they lead to, or say which were there."""
    rows = db.execute(
        "SELECT key, alerts, id FROM changes WHERE key IN (SELECT value FROM json_each(?))",
        (json.dumps([one.change.key for one in batch]),),
    ).fetchall()
    ids = {key: number for key, _, number in rows}
    group = _look_up(db, [one for one in batch if one.change.key not in ids])
    accepted = group.take([(_entity(one), one) for one in batch], {key: alerts for key, alerts, _ in rows})
    _write(db, group, ids)
    for one in batch:
        if one.report and one.change.key in ids:
            runs.put(db, one.report, ids[one.change.key], to_micros(one.received_at))
    return accepted


def _entity(incoming: Incoming) -> Entity:
    return incoming.change.blueprint, incoming.change.entity


def _look_up(db: sqlite3.Connection, batch: Sequence[Incoming]) -> Group:
    """Return what the decisions rest on."""
    group = Group()
    since: dict[Entity, int] = {}
    for one in batch:
        at = to_micros(one.change.at - MEMORY)
        entity = _entity(one)
        since[entity] = min(at, since.get(entity, at))
    for entity, at in since.items():
        incidents = db.execute(
            "SELECT id, rule, state, opened_at, changed_at, resolved_at, due_at, severity, moves, flapping"
            " FROM incidents WHERE blueprint = ? AND entity = ?"
            " AND (resolved_at IS NULL OR resolved_at >= ?)",
            (*entity, at),
        )
        group.incidents[entity] = {row[0]: incident_of(*entity, *row) for row in incidents}
    for entity in since:
        group.last_at[entity] = last_at(db, *entity)
    for entity in {_entity(one) for one in batch if one.watched}:
        if known := find_known(db, *entity):
            group.known[entity] = known
    return group


def _write(db: sqlite3.Connection, group: Group, ids: dict[str, int]) -> None:
    """Write all that a group of changes leads to, and add the numbers that they get."""
    for incoming, decision in group.changes:
        number = db.execute(
            "INSERT INTO changes (key, received_at, at, action, resource, blueprint, entity, teams, reason,"
            "  alerts, body, traceparent) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            change_values(incoming, decision),
        ).lastrowid
        ids[incoming.change.key] = number or 0
    if group.new:
        db.executemany("INSERT OR IGNORE INTO entities (blueprint, entity) VALUES (?, ?)", group.new)
    if group.moved:
        _put_incidents(db, group)
    cancelled: list[int] = []
    for incident_id, now in group.cancelled.items():
        ended = db.execute(
            # The first condition in the words of the index, which is named: SQLite would rather look through
            # all that is pending.
            "UPDATE deliveries INDEXED BY later_deliveries SET state = 'cancelled', ended_at = :now"
            " WHERE incident_id = :incident AND state = 'pending'"
            " AND (due_at > 0 OR repeat_after IS NOT NULL) AND (due_at > :now OR repeat_after IS NOT NULL)"
            " RETURNING id",
            {"now": now, "incident": incident_id},
        )
        cancelled += (number for (number,) in ended)
    if group.alerts:
        _put_alerts(db, group, ids)
    if cancelled:
        runs.tell(db, cancelled, max(group.cancelled.values()))
    for entity, known in group.learned.items():
        put_known(db, *entity, known)


def _put_incidents(db: sqlite3.Connection, group: Group) -> None:
    db.executemany(
        "INSERT INTO incidents (id, rule, blueprint, entity, state, opened_at, changed_at, resolved_at,"
        "  due_at, severity, moves, flapping) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET state = excluded.state, opened_at = excluded.opened_at,"
        "  changed_at = excluded.changed_at, resolved_at = excluded.resolved_at, due_at = excluded.due_at,"
        "  severity = excluded.severity, moves = excluded.moves, flapping = excluded.flapping",
        [incident_values(one) for one in group.moves],
    )


def _put_alerts(db: sqlite3.Connection, group: Group, ids: dict[str, int]) -> None:
    db.executemany(PUT_LANE, {(alert.lane, alert.destination) for _, alert, _ in group.alerts})
    rows: list[tuple[Any, ...]] = []
    for place, (key, alert, now) in enumerate(group.alerts):
        ended_at = group.ended.get(place)
        state = "pending" if ended_at is None else "cancelled"
        rows.append((ids[key], *alert_values(alert, now), state, ended_at))
    db.executemany(
        "INSERT INTO deliveries (change_id, incident_id, lane, destination, notification, created_at,"
        "  waiting_since, due_at, repeat_after, state, ended_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        rows,
    )
