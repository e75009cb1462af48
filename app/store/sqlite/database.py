"""The embedded store: one SQLite file in WAL mode, for one machine and as many processes as it has."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from app.errors import StoreUnavailable
from app.observe.watch import NOBODY, Watch
from app.store.columns import to_micros
from app.store.queries import accept
from app.store.rows import Accepted, Incoming
from app.store.sqlite import search as sqlite_search
from app.store.sqlite.schema import connect, prepare
from app.store.sqlite.writer import GroupCommit
from app.store.store import SQLStore
from app.store.transaction import Job, Session, at_once

T = TypeVar("T")

READERS = 2


class SQLiteStore(SQLStore):
    """A `Store` in one file. The file and its folder are created if they do not exist.

    Args:
        path: The file.
        watch: Hears of each transaction.
        upgrade: Whether a file of an older schema may be upgraded.

    Raises:
        SchemaTooNew: A newer release has written the file.
        StoreUnavailable: The file cannot be created, opened, written or upgraded.
    """

    def __init__(self, path: Path, watch: Watch = NOBODY, *, upgrade: bool = True) -> None:
        super().__init__(_File(path, watch, upgrade=upgrade), sqlite_search)


class _File:
    """See `Database`."""

    def __init__(self, path: Path, watch: Watch, *, upgrade: bool) -> None:
        prepare(path, upgrade=upgrade)
        self._path = path
        self._inode = path.stat().st_ino
        self._writer = GroupCommit(connect(path), watch)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="store-reader")
        self._local = threading.local()
        self._read_connections: list[sqlite3.Connection] = []

    def time(self, own: datetime) -> datetime:
        """See `Store.time`: one machine has one clock."""
        return own

    def listen(self, wake: Callable[[], None]) -> None:
        """See `Store.on_new`: a file tells nobody, so that the dispatcher's poll notices."""

    def ring(self) -> None:
        """Nobody hears it."""

    async def measure(self, db: Session) -> None:
        """One machine has one clock."""

    async def accept(self, batch: Sequence[Incoming]) -> list[Accepted]:
        """See `Store.accept`."""
        return await self._writer.run_together(_accept, batch)

    async def write(self, job: Job[T], *, seconds: float = 0.0) -> T:
        """See `Database.write`."""
        return await self._writer.run(at_once(job))

    keep = write

    async def read(self, job: Job[T]) -> T:
        """See `Database.read`."""
        query = at_once(job)

        def run() -> T:
            if not hasattr(self._local, "connection"):
                self._local.connection = connect(self._path, query_only=True)
                self._read_connections.append(self._local.connection)
            return query(self._local.connection)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, run)
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the database says: {error}") from None

    async def check(self, now: datetime) -> None:
        """See `Store.check`. A file that was moved away would be written on, and be lost at the end."""
        if not self._path.exists() or self._path.stat().st_ino != self._inode:
            raise StoreUnavailable(f"the file {self._path} was moved, replaced or deleted while it was open")
        await self.write(lambda db: db.execute("UPDATE schema_version SET checked_at = $1", to_micros(now)))

    async def close(self) -> None:
        """See `Store.close`."""
        await self._writer.close()
        self._readers.shutdown()
        for connection in self._read_connections:
            connection.close()


def _accept(db: sqlite3.Connection, batches: Sequence[Sequence[Incoming]]) -> list[list[Accepted]]:
    async def job(session: Session) -> list[Accepted]:
        return await accept.accept(session, [one for batch in batches for one in batch])

    accepted = iter(at_once(job)(db))
    return [[next(accepted) for _ in batch] for batch in batches]
