"""The SQL that changes the store, each function a part of one transaction on the connection given."""

import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from pydantic import ValidationError

from app.alerts.decide import EntityState
from app.alerts.incident import Incident
from app.alerts.notification import Notification
from app.alerts.retry import Outcome
from app.store.base import Accepted, Attempt, Claim, Incoming

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
UNREADABLE = "written by another release, which this one cannot read"
CLOCKS_DIFFER = timedelta(minutes=1)
"""A lease that ends so much later than one taken now would was taken before the clock was set back."""
CLOCK_SET_BACK = timedelta(minutes=75)
"""No lane rests longer than this, so that one that does has seen the clock set back: it is due."""


def to_micros(time: datetime) -> int:
    """Return a time as the store keeps it: whole microseconds since 1970."""
    return (time - EPOCH) // timedelta(microseconds=1)


def from_micros(micros: int) -> datetime:
    """Return a time that the store has kept."""
    return EPOCH + timedelta(microseconds=micros)


def _to_micros(time: datetime | None) -> int | None:
    return None if time is None else to_micros(time)


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
            "INSERT INTO incidents"
            " (id, rule, blueprint, entity, state, opened_at, changed_at, resolved_at, due_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
            " state = excluded.state, changed_at = excluded.changed_at, resolved_at = excluded.resolved_at",
            (
                one.id,
                one.rule,
                one.blueprint,
                one.entity,
                one.state,
                to_micros(one.opened_at),
                to_micros(one.changed_at),
                _to_micros(one.resolved_at),
                _to_micros(one.due_at),
            ),
        )
    for incident_id in decision.cancel:
        db.execute(
            "UPDATE deliveries SET state = 'cancelled', ended_at = ?"
            " WHERE incident_id = ? AND state = 'pending' AND (due_at > ? OR repeat_after IS NOT NULL)",
            (received_at, incident_id, received_at),
        )
    for alert in decision.alerts:
        due_at = _to_micros(alert.due_at) or 0
        db.execute(
            "INSERT OR IGNORE INTO lanes (name, destination) VALUES (?, ?)", (alert.lane, alert.destination)
        )
        db.execute(
            "INSERT INTO deliveries"
            " (change_id, incident_id, lane, destination, notification, created_at, waiting_since, due_at,"
            "  repeat_after) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                change_id,
                alert.incident_id,
                alert.lane,
                alert.destination,
                alert.notification.model_dump_json(),
                received_at,
                max(received_at, due_at),
                due_at,
                alert.repeat and alert.repeat // timedelta(microseconds=1),
            ),
        )
    return Accepted(change.key, len(decision.alerts), duplicate=False)


def last_at(db: sqlite3.Connection, blueprint: str, entity: str) -> datetime | None:
    """Return when the newest change of an entity that was seen happened."""
    (micros,) = db.execute(
        "SELECT max(at) FROM changes WHERE blueprint = ? AND entity = ?", (blueprint, entity)
    ).fetchone()
    return _from_micros(micros)


def _state(db: sqlite3.Connection, blueprint: str, entity: str) -> EntityState:
    incidents = db.execute(
        "SELECT id, rule, state, opened_at, changed_at, due_at FROM incidents"
        " WHERE blueprint = ? AND entity = ? AND resolved_at IS NULL",
        (blueprint, entity),
    )
    return EntityState(
        last_at(db, blueprint, entity),
        tuple(
            Incident(
                id=id_,
                rule=rule,
                blueprint=blueprint,
                entity=entity,
                state=state,
                opened_at=from_micros(opened_at),
                changed_at=from_micros(changed_at),
                due_at=_from_micros(due_at),
            )
            for id_, rule, state, opened_at, changed_at, due_at in incidents
        ),
    )


def claim(
    db: sqlite3.Connection, token: str, now: datetime, lease_until: datetime, limit: int
) -> list[Claim]:
    """Take the lease of lanes that are due, and return each with the delivery at its head."""
    lanes = db.execute(
        "UPDATE lanes SET holder = :token, lease_until = :lease_until WHERE name IN ("
        "  SELECT name FROM lanes WHERE (next_at <= :now OR next_at > :too_late)"
        "  AND (lease_until <= :now OR lease_until > :absurd_lease) AND EXISTS ("
        "    SELECT 1 FROM deliveries WHERE lane = name AND state = 'pending' AND due_at <= :now)"
        "  ORDER BY next_at LIMIT :limit)"
        " RETURNING name, failures, held",
        {
            "token": token,
            "lease_until": to_micros(lease_until),
            "now": to_micros(now),
            "too_late": to_micros(now + CLOCK_SET_BACK),
            "absurd_lease": to_micros(lease_until + CLOCKS_DIFFER),
            "limit": limit,
        },
    ).fetchall()
    heads = ((lane, _head(db, lane[0], now)) for lane in lanes)
    return [
        Claim(
            lane=name,
            token=token,
            lease_until=lease_until,
            failures=failures,
            held=held is not None,
            delivery_id=id_,
            change_key=key,
            destination=destination,
            notification=notification,
            body=body,
            waiting_since=from_micros(waiting_since),
        )
        for (name, failures, held), head in heads
        if head is not None
        for id_, key, destination, notification, body, waiting_since in [head]
    ]


def _head(
    db: sqlite3.Connection, lane: str, now: datetime
) -> tuple[int, str, str, Notification, bytes, int] | None:
    """Return what is at a lane's head; what cannot be read there is given up, or it would block the lane."""
    while True:
        row = db.execute(
            "SELECT deliveries.id, key, destination, notification, body, waiting_since"
            " FROM deliveries JOIN changes ON changes.id = change_id"
            " WHERE lane = ? AND state = 'pending' AND due_at <= ? ORDER BY deliveries.id LIMIT 1",
            (lane, to_micros(now)),
        ).fetchone()
        if row is None:
            db.execute("UPDATE lanes SET holder = NULL, lease_until = 0 WHERE name = ?", (lane,))
            return None
        id_, key, destination, text, body, waiting_since = row
        try:
            return id_, key, destination, Notification.model_validate_json(text), body, waiting_since
        except ValidationError:
            at = to_micros(now)
            db.execute(
                "INSERT INTO attempts (delivery_id, outcome, detail, started_at, ended_at)"
                " VALUES (?, 'dead', ?, ?, ?)",
                (id_, UNREADABLE, at, at),
            )
            db.execute("UPDATE deliveries SET state = 'dead', ended_at = ? WHERE id = ?", (at, id_))


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
    if attempt.outcome is Outcome.DELIVERED:
        _repeat(db, claim, attempt.ended_at)
    if claim.held and not held:
        # While the lane was held, none of these could have gone out: that time does not use up patience.
        db.execute(
            "UPDATE deliveries SET waiting_since = ? WHERE lane = ? AND state = 'pending'",
            (ended_at, claim.lane),
        )
    return True


def _repeat(db: sqlite3.Connection, claim: Claim, now: datetime) -> None:
    row = db.execute(
        "SELECT repeat_after FROM deliveries JOIN incidents ON incidents.id = incident_id"
        " WHERE deliveries.id = ? AND repeat_after IS NOT NULL AND resolved_at IS NULL",
        (claim.delivery_id,),
    ).fetchone()
    if row is None:
        return
    due_at = now + timedelta(microseconds=row[0])
    again = claim.notification.model_copy(update={"at": due_at})
    db.execute(
        "INSERT INTO deliveries (change_id, incident_id, lane, destination, notification, created_at,"
        "  waiting_since, due_at, repeat_after)"
        " SELECT change_id, incident_id, lane, destination, ?, ?, ?, ?, repeat_after"
        " FROM deliveries WHERE id = ?",
        (again.model_dump_json(), to_micros(now), to_micros(due_at), to_micros(due_at), claim.delivery_id),
    )


def retry(db: sqlite3.Connection, now: datetime, ids: Sequence[int] | None) -> int:
    """Make deliveries pending and their lanes due; return how many."""
    where, chosen = (
        ("state = 'dead'", ())
        if ids is None
        else (f"state IN ('pending', 'dead') AND id IN ({', '.join('?' * len(ids))})", tuple(ids))
    )
    lanes = db.execute(
        "UPDATE deliveries SET state = 'pending', ended_at = NULL, due_at = min(due_at, ?), waiting_since = ?"
        f" WHERE {where} RETURNING lane",
        (to_micros(now), to_micros(now), *chosen),
    ).fetchall()
    db.executemany("UPDATE lanes SET next_at = ? WHERE name = ?", {(to_micros(now), *lane) for lane in lanes})
    return len(lanes)


def prune(db: sqlite3.Connection, before: int, limit: int) -> int:
    """Delete what is older than `before`, micros, and neither pending nor open; return how many rows.

    Of each table no more than `limit` rows, found by an index: nobody waits long for this transaction.
    """
    changes = (
        "DELETE FROM changes WHERE id IN (SELECT id FROM changes WHERE received_at < ? AND NOT EXISTS ("
        "  SELECT 1 FROM deliveries WHERE change_id = changes.id AND state = 'pending') LIMIT ?)"
    )
    incidents = "DELETE FROM incidents WHERE id IN (SELECT id FROM incidents WHERE resolved_at < ? LIMIT ?)"
    # The oldest by number: a time stands behind its body, which is long to read past, and has no index.
    oldest = "SELECT id FROM quarantine ORDER BY id LIMIT ?"
    quarantine = f"DELETE FROM quarantine WHERE received_at < ? AND id IN ({oldest})"
    return sum(db.execute(one, (before, limit)).rowcount for one in (changes, incidents, quarantine))
