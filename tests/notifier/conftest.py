"""What several test modules of notifiers need."""

from collections.abc import AsyncIterator

import pytest

from app.demo.run import serving
from tests.notifier.slack.stand_in_api import StandInSlackApi


@pytest.fixture
async def api() -> AsyncIterator[StandInSlackApi]:
    """A stand-in for Slack's Web API on loopback, with the channel #oncall."""
    stand_in = StandInSlackApi("oncall")
    async with serving(stand_in.app) as address:
        stand_in.url = f"{address}/api/"
        yield stand_in
    assert stand_in.faults == []
