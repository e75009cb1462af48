"""Leases of processes that have ended: they end with them, on both databases."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from app.model.delivery import Outcome
from app.store import queries
from app.store.leases import MAX_UNSURE_DELAY, unsure_delay
from app.store.opening import now
from app.store.postgres.database import open_postgres
from app.store.sqlite.database import open_sqlite
from app.store.sqlite.mark import ProcessMark, is_gone, owners_folder
from app.store.store import Store
from tests.conftest import NOW
from tests.postgres import PostgresServer
from tests.store.helpers import SECOND, attempt, claim_one, incoming
from tests.waiting import until

Open = Callable[[], Awaitable[Store]]


@pytest.fixture(params=["sqlite", "postgres"])
async def open_another(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the same database once more, as another process does."""
    if request.param == "sqlite":

        async def file() -> Store:
            return open_sqlite(tmp_path / "listener.db")

        return file
    server: PostgresServer = request.getfixturevalue("postgres")
    url = await server.new_database()

    async def database() -> Store:
        store = await open_postgres(url, clock=now)
        store.on_new(lambda: None)
        await until(lambda: "." in store.own("token"))  # it listens, and so it can be missed
        return store

    return database


async def test_a_lease_ends_with_its_process(open_another: Open) -> None:
    """Another process takes a queue over when its holder is gone, and not before; its last send is unsure."""
    dead, store = await open_another(), await open_another()
    await store.accept([incoming()])
    assert await claim_one(dead)
    for second in range(5):
        assert await claim_one(store, second=second, token="b") is None
    await dead.close()
    await until(lambda: _taken_over(store))
    await store.close()


async def _taken_over(store: Store) -> bool:
    # PostgreSQL's locks are looked at once a second, and a process that is away may come back within three.
    for second in range(5, 10):
        if claimed := await claim_one(store, second=second, token="b"):
            assert claimed.unsure_since == NOW
            return True
    return False


async def test_a_process_that_dies_at_each_send_repeats_ever_less(tmp_path: Path) -> None:
    """The queue waits 1 s, 2 s, 4 s … from the claim on, and after a send that works no more."""
    second, path = 0, tmp_path / "listener.db"
    store = open_sqlite(path)
    await store.accept([incoming()])
    for delay in (1, 2, 4):
        dead = open_sqlite(path)
        assert await claim_one(dead, second=second)
        await dead.close()
        assert await claim_one(store, second=second + delay - 1, token="b") is None
        second += delay
    claimed = await claim_one(store, second=second, token="b")
    assert claimed
    assert await store.record(claimed, attempt(Outcome.DELIVERED, second=second))
    (queue,) = await store.read(queries.page.queues, NOW + second * SECOND)
    assert queue.failures == 0
    assert timedelta(microseconds=unsure_delay(1000)) == MAX_UNSURE_DELAY
    await store.close()


async def test_what_the_dead_sent_last_has_time_to_arrive(tmp_path: Path) -> None:
    """Who takes its queue over waits 1 s, however long ago the claim was: it may have sent a moment ago."""
    dead, store = (open_sqlite(tmp_path / "listener.db") for _ in range(2))
    await store.accept([incoming()])
    assert await claim_one(dead)
    await dead.close()
    assert await claim_one(store, second=20, token="b") is None
    assert await claim_one(store, second=21, token="b")
    await store.close()


async def test_a_cut_off_send_is_not_repeated_at_once(tmp_path: Path) -> None:
    """A stop that cuts a send off leaves its queue to rest, as a death does."""
    store = open_sqlite(tmp_path / "listener.db")
    await store.accept([incoming()])
    claimed = await claim_one(store)
    assert claimed
    await store.give_back(claimed, unsure=True)
    assert await claim_one(store) is None
    assert await claim_one(store, second=1)
    await store.close()


async def test_a_reconcile_run_ends_with_its_process(open_another: Open) -> None:
    """A run whose process has ended hinders no other; one whose process lives does."""
    dead, store = await open_another(), await open_another()

    async def begin(by: Store, second: int) -> int | None:
        at = NOW + second * SECOND
        lease = at + timedelta(minutes=2)
        return await by.write(
            queries.reconcile.begin, reason="start", token=by.own("t"), now=at, lease_until=lease, since=None
        )

    assert await begin(dead, 0)
    assert await begin(store, 1) is None
    await dead.close()

    async def begun() -> bool:
        return any([await begin(store, second) for second in (2, 3, 4, 5, 6, 7)])

    await until(begun)
    await store.close()


def test_marks_are_files_that_go_away(tmp_path: Path) -> None:
    """A live process's file is locked; what dead ones have left goes when another comes, and one that
    somebody removed is made again."""
    database = tmp_path / "listener.db"
    folder = owners_folder(database)
    mark = ProcessMark(database)
    name = mark.name()
    assert name
    assert not is_gone(folder, name)
    (folder / "left").touch()
    assert is_gone(folder, "left")
    other = ProcessMark(database)
    assert other.name()
    assert not (folder / "left").exists()
    assert mark.name() == name
    (folder / name).unlink()
    again = mark.name()
    assert again
    assert again != name
    mark.drop()
    other.drop()
    assert not folder.exists()
    assert is_gone(folder, again)


def test_without_a_place_for_the_files(tmp_path: Path) -> None:
    """Where no file can be made there is no mark, and leases end by time."""
    database = tmp_path / "listener.db"
    owners_folder(database).touch()
    assert ProcessMark(database).name() is None
