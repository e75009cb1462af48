"""The embedded database: one SQLite file in WAL mode, for one machine and as many processes as it has."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from typing_extensions import override

from app.errors import StoreUnavailable
from app.model.times import Micros
from app.observe.watch import NOBODY, Watch
from app.store.queries.accept import accept
from app.store.rows import Accepted, Incoming
from app.store.sqlite.mark import ProcessMark
from app.store.sqlite.schema import advice, connect, prepare
from app.store.sqlite.shrink import PAUSE_SECONDS, shrink
from app.store.sqlite.transaction import run_at_once
from app.store.sqlite.writer import WriterThread
from app.store.store import Store
from app.store.transaction import Database, Operation

_T = TypeVar("_T")

READERS = 2
"""Threads that read for the page and the commands: a long read must not keep a short one waiting."""


def open_sqlite(path: Path, watch: Watch = NOBODY, *, upgrade: bool = True) -> Store:
    """Open a store in one file. The file and its folder are created if they do not exist.

    Args:
        path: The file.
        watch: Is called after each transaction.
        upgrade: Whether a file of an older schema may be upgraded.

    Raises:
        SchemaTooNew: A newer release has written the file.
        StoreUnavailable: The file cannot be created, opened, written or upgraded.
    """
    prepare(path, upgrade=upgrade)
    return Store(SQLiteDatabase(path, watch))


class SQLiteDatabase(Database):
    """A SQLite file: one thread writes, others read.

    Args:
        path: The file, of this release's schema.
        watch: Is called after each transaction.
    """

    def __init__(self, path: Path, watch: Watch = NOBODY) -> None:
        self.path = path
        self._mark = ProcessMark(path)
        self.writer = WriterThread(connect(path), watch)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="store-reader")
        self._local = threading.local()
        self._read_connections: list[sqlite3.Connection] = []

    @override
    async def read(self, operation: Operation[_T]) -> _T:
        query = run_at_once(operation)

        def run() -> _T:
            if not hasattr(self._local, "connection"):
                self._local.connection = connect(self.path, query_only=True)
                self._read_connections.append(self._local.connection)
            return query(self._local.connection)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, run)
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the database says: {error}{advice(error, self.path)}") from None

    @override
    async def write(self, operation: Operation[_T], *, seconds: float | None = None) -> _T:
        # No time limit: a statement on a local file ends by itself.
        return await self.writer.run(run_at_once(operation))

    @override
    async def write_first(self, operation: Operation[_T]) -> _T:
        return await self.writer.run(run_at_once(operation))

    @override
    async def accept(self, batch: Sequence[Incoming]) -> list[Accepted]:
        return await self.writer.run_together(_accept_batches, batch)

    @override
    def own(self, token: str) -> str:
        mark = self._mark.name()
        return token if mark is None else f"{mark}.{token}"

    @override
    def listen(self, wake: Callable[[], None]) -> None:
        pass  # a file tells nobody: the dispatcher's poll finds what other processes store

    @override
    def notify(self) -> None:
        pass

    @override
    async def check(self, now: Micros) -> str:
        await self.write(lambda tx: tx.execute("UPDATE schema_version SET checked_at = $1", now))
        return self.writer.trouble()

    @override
    async def shrink(self) -> None:
        while await self.writer.run(shrink):  # noqa: ASYNC110 - others write in the pause
            await asyncio.sleep(PAUSE_SECONDS)

    @override
    async def close(self) -> None:
        await self.writer.close()
        self._readers.shutdown()
        for connection in self._read_connections:
            connection.close()
        self._mark.drop()


def _accept_batches(
    connection: sqlite3.Connection, batches: Sequence[Sequence[Incoming]]
) -> list[list[Accepted]]:
    """Store the changes of several callers in one call."""
    changes = [incoming for batch in batches for incoming in batch]
    accepted = iter(run_at_once(lambda tx: accept(tx, changes))(connection))
    return [[next(accepted) for _ in batch] for batch in batches]
