"""The commands that deal with Port, as a person runs them: bootstrap, tunnel and doctor."""

import asyncio
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.cli.doctor import what_is_wrong
from app.demo.stand_in_slack import StandInSlack
from app.port.region import Region
from app.settings import Settings
from tests.cli.helpers import ROOT, Run
from tests.conftest import Start
from tests.port.stand_in_port import CLIENT_SECRET, LOGIN, StandInPort, refusal
from tests.port.stand_in_smee import StandInSmee
from tests.waiting import until

HOOK = "https://listener.example.com/api/slack"


async def test_bootstrap(port: StandInPort, run: Run) -> None:
    """`bootstrap` says what it made; the second time all is unchanged; `--remove` takes it away again."""
    made = await run("bootstrap")
    assert made.status == 0, made.err
    assert made.out.splitlines() == [
        "blueprint deploymentConfig: created",
        "entity notification-service-prod: created",
        "automation deploymentConfig_change_listener: created",
    ]
    assert port.actions["deploymentConfig_change_listener"]["invocationMethod"]["url"] == HOOK
    assert (await run("bootstrap")).out.count(": unchanged") == 3
    assert (await run("bootstrap", "--remove")).out.count(": removed") == 3
    assert (port.blueprints, port.entities, port.actions) == ({}, {}, {})


async def test_bootstrap_dry_run(port: StandInPort, run: Run) -> None:
    """`--dry-run` prints what it would do and each request, and sends none of them."""
    result = await run("bootstrap", "--dry-run", "--with-changelog-destination")
    assert result.out.count(": would be created") == 3
    assert "POST /v1/blueprints/deploymentConfig/entities?upsert=true&merge=true" in result.out
    assert '"changelogDestination": {' in result.out
    assert port.writes == []


async def test_bootstrap_of_own_blueprints(port: StandInPort, run: Run) -> None:
    """`--blueprint` and `--timer` make automations for what is there already."""
    ttl = {"type": "string", "format": "timer"}
    port.blueprints["service"] = {"identifier": "service", "schema": {"properties": {"ttl": ttl}}}
    result = await run("bootstrap", "--blueprint", "service", "--timer", "ttl")
    assert result.status == 0, result.err
    assert set(port.actions) == {"service_change_listener", "service.ttl_timer_listener"}


@pytest.mark.parametrize("command", ["bootstrap", "doctor"])
async def test_a_refusal_is_a_sentence(port: StandInPort, run: Run, command: str) -> None:
    """What Port refuses is shown with the route, its words, the trace id and what to do."""
    port.script("POST", LOGIN, refusal(401, f"bad secret {CLIENT_SECRET}"))
    result = await run(command)
    said = result.out + result.err
    assert result.status == 1
    assert "POST /v1/auth/access_token: 401 unauthorized" in said
    assert "trace-4711" in said
    assert "Check PORT_CLIENT_ID and PORT_CLIENT_SECRET" in said
    assert CLIENT_SECRET not in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("PORT_CLIENT_ID", "PORT_CLIENT_ID is not set: find it in Port"),
        ("PORT_CLIENT_SECRET", "PORT_CLIENT_SECRET is not set"),
        ("WEBHOOK_URL", "WEBHOOK_URL is not set"),
    ],
)
async def test_bootstrap_needs_settings(
    port: StandInPort, run: Run, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    """`bootstrap` names the setting that it lacks."""
    monkeypatch.setenv(name, "")
    result = await run("bootstrap")
    assert result.status == 1
    assert said in result.err
    assert port.requests == []


async def test_tunnel_needs_a_channel(run: Run) -> None:
    """`tunnel` says which setting it lacks."""
    result = await run("tunnel")
    assert (result.status, "SMEE_URL is not set" in result.err) == (1, True)


async def test_tunnel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`tunnel` says that it is connected, and Ctrl-C ends it at once, without a traceback."""
    said = tmp_path / "said.txt"
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    async with StandInSmee().serving() as smee:
        monkeypatch.setenv("SMEE_URL", f"{smee}/channel")
        with said.open("wb") as output:
            command = [sys.executable, "-W", "error", "-m", "app", "tunnel"]
            process = subprocess.Popen(command, stdout=output, stderr=output)
        await until(lambda: f"connected to {smee}/channel" in said.read_text())
        process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(process.wait, 5) == 130
    assert said.read_text().splitlines() == [f"connected to {smee}/channel"]


async def test_doctor(
    port: StandInPort, run: Run, start: Start, slack: StandInSlack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`doctor` prints a line for each step, and ends with 0 when all is well, else with 1."""
    monkeypatch.setenv("SLACK_WEBHOOK_URL", slack.url)
    async with start(port_client_secret=CLIENT_SECRET) as service:
        monkeypatch.setenv("WEBHOOK_URL", service.url)
        assert (await run("bootstrap")).status == 0
        result = await run("doctor", "--slack")
        assert result.status == 0, result.out
        assert result.out.count("ok            ") == 11
        assert "Nothing is wrong, and nothing was left out." in result.out
        assert len(slack.messages) == 1
        port.actions["deploymentConfig_change_listener"]["publish"] = False
        result = await run("doctor")
    assert result.status == 1
    assert "wrong         automation: deploymentConfig_change_listener is paused" in result.out
    assert "Wrong: 2. Not looked at: 0." in result.out


async def test_doctor_of_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any setting `doctor` names all that is missing at once, each one once."""
    monkeypatch.setenv("PORT_CLIENT_SECRET", "")
    result = await run("doctor")
    assert result.status == 1
    for name in ("PORT_CLIENT_ID", "PORT_CLIENT_SECRET", "WEBHOOK_URL", "SLACK_WEBHOOK_URL"):
        assert result.out.count(f" {name} is not set") == 1, result.out
    assert "store: there is no database" in result.out.replace("  ", "")
    assert not list(Path.cwd().glob("*.db")), "doctor makes nothing"


async def test_doctor_of_unreadable_settings(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """With settings that cannot be read `doctor` names them, and skips the rest."""
    monkeypatch.setenv("RETENTION_DAYS", "many")
    monkeypatch.setenv("PORT_API_URL", "nonsense")
    result = await run("doctor")
    assert result.status == 1
    assert "RETENTION_DAYS" in result.out
    assert "PORT_API_URL" in result.out
    assert "not looked at store: it needs settings that can be read" in result.out


async def test_doctor_of_own_blueprints_changes_nothing(run: Run) -> None:
    """`--change` is about bootstrap's own entity: with `--blueprint` it is refused."""
    assert (await run("doctor", "--blueprint", "service", "--change")).status == 2


GOOD: dict[str, Any] = {
    "port_client_id": "id",
    "port_client_secret": "4711",
    "webhook_url": "https://listener.example.com",
    "slack_webhook_url": "https://hooks.slack.com/services/T0/B0/very-secret-token",
}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, []),
        ({"webhook_url": None, "smee_url": "https://smee.io/AbC123"}, []),
        ({"port_client_id": None, "slack_webhook_url": None}, ["PORT_CLIENT_ID is", "SLACK_WEBHOOK_URL is"]),
        ({"port_client_secret": None, "accept_unsigned": True}, ["PORT_CLIENT_SECRET is not set"]),
        ({"slack_webhook_url": None, "rules_file": "rules.yaml"}, []),
        ({"webhook_url": None}, ["WEBHOOK_URL is not set"]),
        (
            {"webhook_url": "https://smee.io/AbC123"},
            ["WEBHOOK_URL is a channel of smee: put it into SMEE_URL"],
        ),
        ({"webhook_url": "http://listener.example.com"}, ["WEBHOOK_URL begins with http:"]),
        ({"slack_webhook_url": "http://hooks.slack.com/x"}, ["SLACK_WEBHOOK_URL begins with http:"]),
        ({"port_api_url": "http://api.port.io"}, ["PORT_API_URL begins with http:"]),
        ({"webhook_url": "http://localhost:8080"}, ["WEBHOOK_URL is an address of this machine"]),
        ({"webhook_url": "http://192.168.1.2"}, ["WEBHOOK_URL is an address of this machine or network"]),
        ({"webhook_url": "http://localhost:8080", "port_api_url": "http://127.0.0.1:1"}, []),
        ({"port_api_url": "https://api.us.port.io"}, ["Set PORT_REGION=us and no PORT_APP_URL"]),
        ({"port_app_url": "https://app.us.port.io"}, ["Set PORT_REGION=eu and no PORT_APP_URL"]),
        ({"port_region": "us"}, []),
        ({"port_region": "us", "port_app_url": "https://app.getport.io"}, ["link to the EU region"]),
    ],
)
def test_settings(changes: dict[str, Any], said: list[str]) -> None:
    """Of settings that can be read, each that will not do is named; no secret is in what is said."""
    found = list(what_is_wrong(Settings(_env_file=None, **(GOOD | changes))))
    assert len(found) == len(said), found
    assert all(part in line for part, line in zip(said, found, strict=True)), found
    assert "very-secret-token" not in "".join(found)


def test_settings_of_the_other_region() -> None:
    """The region of the command line counts, as it does for what is asked of Port."""
    (found,) = what_is_wrong(Settings(_env_file=None, **GOOD), Region.US)
    assert "Set PORT_REGION=us" in found
