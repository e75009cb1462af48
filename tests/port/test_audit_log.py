"""What was missed, read from Port's audit log: against a stand-in Port on loopback."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.demo.run import serving
from app.errors import PortError, UnreadableChange
from app.port import audit_log
from app.port.audit_log import LIMIT, Missed, missed_changes
from app.port.client import PortClient
from app.port.setup import resources
from app.receive.payload import parse_event
from app.receive.signature import Signed
from tests.port.stand_in_port import CLIENT_ID, CLIENT_SECRET, StandInPort, refusal, standing_in

START = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
SPAN = (START, START + HOUR)
PATH = "/v1/audit-log"


@pytest.fixture
async def port() -> AsyncIterator[StandInPort]:
    """A stand-in Port."""
    async with standing_in(call_webhooks=True) as stand_in:
        yield stand_in


@asynccontextmanager
async def client_of(port: StandInPort) -> AsyncIterator[PortClient]:
    """Yield a client that does not wait."""
    async with PortClient(
        port.url, CLIENT_ID, CLIENT_SECRET, clock=lambda: datetime.now(UTC), patient=False
    ) as client:
        yield client


async def ask(port: StandInPort, *blueprints: str) -> list[Missed] | None:
    """Ask what was missed in an hour; None: the log does not say."""
    async with client_of(port) as client:
        with suppress(PortError, UnreadableChange):
            return await missed_changes(client, blueprints or ("service",), *SPAN)
    return None


def entry(
    seconds: float, before: str | None = "Healthy", after: str | None = "Degraded", **facts: Any
) -> dict[str, Any]:
    """Return an entry of so many seconds after the beginning."""

    def entity(status: str | None) -> dict[str, Any] | None:
        return status and {"identifier": "checkout", "title": "Checkout", "properties": {"health": status}}  # type: ignore[return-value]

    at = (START + timedelta(seconds=seconds)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    usual = {
        "identifier": f"event_{seconds}",
        "action": "UPDATE",
        "resourceType": "entity",
        "status": "SUCCESS",
        "trigger": {"by": {"orgId": "org_1", "user": {"email": "ada@example.com"}}, "origin": "UI", "at": at},
        "context": {"blueprint": "service", "entity": "checkout"},
        "diff": {"before": entity(before), "after": entity(after)},
    }
    return usual | facts


async def test_what_the_webhooks_would_have_said(port: StandInPort) -> None:
    """Each change, oldest first, is the same as the one that its webhook brought, to the key."""
    bodies: list[bytes] = []

    async def take(request: Request) -> Response:
        bodies.append(await request.body())
        return Response(status_code=202)

    listener = Starlette(routes=[Route("/api/slack", take, methods=["POST"])])
    began = datetime.now(UTC) - timedelta(seconds=1)
    async with serving(listener) as url, client_of(port) as client:
        port.blueprints[resources.BLUEPRINT] = resources.blueprint()
        automation = resources.automation(resources.BLUEPRINT, f"{url}/api/slack")
        await client.create_action(automation)
        await client.upsert_entity(resources.BLUEPRINT, resources.entity())
        where = (resources.BLUEPRINT, resources.ENTITY)
        for health in ("Degraded", "Crashed", "Healthy"):
            await client.patch_entity(*where, {"properties": {"healthStatus": health}, "title": "Café 🚀"})
        await client.delete_entity(*where)
        await port.automations.settled()
        now = datetime.now(UTC) + timedelta(seconds=1)
        missed = await missed_changes(client, [resources.BLUEPRINT], began, now)
    assert [one.change.action for one in missed] == ["CREATE", "UPDATE", "UPDATE", "UPDATE", "DELETE"]
    brought = [parse_event(Signed(body, now)) for body in bodies]
    assert [one.change.key for one in missed] == [one.key for one in brought]
    assert [one.change.at for one in missed] == [one.at for one in brought]
    # Whoever takes the body in reads the same change from it.
    assert [parse_event(Signed(one.body, now)) for one in missed] == [one.change for one in missed]


async def test_who_and_when(port: StandInPort) -> None:
    """A change has the person, the origin and its own time; whichever way the log goes, they are in order."""
    for audit in (
        [entry(20, "Degraded", "Crashed"), entry(10)],
        [entry(10), entry(20, "Degraded", "Crashed")],
    ):
        port.audit = audit
        missed = await ask(port)
        assert missed is not None
        changes = [one.change for one in missed]
        assert [one.at for one in changes] == [START + timedelta(seconds=10), START + timedelta(seconds=20)]
        assert {(one.actor, one.origin, one.entity) for one in changes} == {
            ("ada@example.com", "UI", "checkout")
        }


async def test_those_of_one_moment(port: StandInPort) -> None:
    """What has the same time stays in the log's order."""
    port.audit = [entry(9), entry(5, "C", "D"), entry(5, "B", "C"), entry(5, "A", "B")]
    missed = await ask(port)
    assert missed is not None
    seen = [one.change.after.properties["health"] for one in missed if one.change.after]
    assert seen == ["B", "C", "D", "Degraded"]


async def test_only_what_is_asked_for(port: StandInPort) -> None:
    """Entries of other blueprints, resources and times, and those that failed, are left out."""
    port.blueprints["service"] = {}
    odd = [
        entry(10),
        entry(11, context={"blueprint": "other", "entity": "checkout"}),
        entry(12, resourceType="run"),
        entry(13, status="FAILURE"),
        entry(-5),
        entry(3700),
    ]
    async with client_of(port) as client:
        port.script("GET", PATH, JSONResponse({"ok": True, "audits": odd}))
        missed = await missed_changes(client, ["service"], *SPAN)
        assert [one.change.at for one in missed] == [START + timedelta(seconds=10)]
        assert await missed_changes(client, [], *SPAN) == []
    (asked,) = [one.query for one in port.requests if one.path == PATH]
    assert asked == {
        "resources": "entity",
        "blueprint": "service",
        "status": "SUCCESS",
        "limit": str(LIMIT),
        "from": "2026-11-24T12:00:00.000Z",
        "to": "2026-11-24T13:00:00.001Z",
    }


async def test_several_blueprints(port: StandInPort) -> None:
    """They are told together, in one order."""
    port.audit = [
        entry(30),
        entry(20, context={"blueprint": "cluster", "entity": "eu"}),
        entry(10),
    ]
    missed = await ask(port, "service", "cluster")
    assert missed is not None
    assert [one.change.blueprint for one in missed] == ["service", "cluster", "service"]


async def test_more_than_an_answer_has(port: StandInPort) -> None:
    """A span of more than one answer holds is asked for in halves; nothing is missing, or there twice."""
    port.audit = [entry(second / 2, "A", f"B{second}") for second in reversed(range(LIMIT * 5))]
    missed = await ask(port)
    assert missed is not None
    seen = [one.change.after.properties["health"] for one in missed if one.change.after]
    assert seen == [f"B{second}" for second in range(LIMIT * 5)]


async def test_more_of_one_moment_than_an_answer_has(port: StandInPort) -> None:
    """They cannot be asked for apart: the log does not tell all."""
    port.audit = [entry(5, "A", f"B{number}") for number in range(LIMIT)]
    assert await ask(port) is None


async def test_more_than_is_reasonable(port: StandInPort) -> None:
    """After so many calls the entities themselves are read sooner."""
    wanted = audit_log.MOST_CALLS * LIMIT // 2
    port.audit = [entry(number * 3600 / wanted, "A", f"B{number}") for number in reversed(range(wanted))]
    assert await ask(port) is None
    assert sum(one.path == PATH for one in port.requests) == audit_log.MOST_CALLS


@pytest.mark.parametrize(
    "answer",
    [
        refusal(401),
        refusal(403),
        refusal(404),
        refusal(422),
        refusal(429),
        refusal(500),
        Response("<html>", 200),
        JSONResponse([]),
        JSONResponse({"ok": True}),
        JSONResponse({"ok": True, "audits": None}),
        JSONResponse({"ok": True, "audits": {"0": {}}}),
        JSONResponse({"ok": True, "audits": ["x"]}),
        JSONResponse({"ok": True, "one": [], "two": []}),
    ],
)
async def test_an_answer_that_is_none(port: StandInPort, answer: Response) -> None:
    """A log that may not be read, does not answer, or answers otherwise does not tell."""
    port.script("GET", PATH, answer, answer)
    assert await ask(port) is None


@pytest.mark.parametrize(
    "facts",
    [
        {"action": None},
        {"diff": None},
        {"diff": {"before": {"identifier": "checkout"}}},
        {"diff": {"after": {"identifier": "checkout"}}},
        {"diff": [{"path": "health", "old": "Healthy", "new": "Degraded"}]},
        {"action": "CREATE", "diff": {"before": None, "after": None}},
        {"action": "DELETE", "diff": {"before": None, "after": None}},
        {"trigger": {"by": {}}},
        {"trigger": {"at": "yesterday"}},
        {"context": {"entity": "checkout"}},
        {"context": {"blueprint": "service"}, "diff": None},
    ],
)
async def test_an_entry_that_is_none(port: StandInPort, facts: dict[str, Any]) -> None:
    """One entry that does not say what happened, to what, and when, and the log cannot be relied on."""
    port.script("GET", PATH, JSONResponse({"ok": True, "audits": [entry(10), entry(20, **facts)]}))
    assert await ask(port) is None


async def test_another_name_for_the_list(port: StandInPort) -> None:
    """The only list that an answer has is taken for the entries."""
    port.script("GET", PATH, JSONResponse({"ok": True, "next": None, "logs": [entry(10)]}))
    missed = await ask(port)
    assert missed is not None
    assert len(missed) == 1


async def test_timers(port: StandInPort) -> None:
    """A timer that ran out has no diff, and needs none."""
    timer = deepcopy(entry(10, action="TIMER_EXPIRED"))
    del timer["diff"]
    timer["context"]["propertyIdentifier"] = "ttl"
    port.audit = [timer]
    missed = await ask(port)
    assert missed is not None
    assert [(one.change.action, one.change.timer) for one in missed] == [("TIMER_EXPIRED", "ttl")]
    assert json.loads(missed[0].body) == timer
