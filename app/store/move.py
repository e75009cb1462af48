"""Takes the rows of a SQLite file to PostgreSQL: every row as it is, with its number.

It may be stopped at any moment and begun again: it goes on behind the last row that arrived. Until it is
done, no listener starts on the database.
"""

import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from app.errors import StoreUnavailable
from app.model.times import to_micros
from app.store.postgres.pool import Connection, Pool
from app.store.postgres.schema import prepare
from app.store.postgres.transaction import storable
from app.store.sqlite.schema import connect
from app.store.sqlite.schema import prepare as prepare_file

TABLE_KEYS = {
    "changes": ("id",),
    "entities": ("entity", "blueprint"),
    "incidents": ("id",),
    "incident_ties": ("incident_id", "rule", "blueprint", "entity"),
    "actions": ("id",),
    "queues": ("name",),
    "rates": ("destination",),
    "addresses": ("destination",),
    "silences": ("id",),
    "messages": ("id",),
    "incident_messages": ("incident_id", "queue", "message_id"),
    "deliveries": ("id",),
    "attempts": ("id",),
    "quarantine": ("id",),
    "audit": ("id",),
    "last_known": ("blueprint", "entity"),
    "baselines": ("blueprint",),
    "reconcile_runs": ("id",),
    "sockets": ("process",),
}
"""Each table with its key; a table that refers to another comes behind it."""

MOVED_ROWS = 500
MOVED_BYTES = 8 * 1024 * 1024
MOVE_SECONDS = 600.0
PROGRESS_SECONDS = 1.0
APPLICATION_NAME = "port-listener-move"

MovedRow = tuple[Any, ...]

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Table:
    """A table that both sides have.

    Attributes:
        name: Its name.
        key: The columns that tell its rows apart.
        types: Its columns in PostgreSQL, with their types.
    """

    name: str
    key: Sequence[str]
    types: dict[str, str]

    @property
    def selected(self) -> str:
        return f"SELECT {', '.join(self.types)} FROM {self.name}"

    def row(self, values: Sequence[Any]) -> MovedRow:
        """Return a row of the file as PostgreSQL stores it."""
        return tuple(
            _converted(value, type_) for value, type_ in zip(values, self.types.values(), strict=True)
        )

    def order(self, *, last: bool = False) -> str:
        """Return the order of the key in PostgreSQL: that of the bytes, as SQLite has it."""
        parts = (f'{column} COLLATE "C"' if self.types[column] == "text" else column for column in self.key)
        return ", ".join(f"{part}{' DESC' if last else ''}" for part in parts)


def _converted(value: Any, type_: str) -> Any:
    if value is None:
        return None
    if type_ == "boolean":
        return bool(value)
    return storable(value)


async def move(
    source: Path, url: str, *, say: Say, rows: int = MOVED_ROWS, progress_seconds: float = PROGRESS_SECONDS
) -> None:
    """Take all rows over, compare both sides, and let listeners start on the new one.

    Args:
        source: The SQLite file; its listener must have been stopped.
        url: `postgresql://…`: a database without rows, or with those of a move that was not finished.
        say: Called with a line of progress.
        rows: How many are written in one transaction.
        progress_seconds: How often `say` is called within a table, at most.

    Raises:
        StoreUnavailable: It cannot be done as it stands; what has arrived stays, and the file is not changed.
    """
    database = Pool(url, name=APPLICATION_NAME)
    await database.open()
    try:
        with closing(_open(source)) as file:
            await prepare(database, moving=True)
            await _begin(database, file.execute("PRAGMA database_list").fetchone()[2])
            tables = [await _table(database, name) for name in TABLE_KEYS]
            for table in tables:
                await _copy(file, database, table, say, rows, progress_seconds)
            for table in tables:
                await _compare(file, database, table, say)
        await database.run(_finish, seconds=MOVE_SECONDS)
    finally:
        await database.close()


def _open(source: Path) -> sqlite3.Connection:
    """Open the file and lock it, for as long as the connection lives: fails while others have it open."""
    if not source.exists():
        raise StoreUnavailable(f"there is no file {source}")
    prepare_file(source)
    file = connect(source)
    file.execute("PRAGMA busy_timeout = 0")
    file.execute("PRAGMA locking_mode = EXCLUSIVE")
    try:
        file.execute("BEGIN IMMEDIATE")
        file.execute("COMMIT")
    except sqlite3.OperationalError:
        file.close()
        raise StoreUnavailable(f"{source} is in use: stop the listener, and what else has it open") from None
    return file


async def _begin(database: Pool, source: str) -> None:
    async def job(db: Connection) -> None:
        others = await db.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name LIKE 'port-listener%' AND application_name <> $1",
            APPLICATION_NAME,
        )
        if others:
            raise StoreUnavailable("a listener runs on the database already: stop it first")
        begun = await db.fetch("SELECT source, ended_at FROM moves")
        if [row["source"] for row in begun if row["ended_at"] is None] == [source]:
            return
        if begun or any([await db.fetchval(f"SELECT 1 FROM {name} LIMIT 1") for name in TABLE_KEYS]):
            raise StoreUnavailable(
                "the database has rows already, and not those of an unfinished move of this file:"
                " take an empty one"
            )
        await db.execute("INSERT INTO moves (source) VALUES ($1)", source)

    await database.run(job)


async def _table(database: Pool, name: str) -> _Table:
    rows = await database.run(
        lambda db: db.fetch(
            "SELECT column_name, data_type FROM information_schema.columns"
            " WHERE table_schema = current_schema() AND table_name = $1 ORDER BY ordinal_position",
            name,
        )
    )
    return _Table(name, TABLE_KEYS[name], {row[0]: row[1] for row in rows})


async def _copy(
    file: sqlite3.Connection, database: Pool, table: _Table, say: Say, most: int, progress_seconds: float
) -> None:
    (total,) = file.execute(f"SELECT count(*) FROM {table.name}").fetchone()
    last = await database.run(
        lambda db: db.fetchrow(
            f"SELECT {', '.join(table.key)} FROM {table.name} ORDER BY {table.order(last=True)} LIMIT 1"
        ),
        seconds=MOVE_SECONDS,
    )
    behind = f" WHERE ({', '.join(table.key)}) > ({', '.join('?' * len(table.key))})" if last else ""
    found = file.execute(f"{table.selected}{behind} ORDER BY {', '.join(table.key)}", last or ())
    arrays = (f"${place}::{type_}[]" for place, type_ in enumerate(table.types.values(), 1))
    insert = (
        f"INSERT INTO {table.name} ({', '.join(table.types)})"
        f" SELECT * FROM unnest({', '.join(arrays)}) ON CONFLICT DO NOTHING"
    )
    done = await database.run(
        lambda db: db.fetchval(f"SELECT count(*) FROM {table.name}"), seconds=MOVE_SECONDS
    )
    reported = time.monotonic()
    for chunk in _chunks((table.row(values) for values in found), most):
        values = [list(column) for column in zip(*chunk, strict=True)]
        await database.run(partial(_insert, insert, values), seconds=MOVE_SECONDS)
        done += len(chunk)
        if time.monotonic() - reported > progress_seconds:
            reported = time.monotonic()
            say(f"{table.name}: {done:,} of {total:,}")


async def _insert(statement: str, values: Sequence[Any], db: Connection) -> None:
    await db.execute(statement, *values)


def _chunks(rows: Iterator[MovedRow], most: int) -> Iterator[list[MovedRow]]:
    chunk: list[MovedRow] = []
    size = 0
    for row in rows:
        chunk.append(row)
        size += sum(len(value) for value in row if isinstance(value, (bytes, str)))
        if len(chunk) == most or size > MOVED_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


async def _compare(file: sqlite3.Connection, database: Pool, table: _Table, say: Say) -> None:
    """Compare every row of both sides, in the order of their keys."""
    here, there = sha256(), sha256()
    count_here = count_there = 0
    for values in file.execute(f"{table.selected} ORDER BY {', '.join(table.key)}"):
        here.update(repr(table.row(values)).encode("utf-8", "replace"))
        count_here += 1

    async def job(db: Connection) -> None:
        nonlocal count_there
        query = f"{table.selected} ORDER BY {table.order()}"
        cursor: AsyncIterator[Sequence[Any]] = db.cursor(query, prefetch=MOVED_ROWS)
        async for values in cursor:
            there.update(repr(tuple(values)).encode("utf-8", "replace"))
            count_there += 1

    await database.run(job, seconds=MOVE_SECONDS, read_only=True)
    if count_here != count_there or here.digest() != there.digest():
        raise StoreUnavailable(
            f"{table.name}: {count_here:,} rows in the file and {count_there:,} in the database are not the"
            " same. Was one of them changed in between? Empty the database, and move again"
        )
    say(f"{table.name}: {count_here:,}, the same on both sides")


async def _finish(db: Connection) -> None:
    """Let new rows get numbers behind the old ones', and listeners start."""
    for name, key in TABLE_KEYS.items():
        if key == ("id",) and name not in ("incidents", "actions"):
            await db.execute(
                f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), max(id)) FROM {name}"
                " HAVING count(*) > 0"
            )
    ended_at = to_micros(await db.fetchval("SELECT clock_timestamp()"))
    await db.execute("UPDATE moves SET ended_at = $1", ended_at)
