"""How long the listener keeps the connections of whoever calls it."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import httpx
import pytest

from app.demo.stand_in_slack import StandInSlack
from app.settings import Settings
from tests.acceptance.process import SERVE, UVICORN, listening, post_change
from tests.conftest import NO_TLS

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


@pytest.mark.acceptance
@pytest.mark.parametrize("command", [SERVE, UVICORN[:-2]])
async def test_strangers_shut_nobody_out(tmp_path: Path, slack: StandInSlack, command: Sequence[str]) -> None:
    """By either command: idle connections, where the system starts it with a low limit of open files as most
    do, and endless heads, which are not read on."""
    few = ("bash", "-c", 'ulimit -S -n 100; exec "$@"', "bash", *command)
    async with listening(tmp_path, slack.url, command=few) as listener, AsyncExitStack() as stack:
        for _ in range(150):
            _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            stack.callback(writer.close)
        for endless in (b"GET / HTTP/1.1\r\nA: ", b"GET /"):
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            stack.callback(writer.close)
            with suppress(ConnectionError):
                writer.write(endless + bytes(b"a" * 500_000))
                await writer.drain()
                assert (await asyncio.wait_for(reader.read(), 5))[:12] in {b"", b"HTTP/1.1 431"}
        async with httpx.AsyncClient(base_url=listener.url, timeout=10, verify=NO_TLS) as client:
            assert (await post_change(client, "checkout")).status_code == 202
