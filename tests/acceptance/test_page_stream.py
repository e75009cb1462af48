"""An open page does not keep the listener from stopping."""

import asyncio
import time
from pathlib import Path

import httpx
import pytest

from app.demo.stand_in_slack import StandInSlack
from tests.acceptance.process import listening
from tests.conftest import NO_TLS
from tests.web.visitor import TOKEN

pytestmark = pytest.mark.acceptance


async def test_a_stream_ends_at_a_stop(tmp_path: Path, slack: StandInSlack) -> None:
    """SIGTERM ends the page's stream, and the process within a moment, without an error in the log."""
    async with (
        listening(tmp_path, slack.url, ADMIN_TOKEN=TOKEN) as listener,
        httpx.AsyncClient(base_url=listener.url, verify=NO_TLS) as client,
    ):
        await client.post("/sign-in", data={"name": "Ada", "token": TOKEN})
        async with client.stream("GET", "/events", timeout=20) as stream:
            lines = stream.aiter_lines()
            assert await anext(lines) == "event: ready"
            began = time.monotonic()
            stopped = asyncio.create_task(listener.stop())
            async for _ in lines:
                pass
            await stopped
    assert time.monotonic() - began < 3
    assert '"level":"error"' not in listener.log.read_text()
