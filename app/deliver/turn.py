"""One turn of a queue: send what waits there, and say what came of it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial

import structlog
from opentelemetry.trace import Tracer

from app.deliver.load import Held, Load, WhyNot, load_claim
from app.deliver.notifier_set import NotifierSet
from app.deliver.retry import GIVE_UP_AFTER, Doubts, NextAttempt, default_place, next_attempt
from app.deliver.update import Complete, update_message
from app.errors import DeliveryFailed, Scope, StoreUnavailable
from app.model.delivery import Alert, Outcome
from app.model.incident import Route, Step
from app.model.notification import Notification
from app.notifier.base import SEND_TIMEOUT, Keeper, Notifier, Parcel, Sent
from app.notifier.failure import remedy
from app.observe.tracing import OFF, span
from app.store import leases
from app.store.rows import Attempt, Claim, Waiting
from app.store.store import Store

log = structlog.get_logger(__name__)

Prepare = Callable[[Claim, Sequence[Waiting]], Awaitable[Parcel]]
"""Makes the parcel of some deliveries of a claim; raises `StoreUnavailable`."""

MAX_PREPARE_SECONDS = 15.0  # so long may users' programs wait for one another and run
FAULTS_BEFORE_DEAD = 4  # a fault that lasts belongs to the message; one that passes must not lose it


class Sender:
    """Sends what waits in a queue to its destination.

    Args:
        store: Gives what more waits in a queue.
        notifiers: The destinations by name.
        complete: Adds to an alert of a message that is updated what its rule asks for.
        clock: Gives the time, UTC.
        jitter: Gives random numbers from -1 to 1.
        fallbacks: The destination that gets the alerts of one that is on hold, by the name of the one; may
            be replaced at any time.
        defaults: Where goes what a destination cannot reach of that which the catalog names, by the
            destination's name; may be replaced at any time.
        held: Says what waits for hours to begin; may be replaced at any time.
    """

    def __init__(
        self,
        store: Store,
        notifiers: Mapping[str, Notifier],
        *,
        prepare: Prepare,
        complete: Complete | None = None,
        clock: Callable[[], datetime],
        jitter: Callable[[], float],
        fallbacks: Mapping[str, Route] | None = None,
        defaults: Mapping[str, Route] | None = None,
        why_not: WhyNot = lambda _: None,
        held: Held = lambda *_: None,
        tracer: Tracer = OFF,
    ) -> None:
        self._store = store
        self._current = NotifierSet(notifiers)
        self.fallbacks = fallbacks or {}
        self.defaults = defaults or {}
        self._prepare = prepare
        self._complete = complete
        self._why_not = why_not
        self.held = held
        self._clock = clock
        self._jitter = jitter
        self._tracer = tracer
        self._doubts = Doubts()

    @property
    def notifiers(self) -> Mapping[str, Notifier]:
        """The destinations by name."""
        return self._current.by_name

    def replace(self, notifiers: Mapping[str, Notifier]) -> NotifierSet:
        """Send through other notifiers from now on; the result is the old ones, for the caller to close."""
        replaced, self._current = self._current, NotifierSet(notifiers)
        return replaced

    async def close(self) -> None:
        """Wait for what is being sent, and close all connections."""
        await self._current.close()

    def now(self, claim: Claim) -> datetime:
        """Give the time by the clock as it was when the claim was made: it may have been set since."""
        return self._clock() - (self._store.clock.stepped - claim.stepped)

    async def attempt(self, claim: Claim) -> Attempt | None:
        """Send what waits in a queue, as far as rules and silences still want it, and say what came of it.

        None: the lease ends too soon, because we were frozen or the store is slow; nothing was sent.

        Raises:
            StoreUnavailable: What waits, or Port's event, could not be read; nothing was delivered.
        """
        # One reading of the rules file serves the whole attempt, though a reload may replace it.
        with self._current.in_use():
            return await self._attempt(claim, self._notifier(claim))

    async def _attempt(self, claim: Claim, notifier: Notifier | None) -> Attempt | None:
        started_at = self.now(claim)
        keeper = notifier if isinstance(notifier, Keeper) else None
        room = notifier.batch_limit if notifier else len(claim.deliveries)
        # Before anything is sent: a rule or a silence may have changed since the alert was stored.
        clock = partial(self.now, claim)
        asked = replace(claim, unsure_since=None) if keeper else claim  # it says below what arrived
        load = await load_claim(
            self._store, asked, room=room, why_not=self._why_not, held=self.held, clock=clock
        )
        if self._left(claim) <= 0:
            return None
        if not load.listed and not load.withheld:  # nobody needs them any more
            return load.nothing_sent(started_at)
        parcel = None
        try:
            with _faults_as_failures(claim):
                if keeper and claim.unsure_since is not None and claim.alerts:
                    # What has arrived must not be sent again, nor when a silence ends that covers it by now:
                    # nothing is set aside before Slack has said what arrived.
                    rest, load = load, load.with_withheld()
                    parcel = await self._ready(claim, load, notifier)
                    since = claim.unsure_since + (self._store.clock.stepped - claim.stepped)
                    async with asyncio.timeout(SEND_TIMEOUT.total_seconds()):
                        arrived = parcel and await keeper.find(parcel, since)
                    if arrived:
                        return self._delivered(claim, load, arrived, started_at)
                    load = rest
                if not load.listed:
                    return load.nothing_sent(started_at)
                # Apart from the sending: users' programs take time, and while they run nothing was sent.
                if parcel is None or load.withheld:
                    parcel = await self._ready(claim, load, notifier)
                # Only now: it took time, and a suspended machine wakes here. If the lease ends before the
                # message is sent, another process sends it, too.
                if self._left(claim) <= 0 or not await self._noted(claim, parcel, notifier):
                    return None
                async with asyncio.timeout(SEND_TIMEOUT.total_seconds()):
                    sent = await self._deliver(claim, load, parcel, notifier)
        except DeliveryFailed as error:
            load = load if load.listed else load.with_withheld()
            failure = self._doubts.judge(error, claim.destination, load.listed[0])
            return self._failed(claim, load, failure, started_at)
        self._doubts.end(claim.destination)
        return self._delivered(claim, load, sent, started_at)

    def _delivered(self, claim: Claim, load: Load, sent: Sent, started_at: datetime) -> Attempt:
        ended_at, named = self.now(claim), load.named(sent)
        return Attempt(
            Outcome.DELIVERED,
            sent.detail,
            started_at,
            ended_at,
            self._rested(claim, ended_at),
            delivery_ids=[*(row.id for row in named), *(load.further if sent.delivered is None else ())],
            since=[delivery.waiting_since for delivery in named],
            asides=load.asides,
            # One that sums up thousands is no incident's own: to update it for each would take too long.
            message=None if load.further else sent.message,
            gone=sent.gone,
        )

    async def _noted(self, claim: Claim, parcel: Parcel | None, notifier: Notifier | None) -> bool:
        """Write down what goes out together, where a repeat must have the same; False: the lease was lost."""
        if notifier is None or parcel is None or not notifier.repeats_alike:
            return True
        return await self._store.write(leases.note_together, claim, parcel.together)

    def _left(self, claim: Claim) -> float:
        """Count the seconds until a send must have begun."""
        return (claim.lease_until - SEND_TIMEOUT - self.now(claim)).total_seconds()

    async def _ready(self, claim: Claim, load: Load, notifier: Notifier | None) -> Parcel | None:
        """Make the parcel that is sent; None: it is an update, which needs none."""
        if notifier is None or not claim.alerts:
            return None
        try:
            async with asyncio.timeout(min(self._left(claim), MAX_PREPARE_SECONDS)):
                parcel = await notifier.prepare(await self._prepare(claim, load.listed))
        except TimeoutError:
            raise DeliveryFailed("its templates took too long; nothing was sent", Scope.TRANSIENT) from None
        ids = tuple(item.delivery_id for item in parcel.items)
        again = not set(ids).isdisjoint(claim.sent_together)
        together = claim.sent_together if again else ids
        return replace(parcel, together=together, more=len(load.further), counts=load.counts)

    async def _deliver(
        self, claim: Claim, load: Load, parcel: Parcel | None, notifier: Notifier | None
    ) -> Sent:
        if notifier is None:
            raise DeliveryFailed(f"there is no destination {claim.destination!r} any more", Scope.DESTINATION)
        if parcel is None:
            with span(self._tracer, "update", calls_out=True, destination=claim.destination):
                return await update_message(notifier, claim, self._complete)
        try:
            with _faults_as_failures(claim):
                return await self._send(claim, notifier, parcel)
        except DeliveryFailed as refused:
            if refused.scope is not Scope.MESSAGE or len(parcel.items) == 1:
                raise
        # One of many may be at fault: they must not all suffer for it, so the first goes alone.
        log.warning("digest_refused", queue=claim.queue, deliveries=len(parcel.items))
        alone = replace(parcel, items=parcel.items[:1], more=0, counts={}, together=())
        sent = await self._send(claim, notifier, alone)
        return replace(sent, delivered=frozenset({load.listed[0].key}))

    async def _send(self, claim: Claim, notifier: Notifier, parcel: Parcel) -> Sent:
        alerts = len(parcel.items) + parcel.more
        with span(self._tracer, "send", calls_out=True, destination=claim.destination, alerts=alerts):
            return await notifier.send(parcel)

    def _notifier(self, claim: Claim) -> Notifier | None:
        # A queue is a channel, by the first of its names: where only another name is gone, that one serves.
        notifier = self.notifiers.get(claim.destination) or self.notifiers.get(claim.queue)
        return notifier.of_queue(claim.queue) if notifier else None

    def _rested(self, claim: Claim, ended_at: datetime) -> datetime:
        """Say when the queue may send again by its destination's rate."""
        if (notifier := self._notifier(claim)) is None:
            return ended_at
        return max(ended_at + notifier.pause, claim.claimed_at + notifier.spacing)

    def _failed(self, claim: Claim, load: Load, failure: DeliveryFailed, started_at: datetime) -> Attempt:
        ended_at, elsewhere = self.now(claim), None
        if failure.scope is Scope.PLACE:
            elsewhere = default_place(self.defaults.get(claim.destination), claim, failure.reason)
            failure = failure if elsewhere else DeliveryFailed(failure.reason, Scope.DESTINATION)
        # What asks before it sends again, or only updates, repeats nothing.
        asks = failure.known_again or isinstance(self._notifier(claim), Keeper)
        repeats = failure.unsure and claim.alerts and not asks
        unsure_sends = claim.unsure_sends + repeats
        following = next_attempt(
            failure,
            failures=claim.failures,
            on_hold=claim.on_hold,
            waiting_since=load.listed[0].waiting_since,
            now=ended_at,
            jitter=self._jitter(),
            unsure_sends=unsure_sends if repeats else 0,
        )
        failures = claim.failures + (failure.retry_after is None) if failure.scope is Scope.TRANSIENT else 0
        # The failure counts for the first alone: the next attempt takes whatever waits then.
        concerned = load.listed[:1]
        if following.outcome is Outcome.DEAD and failure.scope is Scope.TRANSIENT:
            concerned = [row for row in load.listed if ended_at - row.waiting_since >= GIVE_UP_AFTER]
        elif not claim.alerts or elsewhere is not None:
            concerned = load.listed
        return Attempt(
            following.outcome,
            following.reason,
            started_at,
            ended_at,
            max(following.at, self._rested(claim, ended_at)),
            failures,
            delivery_ids=[delivery.id for delivery in concerned],
            asides=load.asides,
            unsure=failure.unsure or claim.unsure_since is not None,
            unsure_sends=0 if following.outcome is Outcome.DEAD else unsure_sends,
            notice=self._notice(claim, following, ended_at),
            elsewhere=elsewhere,
            revived=self._doubts.cleared(claim.destination) if following.outcome is Outcome.ON_HOLD else (),
        )

    def _notice(self, claim: Claim, following: NextAttempt, now: datetime) -> Alert | None:
        """Make the notice that the fallback gets when a destination goes on hold; None: it needs none."""
        route = self.fallbacks.get(claim.destination)
        # If it was on hold already, the notice went out then. What is only updated or reported waits for
        # nobody else; and a job gets the alerts, but does not run because of a notice.
        goes_on_hold = following.outcome is Outcome.ON_HOLD and not claim.on_hold and claim.alerts
        if route is None or not goes_on_hold or Step.NOTICE not in route.steps:
            return None
        why = f"Destination {claim.destination} is on hold: {following.reason}"
        advice = remedy(following.reason)
        text = f"{why}{advice and f'; {advice}'}. Until it works, its alerts come here too; nothing is lost."
        return Alert(route.destination, route.queue, Notification.notice(text, now))


@contextmanager
def _faults_as_failures(claim: Claim) -> Iterator[None]:
    """Turn a fault of this program into a failure: it must not stop the queue."""
    try:
        yield
    except (DeliveryFailed, StoreUnavailable):
        raise
    except TimeoutError:
        raise DeliveryFailed("no answer in time; it may have arrived", Scope.TRANSIENT, unsure=True) from None
    except Exception as error:  # the one boundary
        log.exception("delivery_fault", queue=claim.queue, delivery=claim.deliveries[0].id)
        scope = Scope.TRANSIENT if claim.failures < FAULTS_BEFORE_DEAD else Scope.MESSAGE
        raise DeliveryFailed(f"a fault in this program: {type(error).__name__}", scope) from None
