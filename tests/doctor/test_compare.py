"""The rules against Port: what they name and Port has not, with file, line and rule."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from app.doctor.compare import compare
from app.doctor.finding import CheckStatus, Remark
from app.notifier.registry import SETTINGS_MODELS
from app.port.client import PortClient
from app.port.setup.resources import automation, run_automation, timer_automation
from app.rules.file import load_rules
from tests.port.description import description, hold
from tests.port.stand_in_port import CLIENT_ID, CLIENT_SECRET, StandInPort, standing_in

LISTENER = "https://listener.example.com/api/slack"
WRONG, NOTE, UNSEEN = CheckStatus.WRONG, CheckStatus.NOTE, CheckStatus.NOT_LOOKED_AT
SERVICE: dict[str, Any] = {
    "identifier": "service",
    "schema": {
        "properties": {
            "status": {"type": "string", "enum": ["Up", "Down"]},
            "version": {"type": "string"},
            "tier": {"type": "number"},
            "public": {"type": "boolean"},
            "ttl": {"type": "string", "format": "timer"},
            "spec": {"type": "object"},
            "tags": {"type": "array"},
        }
    },
    "relations": {"system": {"target": "system"}},
    "mirrorProperties": {"channel": {"path": "system.channel"}},
}
SYSTEM: dict[str, Any] = {"identifier": "system", "schema": {"properties": {"channel": {"type": "string"}}}}


@pytest.fixture
async def port() -> AsyncIterator[StandInPort]:
    """Port with two blueprints, a team, and the automations of one of them."""
    async with standing_in() as port:
        port.blueprints |= {
            "service": SERVICE,
            "system": SYSTEM,
            "_team": {"identifier": "_team", "schema": {"properties": {}}},
        }
        port.entities["_team", "rocket"] = {
            "identifier": "rocket",
            "title": "Rocket",
            "properties": {},
            "relations": {},
        }
        for one in (automation("service", LISTENER), timer_automation("service", "ttl", LISTENER)):
            port.actions[one["identifier"]] = one
        yield port


async def remarks(port: StandInPort, said: str, address: str | None = LISTENER) -> list[Remark]:
    """Compare a file with one rule, of which this is said."""
    text = f"version: 1\ndestinations: {{a: {{type: console}}, {CATALOG}}}\nrules:\n  - name: r\n    {said}\n"
    rules = load_rules(text, {}, models=SETTINGS_MODELS, name="f")
    clock = lambda: datetime.now(UTC)  # noqa: E731
    async with PortClient(port.url, CLIENT_ID, CLIENT_SECRET, clock=clock) as client:
        return await compare(rules, client, address)


CATALOG = (
    'teams: {type: slack, channel: {port: {relation: owner, property: x}}, allow: ["*"]},'
    ' own: {type: slack, channel: "{{ .a }}", allow: ["*"]}'
)
SERVICES = "blueprint: service\n    "


@pytest.mark.parametrize(
    ("said", "status", "text"),
    [
        ("blueprint: servce", WRONG, "blueprint: Port has none called 'servce'; did you mean 'service'?"),
        ("blueprint: web-*", WRONG, "blueprint: Port has none called 'web-*'"),
        (SERVICES + "when: {property: state}", WRONG, "property: service has none called 'state'; did you mean 'status'?"),
        (SERVICES + "when: {property: status, to: Donw}", WRONG, 'status is never "Donw": it has no such value; did you mean \'Down\'?'),
        (SERVICES + "when: {property: status}\n    resolve: {property: status, to: Fine}", WRONG, 'status is never "Fine": it has no such value'),
        (SERVICES + 'when: {property: tier, to: "1"}', WRONG, 'tier is never "1": it is a number'),
        (SERVICES + "when: {property: version, from: {not: [1.1]}}", WRONG, "version is never 1.1: it is a string"),
        (SERVICES + "when: {property: public, to: 1}", WRONG, "public is never 1: it is a boolean"),
        (SERVICES + "when: {property: version, above: 1}", WRONG, "property: above and below need a number, and version is a string"),
        (SERVICES + "when: {property: channel}", NOTE, "property: channel is computed: Port sends no webhook when it changes, only reconciling sees it"),
        (SERVICES + "when: {relation: owner}", WRONG, "relation: service has none called 'owner'"),
        (SERVICES + "when: {team: true, to: Roket}", WRONG, "team: Port has no team called 'Roket'; did you mean 'Rocket'?"),
        (SERVICES + "send: {by_team: {Comet: a}, default: a}", WRONG, "by_team: Port has no team called 'Comet'"),
        (SERVICES + "send: {port: {relation: owner, property: x}, default: a}", WRONG, "port: service has no relation called 'owner'"),
        (SERVICES + "send: {port: {relation: system, property: x}, default: a}", WRONG, "port: system has no property called 'x'"),
        (SERVICES + "send: teams", WRONG, "destination 'teams': port: service has no relation called 'owner'"),
        (SERVICES + "send: own", NOTE, "destination 'own': what its template reads was not compared with Port"),
        (SERVICES + "mention: {port: {relation: system, property: x}}", WRONG, "mention: port: system has no property called 'x'"),
        (SERVICES + "mention: '{{ .a }}'", NOTE, "mention: what its template reads was not compared with Port"),
        (SERVICES + "on: TIMER_EXPIRED\n    when: {property: version}", WRONG, "property: version is no timer, so it never sends TIMER_EXPIRED"),
        (SERVICES + "when: {jq: .a}", NOTE, "what its jq reads was not compared with Port"),
        ("on: RUN_UPDATED\n    when: {run: status, to: FAILURE}", WRONG, "no automation sends RUN_UPDATED of any action to this listener: python -m app bootstrap --action …"),
        ("on: RUN_UPDATED\n    when: {all: [{run: action, to: scale}, {run: status}]}", WRONG, "no automation sends RUN_UPDATED of the action scale to this listener: python -m app bootstrap --action scale"),
        (SERVICES + "when: {scorecard: ready, below: Gold}", NOTE, "its scorecards, and their levels, were not compared with Port"),
        ("blueprint: system", WRONG, "no automation sends UPDATE of system to this listener: python -m app bootstrap --blueprint system"),
        ("blueprint: [service, system]\n    when: {property: tier}", NOTE, "property: system has no tier, so its changes never match"),
        ("blueprint: s*", NOTE, "without an automation, so Port sends no changes of: system"),
        ("blueprint: sys*", WRONG, "no blueprint that matches has an automation: python -m app bootstrap --blueprint system"),
    ],
)  # fmt: skip
async def test_what_port_has_not(port: StandInPort, said: str, status: CheckStatus, text: str) -> None:
    """It is said with the right name, where one is near, and how to fix it."""
    description()
    assert (status, f"f:4: rule 'r': {text}") in await remarks(port, said)
    hold(port.requests)


@pytest.mark.parametrize(
    "said",
    [
        "when: {property: status, from: Up, to: [Down, null]}\n    resolve: {property: tier, above: 1}",
        "when: {any: [{property: spec.access, to: 5}, {property: tags, to: x}, {title: true}, {team: true, to: rocket}]}",
        "on: [CREATE, DELETE, TIMER_EXPIRED]\n    when: {property: ttl}",
        "send: {port: {relation: system, property: channel}, default: a}",
    ],
)  # fmt: skip
async def test_what_is_there_is_not_named(port: StandInPort, said: str) -> None:
    """Nothing is said of a rule that fits."""
    assert await remarks(port, SERVICES + said) == []


async def test_runs_that_are_sent_here(port: StandInPort) -> None:
    """Of the actions that a rule names all must be; a rule that names none is told which there are."""
    port.actions |= {"deploy_run_listener": run_automation("deploy", LISTENER)}
    rule = "on: [RUN_CREATED, RUN_UPDATED]\n    when: {all: [{run: action.identifier, to: [deploy]}, {run: status}]}"
    assert await remarks(port, rule) == []
    ((status, text),) = await remarks(port, "on: RUN_UPDATED\n    when: {run: status, to: FAILURE}")
    assert (status, text) == (NOTE, "f:4: rule 'r': Port sends the runs of these actions alone: deploy")


async def test_automations_that_do_not_send_here(port: StandInPort) -> None:
    """One that is paused, leads elsewhere, or has a condition; and an address that is not known."""
    ours = port.actions["service_change_listener"]
    ours["trigger"]["condition"] = {"type": "JQ", "expressions": ["true"]}
    ((status, text),) = await remarks(port, "blueprint: service")
    assert (status, "service_change_listener has a condition" in text) == (NOTE, True)
    ours["publish"] = False
    ((status, text),) = await remarks(port, "blueprint: service")
    assert (status, "(service_change_listener is not published)" in text) == (WRONG, True)
    ours |= {
        "publish": True,
        "invocationMethod": ours["invocationMethod"] | {"url": "https://old.example.com"},
    }
    assert [status for status, _ in await remarks(port, "blueprint: service")] == [WRONG]
    ((status, text),) = await remarks(port, "blueprint: service", address=None)
    assert (status, "WEBHOOK_URL or SMEE_URL is not set" in text) == (UNSEEN, True)


async def test_teams_that_cannot_be_listed(port: StandInPort) -> None:
    """Then they were not looked at, and nothing is called well."""
    del port.blueprints["_team"]
    ((status, text),) = await remarks(port, f"{SERVICES}when: {{team: true, to: Rocket}}")
    assert (status, text) == (UNSEEN, "f:4: rule 'r': team: 'Rocket', since Port does not list its teams")
