"""What the tests of stores need."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from app.store.opening import open_store
from app.store.store import Store
from tests.postgres import PostgresServer


@pytest.fixture(params=["sqlite", "postgres"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """Each store, empty."""
    async with AsyncExitStack() as stack:
        url = f"sqlite:///{tmp_path}/listener.db"
        if request.param == "postgres":
            server: PostgresServer = request.getfixturevalue("postgres")
            url = await stack.enter_async_context(server.lent_database())
        yield await stack.enter_async_context(open_store(url, upgrade=True))
