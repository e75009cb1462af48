"""What the tests of stores need."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from app.store.base import Store

from app.store.opening import now
from app.store.postgres.database import PostgresStore
from app.store.sqlite.database import SQLiteStore
from tests.postgres import PostgresServer


@pytest.fixture(params=["sqlite", "postgres"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """Each store, empty."""
    store: Store
    if request.param == "sqlite":
        store = SQLiteStore(tmp_path / "listener.db")
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        store = await PostgresStore.open(await server.new_database(), clock=now)
    yield store
    await store.close()
