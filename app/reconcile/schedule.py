"""Makes a run whenever one is due, in one process of all."""

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from app.errors import ListenerError, StoreUnavailable
from app.port.client import PortClient
from app.receive.intake import Intake
from app.reconcile.difference import EntityDifference
from app.reconcile.health import INTERVAL, START
from app.reconcile.run import ReconcileRun
from app.store import queries
from app.store.views import ReconcileProgress

log = structlog.get_logger(__name__)

RUN_LEASE = timedelta(minutes=2)
KEPT_EVERY = RUN_LEASE / 6
LOOK_EVERY = timedelta(seconds=5)
AT_LEAST_BETWEEN = timedelta(minutes=1)
"""Between two runs that a start or new rules ask for; several replicas may start at once."""
FIRST_RETRY = timedelta(minutes=1)
SHARE = 0.1
"""Of the process's time, so that webhooks are answered as fast as without a run."""


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """The outcome of a run.

    Attributes:
        progress: How far it came.
        differences: What it found and took in; empty where they were not to be kept.
        error: Why it failed; empty: it did not.
        ended_at: When it ended, as the store has it: the next one is due from then.
    """

    progress: ReconcileProgress
    differences: tuple[EntityDifference, ...]
    error: str
    ended_at: datetime


@dataclass(slots=True)
class Reconciler:
    """Reconciles at the start, when rules name a blueprint for the first time, and every so often.

    Attributes:
        intake: Its rules decide, its store keeps.
        client: Port's API; a patient one.
        every: How often.
        new_token: Gives texts that no other process has.
        share: The share of its time that the process gives to a run, 0 to 1.
        look_every: How often to see whether it is due.
    """

    intake: Intake
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
        """Make a run soon."""
        self._wanted = reason
        self._awake.set()

    async def reconcile_when_due(self) -> None:
        """Make a run whenever one is due, until cancelled."""
        while True:
            self._awake.clear()  # first: a `want` that comes during the run must not be lost
            reason = self._wanted or (None if self._rests() else INTERVAL)
            if reason and self.intake.book.watched:
                self._wanted = reason
                await self._once(reason)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._awake.wait(), self.look_every.total_seconds())

    def _rests(self) -> bool:
        now = self.intake.clock()
        # What is due later than that was set before the clock was set back.
        return self._due_at is not None and now < self._due_at <= now + self.every

    async def _once(self, reason: str) -> None:
        now = self.intake.clock()
        if self._failures and self._rests():
            return  # also if new rules ask for it: it has just failed
        # Other replicas make runs as well: one within this time is enough for all.
        between = self.every if reason == INTERVAL else AT_LEAST_BETWEEN
        try:
            outcome = await self.reconcile(reason, since=now - between, keep=False)
            under_way = outcome is None and await self._under_way()
        except StoreUnavailable as error:
            log.error("reconcile_not_possible", reason=str(error))
            self._fail(self.intake.clock())
        except Exception:  # this must outlive whatever happens in one run
            log.exception("reconcile_crashed")
            self._fail(self.intake.clock())
        else:
            if outcome is not None and outcome.error:
                self._fail(outcome.ended_at)
                return
            self._failures = 0
            # The process that makes a run now may have died in the middle, which shows when its lease ends.
            self._wanted = reason if under_way else None
            if outcome is not None:
                self._due_at = outcome.ended_at + self.every
            else:
                self._due_at = self.intake.clock() + min(self.every, AT_LEAST_BETWEEN)

    async def _under_way(self) -> bool:
        newest = await self.intake.store.read(queries.reconcile.runs, limit=1)
        return bool(newest) and newest[0].ended_at is None

    def _fail(self, at: datetime) -> None:
        # Each failure waits twice as long, up to the interval: Port's outage must not be met with a storm.
        wait = min(FIRST_RETRY * 2 ** min(self._failures, 10), self.every)
        self._failures += 1
        self._due_at = at + wait

    async def reconcile(
        self, reason: str, *, since: datetime | None, alert: bool = False, keep: bool = True
    ) -> RunOutcome | None:
        """Make a run now; None: another process is making one, or has begun one after `since`.

        Args:
            reason: Why: `START`, `INTERVAL`, `RULES` or `COMMAND`.
            since: Not if a run that did not fail has begun after this time, UTC; None: at any rate.
            alert: In a blueprint that is read for the first time, alert of what is wrong, too.
            keep: Whether to return the differences: of a large catalog they may take gigabytes.

        Raises:
            StoreUnavailable: The run could not be begun, or its outcome not be written.
        """
        store = self.intake.store
        token = store.own(self.new_token())
        now = self.intake.clock()
        last = await store.read(queries.reconcile.runs, limit=1)
        run = await store.write(
            queries.reconcile.begin,
            reason=reason,
            token=token,
            now=now,
            lease_until=now + RUN_LEASE,
            since=since,
        )
        if run is None:
            return None
        expected = last[0].progress.entities if last else 0
        reconcile_run = ReconcileRun(
            self.intake, self.client, alert=alert, share=self.share, expected=expected
        )
        began, kept, error = time.monotonic(), list[EntityDifference](), "it was stopped"
        try:
            async with asyncio.TaskGroup() as tasks, aclosing(reconcile_run.differences()) as differences:
                lease = tasks.create_task(self._keep_lease(run, token, reconcile_run))
                async for difference in differences:
                    if keep:
                        kept.append(difference)
                lease.cancel()
            error = ""
        except* ListenerError as errors:
            error = "; ".join(map(str, errors.exceptions))
        finally:
            # Also when it is cancelled: else the next run would wait for the end of the lease.
            ended_at, progress = self.intake.clock(), reconcile_run.progress
            try:
                await store.write(
                    queries.reconcile.end, run, token=token, now=ended_at, progress=progress, error=error
                )
            except StoreUnavailable:
                # On a full disk a stop must stop all the same: this error would replace the cancellation.
                if (task := asyncio.current_task()) is not None and task.cancelling():
                    raise asyncio.CancelledError from None
                raise
            self._report(reason, time.monotonic() - began, progress, error)
        return RunOutcome(progress, tuple(kept), error, ended_at)

    def _report(self, reason: str, seconds: float, progress: ReconcileProgress, error: str) -> None:
        self.intake.watch.compared(reason, seconds, progress.differences, progress.missed, well=not error)
        if error:
            log.error("reconcile_failed", why=reason, reason=error)
        else:
            log.info(
                "reconciled",
                why=reason,
                seconds=round(seconds, 1),
                entities=progress.entities,
                recorded=progress.recorded,
                differences=progress.differences,
                missed=progress.missed,
            )

    async def _keep_lease(self, run: int, token: str, reconcile_run: ReconcileRun) -> None:
        store = self.intake.store
        while True:
            await asyncio.sleep(KEPT_EVERY.total_seconds())
            lease_until = self.intake.clock() + RUN_LEASE
            # The lease also brings the progress to the page.
            if not await store.write(
                queries.reconcile.keep,
                run,
                token=token,
                lease_until=lease_until,
                progress=reconcile_run.progress,
            ):
                raise ListenerError("another process has taken over")
