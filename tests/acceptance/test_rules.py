"""Rules over the real service: what a team writes down happens, and nothing else."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.demo.run import serving
from app.demo.stand_in_slack import StandInSlack
from app.model.delivery import State
from app.store import queries
from tests.conftest import SECRET, Service, Start, count
from tests.port.stand_in_port import CLIENT_ID, CLIENT_SECRET, standing_in
from tests.waiting import until


@dataclass
class Jobs:
    """A job server that keeps what it is sent."""

    url: str = ""
    bodies: list[Any] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    status: int = 200

    async def take(self, request: Request) -> Response:
        """Take a job."""
        self.bodies.append(await request.json())
        self.headers.append(dict(request.headers))
        return Response(status_code=self.status)


@pytest.fixture
async def jobs() -> AsyncIterator[Jobs]:
    """A job server on loopback."""
    server = Jobs()
    app = Starlette(routes=[Route("/{path:path}", server.take, methods=["POST", "PUT"])])
    async with serving(app) as server.url:
        yield server


@pytest.fixture
def with_rules(start: Start, tmp_path: Path, slack: StandInSlack) -> Any:
    """Give a function that runs the service with rules; each alert is a message of its own."""
    default = {"type": "slack", "webhook_url": slack.url, "digest_after": 1000, "rate": 1000}
    one_by_one = {"default": default}

    @asynccontextmanager
    async def run(
        *rules: dict[str, Any], destinations: dict[str, Any] | None = None, **settings: Any
    ) -> AsyncIterator[Service]:
        write_rules(tmp_path / "rules.yaml", *rules, destinations=one_by_one | (destinations or {}))
        async with start(rules_file=tmp_path / "rules.yaml", **settings) as service:
            yield service

    return run


def write_rules(path: Path, *rules: dict[str, Any], destinations: dict[str, Any] | None = None) -> None:
    """Write a rules file; JSON is YAML."""
    content = {"version": 1, "destinations": destinations or {}, "rules": list(rules)}
    path.write_text(json.dumps(content))


async def post(
    service: Service,
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
    *,
    entity: str = "db-1",
    blueprint: str = "database",
    at: datetime | None = None,
    team: str | None = None,
    **event: Any,
) -> dict[str, Any]:
    """Post a change of an entity's properties, and return the receipt."""

    def snapshot(properties: dict[str, Any] | None) -> dict[str, Any] | None:
        return properties and {
            "identifier": entity,
            "title": None,
            "team": [team] if team else [],
            "properties": properties,
            "relations": {},
        }

    action = "CREATE" if before is None else "DELETE" if after is None else "UPDATE"
    body = {
        "action": action,
        "resourceType": "entity",
        "trigger": {"by": {}, "origin": "API", "at": (at or datetime.now(UTC)).isoformat()},
        "context": {"blueprintIdentifier": blueprint, "entityIdentifier": entity},
        "diff": {"before": snapshot(before), "after": snapshot(after)},
    }
    answer = await service.post(json.dumps(body | event).encode())
    assert answer.status_code == 202, answer.text
    receipt: dict[str, Any] = answer.json()
    return receipt


def credentials(port_url: str) -> dict[str, str]:
    """Return the settings for the stand-in Port, with the tests' secret still accepted from senders."""
    return {
        "port_client_id": CLIENT_ID,
        "port_client_secret": CLIENT_SECRET,
        "port_previous_client_secret": SECRET,
        "port_api_url": port_url,
    }


CPU = {
    "name": "database-cpu",
    "blueprint": "database",
    "when": {"property": "cpuUtil", "above": 80},
    "resolve": {"property": "cpuUtil", "below": 70},
}


async def test_a_database_crosses_80_percent(with_rules: Any, slack: StandInSlack, jobs: Jobs) -> None:
    """Crossing 80 posts the job and starts the Port action once, and tells Slack; below 70 resolves."""
    async with standing_in() as port:
        port.actions["close_connections"] = {
            "identifier": "close_connections",
            "trigger": {"type": "self-service", "userInputs": {"properties": {"database": {}}}},
        }
        destinations = {
            "cleanup": {
                "type": "http",
                "url": f"{jobs.url}/close-stale",
                "allow_private": True,
                "body": {
                    "database": "{{ .context.entityIdentifier }}",
                    "cpu": "{{ .diff.after.properties.cpuUtil }}",
                },
            },
            "kill": {
                "type": "port_action",
                "action": "close_connections",
                "inputs": {"database": "{{ .context.entityIdentifier }}"},
            },
        }
        settings = credentials(port.url)
        rule = CPU | {"send": ["cleanup", "kill", "default"]}
        async with with_rules(rule, destinations=destinations, **settings) as service:
            cpus = [70, 85, 90, 75, 83, 60]
            alerts = [
                (await post(service, {"cpuUtil": before}, {"cpuUtil": after}))["alerts"]
                for before, after in pairwise(cpus)
            ]
            assert alerts == [3, 0, 0, 0, 1]

            async def all_delivered() -> bool:
                return await count(service.store, State.DELIVERED) == 4

            await until(all_delivered)
    assert jobs.bodies == [{"database": "db-1", "cpu": 85}]
    runs = [request for request in port.requests if request.path.endswith("/runs")]
    assert [run.body["properties"] for run in runs] == [{"database": "db-1"}]
    assert "cpuUtil 70 → 85" in slack.messages[0]["text"]
    assert "Resolved after" in json.dumps(slack.messages[1])


async def test_teams_have_channels_of_their_own(with_rules: Any, slack: StandInSlack) -> None:
    """Degraded reaches the team's channel, another team's the other, an unknown team's the fallback."""
    base = slack.url.rsplit("/", 1)[0]
    destinations = {
        name: {"type": "slack", "webhook_url": f"{base}/{name}", "rate": 1000}
        for name in ("rocket", "payments", "all")
    }
    rule = {
        "name": "health",
        "when": {"property": "healthStatus", "to": "Degraded"},
        "send": {"by_team": {"Rocket": "rocket", "Payments": "payments"}, "default": "all"},
    }
    async with with_rules(rule, destinations=destinations) as service:
        for team in ("Rocket", "Payments", "Nobody", None):
            await post(
                service,
                {"healthStatus": "Healthy"},
                {"healthStatus": "Degraded"},
                entity=f"of-{team}",
                team=team,
            )
        await until(lambda: len(slack.messages) == 4)
        sent = {row.notification.entity: row.destination for row in await service.deliveries()}
    assert sent == {"of-Rocket": "rocket", "of-Payments": "payments", "of-Nobody": "all", "of-None": "all"}


async def test_two_names_of_one_channel_share_its_queue(with_rules: Any, slack: StandInSlack) -> None:
    """Destinations with the same webhook wait in one queue, because Slack counts messages by channel."""
    destinations = {
        name: {"type": "slack", "webhook_url": slack.url, "rate": 1000} for name in ("one", "two")
    }
    rules = [CPU | {"name": name, "send": name} for name in ("one", "two")]
    async with with_rules(*rules, destinations=destinations) as service:
        assert (await post(service, {"cpuUtil": 1}, {"cpuUtil": 99}))["alerts"] == 2
        await until(lambda: len(slack.messages) == 2)
        assert {row.queue for row in await service.deliveries()} == {"default"}


async def test_for_survives_a_restart(with_rules: Any, slack: StandInSlack) -> None:
    """`for` alerts when it is due, across a restart; of what did not last nobody hears."""
    rule = CPU | {"when": {"property": "cpuUtil", "above": 80, "for": "3s"}}
    async with with_rules(rule) as service:
        await post(service, {"cpuUtil": 1}, {"cpuUtil": 99}, entity="lasts")
        await post(service, {"cpuUtil": 1}, {"cpuUtil": 99}, entity="passes")
        await post(service, {"cpuUtil": 99}, {"cpuUtil": 75}, entity="passes")
        assert slack.messages == []
    async with with_rules(rule) as service:
        await until(lambda: len(slack.messages) == 1)
        assert "lasts" in slack.messages[0]["text"]
        states = {row.notification.entity: row.state for row in await service.deliveries()}
    assert states["passes"] is State.CANCELLED


async def test_a_reminder_repeats_until_the_end(with_rules: Any, slack: StandInSlack) -> None:
    """`again_after` tells again and again that it is still so, and stops when it is resolved."""
    async with with_rules(CPU | {"again_after": "1s"}) as service:
        await post(service, {"cpuUtil": 1}, {"cpuUtil": 99})
        await until(lambda: len(slack.messages) == 3)
        await post(service, {"cpuUtil": 99}, {"cpuUtil": 5})
        await until(lambda: "99 → 5" in slack.messages[-1]["text"])

        async def nothing_waits() -> bool:
            return await count(service.store, State.PENDING) == 0

        await until(nothing_waits)
    assert ["still" in message["text"] for message in slack.messages[:3]] == [False, True, True]
    assert "Open for" in json.dumps(slack.messages[1])


async def test_a_late_change_does_not_reopen(with_rules: Any, slack: StandInSlack) -> None:
    """A change that is older than the resolving one is told as late, and opens nothing."""
    now = datetime.now(UTC)
    async with with_rules(CPU) as service:
        await post(service, {"cpuUtil": 1}, {"cpuUtil": 99}, at=now - timedelta(seconds=20))
        await post(service, {"cpuUtil": 99}, {"cpuUtil": 5}, at=now)
        await post(service, {"cpuUtil": 70}, {"cpuUtil": 85}, at=now - timedelta(seconds=10))
        await until(lambda: len(slack.messages) == 3)
        assert "Late:" in json.dumps(slack.messages[2])
        # Were an incident open, the next crossing would be the same state, and nobody would hear of it.
        assert (await post(service, {"cpuUtil": 5}, {"cpuUtil": 90}))["alerts"] == 1


async def test_jq_as_in_an_automation(with_rules: Any, slack: StandInSlack) -> None:
    """A jq condition sees Port's bare event; one that fails or loops is no match, and is told of once."""
    rules = [
        {
            "name": "tier",
            "when": {"jq": ".diff.before.properties.tier != .diff.after.properties.tier"},
            "title": "{{ .context.entityIdentifier }} has moved",
            "message": 'Now *{{ .diff.after.properties.tier }}* {{ .nothing.there }}{{ error("x") }}',
        },
        {"name": "endless", "when": {"jq": "[range(1e12)]"}},
        {"name": "wrong", "when": {"jq": ".diff.after.properties.tier | keys"}},
    ]
    async with with_rules(*rules) as service:
        assert (await post(service, {"tier": "gold"}, {"tier": "<!channel>"}))["alerts"] == 1
        assert (await post(service, {"tier": "gold"}, {"tier": "gold"}))["alerts"] == 0
        await until(lambda: len(slack.messages) == 3)
        ready = (await service.client.get("/readyz")).json()
        page = await service.store.read(queries.page.deliveries, state=None, limit=10)
        reasons = {row.notification.rule: row.notification.title for row in page.rows}
    assert ready["warnings"] == [
        f"rule '{name}': its jq fails; the changes' reasons say why" for name in ("endless", "wrong")
    ]
    why = 'string ("<!channel>") has no keys'
    assert reasons["wrong"] == (
        "Rule wrong: jq fails: .diff.after.properties.tier | keys. On a change of db-1, "
        f"its jq failed, which counts as no match: {why}. Correct it in the rules file."
    )
    shown = json.dumps(slack.messages, ensure_ascii=False)
    assert "Now *&lt;!channel&gt;*" in shown
    assert "|db-1 has moved>" in shown
    assert "<!channel>" not in shown


async def test_a_template_chooses_the_destination(with_rules: Any, slack: StandInSlack, jobs: Jobs) -> None:
    """The change itself names its destination; an unknown name goes to the default."""
    destinations = {"job": {"type": "http", "url": jobs.url, "allow_private": True}}
    rule = CPU | {"send": {"template": "{{ .diff.after.properties.tell }}", "default": "default"}}
    async with with_rules(rule, destinations=destinations) as service:
        await post(service, {"cpuUtil": 1}, {"cpuUtil": 99, "tell": "job"}, entity="a")
        await post(service, {"cpuUtil": 1}, {"cpuUtil": 99, "tell": "nobody"}, entity="b")
        await until(lambda: len(jobs.bodies) == 1 and len(slack.messages) == 1)
    assert jobs.bodies[0]["entity"] == "a"
    assert jobs.headers[0]["idempotency-key"] == jobs.headers[0]["webhook-id"]


async def test_a_destination_looked_up_in_port(with_rules: Any, slack: StandInSlack, jobs: Jobs) -> None:
    """The owning team's entity names the destination; without Port the default hears of it, and soon."""
    destinations = {"job": {"type": "http", "url": jobs.url, "allow_private": True}}
    rule = CPU | {"send": {"port": {"team": True, "property": "tell"}, "default": "default"}}
    async with standing_in() as port:
        port.blueprints["_team"] = {"identifier": "_team"}
        port.entities["_team", "Rocket"] = {"identifier": "Rocket", "properties": {"tell": "job"}}
        settings = credentials(port.url)
        async with with_rules(rule, destinations=destinations, **settings) as service:
            for number in range(3):
                await post(service, {"cpuUtil": 1}, {"cpuUtil": 99}, entity=f"e{number}", team="Rocket")
            await until(lambda: len(jobs.bodies) == 3)
        lookups = [request for request in port.requests if "_team" in request.path]
    assert len(lookups) == 1
    settings = credentials("http://127.0.0.1:1")
    async with with_rules(rule, destinations=destinations, **settings) as service:
        await post(service, {"cpuUtil": 1}, {"cpuUtil": 99}, entity="away", team="Rocket")
        await until(lambda: len(slack.messages) == 1)


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/latest", "http://localhost:1/", "http://127.0.0.1:1/"]
)
async def test_an_address_that_must_not_be_called(with_rules: Any, url: str) -> None:
    """A destination inside the network is refused, seen, and blocks nothing."""
    destinations = {"job": {"type": "http", "url": url}}
    async with with_rules(CPU | {"send": "job"}, destinations=destinations) as service:
        await post(service, {"cpuUtil": 1}, {"cpuUtil": 99})

        async def refused() -> bool:
            (row,) = await service.deliveries()
            return "allow_private" in row.detail

        await until(refused)


async def test_rules_change_without_a_restart(with_rules: Any, tmp_path: Path) -> None:
    """A changed file and SIGHUP load the rules; a bad file is refused, said, and the old rules stay."""
    path = tmp_path / "rules.yaml"
    async with with_rules(CPU) as service:

        async def alerts(prop: str) -> int:
            change = {prop: 1}, {prop: 99}
            return int((await post(service, *change, entity=f"e{datetime.now(UTC).timestamp()}"))["alerts"])

        assert await alerts("cpuUtil") == 1
        write_rules(path, CPU | {"when": {"property": "memory", "above": 80}})
        await until(lambda: alerts_equal(alerts, "memory", 1))
        path.write_text("version: 1\nrules: [{name: broken, whn: {}}]")

        async def warned() -> bool:
            ready = (await service.client.get("/readyz")).json()
            return "'whn' is not known" in json.dumps(ready["warnings"])

        await until(warned)
        assert (await service.client.get("/readyz")).status_code == 200
        assert await alerts("memory") == 1
        write_rules(path, CPU)
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: alerts_equal(alerts, "cpuUtil", 1))
        assert (await service.client.get("/readyz")).json()["warnings"] == []


async def test_loaded_rules_let_queues_on_hold_try(with_rules: Any, slack: StandInSlack) -> None:
    """After a destination is fixed, loading the rules ends the ten minutes' wait of a queue on hold."""
    slack.answers.append(Response("no_service", 404))
    async with with_rules(CPU) as service:
        await post(service, {"cpuUtil": 1}, {"cpuUtil": 99})

        async def on_hold() -> bool:
            queues = await service.store.read(queries.page.queues, datetime.now(UTC))
            return [queue.on_hold for queue in queues] == ["404 no_service"]

        await until(on_hold)
        assert slack.messages == []
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: len(slack.messages) == 1)


async def alerts_equal(alerts: Any, prop: str, number: int) -> bool:
    """Tell whether a crossing of `prop` leads to so many alerts."""
    await asyncio.sleep(0.05)
    return bool(await alerts(prop) == number)


async def test_created_and_deleted(with_rules: Any, slack: StandInSlack) -> None:
    """Rules on CREATE and DELETE tell of them; a deletion ends an open incident."""
    lifecycle = {"name": "lifecycle", "on": ["CREATE", "DELETE"], "severity": "info"}
    async with with_rules(lifecycle, CPU | {"on": ["CREATE", "UPDATE"]}) as service:
        assert (await post(service, None, {"cpuUtil": 85}))["alerts"] == 2
        assert (await post(service, {"cpuUtil": 85}, None))["alerts"] == 2

        async def all_delivered() -> bool:
            return await count(service.store, State.DELIVERED) == 4

        await until(all_delivered)
    said = json.dumps(slack.messages)
    assert said.index("created") < said.index("deleted")
    assert "fter 0 s" in said  # the incident's end, alone or in a digest
