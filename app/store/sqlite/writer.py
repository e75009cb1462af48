"""One writer thread for one SQLite file: it takes all jobs that wait and commits them as one transaction."""

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import structlog

from app.errors import StoreRefuses, StoreUnavailable
from app.observe.watch import NOBODY, Watch
from app.store.sqlite.schema import LONG_LOG_BYTES, WAL_BYTES, advice

_T = TypeVar("_T")
_Item = TypeVar("_Item")

log = structlog.get_logger(__name__)

LOCK_SECONDS = 5.0  # how long another process may hold the file before we say so
LOCK_PAUSE_SECONDS = 0.001
ENOUGH_JOBS = 64  # jobs that need not wait for more: a larger transaction is hardly any cheaper
LARGEST_TRANSACTION = 512
LOG_PAUSE_SECONDS = 1.0
LOG_WAIT_MS = 100  # how long a checkpoint may wait for readers, and changes for it
LONGEST_BACKLOG = 10_000  # beyond it the disk is not keeping up: better an honest 503 than an endless wait

Job = Callable[[sqlite3.Connection, Sequence[Any]], Sequence[Any]]
"""Gets the items that wait for it, in their order, and gives a result for each."""


@dataclass(slots=True, eq=False)
class _WaitingJob:
    job: Job
    item: Any
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop


class _Files:
    """The files of an open database: SQLite would write on in one that was deleted, and all of it be lost.

    Args:
        path: The database; its write-ahead log stands beside it as soon as something is written.
    """

    def __init__(self, path: Path) -> None:
        # The log's index too: another process would make a new one, and both would write in the same log.
        self._paths = tuple(path.with_name(f"{path.name}{side}") for side in ("", "-wal", "-shm"))
        self.log = self._paths[1]
        self._inodes: list[int] = []
        self._vanished = False

    def check(self) -> None:
        """Check, inside a transaction, that both are the files that were opened.

        Raises:
            sqlite3.OperationalError: One is not.
        """
        try:
            inodes = [path.stat().st_ino for path in self._paths]
        except FileNotFoundError as error:
            raise self._error(error.filename) from None
        if self._inodes and inodes != self._inodes:
            places = zip(self._paths, inodes, self._inodes, strict=True)
            raise self._error(next(path for path, inode, opened in places if inode != opened))
        self._inodes = inodes

    def log_bytes(self) -> int:
        """Return the length of the write-ahead log; an OSError: there is none."""
        return self.log.stat().st_size

    def unavailable(self, error: Exception) -> StoreUnavailable:
        """Say what SQLite says, and what to do if a file is damaged."""
        refused = isinstance(error, sqlite3.IntegrityError | sqlite3.DataError | sqlite3.InterfaceError)
        kind = StoreRefuses if refused else StoreUnavailable
        return kind(f"the database says: {error}{advice(error, self._paths[0])}")

    def _error(self, path: object) -> sqlite3.OperationalError:
        reason = f"the file {path} was moved, replaced or deleted while it was open: restart the listener"
        if not self._vanished:
            self._vanished = True
            log.error("database_file_vanished", file=str(path))
        return sqlite3.OperationalError(reason)


def _results(connection: sqlite3.Connection, waiting: Sequence[_WaitingJob]) -> list[Any]:
    results: list[Any] = []
    for job, group in groupby(waiting, key=lambda entry: entry.job):
        results += job(connection, [entry.item for entry in group])
    return results


def _answer(answers: Sequence[tuple[_WaitingJob, Any, Exception | None]]) -> None:
    """Give the results to those who wait; a loop is woken once for all of its own."""
    for loop in {entry.loop for entry, _, _ in answers}:
        # A loop that is closed raises: nobody waits any more.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(_settle, [answer for answer in answers if answer[0].loop is loop])


def _settle(answers: Sequence[tuple[_WaitingJob, Any, Exception | None]]) -> None:
    for entry, result, error in answers:
        if entry.future.cancelled():
            continue
        if error is None:
            entry.future.set_result(result)
        else:
            entry.future.set_exception(error)


class WriterThread:
    """Runs jobs on a connection of its own, as many as wait in one transaction.

    Args:
        connection: Opened with ``check_same_thread=False`` and ``isolation_level=None``; closed by `close`.
        watch: Is called after each transaction.
    """

    def __init__(self, connection: sqlite3.Connection, watch: Watch = NOBODY) -> None:
        connection.execute("PRAGMA busy_timeout = 0")  # `_begin` waits
        self._connection = connection
        self._files = _Files(Path(connection.execute("PRAGMA database_list").fetchone()[2]))
        self._next_checkpoint: float | None = None  # None: the log is short
        self._trouble = ""
        self._watch = watch
        self._queue: queue.SimpleQueue[_WaitingJob | None] = queue.SimpleQueue()
        self._fresh: dict[asyncio.AbstractEventLoop, list[_WaitingJob]] = {}
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="store-writer", daemon=True)
        self._thread.start()

    async def run(self, job: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run a job inside a transaction and give its result once that is on disk.

        Raises:
            StoreUnavailable: The transaction could not be committed; nothing of it is stored.
        """
        return await self.run_together(lambda db, _: [job(db)], None)

    async def run_together(
        self, job: Callable[[sqlite3.Connection, Sequence[_Item]], Sequence[_T]], item: _Item
    ) -> _T:
        """Run a job for an item as `run` does, in one call with the other items that wait for the same job.

        Args:
            job: Is given the items, in their order, and returns a result for each.
            item: The item of this caller.

        Raises:
            StoreUnavailable: The transaction could not be committed; nothing of it is stored.
        """
        if self._closed:
            raise StoreUnavailable("the store is closed")
        loop = asyncio.get_running_loop()
        fresh = self._fresh.setdefault(loop, [])
        if self._queue.qsize() + len(fresh) >= LONGEST_BACKLOG:
            raise StoreUnavailable("too many writes are waiting for the disk")
        future: asyncio.Future[_T] = loop.create_future()
        fresh.append(_WaitingJob(job, item, future, loop))
        if len(fresh) == 1:
            loop.call_soon(self._gather, loop, 0)
        return await future

    def _gather(self, loop: asyncio.AbstractEventLoop, before: int) -> None:
        """Hand over what is fresh, unless this turn of the loop has brought more: then the next may, too."""
        number = len(self._fresh.get(loop, ()))
        if before < number < ENOUGH_JOBS:
            loop.call_soon(self._gather, loop, number)
        else:
            self._hand_over(loop)

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        for entry in self._fresh.pop(loop, ()):
            self._queue.put(entry)

    async def close(self) -> None:
        """Commit what waits, and close the connection."""
        if not self._closed:
            self._closed = True
            for loop in list(self._fresh):
                self._hand_over(loop)
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        while (first := self._next()) is not None:
            waiting = [first]
            last = False
            while len(waiting) < LARGEST_TRANSACTION and not self._queue.empty():
                following = self._queue.get()
                if following is None:
                    last = True
                    break
                waiting.append(following)
            self._commit(waiting)
            self._shorten_log()
            if last:
                break
        self._connection.close()

    def _next(self) -> _WaitingJob | None:
        while self._next_checkpoint is not None:
            with suppress(queue.Empty):
                return self._queue.get(timeout=LOG_PAUSE_SECONDS)
            self._shorten_log()
        return self._queue.get()

    def trouble(self) -> str:
        """Say what needs attention: a log that grows because somebody reads without end; empty: nothing."""
        try:
            size = self._files.log_bytes()
        except OSError:
            return ""
        if size <= LONG_LOG_BYTES:
            return ""
        return (
            f"the write-ahead log {self._files.log.name} is {size / 1_000_000:.0f} MB long, because a program"
            f" has read the database for long and does not end: end it (`fuser -v {self._files.log.name}`"
            " shows who has it open)"
        )

    def _shorten_log(self) -> None:
        """Empty a log that has grown while somebody read: SQLite's own checkpoints wait for no reader."""
        with suppress(OSError, sqlite3.Error):
            if self._files.log_bytes() <= WAL_BYTES:
                self._next_checkpoint = None
                self._trouble = ""
            elif time.monotonic() >= (self._next_checkpoint or 0):
                self._connection.execute(f"PRAGMA busy_timeout = {LOG_WAIT_MS}")
                (busy, *_) = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                self._next_checkpoint = time.monotonic() + LOG_PAUSE_SECONDS if busy else None
                self._connection.execute("PRAGMA busy_timeout = 0")
                if not self._trouble and (trouble := self.trouble()):
                    self._trouble = trouble
                    log.warning("database_log_long", reason=trouble)

    def _commit(self, waiting: list[_WaitingJob]) -> None:
        connection = self._connection
        began = time.perf_counter()
        try:
            self._begin()
            results = _results(connection, waiting)
            self._files.check()
            connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            self._roll_back()
            self._save_log()
            self._watch.committed(time.perf_counter() - began, len(waiting), well=False)
            _answer([(entry, None, self._files.unavailable(error)) for entry in waiting])
        except Exception as error:  # noqa: BLE001 - a job's own fault must not end the thread
            self._roll_back()
            if len(waiting) == 1:
                refused = isinstance(error, sqlite3.Error)
                if refused:
                    self._watch.committed(time.perf_counter() - began, 1, well=False)
                answer = self._files.unavailable(error) if refused else error
                _answer([(waiting[0], None, answer)])
            else:  # which one it was shows when each runs alone; the others must not suffer for it
                for entry in waiting:
                    self._commit([entry])
        else:
            self._watch.committed(time.perf_counter() - began, len(waiting), well=True)
            _answer([(entry, result, None) for entry, result in zip(waiting, results, strict=True)])

    def _save_log(self) -> None:
        """Put what a log that was deleted still holds into the database: a kill would lose it."""
        if not self._files.log.exists():
            with suppress(sqlite3.Error):
                self._connection.execute("PRAGMA wal_checkpoint")

    def _begin(self) -> None:
        # SQLite's own busy handler sleeps up to 100 ms between its tries: two busy processes would crawl.
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not busy or time.monotonic() > deadline:
                    raise
                time.sleep(LOCK_PAUSE_SECONDS)
            else:
                return

    def _roll_back(self) -> None:
        # On a full disk SQLite has rolled back by itself already, and a further ROLLBACK would be an error.
        with suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
