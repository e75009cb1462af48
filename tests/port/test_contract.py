"""Every request that bootstrap and the client can make, held against Port's own API description."""

from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

import pytest

from app.model.notification import Message
from app.model.report import Fate, ReportedAlert
from app.port.client import PortClient
from app.port.listing import read_blueprint
from app.port.setup import resources
from app.port.setup.bootstrap import Plan, bootstrap
from app.rules.watched import Watched
from tests.port.description import description, faults, hold, route_of, violations
from tests.port.stand_in_port import CLIENT_ID, CLIENT_SECRET, Recorded, StandInPort, standing_in

HOOK = "https://listener.example.com/api/slack"
SERVICE: dict[str, Any] = {
    "identifier": "service",
    "title": "Service",
    "schema": {"properties": {"ttl": {"type": "string", "format": "timer"}}},
}
DEPLOY: dict[str, Any] = {"identifier": "deploy", "trigger": {"type": "self-service", "userInputs": {}}}
PLANS = {
    "all": Plan(HOOK),
    "changelog destination": Plan(HOOK, changelog_destination=True),
    "existing blueprints": Plan(HOOK, blueprints=("service",), timers=("ttl",), changelog_destination=True),
    "reports": Plan(HOOK, blueprints=("service",), timers=("ttl",), report=True),
    "agent": Plan(HOOK, blueprints=("service",), timers=("ttl",), agent=True),
    "no reports": Plan(HOOK, blueprints=("service",), timers=("ttl",), report=False),
    "runs": Plan(HOOK, actions=("deploy",)),
    "moved": Plan("https://smee.io/AbC123", blueprints=("service",), timers=("ttl",)),
    "moved all": Plan("https://smee.io/AbC123", changelog_destination=True),
    "remove": Plan("https://smee.io/AbC123", remove=True),
}


def client_of(port: StandInPort, *, dry_run: bool = False) -> PortClient:
    """Return a client with the right credentials."""
    return PortClient(port.url, CLIENT_ID, CLIENT_SECRET, clock=lambda: datetime.now(UTC), dry_run=dry_run)


async def test_bootstrap_keeps_to_the_description() -> None:
    """All that bootstrap sends, making, mending, moving and removing, with all options, is as described."""
    description()
    async with standing_in() as port, client_of(port) as client:
        port.blueprints["service"] = deepcopy(SERVICE)
        port.actions["deploy"] = deepcopy(DEPLOY)
        for plan in PLANS.values():
            assert [step async for step in bootstrap(client, plan)]
            # A user takes something away each time, so that there is something to mend.
            if blueprint := port.blueprints.get(resources.BLUEPRINT):
                blueprint["schema"]["properties"].pop("locked", None)
                port.entities[resources.BLUEPRINT, resources.TUTORIAL_ENTITY]["properties"]["cpuUtil"] = None
    hold(port.requests)
    used = {route_of(one) for one in port.requests}
    deletions = {(method, path) for method, path in used if method == "DELETE"}
    assert len(deletions) == 3
    assert ("PUT", "/v1/blueprints/{identifier}") not in used
    assert {("PATCH", "/v1/blueprints/{identifier}"), ("PUT", "/v1/actions/{action_identifier}")} <= used


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
async def test_dry_run_plans_the_same(plan: Plan) -> None:
    """What a dry run prints is what would be sent: it is as described too."""
    description()
    async with standing_in() as port, client_of(port, dry_run=True) as client:
        port.blueprints["service"] = deepcopy(SERVICE)
        port.blueprints[resources.BLUEPRINT] = resources.blueprint()
        port.actions["deploy"] = deepcopy(DEPLOY)
        sleeping = resources.automation("service", plan.webhook_url) | {"publish": False}
        port.actions[sleeping["identifier"]] = sleeping
        assert [step async for step in bootstrap(client, plan)]
        hold([Recorded(one.method, one.path, dict(one.query), one.body) for one in client.planned])


async def test_client_keeps_to_the_description() -> None:
    """What the client can do beyond bootstrap is as described."""
    description()
    async with standing_in() as port, client_of(port) as client:
        port.blueprints["service"] = deepcopy(SERVICE)
        await client.upsert_entity("service", {"identifier": "a:b", "properties": {}})
        await client.patch_entity("service", "a:b", {"properties": {"healthStatus": "Degraded"}})
        await client.upsert_entity("service", {"identifier": "c", "properties": {}})
        page = await client.search_entities("service", [], limit=1)
        await client.search_entities("service", [], after=page.next)
        watched = Watched(frozenset({"title", "team", "properties.ttl"}))
        include = read_blueprint(SERVICE).include(watched)
        assert include
        rule = {"property": "$identifier", "operator": "in", "value": ["a:b", "d"]}
        await client.search_entities("service", [rule], limit=1000, include=include)
        port.actions["a/b"] = {
            "identifier": "a/b",
            "trigger": {"type": "self-service", "userInputs": {"properties": {"cpu": {}}}},
        }
        await client.start_run("a/b", {"cpu": 85})
        run = port.automations.start()
        alerts = tuple(
            ReportedAlert(state, state, "404", Message("C1", "1.1"))
            for state in ("delivered", "dead", "silenced", "cancelled")
        )
        for fate in (Fate(datetime.now(UTC), "why"), Fate(datetime.now(UTC), "why", alerts, again=True)):
            await client.log_run(run, fate.line if fate.alerts else "")
            for links in ([], ["https://example.slack.com/archives/C1/p11"]):
                port.automations.runs[run]["status"] = "IN_PROGRESS"
                await client.patch_run(run, dict(fate.ending(links)))
    hold(port.requests)
    assert {
        ("POST", "/v1/actions/{action_identifier}/runs"),
        ("POST", "/v1/actions/runs/{run_id}/logs"),
        ("PATCH", "/v1/actions/runs/{run_id}"),
    } <= {route_of(one) for one in port.requests}
    answers = description()["paths"]["/v1/actions/{action_identifier}/runs"]["post"]["responses"]
    answered = answers["202"]["content"]["application/json"]["schema"]["properties"]["run"]
    assert not list(violations(port.runs[0]["id"], answered["properties"]["id"]))


def test_the_check_sees_faults() -> None:
    """The check itself is no rubber stamp: each kind of fault is seen."""
    description()
    search = "/v1/blueprints/service/entities/search"
    wrong = [
        Recorded("POST", "/v1/actions", {}, resources.automation("a b", HOOK)),
        Recorded("POST", "/v1/actions", {}, resources.automation("a", HOOK) | {"createdAt": "now"}),
        Recorded("POST", "/v1/blueprints/service/entities", {}, {"identifier": "a"}),
        Recorded("POST", search, {"limit": "1"}, {}),
        Recorded("POST", "/v1/actions/a/runs", {}, {"inputs": {}}),
        Recorded("POST", search, {}, {"limit": 0}),
        Recorded("POST", search, {}, {"include": "title"}),
        Recorded("POST", search, {}, {"query": {"combinator": "and", "rules": [{"operator": "in"}]}}),
        Recorded("PATCH", "/v1/actions/runs/r_1", {"version": "v2"}, {"status": "IN_PROGRESS"}),
        Recorded("POST", "/v1/actions/runs/r_1/logs", {}, {}),
        Recorded("GET", "/v1/actions", {"trigger_type": "all"}, None),
        Recorded("GET", "/v1/actions", {}, {}),
        Recorded("DELETE", "/v1/actions/a", {"force": "true"}, None),
        Recorded("DELETE", "/v1/blueprints/a/entities/b", {}, None),
    ]
    assert [one for one in wrong if not list(faults(one))] == []
    with pytest.raises(AssertionError, match="Port has no PUT /v1/nothing"):
        route_of(Recorded("PUT", "/v1/nothing", {}, None))
