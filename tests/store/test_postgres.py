"""What only the PostgreSQL store has: replicas, a server that goes away, another clock."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from app.errors import SchemaTooNew, StoreUnavailable
from app.model.delivery import Outcome, State
from app.store import queries
from app.store.opening import now
from app.store.postgres.database import open_postgres
from app.store.store import Store
from app.store.transaction import Transaction
from tests.conftest import NOW
from tests.postgres import PostgresServer
from tests.store.helpers import SECOND, attempt, claim_one, incoming
from tests.store.proxies import HoldingProxy, PoolingProxy
from tests.waiting import until


@pytest.fixture
async def url(postgres: PostgresServer) -> str:
    """An empty database."""
    return await postgres.new_database()


@pytest.fixture
async def pair(url: str) -> AsyncIterator[tuple[Store, Store]]:
    """Two replicas' stores of one database."""
    first, second = [await open_postgres(url, clock=now) for _ in range(2)]
    yield first, second
    await first.close()
    await second.close()


Pair = tuple[Store, Store]


async def test_a_newer_schema_is_refused(postgres: PostgresServer, url: str) -> None:
    """A database that a newer release has written is refused with a sentence, and not touched."""
    await (await open_postgres(url, clock=now)).close()
    await postgres.execute("INSERT INTO schema_version (version) VALUES (999)", url)
    with pytest.raises(SchemaTooNew, match="schema 999"):
        await open_postgres(url, clock=now)


async def test_a_replica_goes_on_while_the_next_release_upgrades(postgres: PostgresServer, url: str) -> None:
    """What a step adds does not stop a replica that runs; one that starts is refused."""
    store = await open_postgres(url, clock=now)
    await store.accept([incoming()])
    for statement in (
        "ALTER TABLE changes ADD COLUMN new TEXT",
        "ALTER TABLE queues ADD COLUMN new BIGINT NOT NULL DEFAULT 0",
        "ALTER TABLE deliveries ADD COLUMN new TEXT NOT NULL DEFAULT ''",
        "INSERT INTO schema_version (version) VALUES (999)",
    ):
        await postgres.execute(statement, url)
    await store.accept([incoming("Degraded", "Crashed", second=1)])
    claim = await claim_one(store, second=1)
    assert claim is not None
    assert await store.record(claim, attempt(Outcome.DELIVERED, second=1))
    with pytest.raises(SchemaTooNew):
        await open_postgres(url, clock=now)
    await store.close()


async def test_only_the_listener_upgrades(postgres: PostgresServer, url: str) -> None:
    """A command that finds an older schema says so, and leaves it."""
    await (await open_postgres(url, clock=now)).close()
    await postgres.execute("DELETE FROM schema_version", url)
    with pytest.raises(StoreUnavailable, match="which upgrades it"):
        await open_postgres(url, clock=now, upgrade=False)


async def test_a_network_that_is_cut(postgres: PostgresServer, url: str, tmp_path: Path) -> None:
    """Where nothing comes back, an accept is given up within 5 s, and later all is well."""
    proxy = HoldingProxy(tmp_path, postgres.folder, lambda said: b"INSERT INTO changes" in said)
    async with proxy.serving():
        store = await open_postgres(url.replace(str(postgres.folder), str(tmp_path)), clock=now)
        began = time.monotonic()
        results = await asyncio.gather(
            *(store.accept([incoming(entity=f"e{number}")]) for number in range(20)), return_exceptions=True
        )
        assert time.monotonic() - began < 5
        assert {type(result) for result in results} == {StoreUnavailable}
        proxy.open.set()
        (accepted,) = await store.accept([incoming(entity="e0")])
        assert accepted.alerts == 1
        await store.close()


async def test_several_open_an_empty_database_at_once(postgres: PostgresServer, url: str) -> None:
    """Each finds or makes the tables, and they are made once."""
    stores = await asyncio.gather(*(open_postgres(url, clock=now) for _ in range(5)))
    for store in stores:
        await store.close()
    made = await postgres.execute("SELECT version FROM schema_version ORDER BY 1", url)
    assert [row["version"] for row in made] == list(range(1, len(made) + 1))


async def test_a_database_without_tables(url: str) -> None:
    """A command that looks at a store does not make one."""
    with pytest.raises(StoreUnavailable, match="no tables"):
        await open_postgres(url, clock=now, must_exist=True)


async def test_what_cannot_be_reached() -> None:
    """Nobody there, or no such address, is said in a sentence without the password."""
    for url in (
        "postgresql://user:hush@127.0.0.1:1/database",
        "postgresql://user:hush@[::1/database",
        "postgresql://user:hush@127.0.0.1:port/database",
    ):
        with pytest.raises(StoreUnavailable) as refused:
            await open_postgres(url, clock=now)
        assert "hush" not in str(refused.value)


async def test_a_server_that_does_not_answer() -> None:
    """A connection that is taken and then silent does not hang."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match="in time"):
        await open_postgres(f"postgresql://user:hush@127.0.0.1:{port}/database", clock=now)
    assert time.monotonic() - began < 4
    server.close()


async def test_replicas_take_an_entity_in_turns(pair: Pair) -> None:
    """Two replicas that get an entity's changes at the same moment make one story, in order."""
    rounds = 30
    for number in range(rounds):
        one = incoming(f"S{number - 1}", f"S{number}", second=number, entity="shared")
        others = [incoming(second=number, entity=f"other-{number}-{other}") for other in range(3)]
        results = await asyncio.gather(pair[0].accept([one, *others]), pair[1].accept([*others, one]))
        assert sorted(one.duplicate for result in results for one in result) == [False] * 4 + [True] * 4
    rows = (await pair[0].read(queries.page.deliveries, state=State.PENDING, limit=1000)).rows
    told = [row.notification.change for row in reversed(rows) if row.notification.entity == "shared"]
    assert [change and change.after for change in told] == [f"S{number}" for number in range(rounds)]


async def test_a_slow_transaction_keeps_its_place(postgres: PostgresServer, url: str, pair: Pair) -> None:
    """Of two replicas the second waits for the first's transaction, and its alert comes after that one's."""
    await pair[0].accept([incoming(entity="e")])
    blocker = await asyncpg.connect(url)
    transaction = blocker.transaction()
    await transaction.start()
    await blocker.execute("SELECT FROM queues FOR UPDATE")  # so that no delivery can be written

    async def waiting(number: int) -> bool:
        count = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        return bool((await postgres.execute(count, url))[0][0] == number)

    slow = asyncio.create_task(pair[0].accept([incoming("Degraded", "Crashed", second=1, entity="e")]))
    await until(lambda: waiting(1))
    quick = asyncio.create_task(pair[1].accept([incoming("Crashed", "Healthy", second=2, entity="e")]))
    await until(lambda: waiting(2))
    await transaction.commit()
    await asyncio.gather(slow, quick)
    rows = reversed((await pair[0].read(queries.page.deliveries, state=None, limit=9)).rows)
    told = [row.notification.change and row.notification.change.after for row in rows]
    assert told == ["Degraded", "Crashed", "Healthy"]
    await blocker.close()


async def test_incidents_are_locked_before_queues(url: str, postgres: PostgresServer, pair: Pair) -> None:
    """A recorded attempt waits for an incident without holding what who has the incident wants next."""
    await pair[0].accept([incoming()])
    claim = await claim_one(pair[0])
    assert claim is not None
    blocker = await asyncpg.connect(url)
    async with blocker.transaction():
        await blocker.execute("SELECT FROM incidents FOR NO KEY UPDATE")
        recording = asyncio.create_task(pair[0].record(claim, attempt(Outcome.DELIVERED)))
        count = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        await until(lambda: _is_one(postgres, count, url))
        await blocker.execute("SELECT FROM queues FOR NO KEY UPDATE NOWAIT")
    assert await recording
    await blocker.close()


async def test_an_incident_that_is_written_meanwhile(url: str, postgres: PostgresServer, pair: Pair) -> None:
    """A change that waits for its row sees what was written: nobody who was told is forgotten."""
    await pair[0].accept([incoming()])
    blocker = await asyncpg.connect(url)
    async with blocker.transaction():
        await blocker.execute("""UPDATE incidents SET told = '[["ops", "ops"]]'""")
        accepting = asyncio.create_task(pair[0].accept([incoming("Degraded", "Healthy", second=1)]))
        count = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        await until(lambda: _is_one(postgres, count, url))
    await accepting
    told = await postgres.execute("SELECT told FROM incidents", url)
    assert '["ops", "ops"]' in told[0][0]
    await blocker.close()


async def test_a_queue_that_is_about_to_be_used_is_not_forgotten(pair: Pair) -> None:
    """However quiet it was: what is put into it has a queue."""
    await pair[0].write(queries.deliveries.make_queues, {"#rocket": "teams"})
    pruned = asyncio.Event()

    async def use(tx: Transaction) -> None:
        await queries.deliveries.make_queues(tx, {"#rocket": "teams"})
        assert await pair[1].prune(before=NOW, limit=9) == 0
        pruned.set()

    await pair[0].write(use)
    assert pruned.is_set()
    assert await pair[1].prune(before=NOW, limit=9) == 1


async def _is_one(postgres: PostgresServer, count: str, url: str) -> bool:
    return bool((await postgres.execute(count, url))[0][0] == 1)


async def test_a_queue_is_held_by_one_replica(pair: Pair) -> None:
    """Of two that claim at once one gets the queue."""
    await pair[0].accept([incoming()])
    claims = await asyncio.gather(claim_one(pair[0], token="a"), claim_one(pair[1], token="b"))
    assert sum(claim is not None for claim in claims) == 1


async def test_others_are_woken_at_once(pair: Pair) -> None:
    """What one replica stores wakes another; its own bell wakes nobody."""
    woken: list[bool] = []
    own: list[bool] = []
    pair[0].on_new(lambda: own.append(True))
    pair[1].on_new(lambda: woken.append(True))
    await until(lambda: bool(own and woken))  # each looks once when it begins to listen
    own.clear()
    woken.clear()
    await pair[0].accept([incoming()])
    await until(lambda: bool(woken))  # nothing but the database's notification wakes it
    assert own == []


async def test_group_commit(url: str, postgres: PostgresServer) -> None:
    """What waits is committed together: a thousand accepts need far fewer transactions."""
    store = await open_postgres(url, clock=now)
    await asyncio.gather(*(store.accept([incoming(entity=f"e{number}")]) for number in range(1000)))
    assert (await store.read(queries.counts.by_state))[State.PENDING] == 1000
    rows = await postgres.execute("SELECT DISTINCT xmin::text FROM deliveries", url)
    assert len(rows) < 20
    await store.close()


async def test_a_closed_store_says_so(url: str) -> None:
    """After close every write is refused."""
    store = await open_postgres(url, clock=now)
    await store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.accept([incoming()])


async def test_text_that_postgresql_cannot_store(url: str) -> None:
    """A null character in a change becomes a sign for it, wherever it stands."""
    store = await open_postgres(url, clock=now)
    await store.accept([incoming("a\0", "b\0", entity="e\0")])
    await store.accept([incoming("b\0", "c\0", entity="e\0", second=1)])
    assert await store.read(queries.changes.last_at, "deploymentConfig", "e\0") == NOW + SECOND
    assert len((await store.read(queries.page.deliveries, state=None, limit=10)).rows) == 2
    assert sum((await store.read(queries.counts.alerts, NOW)).values()) == 2
    await store.close()


async def test_a_delivery_of_another_release(url: str, postgres: PostgresServer) -> None:
    """What this release cannot read is given up with a reason, and what is behind it goes on."""
    store = await open_postgres(url, clock=now)
    await store.accept([incoming(), incoming(entity="behind")])
    await postgres.execute(
        """UPDATE deliveries SET notification = '{"step": "escalated"}' WHERE id = 1""", url
    )
    claim = await claim_one(store)
    assert claim is not None
    assert claim.deliveries[0].notification.entity == "behind"
    (dead,) = (await store.read(queries.page.deliveries, state=State.DEAD, limit=10)).rows
    assert "another release" in dead.detail
    await store.close()


async def test_an_answer_that_was_committed_before_a_timeout(pair: Pair) -> None:
    """A change of which nobody knows whether it was stored is stored once when it comes again."""
    one = incoming()
    with suppress(TimeoutError):
        async with asyncio.timeout(0):
            await pair[0].accept([one])
    (again,) = await pair[1].accept([replace(one, received_at=NOW + SECOND)])
    assert again.alerts == 1
    assert len((await pair[0].read(queries.page.deliveries, state=None, limit=10)).rows) == 1


async def test_a_clock_that_is_wrong(url: str) -> None:
    """A replica whose clock is an hour behind tells the time by the server's."""

    def wrong() -> datetime:
        return now() - timedelta(hours=1)

    store = await open_postgres(url, clock=wrong)
    assert abs(store.clock() - now()) < timedelta(seconds=1)
    await store.close()


async def test_through_a_pool_of_transactions(postgres: PostgresServer, url: str, tmp_path: Path) -> None:
    """Where a pgbouncer gives each transaction another connection, all works, and LISTEN has its own."""
    proxy = PoolingProxy(tmp_path, postgres.folder, 3)
    through = url.replace(str(postgres.folder), str(tmp_path))
    async with proxy.serving(url.partition("@/")[2].partition("?")[0]):
        stores = [await open_postgres(through, clock=now, listen_url=url) for _ in range(2)]
        woken = asyncio.Event()
        stores[1].on_new(woken.set)
        await asyncio.wait_for(woken.wait(), 5)
        woken.clear()
        batches = [[incoming(entity=f"e{number}", second=number)] for number in range(40)]
        await asyncio.gather(*(stores[number % 2].accept(batch) for number, batch in enumerate(batches)))
        await asyncio.wait_for(woken.wait(), 5)
        for second in range(40):
            claims = await asyncio.gather(*(claim_one(one, second=second) for one in stores))
            (claim,) = filter(None, claims)
            assert await stores[second % 2].record(claim, attempt(Outcome.DELIVERED, second=second))
        assert (await stores[0].read(queries.counts.by_state))[State.DELIVERED] == 40
        for store in stores:
            await store.close()
