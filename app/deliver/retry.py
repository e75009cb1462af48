"""The policy for a failed delivery: when to try again, and when to give up."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from app.errors import DeliveryFailed, Scope
from app.model.delivery import Outcome
from app.model.incident import Route
from app.store.rows import Claim

FIRST_DELAY = timedelta(seconds=1)
MAX_DELAY = timedelta(minutes=5)
MAX_RETRY_AFTER = timedelta(hours=1)  # nonsense from a proxy must not stop a channel for years
JITTER = 0.2
GIVE_UP_AFTER = timedelta(hours=24)  # an alert about yesterday helps nobody
PROBE_EVERY = timedelta(minutes=10)  # of a queue on hold, in case the destination was fixed
FIRST_UNSURE_DELAY = timedelta(minutes=1)  # each send that may have arrived may be one message more
UNSURE_PATIENCE = timedelta(minutes=7)  # after 1, 2 and 4 min: a receiver that never answers is broken


@dataclass(frozen=True, slots=True)
class NextAttempt:
    """What becomes of the delivery, why, and when its queue may send again."""

    outcome: Outcome
    reason: str
    at: datetime


def next_attempt(
    failure: DeliveryFailed,
    *,
    failures: int,
    on_hold: bool,
    waiting_since: datetime,
    now: datetime,
    jitter: float,
    unsure_for: timedelta | None = None,
) -> NextAttempt:
    """Decide what follows a failure.

    Args:
        failure: What the destination answered; a strange answer is taken as one that may pass.
        failures: How many transient failures in a row the queue had before this one, those that said when
            to come back not counted.
        on_hold: Whether the queue is on hold already, and this was a probe.
        waiting_since: From when the 24 h count, UTC: when it came, or its queue was last released.
        now: The time of the failure, UTC.
        jitter: A random number from -1 to 1, so that many queues do not come back at the same moment.
        unsure_for: Since how long sends may have arrived, where to send again may alert again; None: this one
            did not arrive, or it will be seen whether it did.
    """
    if failure.scope is Scope.MESSAGE:
        return NextAttempt(Outcome.DEAD, failure.reason, now)
    asked = min(MAX_RETRY_AFTER, failure.retry_after or timedelta(0))
    if unsure_for is not None:
        asked = min(MAX_RETRY_AFTER, max(asked, FIRST_UNSURE_DELAY + unsure_for))
    broken = failure.scope is Scope.DESTINATION or (unsure_for or timedelta(0)) >= UNSURE_PATIENCE
    if broken or on_hold:
        return NextAttempt(Outcome.ON_HOLD, failure.reason, now + max(PROBE_EVERY, asked))
    if not asked and failure.retry_after is None:
        delay = min(MAX_DELAY, FIRST_DELAY * 2 ** min(failures, 20)) * (1 + JITTER * jitter)
    else:  # never sooner than asked for, and never at once
        delay = max(FIRST_DELAY, asked) * (1 + JITTER * abs(jitter))
    if now - waiting_since >= GIVE_UP_AFTER:
        hours = int(GIVE_UP_AFTER.total_seconds() // 3600)
        return NextAttempt(Outcome.DEAD, f"given up after {hours} h: {failure.reason}", now)
    return NextAttempt(Outcome.RETRY, failure.reason, now + delay)


def default_place(default: Route | None, claim: Claim, reason: str) -> Route | None:
    """Give the way to the default in the place of what the catalog names; None: there is no other place."""
    if default is None or default.queue == claim.queue:
        return None
    word = reason.partition(":")[0]  # the advice is added where it is shown
    return replace(default, why=f"for {claim.queue} of {claim.destination}: {word}")
