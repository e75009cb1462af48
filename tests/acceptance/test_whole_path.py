"""The whole path, as a newcomer walks it: real commands and processes between stand-ins for the rest."""

import asyncio
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.demo.stand_in_slack import StandInSlack
from app.port.client import PortClient
from tests.acceptance.process import Listener, listening
from tests.port.stand_in_port import CLIENT_ID, CLIENT_SECRET, standing_in
from tests.port.stand_in_smee import StandInSmee
from tests.waiting import until

pytestmark = pytest.mark.acceptance

ENTITY = ("deploymentConfig", "notification-service-prod")


@asynccontextmanager
async def tunnel(listener: Listener) -> AsyncIterator[Path]:
    """Run `tunnel` as a process, and yield the file with what it prints; Ctrl-C ends it."""
    said = listener.folder / "tunnel.txt"
    command = [*listener.command[:3], "tunnel", "--to", f"{listener.url}/api/slack"]
    with said.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=listener.folder, env=listener.environment, stdout=output, stderr=output
        )
    try:
        await until(lambda: "connected to" in said.read_text())
        yield said
    finally:
        process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(process.wait, 10) == 130


async def test_from_nothing_to_an_alert(tmp_path: Path, slack: StandInSlack) -> None:
    """Bootstrap, tunnel, listener: a change in Port becomes an alert in Slack; the doctor agrees."""
    async with standing_in(call_webhooks=True) as port, StandInSmee().serving() as smee:
        settings = {
            "PORT_CLIENT_ID": CLIENT_ID,
            "PORT_CLIENT_SECRET": CLIENT_SECRET,
            "PORT_API_URL": port.url,
            "SMEE_URL": f"{smee}/own-channel",
            "WEBHOOK_URL": "",
        }
        async with (
            listening(tmp_path, slack.url, anew=True, **settings) as listener,
            tunnel(listener) as said,
        ):
            made = await listener.command_line("bootstrap")
            assert made.count(": created") == 3, made
            async with PortClient(
                port.url, CLIENT_ID, CLIENT_SECRET, clock=lambda: datetime.now(UTC)
            ) as client:
                change = {"title": "Café 🚀", "properties": {"healthStatus": "Crashed"}}
                await client.patch_entity(*ENTITY, change)
                await until(lambda: len(slack.messages) == 1)
                await client.patch_entity(*ENTITY, {"properties": {"healthStatus": "Healthy"}})
                await until(lambda: len(slack.messages) == 2)
            assert slack.messages[0]["text"].startswith(
                "🚨 🔴 Café 🚀: healthStatus Healthy → Crashed (critical, "
            )
            assert "ada@example.com" in str(slack.messages[0]["blocks"])
            assert "Resolved after" in str(slack.messages[1]["blocks"])

            found = await listener.command_line("doctor", "--slack", "--change")
            assert found.count("ok       ") == 12, found
            assert "Nothing is wrong" in found
            assert len(slack.messages) == 5
            lines = said.read_text().splitlines()
            assert lines.count("202 notification-service-prod, alerts: 1") == 4, lines
            assert "202 port-listener-doctor, alerts: 0" in lines
        for shown in (listener.log.read_text(), said.read_text(), made, found):
            assert CLIENT_SECRET not in shown
            assert port.token not in shown
