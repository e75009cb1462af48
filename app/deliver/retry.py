"""The policy for a failed delivery: when to try again, and when to give up."""

from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from app.errors import DeliveryFailed, Scope
from app.model.delivery import Outcome
from app.model.incident import Route
from app.store.rows import Attempt, Claim, Waiting

FIRST_DELAY = timedelta(seconds=1)
MAX_DELAY = timedelta(minutes=5)
MAX_RETRY_AFTER = timedelta(hours=1)  # nonsense from a proxy must not stop a channel for years
JITTER = 0.2
GIVE_UP_AFTER = timedelta(hours=24)  # an alert about yesterday helps nobody
PROBE_EVERY = timedelta(minutes=10)  # of a queue on hold, in case the destination was fixed
FIRST_UNSURE_DELAY = timedelta(minutes=1)  # each send that may have arrived may be one message more
MAX_UNSURE_SENDS = 4  # after 1, 2 and 4 min: a receiver that never answers is broken
REFUSED_ALIKE = 3  # entities in a row: a token that has expired, not one entity that it has no right to


class Doubts:
    """Says of answers that may concern the message or the destination which it is, by those before.

    It remembers them in memory only: after a restart it counts from zero, which does no harm.
    """

    def __init__(self) -> None:
        self._strange: set[str] = set()
        self._refused: defaultdict[str, defaultdict[str, list[int]]] = defaultdict(lambda: defaultdict(list))

    def judge(self, failure: DeliveryFailed, destination: str, first: Waiting) -> DeliveryFailed:
        """Take a strange answer as passing, and the second in a row as the destination's.

        That the caller is refused is the message's, and the destination's where it is so for several entities
        in a row.

        Args:
            failure: What the destination answered.
            destination: Its name.
            first: The first delivery that it was sent.
        """
        scope, was_strange = failure.scope, destination in self._strange
        self._strange.discard(destination)
        if scope is Scope.STRANGE:
            self._strange.add(destination)
            scope = Scope.DESTINATION if was_strange else Scope.TRANSIENT
        elif scope is Scope.REFUSED:
            refused = self._refused[destination]
            dead = refused[first.notification.entity]
            scope = Scope.DESTINATION if len(refused) >= REFUSED_ALIKE else Scope.MESSAGE
            if scope is Scope.MESSAGE:
                dead.append(first.id)
        elif scope is Scope.MESSAGE:  # what was wrong with it was looked at: the caller is not refused
            self._refused.pop(destination, None)
        unsure, known_again = failure.unsure, failure.known_again
        return DeliveryFailed(
            failure.reason, scope, failure.retry_after, unsure=unsure, known_again=known_again
        )

    def cleared(self, destination: str) -> list[int]:
        """Give the deliveries, by number, that died though it was the destination's fault; each once."""
        if destination not in self._refused:
            return []
        refused = self._refused[destination]
        numbers = [number for dead in refused.values() for number in dead]
        for dead in refused.values():
            dead.clear()
        return numbers

    def end(self, destination: str) -> None:
        """Forget a destination's answers: it has taken a message."""
        self._strange.discard(destination)
        self._refused.pop(destination, None)


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
    unsure_sends: int = 0,
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
        unsure_sends: How many sends may have arrived, this one too, where to send again may alert again; 0:
            this one did not arrive, or it will be seen whether it did.
    """
    if failure.scope is Scope.MESSAGE:
        return NextAttempt(Outcome.DEAD, failure.reason, now)
    if failure.scope is Scope.PLACE:  # it goes elsewhere, and what waits behind it is not kept
        return NextAttempt(Outcome.RETRY, failure.reason, now)
    asked = min(MAX_RETRY_AFTER, failure.retry_after or timedelta(0))
    if unsure_sends:
        asked = min(MAX_RETRY_AFTER, max(asked, FIRST_UNSURE_DELAY * 2 ** min(unsure_sends - 1, 20)))
    broken = failure.scope is Scope.DESTINATION or unsure_sends >= MAX_UNSURE_SENDS
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


def after_fault(claim: Claim, attempt: Attempt | None, error: Exception, now: datetime) -> Attempt:
    """Make what is recorded where this program failed: what was not sent waits, on hold.

    Args:
        claim: What was to be sent.
        attempt: The attempt that cannot be recorded with all that follows from it; None: it has not ended.
        error: The fault.
        now: The time, UTC.
    """
    fault = f"a fault in this program: {type(error).__name__}"
    if attempt is not None and attempt.outcome in (Outcome.DELIVERED, Outcome.DEAD):
        return replace(attempt, detail=f"{attempt.detail}; what follows from it is lost by {fault}")
    times, first = (claim.claimed_at, now, now + PROBE_EVERY), claim.deliveries[0].id
    return Attempt(Outcome.ON_HOLD, fault, *times, delivery_ids=[first], unsure=True)
