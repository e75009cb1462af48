"""The delivery loop: claim a lane, deliver what is at its head, record what came of it."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import structlog

from app.alerts.notification import Notification
from app.alerts.retry import Outcome, next_attempt
from app.errors import DeliveryFailed, Scope, StoreUnavailable
from app.notifier.base import SEND_TIMEOUT, Notifier
from app.store.base import Attempt, Claim, Store

log = structlog.get_logger(__name__)

Prepare = Callable[[Claim], Awaitable[tuple[Notification, Mapping[str, Any]]]]

LEASE = timedelta(seconds=30)
POLL_SECONDS = 1.0  # how late we notice what another process has stored
LANES_AT_ONCE = 64
FAULTS_BEFORE_DEAD = 4  # a fault that lasts belongs to the message; one that passes must not cost it
STALE_AFTER = timedelta(seconds=15)


class Dispatcher:
    """Delivers what the store holds, lane by lane, each in order and at its rate.

    Args:
        store: What is to be delivered.
        notifiers: The destinations by name.
        prepare: Gives what to say, with the rule's own message as it is now, and Port's own event.
        clock: Gives the time, UTC.
        jitter: Gives random numbers from -1 to 1.
        new_token: Gives strings that no other dispatcher has.
    """

    def __init__(
        self,
        store: Store,
        notifiers: Mapping[str, Notifier],
        *,
        prepare: Prepare,
        clock: Callable[[], datetime],
        jitter: Callable[[], float],
        new_token: Callable[[], str],
    ) -> None:
        self._store = store
        self.notifiers = notifiers
        self._prepare = prepare
        self._clock = clock
        self._jitter = jitter
        self._new_token = new_token
        self._something_new = asyncio.Event()
        self._stopping = False
        self._ended = asyncio.Event()
        self._turns: set[asyncio.Task[None]] = set()
        self.last_turn: datetime | None = None

    def wake(self) -> None:
        """Look for work now: something new is in the store."""
        self._something_new.set()

    def stale(self) -> str | None:
        """Return why the loop cannot be relied on, or None if its last turn is recent."""
        if self.last_turn is None:
            return "the dispatcher has not begun"
        age = self._clock() - self.last_turn
        return (
            f"the dispatcher's last turn was {age.total_seconds():.0f} s ago"
            if abs(age) > STALE_AFTER
            else None
        )

    async def run(self) -> None:
        """Deliver until `stop`."""
        while not self._stopping:
            self._something_new.clear()
            try:
                await self._take_turns()
            except Exception:  # the loop must outlive whatever happens in one turn of it
                log.exception("the delivery loop failed, it goes on")
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
        room = LANES_AT_ONCE - len(self._turns)
        try:
            claims = await self._store.claim(
                token=self._new_token(), now=now, lease_until=now + LEASE, limit=room
            )
        except StoreUnavailable as error:
            log.error("cannot claim lanes", reason=str(error))
            return
        self.last_turn = self._clock()
        for claim in claims:
            turn = asyncio.create_task(self._take_turn(claim))
            self._turns.add(turn)
            turn.add_done_callback(self._turns.discard)

    async def _take_turn(self, claim: Claim) -> None:
        if self._stopping or self._clock() > claim.lease_until - SEND_TIMEOUT:
            # We were stopped or frozen since we claimed: another may hold the lane by the time we have sent.
            log.warning("lane given back", lane=claim.lane)
            with contextlib.suppress(StoreUnavailable):
                await self._store.release(claim)
            return
        try:
            attempt = await self._deliver(claim)
        except asyncio.CancelledError:  # cut off by `stop`: the next start need not wait for the lease
            with contextlib.suppress(StoreUnavailable):
                await asyncio.shield(self._store.release(claim))
            raise
        if await self._record(claim, attempt):
            self._say(claim, attempt)
        if len(self._turns) >= LANES_AT_ONCE:
            self.wake()  # there was no room for others, and now there is
        self._wake_at(attempt.next_at)

    async def _deliver(self, claim: Claim) -> Attempt:
        started_at = self._clock()
        try:
            async with asyncio.timeout(SEND_TIMEOUT.total_seconds()):
                notification, event = await self._prepare(claim)
                detail = await self._notifier(claim).send(
                    notification, delivery_id=f"{claim.change_key[:16]}-{claim.delivery_id}", event=event
                )
        except DeliveryFailed as error:
            failure = error
        except TimeoutError:
            failure = DeliveryFailed("no answer in time; it may have arrived", Scope.TRANSIENT)
        except Exception as error:  # the one boundary: a fault of ours must not stop the lane
            log.exception("delivery raised", delivery=claim.delivery_id)
            scope = Scope.TRANSIENT if claim.failures < FAULTS_BEFORE_DEAD else Scope.MESSAGE
            failure = DeliveryFailed(f"a fault in this program: {type(error).__name__}", scope)
        else:
            ended_at = self._clock()
            return Attempt(Outcome.DELIVERED, detail, started_at, ended_at, ended_at + self._pause(claim))
        return self._failed(claim, failure, started_at)

    def _notifier(self, claim: Claim) -> Notifier:
        notifier = self.notifiers.get(claim.destination)
        if notifier is None:
            raise DeliveryFailed(f"there is no destination {claim.destination!r} any more", Scope.DESTINATION)
        return notifier

    def _pause(self, claim: Claim) -> timedelta:
        notifier = self.notifiers.get(claim.destination)
        return notifier.pause if notifier else timedelta(0)

    def _failed(self, claim: Claim, failure: DeliveryFailed, started_at: datetime) -> Attempt:
        ended_at = self._clock()
        following = next_attempt(
            failure,
            failures=claim.failures,
            held=claim.held,
            waiting_since=claim.waiting_since,
            now=ended_at,
            jitter=self._jitter(),
        )
        failures = claim.failures + (failure.retry_after is None) if failure.scope is Scope.TRANSIENT else 0
        at = max(following.at, ended_at + self._pause(claim))
        return Attempt(following.outcome, following.reason, started_at, ended_at, at, failures)

    async def _record(self, claim: Claim, attempt: Attempt) -> bool:
        # What was sent must not be sent again only because the disk was full for a moment.
        while True:
            try:
                recorded = await self._store.record(claim, attempt)
            except StoreUnavailable as error:
                log.error("cannot record an attempt", delivery=claim.delivery_id, reason=str(error))
                if self._stopping or self._clock() > claim.lease_until:
                    return False
                await asyncio.sleep(POLL_SECONDS)
            else:
                if not recorded:
                    log.warning(
                        "lease lost, attempt not recorded", delivery=claim.delivery_id, lane=claim.lane
                    )
                return recorded

    def _say(self, claim: Claim, attempt: Attempt) -> None:
        fields: dict[str, Any] = {
            "delivery": claim.delivery_id,
            "lane": claim.lane,
            "destination": claim.destination,
            "detail": attempt.detail,
            "took_ms": round((attempt.ended_at - attempt.started_at).total_seconds() * 1000),
        }
        if attempt.outcome is Outcome.DELIVERED:
            log.info("alert delivered", **fields)
        elif attempt.outcome is Outcome.RETRY:
            log.warning("delivery failed, will try again", next_at=attempt.next_at.isoformat(), **fields)
        elif attempt.outcome is Outcome.DEAD:
            log.error("delivery is dead", **fields)
        elif not claim.held:
            log.error("lane held: nothing goes out there until it is mended", **fields)
        else:
            log.warning("lane still held", next_at=attempt.next_at.isoformat(), **fields)
        if claim.held and attempt.outcome is not Outcome.HELD:
            log.warning("lane released", lane=claim.lane, destination=claim.destination)

    def _wake_at(self, time: datetime) -> None:
        delay = max(0.0, (time - self._clock()).total_seconds())
        if delay < POLL_SECONDS * 2 and not self._stopping:
            asyncio.get_running_loop().call_later(delay, self.wake)
