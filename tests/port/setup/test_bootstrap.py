"""Bootstrap, against a stand-in Port on loopback: what is made, what stays, what is taken away again."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request as Incoming
from starlette.responses import Response
from starlette.routing import Route

from app.demo.run import serving
from app.errors import ListenerError, PortError
from app.port.client import PortClient
from app.port.setup import resources
from app.port.setup.bootstrap import ACTION_FIELDS, Plan, bootstrap
from app.port.setup.steps import FieldDifference, Result, SetupStep, render, render_requests
from app.receive.signature import parse_headers, verify
from tests.port.stand_in_port import CLIENT_ID, CLIENT_SECRET, LOGIN, StandInPort, refusal, standing_in

TOLERANCE = timedelta(minutes=5)
HOOK = "https://listener.example.com/api/slack"
AUTOMATION = "deploymentConfig_change_listener"
ENTITY = ("deploymentConfig", "notification-service-prod")
SCRIPT = Path(__file__).parents[3] / "scripts" / "bootstrap.py"
SERVICE: dict[str, Any] = {
    "identifier": "service",
    "title": "Service",
    "schema": {"properties": {"ttl": {"type": "string", "format": "timer"}, "type": {"type": "string"}}},
}


@pytest.fixture
async def port() -> AsyncIterator[StandInPort]:
    """An empty stand-in Port."""
    async with standing_in() as stand_in:
        yield stand_in


async def run(port: StandInPort, *, dry_run: bool = False, **plan: Any) -> list[SetupStep]:
    """Carry out a plan, and return its steps."""
    steps, _ = await run_and_list(port, dry_run=dry_run, **plan)
    return steps


async def run_and_list(
    port: StandInPort, *, dry_run: bool = False, waits: list[float] | None = None, **plan: Any
) -> tuple[list[SetupStep], list[str]]:
    """Carry out a plan, and return its steps and the planned requests as lines."""

    async def sleep(seconds: float) -> None:
        (waits if waits is not None else []).append(seconds)

    async with PortClient(
        port.url, CLIENT_ID, CLIENT_SECRET, clock=lambda: datetime.now(UTC), sleep=sleep, dry_run=dry_run
    ) as client:
        steps = [step async for step in bootstrap(client, Plan(**({"webhook_url": HOOK} | plan)))]
        lines = [line for step in steps for line in render(step, dry_run=dry_run)]
        lines += render_requests(client.planned)
    assert not any(secret in line for line in lines for secret in (CLIENT_SECRET, port.token))
    return steps, lines


def results(steps: list[SetupStep]) -> dict[str, Result]:
    """Return what came of each thing."""
    return {f"{step.kind} {step.identifier}": step.result for step in steps}


async def test_everything_is_made(port: StandInPort) -> None:
    """In an empty organization the blueprint, the entity and the automation are made, in this order."""
    steps = await run(port)
    assert [(step.kind, step.result) for step in steps] == [
        ("blueprint", Result.CREATED),
        ("entity", Result.CREATED),
        ("automation", Result.CREATED),
    ]
    properties = port.blueprints["deploymentConfig"]["schema"]["properties"]
    assert set(properties) == {
        "healthStatus",
        "cpuUtil",
        "memoryUtil",
        "newRelicUrl",
        "sentryUrl",
        "prometheusUrl",
        "locked",
    }
    assert properties["healthStatus"]["enumColors"] == {
        "Healthy": "green",
        "Degraded": "orange",
        "Crashed": "red",
        "Restarting": "yellow",
    }
    assert "changelogDestination" not in port.blueprints["deploymentConfig"]
    assert port.entities[ENTITY]["properties"]["healthStatus"] == "Healthy"
    automation = port.actions[AUTOMATION]
    assert automation["publish"] is True
    assert automation["invocationMethod"]["url"] == HOOK
    assert automation["trigger"]["event"] == {
        "type": "ANY_ENTITY_CHANGE",
        "blueprintIdentifier": "deploymentConfig",
    }


ALL_OPTIONS: list[dict[str, Any]] = [
    {},
    {"changelog_destination": True},
    {"blueprints": ("service",)},
    {"blueprints": ("service",), "timers": ("ttl",), "changelog_destination": True},
    {"blueprints": ("service",), "timers": ("ttl",), "report": True},
]


@pytest.mark.parametrize("options", ALL_OPTIONS)
async def test_second_run_changes_nothing(port: StandInPort, options: dict[str, Any]) -> None:
    """Bootstrap twice: the second run only looks, whatever Port has added to what was made."""
    port.blueprints["service"] = deepcopy(SERVICE)
    await run(port, **options)
    port.requests.clear()
    steps = await run(port, **options)
    assert {step.result for step in steps} == {Result.UNCHANGED}
    assert port.writes == []


@pytest.mark.parametrize("patch_merges", [False, True])
async def test_what_users_add_stays(port: StandInPort, patch_merges: bool) -> None:
    """A blueprint that is the user's own keeps all that is theirs, whichever way Port reads a PATCH."""
    port.patch_merges = patch_merges
    await run(port)
    theirs = port.blueprints["deploymentConfig"]
    properties = theirs["schema"]["properties"]
    properties["slackChannel"] = {"type": "string", "title": "Channel"}
    properties["type"] = {"type": "string"}
    properties["healthStatus"]["enum"].append("Paused")
    properties["healthStatus"]["enumColors"]["Paused"] = "blue"
    properties["cpuUtil"]["description"] = "of all cores"
    theirs["schema"]["required"] = ["slackChannel"]
    theirs["relations"] = {"service": {"target": "service", "many": False}}
    theirs["changelogDestination"] = {"type": "KAFKA"}
    del properties["locked"]
    properties["memoryUtil"]["title"] = "Memory"
    expected = deepcopy(theirs)
    expected["schema"]["properties"]["locked"] = resources.blueprint()["schema"]["properties"]["locked"]
    port.requests.clear()
    steps = await run(port)
    assert steps[0].result is Result.CHANGED
    assert [one.path for one in steps[0].difference] == ["schema.properties.locked"]
    assert [one.path for one in steps[0].left] == ["schema.properties.memoryUtil.title"]
    assert [(one.method, one.path) for one in port.writes] == [("PATCH", "/v1/blueprints/deploymentConfig")]
    assert list(port.writes[0].body) == ["schema"]
    port.blueprints["deploymentConfig"].pop("updatedAt")
    expected.pop("updatedAt")
    assert port.blueprints["deploymentConfig"] == expected


async def test_type_is_never_changed(port: StandInPort) -> None:
    """A user's property of the same name and another type stops the run before anything is changed."""
    port.blueprints["deploymentConfig"] = deepcopy(SERVICE) | {
        "identifier": "deploymentConfig",
        "schema": {"properties": {"cpuUtil": {"type": "string"}}},
    }
    with pytest.raises(ListenerError, match="The property cpuUtil of your blueprint deploymentConfig"):
        await run(port)
    assert port.writes == []


async def test_living_values_stay(port: StandInPort) -> None:
    """An entity's values are not set back, for that would be a false alert; what is empty is filled in."""
    await run(port)
    port.entities[ENTITY]["properties"] |= {"healthStatus": "Crashed", "cpuUtil": None, "own": 1}
    steps = await run(port)
    assert steps[1] == SetupStep(
        "entity", ENTITY[1], Result.CHANGED, (FieldDifference("properties.cpuUtil", None, 25),)
    )
    values = port.entities[ENTITY]["properties"]
    assert (values["healthStatus"], values["cpuUtil"], values["own"]) == ("Crashed", 25, 1)


async def test_automation_is_corrected(port: StandInPort) -> None:
    """An automation that calls elsewhere is put right; what a person has set stays, and is said."""
    await run(port, webhook_url="https://old.example.com/api/slack")
    theirs = port.actions[AUTOMATION]
    theirs |= {"publish": False, "title": "Ours", "icon": "Alert"}
    theirs["trigger"]["condition"] = {"type": "JQ", "expressions": ["true"], "combinator": "and"}
    theirs["trigger"]["event"]["type"] = "ENTITY_UPDATED"
    theirs["invocationMethod"] |= {"agent": True, "synchronized": False}
    theirs["invocationMethod"]["headers"] |= {"X-Own": "kept", "RUN_ID": "none"}
    expected = deepcopy(theirs)
    expected["invocationMethod"]["url"] = HOOK
    steps = await run(port)
    assert steps[2].difference == (
        FieldDifference("invocationMethod.url", "https://old.example.com/api/slack", HOOK),
    )
    assert {one.path for one in steps[2].left} == {
        "title",
        "publish",
        "trigger.event.type",
        "invocationMethod.agent",
        "invocationMethod.synchronized",
        "invocationMethod.headers.RUN_ID",
    }
    corrected = port.actions[AUTOMATION]
    ports_own = {key: corrected[key] for key in corrected.keys() - ACTION_FIELDS}
    assert corrected == expected | ports_own
    port.requests.clear()
    assert (await run(port))[2].result is Result.UNCHANGED
    assert port.writes == []


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        ({"type": "ENTITY_UPDATED", "blueprintIdentifier": "other"}, "trigger.event.blueprintIdentifier"),
        ({"type": "RUN_UPDATED", "blueprintIdentifier": "deploymentConfig"}, "trigger.event.type"),
    ],
)
async def test_automation_of_other_events(port: StandInPort, wrong: dict[str, str], path: str) -> None:
    """One of our name that no change of the blueprint starts is put right."""
    await run(port)
    port.actions[AUTOMATION]["trigger"]["event"] = wrong
    assert [one.path for one in (await run(port))[2].difference] == [path]


async def test_ports_agent(port: StandInPort) -> None:
    """Who reaches the listener through Port's agent says so once; no later run undoes it, --no-agent does."""

    def agent() -> bool:
        method: dict[str, bool] = port.actions[AUTOMATION]["invocationMethod"]
        return method["agent"]

    await run(port)
    assert agent() is False
    await run(port, agent=True)
    await run(port, webhook_url="https://new.example.com/api/slack", report=True)
    assert agent() is True
    await run(port, agent=False)
    assert agent() is False


async def test_a_blueprint_of_somebody_else(port: StandInPort) -> None:
    """One of the same name that bootstrap never made is not renamed, and its colours stay."""
    theirs = deepcopy(SERVICE) | {"identifier": "deploymentConfig", "title": "Deploys", "icon": "Rocket"}
    health = {"type": "string", "enum": ["Healthy", "Sick"], "enumColors": {"Healthy": "blue", "Sick": "red"}}
    theirs["schema"]["properties"]["healthStatus"] = health
    port.blueprints["deploymentConfig"] = deepcopy(theirs)
    steps = await run(port)
    made = port.blueprints["deploymentConfig"]
    assert (made["title"], made["icon"]) == ("Deploys", "Rocket")
    assert made["schema"]["properties"]["healthStatus"]["enum"] == health["enum"]
    assert made["schema"]["properties"]["healthStatus"]["enumColors"]["Healthy"] == "blue"
    assert "title" in {one.path for one in steps[0].left}


async def test_runs_that_are_told(port: StandInPort) -> None:
    """With --report an automation waits to be told; without a word it stays so, and --no-report ends it."""
    await run(port)
    method = port.actions[AUTOMATION]["invocationMethod"]
    assert method["synchronized"] is True
    assert "report" not in method["body"]
    steps = await run(port, report=True)
    assert steps[2].difference == (
        FieldDifference("invocationMethod.synchronized", before=True, after=False),
        FieldDifference("invocationMethod.body.report", None, after=True),
    )
    method = port.actions[AUTOMATION]["invocationMethod"]
    assert (method["synchronized"], method["body"]["report"]) == (False, True)
    method["body"]["own"] = "kept"
    steps = await run(port, webhook_url="https://new.example.com/api/slack")
    assert [one.path for one in steps[2].difference] == ["invocationMethod.url"]
    steps = await run(port, report=False)
    assert {one.path for one in steps[2].difference} == {
        "invocationMethod.url",
        "invocationMethod.synchronized",
        "invocationMethod.body.report",
    }
    method = port.actions[AUTOMATION]["invocationMethod"]
    assert method["synchronized"] is True
    assert method["body"] == resources.automation("x", HOOK)["invocationMethod"]["body"] | {"own": "kept"}


async def test_automation_of_another_kind_is_replaced(port: StandInPort) -> None:
    """The fields of another kind of invocation do not go with ours, and are not mixed with them."""
    await run(port)
    port.actions[AUTOMATION]["invocationMethod"] = {"type": "GITHUB", "org": "o", "repo": "r"}
    await run(port)
    assert port.actions[AUTOMATION]["invocationMethod"] == resources.automation("x", HOOK)["invocationMethod"]


async def test_existing_blueprints(port: StandInPort) -> None:
    """With --blueprint only the automations of these blueprints are made, a timer's too."""
    port.blueprints["service"] = deepcopy(SERVICE)
    steps = await run(port, blueprints=("service",), timers=("ttl",))
    assert results(steps) == {
        "automation service_change_listener": Result.CREATED,
        "automation service.ttl_timer_listener": Result.CREATED,
    }
    assert port.blueprints["service"] == SERVICE
    assert port.actions["service.ttl_timer_listener"]["trigger"]["event"] == {
        "type": "TIMER_PROPERTY_EXPIRED",
        "blueprintIdentifier": "service",
        "propertyIdentifier": "ttl",
    }


async def test_blueprint_that_is_none(port: StandInPort) -> None:
    """A blueprint that does not exist is named, and nothing is made for the others either."""
    port.blueprints["service"] = deepcopy(SERVICE)
    with pytest.raises(ListenerError, match="There is no blueprint servce in this organization"):
        await run(port, blueprints=("service", "servce"))
    assert port.writes == []


@pytest.mark.parametrize("timer", ["nothing", "type"])
async def test_timer_that_is_none(port: StandInPort, timer: str) -> None:
    """A timer must be a property of that format: the automation would never fire."""
    port.blueprints["service"] = deepcopy(SERVICE)
    with pytest.raises(ListenerError, match=f"no property {timer} of the format timer"):
        await run(port, blueprints=("service",), timers=(timer,))
    assert port.writes == []


async def test_runs_of_an_action(port: StandInPort) -> None:
    """With --action only the automation of its runs is made, and removed; no blueprint is looked at."""
    port.actions["deploy"] = {"identifier": "deploy", "trigger": {"type": "self-service"}}
    assert results(await run(port, actions=("deploy",))) == {"automation deploy_run_listener": Result.CREATED}
    made = port.actions["deploy_run_listener"]
    assert made["trigger"]["event"] == {"type": "ANY_RUN_CHANGE", "actionIdentifier": "deploy"}
    made["trigger"]["event"]["type"] = "RUN_UPDATED"  # somebody wants fewer
    assert results(await run(port, actions=("deploy",))) == {
        "automation deploy_run_listener": Result.UNCHANGED
    }
    for wrong in ("nothing", "deploy_run_listener"):
        with pytest.raises(ListenerError, match=f"no self-service action {wrong} in this organization"):
            await run(port, actions=(wrong,))
    port.blueprints["deploy"] = deepcopy(SERVICE) | {"identifier": "deploy"}
    await run(port, blueprints=("deploy",))
    steps = await run(port, remove=True, actions=("deploy",))
    assert results(steps) == {"automation deploy_run_listener": Result.REMOVED}
    assert {*port.actions} == {"deploy", "deploy_change_listener"}


async def test_changelog_destination(port: StandInPort) -> None:
    """The old way is set up on request, on a blueprint that exists too."""
    await run(port)
    steps = await run(port, changelog_destination=True)
    assert [one.path for one in steps[0].difference] == ["changelogDestination"]
    assert port.blueprints["deploymentConfig"]["changelogDestination"] == {"type": "WEBHOOK", "url": HOOK}


async def test_dry_run(port: StandInPort) -> None:
    """A dry run reads only, and prints each request that would be made with its query and body."""
    steps, lines = await run_and_list(port, dry_run=True)
    assert {one.method for one in port.requests if one.path != LOGIN} == {"GET"}
    assert (port.blueprints, port.entities, port.actions) == ({}, {}, {})
    assert {step.result for step in steps} == {Result.CREATED}
    assert lines[:3] == [
        "blueprint deploymentConfig: would be created",
        "entity notification-service-prod: would be created",
        "automation deploymentConfig_change_listener: would be created",
    ]
    assert [line for line in lines if line.startswith("POST")] == [
        "POST /v1/blueprints",
        "POST /v1/blueprints/deploymentConfig/entities?upsert=true&merge=true",
        "POST /v1/actions",
    ]
    body = "\n".join(lines[lines.index("POST /v1/actions") + 1 :])
    assert json.loads(body) == resources.automation("deploymentConfig", HOOK)


async def test_remove(port: StandInPort) -> None:
    """What all earlier runs made is taken away, and only that; once more does no harm."""
    port.blueprints["service"] = deepcopy(SERVICE)
    port.actions["theirs"] = {**resources.automation("service", HOOK), "identifier": "theirs"}
    before = deepcopy((port.blueprints, port.entities, port.actions))
    await run(port)
    await run(port, blueprints=("service",), timers=("ttl",))
    steps = await run(port, remove=True)
    assert {step.result for step in steps} == {Result.REMOVED}
    assert len(steps) == 5
    assert (port.blueprints, port.entities, port.actions) == before
    assert {step.result for step in await run(port, remove=True)} == {Result.ABSENT}


async def test_remove_of_one_blueprint(port: StandInPort) -> None:
    """With --blueprint only the automations of that one go."""
    port.blueprints["service"] = deepcopy(SERVICE)
    await run(port)
    await run(port, blueprints=("service",))
    steps = await run(port, remove=True, blueprints=("service",))
    assert results(steps) == {"automation service_change_listener": Result.REMOVED}
    assert list(port.actions) == [AUTOMATION]


async def test_remove_keeps_other_listeners(port: StandInPort) -> None:
    """An automation of our name that calls somebody else stays, with the reason."""
    await run(port, webhook_url="https://other.example.com/api/slack")
    steps = await run(port, remove=True)
    assert steps[0].result is Result.KEPT
    assert steps[0].reason == f"it calls https://other.example.com/api/slack, not {HOOK}"
    assert AUTOMATION in port.actions


@pytest.mark.parametrize(
    ("entity", "reason"),
    [({"identifier": "checkout"}, "it has entities: checkout …;"), ({}, "it has entities;")],
)
async def test_remove_keeps_other_entities(port: StandInPort, entity: dict[str, str], reason: str) -> None:
    """A blueprint with an entity that is not the demo's stays, with the reason."""
    await run(port, changelog_destination=True)
    port.entities["deploymentConfig", "checkout"] = entity
    steps = await run(port, remove=True)
    assert results(steps)["blueprint deploymentConfig"] is Result.KEPT
    assert reason in steps[-1].reason
    assert "changelogDestination stays too" in steps[-1].reason
    assert set(port.entities) == {("deploymentConfig", "checkout")}


@pytest.mark.parametrize("part", ["property", "value", "relation"])
async def test_remove_keeps_own_blueprint(port: StandInPort, part: str) -> None:
    """A blueprint that a user has made their own stays, with what is theirs."""
    await run(port)
    theirs = port.blueprints["deploymentConfig"]
    if part == "property":
        theirs["schema"]["properties"]["own"] = {"type": "string"}
    elif part == "value":
        theirs["schema"]["properties"]["healthStatus"]["enum"].append("Paused")
    else:
        theirs["relations"] = {"own": {"target": "service"}}
    steps = await run(port, remove=True)
    assert steps[-1].result is Result.KEPT
    assert ("healthStatus" if part == "value" else "own") in steps[-1].reason
    assert "deploymentConfig" in port.blueprints


async def test_remove_keeps_own_entity(port: StandInPort) -> None:
    """An entity with values that bootstrap never sets has become the user's."""
    await run(port)
    port.entities[ENTITY]["relations"] = {"service": "notifications"}
    steps = await run(port, remove=True)
    assert results(steps)["entity notification-service-prod"] is Result.KEPT
    assert results(steps)["blueprint deploymentConfig"] is Result.KEPT
    assert ENTITY in port.entities


async def test_remove_waits_for_the_entity(port: StandInPort) -> None:
    """Port sees a deleted entity for some seconds: the blueprint's deletion is tried again."""
    await run(port)
    port.lingering = 2
    waits: list[float] = []
    steps, _ = await run_and_list(port, waits=waits, remove=True)
    assert steps[-1].result is Result.REMOVED
    assert waits == [1, 2]
    await run(port)
    port.lingering = 99
    with pytest.raises(PortError, match="the blueprint has entities"):
        await run(port, remove=True)
    port.script("DELETE", "/v1/blueprints/deploymentConfig", refusal(403))
    with pytest.raises(PortError, match="403"):
        await run(port, remove=True)


async def test_remove_dry_run(port: StandInPort) -> None:
    """A dry run of a removal reads only, and says on what the last request depends."""
    await run(port)
    port.requests.clear()
    steps, lines = await run_and_list(port, dry_run=True, remove=True)
    assert {one.method for one in port.requests if one.path != LOGIN} == {"GET"}
    assert f"automation {AUTOMATION}: would be removed" in lines
    assert "if the search finds no other entity" in steps[-1].reason
    assert lines[-1] == "DELETE /v1/blueprints/deploymentConfig"


async def test_stops_where_port_refuses(port: StandInPort) -> None:
    """What was done before a refusal is told before it."""
    port.script("POST", "/v1/actions", refusal(403))
    async with PortClient(port.url, CLIENT_ID, CLIENT_SECRET, clock=lambda: datetime.now(UTC)) as client:
        steps = bootstrap(client, Plan(HOOK))
        done = [(await anext(steps)).kind, (await anext(steps)).kind]
        with pytest.raises(PortError, match="403"):
            await anext(steps)
    assert done == ["blueprint", "entity"]


async def test_odd_automations_are_left_alone(port: StandInPort) -> None:
    """Automations of other shapes than ours do not trouble a removal."""
    event = {"type": "RUN_UPDATED", "actionIdentifier": "x"}
    port.actions |= {
        "runs": {"identifier": "runs", "trigger": {"type": "automation", "event": event}},
        "none": {"identifier": "none", "trigger": {"type": "automation"}},
    }
    steps = await run(port, remove=True)
    assert {step.result for step in steps} == {Result.ABSENT}
    assert set(port.actions) == {"runs", "none"}


async def test_changes_reach_the_webhook() -> None:
    """What bootstrap makes works: a change in Port arrives signed, in the shape that we read."""
    arrived: list[dict[str, Any]] = []

    async def take(request: Incoming) -> Response:
        body = await request.body()
        assert verify(body, parse_headers(request.headers, datetime.now(UTC), TOLERANCE), [CLIENT_SECRET])
        arrived.append(json.loads(body) | {"RUN_ID": request.headers["run_id"]})
        return Response(status_code=202)

    listener = Starlette(routes=[Route("/api/slack", take, methods=["POST"])])
    async with serving(listener) as url, standing_in(call_webhooks=True) as port:
        hook = resources.webhook_address(url)
        await run(port, webhook_url=hook)
        async with PortClient(port.url, CLIENT_ID, CLIENT_SECRET, clock=lambda: datetime.now(UTC)) as client:
            await client.patch_entity(
                *ENTITY, {"properties": {"healthStatus": "Degraded"}, "title": "Café 🚀"}
            )
            await client.patch_entity(*ENTITY, {"properties": {"healthStatus": "Healthy"}})
            await client.delete_entity(*ENTITY)
        await port.automations.settled()
    assert port.automations.deliveries == [(hook, 202)] * 3
    assert [one["event"]["action"] for one in arrived] == ["UPDATE", "UPDATE", "DELETE"]
    assert arrived[0]["event"]["diff"]["after"]["title"] == "Café 🚀"
    assert arrived[0]["run"]["id"] == arrived[0]["RUN_ID"]


def test_script_outside_the_environment() -> None:
    """Without the libraries the script says in one sentence how to run it."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(SCRIPT)], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert ".venv/bin/python scripts/bootstrap.py" in done.stderr
    assert "./scripts/run" in done.stderr
    assert "Traceback" not in done.stderr
