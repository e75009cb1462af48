"""When a comparison is due, and that one process of all makes it."""

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from app.errors import ListenerError, StoreUnavailable
from app.port.client import PortClient
from app.receive.intake import Listener
from app.reconcile.comparison import Comparison
from app.reconcile.difference import Difference
from app.store.reconciling import Progress

log = structlog.get_logger(__name__)

LEASE = timedelta(minutes=2)
KEPT_EVERY = LEASE / 6
LOOK_EVERY = timedelta(seconds=5)
AT_LEAST_BETWEEN = timedelta(minutes=1)
"""Between two runs that a start or new rules ask for; several replicas may start at once."""
FIRST_RETRY = timedelta(minutes=1)
SHARE = 0.1
"""Of the process's time, so that changes are taken as fast as without."""

START, INTERVAL, RULES, COMMAND = "start", "interval", "rules", "command"


class Replaced(ListenerError):
    """The lease was lost: another process compares."""

    def __init__(self) -> None:
        super().__init__("another process has taken over")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to.

    Attributes:
        progress: How far it came.
        differences: What it found, and told; empty where they were not to be kept.
        error: Why it failed; empty: it did not.
        ended_at: When it ended, as the store has it: the next one is due from then.
    """

    progress: Progress
    differences: tuple[Difference, ...]
    error: str
    ended_at: datetime


@dataclass(slots=True)
class Reconciler:
    """Compares at the start, when rules name a blueprint for the first time, and every so often.

    Attributes:
        listener: Its rules decide, its store keeps.
        client: Port's API; a patient one.
        every: How often.
        new_token: Gives texts that no other process has.
        share: See `Comparison.share`.
        look_every: How often to see whether it is due.
    """

    listener: Listener
    client: PortClient
    every: timedelta
    new_token: Callable[[], str]
    share: float = SHARE
    look_every: timedelta = LOOK_EVERY
    _wanted: str | None = START
    _failures: int = 0
    _due_at: datetime | None = None
    _awake: asyncio.Event = field(default_factory=asyncio.Event)

    def want(self, reason: str) -> None:
        """Compare soon."""
        self._wanted = reason
        self._awake.set()

    async def keep(self) -> None:
        """Compare whenever it is due, until cancelled."""
        while True:
            self._awake.clear()
            reason = self._wanted or self._interval()
            if reason and self.listener.book.watched:
                self._wanted = reason
                await self._once(reason)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._awake.wait(), self.look_every.total_seconds())

    def _interval(self) -> str | None:
        return None if self._rests() else INTERVAL

    def _rests(self) -> bool:
        now = self.listener.clock()
        # What is due later than that was set before the clock was set back.
        return self._due_at is not None and now < self._due_at <= now + self.every

    async def _once(self, reason: str) -> None:
        now = self.listener.clock()
        if self._failures and self._rests():
            return  # whatever asks for it: it has just failed
        between = self.every if reason == INTERVAL else AT_LEAST_BETWEEN
        try:
            outcome = await self.compare(reason, since=now - between, keep=False)
            under_way = outcome is None and await self._under_way()
        except StoreUnavailable as error:
            log.error("no comparison with Port", reason=str(error))
            self._fail(self.listener.clock())
        except Exception:  # this must outlive whatever happens in one run
            log.exception("the comparison with Port failed, it is made again")
            self._fail(self.listener.clock())
        else:
            if outcome is not None and outcome.error:
                self._fail(outcome.ended_at)
                return
            self._failures = 0
            # Whoever compares now may have died in the middle, which shows when its lease ends.
            self._wanted = reason if under_way else None
            if outcome is not None:
                self._due_at = outcome.ended_at + self.every
            else:
                self._due_at = self.listener.clock() + min(self.every, AT_LEAST_BETWEEN)

    async def _under_way(self) -> bool:
        newest = await self.listener.store.reconciling.runs(limit=1)
        return bool(newest) and newest[0].ended_at is None

    def _fail(self, at: datetime) -> None:
        wait = min(FIRST_RETRY * 2 ** min(self._failures, 10), self.every)
        self._failures += 1
        self._due_at = at + wait

    async def compare(
        self,
        reason: str,
        *,
        since: datetime | None,
        alert: bool = False,
        keep: bool = True,
    ) -> Outcome | None:
        """Compare now; None: another process does, or did since `since`.

        Args:
            reason: Why.
            since: See `Reconciling.begin`.
            alert: See `Comparison.alert`.
            keep: Whether to return the differences: of a large catalog they may take gigabytes.

        Raises:
            StoreUnavailable: The run could not be begun, or what it came to not be written.
        """
        reconciling, token = self.listener.store.reconciling, self.new_token()
        now = self.listener.clock()
        last = await reconciling.runs(limit=1)
        run = await reconciling.begin(
            reason=reason, token=token, now=now, lease_until=now + LEASE, since=since
        )
        if run is None:
            return None
        comparison = Comparison(
            self.listener,
            self.client,
            alert=alert,
            share=self.share,
            expected=last[0].progress.entities if last else 0,
        )
        began, found, error = time.monotonic(), list[Difference](), "it was stopped"
        try:
            async with asyncio.TaskGroup() as tasks, aclosing(comparison.differences()) as differences:
                lease = tasks.create_task(self._keep_lease(run, token, comparison))
                async for difference in differences:
                    if keep:
                        found.append(difference)
                lease.cancel()
            error = ""
        except* ListenerError as errors:
            error = "; ".join(map(str, errors.exceptions))
            log.error("the comparison with Port failed", reason=error)
        finally:
            seconds, progress = time.monotonic() - began, comparison.progress
            ended_at = self.listener.clock()
            await reconciling.end(run, token=token, now=ended_at, progress=progress, error=error)
            self.listener.watch.compared(
                reason, seconds, progress.differences, progress.missed, well=not error
            )
        if not error:
            log.info(
                "compared with Port",
                why=reason,
                entities=progress.entities,
                learned=progress.learned,
                differences=progress.differences,
                seconds=round(seconds, 1),
            )
        return Outcome(progress, tuple(found), error, ended_at)

    async def _keep_lease(self, run: int, token: str, comparison: Comparison) -> None:
        reconciling = self.listener.store.reconciling
        while True:
            await asyncio.sleep(KEPT_EVERY.total_seconds())
            lease_until = self.listener.clock() + LEASE
            if not await reconciling.keep(
                run, token=token, lease_until=lease_until, progress=comparison.progress
            ):
                raise Replaced
