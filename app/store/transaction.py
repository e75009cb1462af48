"""One transaction, in whichever database: every statement is written once, as PostgreSQL takes it.

SQLite understands nearly all of that. What it writes otherwise is replaced in `in_sqlite`, once a statement.
"""

import json
import re
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import lru_cache
from typing import Any, Protocol, TypeVar

from app.store.locks import lock_of

T = TypeVar("T")
Row = Sequence[Any]

ROWS_AT_ONCE = 200

REPLACED = (
    (re.compile(r"= ANY\((\$\d+)\)"), r"IN (SELECT value FROM json_each(\1))"),
    (re.compile(r"::\w+(\[\])?"), ""),
    (
        re.compile(r" FOR (NO KEY )?(UPDATE|SHARE)( OF \w+)?( SKIP LOCKED)?"),
        "",
    ),  # one writer: nobody to wait for
    (re.compile(r"\bgreatest\("), "max("),
    (re.compile(r"\bleast\("), "min("),
    (re.compile(r' COLLATE "C"'), ""),
    (re.compile(r"\$(\d+)"), r"?\1"),
)


class Session(Protocol):
    """A transaction. Values stand for `$1`, `$2` … in their order; a list is for `= ANY($1)`."""

    later: str
    """Names the index of what is to be told later of an incident, where the database would not find it."""
    pending: str
    """That a delivery waits, of an incident's few; without the index of all that wait."""

    async def fetch(self, statement: str, *values: Any) -> Sequence[Row]:
        """Return all rows."""
        ...

    async def fetchrow(self, statement: str, *values: Any) -> Row | None:
        """Return the first row; None: there is none."""
        ...

    async def fetchval(self, statement: str, *values: Any) -> Any:
        """Return the first row's first value; None: there is none."""
        ...

    async def execute(self, statement: str, *values: Any) -> Any:
        """Run a statement that returns nothing."""
        ...

    def rows(self, statement: str, *values: Any) -> AsyncIterator[Row]:
        """Yield rows as they are looked at, and none that is not."""
        ...

    async def execute_many(self, statement: str, rows: Sequence[Row]) -> None:
        """Run a statement for each of some rows of values."""
        ...

    async def for_each(self, query: str, types: str, rows: Sequence[Row], *, lock: str = "") -> Sequence[Row]:
        """Ask for each of some rows of values in turn, in one trip; `lock`: what is found stays as it is."""
        ...

    async def insert(
        self, table: str, columns: str, rows: Sequence[Row], *, conflict: str = "", returning: str = ""
    ) -> Sequence[Row]:
        """Insert rows, in their order, in one go."""
        ...

    async def forget_entities(self, entities: Sequence[tuple[str, str]]) -> None:
        """Forget the names of entities that have no change any more."""
        ...

    async def lock(self, numbers: Sequence[int]) -> None:
        """Keep others out, until the end, who lock one of these numbers too; one writer is alone anyway."""
        ...


Job = Callable[[Session], Awaitable[T]]


@lru_cache(maxsize=1024)
def in_sqlite(statement: str) -> str:
    """Return a statement as SQLite takes it."""
    for pattern, by in REPLACED:
        statement = pattern.sub(by, statement)
    return statement


class SQLiteSession:
    """See `Session`. Nothing here waits: a job ends in one go, see `at_once`."""

    later, pending = "INDEXED BY later_deliveries", "state = 'pending'"

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    async def fetch(self, statement: str, *values: Any) -> Sequence[Row]:
        return self._run(statement, values).fetchall()

    async def fetchrow(self, statement: str, *values: Any) -> Row | None:
        row: Row | None = self._run(statement, values).fetchone()
        return row

    async def fetchval(self, statement: str, *values: Any) -> Any:
        row = self._run(statement, values).fetchone()
        return None if row is None else row[0]

    async def execute(self, statement: str, *values: Any) -> None:
        self._run(statement, values)

    async def rows(self, statement: str, *values: Any) -> AsyncIterator[Row]:
        for row in self._run(statement, values):
            yield row

    async def execute_many(self, statement: str, rows: Sequence[Row]) -> None:
        self.connection.executemany(in_sqlite(statement), rows)

    async def for_each(self, query: str, types: str, rows: Sequence[Row], *, lock: str = "") -> Sequence[Row]:
        return [found for row in rows for found in self._run(query, row)]

    async def insert(
        self, table: str, columns: str, rows: Sequence[Row], *, conflict: str = "", returning: str = ""
    ) -> Sequence[Row]:
        marks = ", ".join("?" * len(rows[0]))
        statement = f"INSERT INTO {table} ({columns}) VALUES ({marks})" + (
            conflict and f" ON CONFLICT {conflict}"
        )
        if not returning:
            self.connection.executemany(statement, rows)
            return ()
        statement += f" RETURNING {returning}"
        return [self.connection.execute(statement, row).fetchone() for row in rows]

    async def forget_entities(self, entities: Sequence[tuple[str, str]]) -> None:
        pass  # a trigger does

    async def lock(self, numbers: Sequence[int]) -> None:
        pass

    def _run(self, statement: str, values: Sequence[Any]) -> sqlite3.Cursor:
        given = [json.dumps(one) if isinstance(one, list | tuple | set) else one for one in values]
        return self.connection.execute(in_sqlite(statement), given)


def at_once(job: Job[T]) -> Callable[[sqlite3.Connection], T]:
    """Return a job as a function for a thread: it never waits, so that its first step is its last."""

    def run(connection: sqlite3.Connection) -> T:
        try:
            job(SQLiteSession(connection)).__await__().send(None)
        except StopIteration as done:
            result: T = done.value
            return result
        raise RuntimeError("a job on SQLite waits for something")

    return run


def storable(value: Any) -> Any:
    """Return a value without the one character that PostgreSQL cannot store."""
    if isinstance(value, str):
        value = value.replace("\0", "\N{REPLACEMENT CHARACTER}") if "\0" in value else value
        return (
            value.replace(r"\u0000", r"\ufffd")
            if value.startswith(("{", "[")) and r"\u0000" in value
            else value
        )
    return [storable(one) for one in value] if isinstance(value, list | tuple | set) else value


ENTITIES = "(SELECT * FROM unnest($1::text[], $2::text[]) AS given (blueprint, entity))"
CHANGELESS = (
    "NOT EXISTS (SELECT 1 FROM changes WHERE changes.blueprint = one.blueprint"
    " AND changes.entity = one.entity)"
)
BIGINT = frozenset(
    [
        "received_at",
        "at",
        "alerts",
        "opened_at",
        "changed_at",
        "resolved_at",
        "due_at",
        "change_id",
        "created_at",
        "waiting_since",
        "repeat_after",
        "ended_at",
    ]
)
OTHER = {"body": "bytea", "flapping": "boolean"}


class PostgresSession:
    """See `Session`."""

    # When a storm begins, the server's statistics say for a while that little waits.
    later, pending = "", "state || '' = 'pending'"

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    async def fetch(self, statement: str, *values: Any) -> Sequence[Row]:
        rows: Sequence[Row] = await self.connection.fetch(statement, *map(storable, values))
        return rows

    async def fetchrow(self, statement: str, *values: Any) -> Row | None:
        row: Row | None = await self.connection.fetchrow(statement, *map(storable, values))
        return row

    async def fetchval(self, statement: str, *values: Any) -> Any:
        return await self.connection.fetchval(statement, *map(storable, values))

    async def execute(self, statement: str, *values: Any) -> None:
        await self.connection.execute(statement, *map(storable, values))

    async def rows(self, statement: str, *values: Any) -> AsyncIterator[Row]:
        async for row in self.connection.cursor(statement, *map(storable, values), prefetch=ROWS_AT_ONCE):
            yield row

    async def execute_many(self, statement: str, rows: Sequence[Row]) -> None:
        await self.connection.executemany(statement, [tuple(map(storable, row)) for row in rows])

    async def for_each(self, query: str, types: str, rows: Sequence[Row], *, lock: str = "") -> Sequence[Row]:
        arrays = ", ".join(f"${place}::{type_}[]" for place, type_ in enumerate(types.split(", "), 1))
        values = [list(map(storable, column)) for column in zip(*rows, strict=True)]
        if lock:
            keys = ", ".join(f"v{place}" for place in range(1, len(values) + 1))
            where = re.sub(r"\$(\d+)", r"v\1", query)
            where = where.replace(
                f"FROM {lock} WHERE ", f"FROM {lock}, unnest({arrays}) AS given ({keys}) WHERE "
            )
            found: Sequence[Row] = await self.connection.fetch(
                f"{where} FOR NO KEY UPDATE OF {lock}", *values
            )
            return found
        one = re.sub(r"\$(\d+)", r"given.v\1", query)
        keys = ", ".join(f"v{place}" for place in range(1, len(values) + 1))
        found = await self.connection.fetch(
            f"SELECT found.* FROM unnest({arrays}) WITH ORDINALITY AS given ({keys}, place),"
            f" LATERAL ({one}) AS found ORDER BY place",
            *values,
        )
        return found

    async def insert(
        self, table: str, columns: str, rows: Sequence[Row], *, conflict: str = "", returning: str = ""
    ) -> Sequence[Row]:
        names = columns.split(", ")
        types = (OTHER.get(one) or ("bigint" if one in BIGINT else "text") for one in names)
        arrays = ", ".join(f"${place}::{type_}[]" for place, type_ in enumerate(types, 1))
        given = ", ".join(names)
        # Numbers are given in the order of what the query returns.
        statement = (
            f"INSERT INTO {table} ({columns}) SELECT {given} FROM unnest({arrays}) WITH ORDINALITY"
            f" AS given ({given}, place) ORDER BY place"
        )
        statement += (conflict and f" ON CONFLICT {conflict}") + (returning and f" RETURNING {returning}")
        found: Sequence[Row] = await self.connection.fetch(
            statement, *(list(map(storable, column)) for column in zip(*rows, strict=True))
        )
        return found

    async def forget_entities(self, entities: Sequence[tuple[str, str]]) -> None:
        if not entities:
            return
        columns = [list(column) for column in zip(*entities, strict=True)]
        rows = await self.connection.fetch(f"SELECT * FROM {ENTITIES} AS one WHERE {CHANGELESS}", *columns)
        # Whoever stores a change of one of them right now holds its lock; that name is to stay. To wait for it
        # would be to wait in a circle, since it may wait for an incident that was deleted above.
        ours = [
            one
            for one in map(tuple, rows)
            if await self.fetchval("SELECT pg_try_advisory_xact_lock($1)", lock_of(one))
        ]
        if ours:  # what was committed before we had the locks must be seen
            await self.connection.execute(
                f"DELETE FROM entities USING {ENTITIES} AS one WHERE entities.blueprint = one.blueprint"
                f" AND entities.entity = one.entity AND {CHANGELESS}",
                *(list(column) for column in zip(*ours, strict=True)),
            )

    async def lock(self, numbers: Sequence[int]) -> None:
        await self.connection.execute(
            "SELECT pg_advisory_xact_lock(number) FROM unnest($1::bigint[]) AS number", sorted(numbers)
        )


class Database(Protocol):
    """Where a store's transactions are run."""

    async def read(self, job: Job[T]) -> T:
        """Run a job that changes nothing."""
        ...

    async def write(self, job: Job[T]) -> T:
        """Run a job as a transaction that is on disk at the end."""
        ...
