"""The durable store, in either database.

What receives and delivers has a method here. Everything else is an operation of `app.store.queries`, run by
`read` or `write`: ``await store.read(queries.counts.overview, since)``.
"""

import hashlib
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Concatenate, ParamSpec, TypeVar

import structlog

from app.model.incident import Route
from app.model.silence import Silence
from app.model.times import MICRO, to_micros
from app.store import leases, queries
from app.store.actions import Action
from app.store.clock import ClockState, StoreClock, by, moved_since
from app.store.rows import Accepted, Attempt, Claim, Incoming, Waiting
from app.store.transaction import Database, Transaction

_P = ParamSpec("_P")
_T = TypeVar("_T")

PRUNE_SECONDS = 20.0

log = structlog.get_logger(__name__)


class Store:
    """The store. Every method raises `StoreUnavailable` when the database cannot do it now.

    Args:
        database: Where it is.
        clock: The time by which everything in it goes.
    """

    def __init__(self, database: Database, clock: StoreClock | None = None) -> None:
        self._database = database
        self.clock = clock or StoreClock()

    async def read(
        self,
        operation: Callable[Concatenate[Transaction, _P], Awaitable[_T]],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _T:
        """Run an operation that changes nothing, with these arguments."""
        return await self._database.read(lambda tx: operation(tx, *args, **kwargs))

    async def write(
        self,
        operation: Callable[Concatenate[Transaction, _P], Awaitable[_T]],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _T:
        """Run an operation with these arguments as a transaction, which is on disk when this returns.

        Times among the arguments are by `clock`: if that was set since, they are moved like what waits.
        """
        known, begun = self.clock.known, self.clock()

        async def run(tx: Transaction) -> _T:
            step = await moved_since(tx, known)
            given = [_moved(value, step, begun) for value in args]
            named = {name: _moved(value, step, begun) for name, value in kwargs.items()}
            return await operation(tx, *given, **named)

        times = (datetime, Silence, Action)
        if known is None or not any(isinstance(value, times) for value in (*args, *kwargs.values())):
            return await self._database.write(lambda tx: operation(tx, *args, **kwargs))
        return await self._database.write(run)

    async def follow_clock(self) -> None:
        """Find out whether the clock was set, and if so, move what waits."""
        self._adopt(await self.write(self.clock.follow))

    def own(self, token: str) -> str:
        """Make a token that says whose it is: a lease by it ends when this process does."""
        return self._database.own(token)

    def on_new(self, wake: Callable[[], None]) -> None:
        """Call `wake` when another process has stored something to deliver, if that can be known."""
        self._database.listen(wake)

    async def accept(self, batch: Sequence[Incoming]) -> list[Accepted]:
        """Store changes with what they lead to, see `app.store.queries.accept`.

        One whose `decide` raises fails alone, with that error.
        """
        accepted = await self._database.accept(batch)
        for incoming, change in zip(batch, accepted, strict=True):
            if incoming.report or (change.alerts and not change.duplicate):
                self._database.notify()
                break
        return accepted

    async def quarantine(
        self, body: bytes, *, signed_at: datetime, received_at: datetime, path: str, reason: str
    ) -> None:
        """Keep a signed body that could not be read; the same body is kept once.

        Args:
            body: The signed bytes.
            signed_at: When it was signed, UTC.
            received_at: When it arrived, UTC.
            path: The field at fault, dotted; empty: the whole body.
            reason: What is wrong with it.
        """
        await self._database.write_first(
            lambda tx: tx.execute(
                "INSERT INTO quarantine (body, digest, signed_at, received_at, path, reason)"
                " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (digest) DO NOTHING",
                body,
                hashlib.sha256(body).hexdigest(),
                to_micros(signed_at),
                to_micros(received_at),
                path,
                reason,
            )
        )

    async def claim(
        self,
        *,
        token: str,
        now: datetime,
        lease_until: datetime,
        limit: int,
        batch_limits: Mapping[str, int],
        spacings: Mapping[str, timedelta] | None = None,
        fallbacks: Mapping[str, Route] | None = None,
        busy: Collection[str] = (),
        lapsed_before: datetime | None = None,
    ) -> list[Claim]:
        """Take the lease of queues that may send now, see `app.store.queries.queues.claim`.

        Before that, what waits is moved if the clock was set, what waits in queues on hold is copied to the
        `fallbacks`, by their destinations' names, and the leases of dead processes end.
        """
        token = self.own(token)

        lease = lease_until - now

        async def operation(tx: Transaction) -> tuple[list[Claim], ClockState]:
            # Leases are by the clock that all who share the store go by: it is looked at as often as they
            # are taken.
            state = await self.clock.follow(tx, delivers=True)
            at = now + self.clock.behind(state)
            await queries.fallbacks.copy_on_hold(tx, fallbacks or {}, at)
            await leases.end_of_the_dead(tx, token=token, now=at, lease=lease)
            claims = await queries.queues.claim(
                tx,
                token=token,
                now=at,
                lease_until=at + lease,
                lapsed_before=min(lapsed_before or at, at),
                limit=limit,
                batch_limits=batch_limits,
                spacings=spacings or {},
                busy=busy,
                stepped=state.stepped * MICRO,
            )
            return claims, state

        claims, state = await self._database.write(operation)
        self._adopt(state)
        self.clock.busy = bool(claims)
        return claims

    def _adopt(self, state: ClockState) -> None:
        if step := self.clock.adopt(state):
            log.warning("clock_set", how=by(step), seconds=step.total_seconds())
        if state.away:
            log.warning("nothing_delivered_for", seconds=state.away // 1_000_000)

    async def waiting(self, claim: Claim, *, after: int, limit: int) -> list[Waiting]:
        """Read further alerts of a claimed queue, see `app.store.queries.queues.waiting`."""
        return await self.read(queries.queues.waiting, claim, after=after, limit=limit)

    async def body(self, change_key: str) -> bytes | None:
        """Read the signed bytes of a change; None: it is not there any more."""
        return await self.read(queries.changes.body, change_key)

    async def record(
        self, claim: Claim, attempt: Attempt, *, goes_on: bool = False, alone: bool = False
    ) -> bool:
        """Write what an attempt came to, see `app.store.queries.queues.record`; False: the lease was lost.

        If it is `alone`, nothing of what follows from it is written.
        """
        operation = leases.record_alone if alone else queries.queues.record
        return await self.write(operation, claim, attempt, goes_on=goes_on)

    async def give_back(self, claim: Claim, *, unsure: bool = False) -> None:
        """Give a lease back without an attempt; `unsure`: something may have been sent all the same."""
        await self.write(leases.give_back, claim, unsure=unsure)
        self._database.notify()  # this process is perhaps about to end

    async def release_hold(self, destination: str, now: datetime) -> int:
        """Let the queues of a destination that are on hold send at once; give how many there were."""
        number = await self.write(queries.deliveries.release_hold, destination, now)
        self._database.notify()
        return number

    async def retry(
        self,
        *,
        now: datetime,
        ids: Sequence[int] | None = None,
        rule: str | None = None,
        destination: str | None = None,
        since: datetime | None = None,
    ) -> int:
        """Make dead deliveries pending again, see `app.store.queries.deliveries.retry`; give how many."""
        number = await self.write(
            queries.deliveries.retry, now=now, ids=ids, rule=rule, destination=destination, since=since
        )
        self._database.notify()
        return number

    async def prune(self, *, before: datetime, limit: int) -> int:
        """Delete what is old, see `app.store.queries.prune.prune`; until this gives 0 there may be more."""
        pruned = await self._database.write(
            lambda tx: queries.prune.prune(tx, before=before, limit=limit), seconds=PRUNE_SECONDS
        )
        if not pruned:
            await self._database.shrink()
        return pruned

    async def check(self, now: datetime) -> str:
        """Prove that the store can write, and say what of it needs attention; empty: nothing."""
        return await self._database.check(to_micros(now))

    async def close(self) -> None:
        """Finish what is queued, and close."""
        await self._database.close()


def _moved(value: Any, step: timedelta, now: datetime) -> Any:
    """Give an argument of a write by a clock that was set by `step` since; what is to begin later stays."""
    if not step:
        return value
    if isinstance(value, datetime):
        return value + step
    if isinstance(value, Silence) and value.starts_at <= now:
        return replace(value, starts_at=value.starts_at + step, ends_at=value.ends_at + step)
    if isinstance(value, Action) and value.until:
        return replace(value, until=value.until + step)
    return value
