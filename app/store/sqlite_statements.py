"""The SQL of the SQLite store, each function a part of one transaction on the connection that it is given."""

import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from app.alerts.incident import Incident
from app.alerts.notification import Notification
from app.alerts.retry import Outcome
from app.alerts.rules import EntityState
from app.store.base import Accepted, Attempt, Claim, Delivery, Incoming, State

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_micros(time: datetime) -> int:
    """Return a time as the store keeps it: whole microseconds since 1970."""
    return (time - EPOCH) // timedelta(microseconds=1)


def from_micros(micros: int) -> datetime:
    """Return a time that the store has kept."""
    return EPOCH + timedelta(microseconds=micros)


def _from_micros(micros: int | None) -> datetime | None:
    return None if micros is None else from_micros(micros)


def accept(db: sqlite3.Connection, incoming: Incoming) -> Accepted:
    """Write one change with what it leads to, or say that it was there."""
    change = incoming.change
    seen = db.execute("SELECT alerts FROM changes WHERE key = ?", (change.key,)).fetchone()
    if seen:
        return Accepted(change.key, seen[0], duplicate=True)
    decision = incoming.decide(_state(db, change.blueprint, change.entity))
    received_at = to_micros(incoming.received_at)
    change_id = db.execute(
        "INSERT INTO changes"
        " (key, received_at, at, action, resource, blueprint, entity, reason, alerts, body)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            change.key,
            received_at,
            to_micros(change.at),
            change.action,
            change.resource,
            change.blueprint,
            change.entity,
            decision.reason,
            len(decision.alerts),
            incoming.body,
        ),
    ).lastrowid
    for one in decision.incidents:
        db.execute(
            "INSERT INTO incidents (id, rule, blueprint, entity, state, opened_at, changed_at, resolved_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
            " state = excluded.state, changed_at = excluded.changed_at, resolved_at = excluded.resolved_at",
            (
                one.id,
                one.rule,
                one.blueprint,
                one.entity,
                one.state,
                to_micros(one.opened_at),
                to_micros(one.changed_at),
                None if one.resolved_at is None else to_micros(one.resolved_at),
            ),
        )
    for alert in decision.alerts:
        db.execute(
            "INSERT OR IGNORE INTO lanes (name, destination) VALUES (?, ?)", (alert.lane, alert.destination)
        )
        db.execute(
            "INSERT INTO deliveries"
            " (change_id, incident_id, lane, destination, notification, created_at, waiting_since)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                change_id,
                alert.incident_id,
                alert.lane,
                alert.destination,
                alert.notification.model_dump_json(),
                received_at,
                received_at,
            ),
        )
    return Accepted(change.key, len(decision.alerts), duplicate=False)


def _state(db: sqlite3.Connection, blueprint: str, entity: str) -> EntityState:
    (last_at,) = db.execute(
        "SELECT max(at) FROM changes WHERE blueprint = ? AND entity = ?", (blueprint, entity)
    ).fetchone()
    incidents = db.execute(
        "SELECT id, rule, state, opened_at, changed_at FROM incidents"
        " WHERE blueprint = ? AND entity = ? AND resolved_at IS NULL",
        (blueprint, entity),
    )
    return EntityState(
        _from_micros(last_at),
        tuple(
            Incident(id_, rule, blueprint, entity, state, from_micros(opened_at), from_micros(changed_at))
            for id_, rule, state, opened_at, changed_at in incidents
        ),
    )


def claim(
    db: sqlite3.Connection, token: str, now: datetime, lease_until: datetime, limit: int
) -> list[Claim]:
    """Take the lease of lanes that are due, and return each with the delivery at its head."""
    lanes = db.execute(
        "UPDATE lanes SET holder = :token, lease_until = :lease_until WHERE name IN ("
        "  SELECT name FROM lanes WHERE next_at <= :now AND lease_until <= :now AND EXISTS ("
        "    SELECT 1 FROM deliveries WHERE lane = name AND state = 'pending')"
        "  ORDER BY next_at LIMIT :limit)"
        " RETURNING name, failures, held",
        {"token": token, "lease_until": to_micros(lease_until), "now": to_micros(now), "limit": limit},
    ).fetchall()
    claims = []
    for name, failures, held in lanes:
        id_, destination, notification, waiting_since = db.execute(
            "SELECT id, destination, notification, waiting_since FROM deliveries"
            " WHERE lane = ? AND state = 'pending' ORDER BY id LIMIT 1",
            (name,),
        ).fetchone()
        claims.append(
            Claim(
                lane=name,
                token=token,
                lease_until=lease_until,
                failures=failures,
                held=held is not None,
                delivery_id=id_,
                destination=destination,
                notification=Notification.model_validate_json(notification),
                waiting_since=from_micros(waiting_since),
            )
        )
    return claims


def record(db: sqlite3.Connection, claim: Claim, attempt: Attempt) -> bool:
    """Write an attempt and give the lease back; False, and nothing written, if it is ours no more."""
    held = attempt.outcome is Outcome.HELD
    ours = db.execute(
        "UPDATE lanes SET next_at = ?, failures = ?, held = ?, holder = NULL, lease_until = 0"
        " WHERE name = ? AND holder = ?",
        (
            to_micros(attempt.next_at),
            attempt.failures,
            attempt.detail if held else None,
            claim.lane,
            claim.token,
        ),
    ).rowcount
    if not ours:
        return False
    ended_at = to_micros(attempt.ended_at)
    db.execute(
        "INSERT INTO attempts (delivery_id, outcome, detail, started_at, ended_at) VALUES (?, ?, ?, ?, ?)",
        (claim.delivery_id, attempt.outcome, attempt.detail, to_micros(attempt.started_at), ended_at),
    )
    if attempt.outcome in (Outcome.DELIVERED, Outcome.DEAD):
        db.execute(
            "UPDATE deliveries SET state = ?, ended_at = ? WHERE id = ?",
            (attempt.outcome, ended_at, claim.delivery_id),
        )
    if claim.held and not held:
        # While the lane was held, none of these could have gone out: that time does not use up patience.
        db.execute(
            "UPDATE deliveries SET waiting_since = ? WHERE lane = ? AND state = 'pending'",
            (ended_at, claim.lane),
        )
    return True


def retry(db: sqlite3.Connection, now: datetime, ids: Sequence[int] | None) -> int:
    """Make deliveries pending and their lanes due; return how many."""
    where, chosen = (
        ("state = 'dead'", ())
        if ids is None
        else (f"state <> 'delivered' AND id IN ({', '.join('?' * len(ids))})", tuple(ids))
    )
    lanes = db.execute(
        "UPDATE deliveries SET state = 'pending', ended_at = NULL, waiting_since = ?"
        f" WHERE {where} RETURNING lane",
        (to_micros(now), *chosen),
    ).fetchall()
    db.executemany("UPDATE lanes SET next_at = ? WHERE name = ?", {(to_micros(now), *lane) for lane in lanes})
    return len(lanes)


def deliveries(db: sqlite3.Connection, state: State | None, limit: int) -> list[Delivery]:
    """Return deliveries, newest first."""
    where: dict[State | None, str] = {
        None: "true",
        State.PENDING: "deliveries.state = 'pending' AND held IS NULL",
        State.HELD: "deliveries.state = 'pending' AND held IS NOT NULL",
        State.DEAD: "deliveries.state = 'dead'",
        State.DELIVERED: "deliveries.state = 'delivered'",
    }
    rows = db.execute(
        "SELECT deliveries.id, changes.key, lane, deliveries.destination, deliveries.state, held,"
        "  notification, created_at, ended_at, next_at,"
        "  (SELECT count(*) FROM attempts WHERE delivery_id = deliveries.id),"
        "  (SELECT detail FROM attempts WHERE delivery_id = deliveries.id ORDER BY id DESC LIMIT 1)"
        " FROM deliveries JOIN lanes ON lanes.name = lane JOIN changes ON changes.id = change_id"
        f" WHERE {where[state]} ORDER BY deliveries.id DESC LIMIT ?",
        (limit,),
    )
    return [_delivery(*row) for row in rows]


def _delivery(
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
    waits = state == State.PENDING
    return Delivery(
        id=id_,
        change_key=key,
        lane=lane,
        destination=destination,
        state=State.HELD if waits and held is not None else State(state),
        notification=Notification.model_validate_json(notification),
        created_at=from_micros(created_at),
        ended_at=_from_micros(ended_at),
        attempts=attempts,
        detail=(held if waits and held is not None else detail) or "",
        next_at=from_micros(next_at) if waits else None,
    )


def prune(db: sqlite3.Connection, before: int, limit: int) -> int:
    """Delete what is older than `before`, micros, and neither pending nor open; return how many changes."""
    db.execute("DELETE FROM incidents WHERE resolved_at < ?", (before,))
    db.execute("DELETE FROM quarantine WHERE received_at < ?", (before,))
    return db.execute(
        "DELETE FROM changes WHERE id IN ("
        "  SELECT id FROM changes WHERE received_at < ? AND NOT EXISTS ("
        "    SELECT 1 FROM deliveries WHERE change_id = changes.id AND state = 'pending')"
        "  LIMIT ?)",
        (before, limit),
    ).rowcount
