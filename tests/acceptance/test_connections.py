"""How long the listener keeps the connections of whoever calls it."""

import asyncio
from pathlib import Path

import pytest

from app.settings import Settings
from app.stand_in_slack import StandInSlack
from tests.acceptance.process import listening

LONGEST_OF_A_PROXY = 60  # AWS's load balancers and nginx keep an idle connection that long


def test_a_proxy_closes_an_idle_connection_first() -> None:
    """A change must not meet a connection that is just being closed."""
    assert Settings.model_fields["keep_alive_seconds"].default > LONGEST_OF_A_PROXY


@pytest.mark.acceptance
async def test_an_idle_connection_ends_when_the_setting_says(tmp_path: Path, slack: StandInSlack) -> None:
    """KEEP_ALIVE_SECONDS is what counts, not uvicorn's own 5 s."""
    async with listening(tmp_path, slack.url, KEEP_ALIVE_SECONDS="1") as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: listener\r\n\r\n")
        said = await asyncio.wait_for(reader.read(), 4)
        writer.close()
    assert said.startswith(b"HTTP/1.1 200 OK")
