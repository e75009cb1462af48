"""Each store, for the suite that runs on all of them."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from app.store.base import Store
from app.store.sqlite import SQLiteStore


@pytest.fixture(params=["sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """Each store, empty."""
    stores: dict[str, Callable[[], Store]] = {"sqlite": lambda: SQLiteStore(tmp_path / "listener.db")}
    store = stores[request.param]()
    yield store
    await store.close()
