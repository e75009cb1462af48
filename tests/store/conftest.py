"""What the tests of stores need."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.store.opening import now
from app.store.postgres.database import open_postgres
from app.store.sqlite.database import open_sqlite
from app.store.store import Store
from tests.postgres import PostgresServer


@pytest.fixture(params=["sqlite", "postgres"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """Each store, empty."""
    store: Store
    if request.param == "sqlite":
        store = open_sqlite(tmp_path / "listener.db")
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        store = await open_postgres(await server.new_database(), clock=now)
    yield store
    await store.close()
