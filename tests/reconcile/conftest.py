"""Fixtures for the tests of reconciling."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.port.stand_in_port import StandInPort, standing_in
from tests.reconcile.watching import Watching, watching


@pytest.fixture
async def port() -> AsyncIterator[StandInPort]:
    """A stand-in Port."""
    async with standing_in() as running:
        yield running


@pytest.fixture
async def watched(database: str, port: StandInPort, tmp_path: Path) -> AsyncIterator[Watching]:
    """A listener that has recorded one healthy entity, ``checkout``."""
    async with watching(database, port, tmp_path) as one:
        one.set("checkout", "Healthy")
        assert await one.compare() == []
        yield one
