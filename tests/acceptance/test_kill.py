"""Nothing that was answered 202 is lost, whatever happens to the process."""

import asyncio
import os
import random
import signal
from pathlib import Path

import httpx
import pytest
from starlette.responses import PlainTextResponse, Response

from app.demo.stand_in_slack import StandInSlack
from tests.acceptance.process import listening, post_change
from tests.conftest import NO_TLS
from tests.told import entities
from tests.waiting import until

pytestmark = pytest.mark.acceptance

KILLS = int(os.environ.get("KILLS", "3"))
AT_MOST_SECONDS = 25  # a lease is 30: nobody has waited for one


async def load(url: str, name: str, acknowledged: list[str], refused: list[str]) -> None:
    """Post changes one after the other until the listener is gone."""
    async with httpx.AsyncClient(base_url=url, verify=NO_TLS) as client:
        for number in range(100_000):
            entity = f"{name}-{number}"
            try:
                answer = await post_change(client, entity)
            except httpx.TransportError:
                return
            (acknowledged if answer.status_code == 202 else refused).append(entity)


@pytest.mark.timeout(120 + 60 * KILLS)
async def test_kill_9_loses_nothing(tmp_path: Path, slack: StandInSlack) -> None:
    """Killed at random moments under load, the listener delivers every change that it answered 202."""
    acknowledged: list[str] = []
    refused: list[str] = []
    randomness = random.Random(4711)
    async with listening(tmp_path, slack.url) as listener:
        for kill in range(KILLS):
            loads = [
                asyncio.create_task(load(listener.url, f"kill{kill}-sender{sender}", acknowledged, refused))
                for sender in range(8)
            ]
            enough = len(acknowledged) + randomness.randint(1, 150)
            await until(lambda enough=enough: len(acknowledged) >= enough)  # type: ignore[misc]
            await listener.stop(signal.SIGKILL)
            await asyncio.gather(*loads)
            await listener.start()
        assert refused == []
        await until(lambda: set(acknowledged) <= set(entities(slack.messages)), AT_MOST_SECONDS)
    # A crash between Slack's ok and our record repeats that one message: one for each kill at the most.
    told = [frozenset(entities([message])) for message in slack.messages]
    repeated = [message for number, message in enumerate(told) if message & frozenset().union(*told[:number])]
    assert len(repeated) <= KILLS


async def test_sigterm_finishes_what_is_in_flight(tmp_path: Path, slack: StandInSlack) -> None:
    """SIGTERM waits for a message on its way, leaves the rest in the store, and exits well."""
    arrived = asyncio.Event()

    async def slowly() -> Response:
        arrived.set()
        await asyncio.sleep(1)
        return PlainTextResponse("ok")

    slack.answers.append(slowly)
    async with listening(tmp_path, slack.url, rate=0.001) as listener:
        async with httpx.AsyncClient(base_url=listener.url, verify=NO_TLS) as client:
            await post_change(client, "in-flight")
            await arrived.wait()
            await post_change(client, "waits")
        assert await listener.stop() in (0, -signal.SIGTERM)
        states = [(row.state, row.notification.entity) for row in await listener.deliveries()]
    assert states == [("delivered", "in-flight"), ("pending", "waits")]
