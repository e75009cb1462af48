"""What SQLite writes otherwise than PostgreSQL."""

import json
import re
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import orjson
from typing_extensions import override

from app.store.sqlite.mark import is_gone, owners_folder
from app.store.transaction import Columns, EntityKey, Operation, Row, Transaction

_T = TypeVar("_T")

DIFFERENCES = (
    # It has no arrays: a list arrives as JSON.
    (re.compile(r"= ANY\((\$\d+)\)"), r"IN (SELECT value FROM json_each(\1))"),
    # One transaction writes at a time: there are no row locks.
    (re.compile(r" FOR (?:(?:NO KEY )?UPDATE|KEY SHARE)(?: SKIP LOCKED)?"), ""),
    # `$1` would be the name of a parameter.
    (re.compile(r"\$(\d+)"), r"?\1"),
)


@lru_cache(maxsize=1024)
def in_sqlite(statement: str) -> str:
    """Rewrite a statement for SQLite: placeholders, lists and lock clauses."""
    for pattern, replacement in DIFFERENCES:
        statement = pattern.sub(replacement, statement)
    return statement


class SQLiteTransaction(Transaction):
    """A transaction on a connection. Nothing in it waits, so that it ends in one go: see `run_at_once`."""

    # Without statistics SQLite takes the index of the state, which leads to all that is pending anywhere.
    later_index: ClassVar[str] = "INDEXED BY later_deliveries"
    server_time: ClassVar[str] = "NULL"
    one_writer: ClassVar[bool] = True
    waits: ClassVar[str] = "state = 'pending'"

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @override
    async def fetch(self, statement: str, *values: Any) -> Sequence[Row]:
        return self._run(statement, values).fetchall()

    @override
    async def execute(self, statement: str, *values: Any) -> None:
        self._run(statement, values)

    @override
    async def stream(self, statement: str, *values: Any) -> AsyncIterator[Row]:
        for row in self._run(statement, values):
            yield row

    @override
    async def execute_many(self, statement: str, rows: Sequence[Row]) -> None:
        self._connection.executemany(in_sqlite(statement), rows)

    @override
    async def fetch_each(self, query: str, types: Sequence[str], rows: Sequence[Row]) -> Sequence[Row]:
        del types  # SQLite infers them
        # Of one cursor, since to make one takes as long as to find a row.
        execute, statement = self._connection.cursor().execute, in_sqlite(query)
        return [answer for row in rows for answer in execute(statement, row)]

    @override
    async def insert_many(
        self, table: str, columns: Columns, rows: Sequence[Row], *, conflict: str = ""
    ) -> None:
        # Values are taken out of a plain tuple much faster than out of a named one.
        self._connection.executemany(_insert(table, columns, conflict), map(tuple, rows))

    @override
    async def insert_numbered(self, table: str, columns: Columns, rows: Sequence[Row]) -> Sequence[int]:
        self._connection.executemany(_insert(table, columns), rows)
        # With one writer the numbers follow each other. RETURNING would keep each row in a table of its own.
        (last,) = self._connection.execute("SELECT last_insert_rowid()").fetchone()
        return range(last + 1 - len(rows), last + 1)

    @override
    async def lock(self, keys: Collection[tuple[str, ...]], *, shared: tuple[str, ...] | None = None) -> None:
        """Do nothing: there is one writer at a time."""

    @override
    async def lock_rows(
        self, table: str, ids: Sequence[Any], *, shared: bool = False, columns: str = "1"
    ) -> Sequence[Row]:
        """Do nothing: there is one writer at a time."""
        return []

    @override
    async def absent(self, marks: Collection[str], now: datetime) -> set[str]:
        del now
        (file,) = await self.fetch_row("SELECT file FROM pragma_database_list WHERE name = 'main'") or ("",)
        folder = owners_folder(Path(file))
        return {mark for mark in marks if is_gone(folder, mark)}

    @override
    async def forget_entities(self, entities: Sequence[EntityKey]) -> None:
        """Do nothing: the trigger `entity_forgotten` has done it."""

    def _run(self, statement: str, values: Sequence[Any]) -> sqlite3.Cursor:
        for value in values:
            if type(value) is list:
                values = [_json(value) if type(value) is list else value for value in values]
                break
        return self._connection.execute(in_sqlite(statement), values)


def _json(values: list[Any]) -> str:
    with suppress(TypeError):  # half a surrogate pair
        return orjson.dumps(values).decode()
    return json.dumps(values)


def _insert(table: str, columns: Columns, conflict: str = "") -> str:
    marks = ", ".join("?" * len(columns))
    statement = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})"
    return f"{statement} ON CONFLICT {conflict}" if conflict else statement


def run_at_once(operation: Operation[_T]) -> Callable[[sqlite3.Connection], _T]:
    """Turn an operation into a function for a thread: it never waits, so its first step is its last."""

    def run(connection: sqlite3.Connection) -> _T:
        try:
            operation(SQLiteTransaction(connection)).__await__().send(None)
        except StopIteration as end:
            result: _T = end.value
            return result
        raise RuntimeError("an operation on SQLite waits for something")

    return run
