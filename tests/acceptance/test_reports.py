"""An automation made with `--report`: what its runs in Port show, whatever Port answers.

A stand-in Port that carries out automations, the real service, and a stand-in Slack.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import Response

from app.demo.run import change_body, serving, signed_headers
from app.demo.stand_in_slack import StandInSlack
from app.model.delivery import State
from app.model.report import RUNS
from app.port.client import PortClient
from app.port.setup import resources
from app.port.setup.bootstrap import Plan, bootstrap
from app.store import queries
from app.store.views import ChangeFilter, Delivery
from tests.conftest import DATABASES, Service, Start, count
from tests.notifier.slack.stand_in_api import TOKEN, StandInSlackApi
from tests.port.stand_in_port import CLIENT_ID, CLIENT_SECRET, LOGIN, StandInPort, refusal, standing_in
from tests.waiting import until

ENTITY = (resources.BLUEPRINT, resources.TUTORIAL_ENTITY)
ADMIN = "an-admin-token-of-some-length"


@pytest.fixture
async def port() -> AsyncIterator[StandInPort]:
    """A stand-in Port."""
    async with standing_in(call_webhooks=True) as stand_in:
        yield stand_in


def credentials(port: StandInPort) -> dict[str, Any]:
    """Return the settings with which the service reaches the stand-in."""
    return {"port_api_url": port.url, "port_client_id": CLIENT_ID, "port_client_secret": CLIENT_SECRET}


@asynccontextmanager
async def with_automation(
    start: Start, port: StandInPort, **settings: Any
) -> AsyncIterator[tuple[Service, PortClient]]:
    """Run the service, and make in Port what `bootstrap --report` makes."""
    async with (
        start(**(credentials(port) | settings)) as service,
        PortClient(port.url, CLIENT_ID, CLIENT_SECRET, clock=lambda: datetime.now(UTC)) as client,
    ):
        plan = Plan(resources.webhook_address(service.url), report=True)
        assert [step async for step in bootstrap(client, plan)]
        yield service, client


async def set_health(client: PortClient, status: str) -> None:
    """Change the entity's health in Port, which calls the service."""
    await client.patch_entity(*ENTITY, {"properties": {"healthStatus": status}})


def told(run: dict[str, Any]) -> tuple[str, str]:
    """Return how a run stands, and what it says of that."""
    return run["status"], run.get("statusLabel", "")


async def arrives(service: Service, run: str, entity: str = "checkout") -> None:
    """Let a change arrive whose run waits to be told."""
    now = datetime.now(UTC)
    body = json.loads(change_body(before="Healthy", after="Degraded", at=now, entity=entity))
    whole = json.dumps(body | {"run": {"id": run}, "report": True}).encode()
    answer = await service.post(whole, signed_headers(whole, CLIENT_SECRET, now))
    assert answer.status_code == 202


async def reports(service: Service) -> list[Delivery]:
    """Return the reports that are stored."""
    page = await service.store.read(queries.changes.changes, ChangeFilter(), before=None, limit=100)
    rows = await service.store.read(queries.page.deliveries_of, [one.id for one in page.rows])
    return [row for row in rows if row.destination == RUNS]


@DATABASES
async def test_what_runs_show(start: Start, port: StandInPort, slack: StandInSlack) -> None:
    """Delivered, with a line of its acceptance; ignored, with the reason."""
    async with with_automation(start, port) as (_, client):
        await set_health(client, "Degraded")
        await client.patch_entity(*ENTITY, {"properties": {"cpuUtil": 90}})
        runs = port.automations.runs
        await until(lambda: [told(run) for run in runs.values()].count(("SUCCESS", "Delivered")) == 1)
        await until(lambda: [told(run) for run in runs.values()].count(("SUCCESS", "Ignored")) == 1)
    delivered, ignored = runs.values()
    assert len(slack.messages) == 1
    # None where the alert was out before the report had its turn: its end says all.
    assert delivered["logs"] in ([], ["Accepted: 1 alert, for default: rule 'health' matches."])
    assert delivered["summary"] == "Delivered to default. Why: rule 'health' matches."
    assert "link" not in delivered
    assert ignored["logs"] == []
    assert ignored["summary"] == "Ignored: rule 'health': healthStatus did not change."


@DATABASES
async def test_the_message_in_slack(start: Start, port: StandInPort, tmp_path: Path) -> None:
    """With a bot token the run leads to the incident's message, as long as Slack says where that is."""
    api = StandInSlackApi("oncall")
    rules = tmp_path / "rules.json"
    channel = {"type": "slack", "channel": "#oncall", "rate": 1000}
    rules.write_text(json.dumps({"version": 1, "destinations": {"default": channel}}))
    async with serving(api.app) as address:
        bot = {"slack_bot_token": TOKEN, "slack_api_url": f"{address}/api/", "rules_file": rules}
        async with with_automation(start, port, **bot) as (_, client):
            runs = port.automations.runs
            for number, health in enumerate(("Degraded", "Crashed", "Healthy"), 1):
                if health == "Healthy":
                    api.refuse("chat.getPermalink", "channel_not_found")
                await set_health(client, health)
                await until(lambda n=number: [told(run)[0] for run in runs.values()] == ["SUCCESS"] * n)  # type: ignore[misc]
    (parent, *_) = api.messages("oncall")
    link = f"https://example.slack.com/archives/{api.channel('oncall').id}/p{parent['ts'].replace('.', '')}"
    assert [run.get("link") for run in runs.values()] == [[link], [link], None]
    assert api.faults == []


async def test_dead_and_tried_again(start: Start, port: StandInPort, slack: StandInSlack) -> None:
    """A run fails with the reason; that it is delivered later, by hand, Port is told once, and refuses."""
    no = Response("invalid_payload", 400)
    slack.answers.extend([no, no, no])
    async with with_automation(start, port) as (service, client):
        await set_health(client, "Degraded")
        (run,) = port.automations.runs.values()
        await until(lambda: run["status"] != "IN_PROGRESS")
        assert told(run) == ("FAILURE", "Not delivered")
        assert run["summary"].startswith("Not delivered to default: 400 invalid_payload.")
        assert await service.store.retry(now=datetime.now(UTC)) == 1
        await until(lambda: len(slack.messages) == 1)

        async def recorded() -> bool:
            found = await reports(service)
            return len(found) == 3 and all(one.state is State.DELIVERED for one in found)

        await until(recorded)
        last = (await reports(service))[-1]
        assert (last.attempts, "422" in last.detail) == (1, True)
    assert told(run) == ("FAILURE", "Not delivered")


@DATABASES
async def test_port_is_silent(start: Start, port: StandInPort) -> None:
    """Not one call of ours is answered, and every alert goes out; then every run hears of its end."""
    answers = asyncio.Event()
    port.before_answer = answers.wait
    async with start(**credentials(port)) as service:
        names = [port.automations.start() for _ in range(8)]
        for number, run in enumerate(names):
            await arrives(service, run, f"entity-{number}")

        async def all_delivered() -> bool:
            return await count(service.store, State.DELIVERED) == 8

        await until(all_delivered)
        assert {told(run) for run in port.automations.runs.values()} == {("IN_PROGRESS", "")}
        assert {one.state for one in await reports(service)} == {State.PENDING}
        answers.set()
        await until(
            lambda: {told(run) for run in port.automations.runs.values()} == {("SUCCESS", "Delivered")}
        )


async def test_port_limits_the_rate(start: Start, port: StandInPort, slack: StandInSlack) -> None:
    """429 again and again: alerts go out, each run is told in the end, and Port is asked when it says."""
    limit = refusal(429, **{"x-ratelimit-reset": "1"})
    async with start(**credentials(port)) as service:
        names = [port.automations.start() for _ in range(6)]
        for run in names:
            port.script("POST", f"/v1/actions/runs/{run}/logs", limit)
            port.script("PATCH", f"/v1/actions/runs/{run}", limit)
        for number, run in enumerate(names):
            await arrives(service, run, f"entity-{number}")
        await until(lambda: len(slack.messages) >= 1)

        async def all_delivered() -> bool:
            return await count(service.store, State.DELIVERED) == 6

        await until(all_delivered)
        await until(
            lambda: {told(run) for run in port.automations.runs.values()} == {("SUCCESS", "Delivered")}, 60
        )
        assert all(one.state is not State.DEAD for one in await reports(service))
    # At the most twice a line, twice an end, and once a token.
    assert len(port.requests) <= 6 * 4 + 1


async def test_port_lets_nobody_in(start: Start, port: StandInPort, slack: StandInSlack) -> None:
    """A token that Port refuses is renewed; credentials that it refuses keep reports up, and nothing else."""
    async with start(**credentials(port)) as service:
        await arrives(service, first := port.automations.start(), "one")
        await until(lambda: told(port.automations.runs[first]) == ("SUCCESS", "Delivered"))
        port.expire_token()
        await arrives(service, second := port.automations.start(), "two")
        await until(lambda: told(port.automations.runs[second]) == ("SUCCESS", "Delivered"))
        assert sum(one.path == LOGIN for one in port.requests) == 2
        port.expire_token()
        port.script("POST", LOGIN, *[refusal(401)] * 50)
        await arrives(service, third := port.automations.start(), "three")
        await until(lambda: len(slack.messages) == 3)

        async def tries_again() -> bool:
            queues = [
                one
                for one in await service.store.read(queries.page.queues, datetime.now(UTC))
                if one.destination == RUNS
            ]
            return any(one.failures for one in queues) and not any(one.on_hold for one in queues)

        await until(tries_again)
        assert len(slack.messages) == 3  # nobody is told in Slack that nobody is told in Port
        assert told(port.automations.runs[third])[0] == "IN_PROGRESS"
        port.scripted.clear()
        await until(lambda: told(port.automations.runs[third]) == ("SUCCESS", "Delivered"))


async def test_a_run_that_is_not_there(start: Start, port: StandInPort, slack: StandInSlack) -> None:
    """A report that cannot be made is dead, where people look for what is; nobody hears of it in Slack."""
    async with start(**credentials(port), admin_token=ADMIN) as service:
        await arrives(service, "r_unknown")

        async def dead() -> bool:
            return await count(service.store, State.DEAD) >= 1

        await until(dead)
        bearer = {"Authorization": f"Bearer {ADMIN}"}
        shown = (await service.client.get("/api/v1/deliveries?state=dead", headers=bearer)).json()
        assert [one["destination"] for one in shown["items"]][-1] == RUNS
        metrics = (await service.client.get("/metrics", headers=bearer)).text
        assert f'port_listener_deliveries_total{{destination="{RUNS}",outcome="dead"}}' in metrics
    assert len(slack.messages) == 1


async def test_the_same_change_by_two_runs(start: Start, port: StandInPort, slack: StandInSlack) -> None:
    """Two automations bring one change: it is told once, and each of the runs shows its end."""
    async with start(**credentials(port)) as service:
        now = datetime.now(UTC) - timedelta(seconds=1)
        for _ in range(2):
            run = port.automations.start()
            body = json.loads(change_body(before="Healthy", after="Degraded", at=now, entity="twice"))
            whole = json.dumps(body | {"run": {"id": run}, "report": True}).encode()
            await service.post(whole, signed_headers(whole, CLIENT_SECRET, datetime.now(UTC)))
        first, second = port.automations.runs.values()
        await until(lambda: told(first) == ("SUCCESS", "Delivered"))
        await until(lambda: told(second) == ("SUCCESS", "Duplicate"))
    assert len(slack.messages) == 1


async def test_without_credentials(start: Start, port: StandInPort, slack: StandInSlack) -> None:
    """Nothing is reported where Port's API cannot be called, and nothing waits for it."""
    async with start(port_client_secret=CLIENT_SECRET) as service:
        await arrives(service, port.automations.start())
        await until(lambda: len(slack.messages) == 1)
        assert await reports(service) == []
    assert port.requests == []
