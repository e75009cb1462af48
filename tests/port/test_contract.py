"""Every request that bootstrap and the client can make, held against Port's own API description."""

import functools
import json
import re
from collections.abc import Iterator
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import jsonschema
import pytest

from app.model.notification import Message
from app.model.report import Fate, Told
from app.port.client import PortClient
from app.port.listing import chosen, read_blueprint
from app.port.setup import resources
from app.port.setup.bootstrap import Plan, bootstrap
from app.rules.watched import Watched
from tests.port.stand_in_port import CLIENT_ID, CLIENT_SECRET, Recorded, StandInPort, standing_in

DESCRIPTION = Path(__file__).parents[3] / "shared" / "port-openapi.json"
HOOK = "https://listener.example.com/api/slack"
SERVICE: dict[str, Any] = {
    "identifier": "service",
    "title": "Service",
    "schema": {"properties": {"ttl": {"type": "string", "format": "timer"}}},
}
NOT_DESCRIBED = {
    ("DELETE", "/v1/blueprints/{identifier}"): "https://docs.port.io/api-reference/delete-a-blueprint",
    (
        "DELETE",
        "/v1/blueprints/{blueprint_identifier}/entities/{entity_identifier}",
    ): "https://docs.port.io/api-reference/delete-an-entity",
    (
        "DELETE",
        "/v1/actions/{action_identifier}",
    ): "https://docs.port.io/api-reference/delete-an-action-automation",
}
"""The description is an extract without what deletes; by their pages that needs no query and no body."""

PLANS = {
    "all": Plan(HOOK),
    "changelog destination": Plan(HOOK, changelog_destination=True),
    "existing blueprints": Plan(HOOK, blueprints=("service",), timers=("ttl",), changelog_destination=True),
    "reports": Plan(HOOK, blueprints=("service",), timers=("ttl",), report=True),
    "no reports": Plan(HOOK, blueprints=("service",), timers=("ttl",), report=False),
    "moved": Plan("https://smee.io/AbC123", blueprints=("service",), timers=("ttl",)),
    "moved all": Plan("https://smee.io/AbC123", changelog_destination=True),
    "remove": Plan("https://smee.io/AbC123", remove=True),
}


@functools.cache
def description() -> Any:
    """Return Port's description, or skip the test where it is not."""
    if not DESCRIPTION.exists():
        pytest.skip(f"Port's API description is not at {DESCRIPTION.parent.name}/{DESCRIPTION.name}")
    # JavaScript's class of all letters: \\w has them, and Port's patterns allow its digits and _ anyway.
    return json.loads(DESCRIPTION.read_text().replace(r"\\p{L}", r"\\w"))


def route_of(request: Recorded) -> tuple[str, str]:
    """Return the method and the described path that a request belongs to; literal paths win."""
    known = [(path, method.upper()) for path, one in description()["paths"].items() for method in one]
    known += [(path, method) for method, path in NOT_DESCRIBED]
    for path, method in sorted(known, key=lambda one: one[0].count("{")):
        pattern = "/".join("[^/]+" if part.startswith("{") else re.escape(part) for part in path.split("/"))
        if method == request.method and re.fullmatch(pattern, request.path):
            return method, path
    raise AssertionError(f"Port has no {request.method} {request.path}")


def faults(request: Recorded) -> Iterator[str]:
    """Yield what is wrong with a request by Port's description."""
    method, path = route_of(request)
    if (method, path) in NOT_DESCRIBED:
        if request.query or request.body is not None:
            yield "a deletion has neither query nor body"
        return
    operation = description()["paths"][path][method.lower()]
    parameters = operation.get("parameters", [])
    given = dict(zip(re.findall(r"{(\w+)}", path), _values(path, request.path), strict=True))
    for place, values in (("query", request.query), ("path", given)):
        known = {one["name"]: one for one in parameters if one["in"] == place}
        yield from (f"unknown {place} parameter {name}" for name in values.keys() - known.keys())
        for name, one in known.items():
            if name in values:
                yield from violations(_typed(values[name], one["schema"]), one["schema"])
            elif one.get("required"):
                yield f"{place} parameter {name} is missing"
    described = operation.get("requestBody")
    if described is None:
        if request.body is not None:
            yield "a body where none belongs"
        return
    yield from violations(request.body, described["content"]["application/json"]["schema"])


def violations(value: Any, schema: Any) -> Iterator[str]:
    """Yield how a value breaks a schema of the description."""
    whole = {"allOf": [schema], "components": description()["components"]}
    validator = jsonschema.Draft202012Validator(whole)
    yield from (f"{error.json_path}: {error.message[:300]}" for error in validator.iter_errors(value))


def _values(path: str, sent: str) -> list[str]:
    pairs = zip(path.split("/"), sent.split("/"), strict=True)
    return [unquote(value) for name, value in pairs if name.startswith("{")]


def _typed(text: str, schema: Any) -> Any:
    return json.loads(text) if schema.get("type") in {"boolean", "number", "integer"} else text


def client_of(port: StandInPort, *, dry_run: bool = False) -> PortClient:
    """Return a client with the right credentials."""
    return PortClient(port.url, CLIENT_ID, CLIENT_SECRET, clock=lambda: datetime.now(UTC), dry_run=dry_run)


def hold(requests: list[Recorded]) -> None:
    """Hold that all requests are as described."""
    assert requests
    wrong = [f"{one.method} {one.path}: {fault}" for one in requests for fault in faults(one)]
    assert not wrong, "\n".join(wrong)


async def test_bootstrap_keeps_to_the_description() -> None:
    """All that bootstrap sends, making, mending, moving and removing, with all options, is as described."""
    description()
    async with standing_in() as port, client_of(port) as client:
        port.blueprints["service"] = deepcopy(SERVICE)
        for plan in PLANS.values():
            assert [step async for step in bootstrap(client, plan)]
            # A user takes something away each time, so that there is something to mend.
            if blueprint := port.blueprints.get(resources.BLUEPRINT):
                blueprint["schema"]["properties"].pop("locked", None)
                port.entities[resources.BLUEPRINT, resources.TUTORIAL_ENTITY]["properties"]["cpuUtil"] = None
    hold(port.requests)
    used = {route_of(one) for one in port.requests}
    assert used >= NOT_DESCRIBED.keys()
    assert ("PUT", "/v1/blueprints/{identifier}") not in used
    assert {("PATCH", "/v1/blueprints/{identifier}"), ("PUT", "/v1/actions/{action_identifier}")} <= used


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
async def test_dry_run_plans_the_same(plan: Plan) -> None:
    """What a dry run prints is what would be sent: it is as described too."""
    description()
    async with standing_in() as port, client_of(port, dry_run=True) as client:
        port.blueprints["service"] = deepcopy(SERVICE)
        port.blueprints[resources.BLUEPRINT] = resources.blueprint()
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
        await client.search_entities("service", chosen(["a:b", "d"]), limit=1000, include=include)
        port.actions["a/b"] = {
            "identifier": "a/b",
            "trigger": {"type": "self-service", "userInputs": {"properties": {"cpu": {}}}},
        }
        await client.start_run("a/b", {"cpu": 85})
        run = port.automations.start()
        alerts = tuple(
            Told(state, state, "404", Message("C1", "1.1"))
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
    ]
    assert [one for one in wrong if not list(faults(one))] == []
    with pytest.raises(AssertionError, match="Port has no PUT /v1/nothing"):
        route_of(Recorded("PUT", "/v1/nothing", {}, None))
