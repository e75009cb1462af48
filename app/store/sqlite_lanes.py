"""The SQL of delivery: lanes are claimed, and what came of it is recorded.

Each function is a part of one transaction on the connection given.
"""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from app.alerts.retry import Outcome
from app.store import sqlite_messages as messages
from app.store import sqlite_runs as runs
from app.store import sqlite_silences as silences
from app.store.base import CLAIMED_AT_MOST
from app.store.columns import (
    CLOCK_SET_BACK,
    CLOCKS_DIFFER,
    UNREADABLE,
    UPDATES,
    from_micros,
    to_micros,
    waiting_of,
)
from app.store.rows import Attempt, Claim, Waiting
from app.store.sqlite_statements import put_alert, put_reminders

WAITING = (
    "SELECT deliveries.id, key, notification, waiting_since, messages.channel, messages.ts, traceparent"
    " FROM deliveries JOIN changes ON changes.id = change_id"
    " LEFT JOIN incident_messages ON incident_messages.incident_id = deliveries.incident_id"
    "   AND incident_messages.lane = deliveries.lane"
    " LEFT JOIN messages ON messages.id = incident_messages.message_id"
    " WHERE deliveries.lane = :lane AND state = 'pending' AND due_at <= :now"
    "   AND destination = :destination AND deliveries.message_id IS :message_id AND deliveries.id > :after"
    " ORDER BY deliveries.id LIMIT :limit"
)


def claim(
    db: sqlite3.Connection,
    token: str,
    now: datetime,
    lease_until: datetime,
    limit: int,
    at_once: Mapping[str, int],
) -> list[Claim]:
    """Take the lease of lanes that are due, and return each with what waits in it."""
    silences.settle(db, now)
    lanes = db.execute(
        "SELECT name, failures, held, holder, lease_until, unsure_since FROM lanes"
        " WHERE (next_at <= :now OR next_at > :too_late)"
        " AND (lease_until <= :now OR lease_until > :absurd_lease) AND EXISTS ("
        "   SELECT 1 FROM deliveries WHERE lane = name AND state = 'pending' AND due_at <= :now)"
        " ORDER BY next_at LIMIT :limit",
        {
            "now": to_micros(now),
            "too_late": to_micros(now + CLOCK_SET_BACK),
            "absurd_lease": to_micros(lease_until + CLOCKS_DIFFER),
            "limit": limit,
        },
    ).fetchall()
    if not lanes:
        return []
    active = tuple(silences.select(db, active_at=now))
    claims = []
    for name, failures, held, holder, lapsed_at, unsure_since in lanes:
        if holder is not None:  # whoever held it last may have sent, and could not say so
            claimed_at = lapsed_at - to_micros(lease_until) + to_micros(now)
            unsure_since = min(unsure_since or claimed_at, claimed_at)  # noqa: PLW2901
        db.execute(
            "UPDATE lanes SET holder = ?, lease_until = ?, unsure_since = ? WHERE name = ?",
            (token, to_micros(lease_until), unsure_since, name),
        )
        waiting = _waiting_in(db, name, now, at_once)
        if waiting is None:
            db.execute("UPDATE lanes SET holder = NULL, lease_until = 0 WHERE name = ?", (name,))
            continue
        claims.append(
            Claim(
                lane=name,
                token=token,
                claimed_at=now,
                lease_until=lease_until,
                failures=failures,
                held=held is not None,
                unsure_since=None if unsure_since is None else from_micros(unsure_since),
                silences=active,
                **waiting,
            )
        )
    return claims


def _waiting_in(
    db: sqlite3.Connection, lane: str, now: datetime, at_once: Mapping[str, int]
) -> dict[str, Any] | None:
    """Return what waits in a lane, as `Claim` has it; what cannot be read is given up, or it would block."""
    while True:
        # What waits for a destination that is not there any more must not block the others of its lane.
        head = _head(db, lane, now, tuple(at_once)) or _head(db, lane, now, None)
        if head is None:
            return None
        destination, body, message_id = head
        limit = at_once.get(destination, 1)
        if message_id is None:
            limit = min(limit, CLAIMED_AT_MOST)
        rows = _rows(db, lane, destination, now, message_id=message_id, limit=limit)
        readable = [one for one in (_readable(db, row, now) for row in rows) if one]
        if not readable:
            continue
        waiting = len(readable)
        if len(rows) == limit > 1:
            (waiting,) = db.execute(
                "SELECT count(*) FROM deliveries WHERE lane = ? AND state = 'pending' AND due_at <= ?"
                " AND destination = ? AND message_id IS ?",
                (lane, to_micros(now), destination, message_id),
            ).fetchone()
        if len(readable) < len(rows):
            key = readable[0].change_key
            (body,) = db.execute("SELECT body FROM changes WHERE key = ?", (key,)).fetchone()
        found = {
            "destination": destination,
            "deliveries": tuple(readable),
            "waiting": waiting,
            "body": body,
        }
        return found if message_id is None else found | messages.told_by(db, message_id)


def _head(db: sqlite3.Connection, lane: str, now: datetime, known: Sequence[str] | None) -> Any:
    return db.execute(
        "SELECT destination, body, message_id FROM deliveries JOIN changes ON changes.id = change_id"
        " WHERE lane = :lane AND state = 'pending' AND due_at <= :now"
        " AND (:known IS NULL OR destination IN (SELECT value FROM json_each(:known)))"
        " ORDER BY deliveries.id LIMIT 1",
        {"lane": lane, "now": to_micros(now), "known": None if known is None else json.dumps(known)},
    ).fetchone()


def _rows(
    db: sqlite3.Connection,
    lane: str,
    destination: str,
    now: datetime,
    *,
    message_id: int | None,
    limit: int,
    after: int = 0,
) -> list[Any]:
    values = {
        "lane": lane,
        "now": to_micros(now),
        "destination": destination,
        "message_id": message_id,
        "after": after,
        "limit": limit,
    }
    return db.execute(WAITING, values).fetchall()


def more(db: sqlite3.Connection, claim: Claim, now: datetime, after: int, limit: int) -> list[Waiting]:
    """Return what else waits in a claimed lane; what cannot be read is left for later."""
    rows = _rows(db, claim.lane, claim.destination, now, message_id=None, limit=limit, after=after)
    found = []
    for row in rows:
        try:
            found.append(waiting_of(*row))
        except ValidationError:
            continue
    return found


def _readable(db: sqlite3.Connection, row: Sequence[Any], now: datetime) -> Waiting | None:
    try:
        return waiting_of(*row)
    except ValidationError:
        _put_attempts(db, [row[0]], Outcome.DEAD, UNREADABLE, to_micros(now), to_micros(now))
        runs.tell(db, [row[0]], to_micros(now))
        return None


def record(db: sqlite3.Connection, claim: Claim, attempt: Attempt) -> bool:
    """Write an attempt and give the lease back; False, and nothing written, if it is ours no more."""
    held = attempt.outcome is Outcome.HELD
    if not (_rest(db, claim, attempt) if attempt.outcome is not Outcome.SILENCED else release(db, claim)):
        return False
    started_at, ended_at = to_micros(attempt.started_at), to_micros(attempt.ended_at)
    told = [one.id for one in claim.deliveries] if attempt.told is None else attempt.told
    _put_attempts(db, told, attempt.outcome, attempt.detail, started_at, ended_at)
    ended = silences.ended_among(db, {one.silence_id for one in attempt.asides.values() if one.silence_id})
    for number, aside in attempt.asides.items():
        if aside.silence_id in ended:
            continue  # it waits, and goes out with what is next
        _put_attempts(db, [number], aside.outcome, aside.detail, started_at, ended_at)
        db.execute("UPDATE deliveries SET silence_id = ? WHERE id = ?", (aside.silence_id, number))
    if attempt.gone:
        messages.forget(db, claim.lane.removesuffix(UPDATES), attempt.gone, ended_at)
    if claim.message is None:
        if attempt.outcome in (Outcome.DELIVERED, Outcome.DEAD):
            put_reminders(db, told, attempt.ended_at)
        if attempt.outcome is Outcome.DELIVERED:
            messages.keep(db, claim.lane, told, attempt.message, ended_at)
            messages.update_others(db, claim.lane, told, attempt.message, ended_at)
        messages.update_others(db, claim.lane, list(attempt.asides), None, ended_at)
        runs.tell(db, [*told, *attempt.asides], ended_at)
    if claim.held and not held and attempt.outcome is not Outcome.SILENCED:
        # While the lane was held, none of these could have gone out: that time does not use up patience.
        db.execute(
            "UPDATE deliveries SET waiting_since = ? WHERE lane = ? AND state = 'pending'",
            (ended_at, claim.lane),
        )
    if attempt.notice and not claim.held:
        _tell(db, claim, attempt, ended_at)
    return True


def release(db: sqlite3.Connection, claim: Claim, *, unsure: bool = False) -> bool:
    """Give a lease back, and leave the lane as it is; False if it is ours no more."""
    changed = db.execute(
        "UPDATE lanes SET holder = NULL, lease_until = 0, unsure_since = coalesce(unsure_since, ?)"
        " WHERE name = ? AND holder = ?",
        (to_micros(claim.claimed_at) if unsure else None, claim.lane, claim.token),
    )
    return changed.rowcount > 0


def _rest(db: sqlite3.Connection, claim: Claim, attempt: Attempt) -> bool:
    """Give a lease back, and let the lane rest as an attempt says; False if it is ours no more."""
    unsure_since = claim.unsure_since or attempt.started_at
    changed = db.execute(
        "UPDATE lanes SET next_at = ?, failures = ?, held = ?, unsure_since = ?,"
        "  delivered_at = coalesce(?, delivered_at), holder = NULL, lease_until = 0"
        " WHERE name = ? AND holder = ?",
        (
            to_micros(attempt.next_at),
            attempt.failures,
            attempt.detail if attempt.outcome is Outcome.HELD else None,
            to_micros(unsure_since) if attempt.unsure else None,
            to_micros(attempt.ended_at) if attempt.outcome is Outcome.DELIVERED else None,
            claim.lane,
            claim.token,
        ),
    )
    return changed.rowcount > 0


def _put_attempts(
    db: sqlite3.Connection, ids: Sequence[int], outcome: Outcome, detail: str, started_at: int, ended_at: int
) -> None:
    numbers = json.dumps(ids)
    db.execute(
        "INSERT INTO attempts (delivery_id, outcome, detail, started_at, ended_at)"
        " SELECT value, ?, ?, ?, ? FROM json_each(?)",
        (outcome, detail, started_at, ended_at, numbers),
    )
    if outcome in (Outcome.DELIVERED, Outcome.DEAD, Outcome.SILENCED):
        db.execute(
            "UPDATE deliveries SET state = ?, ended_at = ? WHERE id IN (SELECT value FROM json_each(?))",
            (outcome, ended_at, numbers),
        )


def _tell(db: sqlite3.Connection, claim: Claim, attempt: Attempt, now: int) -> None:
    """Tell the fallback that a destination is held, once for all its lanes."""
    others = db.execute(
        "SELECT 1 FROM lanes WHERE destination = ? AND held IS NOT NULL AND name <> ?",
        (claim.destination, claim.lane),
    ).fetchone()
    if others or attempt.notice is None:
        return
    (change_id,) = db.execute(
        "SELECT change_id FROM deliveries WHERE id = ?", (claim.deliveries[0].id,)
    ).fetchone()
    put_alert(db, attempt.notice, change_id, now)
