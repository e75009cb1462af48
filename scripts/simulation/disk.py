"""The simulated disk: the real SQLite store, written in the loop, whose transactions a fault can strike."""

import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from app.store.rows import Accepted, Incoming
from app.store.sqlite.database import SQLiteDatabase
from app.store.sqlite.mark import ProcessMark
from app.store.sqlite.schema import connect
from app.store.sqlite.writer import WriterThread
from scripts.simulation.chance import Chance
from scripts.simulation.clock import Process, VirtualLoop
from scripts.simulation.mutants import Mutant
from scripts.simulation.world import World

COMMIT_SECONDS = (0.001, 0.01)


class Killed(BaseException):
    """The process has just been killed: nothing may catch this."""


class Cursor:
    """A cursor whose queries have the planted mistake."""

    def __init__(self, real: sqlite3.Cursor, rewrite: Callable[[str], str]) -> None:
        self._real, self._rewrite = real, rewrite

    def execute(self, query: str, values: Any = ()) -> sqlite3.Cursor:
        """Run a query."""
        return self._real.execute(self._rewrite(query), values)


class Connection:
    """A connection whose commits may fail, or be the last that the process does.

    Args:
        real: The connection.
        process: The process that writes.
        world: Says what strikes, and whether the disk is full for all.
        mutant: The mistake that is planted.
    """

    def __init__(self, real: sqlite3.Connection, process: Process, world: World, mutant: Mutant) -> None:
        self._real = real
        self._process = process
        self._world = world
        self._chance = world.chance
        self._rewrite = mutant.statement

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self._real.in_transaction

    def execute(self, statement: str, values: Any = ()) -> sqlite3.Cursor:
        """Run a statement."""
        if statement == "BEGIN IMMEDIATE":
            self._before = self._real.total_changes
        if statement != "COMMIT" or self._real.total_changes == self._before:
            return self._real.execute(self._rewrite(statement), values)
        if self._chance.strikes("disk_full"):
            self._world.lose_disk(self._chance.between("disk_full for", 0.5, 20))
        if self._world.is_away():
            raise sqlite3.OperationalError("database or disk is full")
        if self._chance.strikes("kill_before_commit"):
            self._die()
        cursor = self._real.execute(self._rewrite("COMMIT"))
        if self._chance.strikes("kill_after_commit"):
            self._die()
        return cursor

    def cursor(self) -> "Cursor":
        """Make one that runs queries."""
        return Cursor(self._real.cursor(), self._rewrite)

    def executemany(self, statement: str, rows: Any) -> sqlite3.Cursor:
        """Run a statement once for each row of values."""
        return self._real.executemany(self._rewrite(statement), rows)

    def close(self) -> None:
        """Close it."""
        self._real.close()

    def _die(self) -> None:
        self._process.end(self._world.loop.time())
        raise Killed

    _before = 0


class _Writer(WriterThread):
    """The store's writer without its thread: it commits what waits when the disk is ready."""

    def __init__(self, connection: Connection, loop: VirtualLoop, chance: Chance) -> None:
        self._loop = loop
        self._chance = chance
        super().__init__(connection)  # type: ignore[arg-type]

    def _work(self) -> None:
        pass

    def _hand_over(self, loop: Any) -> None:
        super()._hand_over(loop)
        delay = self._chance.between("commit", *COMMIT_SECONDS)
        if self._chance.strikes("disk_slow"):
            delay = self._chance.between("disk_slow for", 0.3, 6)
        self._loop.call_later(delay, self._drain)

    def _drain(self) -> None:
        waiting = []
        while not self._queue.empty():
            if (job := self._queue.get()) is not None:
                waiting.append(job)
        if waiting:
            self._commit(waiting)

    async def close(self) -> None:
        """Commit what waits, and close the connection."""
        if not self._closed:
            await super().close()
            self._drain()
            self._connection.close()


class SimulatedDatabase(SQLiteDatabase):
    """A SQLite file of a simulated process.

    Args:
        path: The file, of this release's schema.
        process: The process that opens it.
        world: Runs everything, and says what strikes.
        mutant: The mistake that is planted.
    """

    def __init__(self, path: Path, process: Process, world: World, mutant: Mutant) -> None:
        self.path = path
        self._mark = ProcessMark(path)
        self._mutant = mutant
        self.writer = _Writer(Connection(connect(path), process, world, mutant), world.loop, world.chance)
        self._readers = ThreadPoolExecutor(1)  # starts no thread: the loop runs what it is given
        self._local = threading.local()
        self._read_connections = []
        process.at_death.append(self._closed_by_the_kernel)

    async def accept(self, batch: Sequence[Incoming]) -> list[Accepted]:
        """Store changes."""
        return await super().accept([self._mutant.incoming(incoming) for incoming in batch])

    def _closed_by_the_kernel(self) -> None:
        for connection in [self.writer._connection, *self._read_connections]:  # noqa: SLF001
            connection.close()
        self._mark.drop()
