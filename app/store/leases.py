"""Leases of queues: given back, or ended at once where it is known that their process is dead."""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from app.model.delivery import Outcome
from app.model.times import MICRO, to_micros
from app.store import rates
from app.store.clock import moved_since
from app.store.queries import deliveries
from app.store.rows import Attempt, Claim
from app.store.transaction import Transaction

UNSURE_DELAY = timedelta(seconds=1)
MAX_UNSURE_DELAY = timedelta(seconds=30)
"""As long as a lease: a queue whose last send is unsure never waits longer than for one that is frozen."""


def unsure_delay(failures: int) -> int:
    """Give how long, in microseconds, a queue waits after a send of which nobody knows whether it arrived.

    Args:
        failures: How many failures in a row the queue had before: a process that dies at a send must not
            repeat it as often as it is started.
    """
    delay: int = min(UNSURE_DELAY * 2 ** min(failures, 20), MAX_UNSURE_DELAY) // MICRO
    return delay


async def absent(tx: Transaction, tokens: Iterable[str], now: datetime) -> set[str]:
    """Give those of some leases' tokens of which the process is known to be dead."""
    marks = {token: mark for token in tokens for mark, _, rest in [token.partition(".")] if rest}
    gone = await tx.absent(set(marks.values()), now) if marks else set[str]()
    return {token for token, mark in marks.items() if mark in gone}


async def end_of_the_dead(tx: Transaction, *, token: str, now: datetime, lease: timedelta) -> None:
    """End the leases of queues that dead processes hold.

    What such a process was sending may have arrived, or arrive yet, so that its queue waits before it sends
    again, or looks for it.

    Args:
        tx: The transaction.
        token: A token of this process.
        now: The time, UTC.
        lease: How long a lease is.
    """
    at = to_micros(now)
    rows = await tx.fetch(
        "SELECT name, holder, lease_until, failures FROM queues"
        " WHERE holder IS NOT NULL AND lease_until > $1 ORDER BY name",
        at,
    )
    own, dot, _ = token.partition(".")
    others = {row[1] for row in rows if not dot or not row[1].startswith(own + dot)}
    dead = await absent(tx, others, now)
    for name, holder, lease_until, failures in rows:
        if holder not in dead:
            continue
        claimed_at = min(at, lease_until - lease // MICRO)
        await tx.execute(
            "UPDATE queues SET holder = NULL, lease_until = 0, failures = failures + 1,"
            "  next_at = CASE WHEN next_at > $1 THEN next_at ELSE $1 END,"
            "  unsure_since = CASE WHEN unsure_since < $2 THEN unsure_since ELSE $2 END"
            " WHERE name = $3 AND holder = $4",
            # It may have sent right before it died: what is looked for at once may be there a moment later.
            max(claimed_at + unsure_delay(failures), at + UNSURE_DELAY // MICRO),
            claimed_at,
            name,
            holder,
        )


async def give_back(tx: Transaction, claim: Claim, *, unsure: bool = False) -> bool:
    """Give a lease back without an attempt.

    Args:
        tx: The transaction.
        claim: The queue.
        unsure: Something may have been sent all the same.

    Returns:
        False if the lease was lost before.
    """
    step = await moved_since(tx, claim.stepped // MICRO) if unsure else timedelta(0)
    ours = await tx.fetch_value(
        "UPDATE queues SET holder = NULL, lease_until = 0 WHERE name = $1 AND holder = $2 RETURNING true",
        claim.queue,
        claim.token,
    )
    if ours and unsure:
        claimed_at = to_micros(claim.claimed_at + step)
        await tx.execute(
            "UPDATE queues SET unsure_since = coalesce(unsure_since, $1),"
            "  failures = failures + 1, next_at = $2 WHERE name = $3",
            claimed_at,
            claimed_at + unsure_delay(claim.failures),
            claim.queue,
        )
    elif ours and claim.spacing:
        await rates.give_back(tx, claim)
    return bool(ours)


async def holds(tx: Transaction, claim: Claim) -> bool:
    """Tell whether a lease is still ours, and keep others from taking it in this transaction."""
    ours = "SELECT 1 FROM queues WHERE name = $1 AND holder = $2 FOR NO KEY UPDATE"
    return await tx.fetch_value(ours, claim.queue, claim.token) is not None


async def end(tx: Transaction, claim: Claim, attempt: Attempt) -> bool:
    """Give a lease back, and let the queue rest as an attempt says; False if it was lost before."""
    if attempt.outcome is Outcome.SILENCED:
        return await give_back(tx, claim)
    ours = await tx.fetch_value(
        "UPDATE queues SET next_at = $1,"
        "  failures = $2, on_hold = $3,"
        "  unsure_since = CASE WHEN CAST($4 AS bigint) IS NULL THEN NULL ELSE coalesce(unsure_since, $4) END,"
        "  sent_together = CASE WHEN CAST($4 AS bigint) IS NULL THEN NULL ELSE sent_together END,"
        "  unsure_sends = $8,"
        "  delivered_at = coalesce($5, delivered_at), holder = NULL, lease_until = 0"
        " WHERE name = $6 AND holder = $7 RETURNING true",
        to_micros(attempt.next_at),
        attempt.failures,
        attempt.detail if attempt.outcome is Outcome.ON_HOLD else None,
        to_micros(attempt.started_at) if attempt.unsure else None,
        to_micros(attempt.ended_at) if attempt.outcome is Outcome.DELIVERED else None,
        claim.queue,
        claim.token,
        attempt.unsure_sends,
    )
    return bool(ours)


async def record_alone(tx: Transaction, claim: Claim, attempt: Attempt, *, goes_on: bool = False) -> bool:
    """Do the same as `queues.record`, but write nothing of what follows from the attempt."""
    attempt = attempt.moved(await moved_since(tx, claim.stepped // MICRO))
    if not await (holds(tx, claim) if goes_on else end(tx, claim, attempt)):
        return False
    ids, times = attempt.delivery_ids, (to_micros(attempt.started_at), to_micros(attempt.ended_at))
    sent = [delivery.id for delivery in claim.deliveries] if ids is None else list(ids)
    await deliveries.put_attempts(tx, sent, attempt.outcome, attempt.detail, *times)
    return True


async def note_together(tx: Transaction, claim: Claim, keys: Sequence[str]) -> bool:
    """Write down, before they are sent, which deliveries go out together; False: the lease was lost."""
    ours = await tx.fetch_value(
        "UPDATE queues SET sent_together = $1 WHERE name = $2 AND holder = $3 RETURNING true",
        json.dumps(keys),
        claim.queue,
        claim.token,
    )
    return bool(ours)


async def sent_together(tx: Transaction, queue: str, noted: str | None) -> tuple[str, ...]:
    """Read the keys of the deliveries that a queue has noted; empty: none of them waits there any more."""
    if not noted:
        return ()
    keys = tuple(json.loads(noted))
    waits = await tx.fetch_value(
        "SELECT 1 FROM deliveries WHERE id = ANY($1) AND queue = $2 AND state || '' = 'pending' LIMIT 1",
        [int(key.rpartition("-")[2]) for key in keys],
        queue,
    )
    return keys if waits else ()
