"""The SQL of delivery: queues are claimed, and what came of it is recorded.

Each function is a part of one transaction on the connection given.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from app.model.delivery import Outcome
from app.store.base import CLAIMED_AT_MOST
from app.store.columns import (
    CLOCK_SET_BACK,
    CLOCKS_DIFFER,
    UNREADABLE,
    UPDATES,
    time_or_none,
    to_micros,
    waiting_of,
)
from app.store.queries import messages, silences
from app.store.queries import reports as runs
from app.store.queries.accept import put_alert
from app.store.queries.attempts import put_attempts, put_reminders
from app.store.rows import Attempt, Claim, Waiting
from app.store.transaction import Session

# FOR NO KEY UPDATE: to store a delivery holds its queue's key, and neither is to wait for the other.
DUE_QUEUES = (
    "SELECT name, failures, on_hold, holder, lease_until, unsure_since FROM queues"
    " WHERE (next_at <= $1 OR next_at > $2) AND (lease_until <= $1 OR lease_until > $3) AND EXISTS ("
    "   SELECT 1 FROM deliveries WHERE queue = name AND state = 'pending' AND due_at <= $1)"
    " ORDER BY next_at LIMIT $4 FOR NO KEY UPDATE SKIP LOCKED"
)
WAITING = (
    "SELECT deliveries.id, key, notification, waiting_since, messages.channel, messages.ts, traceparent"
    " FROM deliveries JOIN changes ON changes.id = change_id"
    " LEFT JOIN incident_messages ON incident_messages.incident_id = deliveries.incident_id"
    "   AND incident_messages.queue = deliveries.queue"
    " LEFT JOIN messages ON messages.id = incident_messages.message_id"
    " WHERE deliveries.queue = $1 AND state = 'pending' AND due_at <= $2 AND destination = $3"
    "   AND deliveries.message_id IS NOT DISTINCT FROM $4 AND deliveries.id > $5"
    " ORDER BY deliveries.id LIMIT $6"
)


async def claim(
    db: Session,
    token: str,
    now: datetime,
    lease_until: datetime,
    limit: int,
    at_once: Mapping[str, int],
) -> list[Claim]:
    """Take the lease of queues that are due, and return each with what waits in it."""
    queues = await db.fetch(
        DUE_QUEUES,
        to_micros(now),
        to_micros(now + CLOCK_SET_BACK),
        to_micros(lease_until + CLOCKS_DIFFER),
        limit,
    )
    if not queues:
        return []
    active = tuple(await silences.select(db, active_at=now))
    claims = []
    for name, failures, on_hold, holder, lapsed_at, unsure_since in queues:
        waiting = await _waiting_in(db, name, now, at_once)
        if waiting is None:
            continue
        if holder is not None:  # whoever held it last may have sent, and could not say so
            claimed_at = lapsed_at - to_micros(lease_until) + to_micros(now)
            unsure_since = min(unsure_since or claimed_at, claimed_at)  # noqa: PLW2901
        await db.execute(
            "UPDATE queues SET holder = $1, lease_until = $2, unsure_since = $3 WHERE name = $4",
            token,
            to_micros(lease_until),
            unsure_since,
            name,
        )
        claims.append(
            Claim(
                queue=name,
                token=token,
                claimed_at=now,
                lease_until=lease_until,
                failures=failures,
                on_hold=on_hold is not None,
                unsure_since=time_or_none(unsure_since),
                silences=active,
                **waiting,
            )
        )
    return claims


async def _waiting_in(
    db: Session, queue: str, now: datetime, at_once: Mapping[str, int]
) -> dict[str, Any] | None:
    """Return what waits in a queue, as `Claim` has it; what cannot be read is given up, or it would block."""
    while True:
        # What waits for a destination that is not there any more must not block the others of its queue.
        head = await _head(db, queue, now, list(at_once)) or await _head(db, queue, now, None)
        if head is None:
            return None
        destination, body, message_id = head
        limit = at_once.get(destination, 1)
        if message_id is None:
            limit = min(limit, CLAIMED_AT_MOST)
        rows = await db.fetch(WAITING, queue, to_micros(now), destination, message_id, 0, limit)
        readable = [one for row in rows if (one := await _readable(db, row, now))]
        if not readable:
            continue
        waiting = len(readable)
        if len(rows) == limit > 1:
            waiting = await db.fetchval(
                "SELECT count(*) FROM deliveries WHERE queue = $1 AND state = 'pending' AND due_at <= $2"
                " AND destination = $3 AND message_id IS NOT DISTINCT FROM $4",
                queue,
                to_micros(now),
                destination,
                message_id,
            )
        if len(readable) < len(rows):
            body = await db.fetchval("SELECT body FROM changes WHERE key = $1", readable[0].change_key)
        found = {
            "destination": destination,
            "deliveries": tuple(readable),
            "waiting": waiting,
            "body": body,
        }
        return found if message_id is None else found | await messages.told_by(db, message_id)


async def _head(db: Session, queue: str, now: datetime, known: Sequence[str] | None) -> Any:
    return await db.fetchrow(
        "SELECT destination, body, message_id FROM deliveries JOIN changes ON changes.id = change_id"
        " WHERE queue = $1 AND state = 'pending' AND due_at <= $2"
        " AND ($3::text[] IS NULL OR destination = ANY($3)) ORDER BY deliveries.id LIMIT 1",
        queue,
        to_micros(now),
        known,
    )


async def more(db: Session, claim: Claim, now: datetime, after: int, limit: int) -> list[Waiting]:
    """Return what else waits in a claimed queue; what cannot be read is left for later."""
    rows = await db.fetch(WAITING, claim.queue, to_micros(now), claim.destination, None, after, limit)
    found = []
    for row in rows:
        try:
            found.append(waiting_of(*row))
        except ValidationError:
            continue
    return found


async def _readable(db: Session, row: Sequence[Any], now: datetime) -> Waiting | None:
    try:
        return waiting_of(*row)
    except ValidationError:
        await put_attempts(db, [row[0]], Outcome.DEAD, UNREADABLE, to_micros(now), to_micros(now))
        await runs.tell(db, [row[0]], to_micros(now))
        return None


async def record(db: Session, claim: Claim, attempt: Attempt) -> bool:
    """Write an attempt and give the lease back; False, and nothing written, if it is ours no more."""
    on_hold = attempt.outcome is Outcome.ON_HOLD
    silenced = attempt.outcome is Outcome.SILENCED
    if not (await release(db, claim) if silenced else await _rest(db, claim, attempt)):
        return False
    started_at, ended_at = to_micros(attempt.started_at), to_micros(attempt.ended_at)
    told = [one.id for one in claim.deliveries] if attempt.told is None else list(attempt.told)
    # A replica that ends an incident now must see what is written here, or we what it writes.
    await db.execute(
        "SELECT 1 FROM incidents WHERE id IN (SELECT incident_id FROM deliveries WHERE id = ANY($1))"
        " ORDER BY id FOR SHARE",
        [*told, *attempt.asides],
    )
    await put_attempts(db, told, attempt.outcome, attempt.detail, started_at, ended_at)
    ended = await silences.ended_among(
        db, {one.silence_id for one in attempt.asides.values() if one.silence_id}
    )
    for number, aside in attempt.asides.items():
        if aside.silence_id in ended:
            continue  # it waits, and goes out with what is next
        await put_attempts(db, [number], aside.outcome, aside.detail, started_at, ended_at)
        await db.execute("UPDATE deliveries SET silence_id = $1 WHERE id = $2", aside.silence_id, number)
    if attempt.gone:
        await messages.forget(db, claim.queue.removesuffix(UPDATES), attempt.gone, ended_at)
    if claim.message is None:
        if attempt.outcome in (Outcome.DELIVERED, Outcome.DEAD):
            await put_reminders(db, told, attempt.ended_at)
        if attempt.outcome is Outcome.DELIVERED:
            await messages.keep(db, claim.queue, told, attempt.message, ended_at)
            await messages.update_others(db, claim.queue, told, attempt.message, ended_at)
        await messages.update_others(db, claim.queue, list(attempt.asides), None, ended_at)
        await runs.tell(db, [*told, *attempt.asides], ended_at)
    if claim.on_hold and not on_hold and not silenced:
        # While the queue was on hold, none of these could have gone out: that time does not use up patience.
        await db.execute(
            "UPDATE deliveries SET waiting_since = $1 WHERE queue = $2 AND state = 'pending'",
            ended_at,
            claim.queue,
        )
    if attempt.notice and not claim.on_hold:
        await _tell(db, claim, attempt, ended_at)
    return True


async def release(db: Session, claim: Claim, *, unsure: bool = False) -> bool:
    """Give a lease back, and leave the queue as it is; False if it is ours no more."""
    ours = await db.fetchval(
        "UPDATE queues SET holder = NULL, lease_until = 0, unsure_since = coalesce(unsure_since, $1)"
        " WHERE name = $2 AND holder = $3 RETURNING true",
        to_micros(claim.claimed_at) if unsure else None,
        claim.queue,
        claim.token,
    )
    return bool(ours)


async def _rest(db: Session, claim: Claim, attempt: Attempt) -> bool:
    """Give a lease back, and let the queue rest as an attempt says; False if it is ours no more."""
    unsure_since = claim.unsure_since or attempt.started_at
    ours = await db.fetchval(
        "UPDATE queues SET next_at = $1, failures = $2, on_hold = $3, unsure_since = $4,"
        "  delivered_at = coalesce($5, delivered_at), holder = NULL, lease_until = 0"
        " WHERE name = $6 AND holder = $7 RETURNING true",
        to_micros(attempt.next_at),
        attempt.failures,
        attempt.detail if attempt.outcome is Outcome.ON_HOLD else None,
        to_micros(unsure_since) if attempt.unsure else None,
        to_micros(attempt.ended_at) if attempt.outcome is Outcome.DELIVERED else None,
        claim.queue,
        claim.token,
    )
    return bool(ours)


async def _tell(db: Session, claim: Claim, attempt: Attempt, now: int) -> None:
    """Tell the fallback that a destination is on hold, once for all its queues."""
    others = await db.fetchval(
        "SELECT 1 FROM queues WHERE destination = $1 AND on_hold IS NOT NULL AND name <> $2",
        claim.destination,
        claim.queue,
    )
    if others or attempt.notice is None:
        return
    change_id = await db.fetchval("SELECT change_id FROM deliveries WHERE id = $1", claim.deliveries[0].id)
    await put_alert(db, attempt.notice, change_id, now)
