"""What only the SQLite store has: its file, its schema, its threads."""

import asyncio
import itertools
import shutil
import sqlite3
import stat
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from app.errors import SchemaTooNew, StoreUnavailable
from app.model.delivery import State
from app.model.times import to_micros
from app.store import queries
from app.store.sqlite import schema
from app.store.sqlite import shrink as sqlite_shrink
from app.store.sqlite import writer as group_commit
from app.store.sqlite.copy import copy_database
from app.store.sqlite.database import open_sqlite
from tests.conftest import NOW
from tests.forking import CONTEXT
from tests.store.helpers import SECOND, claim_one, incoming, writer_of
from tests.store.writers import keys, store_fifty, writers
from tests.waiting import until


async def test_the_file_is_private_and_durable(tmp_path: Path) -> None:
    """The file and its folder are made, nobody else can read them, and commits wait for the disk."""
    path = tmp_path / "new" / "folder" / "listener.db"
    store = open_sqlite(path)
    await store.accept([incoming()])
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    modes = await writer_of(store).run(lambda db: db.execute("PRAGMA synchronous").fetchone())
    assert modes == (2,)
    await store.close()


async def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    """A file from a newer release is refused with a sentence, and not touched."""
    path = tmp_path / "listener.db"
    await open_sqlite(path).close()
    with closing(sqlite3.connect(path)) as other:
        other.execute("INSERT INTO schema_version (version) VALUES (999)")
        other.commit()
    with pytest.raises(SchemaTooNew, match="schema 999"):
        open_sqlite(path)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    """A file that is something else is refused with its name."""
    path = tmp_path / "listener.db"
    path.write_text("this is not a database, whatever it is called" * 100)
    with pytest.raises(StoreUnavailable, match=r"listener\.db"):
        open_sqlite(path)


async def test_a_closed_store_says_so(tmp_path: Path) -> None:
    """After close every write is refused; closing twice does no harm."""
    store = open_sqlite(tmp_path / "listener.db")
    await store.close()
    await store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.accept([incoming()])


async def test_group_commit(tmp_path: Path) -> None:
    """What waits is committed together: a thousand accepts need far fewer transactions."""
    store = open_sqlite(tmp_path / "listener.db")
    commits = 0

    def count(statement: str) -> None:
        nonlocal commits
        commits += statement == "COMMIT"

    await writer_of(store).run(lambda db: db.set_trace_callback(count))
    await asyncio.gather(*(store.accept([incoming(entity=f"e{number}")]) for number in range(1000)))
    assert (await store.read(queries.counts.by_state))[State.PENDING] == 1000
    assert commits < 100
    await store.close()


async def test_an_endless_queue_is_refused(tmp_path: Path) -> None:
    """While the disk does not keep up, writes beyond the queue's length are refused, and the rest is kept."""
    store = open_sqlite(tmp_path / "listener.db")
    with closing(sqlite3.connect(tmp_path / "listener.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        # One batch is in the writer's hands, and the queue holds its longest.
        room = group_commit.LONGEST_BACKLOG + group_commit.LARGEST_TRANSACTION
        one = incoming()
        waiting = [asyncio.create_task(store.accept([one])) for _ in range(room + 100)]
        done, pending = await asyncio.wait(waiting, timeout=0.5)
        assert done
        assert all("too many" in str(task.exception()) for task in done)
        other.execute("ROLLBACK")
    results = await asyncio.gather(*pending)
    assert sum(not accepted.duplicate for (accepted,) in results) == 1
    await store.close()


async def test_a_reader_cannot_write(tmp_path: Path) -> None:
    """Queries run on connections that cannot change anything."""
    store = open_sqlite(tmp_path / "listener.db")
    with pytest.raises(StoreUnavailable, match="readonly"):
        await store.read(lambda tx: tx.execute("DELETE FROM changes"))
    await store.close()


def test_processes_share_a_file(tmp_path: Path) -> None:
    """Several processes that open one new file at once all get it, and no change is stored twice."""
    path, files = tmp_path / "listener.db", [tmp_path / str(number) for number in range(4)]
    processes = [CONTEXT.Process(target=store_fifty, args=(path, file)) for file in files]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert sum(int(file.read_text()) for file in files) == 50
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT count(*) FROM deliveries").fetchone() == (50,)


async def test_a_delivery_of_another_release(tmp_path: Path) -> None:
    """What this release cannot read is given up with a reason, and what is behind it goes on."""
    path = tmp_path / "listener.db"
    store = open_sqlite(path)
    await store.accept([incoming(), incoming(entity="behind")])
    with closing(sqlite3.connect(path)) as other:
        other.execute("""UPDATE deliveries SET notification = '{"step": "escalated"}' WHERE id = 1""")
        other.commit()
    claim = await claim_one(store)
    assert claim is not None
    assert claim.deliveries[0].notification.entity == "behind"
    (dead,) = (await store.read(queries.page.deliveries, state=State.DEAD, limit=10)).rows
    assert "another release" in dead.detail
    await store.close()


async def test_a_file_that_is_moved_away(tmp_path: Path) -> None:
    """The check notices when the file is not the one that is written."""
    path = tmp_path / "listener.db"
    store = open_sqlite(path)
    await store.check(NOW)
    path.rename(tmp_path / "elsewhere.db")
    with pytest.raises(StoreUnavailable, match="was moved"):
        await store.check(NOW)
    await store.close()


async def test_one_bad_statement_fails_alone(tmp_path: Path) -> None:
    """A statement that breaks a constraint fails its own caller, not those committed with it."""
    store = open_sqlite(tmp_path / "listener.db")
    good = [store.accept([incoming(entity=f"e{number}")]) for number in range(5)]
    bad = writer_of(store).run(lambda db: db.execute("INSERT INTO queues (name) VALUES (1)"))
    *accepted, refused = await asyncio.gather(*good, bad, return_exceptions=True)
    assert isinstance(refused, StoreUnavailable)
    assert all(isinstance(one, list) for one in accepted)
    await store.close()


class Pages:
    """How large a database is, in pages, as a connection of its own sees it."""

    def __init__(self, path: Path) -> None:
        with closing(sqlite3.connect(path)) as db:
            (self.all,), (self.unused,) = (
                db.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "freelist_count")
            )


def fill_quarantine(path: Path, bodies: int = 10) -> None:
    """Put bodies of 2 MB into a new database, received at NOW."""
    schema.prepare(path)
    with closing(sqlite3.connect(path)) as db:
        db.executemany(
            "INSERT INTO quarantine VALUES (?, zeroblob(2000000), ?, 0, ?, '', '')",
            [(number, number, to_micros(NOW)) for number in range(bodies)],
        )
        db.commit()


async def test_pruning_makes_the_file_smaller(tmp_path: Path) -> None:
    """While other processes write, what was deleted goes back to the disk, in many short transactions."""
    path = tmp_path / "listener.db"
    fill_quarantine(path, 20)
    before = Pages(path)
    steps: list[int] = []

    def note(statement: str) -> None:
        if statement == "COMMIT":
            steps.append(0)
        elif "incremental_vacuum" in statement:
            steps[-1] += 1

    store = open_sqlite(path)
    await writer_of(store).run(lambda db: db.set_trace_callback(note))
    with writers(path, tmp_path) as files:
        await until(lambda: len(keys(files)) > 20)
        assert await store.prune(before=NOW + SECOND, limit=200) == 20
        written = len(keys(files))
        assert await store.prune(before=NOW + SECOND, limit=200) == 0
        await until(lambda: len(keys(files)) > written)
    assert sum(steps) > before.all / 2  # the writers used some of the pages
    assert max(steps) <= sqlite_shrink.STEP_PAGES
    committed = set(keys(files))
    await store.close()  # the last connection to close moves the log into the file
    after = Pages(path)
    assert after.all < before.all / 2
    assert path.stat().st_size == after.all * 4096
    assert after.unused <= after.all // sqlite_shrink.KEPT_SHARE + 1
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert committed <= {key for (key,) in db.execute("SELECT key FROM changes")}


async def test_a_little_room_is_kept(tmp_path: Path) -> None:
    """What the next changes will need is not given back: the file would only grow again."""
    path = tmp_path / "listener.db"
    fill_quarantine(path, 100)
    before = Pages(path)
    store = open_sqlite(path)
    assert await store.prune(before=NOW + SECOND, limit=4) == 4
    assert await store.prune(before=NOW - SECOND, limit=4) == 0
    few = Pages(path)
    assert (few.all, few.unused > 1900) == (before.all, True)
    assert await store.prune(before=NOW + SECOND, limit=4) == 4
    assert await store.prune(before=NOW - SECOND, limit=4) == 0
    more = Pages(path)
    assert more.all < before.all
    assert more.unused == more.all // sqlite_shrink.KEPT_SHARE
    await store.close()


async def test_a_file_that_cannot_shrink(tmp_path: Path) -> None:
    """A file made without auto_vacuum is pruned all the same, keeps its size, and shrinks as a copy."""
    path, copy = tmp_path / "listener.db", tmp_path / "copy.db"
    fill_quarantine(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA auto_vacuum = NONE")
        db.execute("VACUUM")
    copy_database(path, copy)
    for file, size in ((path, 20_000_000), (copy, 0)):
        store = open_sqlite(file)
        assert await store.prune(before=NOW + SECOND, limit=200) == 10
        assert await store.prune(before=NOW + SECOND, limit=200) == 0
        await store.close()
        assert size <= file.stat().st_size < size + 1_000_000


def log_bytes(path: Path) -> int:
    """Return how long the write-ahead log is."""
    return path.with_name(f"{path.name}-wal").stat().st_size


def read_always(path: Path, stop: threading.Event, seconds: float) -> None:
    """Read with two connections in turn, so that one of them reads at each moment, each for some time."""
    readers = [schema.connect(path, query_only=True) for _ in range(2)]
    for reader in itertools.cycle(readers):
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM changes").fetchone()
        if stop.wait(seconds):
            break
        for other in readers:
            if other is not reader and other.in_transaction:
                other.execute("ROLLBACK")
    for reader in readers:
        reader.close()


@pytest.mark.parametrize("seconds", [0.01, 60], ids=["many readers", "a long reader"])
async def test_the_log_is_bounded(tmp_path: Path, seconds: float) -> None:
    """Readers that overlap do not keep the log long; after a long read it is short again, without a write."""
    path = tmp_path / "listener.db"
    store = open_sqlite(path)
    stop = threading.Event()
    reading = asyncio.create_task(asyncio.to_thread(read_always, path, stop, seconds))
    await asyncio.sleep(0.05)
    try:
        for number in range(25):
            await store.accept([replace(incoming(second=number), body=b"x" * 1_000_000)])
        if seconds > 1:
            assert log_bytes(path) > schema.WAL_BYTES
            assert not await store.check(NOW)
            await store.write(lambda tx: tx.execute("UPDATE changes SET body = zeroblob(9000000)"))
            assert f"{path.name}-wal is " in await store.check(NOW)
            stop.set()
        await until(lambda: log_bytes(path) <= schema.WAL_BYTES)
        assert not await store.check(NOW)
    finally:
        stop.set()
        await reading
    await store.close()


async def test_a_log_that_is_deleted(tmp_path: Path) -> None:
    """What was taken before is in the database as soon as the loss is seen: a kill then loses nothing."""
    store = open_sqlite(tmp_path / "listener.db")
    await store.accept([incoming()])
    (tmp_path / "listener.db-wal").unlink()
    with pytest.raises(StoreUnavailable, match=r"listener\.db-wal was moved"):
        await store.accept([incoming(second=1)])
    after_a_kill = shutil.copy(tmp_path / "listener.db", tmp_path / "copy.db")
    with closing(sqlite3.connect(after_a_kill)) as other:
        assert other.execute("SELECT count(*) FROM changes").fetchone() == (1,)
    await store.close()
