"""The configured store: which one it is, opened and brought to this release's schema."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from app.errors import NoDatabase, StoreUnavailable
from app.observe.watch import NOBODY, Watch
from app.store.database_url import sqlite_file
from app.store.sqlite.database import open_sqlite
from app.store.sqlite.schema import prepare
from app.store.store import Store


def now() -> datetime:
    """Return the time, UTC."""
    return datetime.now(UTC)


def prepare_store(url: str) -> None:
    """Bring the configured store to this release's schema, so that a start that must fail does so early.

    Raises:
        StoreUnavailable: It cannot be opened, or a newer release has written it.
    """
    if path := sqlite_file(url):
        prepare(path)
        return

    async def work() -> None:
        async with open_store(url, upgrade=True):
            pass

    with ThreadPoolExecutor(1) as elsewhere:  # uvicorn asks for the application where a loop runs already
        elsewhere.submit(asyncio.run, work()).result()


def existing_database(url: str) -> Path:
    """Return the file of a store that is there already.

    Raises:
        StoreUnavailable: It is not.
    """
    path = sqlite_file(url)
    if path is None:
        raise StoreUnavailable("backup is for a SQLite file: on PostgreSQL use pg_dump")
    if not path.exists():
        raise NoDatabase(
            f"there is no database {path} here: run this where the listener runs, or set its DATABASE_URL"
        )
    return path


@asynccontextmanager
async def open_store(
    url: str,
    listen_url: str | None = None,
    *,
    must_exist: bool = False,
    upgrade: bool = False,
    watch: Watch = NOBODY,
) -> AsyncIterator[Store]:
    """Open the configured store, and close it at the end.

    Args:
        url: ``sqlite:///FILE`` or ``postgresql://…``.
        listen_url: The same PostgreSQL database for LISTEN, without pgbouncer; None: `url` does.
        must_exist: Whether there must be one already; if not, it is made.
        upgrade: Whether one of an older schema is upgraded; if not, it is refused: another command than the
            listener's must not change the schema while an older listener runs.
        watch: Is informed of each transaction.

    Raises:
        StoreUnavailable: It cannot be opened.
    """
    path = sqlite_file(url)
    store: Store
    if path is None:
        from app.store.postgres.database import open_postgres

        store = await open_postgres(
            url, clock=now, listen_url=listen_url, must_exist=must_exist, upgrade=upgrade, watch=watch
        )
    else:
        if must_exist:
            existing_database(url)
        store = await asyncio.to_thread(open_sqlite, path, watch, upgrade=upgrade)
    try:
        yield store
    finally:
        await store.close()
