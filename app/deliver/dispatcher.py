"""The delivery loop: claim queues, give each its turn, record what came of it."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import structlog
from opentelemetry.trace import Span, Tracer

from app.deliver.retry import after_fault
from app.deliver.turn import Sender
from app.errors import StoreRefuses, StoreUnavailable
from app.model.delivery import Outcome
from app.model.report import RUNS
from app.model.times import EPOCH
from app.observe.tracing import OFF, current_trace_id, delivery_spans, fail, note
from app.observe.watch import NOBODY, Watch
from app.store.rows import Attempt, Claim
from app.store.store import Store

log = structlog.get_logger(__name__)

QUEUE_LEASE = timedelta(seconds=30)  # how long a queue waits for a process that is frozen, at most
POLL_SECONDS = 1.0  # how late a process notices what another one has stored
COPY_EVERY = timedelta(seconds=1)  # what waits for broken destinations, to their fallbacks
SPARED = timedelta(seconds=5)  # for others to record, after the store was away, what they sent before
MAX_TURNS = 64  # at once: each may hold a connection and a parcel
RECORDED_AT_ONCE = 250  # deliveries of one message: 3 ms
MAX_LOGGED_CHANGES = 20  # of a digest
STALE_AFTER = timedelta(seconds=15)  # turns are POLL_SECONDS apart, but a busy store may hold one up
FAULTS = 2
"""After so many in a row an attempt is recorded without what follows from it."""


class Dispatcher:
    """Delivers what the store holds, queue by queue, each in order and at its rate.

    Args:
        store: Keeps what is to be delivered.
        sender: Delivers it.
        clock: Gives the time, UTC.
        new_token: Gives strings that no other dispatcher has.
    """

    def __init__(
        self,
        store: Store,
        sender: Sender,
        *,
        clock: Callable[[], datetime],
        new_token: Callable[[], str],
        watch: Watch = NOBODY,
        tracer: Tracer = OFF,
    ) -> None:
        self._store = store
        self._sender = sender
        self._clock = clock
        self._new_token = new_token
        self._watch = watch
        self._tracer = tracer
        self._something_new = asyncio.Event()
        self._stopping = False
        self._ended = asyncio.Event()
        self._turns: set[asyncio.Task[None]] = set()
        self._resting: dict[str, datetime] = {}
        self._at_work: set[str] = set()
        # Since when the store was away before this process came, nobody can tell it.
        self._away_since: datetime | None = EPOCH
        self._back_at: datetime | None = None
        self._copied_at = EPOCH
        self._claimed_at: datetime | None = None
        self.last_turn: datetime | None = None

    def wake(self, queues: Collection[str] = ()) -> None:
        """Look for work now: something new is in the store.

        Args:
            queues: Where it is; none: anywhere. If all of them rest or have their turn, the loop looks
                there when that ends, and nothing is done now: in a storm that is so for nearly every change.
        """
        now = self._clock()
        if not queues or any(self._resting.get(queue, now) <= now for queue in queues):
            self._something_new.set()

    def stale(self) -> str | None:
        """Say why the loop cannot be relied on; None: its last turn is recent."""
        if self.last_turn is None:
            return "the dispatcher has not begun"
        age = self._clock() - self.last_turn
        late = abs(age) > STALE_AFTER
        return f"the dispatcher's last turn was {age.total_seconds():.0f} s ago" if late else None

    async def run(self) -> None:
        """Deliver until `stop`; it may be run again after that."""
        self._stopping = False
        self._ended.clear()
        while not self._stopping:
            self._something_new.clear()
            try:
                await self._take_turns()
            except Exception:  # the loop must outlive whatever happens in one turn of it
                log.exception("delivery_loop_failed")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._something_new.wait(), POLL_SECONDS)
        self._ended.set()

    async def stop(self, within: float) -> None:
        """Claim nothing more, and let what is being sent finish.

        Args:
            within: Seconds; what is not finished then is cut off, and goes out again after the next start.
        """
        self._stopping = True
        self.wake()
        if self.last_turn is not None:  # what is being claimed now must be given back too
            await self._ended.wait()
        if self._turns:
            _, unfinished = await asyncio.wait(self._turns, timeout=within)
            for turn in unfinished:
                turn.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)

    async def _take_turns(self) -> None:
        now = self._clock()
        if self.last_turn and abs(now - self.last_turn) > SPARED:  # frozen since: it cannot tell either
            self._away_since, self._back_at = self._away_since or self._claimed_at, None
        copies = abs(now - self._copied_at) >= COPY_EVERY
        if copies:
            self._copied_at = now
        notifiers = self._sender.notifiers
        limits = {name: notifier.batch_limit for name, notifier in notifiers.items()}
        spacings = {name: notifier.spacing for name, notifier in notifiers.items() if notifier.spacing}
        try:
            claims = await self._store.claim(
                token=self._new_token(),
                now=now,
                lease_until=now + QUEUE_LEASE,
                limit=MAX_TURNS - len(self._turns),
                batch_limits=limits,
                spacings=spacings,
                fallbacks=self._sender.fallbacks if copies else None,
                busy=self._at_work,
                lapsed_before=self._away_since,
            )
        except StoreUnavailable as error:
            log.error("queues_not_claimed", reason=str(error))
            self._away_since, self._back_at = self._away_since or self._claimed_at, None
            return
        self._claimed_at, self.last_turn = now, self._clock()
        self._back_at = self._back_at or self.last_turn
        if abs(self.last_turn - self._back_at) > SPARED:
            self._away_since = None
        for claim in claims:
            self._resting[claim.queue] = claim.lease_until
            if spacing := spacings.get(claim.destination):  # other queues of it wait for that moment
                self._wake_at(now + spacing)
            turn = asyncio.create_task(self._take_turn(claim))
            self._turns.add(turn)
            turn.add_done_callback(self._turns.discard)

    async def _take_turn(self, claim: Claim) -> None:
        self._at_work.add(claim.queue)
        first, *others = [delivery.change_key for delivery in claim.deliveries[:MAX_LOGGED_CHANGES]]
        changes = {"changes": [first, *others]} if others else {"change": first}
        structlog.contextvars.bind_contextvars(**changes)
        parents = [delivery.traceparent for delivery in claim.deliveries]
        with delivery_spans(self._tracer, parents, destination=claim.destination, queue=claim.queue) as spans:
            if trace_id := current_trace_id():
                structlog.contextvars.bind_contextvars(trace_id=trace_id)
            try:
                rests_until = await self._deliver(claim, spans)
            finally:
                self._at_work.discard(claim.queue)
        if rests_until is None:
            self._resting.pop(claim.queue, None)
        else:
            self._resting[claim.queue] = rests_until
            self._wake_at(rests_until)

    async def _deliver(self, claim: Claim, spans: Sequence[Span]) -> datetime | None:
        """Deliver what a queue has; the result is when it may send again, None if that is not known."""
        try:
            attempt = None if self._stopping else await self._sender.attempt(claim)
        except asyncio.CancelledError:  # cut off by `stop`: so the next start need not wait for the lease
            await asyncio.shield(self._give_back(claim, unsure=True))
            raise
        except Exception as error:
            if isinstance(error, StoreUnavailable) and not isinstance(error, StoreRefuses):
                log.error("queue_not_read", queue=claim.queue, reason=str(error))
                await self._give_back(claim)  # nothing was delivered
                return None
            # It would be the same whenever the lease lapses.
            log.exception("delivery_fault", queue=claim.queue, delivery=claim.deliveries[0].id)
            attempt = after_fault(claim, None, error, self._sender.now(claim))
        if attempt is None:
            log.warning("queue_given_back", queue=claim.queue)
            await self._give_back(claim)
            return None
        note(*spans, outcome=attempt.outcome, deliveries=_alerted(claim, attempt))
        if attempt.outcome in (Outcome.RETRY, Outcome.ON_HOLD, Outcome.DEAD):
            fail(attempt.outcome, *spans)
        recorded = await self._record(claim, attempt)
        if recorded:
            self._log(claim, attempt)
            self._count(claim, attempt)
        freed = claim.spacing and attempt.outcome is Outcome.SILENCED
        if len(self._turns) >= MAX_TURNS or attempt.message or attempt.notice or attempt.elsewhere or freed:
            self.wake()  # there was no room for others, and now there is; or other queues have got work
        return attempt.next_at if recorded else None

    async def _give_back(self, claim: Claim, *, unsure: bool = False) -> None:
        with contextlib.suppress(StoreUnavailable):
            await self._store.give_back(claim, unsure=unsure)

    async def _record(self, claim: Claim, attempt: Attempt) -> bool:
        # Thousands at once would keep everybody waiting who stores a change.
        left = attempt.delivery_ids or ()
        while attempt.outcome is Outcome.DELIVERED and not attempt.message and len(left) > RECORDED_AT_ONCE:
            part, left = left[:RECORDED_AT_ONCE], left[RECORDED_AT_ONCE:]
            if not await self._write(claim, replace(attempt, delivery_ids=part, asides={}), goes_on=True):
                return False
            attempt = replace(attempt, delivery_ids=left)
        return await self._write(claim, attempt)

    async def _write(self, claim: Claim, attempt: Attempt, *, goes_on: bool = False) -> bool:
        # What was sent must not be sent again only because the store was away: however long that takes, the
        # token is ours until another process takes the lease. `stop` cuts this off.
        faults = 0
        while True:
            try:
                recorded = await self._store.record(claim, attempt, goes_on=goes_on, alone=faults >= FAULTS)
            except Exception as error:
                if isinstance(error, StoreUnavailable) and not isinstance(error, StoreRefuses):
                    log.error("attempt_not_recorded", queue=claim.queue, reason=str(error))
                else:  # nor because of a fault in what follows from it
                    log.exception("record_fault", queue=claim.queue, delivery=claim.deliveries[0].id)
                    faults += 1
                    if faults == FAULTS:
                        attempt = after_fault(claim, attempt, error, self._sender.now(claim))
                await asyncio.sleep(POLL_SECONDS)
            else:
                if not recorded:
                    log.warning("lease_lost", queue=claim.queue)
                return recorded

    def _log(self, claim: Claim, attempt: Attempt) -> None:
        fields: dict[str, Any] = {
            "delivery": (attempt.delivery_ids or [claim.deliveries[0].id])[0],
            "deliveries": len(attempt.delivery_ids or ()),
            "queue": claim.queue,
            "destination": claim.destination,
            "detail": attempt.detail,
            "took_ms": round((attempt.ended_at - attempt.started_at).total_seconds() * 1000),
        }
        if attempt.asides:
            log.info("alerts_set_aside", queue=claim.queue, deliveries=len(attempt.asides))
        if attempt.outcome is Outcome.DELIVERED:
            changed = "run_reported" if claim.destination == RUNS else "message_updated"
            log.info("alert_delivered" if claim.alerts else changed, **fields)
        elif attempt.outcome is Outcome.RETRY:
            log.warning("delivery_failed", next_at=attempt.next_at.isoformat(), **fields)
        elif attempt.outcome is Outcome.DEAD:
            log.error("delivery_dead", **fields)
        elif attempt.outcome is Outcome.ON_HOLD and not claim.on_hold:
            log.error("queue_on_hold", **fields)
        elif attempt.outcome is Outcome.ON_HOLD:
            log.warning("queue_still_on_hold", next_at=attempt.next_at.isoformat(), **fields)
        if claim.on_hold and attempt.outcome in (Outcome.DELIVERED, Outcome.DEAD, Outcome.RETRY):
            log.warning("queue_released", queue=claim.queue, destination=claim.destination)

    def _count(self, claim: Claim, attempt: Attempt) -> None:
        destination, watch = claim.destination, self._watch
        for outcome, number in Counter(aside.outcome for aside in attempt.asides.values()).items():
            watch.delivered(destination, outcome, number)
        if attempt.outcome is Outcome.RETRY:
            watch.retried(destination)
        if not claim.alerts and attempt.outcome is Outcome.DELIVERED:
            watch.changed(destination)
            return
        if number := _alerted(claim, attempt):
            watch.delivered(destination, attempt.outcome, number)
        if attempt.outcome is Outcome.DELIVERED:
            watch.sent(destination, [(attempt.ended_at - since).total_seconds() for since in attempt.since])

    def _wake_at(self, time: datetime) -> None:
        delay = max(0.0, (time - self._clock()).total_seconds())
        if delay < POLL_SECONDS * 2 and not self._stopping:
            asyncio.get_running_loop().call_later(delay, self.wake)


def _alerted(claim: Claim, attempt: Attempt) -> int:
    return len(claim.deliveries if attempt.delivery_ids is None else attempt.delivery_ids)
