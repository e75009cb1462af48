"""The clock of a store: it runs steadily, and when the machine's or the server's is set, what waits moves."""

import asyncio
import re
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import structlog
from typing_extensions import override

from app.model.delivery import Outcome
from app.model.incident import Person
from app.model.silence import Silence
from app.model.times import from_micros, to_micros
from app.rules.rulebook import Queues, Rulebook
from app.store import queries
from app.store.actions import Action, act
from app.store.clock import MOVE_SILENCES, MOVES, StoreClock
from app.store.follow import follow_escalations
from app.store.opening import now
from app.store.postgres.database import open_postgres
from app.store.prune import FIRST_SHARE, HOURLY_SHARE
from app.store.queries.prune import cutoff
from app.store.queue_state import QueueState
from app.store.rows import Aside, Attempt, Claim
from app.store.sqlite.database import open_sqlite
from app.store.sqlite.schema import STEPS as SCHEMA
from app.store.store import Store
from app.store.transaction import Transaction
from tests.postgres import PostgresServer
from tests.store.helpers import LEASE, SECOND, incoming
from tests.store.lives import open_ones, ruled, went

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
STEPS = [-2 * HOUR, -HOUR - 14 * MINUTE - 59 * SECOND, -30 * SECOND, HOUR, 25 * HOUR, 40 * DAY]


READ_CLOCK = "SELECT pg_catalog.clock_timestamp() + span FROM hand.ahead"
SET_CLOCK = (
    "CREATE SCHEMA hand",
    "CREATE TABLE hand.ahead AS SELECT CAST('0' AS interval) AS span",
    f"CREATE FUNCTION hand.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS '{READ_CLOCK}'",
    "ALTER ROLE postgres IN DATABASE {} SET search_path = public, hand, pg_catalog",
)
"""Makes a database whose server's clock a test can set."""


class Machine(ABC):
    """A machine, and the store that goes by its clock, which can be set.

    Attributes:
        ahead: By how much it was set so far.
    """

    ahead = timedelta(0)

    def wall(self) -> datetime:
        """Give what the clock says."""
        return now() + self.ahead

    async def set(self, step: timedelta) -> None:
        """Set the clock."""
        self.ahead += step

    @abstractmethod
    async def start(self, boot: str = "this start") -> Store:
        """Open the store, as a process that starts on the machine does."""


class SQLiteMachine(Machine):
    """The machine that has the file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @override
    async def start(self, boot: str = "this start") -> Store:
        store = open_sqlite(self._path)
        store.clock = StoreClock(self.wall, boot=boot)
        return store


class PostgresMachine(Machine):
    """The server; the processes' own machines have a clock that is an hour wrong, and does not count."""

    def __init__(self, server: PostgresServer, url: str) -> None:
        self._server, self._url = server, url

    @override
    async def set(self, step: timedelta) -> None:
        await super().set(step)
        seconds = self.ahead.total_seconds()
        statement = "UPDATE hand.ahead SET span = make_interval(secs => {})"
        await self._server.execute(statement.format(seconds), self._url)

    @override
    async def start(self, boot: str = "this start") -> Store:
        store = await open_postgres(self._url, clock=now)
        store.clock = StoreClock(lambda: now() - HOUR, boot=boot)
        await store.read(store.clock.compare)
        return store


@pytest.fixture(params=["sqlite", "postgres"])
async def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    """A machine with an empty store."""
    if request.param == "sqlite":
        return SQLiteMachine(tmp_path / "listener.db")
    server: PostgresServer = request.getfixturevalue("postgres")
    url = await server.new_database()
    for statement in SET_CLOCK:
        await server.execute(statement.format(urlsplit(url).path[1:]), url)
    return PostgresMachine(server, url)


async def take(store: Store) -> list[Claim]:
    """Claim what is due now."""
    time = store.clock()
    return await store.claim(token="a", now=time, lease_until=time + LEASE, limit=9, batch_limits={})


async def queue(store: Store) -> QueueState:
    """Read how the queue is."""
    (only,) = await store.read(queries.page.queues, store.clock())
    return only


async def oldest(store: Store) -> datetime:
    """Read from when the patience of what waits counts."""
    time: datetime | None = (await queue(store)).oldest_at
    assert time is not None
    return time


@contextmanager
def logged() -> Iterator[list[str]]:
    """Give the ids of the events that are logged meanwhile."""
    events: list[str] = []
    with structlog.testing.capture_logs() as lines:
        yield events
    events += [line["event"] for line in lines]


def near(left: timedelta, right: timedelta) -> bool:
    """Whether two spans are the same, but for the time that the test takes."""
    return abs(left - right) < 10 * SECOND


async def failed(store: Store) -> None:
    """Store an alert, and fail to deliver it, so that its queue rests for 5 minutes."""
    await store.accept([replace(incoming(), received_at=store.clock())])
    (claim,) = await take(store)
    assert await store.record(claim, retry_at(claim, 5 * MINUTE))


def retry_at(claim: Claim, wait: timedelta) -> Attempt:
    """Make an attempt that failed just when it began."""
    at = claim.claimed_at
    return Attempt(Outcome.RETRY, "503", at, at, at + wait, 1)


@pytest.mark.parametrize(
    ("starts", "step"), [*((False, step) for step in STEPS), (True, STEPS[0]), (True, STEPS[-1])]
)
async def test_what_waits_moves_with_the_clock(machine: Machine, step: timedelta, starts: bool) -> None:
    """A rest, patience and a silence last as long as before, and it is said, once."""
    store = await machine.start()
    await store.follow_clock()
    await failed(store)
    active = Silence("rule", "*", "*", "*", store.clock() - HOUR, store.clock() + HOUR, "A", "")
    planned = replace(active, starts_at=store.clock() + 50 * DAY, ends_at=store.clock() + 51 * DAY)
    for silence in (active, planned):
        await store.write(queries.silences.add, silence)
    await machine.set(step)
    if starts:
        await store.close()
        store = await machine.start()
    with logged() as events:
        assert await take(store) == []
        assert await take(store) == []
    assert events == ["clock_set"]
    assert store.clock.warning
    assert ("back" if step < timedelta(0) else "forward") in store.clock.warning
    assert near(store.clock() - machine.wall(), timedelta(0))
    assert near((await queue(store)).next_at - store.clock(), 5 * MINUTE)
    assert near(store.clock() - (await oldest(store)), timedelta(0))
    later, soon = await store.read(queries.silences.silences, active_at=store.clock())
    assert near(soon.ends_at - store.clock(), HOUR)
    assert later.ends_at == planned.ends_at
    await store.close()


@pytest.mark.parametrize("step", [-2 * HOUR, 2 * HOUR])
async def test_what_waits_for_hours_is_looked_at_again(machine: Machine, step: timedelta) -> None:
    """They are by the clock on the wall, and may have begun: else an end overtakes its beginning."""
    store = await machine.start()
    await store.follow_clock()
    await store.accept([replace(incoming(), received_at=store.clock())])
    (claim,) = await take(store)
    hours = ("office", store.clock() + 3 * HOUR)
    asides = {claim.deliveries[0].id: Aside(Outcome.SILENCED, "held", hours=hours)}
    aside = replace(retry_at(claim, SECOND), outcome=Outcome.SILENCED, delivery_ids=(), asides=asides)
    assert await store.record(claim, aside)
    assert await take(store) == []
    await machine.set(step)
    await store.follow_clock()
    (again,) = await take(store)
    assert again.deliveries[0].id == claim.deliveries[0].id
    await store.close()


async def test_each_process_follows_and_one_moves(machine: Machine) -> None:
    """Of two processes the first moves what waits; what the other is sending fits in, too."""
    first, second = [await machine.start() for _ in range(2)]
    for store in (first, second):
        await store.follow_clock()
    await first.accept([replace(incoming(), received_at=first.clock())])
    (claim,) = await take(first)
    await machine.set(-2 * HOUR)
    assert await take(second) == []  # the lease moved, too
    assert await first.record(claim, retry_at(claim, MINUTE))
    assert near((await queue(second)).next_at - second.clock(), MINUTE)
    with logged() as events:
        await first.follow_clock()
    assert events == ["clock_set"]
    assert near((await queue(first)).next_at - first.clock(), MINUTE)
    assert near(first.clock() - second.clock(), timedelta(0))
    await machine.set(25 * HOUR)
    await first.retry(now=second.clock(), ids=[claim.deliveries[0].id])
    (claim,) = await take(second)
    await machine.set(HOUR)
    await second.follow_clock()
    assert await second.record(claim, retry_at(claim, MINUTE))
    assert near((await queue(second)).next_at - second.clock(), MINUTE)
    for store in (first, second):
        await store.close()


@pytest.mark.parametrize("step", [-2 * HOUR, 25 * HOUR])
async def test_a_time_read_before_the_clock_was_set(machine: Machine, step: timedelta) -> None:
    """What a process writes that has yet to see it fits in with what was moved: in each operation."""
    first, second = [await machine.start() for _ in range(2)]
    for store in (first, second):
        await store.follow_clock()
    await first.accept([replace(incoming(), received_at=first.clock(), stepped=first.clock.known)])
    (claim,) = await take(first)
    await machine.set(step)
    await second.follow_clock()

    async def write() -> None:
        attempt = replace(retry_at(claim, HOUR), outcome=Outcome.ON_HOLD, unsure=True)
        assert await first.record(claim, attempt)
        await first.write(queries.deliveries.probe_on_hold, first.clock())
        time = first.clock()
        for starts_at in (time, time + 50 * DAY):
            silence = Silence("*", "*", "*", "*", starts_at, starts_at + HOUR, "A", "")
            await first.write(queries.silences.add, silence)
        later = replace(incoming(entity="other"), received_at=first.clock(), stepped=first.clock.known)
        await first.accept([later])

    before = first.clock()
    await write()
    time = second.clock()
    assert near(first.clock() - before, timedelta(0))  # it has yet to see it
    assert near((await queue(second)).next_at - time, timedelta(0))
    later, soon = await second.read(queries.silences.silences, active_at=time)
    assert near(soon.ends_at - time, HOUR)
    assert near(later.starts_at - before, 50 * DAY)  # a time of the calendar
    (times,) = await second.read(
        lambda tx: tx.fetch(
            "SELECT unsure_since, (SELECT max(waiting_since) FROM deliveries),"
            " (SELECT max(received_at) FROM changes WHERE entity = 'other') FROM queues"
        )
    )
    for micros in times:
        assert near(from_micros(micros) - time, timedelta(0))
    for store in (first, second):
        await store.close()


@pytest.mark.parametrize("claims", [True, False])
async def test_the_clock_is_set_while_a_time_is_written(machine: Machine, *, claims: bool) -> None:
    """Who moves what waits first lets those end who write by the sum of before: that is moved, too."""
    if isinstance(machine, SQLiteMachine):
        return  # one transaction writes at a time
    first, second = [await machine.start() for _ in range(2)]
    for store in (first, second):
        await store.follow_clock()
    await first.accept([replace(incoming(), received_at=first.clock(), stepped=first.clock.known)])
    next_at, moving = to_micros(first.clock() + MINUTE), list[asyncio.Task[None]]()

    async def slow(tx: Transaction, _: object) -> None:
        if claims:
            await first.clock.follow(tx, delivers=True)
        await machine.set(HOUR)
        moving.append(asyncio.create_task(second.follow_clock()))
        await asyncio.wait(moving, timeout=0.2)
        await tx.execute("UPDATE queues SET next_at = $1", next_at)

    await first.write(slow, None if claims else first.clock())
    await moving[0]
    assert near((await queue(second)).next_at - second.clock(), MINUTE)
    for store in (first, second):
        await store.close()


STAYS = {
    "when it happened": (
        "actions.at attempts.started_at attempts.ended_at audit.at changes.received_at deliveries.created_at"
        " deliveries.ended_at deliveries.copied_at deliveries.sent_at incidents.acknowledged_at"
        " queues.delivered_at quarantine.received_at reconcile_runs.started_at reconcile_runs.ended_at"
        " last_known.moved_at messages.posted_at sockets.seen_at"
    ),
    "by Port's clock": (
        "changes.at incidents.opened_at incidents.changed_at incidents.resolved_at last_known.at"
        " quarantine.signed_at"
    ),
    "by which it is seen that the clock was set": (
        "clock.seen_at clock.stepped clock.booted_at clock.pruned_to clock.retention"
    ),
    "no time, or a span": (
        "attempts.delivery_id actions.audit_id changes.alerts deliveries.change_id deliveries.repeat_after"
        " deliveries.message_id deliveries.silence_id incident_messages.message_id"
        " incident_ties.quiets incidents.flapping incidents.version last_known.version last_known.gone"
        " incidents.at_least incidents.until queues.failures queues.unsure_sends reconcile_runs.entities"
        " reconcile_runs.recorded reconcile_runs.differences reconcile_runs.missed silences.settled"
    ),
}
"""The numbers of the schema that a set clock leaves as they are, by the reason why."""


def test_each_time_moves_or_has_a_reason_to_stay() -> None:
    """A new column must be moved with the clock, or be named above; and both must be there."""
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript((SCHEMA / "0001_first.sql").read_text())
        columns = {
            f"{table}.{name}"
            for table, name in db.execute(
                "SELECT tables.name, columns.name FROM sqlite_schema AS tables,"
                " pragma_table_info(tables.name) AS columns"
                " WHERE tables.type = 'table' AND columns.type = 'INTEGER' AND columns.name <> 'id'"
            )
        }
    moved = {
        f"{table.removeprefix('UPDATE ')}.{name}"
        for table, assigned in (text.split(" SET ") for text in (*MOVES, MOVE_SILENCES))
        for name in re.findall(r"(\w+) =", assigned.split(" WHERE ")[0])
    }
    stays = [name for names in STAYS.values() for name in names.split()]
    assert sorted([*moved, *stays]) == sorted(columns)


async def test_no_claim_waits_for_anothers_note(machine: Machine) -> None:
    """While one process notes the time, another claims; that writes it, too, but not at the same moment."""
    if isinstance(machine, SQLiteMachine):
        return  # one transaction writes at a time
    first, second = [await machine.start() for _ in range(2)]
    for store in (first, second):
        await take(store)
        store.clock.busy = True
    await second.accept([replace(incoming(), received_at=second.clock())])
    await first.write(lambda tx: tx.execute("UPDATE clock SET seen_at = seen_at - 20000000"))

    async def meanwhile(tx: Transaction) -> list[Claim]:
        await first.clock.follow(tx, delivers=True)
        async with asyncio.timeout(10):
            return await take(second)

    assert len(await first.write(meanwhile)) == 1
    for store in (first, second):
        await store.close()


@pytest.mark.parametrize(("step", "event"), [(-2 * HOUR, "clock_set"), (25 * HOUR, "nothing_delivered_for")])
async def test_a_machine_that_is_started_anew(machine: Machine, step: timedelta, event: str) -> None:
    """Time does not go back; and how long nothing ran, or how far the clock was set, uses up no patience."""
    store = await machine.start()
    await failed(store)
    await store.close()
    await machine.set(step)
    store = await machine.start("another start")
    with logged() as events:
        claims = await take(store)
    assert events == [event]
    if claims:  # its rest is over
        assert near(claims[0].claimed_at - claims[0].deliveries[0].waiting_since, timedelta(0))
    else:
        assert near((await queue(store)).next_at - store.clock(), 5 * MINUTE)
    assert bool(claims) == (step > timedelta(0))
    await store.close()


async def test_one_start_deletes_a_days_share(machine: Machine) -> None:
    """However far ahead the clock is: a day at a start, two hours in an hour; a shorter retention at once."""
    store = await machine.start()
    time, month = store.clock(), 30 * DAY
    old = time - month
    for retention, late, share, more in (
        (month, timedelta(0), FIRST_SHARE, timedelta(0)),
        (month, 400 * DAY, FIRST_SHARE, DAY),
        (month, 400 * DAY, HOURLY_SHARE, 2 * HOUR),
        (month - 5 * DAY, 400 * DAY, HOURLY_SHARE, 5 * DAY + 2 * HOUR),
    ):
        old += more
        assert await store.write(cutoff, retention, time + late, share) == old
    assert await store.write(cutoff, month, time, FIRST_SHARE) == time - month
    await store.close()


async def test_an_escalation_that_was_acknowledged(machine: Machine) -> None:
    """The clock is set meanwhile: taken back, the acknowledgement brings the escalation back all the same."""
    store = await machine.start()
    await store.follow_clock()
    rules = ruled(escalate=[{"after": "60s", "send": "pager"}])
    book = Rulebook(rules, {name: Queues(name) for name in ("default", "pager")})
    await store.accept([went("Healthy", "Degraded", 0)])
    await store.write(follow_escalations, book, store.clock())

    async def escalations() -> int:
        (row, *_) = (await store.read(queries.incidents.page, limit=1)).rows
        return len(row.escalations)

    for verb in ("acknowledge", "unacknowledge"):
        assert await escalations() == int(verb == "acknowledge")
        (incident,) = await open_ones(store)
        action = Action(verb, verb, incident.id, Person("ana", "page"))
        await store.write(act, action, store.clock())
        await machine.set(HOUR)
        await take(store)
    assert await escalations() == 1
    await store.close()
