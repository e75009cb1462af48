"""When a run is made, and by which process."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from app.model.change import RECONCILE
from app.observe.watch import Watch
from app.reconcile.schedule import RUN_LEASE, Reconciler, RunOutcome
from app.store import queries
from app.store.views import ReconcileProgress, StoredRun
from tests.conftest import DATABASES, Start
from tests.port.stand_in_port import CLIENT_ID, CLIENT_SECRET, StandInPort, refusal
from tests.reconcile.watching import BLUEPRINT, SCHEMA, SEARCH, Watching, watching
from tests.waiting import until

MINUTE = timedelta(minutes=1)


def reconciler_of(one: Watching, token: str = "a") -> Reconciler:
    """What compares for a listener, every ten minutes of its clock, and looks at that often."""
    return Reconciler(
        one.intake,
        one.client,
        10 * MINUTE,
        new_token=lambda: token,
        share=1.0,
        look_every=timedelta(milliseconds=5),
    )


async def runs(one: Watching) -> list[StoredRun]:
    """All runs, oldest first."""
    return (await one.intake.store.read(queries.reconcile.runs, limit=100))[::-1]


@asynccontextmanager
async def keeping(one: Watching) -> AsyncIterator[Reconciler]:
    """Let it compare whenever it is due, and wait for the first run."""
    reconciler = reconciler_of(one)
    before = len(await runs(one))
    task = asyncio.create_task(reconciler.reconcile_when_due())
    try:
        await ended(one, before + 1)
        yield reconciler
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def ended(one: Watching, number: int) -> StoredRun:
    """Wait until so many runs have ended, and return the last."""

    async def all_ended() -> bool:
        found = await runs(one)
        return len(found) >= number and all(run.ended_at for run in found)

    await until(all_ended)
    found = await runs(one)
    assert len(found) == number
    return found[-1]


async def still(one: Watching, number: int) -> None:
    """Wait for a while in which it looks many times, and see that there is no further run."""
    await asyncio.sleep(0.1)
    assert len(await runs(one)) == number


@DATABASES
async def test_at_the_start_and_every_ten_minutes(watched: Watching) -> None:
    """And what it finds is told."""
    async with keeping(watched):
        assert (await runs(watched))[0].reason == "start"
        watched.set("checkout", "Degraded")
        watched.clock.pass_(minutes=9)
        await still(watched, 1)
        watched.clock.pass_(minutes=1)
        run = await ended(watched, 2)
        assert (run.reason, run.error) == ("interval", "")
        assert run.progress == ReconcileProgress(entities=1, differences=1, missed=1)
        assert await watched.told() == [("checkout", "Healthy", "Degraded")]


@DATABASES
async def test_a_clock_that_is_set_back(watched: Watching) -> None:
    """The next run does not wait until the clock is again where it was."""
    async with keeping(watched):
        watched.clock.pass_(hours=-5)
        assert (await ended(watched, 2)).reason == "interval"
        watched.clock.pass_(minutes=9)
        await still(watched, 2)
        watched.clock.pass_(minutes=1)
        await ended(watched, 3)


@DATABASES
async def test_one_of_many_compares(watched: Watching) -> None:
    """Of several replicas that begin at once; the others have nothing to do."""
    watched.clock.pass_(minutes=5)
    others = [reconciler_of(watched, str(number)) for number in range(5)]
    outcomes = await asyncio.gather(
        *(one.reconcile("start", since=watched.clock() - MINUTE) for one in others)
    )
    assert len([one for one in outcomes if one is not None]) == 1
    assert len(await runs(watched)) == 1


@DATABASES
async def test_who_dies_in_the_middle_is_replaced(watched: Watching) -> None:
    """When its lease has ended."""
    began = watched.clock()
    store = watched.intake.store
    assert await store.write(
        queries.reconcile.begin,
        reason="start",
        token="dead",
        now=began,
        lease_until=began + RUN_LEASE,
        since=None,
    )
    watched.set("checkout", "Degraded")
    assert await reconciler_of(watched).reconcile("interval", since=None) is None
    watched.clock.now = began + RUN_LEASE
    outcome = await reconciler_of(watched).reconcile("interval", since=None)
    assert outcome is not None
    assert len(outcome.differences) == 1


async def test_differences_that_nobody_reads(watched: Watching) -> None:
    """They are told and counted, and not kept: there may be as many as entities."""
    watched.set("checkout", "Degraded")
    watched.clock.pass_(minutes=1)
    outcome = await reconciler_of(watched).reconcile("interval", since=None, keep=False)
    assert outcome is not None
    assert (outcome.differences, outcome.progress.differences) == ((), 1)
    assert await watched.told() == [("checkout", "Healthy", "Degraded")]


async def test_the_first_run_waits_for_one_that_was_left(watched: Watching) -> None:
    """A restart after a crash compares, though the run of the process that crashed seems to go on."""
    began = watched.clock()
    store = watched.intake.store
    await store.write(
        queries.reconcile.begin,
        reason="interval",
        token="dead",
        now=began,
        lease_until=began + RUN_LEASE,
        since=None,
    )
    reconciler = reconciler_of(watched)
    task = asyncio.create_task(reconciler.reconcile_when_due())
    await still(watched, 1)
    watched.clock.now = began + RUN_LEASE

    async def compared() -> bool:
        return (await runs(watched))[-1].ended_at is not None

    await until(compared)
    assert [run.reason for run in await runs(watched)] == ["interval", "start"]
    task.cancel()


async def test_a_run_that_fails_is_made_again(watched: Watching) -> None:
    """After a minute, then two, at most after the usual time; and it says why it failed."""
    failing = [refusal(403, "no right to read") for _ in range(3)]
    watched.port.script("POST", SEARCH, *failing)
    watched.set("checkout", "Degraded")
    async with keeping(watched):
        (first,) = await runs(watched)
        assert "403" in first.error
        assert "no right to read" in first.error
        watched.clock.pass_(seconds=59)
        await still(watched, 1)
        watched.clock.pass_(seconds=1)
        await ended(watched, 2)
        watched.clock.pass_(seconds=119)
        await still(watched, 2)
        watched.clock.pass_(seconds=1)
        await ended(watched, 3)
        watched.clock.pass_(minutes=4)
        assert (await ended(watched, 4)).error == ""
        assert len(await watched.told()) == 1


async def test_a_fault_of_ours_does_not_end_it(watched: Watching) -> None:
    """Whatever happens in one run, there is a next one."""
    async with keeping(watched) as reconciler:

        def fault() -> str:
            raise ZeroDivisionError

        token, reconciler.new_token = reconciler.new_token, fault
        watched.clock.pass_(minutes=10)
        await still(watched, 1)
        reconciler.new_token = token
        watched.clock.pass_(minutes=10)
        await ended(watched, 2)


async def test_a_run_that_is_stopped(watched: Watching) -> None:
    """Says so, and whoever starts next need not wait for its lease."""
    asked = asyncio.Event()

    async def wait() -> None:
        asked.set()
        await asyncio.Event().wait()

    watched.set("checkout", "Degraded")
    watched.clock.pass_(minutes=1)
    reconciler = reconciler_of(watched)
    watched.port.before_answer = wait
    task = asyncio.create_task(reconciler.reconcile("start", since=None))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    watched.port.before_answer = None
    (run,) = await runs(watched)
    assert (run.error, run.ended_at) == ("it was stopped", watched.clock())
    assert len((await outcome_of(watched)).differences) == 1


async def test_a_stop_while_the_store_cannot_write(watched: Watching) -> None:
    """Ends the loop all the same: the simulator found one that went on for ever (seed 8, a full disk)."""
    asked = asyncio.Event()

    async def wait() -> None:
        asked.set()
        await asyncio.Event().wait()

    watched.port.before_answer = wait
    task = asyncio.create_task(reconciler_of(watched).reconcile_when_due())
    await asked.wait()
    await watched.intake.store.close()
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=5)
    watched.port.before_answer = None
    assert done == {task}
    assert task.cancelled()


async def outcome_of(one: Watching) -> RunOutcome:
    """Compare once."""
    outcome = await reconciler_of(one).reconcile("start", since=None)
    assert outcome is not None
    return outcome


async def test_what_is_counted(watched: Watching) -> None:
    """Runs, differences, and the changes of which Port should have called us, or did later."""
    counted: list[tuple[object, ...]] = []

    class Counting(Watch):
        def compared(self, reason: str, seconds: float, differences: int, missed: int, *, well: bool) -> None:
            assert seconds > 0
            counted.append((reason, differences, missed, well))

        def came_after(self) -> None:
            counted.append(("after",))

    watched.intake.watch = Counting()
    watched.set("checkout", "Degraded")
    happened = watched.clock()
    watched.clock.pass_(minutes=1)
    await outcome_of(watched)
    await watched.post("checkout", "Healthy", "Degraded", happened + timedelta(seconds=0.4))
    watched.port.script("POST", SEARCH, refusal(403))
    await outcome_of(watched)
    assert counted == [("start", 1, 1, True), ("after",), ("start", 0, 0, False)]


async def test_rules_that_name_a_blueprint_for_the_first_time(watched: Watching) -> None:
    """Nothing is compared while none does, and soon after one does."""
    book = watched.intake.book
    watched.intake.book = replace(book, watched={})
    reconciler = reconciler_of(watched)
    task = asyncio.create_task(reconciler.reconcile_when_due())
    await still(watched, 0)
    reconciler.want("rules")
    watched.intake.book = book
    assert (await ended(watched, 1)).reason == "rules"
    task.cancel()


async def test_the_whole_service(start: Start, port: StandInPort, tmp_path: Path) -> None:
    """It learns at its start, and what it was down for it tells when it is back."""
    port.blueprints[BLUEPRINT] = SCHEMA
    options: dict[str, Any] = {
        "rules_file": tmp_path / "rules.yaml",
        "port_client_id": CLIENT_ID,
        "port_client_secret": CLIENT_SECRET,
        "port_api_url": port.url,
    }
    async with watching(f"sqlite:///{tmp_path}/other.db", port, tmp_path) as one:
        one.clock.on_the_wall = True
        one.set("checkout", "Healthy")

        async def compared(number: int) -> list[str]:
            async with start(**options) as service:

                async def look() -> bool:
                    found = await service.store.read(queries.reconcile.runs, limit=9)
                    return len(found) == number and found[0].ended_at is not None

                await until(look)
                deliveries = await service.deliveries()
            return [one.notification.origin for one in deliveries]

        assert await compared(1) == []
        one.set("checkout", "Degraded")
        # A start within a minute of the last run has nothing to look for: so it is made long ago.
        with closing(sqlite3.connect(tmp_path / "listener.db")) as db:
            db.execute("UPDATE reconcile_runs SET started_at = started_at - 3600000000")
            db.execute("UPDATE last_known SET moved_at = moved_at - 3600000000")
            db.commit()
        assert await compared(2) == [RECONCILE]
