"""What PostgreSQL wants otherwise than SQLite: values in arrays, locks, and no NUL in a text."""

import re
from collections.abc import AsyncIterator, Collection, Sequence
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any, ClassVar

from typing_extensions import override

from app.store.postgres.pool import Connection
from app.store.transaction import Columns, EntityKey, Row, Transaction

STREAMED_ROWS = 200
"""How many rows a cursor brings in one trip."""
ENTITIES = "(SELECT * FROM unnest($1::text[], $2::text[]) AS key (blueprint, entity))"
ABSENCE_CHECK_EVERY = timedelta(seconds=1)
ABSENT_FOR = timedelta(seconds=3)
HELD_LOCKS = (
    "SELECT (classid::bigint << 32) | objid::bigint AS number FROM pg_locks WHERE locktype = 'advisory'"
    " AND objsubid = 1 AND granted AND ((classid::bigint << 32) | objid::bigint) = ANY($1::bigint[])"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
CHANGELESS = (
    "NOT EXISTS (SELECT 1 FROM changes WHERE changes.blueprint = key.blueprint"
    " AND changes.entity = key.entity)"
)


def lock_number(key: tuple[str, ...]) -> int:
    """Give the number of the advisory lock that stands for a key: 64 bits, signed."""
    digest = blake2b("\0".join(key).encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)


def owner_lock(mark: str) -> int:
    """Give the number of the advisory lock that the process of a mark holds as long as it lives."""
    return lock_number(("process", "owner", mark))


class Absences:
    """Processes that do not hold their lock, and since when.

    One whose connection was cut is back within a second, and must not lose its leases meanwhile.
    """

    def __init__(self) -> None:
        self._looked_at: dict[str, datetime] = {}
        self._since: dict[str, datetime] = {}

    async def of(self, marks: Collection[str], now: datetime, db: Connection) -> set[str]:
        """Give those of some marks whose processes have been absent for `ABSENT_FOR`; looks once a second."""
        before = now - ABSENCE_CHECK_EVERY
        due = [mark for mark in marks if self._looked_at.get(mark, before) <= before]
        if due:
            rows = await db.fetch(HELD_LOCKS, [owner_lock(mark) for mark in due])
            held = {number for (number,) in rows}
            self._looked_at.update(dict.fromkeys(due, now))
            for mark in due:
                if owner_lock(mark) in held:
                    self._since.pop(mark, None)
                else:
                    self._since.setdefault(mark, now)
        return {mark for mark in marks if mark in self._since and now - self._since[mark] >= ABSENT_FOR}


def storable(value: Any) -> Any:
    """Replace the one character that PostgreSQL cannot store, in a text, in JSON and in lists of them."""
    if isinstance(value, str):
        if "\0" in value:
            value = value.replace("\0", "\N{REPLACEMENT CHARACTER}")
        if r"\u0000" in value and value.startswith(("{", "[")):
            value = value.replace(r"\u0000", r"\ufffd")
        return value
    return [storable(part) for part in value] if isinstance(value, list | tuple) else value


class PostgresTransaction(Transaction):
    """A transaction on a connection of asyncpg's."""

    later_index: ClassVar[str] = ""
    # When a storm begins, the server's statistics say for a while that little waits; `|| ''` keeps it from
    # the index of all that does.
    server_time: ClassVar[str] = "clock_timestamp()"
    one_writer: ClassVar[bool] = False
    waits: ClassVar[str] = "state || '' = 'pending'"

    def __init__(self, connection: Connection, absences: Absences | None = None) -> None:
        self._connection = connection
        self._absences = absences or Absences()

    @override
    async def fetch(self, statement: str, *values: Any) -> Sequence[Row]:
        rows: Sequence[Row] = await self._connection.fetch(statement, *map(storable, values))
        return rows

    @override
    async def execute(self, statement: str, *values: Any) -> None:
        await self._connection.execute(statement, *map(storable, values))

    @override
    async def stream(self, statement: str, *values: Any) -> AsyncIterator[Row]:
        cursor = self._connection.cursor(statement, *map(storable, values), prefetch=STREAMED_ROWS)
        async for row in cursor:
            yield row

    @override
    async def execute_many(self, statement: str, rows: Sequence[Row]) -> None:
        await self._connection.executemany(statement, [tuple(map(storable, row)) for row in rows])

    @override
    async def fetch_each(self, query: str, types: Sequence[str], rows: Sequence[Row]) -> Sequence[Row]:
        arrays = ", ".join(f"${place}::{type_}[]" for place, type_ in enumerate(types, 1))
        names = ", ".join(f"v{place}" for place in range(1, len(types) + 1))
        each = re.sub(r"\$(\d+)", r"input.v\1", query)
        return await self.fetch(
            f"SELECT answer.* FROM unnest({arrays}) WITH ORDINALITY AS input ({names}, place),"
            f" LATERAL ({each}) AS answer ORDER BY place",
            *_turned(rows),
        )

    @override
    async def insert_many(
        self, table: str, columns: Columns, rows: Sequence[Row], *, conflict: str = ""
    ) -> None:
        statement = _insert(table, columns)
        await self.execute(f"{statement} ON CONFLICT {conflict}" if conflict else statement, *_turned(rows))

    @override
    async def insert_numbered(self, table: str, columns: Columns, rows: Sequence[Row]) -> Sequence[int]:
        return sorted(
            number
            for (number,) in await self.fetch(f"{_insert(table, columns)} RETURNING id", *_turned(rows))
        )

    @override
    async def lock(self, keys: Collection[tuple[str, ...]], *, shared: tuple[str, ...] | None = None) -> None:
        # In one order everywhere, or two transactions could wait for each other.
        await self._connection.execute(
            "SELECT pg_advisory_xact_lock_shared(number) FROM unnest($2::bigint[]) AS number"
            " UNION ALL SELECT pg_advisory_xact_lock(number) FROM unnest($1::bigint[]) AS number",
            sorted({lock_number(key) for key in keys}),
            [lock_number(shared)] if shared else [],
        )

    @override
    async def lock_rows(
        self, table: str, ids: Sequence[Any], *, shared: bool = False, columns: str = "1"
    ) -> Sequence[Row]:
        # NO KEY: to refer to a row locks its key, and that need not wait.
        mode = "SHARE" if shared else "NO KEY UPDATE"
        return await self.fetch(
            f"SELECT {columns} FROM {table} WHERE id = ANY($1) ORDER BY id FOR {mode}", list(ids)
        )

    @override
    async def absent(self, marks: Collection[str], now: datetime) -> set[str]:
        return await self._absences.of(marks, now, self._connection)

    @override
    async def forget_entities(self, entities: Sequence[EntityKey]) -> None:
        if not entities:
            return
        rows = await self.fetch(f"SELECT * FROM {ENTITIES} AS key WHERE {CHANGELESS}", *_turned(entities))
        # A process that stores a change of one of them right now holds its lock; that name stays. To wait
        # for it would be to wait in a circle, since it may wait for an incident that was deleted above.
        free = [
            (blueprint, entity)
            for blueprint, entity in rows
            if await self.fetch_value(
                "SELECT pg_try_advisory_xact_lock($1)", lock_number((blueprint, entity))
            )
        ]
        if free:  # a new statement: it sees what was committed before we had the locks
            await self.execute(
                f"DELETE FROM entities USING {ENTITIES} AS key WHERE entities.blueprint = key.blueprint"
                f" AND entities.entity = key.entity AND {CHANGELESS}",
                *_turned(free),
            )


def _insert(table: str, columns: Columns) -> str:
    """Write the statement that inserts rows, turned into columns, in their order."""
    arrays = ", ".join(f"${place}::{type_}[]" for place, type_ in enumerate(columns.values(), 1))
    names = ", ".join(columns)
    # Numbers are given in the order of what the query returns.
    return (
        f"INSERT INTO {table} ({names}) SELECT {names} FROM unnest({arrays}) WITH ORDINALITY"
        f" AS input ({names}, place) ORDER BY place"
    )


def _turned(rows: Sequence[Row]) -> list[list[Any]]:
    """Turn rows into columns."""
    return [list(column) for column in zip(*rows, strict=True)]
