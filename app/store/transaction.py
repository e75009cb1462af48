"""One transaction, in either database: what the operations of `app.store.queries` are written against.

Every statement is written once, as PostgreSQL takes it. SQLite (3.40 and later) understands nearly all of
that; `app.store.sqlite.transaction` and `app.store.postgres.transaction` hold the rest, each difference with
its reason.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, TypeVar

from app.model.times import Micros
from app.store.rows import Accepted, Incoming

_T = TypeVar("_T")

Row = Sequence[Any]
"""One row of an answer: its columns in the order of the SELECT."""
Columns = Mapping[str, str]
"""Columns of a table with their types in PostgreSQL, in the order of a row's values."""
EntityKey = tuple[str, str]
"""A blueprint, and an entity of it."""
CLOCK = ("clock",)
"""Who moves what waits, since the clock was set, locks this key; who writes times locks it shared."""


class Transaction(ABC):
    """A transaction.

    Values stand for ``$1``, ``$2`` … in their order. A list is only for ``= ANY($1)``. A parameter whose type
    PostgreSQL could not guess is written ``CAST($1 AS bigint)``.
    """

    later_index: ClassVar[str]
    """Names the index of an incident's later deliveries, where the database would not choose it by itself."""
    server_time: ClassVar[str]
    """Gives the server's time; NULL where there is no server."""
    one_writer: ClassVar[bool]
    """Whether there is one transaction at a time, so that nothing need be locked."""
    waits: ClassVar[str]
    """The condition that a delivery is pending, for the few deliveries of one incident."""

    @abstractmethod
    async def fetch(self, statement: str, *values: Any) -> Sequence[Row]:
        """Run a statement and give all rows of its answer."""

    async def fetch_row(self, statement: str, *values: Any) -> Row | None:
        """Run a statement and give the first row of its answer; None: there is none."""
        rows = await self.fetch(statement, *values)
        return rows[0] if rows else None

    async def fetch_value(self, statement: str, *values: Any) -> Any:
        """Run a statement and give the first row's first value; None: there is no row."""
        row = await self.fetch_row(statement, *values)
        return None if row is None else row[0]

    @abstractmethod
    async def execute(self, statement: str, *values: Any) -> None:
        """Run a statement whose answer does not matter."""

    @abstractmethod
    def stream(self, statement: str, *values: Any) -> AsyncIterator[Row]:
        """Run a statement and give its rows one by one; rows that nobody takes are never read."""

    @abstractmethod
    async def execute_many(self, statement: str, rows: Sequence[Row]) -> None:
        """Run a statement once for each row of values."""

    @abstractmethod
    async def fetch_each(self, query: str, types: Sequence[str], rows: Sequence[Row]) -> Sequence[Row]:
        """Run a query for each row of values, and give all answers in the order of the rows.

        Args:
            query: A SELECT.
            types: The values' types in PostgreSQL.
            rows: The values.
        """

    @abstractmethod
    async def insert_many(
        self, table: str, columns: Columns, rows: Sequence[Row], *, conflict: str = ""
    ) -> None:
        """Insert rows in their order; numbers are given in that order, too.

        Args:
            table: The table.
            columns: The columns of a row.
            rows: The rows, one at least.
            conflict: What follows ON CONFLICT; empty: a conflict is an error.
        """

    @abstractmethod
    async def insert_numbered(self, table: str, columns: Columns, rows: Sequence[Row]) -> Sequence[int]:
        """Insert rows as `insert_many` does, and give the number ``id`` of each, in their order."""

    @abstractmethod
    async def lock(self, keys: Collection[tuple[str, ...]], *, shared: tuple[str, ...] | None = None) -> None:
        """Keep out, until the end, every other transaction that locks one of these keys: an entity's, say.

        Before that, the key `shared` is locked, which others may lock shared at the same time.
        """

    @abstractmethod
    async def lock_rows(
        self, table: str, ids: Sequence[Any], *, shared: bool = False, columns: str = "1"
    ) -> Sequence[Row]:
        """Keep rows as they are until the end, locked in the order of their ids.

        Args:
            table: A table with the key ``id``.
            ids: The rows' keys.
            shared: Others may lock them shared at the same time.
            columns: What to read of them.

        Returns:
            The columns as they are once the rows are locked; nothing where no row can change meanwhile.
        """

    @abstractmethod
    async def absent(self, marks: Collection[str], now: datetime) -> set[str]:
        """Give those of some marks (see `Database.own`) of which the process is known to be dead."""

    @abstractmethod
    async def forget_entities(self, entities: Sequence[EntityKey]) -> None:
        """Delete the names of entities that have no change any more."""


Operation = Callable[[Transaction], Awaitable[_T]]


class Database(ABC):
    """Where transactions run. Every method raises `StoreUnavailable` when the database cannot do it now."""

    @abstractmethod
    async def read(self, operation: Operation[_T]) -> _T:
        """Run an operation that changes nothing."""

    @abstractmethod
    async def write(self, operation: Operation[_T], *, seconds: float | None = None) -> _T:
        """Run an operation as a transaction, which is on disk when this returns.

        Args:
            operation: What to do. It may run again: the last run counts.
            seconds: How long a statement may take; None: the usual time.
        """

    @abstractmethod
    async def write_first(self, operation: Operation[_T]) -> _T:
        """Run an operation as `write` does, before whatever Port does not wait for."""

    @abstractmethod
    async def accept(self, batch: Sequence[Incoming]) -> list[Accepted]:
        """Store changes (`app.store.queries.accept`), in one transaction with those of others who call
        meanwhile.

        One whose `decide` raises fails alone, with that error.
        """

    @abstractmethod
    def own(self, token: str) -> str:
        """Put this process's mark in front of a token, so that others know when a lease's holder is dead.

        Where that could not be known the token stays as it is.
        """

    @abstractmethod
    def listen(self, wake: Callable[[], None]) -> None:
        """Call `wake` when another process has stored something to deliver, if that can be known."""

    @abstractmethod
    def notify(self) -> None:
        """Wake the other processes' dispatchers; returns at once."""

    @abstractmethod
    async def check(self, now: Micros) -> str:
        """Prove that the database can be written, and say what of it needs attention; empty: nothing."""

    @abstractmethod
    async def shrink(self) -> None:
        """Give the room that deleted rows leave back to the disk, in short steps."""

    @abstractmethod
    async def close(self) -> None:
        """Finish what is queued, and close."""
