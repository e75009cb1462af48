"""Reports to Port, while Port is away and the listener is killed: no alert waits, and no run is forgotten."""

import asyncio
import json
import signal
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from app.demo.run import change_body, serving, signed_headers
from app.demo.stand_in_slack import StandInSlack
from app.model.delivery import State
from tests.acceptance.process import Listener, free_port, listening
from tests.conftest import NO_TLS, SECRET
from tests.port.stand_in_port import CLIENT_ID, CLIENT_SECRET, LOGIN, StandInPort
from tests.told import entities
from tests.waiting import until

pytestmark = pytest.mark.acceptance

CHANGES = 12


async def arrives(listener: Listener, run: str, entity: str, *, alerts: bool) -> None:
    """Post a change whose run waits to be told."""
    now = datetime.now(UTC)
    after = "Degraded" if alerts else "Healthy"
    body = json.loads(change_body(before="Healthy", after=after, at=now, entity=entity))
    whole = json.dumps(body | {"run": {"id": run}, "report": True}).encode()
    async with httpx.AsyncClient(base_url=listener.url, timeout=30, verify=NO_TLS) as client:
        answer = await client.post(
            "/api/slack", content=whole, headers=signed_headers(whole, CLIENT_SECRET, now)
        )
    assert answer.status_code == 202


async def test_port_is_away_and_the_listener_is_killed(tmp_path: Path, slack: StandInSlack) -> None:
    """Port refuses connections, then is silent, then is back; the listener is killed in between."""
    port, address = StandInPort(), free_port()
    settings = {
        "PORT_API_URL": f"http://127.0.0.1:{address}",
        "PORT_CLIENT_ID": CLIENT_ID,
        "PORT_CLIENT_SECRET": CLIENT_SECRET,
    }
    runs = port.automations.runs
    names = [port.automations.start() for _ in range(CHANGES)]
    asked, answers = asyncio.Event(), asyncio.Event()

    async def be_silent() -> None:
        asked.set()
        await answers.wait()

    port.before_answer = be_silent
    async with listening(tmp_path, slack.url, **settings) as listener:
        for number, run in enumerate(names[: CHANGES // 2]):
            await arrives(listener, run, f"entity-{number}", alerts=number % 2 == 0)
        await until(lambda: len(entities(slack.messages)) == CHANGES // 4)
        await until(lambda: "cannot reach" in listener.log.read_text())

        async def recorded() -> bool:
            return await listener.count(State.DELIVERED) == CHANGES // 2

        async with serving(port.app, address):
            for number, run in enumerate(names[CHANGES // 2 :], CHANGES // 2):
                await arrives(listener, run, f"entity-{number}", alerts=number % 2 == 0)
            await until(recorded)  # else the one that is sent again is told twice
            await asyncio.wait_for(asked.wait(), 60)
            await listener.stop(signal.SIGKILL)
            assert {run["status"] for run in runs.values()} == {"IN_PROGRESS"}
            answers.set()
            await listener.start()
            await until(lambda: {run["status"] for run in runs.values()} == {"SUCCESS"}, 60)
            assert "runs in Port" in await listener.command_line("destinations")
    labels = [runs[name]["statusLabel"] for name in names]
    assert labels == ["Delivered", "Ignored"] * (CHANGES // 2)
    assert sorted(entities(slack.messages)) == sorted(f"entity-{number}" for number in range(0, CHANGES, 2))
    # Each is told each thing once, once more for the crash, and once more where this machine was slow.
    told = [one.path for one in port.requests if one.path != LOGIN]
    assert max(told.count(path) for path in set(told)) <= 4
    assert CLIENT_SECRET not in listener.log.read_text()
    assert SECRET not in listener.log.read_text()
