"""Brings a PostgreSQL database to this release's schema: numbered files, one transaction a step."""

import re
from functools import partial
from pathlib import Path

from app.errors import SchemaTooNew, StoreUnavailable
from app.store.postgres.pool import Connection, Pool

SQL_FOLDER = Path(__file__).parent / "sql"
MIGRATION_LOCK = 0x706F72746C697374  # "portlist"; of 64 bits, so that nobody else takes it by chance
MIGRATION_SECONDS = 600.0
LOCK_TIMEOUT_SECONDS = 3
"""How long a step waits for the tables: behind it everything waits that replicas want to do with them."""


async def prepare(
    pool: Pool,
    *,
    must_exist: bool = False,
    upgrade: bool = True,
    moving: bool = False,
    folder: Path = SQL_FOLDER,
) -> None:
    """Make the tables if there are none, and bring them to the newest schema; several processes may at once.

    Args:
        pool: Where.
        must_exist: Whether there must be tables already.
        upgrade: Whether tables of an older schema may be upgraded.
        moving: Whether a move may be under way there.
        folder: The folder of the numbered steps.

    Raises:
        SchemaTooNew: A newer release has written them.
        StoreUnavailable: It cannot be done now.
    """
    steps = _steps(folder)
    version = await pool.run(_version, read_only=True)
    if version is None and must_exist:
        raise StoreUnavailable(
            "the database of DATABASE_URL has no tables of the listener's: start that first"
        )
    if version is not None and version < max(steps) and not upgrade:
        raise StoreUnavailable(
            f"the database has schema {version}, this release knows {max(steps)}: start this release's"
            " listener, which upgrades it"
        )
    if version is None or version < max(steps):
        for number, script in steps.items():
            await pool.run(partial(_step, number=number, script=script), seconds=MIGRATION_SECONDS)
        version = await pool.run(_version, read_only=True)
    if version is None or version > max(steps):
        raise SchemaTooNew(
            f"the database has schema {version}, this release knows {max(steps)}:"
            " start the newer release again, or give this one a database of its own (DATABASE_URL)"
        )
    unfinished = await pool.run(
        lambda db: db.fetchval("SELECT source FROM moves WHERE ended_at IS NULL"), read_only=True
    )
    if unfinished and not moving:
        raise StoreUnavailable(f"not all of {unfinished} has been moved here: run `python -m app move` again")


def _steps(folder: Path) -> dict[int, str]:
    files = sorted(folder.glob("*.sql"))
    return {int(re.match(r"\d+", file.name)[0]): file.read_text() for file in files}  # type: ignore[index]


async def _version(db: Connection) -> int | None:
    if await db.fetchval("SELECT to_regclass('schema_version')") is None:
        return None
    version: int = await db.fetchval("SELECT coalesce(max(version), 0) FROM schema_version")
    return version


async def _step(db: Connection, number: int, script: str) -> None:
    await db.execute(
        f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK}); SET LOCAL lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'"
    )
    await db.execute(
        "CREATE TABLE IF NOT EXISTS schema_version (version BIGINT PRIMARY KEY,"
        " applied_at TIMESTAMPTZ NOT NULL DEFAULT now(), checked_at BIGINT)"
    )
    if (await _version(db) or 0) < number:
        await db.execute(script)
        await db.execute("INSERT INTO schema_version (version) VALUES ($1)", number)
