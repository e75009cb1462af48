"""The delivery loop over a real store, with a destination that obeys the test, and a clock to move."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from app.deliver.dispatcher import QUEUE_LEASE, SPARED
from app.deliver.retry import GIVE_UP_AFTER, PROBE_EVERY
from app.deliver.turn import FAULTS_BEFORE_DEAD
from app.errors import DeliveryFailed, Scope, StoreUnavailable
from app.model.delivery import State
from app.model.incident import Route
from app.model.notification import Message
from app.model.times import Micros
from app.notifier.base import SEND_TIMEOUT, Sent
from app.store import queries
from app.store.clock import StoreClock
from app.store.rows import Claim
from app.store.sqlite.database import open_sqlite
from app.store.store import Store
from tests.conftest import NOW
from tests.deliver.helpers import DEAD, ON_HOLD, PAUSE, TRANSIENT, Rig
from tests.store.helpers import incoming
from tests.waiting import until


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """A dispatcher over an empty store; its loop does not run yet."""
    store = open_sqlite(tmp_path / "listener.db")
    yield Rig(store)
    await store.close()


async def test_delivers_in_order_at_the_queues_rate(rig: Rig) -> None:
    """The first leaves at once, each further one after the pause."""
    await rig.add("one", "two", "three")
    async with rig.running():
        for number in range(1, 4):
            await rig.attempts(number)
            await rig.nothing_more()
            assert rig.notifier.taken == ["one", "two", "three"][:number]
            rig.move(PAUSE)


async def test_delivers_at_the_destinations_rate(rig: Rig) -> None:
    """Counted from when a send began, whatever its queues rest for themselves."""
    rig.notifier.pause, rig.notifier.spacing = timedelta(0), 2 * PAUSE
    await rig.add("one", "two", "three")
    async with rig.running():
        for number in range(1, 4):
            await rig.attempts(number)
            rig.move(PAUSE)
            await rig.nothing_more()
            rig.move(PAUSE)
    assert rig.notifier.taken == ["one", "two", "three"]


async def test_a_transient_failure_keeps_the_order(rig: Rig) -> None:
    """The queue waits 1 s, then 2 s, with the same delivery at its head."""
    rig.notifier.script = [TRANSIENT, TRANSIENT]
    await rig.add("one", "two")
    async with rig.running():
        await rig.attempts(1)
        await rig.nothing_more()
        rig.move(timedelta(seconds=1))
        await rig.attempts(2)
        rig.move(timedelta(seconds=1))
        await rig.nothing_more()
        rig.move(timedelta(seconds=1))
        await rig.attempts(3)
        rig.move(PAUSE)
        await rig.attempts(4)
    assert rig.notifier.tried == ["one", "one", "one", "two"]


async def test_retry_after_is_honoured(rig: Rig) -> None:
    """What the destination asks for is waited for."""
    rig.notifier.script = [DeliveryFailed("429", Scope.TRANSIENT, timedelta(seconds=30))]
    await rig.add("one")
    async with rig.running():
        await rig.attempts(1)
        assert (await rig.newest()).next_at == NOW + timedelta(seconds=30)
        rig.move(timedelta(seconds=30))
        await until(lambda: rig.notifier.taken == ["one"])


async def test_patience_ends(rig: Rig) -> None:
    """After 24 h of transient failures a delivery is dead, with the reason, and the queue goes on."""
    rig.notifier.script = [TRANSIENT, TRANSIENT]
    await rig.add("one")
    async with rig.running():
        await rig.attempts(1)
        await rig.store.accept([incoming(second=int(GIVE_UP_AFTER.total_seconds()) - 60, entity="two")])
        rig.move(GIVE_UP_AFTER)
        await rig.attempts(2)
        rig.move(PAUSE)
        await rig.attempts(3)
    assert rig.notifier.taken == ["two"]
    (dead,) = (await rig.store.read(queries.page.deliveries, state=State.DEAD, limit=10)).rows
    assert (dead.notification.entity, dead.detail) == ("one", "given up after 24 h: 503")


async def test_a_refused_message_is_dead_and_the_queue_goes_on(rig: Rig) -> None:
    """A message that the destination refuses does not hold up the next."""
    rig.notifier.script = [DEAD]
    await rig.add("one", "two")
    async with rig.running():
        await rig.attempts(1)
        rig.move(PAUSE)
        await rig.attempts(2)
    assert rig.notifier.taken == ["two"]
    assert [
        one.state for one in (await rig.store.read(queries.page.deliveries, state=State.DEAD, limit=9)).rows
    ] == [State.DEAD]


async def test_a_queue_on_hold_is_probed_and_loses_nothing(rig: Rig) -> None:
    """A queue on hold is probed every 10 minutes, for as long as it takes, and then sends all it has."""
    rig.notifier.script = [ON_HOLD, TRANSIENT, ON_HOLD]
    await rig.add("one", "two")
    async with rig.running():
        for times in (1, 2, 3):
            await rig.attempts(times)
            assert (await rig.store.read(queries.counts.by_state))[State.ON_HOLD] == 2
            rig.move(PROBE_EVERY - timedelta(seconds=1))
            await rig.nothing_more()
            rig.move(GIVE_UP_AFTER if times == 2 else timedelta(seconds=1))
        await rig.attempts(4)
        rig.move(PAUSE)
        await rig.attempts(5)
    assert rig.notifier.taken == ["one", "two"]


async def test_a_fault_of_ours_kills_one_message(rig: Rig) -> None:
    """An exception that comes again and again makes one dead letter, says so, and stops nothing."""
    rig.notifier.script = [KeyError("secret-in-a-message")] * (FAULTS_BEFORE_DEAD + 1)
    await rig.add("one", "two")
    async with rig.running():
        for times in range(1, FAULTS_BEFORE_DEAD + 2):
            await rig.attempts(times)
            rig.move(timedelta(minutes=1))
        await rig.attempts(FAULTS_BEFORE_DEAD + 2)
    assert rig.notifier.taken == ["two"]
    (dead,) = (await rig.store.read(queries.page.deliveries, state=State.DEAD, limit=9)).rows
    assert dead.detail == "a fault in this program: KeyError"


async def test_a_destination_that_is_gone(rig: Rig) -> None:
    """Alerts for a destination that is no longer configured wait, and the reason is seen."""
    rig.sender.replace({})  # as after a restart with another configuration
    await rig.add("one")
    async with rig.running():
        await rig.attempts(1)
    assert (await rig.newest()).detail == "there is no destination 'default' any more"


async def test_whoever_was_frozen_does_not_send(rig: Rig) -> None:
    """A dispatcher that lost time between claim and send gives the queue back instead of sending."""

    class Slow(Store):
        """A store whose claims arrive late, as after SIGSTOP."""

        async def claim(self, **how: Any) -> list[Claim]:
            claims = await super().claim(**how)
            if claims and not frozen.is_set():
                rig.clock.now += QUEUE_LEASE - SEND_TIMEOUT + timedelta(seconds=1)
                frozen.set()
            return claims

    frozen = asyncio.Event()
    slow = Slow(rig.store._database)  # noqa: SLF001
    rig.dispatcher._store = slow  # noqa: SLF001
    await rig.add("one")
    async with rig.running():
        await frozen.wait()
        assert rig.notifier.tried == []
        await until(lambda: rig.notifier.taken == ["one"])
    await slow.close()


async def test_whoever_lost_the_lease_cannot_record(rig: Rig) -> None:
    """When the lease ends during a send, another may send too, and only that one's record counts."""
    other = Rig(rig.store)
    other.clock = rig.clock
    other.dispatcher._new_token = lambda: "other"  # noqa: SLF001
    other.dispatcher._clock = rig.clock  # noqa: SLF001
    other.sender._clock = rig.clock  # noqa: SLF001
    go_on = asyncio.Event()

    async def freeze() -> None:
        await go_on.wait()

    rig.notifier.script = [freeze]
    await rig.add("one")
    async with rig.running():
        await until(lambda: rig.notifier.tried == ["one"])
        rig.clock.now += QUEUE_LEASE
        async with other.running():
            # One that has just begun cannot know whether the store was away: it leaves others time to record.
            await until(lambda: other.dispatcher.last_turn is not None)
            assert other.notifier.tried == []
            for _ in range(2):
                turn = other.dispatcher.last_turn
                other.move(SPARED - PAUSE)
                await until(lambda turn=turn: other.dispatcher.last_turn != turn)  # type: ignore[misc]
            await until(lambda: other.notifier.taken == ["one"])
            await rig.attempts(1)
        go_on.set()
    newest = await rig.newest()
    assert (newest.state, newest.attempts) == (State.DELIVERED, 1)


class AwayStore(Store):
    """A store that is away when the test says so."""

    away = False
    refused = 0
    looked: Callable[[], None] | None = None

    @override
    async def write(self, *args: Any, **kwargs: Any) -> Any:
        self._judge()
        return await super().write(*args, **kwargs)

    @override
    async def claim(self, **how: Any) -> list[Claim]:
        self._judge()
        claims = await super().claim(**how)
        if self.looked:
            self.looked()
        return claims

    def _judge(self) -> None:
        if self.away:
            self.refused += 1
            raise StoreUnavailable("it is away")


@pytest.mark.parametrize("other_is", ["away", "away once the lease has lapsed", "frozen"])
async def test_what_was_sent_is_recorded_however_long_the_store_is_away(rig: Rig, other_is: str) -> None:
    """The living process knows that it sent: neither it nor another one, which could not look, sends again.

    The lease may even have lapsed while the other one was looking, just before it could not any more.
    """
    lapses, frozen = other_is.startswith("away once"), other_is == "frozen"
    stores = [AwayStore(rig.store._database) for _ in range(2)]  # noqa: SLF001
    mine, other = Rig(stores[0]), Rig(stores[1])
    other.clock = other.dispatcher._clock = other.sender._clock = mine.clock  # noqa: SLF001
    other.dispatcher._new_token = lambda: "other"  # noqa: SLF001

    async def goes_away() -> None:
        stores[0].away, stores[1].away = True, not lapses and not frozen

    def pass_the_end_of_the_lease() -> None:
        mine.clock.now += QUEUE_LEASE
        stores[1].looked, stores[1].away = None, True

    mine.notifier.script = [goes_away]
    async with other.running():
        await until(lambda: other.dispatcher.last_turn is not None)
        async with mine.running():
            await until(lambda: mine.dispatcher.last_turn is not None)
            await mine.add("one", "two")
            await until(lambda: mine.notifier.taken == ["one"])
            stores[1].looked = pass_the_end_of_the_lease if lapses else None
            if not frozen:
                other.dispatcher.wake()
                await until(lambda: stores[1].away)
                other.dispatcher.wake()
                await until(lambda: bool(stores[1].refused))
            mine.clock.now += 3 * QUEUE_LEASE
            # The one that cannot know is back first, and looks twice.
            for _ in range(2):
                stores[1].away = False
                turn = other.dispatcher.last_turn
                mine.clock.now += timedelta(seconds=1)
                other.dispatcher.wake()
                await until(lambda turn=turn: other.dispatcher.last_turn != turn)  # type: ignore[misc]
            assert other.notifier.tried == []
            stores[0].away = False
            await rig.attempts(2)  # its pause is long over
    assert mine.notifier.taken + other.notifier.taken == ["one", "two"]


async def test_the_clock_is_set_while_a_message_is_on_its_way(rig: Rig) -> None:
    """A send that fails after the clock was set 25 h ahead is tried again, and waits as long as ever."""
    ahead = timedelta(0)
    rig.store.clock = StoreClock(lambda: NOW + ahead, lambda: Micros(0), "start")
    rig.dispatcher._clock = rig.sender._clock = rig.store.clock  # noqa: SLF001

    async def clock_is_set() -> None:
        nonlocal ahead
        ahead = timedelta(hours=25)
        await rig.store.follow_clock()
        raise TRANSIENT

    rig.notifier.script = [clock_is_set]
    await rig.store.follow_clock()
    await rig.add("one")
    async with rig.running():
        await rig.attempts(1)
    newest = await rig.newest()
    assert (newest.state, newest.next_at) == (State.PENDING, NOW + ahead + timedelta(seconds=1))


async def test_a_receiver_that_takes_everything_and_says_nothing(rig: Rig) -> None:
    """After 1, 2 and 4 minutes it is on hold: four messages, not three hundred."""
    unsure = DeliveryFailed("no answer in time; it may have arrived", Scope.TRANSIENT, unsure=True)
    rig.notifier.script = [unsure] * 4
    await rig.add("one")
    waits = []
    async with rig.running():
        for number in range(1, 4):
            await rig.attempts(number)
            wait = (await rig.newest()).next_at - rig.clock.now  # type: ignore[operator]
            waits.append(round(wait / timedelta(minutes=1)))
            rig.move(wait - timedelta(seconds=1))
            await rig.nothing_more()
            rig.move(timedelta(seconds=1))
        await rig.attempts(4)
    assert waits == [1, 2, 4]
    newest = await rig.newest()
    assert newest.next_at
    assert newest.next_at - rig.clock.now >= PROBE_EVERY
    assert (await rig.store.read(queries.counts.by_state))[State.ON_HOLD] == 1


async def test_stop_lets_what_is_in_flight_finish(rig: Rig) -> None:
    """Stopping waits for a send that has begun and records it, and claims nothing more."""
    sending = asyncio.Event()

    async def slowly() -> None:
        sending.set()
        await asyncio.sleep(0.2)

    rig.notifier.script = [slowly]
    await rig.add("one", "two")
    async with rig.running():
        await sending.wait()
    assert rig.notifier.taken == ["one"]
    counts = await rig.store.read(queries.counts.by_state)
    assert (counts[State.PENDING], counts[State.DELIVERED]) == (1, 1)


async def test_stop_cuts_off_what_takes_too_long(rig: Rig) -> None:
    """A send that does not end in time is cut off, and its delivery stays pending."""
    sending = asyncio.Event()

    async def endlessly() -> None:
        sending.set()
        await asyncio.Event().wait()

    rig.notifier.script = [endlessly]
    await rig.add("one")
    loop = asyncio.create_task(rig.dispatcher.run())
    await sending.wait()
    await rig.dispatcher.stop(0.05)
    await loop
    assert (await rig.newest()).state is State.PENDING
    now = rig.clock() + timedelta(seconds=1)  # it may have arrived: it is not repeated at once
    assert await rig.store.claim(
        token="next", now=now, lease_until=now + QUEUE_LEASE, limit=1, batch_limits={}
    )


async def test_the_loop_outlives_a_fault(rig: Rig) -> None:
    """A fault in a turn of the loop is said, and the next turn delivers."""

    class Faulty(Store):
        """A store whose first claim raises what no store should."""

        async def claim(self, **how: Any) -> list[Claim]:
            if not raised.is_set():
                raised.set()
                raise ZeroDivisionError
            return await super().claim(**how)

    raised = asyncio.Event()
    faulty = Faulty(rig.store._database)  # noqa: SLF001
    rig.dispatcher._store = faulty  # noqa: SLF001
    await rig.add("one")
    async with rig.running():
        await raised.wait()
        rig.dispatcher.wake()
        await until(lambda: rig.notifier.taken == ["one"])
    await faulty.close()


@pytest.mark.parametrize(
    ("script", "table", "state", "detail"),
    [
        ([], "messages", State.DELIVERED, "ok; what follows from it is lost by {}: StoreRefuses"),
        ([ON_HOLD], "deliveries", State.ON_HOLD, "{}: StoreRefuses"),
        ([], "", State.ON_HOLD, "{}: TypeError"),
        ([], "queues", State.ON_HOLD, "{}: StoreRefuses"),
    ],
)
async def test_a_fault_while_an_attempt_is_recorded(
    rig: Rig, tmp_path: Path, script: list[Exception], table: str, state: State, detail: str
) -> None:
    """What was sent is not sent again each time that its lease lapses; what was not waits on hold."""
    await rig.add("one")
    rig.notifier.script, rig.notifier.result = [*script], Sent("ok", message=Message("C1", "1.1"))
    when = f"INSERT ON {table}"
    if table == "queues":  # what goes out together is noted before it is sent
        rig.notifier.repeats_alike, when = True, "UPDATE ON queues WHEN new.sent_together IS NOT NULL"
    elif table:
        rig.sender.fallbacks = {"default": Route("other", "other")}
    if table:
        with closing(sqlite3.connect(tmp_path / "listener.db")) as database:
            database.execute(f"CREATE TRIGGER refusal BEFORE {when} BEGIN SELECT raise(ABORT, 'no'); END")
    else:  # what is known only after it was sent
        rig.notifier.result = Sent("ok", 7)  # type: ignore[arg-type]
    async with rig.running():
        await rig.attempts(1)
        rig.move(2 * QUEUE_LEASE)
        await rig.nothing_more()
    assert rig.notifier.tried == ["one"][table == "queues" :]
    newest = await rig.newest()
    assert (newest.state, newest.detail) == (state, detail.format("a fault in this program"))


async def test_stale(rig: Rig) -> None:
    """The loop says when its last turn is too long ago, and before the first."""
    assert rig.dispatcher.stale() == "the dispatcher has not begun"
    async with rig.running():
        await until(lambda: rig.dispatcher.stale() is None)
    rig.clock.now += timedelta(seconds=60)
    assert rig.dispatcher.stale() == "the dispatcher's last turn was 60 s ago"
