"""The bot token: an incident is one message, whatever happens to the listener."""

import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.responses import Response

from app.demo.run import serving
from app.model.delivery import State
from tests.acceptance.process import Listener, listening, post_change
from tests.conftest import NO_TLS
from tests.notifier.slack.stand_in_api import TOKEN, HangUp, StandInSlackApi
from tests.waiting import until

pytestmark = pytest.mark.acceptance

CRASHES = int(os.environ.get("CRASHES", "3"))
CHANNEL = "oncall"


@pytest.fixture
async def api() -> AsyncIterator[StandInSlackApi]:
    """Slack's Web API on loopback, with a channel."""
    stand_in = StandInSlackApi(CHANNEL)
    async with serving(stand_in.app) as address:
        stand_in.url = f"{address}/api/"
        yield stand_in
    assert stand_in.faults == []


@asynccontextmanager
async def with_bot(folder: Path, api: StandInSlackApi, **more: Any) -> AsyncIterator[Listener]:
    """Run a listener whose default destination is the channel."""
    rules = folder / "rules.json"
    destination = {"type": "slack", "channel": f"#{CHANNEL}", "rate": 1000}
    rules.write_text(json.dumps({"version": 1, "destinations": {"default": destination}}))
    settings = {"SLACK_BOT_TOKEN": TOKEN, "SLACK_API_URL": api.url, "RULES_FILE": str(rules)}
    async with listening(folder, "", **(settings | more)) as listener:
        yield listener
    assert TOKEN not in listener.log.read_text()


async def change(listener: Listener, entity: str, after: str, before: str = "Healthy") -> None:
    """Post a change."""
    async with httpx.AsyncClient(base_url=listener.url, timeout=30, verify=NO_TLS) as client:
        assert (await post_change(client, entity, after, before)).status_code == 202


async def told(listener: Listener, number: int) -> None:
    """Wait until so many alerts are delivered and recorded."""

    async def delivered() -> bool:
        return await listener.count(State.DELIVERED) == number

    await until(delivered, 60)


async def test_the_story_of_an_incident(tmp_path: Path, api: StandInSlackApi) -> None:
    """Open, worse, resolved, open again, with a restart in between and two listeners: one message."""
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(with_bot(tmp_path, api))
        names = ("SLACK_BOT_TOKEN", "SLACK_API_URL", "RULES_FILE")
        settings: dict[str, Any] = {name: one.environment[name] for name in names}
        second = Listener(tmp_path, "", **settings)
        await second.start()
        stack.push_async_callback(second.stop)
        await change(one, "checkout", "Degraded")
        await told(one, 1)
        await change(second, "checkout", "Crashed", "Degraded")
        await told(one, 2)
        await one.stop()
        await one.start()
        await change(one, "checkout", "Healthy", "Crashed")
        await told(one, 3)
        (parent,) = [one for one in api.messages(CHANNEL) if one.get("thread_ts", one["ts"]) == one["ts"]]
        await until(lambda: "#2eb67d" in json.dumps(api.messages(CHANNEL)[0]))  # green
        await change(second, "checkout", "Degraded")
        await told(one, 4)
        await until(lambda: "#ecb22e" in json.dumps(api.messages(CHANNEL)[0]))  # and yellow again
    replies = api.thread(CHANNEL, parent["ts"])
    assert len(replies) == 3
    broadcast = [message for message in api.messages(CHANNEL) if message["ts"] != parent["ts"]]
    assert [replies.index(message) for message in broadcast] == [0, 2]  # worse, and open again


async def test_a_crash_between_sending_and_recording(tmp_path: Path, api: StandInSlackApi) -> None:
    """Killed when Slack has the message and before we know: it is found, not sent again, and none is lost."""
    async with with_bot(tmp_path, api) as listener:
        kill = {"next": False}

        async def on_stored(_: dict[str, Any]) -> Response | None:
            if kill["next"]:
                kill["next"] = False
                listener.send_signal(signal.SIGKILL)
            return None

        api.on_stored = on_stored
        for crash in range(CRASHES):
            kill["next"] = True
            # In turn a message of its own, a reply to the one before, and a digest.
            entity = f"entity-{crash - crash % 3}" if crash % 3 == 1 else f"entity-{crash}"
            await change(listener, entity, "Crashed" if crash % 3 == 1 else "Degraded")
            await until(lambda: listener.process is not None and listener.process.poll() is not None)
            await listener.start()
            await told(listener, crash + 1)
        rows = await listener.deliveries()
        details = [row.detail for row in rows]
    posted = api.channels[api.channel(CHANNEL).id].posted
    ids = [one for message in posted for one in message["metadata"]["event_payload"]["deliveries"].split()]
    assert len(ids) == len(set(ids)) == CRASHES
    assert details == ["found in the channel"] * CRASHES


async def test_an_answer_that_never_comes(tmp_path: Path, api: StandInSlackApi) -> None:
    """The connection ends after Slack has taken the message: it is found there, and stands there once."""
    hung_up: list[bool] = []

    async def on_stored(_: dict[str, Any]) -> Response | None:
        hung_up.append(True)
        return HangUp() if len(hung_up) == 1 else None

    api.on_stored = on_stored
    async with with_bot(tmp_path, api) as listener:
        await change(listener, "checkout", "Degraded")
        await told(listener, 1)
    assert len(api.messages(CHANNEL)) == 1


async def test_what_can_go_wrong_in_slack(tmp_path: Path, api: StandInSlackApi) -> None:
    """A deleted message, an archived channel, a revoked token: said, handled, and never a loop."""
    async with with_bot(tmp_path, api) as listener:
        await change(listener, "checkout", "Degraded")
        await told(listener, 1)
        api.delete(CHANNEL, api.messages(CHANNEL)[0]["ts"])
        await change(listener, "checkout", "Crashed", "Degraded")
        await told(listener, 2)
        (message,) = api.messages(CHANNEL)
        await change(listener, "checkout", "Healthy", "Crashed")
        await told(listener, 3)
        assert len(api.thread(CHANNEL, message["ts"])) == 1
        api.channel(CHANNEL).archived = True
        await change(listener, "search", "Degraded")
        await until(lambda: "is_archived" in listener.log.read_text())
        calls = len(api.calls)
        api.channel(CHANNEL).archived = False
        api.refuse("chat.postMessage", "token_revoked")
        assert "is released" in await listener.command_line("destinations", "release", "default")
        await until(lambda: "token_revoked" in listener.log.read_text())
        assert len(api.calls) - calls <= 2
        assert "on hold: token_revoked" in await listener.command_line("destinations")
        answered = await listener.command_line("destinations", "test", "default")
        assert "default answered: ok" in answered
        await listener.command_line("destinations", "release", "default")
        await told(listener, 4)
