"""Port actions: the run that an alert starts, and what each refusal of Port's means."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from starlette.responses import JSONResponse, Response

from app.errors import DeliveryFailed, PortError, Scope
from app.notifier.base import Item, Parcel
from app.notifier.port_action import PortActionDestination, PortActionNotifier, failure_of
from app.port.client import PortClient
from tests.notifier.helpers import EVENT, context, notification
from tests.port.stand_in_port import CLIENT_ID, CLIENT_SECRET, LOGIN, StandInPort, refusal, standing_in

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
ACTION = {
    "identifier": "close_stale",
    "trigger": {
        "type": "self-service",
        "operation": "CREATE",
        "userInputs": {
            "properties": {"database": {"type": "string"}, "cpu": {"type": "number"}},
            "required": ["database"],
        },
    },
}
INPUTS = {"database": "{{ .context.entityIdentifier }}", "cpu": "{{ .diff.after.properties.cpuUtil }}"}
RUNS = "/v1/actions/close_stale/runs"


@pytest.fixture
async def port() -> AsyncIterator[StandInPort]:
    """A stand-in Port that has one self-service action."""
    async with standing_in() as stand_in:
        stand_in.actions["close_stale"] = dict(ACTION)
        yield stand_in


async def no_wait(seconds: float) -> None:
    """Take the place of sleep in a client that must not wait."""
    raise AssertionError(f"waits {seconds} s")


@asynccontextmanager
async def notifying(
    url: str, inputs: Mapping[str, Any] = INPUTS, *, action: str = "close_stale", secret: str = CLIENT_SECRET
) -> AsyncIterator[PortActionNotifier]:
    """Yield a notifier that starts runs through a client without patience, and close it."""
    async with PortClient(url, CLIENT_ID, secret, clock=lambda: NOW, sleep=no_wait, patient=False) as client:
        settings = PortActionDestination(type="port_action", action=action, inputs=dict(inputs))
        notifier = PortActionNotifier("stale", settings, context(port=client))
        try:
            yield notifier
        finally:
            await notifier.close()


async def send(notifier: PortActionNotifier) -> str:
    """Send the usual alert."""
    return (await notifier.send(await notifier.prepare(Parcel((Item("d-1", notification()),), EVENT)))).detail


async def refused(port: StandInPort, **more: Any) -> DeliveryFailed:
    """Send the usual alert, and return the failure that comes of it."""
    async with notifying(port.url, **more) as notifier:
        with pytest.raises(DeliveryFailed) as failed:
            await send(notifier)
    assert CLIENT_SECRET not in str(failed.value)
    return failed.value


async def test_a_run_is_started(port: StandInPort) -> None:
    """Its inputs are filled from the change, each with its type; the detail has the run's id and link."""
    async with notifying(port.url) as notifier:
        detail = await send(notifier)
    (run,) = port.runs
    assert run["properties"] == {"database": "orders-db", "cpu": 85}
    assert detail == f"run {run['id']}: https://app.port.io/organization/run?runId={run['id']}"


@pytest.mark.parametrize(
    ("more", "reason", "scope"),
    [
        ({"action": "gone"}, "404 not_found: no such action", Scope.DESTINATION),
        ({"secret": "wrong"}, "401 unauthorized", Scope.DESTINATION),
        ({"inputs": {}}, "422 invalid_request: input database", Scope.MESSAGE),
        ({"inputs": INPUTS | {"a": 1}}, "422 invalid_request: input a", Scope.MESSAGE),
        ({"inputs": {"database": "{{ .nothing }}"}}, ".nothing: there is none", Scope.MESSAGE),
        ({"inputs": {"database": "{{ .infinite }}"}}, "cannot be written as JSON", Scope.MESSAGE),
        ({"inputs": {"database": "{{ .half }}"}}, "cannot be written as JSON", Scope.MESSAGE),
    ],
)
async def test_what_port_refuses(port: StandInPort, more: dict[str, Any], reason: str, scope: Scope) -> None:
    """A missing action and bad credentials hold the destination; bad inputs cost this message alone."""
    failed = await refused(port, **more)
    assert reason in failed.reason
    assert failed.scope is scope
    assert port.runs == []


@pytest.mark.parametrize(
    ("answer", "scope"),
    [
        (refusal(400), Scope.MESSAGE),
        (refusal(403), Scope.DESTINATION),
        (refusal(409), Scope.MESSAGE),
        (refusal(410), Scope.DESTINATION),
        (refusal(413), Scope.MESSAGE),
        (refusal(408), Scope.TRANSIENT),
        (refusal(418), Scope.MESSAGE),
        (refusal(429), Scope.TRANSIENT),
        (refusal(500), Scope.TRANSIENT),
        (refusal(503), Scope.TRANSIENT),
        (JSONResponse({"ok": True}, 202), Scope.STRANGE),
        (JSONResponse({"ok": True, "run": {"id": 7}}, 202), Scope.STRANGE),
        (Response("<html>", 200), Scope.STRANGE),
        (Response(status_code=302, headers={"location": "/"}), Scope.STRANGE),
    ],
)
async def test_each_answer_has_its_scope(port: StandInPort, answer: Response, scope: Scope) -> None:
    """What may pass waits in the queue, not in the client: one request an attempt, at once."""
    port.script("POST", RUNS, answer)
    assert (await refused(port)).scope is scope
    assert len([one for one in port.requests if one.path == RUNS]) == 1


@pytest.mark.parametrize(
    ("status", "scope"),
    [(401, Scope.DESTINATION), (422, Scope.DESTINATION), (429, Scope.TRANSIENT), (500, Scope.TRANSIENT)],
)
async def test_logging_in(port: StandInPort, status: int, scope: Scope) -> None:
    """Whatever Port refuses about the credentials, no message is at fault."""
    port.script("POST", LOGIN, refusal(status))
    assert (await refused(port)).scope is scope


async def test_a_token_that_ran_out(port: StandInPort) -> None:
    """A new one is fetched, and the run is started once."""
    async with notifying(port.url) as notifier:
        await send(notifier)
        port.expire_token()
        await send(notifier)
    assert len(port.runs) == 2


async def test_port_is_away(port: StandInPort) -> None:
    """No connection: nothing has started, and the queue tries again."""
    async with notifying("http://127.0.0.1:1") as notifier:
        with pytest.raises(DeliveryFailed, match="cannot reach") as failed:
            await send(notifier)
    assert failed.value.scope is Scope.TRANSIENT
    assert "may have arrived" not in failed.value.reason
    assert port.runs == []


async def test_an_answer_that_got_lost() -> None:
    """The run may have started: it is not tried again at once, and the reason says so."""
    seen: list[bytes] = []

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readline())
        if LOGIN.encode() in seen[-1]:
            body = b'{"ok":true,"accessToken":"token"}'
            writer.write(
                b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            )
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with notifying(f"http://127.0.0.1:{port}") as notifier:
            with pytest.raises(DeliveryFailed, match=r"; it may have arrived$") as failed:
                await send(notifier)
    assert failed.value.scope is Scope.TRANSIENT
    assert failed.value.unsure
    assert len(seen) == 2


def test_a_long_refusal_is_cut() -> None:
    """The reason is one line of some length."""
    failed = failure_of(PortError("POST /v1/actions/a/runs", "no\n" * 1_000, "do it", status=422))
    assert len(failed.reason) == 300
    assert "\n" not in failed.reason
