"""One turn of a queue: what of that which waits is still to be sent, sending it, and what came of it."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import structlog
from opentelemetry.trace import Tracer

from app.deliver.retry import PATIENCE, next_attempt
from app.errors import DeliveryFailed, ListenerError, MessageGone, Scope
from app.model.delivery import Alert, Outcome
from app.model.digest import outcome
from app.model.notification import Notification
from app.model.silence import silence_of
from app.notifier.base import SEND_TIMEOUT, Keeper, Notifier, Parcel, Reporter, Sent, Story
from app.observe.tracing import OFF, span
from app.rules.match import Route
from app.store.base import Store
from app.store.rows import Aside, Attempt, Claim, Waiting

log = structlog.get_logger(__name__)

Prepare = Callable[[Claim, Sequence[Waiting]], Awaitable[Parcel]]
"""Gives what to say of deliveries that a claim has, with the rules' own words as they are now."""

FAULTS_BEFORE_DEAD = 4  # a fault that lasts belongs to the message; one that passes must not cost it
SUM_UP_AT_MOST = 10_000  # so that no transaction is long; what is beyond goes out with the next message
PAGE = 100
LEAVES = 2.0  # times as long as to read a page: what is left to the requests before the next one is read
LONGEST_PAUSE = 0.05


class TooLate(ListenerError):
    """The lease may end before a message is sent: another process would send it, too."""


@dataclass(slots=True)
class _Load:
    """What of a claim is to be sent: `listed` one by one, `further` only as a number; `asides` are not."""

    listed: list[Waiting] = field(default_factory=list)
    further: list[int] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    asides: dict[int, Aside] = field(default_factory=dict)

    def numbers(self, sent: Sent) -> list[int]:
        """Return the numbers of what was told."""
        if sent.told is None:
            return [*(one.id for one in self.listed), *self.further]
        return [one.id for one in self.listed if one.key in sent.told]

    def since(self, sent: Sent) -> list[datetime]:
        """Return since when those waited that were told one by one."""
        return [one.waiting_since for one in self.listed if sent.told is None or one.key in sent.told]


class Notifiers:
    """The destinations of one reading of the rules. They are closed together, because one may ask another.

    Args:
        by_name: Each destination's notifier.
    """

    def __init__(self, by_name: Mapping[str, Notifier]) -> None:
        self.by_name = by_name
        self._users = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Put `close` off as long as the context lasts."""
        self._users += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                self._idle.set()

    async def close(self) -> None:
        """Wait until nobody uses them, and let go of their connections."""
        await self._idle.wait()
        for notifier in self.by_name.values():
            await notifier.close()


class Courier:
    """Takes what a queue has to its destination.

    Args:
        store: Gives what more waits in a queue.
        notifiers: The destinations by name.
        fallbacks: Who hears of it when a destination is on hold, by its name; may be replaced too.
        prepare: Gives what to say.
        why_not: Gives the reason for which an alert is not to be sent any more, or None.
        clock: Gives the time, UTC.
        jitter: Gives random numbers from -1 to 1.
        tracer: Makes spans of what is sent.
    """

    def __init__(
        self,
        store: Store,
        notifiers: Mapping[str, Notifier],
        *,
        prepare: Prepare,
        clock: Callable[[], datetime],
        jitter: Callable[[], float],
        fallbacks: Mapping[str, Route] | None = None,
        why_not: Callable[[Notification], str | None] = lambda _: None,
        tracer: Tracer = OFF,
    ) -> None:
        self._store = store
        self._current = Notifiers(notifiers)
        self.fallbacks = fallbacks or {}
        self._prepare = prepare
        self._why_not = why_not
        self._clock = clock
        self._jitter = jitter
        self._tracer = tracer

    @property
    def notifiers(self) -> Mapping[str, Notifier]:
        """The destinations by name."""
        return self._current.by_name

    def replace(self, notifiers: Mapping[str, Notifier]) -> Notifiers:
        """Send through others from now on, and return those that were used until now, which are to be closed.

        Args:
            notifiers: The destinations by name.
        """
        replaced, self._current = self._current, Notifiers(notifiers)
        return replaced

    async def close(self) -> None:
        """Wait for what is being sent, and let go of all connections."""
        await self._current.close()

    async def attempt(self, claim: Claim) -> Attempt:
        """Send what a queue has, as far as rules and silences still let it, and return what came of it.

        Raises:
            StoreUnavailable: It could not be seen what waits; nothing was sent.
            TooLate: The lease ends too soon, because we were frozen or the store is slow; nothing was sent.
        """
        started_at = self._clock()
        load = await self._load(claim)
        if self._clock() > claim.lease_until - SEND_TIMEOUT:
            raise TooLate
        if not load.listed:
            return Attempt(
                Outcome.SILENCED, "", started_at, started_at, started_at, told=(), asides=load.asides
            )
        try:
            async with asyncio.timeout(SEND_TIMEOUT.total_seconds()):
                with _faults_as_failures(claim), self._current.in_use():
                    sent = await self._deliver(claim, load)
        except DeliveryFailed as error:
            failure = error
        except TimeoutError:
            failure = DeliveryFailed("no answer in time; it may have arrived", Scope.TRANSIENT, unsure=True)
        else:
            ended_at = self._clock()
            return Attempt(
                Outcome.DELIVERED,
                sent.detail,
                started_at,
                ended_at,
                ended_at + self._pause(claim),
                told=load.numbers(sent),
                since=load.since(sent),
                asides=load.asides,
                # One that sums up thousands is no incident's own: to retell it would take too long.
                message=None if load.further else sent.message,
                gone=sent.gone,
            )
        return self._failed(claim, load, failure, started_at)

    async def _load(self, claim: Claim) -> _Load:
        """Look at rules and silences again, now that it is to be sent."""
        load = _Load()
        if claim.message is not None:  # to change what was said calls nobody
            load.listed = list(claim.deliveries)
            return load
        for one in claim.deliveries:
            if not self._set_aside(claim, one, load):
                load.listed.append(one)
        notifier = self._notifier(claim)
        room = notifier.at_once if notifier else len(claim.deliveries)
        seen, last = len(claim.deliveries), claim.deliveries[-1].id
        # What is more than one message can list is counted, a page at a time, so that memory stays flat.
        # That takes half of the time there is at the most: what is left goes out with the next message.
        enough = claim.claimed_at + (claim.lease_until - SEND_TIMEOUT - claim.claimed_at) / 2
        while claim.waiting > seen < SUM_UP_AT_MOST and self._clock() < enough:
            began = time.perf_counter()
            page = await self._store.waiting(claim, after=last, limit=PAGE)
            if not page:
                break
            for one in page:
                if self._set_aside(claim, one, load):
                    continue
                if len(load.listed) < room:  # what is silenced takes none
                    load.listed.append(one)
                else:
                    load.further.append(one.id)
            seen, last = seen + len(page), page[-1].id
            await asyncio.sleep(min(LEAVES * (time.perf_counter() - began), LONGEST_PAUSE))
        return load

    def _set_aside(self, claim: Claim, one: Waiting, load: _Load) -> bool:
        """Note why a delivery is not to be sent, if there is a reason; else count it."""
        if silence := silence_of(one.notification, claim.silences):
            said = f"silence {silence.id}, by {silence.author}"
            load.asides[one.id] = Aside(Outcome.SILENCED, said, silence.id)
        elif reason := self._why_not(one.notification):
            load.asides[one.id] = Aside(Outcome.DEAD, reason)
        else:
            if value := outcome(one.notification):
                load.counts[value] += 1
            return False
        return True

    async def _deliver(self, claim: Claim, load: _Load) -> Sent:
        notifier = self._notifier(claim)
        if notifier is None:
            raise DeliveryFailed(f"there is no destination {claim.destination!r} any more", Scope.DESTINATION)
        if claim.message is not None:
            with span(self._tracer, "update", calls_out=True, destination=claim.destination):
                return await _update(notifier, claim)
        parcel = await self._prepare(claim, load.listed)
        if load.further:
            parcel = replace(parcel, more=len(load.further), counts=load.counts)
        if claim.unsure_since is not None and isinstance(notifier, Keeper):
            found = await notifier.find(parcel, claim.unsure_since)
            if found:
                return found
        try:
            with _faults_as_failures(claim):
                return await self._send(claim, notifier, parcel)
        except DeliveryFailed as refused:
            if refused.scope is not Scope.MESSAGE or len(parcel.items) == 1:
                raise
        # One of many may be at fault: they must not all suffer for it, so the first goes alone.
        log.warning("digest refused", queue=claim.queue, deliveries=len(parcel.items))
        sent = await self._send(claim, notifier, await self._prepare(claim, load.listed[:1]))
        return replace(sent, told=frozenset({load.listed[0].key}))

    async def _send(self, claim: Claim, notifier: Notifier, parcel: Parcel) -> Sent:
        alerts = len(parcel.items) + parcel.more
        with span(self._tracer, "send", calls_out=True, destination=claim.destination, alerts=alerts):
            return await notifier.send(parcel)

    def _notifier(self, claim: Claim) -> Notifier | None:
        # A queue is a channel, by the first of its names: where only another name is gone, that one serves.
        return self.notifiers.get(claim.destination) or self.notifiers.get(claim.queue)

    def _pause(self, claim: Claim) -> timedelta:
        notifier = self._notifier(claim)
        return notifier.pause if notifier else timedelta(0)

    def _failed(self, claim: Claim, load: _Load, failure: DeliveryFailed, started_at: datetime) -> Attempt:
        ended_at = self._clock()
        following = next_attempt(
            failure,
            failures=claim.failures,
            on_hold=claim.on_hold,
            waiting_since=load.listed[0].waiting_since,
            now=ended_at,
            jitter=self._jitter(),
        )
        failures = claim.failures + (failure.retry_after is None) if failure.scope is Scope.TRANSIENT else 0
        told = [load.listed[0].id]  # what fails is tried again with whatever waits then: it is the first's
        if following.outcome is Outcome.DEAD and failure.scope is Scope.TRANSIENT:
            told = [one.id for one in load.listed if ended_at - one.waiting_since >= PATIENCE]
        elif claim.message is not None:
            told = [one.id for one in load.listed]
        return Attempt(
            following.outcome,
            following.reason,
            started_at,
            ended_at,
            max(following.at, ended_at + self._pause(claim)),
            failures,
            told=told,
            asides=load.asides,
            unsure=failure.unsure or claim.unsure_since is not None,
            notice=self._notice(claim, following.reason, ended_at)
            if following.outcome is Outcome.ON_HOLD
            else None,
        )

    def _notice(self, claim: Claim, reason: str, now: datetime) -> Alert | None:
        """Return what the fallback is told of a destination that is on hold from now on."""
        route = self.fallbacks.get(claim.destination)
        if route is None or claim.on_hold:
            return None
        waits = "1 alert waits" if claim.waiting == 1 else f"{claim.waiting:,} alerts wait"
        text = f"Destination {claim.destination} is on hold: {reason}. {waits} for it; nothing is lost."
        return Alert(route.destination, route.queue, Notification.notice(text, now))


@contextmanager
def _faults_as_failures(claim: Claim) -> Iterator[None]:
    """Let a fault of ours count as a failure: it must not stop the queue."""
    try:
        yield
    except (DeliveryFailed, TimeoutError):
        raise
    except Exception as error:  # the one boundary
        log.exception("delivery raised", queue=claim.queue, delivery=claim.deliveries[0].id)
        scope = Scope.TRANSIENT if claim.failures < FAULTS_BEFORE_DEAD else Scope.MESSAGE
        raise DeliveryFailed(f"a fault in this program: {type(error).__name__}", scope) from None


async def _update(notifier: Notifier, claim: Claim) -> Sent:
    """Let the claim's message say how its incidents are now, or its run in Port how its change is."""
    if claim.message is not None and isinstance(notifier, Reporter):
        return Sent(await notifier.report(claim.message.ts, len(claim.deliveries)))
    message, stories = claim.message, [Story(first, last) for first, last in claim.stories]
    if message is None or not stories or not isinstance(notifier, Keeper):
        return Sent("there is nothing to change any more")
    try:
        return Sent(await notifier.update(message, stories))
    except MessageGone as gone:
        log.warning("a message is gone, the next change posts a new one", queue=claim.queue)
        return Sent(f"not changed: {gone.reason}", gone=message)
