"""The demo: the real service between a fake Port and a fake Slack, in one process, on loopback."""

import asyncio
import contextlib
import itertools
import json
import secrets
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from rich.console import Console
from rich.markup import escape
from starlette.applications import Starlette
from starlette.types import ASGIApp

from app.demo.stand_in_workspace import StandInWorkspace
from app.model.change import UPDATE, EntitySnapshot
from app.model.delivery import State
from app.model.times import EPOCH
from app.network import DIRECT
from app.notifier.console import draw
from app.receive.event import build_event, encode
from app.receive.signature import SIGNATURE_HEADER, TIMESTAMP_HEADER, sign
from app.rules.file import AS_WRITTEN
from app.rules.rule import BUILT_IN
from app.settings import Settings
from app.store import queries
from app.store.opening import open_store
from app.web.protocol import LimitedProtocol

DEMO_ENTITIES = (
    ("notification-service-prod", "Notification Service", "Rocket", ("Healthy", "Degraded", "Crashed")),
    ("checkout-prod", "Checkout", "Payments", ("Healthy", "Degraded")),
    ("search-prod", "Café Search 🚀", "Discovery", ("Healthy", "Restarting")),
    ("billing-staging", None, "Payments", ("Healthy", "Crashed", "Restarting")),
)
"""Identifier, title, team, and the statuses that the entity goes through again and again."""
ORDER = (0, 1, 0, 2, 0, 3)
"""Which of the entities changes next."""
DEMO_PATIENCE_SECONDS = 15  # beside the second that Slack takes for each message
DEMO_RULES = {
    "version": 1,
    "destinations": {
        "default": {"type": "slack", "channel": "#alerts"},
        "catalog": {
            "type": "slack",
            "channel": "{{ .diff.after.properties.slackChannel }}",
            "allow": ["team-*"],
        },
    },
    "rules": [
        BUILT_IN.model_dump(mode="json", **AS_WRITTEN)
        | {"send": {"by_team": {"Payments": "catalog"}, "default": "default"}}
    ],
}
"""The built-in rule, for channels by the bot token: then its messages have buttons."""
CPU_PERCENT = {"Healthy": 25, "Degraded": 91, "Crashed": 0, "Restarting": 40}


class Shape(StrEnum):
    """The shapes of body that Port sends."""

    AUTOMATION = "automation"
    WORKFLOW = "workflow"
    CHANGELOG = "changelog"


def change_body(
    *,
    before: object,
    after: object,
    at: datetime,
    blueprint: str = "deploymentConfig",
    name: str = "healthStatus",
    entity: str = DEMO_ENTITIES[0][0],
    title: str | None = DEMO_ENTITIES[0][1],
    team: str = DEMO_ENTITIES[0][2],
    shape: Shape = Shape.AUTOMATION,
) -> bytes:
    """Make the body that Port sends when the property `name` of an entity changes; no title: None."""

    def snapshot(value: object) -> EntitySnapshot:
        if (blueprint, name) != ("deploymentConfig", "healthStatus"):
            return EntitySnapshot(entity, blueprint, title, None, (team,), {name: value})
        properties = {
            "healthStatus": value,
            "cpuUtil": CPU_PERCENT.get(str(value), 50),
            "memoryUtil": 25,
            "newRelicUrl": "https://newrelic.com",
            "sentryUrl": "https://sentry.io/",
            "prometheusUrl": "https://prometheus.io",
            "locked": False,
        } | ({"slackChannel": "#team-payments"} if team == "Payments" else {})
        return EntitySnapshot(entity, "deploymentConfig", title, None, (team,), properties)

    event = build_event(
        action=UPDATE,
        blueprint=blueprint,
        entity=entity,
        at=at,
        origin="API",
        by={"orgId": "org_demo", "userId": "auth0|ada"},
        before=snapshot(before),
        after=snapshot(after),
    )
    if shape is Shape.CHANGELOG:
        context = {"blueprint": blueprint, "entity": entity, "runId": None}
        return encode(event | {"status": "SUCCESS", "context": context})
    if shape is Shape.WORKFLOW:
        node = {"identifier": f"wfnr_{secrets.token_hex(8)}"}
        return encode({"event": event, "workflowRun": {}, "nodeRun": node})
    by = {"user": {"email": "ada@example.com"}}
    return encode({"event": event, "trigger": {"by": by}, "run": {"id": f"r_{secrets.token_hex(8)}"}})


def signed_headers(body: bytes, secret: str, now: datetime) -> dict[str, str]:
    """Make the headers that Port sends with `body`."""
    timestamp = str(int(now.timestamp()))
    return {
        "Content-Type": "application/json",
        SIGNATURE_HEADER: sign(body, timestamp, secret),
        TIMESTAMP_HEADER: timestamp,
    }


class _DemoServer(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # the program that runs this handles Ctrl-C


@asynccontextmanager
async def serving(app: ASGIApp, port: int = 0, root_path: str = "") -> AsyncIterator[str]:
    """Serve an application on loopback, and yield its address; port 0: any free one."""
    # asyncio switches Nagle's delay of 40 ms off only where the protocol is given.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        config = uvicorn.Config(
            app,
            http=LimitedProtocol,
            root_path=root_path,
            log_config=None,
            access_log=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=2,
        )
        server = _DemoServer(config)
        task = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.started:
            await asyncio.sleep(0.005)
            if task.done():
                await task
                raise RuntimeError("the server ended before it began")
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            if isinstance(app, Starlette):
                app.state.stopping = True  # streams end, as they do at a signal
            server.should_exit = True
            await task


def changes() -> Iterator[dict[str, Any]]:
    """Yield the demo's changes without end, as arguments of `change_body`, in all shapes."""
    statuses = [itertools.pairwise(itertools.cycle(cycle)) for *_, cycle in DEMO_ENTITIES]
    for number, shape in zip(itertools.cycle(ORDER), itertools.cycle(Shape), strict=False):
        entity, title, team, _ = DEMO_ENTITIES[number]
        before, after = next(statuses[number])
        about = {"entity": entity, "title": title, "team": team}
        yield about | {"shape": shape, "before": before, "after": after}


async def run_demo(
    create_app: Callable[[Settings], ASGIApp], *, count: int, stay: bool, console: Console
) -> bool:
    """Run the demo of `count` changes, and then, to `stay`, go on until Ctrl-C; True: every alert arrived."""
    secret, token, signing = (secrets.token_hex(16) for _ in range(3))
    slack = StandInWorkspace(signing, lambda message: console.print(draw(message)))
    with tempfile.TemporaryDirectory(prefix="port-listener-demo-") as folder:
        async with serving(slack.app) as slack_url:
            slack.url = slack_url
            settings = Settings(
                _env_file=None,
                _env_prefix="DEMO_",  # so that this machine's own settings change nothing
                port_client_secret=secret,
                slack_bot_token=f"xoxb-{signing}",
                slack_signing_secret=signing,
                slack_api_url=f"{slack_url}/api/",
                rules_file=_write_rules(Path(folder)),
                database_url=f"sqlite:///{folder}/demo.db",
                admin_token=token,
                reconcile_minutes=0,  # the fake Port has no API
            )
            async with serving(create_app(settings)) as url:
                slack.listener, address = url, f"{url}/api/slack"
                console.print(f"The listener is at {address},\na fake Slack at {slack_url}.\n")
                await _send(address, secret, console, 0, count)
                delivered = await _wait_for_delivery(settings, count)
                messages = f"{len(slack.messages)} message{'s' if len(slack.messages) != 1 else ''}"
                lost = count - delivered
                console.print(
                    f"\n{count} changes, {delivered} alerts delivered in {messages}, {lost} lost",
                    highlight=False,
                )
                if stay:
                    await _send(address, secret, console, count, count + 1)  # for a message with all buttons
                    console.print(
                        f"\nThe page: {url}/\n  any name, and the token {token}\n"
                        f"\nThe fake Slack: {slack_url}/\n  acknowledge and silence there;"
                        " the channel of team Payments is named by the catalog\n"
                        "\nThe listener runs until Ctrl-C. Send it a change from a second terminal:\n"
                        f"  PORT_CLIENT_SECRET={secret}"
                        f" .venv/bin/python -m app send --url {address} --to Crashed",
                        soft_wrap=True,
                        highlight=False,
                    )
                    await asyncio.Event().wait()
                return lost == 0


def _write_rules(folder: Path) -> Path:
    file = folder / "rules.json"
    file.write_text(json.dumps(DEMO_RULES))
    return file


async def _wait_for_delivery(settings: Settings, count: int) -> int:
    """Wait until the listener has delivered `count` alerts, and return how many it has."""
    async with open_store(*settings.database) as store:
        delivered = 0
        end = time.monotonic() + count + DEMO_PATIENCE_SECONDS
        while delivered < count and time.monotonic() < end:
            await asyncio.sleep(0.1)
            delivered = (await store.read(queries.counts.overview, EPOCH)).ended[State.DELIVERED]
        return delivered


async def _send(address: str, secret: str, console: Console, start: int, stop: int) -> None:
    async with httpx.AsyncClient(**DIRECT.httpx(address)) as client:
        for change in itertools.islice(changes(), start, stop):
            now = datetime.now(UTC)
            body = change_body(at=now, **change)
            answer = await client.post(address, content=body, headers=signed_headers(body, secret, now))
            console.print(
                f"Port → listener: {escape(change['entity'])} {change['before']} → {change['after']}"
                f" ({change['shape']}), answer {answer.status_code}",
                highlight=False,
                soft_wrap=True,
            )
