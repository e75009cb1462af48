"""What several test modules need."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from app.demo import StandInSlack, serving

SECRET = "test-client-secret-4711"
NOW = datetime(2026, 6, 9, 12, 28, 20, tzinfo=UTC)


@pytest.fixture
async def slack() -> AsyncIterator[StandInSlack]:
    """A stand-in Slack on loopback; `url` is its webhook's address."""
    stand_in = StandInSlack()
    async with serving(stand_in.app) as address:
        stand_in.url = f"{address}/services/T0/B0/very-secret-token"
        yield stand_in
