"""One schema for both databases, and upgrades of it on PostgreSQL."""

import asyncio
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import asyncpg
import pytest

from app.errors import StoreUnavailable
from app.model.delivery import State
from app.store import queries
from app.store.opening import now
from app.store.postgres import schema as postgres_schema
from app.store.postgres.database import open_postgres
from app.store.postgres.pool import Pool
from app.store.queries.accept import CHANGE_COLUMNS, INCIDENT_COLUMNS
from app.store.queries.deliveries import DELIVERY_COLUMNS
from app.store.rows import NewDelivery
from app.store.sqlite.schema import prepare
from tests.postgres import PostgresServer
from tests.store.helpers import incoming

KINDS = {"bigint": "INTEGER", "boolean": "INTEGER", "text": "TEXT", "bytea": "BLOB"}
"""The types of PostgreSQL, with what stands for them in SQLite."""


def sqlite_columns(path: Path) -> dict[tuple[str, str], tuple[str, bool]]:
    """Give each table's columns in SQLite, with their type and whether they may be null."""
    prepare(path)
    with closing(sqlite3.connect(path)) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return {
            (table, name): (kind, not (required or key))
            for table in tables
            for _, name, kind, required, _, key in db.execute(f"PRAGMA table_info({table})")
        }


async def test_both_databases_have_the_same_columns(tmp_path: Path, postgres: PostgresServer) -> None:
    """Each table has the same columns, of types that stand for each other, null where the other may be."""
    url = await postgres.new_database()
    await (await open_postgres(url, clock=now)).close()
    rows = await postgres.execute(
        "SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns"
        " WHERE table_schema = 'public' AND table_name NOT IN ('moves', 'schema_version')",
        url,
    )
    there = {(table, name): (KINDS[kind], null == "YES") for table, name, kind, null in rows}
    here = sqlite_columns(tmp_path / "listener.db")
    assert {key: kind for key, kind in here.items() if key[0] != "schema_version"} == there


def test_what_is_inserted_has_its_columns(tmp_path: Path) -> None:
    """The columns that are written by name are the table's, with the types that PostgreSQL has for them."""
    there = sqlite_columns(tmp_path / "listener.db")
    tables = {"changes": CHANGE_COLUMNS, "incidents": INCIDENT_COLUMNS, "deliveries": DELIVERY_COLUMNS}
    for table, columns in tables.items():
        assert {name: KINDS[kind] for name, kind in columns.items()} == {
            name: there[table, name][0] for name in columns
        }
    assert tuple(DELIVERY_COLUMNS) == NewDelivery._fields


@pytest.fixture
def steps(tmp_path: Path) -> Path:
    """The steps of a release to come: it adds a column."""
    folder = tmp_path / "steps"
    shutil.copytree(postgres_schema.SQL_FOLDER, folder)
    (folder / "0002_more.sql").write_text("ALTER TABLE queues ADD COLUMN colour TEXT DEFAULT 'red';")
    return folder


async def test_an_upgrade_keeps_every_row(postgres: PostgresServer, steps: Path) -> None:
    """Several replicas upgrade at once; what waited waits, and the release before goes on."""
    url = await postgres.new_database()
    store = await open_postgres(url, clock=now)
    await store.accept([incoming()])
    pools = [Pool(url) for _ in range(3)]
    for pool in pools:
        await pool.open()
    await asyncio.gather(*(postgres_schema.prepare(pool, folder=steps) for pool in pools))
    for pool in pools:
        await pool.close()
    assert [tuple(row) for row in await postgres.execute("SELECT name, colour FROM queues", url)] == [
        ("default", "red")
    ]
    versions = await postgres.execute("SELECT version FROM schema_version ORDER BY version", url)
    assert [version for (version,) in versions] == [1, 2]
    await store.accept([incoming(entity="other")])
    assert (await store.read(queries.counts.by_state))[State.PENDING] == 2
    await store.close()


async def test_a_step_that_fails_changes_nothing(postgres: PostgresServer, steps: Path) -> None:
    """The database stays as it was, and the release that wrote it opens it again."""
    url = await postgres.new_database()
    await (await open_postgres(url, clock=now)).close()
    (steps / "0002_more.sql").write_text(
        "ALTER TABLE queues ADD COLUMN colour TEXT; ALTER TABLE nowhere ADD COLUMN colour TEXT;"
    )
    pool = Pool(url)
    await pool.open()
    with pytest.raises(StoreUnavailable, match="nowhere"):
        await postgres_schema.prepare(pool, folder=steps)
    await pool.close()
    with pytest.raises(asyncpg.UndefinedColumnError):
        await postgres.execute("SELECT colour FROM queues", url)
    await (await open_postgres(url, clock=now)).close()
