"""Queues: claimed by a dispatcher, and given back with what an attempt came to."""

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from app.model.delivery import Outcome
from app.model.notification import Message, Notification
from app.model.times import MICRO, Micros, from_micros, micros_or_none, time_or_none, to_micros
from app.store import leases
from app.store.clock import moved_since
from app.store.kin import causes, shown
from app.store.queries import deliveries, fallbacks, messages, reports, silences
from app.store.rates import Slots
from app.store.rows import MAX_SUMMED_UP, Attempt, Claim, Waiting
from app.store.transaction import Row, Transaction

CLAIMED_DELIVERIES = 50
"""How many deliveries come with a claim at most; more are read page by page, while others can write."""
CLOCKS_DIFFER = timedelta(minutes=1)
"""A lease that ends so much later than one taken now would was taken before the clock was set back."""
CLOCK_SET_BACK = timedelta(minutes=75)
"""No queue rests longer than this: one that does has seen the clock set back, and is due."""
ACTIONS_SINCE = timedelta(seconds=2)
"""So much may the clocks of two replicas differ; one update more does no harm."""
UNREADABLE = "written by another release, which this one cannot read"

DUE_QUEUES = (
    "SELECT name, failures, on_hold, holder, lease_until, unsure_since, unsure_sends, sent_together FROM"
    " queues WHERE (next_at <= $1 OR next_at > $2) AND (lease_until <= $5 OR lease_until > $3)"
    " AND NOT (name = ANY($6)) AND EXISTS ("
    "   SELECT 1 FROM deliveries WHERE queue = name AND state = 'pending' AND due_at <= $1)"
    # NO KEY: to store a delivery locks its queue's key, and neither is to wait for the other.
    " ORDER BY next_at LIMIT $4 FOR NO KEY UPDATE SKIP LOCKED"
)
TAKE_LEASE = "UPDATE queues SET holder = $1, lease_until = $2, unsure_since = $3 WHERE name = $4"
HEAD = (
    "SELECT destination, body, message_id, run FROM deliveries JOIN changes ON changes.id = change_id"
    " WHERE queue = $1 AND state = 'pending' AND due_at <= $2 {} ORDER BY deliveries.id LIMIT 1"
)
# What waits for one destination; updates of one message, or reports to one run, wait for themselves.
TOGETHER = (
    "deliveries.queue = $1 AND state = 'pending' AND due_at <= $2 AND destination = $3"
    " AND deliveries.message_id IS NOT DISTINCT FROM $4 AND run IS NOT DISTINCT FROM $5"
)
WAITING = (
    "SELECT deliveries.id, key, notification, waiting_since, messages.channel, messages.ts, traceparent,"
    " deliveries.incident_id, (SELECT CASE WHEN resolved_at IS NULL THEN opened_at ELSE 0 END FROM incidents"
    "   WHERE incidents.id = deliveries.incident_id AND NOT flapping)"
    " FROM deliveries JOIN changes ON changes.id = change_id"
    f" LEFT JOIN messages ON messages.id = ({messages.NEWEST})"
    f" WHERE {TOGETHER} AND deliveries.id > $6 ORDER BY deliveries.id LIMIT $7"
)
INCIDENTS = "SELECT DISTINCT incident_id FROM deliveries WHERE id = ANY($1) AND incident_id IS NOT NULL"


async def claim(
    tx: Transaction,
    *,
    token: str,
    now: datetime,
    lease_until: datetime,
    limit: int,
    batch_limits: Mapping[str, int],
    spacings: Mapping[str, timedelta] = MappingProxyType({}),
    lapsed_before: datetime | None = None,
    busy: Collection[str] = (),
    stepped: timedelta = timedelta(0),
) -> list[Claim]:
    """Take the lease of queues that may send now and have something to send.

    Silences that have ended are settled first: of what they suppressed, the last alert of each incident that
    is still open is due again, as a reminder.

    Args:
        tx: The transaction.
        token: A text that no other dispatcher has.
        now: The time, UTC.
        lease_until: When the leases end, UTC.
        limit: How many queues at most.
        batch_limits: How many deliveries each destination takes at once; one that is not named takes 1. Of
            those `CLAIMED_DELIVERIES` come with the claim, and the rest by `waiting`.
        spacings: The least time between two messages of destinations that have a rate; a queue whose
            destination may not send yet rests until then.
        lapsed_before: Leases that ended later, UTC, are left alone; None: `now`.
        busy: Queues of which this process has yet to record an attempt, whatever became of the lease.
        stepped: By how much the clock was set so far.
    """
    await silences.settle(tx, now)
    times = map(to_micros, (now, now + CLOCK_SET_BACK, lease_until + CLOCKS_DIFFER))
    rows = await tx.fetch(DUE_QUEUES, *times, limit, to_micros(lapsed_before or now), list(busy))
    if not rows:
        return []
    active = tuple(await silences.active(tx, now))
    heads = [(row, head) for row in rows if (head := await _head(tx, row[0], now, batch_limits))]
    due = {head["destination"] for _, head in heads}  # the others are another process's
    claims, slots = [], Slots({name: spacings[name] for name in spacings if name in due}, now)
    if spacings:  # who waits longest goes first, in whatever queue of the destination
        heads.sort(key=lambda one: one[1]["deliveries"][0].id)
    for (name, failures, on_hold, holder, lapsed_at, unsure_since, unsure_sends, noted), head in heads:
        if (free_at := await slots.take(tx, head["destination"])) is not None:
            await tx.execute("UPDATE queues SET next_at = $1 WHERE name = $2", free_at, name)
            continue
        if holder is not None:  # the last holder may have sent, and could not say so
            claimed_at = lapsed_at - to_micros(lease_until) + to_micros(now)
            unsure_since = min(unsure_since or claimed_at, claimed_at)  # noqa: PLW2901
        await tx.execute(TAKE_LEASE, token, to_micros(lease_until), unsure_since, name)
        claims.append(
            Claim(
                queue=name,
                token=token,
                claimed_at=now,
                lease_until=lease_until,
                failures=failures,
                on_hold=on_hold is not None,
                unsure_since=time_or_none(unsure_since),
                unsure_sends=unsure_sends,
                silences=active,
                stepped=stepped,
                spacing=spacings.get(head["destination"], timedelta(0)),
                sent_together=await leases.sent_together(tx, name, noted if unsure_since else None),
                **head,
            )
        )
    return claims


async def next_due(tx: Transaction, now: datetime) -> datetime | None:
    """Read when, after a time, UTC, something is due, or a silence ends; None: nothing will be.

    What is due already, and was not sent, is not counted.
    """
    at = await tx.fetch_value(
        "SELECT min(due) FROM ("
        " SELECT CASE WHEN next_at > due_at THEN next_at ELSE due_at END AS due"
        "   FROM deliveries JOIN queues ON queues.name = queue WHERE state = 'pending'"
        " UNION ALL SELECT ends_at FROM silences WHERE NOT settled) AS coming WHERE due > $1",
        to_micros(now),
    )
    return time_or_none(at)


async def _head(
    tx: Transaction, queue: str, now: datetime, batch_limits: Mapping[str, int]
) -> dict[str, Any] | None:
    """Read what goes out next of a queue, as `Claim` has it; what cannot be read is given up."""
    at = to_micros(now)
    while True:
        # What waits for a destination that is not there any more must not block the others of its queue.
        known = await tx.fetch_row(HEAD.format("AND destination = ANY($3)"), queue, at, list(batch_limits))
        head = known or await tx.fetch_row(HEAD.format(""), queue, at)
        if head is None:
            return None
        destination, body, message_id, run = head
        limit = batch_limits.get(destination, 1)
        if message_id is None and run is None:
            limit = min(limit, CLAIMED_DELIVERIES)
        together = (queue, at, destination, message_id, run)
        rows = await tx.fetch(WAITING, *together, 0, limit)
        readable = [delivery for row in rows if (delivery := await _read_or_give_up(tx, row, at))]
        if not readable:
            continue
        readable = await shown.as_it_is(tx, readable, at)
        waiting = len(readable)
        if len(rows) == limit > 1:
            some = f"SELECT 1 FROM deliveries WHERE {TOGETHER} LIMIT {MAX_SUMMED_UP}"
            waiting = await tx.fetch_value(f"SELECT count(*) FROM ({some}) AS together", *together)
        if len(readable) < len(rows):
            body = await tx.fetch_value("SELECT body FROM changes WHERE key = $1", readable[0].change_key)
        facts = {"destination": destination, "deliveries": tuple(readable), "waiting": waiting, "body": body}
        more = {} if message_id is None else await messages.stories(tx, message_id, at)
        return facts | {"run": run} | more


async def waiting(tx: Transaction, claim: Claim, *, after: int, limit: int) -> list[Waiting]:
    """Read further alerts that wait in a claimed queue for its destination, in order.

    Args:
        tx: The transaction.
        claim: The queue.
        after: Those with a greater number than this.
        limit: How many at most; what another release has written is left for later.
    """
    together = (claim.queue, to_micros(claim.claimed_at), claim.destination, None, None)
    readable = []
    for row in await tx.fetch(WAITING, *together, after, limit):
        with suppress(ValidationError):
            readable.append(_waiting_of(row))
    return readable


async def _read_or_give_up(tx: Transaction, row: Row, now: Micros) -> Waiting | None:
    try:
        return _waiting_of(row)
    except ValidationError:
        await deliveries.put_attempts(tx, [row[0]], Outcome.DEAD, UNREADABLE, now, now)
        await reports.announce(tx, [row[0]], now)
        return None


def _waiting_of(row: Row) -> Waiting:
    """Read a row of `WAITING`; ValidationError: another release has written it."""
    id_, key, text, waiting_since, channel, ts, traceparent, incident_id, opened = row
    alert, parent = Notification.read(text), None if ts is None else Message(channel or "", ts)
    reopened = alert.opened_at is not None and to_micros(alert.opened_at) < (opened or 0)
    about = (from_micros(waiting_since), parent, traceparent, incident_id)
    return Waiting(id_, key, alert, *about, over=opened == 0, reopened=reopened)


async def record(tx: Transaction, claim: Claim, attempt: Attempt, *, goes_on: bool = False) -> bool:
    """Write what an attempt came to, and give the lease back; False, and nothing is written: it was lost.

    The messages of its incidents, other than the attempt's own, are to be updated: a delivery for each is put
    into a queue of its own, ``<queue>/updates``. Runs that wait for a report get a further one once nothing
    of their change waits any more.

    Args:
        tx: The transaction.
        claim: The queue.
        attempt: How it ended, by the clock as it was at the claim.
        goes_on: More of it is written after this, and the lease is kept until then.
    """
    ids = attempt.delivery_ids
    sent = [delivery.id for delivery in claim.deliveries] if ids is None else list(ids)
    # Another process may have seen just now that the clock was set, and moved all that waits but this.
    step = await moved_since(tx, claim.stepped // MICRO)
    attempt = attempt.moved(step)
    # A replica that resolves one of these incidents now must see what is written here, or we what it writes;
    # and before the queue, as everywhere: an action locks one, and then the queue of its updates.
    asked = attempt.message or not tx.one_writer  # one writer locks no rows
    incidents = [row[0] for row in await tx.fetch(INCIDENTS, [*sent, *attempt.asides])] if asked else []
    await tx.lock_rows("incidents", incidents, shared=attempt.elsewhere is None)
    if not await (leases.holds(tx, claim) if goes_on else leases.end(tx, claim, attempt)):
        return False
    started_at, ended_at = to_micros(attempt.started_at), to_micros(attempt.ended_at)
    hushed = await deliveries.put_attempts(tx, sent, attempt.outcome, attempt.detail, started_at, ended_at)
    await causes.end_quiet(tx, hushed, ended_at)
    await _set_aside(tx, claim, attempt, started_at, ended_at)
    if attempt.elsewhere is not None:
        await fallbacks.move(tx, claim.queue, sent, attempt.elsewhere, ended_at)
    if attempt.gone:
        await messages.forget(tx, claim.queue.removesuffix(messages.UPDATES), attempt.gone, ended_at)
    if claim.alerts:
        if attempt.outcome in (Outcome.DELIVERED, Outcome.DEAD):
            await deliveries.put_reminders(tx, sent, attempt.ended_at)
        if attempt.outcome is Outcome.DELIVERED:
            await messages.keep(tx, claim.queue, sent, attempt.message, ended_at)
            # What people did since it was sent it does not show; what is found in the channel was before.
            since = (claim.unsure_since or claim.claimed_at) - ACTIONS_SINCE + min(step, timedelta(0))
            acted = attempt.message and await messages.acted_on(tx, incidents, to_micros(since))
            posted = None if acted else attempt.message
            await messages.update_others(tx, claim.queue, sent, posted, ended_at)
        await messages.update_others(tx, claim.queue, list(attempt.asides), None, ended_at)
        await reports.announce(tx, [*sent, *attempt.asides], ended_at)
    if claim.on_hold and attempt.outcome not in (Outcome.ON_HOLD, Outcome.SILENCED) and not goes_on:
        # While the queue was on hold none of these could go out: that time does not use up their patience.
        await tx.execute(
            "UPDATE deliveries SET waiting_since = $1 WHERE queue = $2 AND state = 'pending'",
            ended_at,
            claim.queue,
        )
    if attempt.revived:
        await deliveries.retry(tx, now=attempt.ended_at, ids=attempt.revived)
    if attempt.notice and not claim.on_hold:
        await fallbacks.notify(tx, claim, attempt, ended_at)
    return True


async def _set_aside(
    tx: Transaction, claim: Claim, attempt: Attempt, started_at: Micros, ended_at: Micros
) -> None:
    """Write why some of a queue's deliveries were not sent."""
    asides = {
        number: replace(aside, silence_id=await silences.of_hours(tx, *aside.hours)) if aside.hours else aside
        for number, aside in attempt.asides.items()
    }
    numbers = {aside.silence_id for aside in asides.values() if aside.silence_id}
    settled = await silences.settled(tx, numbers) if numbers else set[int]()
    for number, aside in asides.items():
        if aside.silence_id in settled:
            continue  # the silence has just ended: it waits, and goes out with what is next
        await deliveries.put_attempts(tx, [number], aside.outcome, aside.detail, started_at, ended_at)
        sent_at = micros_or_none(aside.sent_at)
        update = "UPDATE deliveries SET silence_id = $1, sent_at = coalesce($2, sent_at) WHERE id = $3"
        await tx.execute(update, aside.silence_id, sent_at, number)
        if sent_at is not None and attempt.outcome is Outcome.SILENCED:  # what waits now was not sent
            await tx.execute("UPDATE queues SET unsure_since = NULL WHERE name = $1", claim.queue)
