"""The connection over which Slack's clicks come, against a Slack that does what it can do wrong."""

import asyncio
import gc
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog

from app.clicks.app_token import advised, check_address
from app.clicks.socket_mode import Pace, SlackSocket
from app.errors import DeliveryFailed, StoreUnavailable
from app.network import Network
from tests.clicks.workspace import APP_TOKEN, Workspace
from tests.conftest import NOW
from tests.forward_proxy import proxying
from tests.waiting import until

QUICK = Pace(pong=0.3, first=0.01, longest=0.05, steady=10, linger=0.05)
PATIENT = Pace(first=0.01, longest=600)


class Desk:
    """Takes payloads, and keeps them."""

    def __init__(self) -> None:
        self.taken: list[tuple[Mapping[str, Any], str]] = []
        self.script: list[Exception | Mapping[str, Any]] = []

    async def take(self, payload: Mapping[str, Any], envelope_id: str) -> Mapping[str, Any] | None:
        self.taken.append((payload, envelope_id))
        answer = self.script.pop(0) if self.script else None
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
async def slack() -> AsyncIterator[Workspace]:
    """A workspace on loopback."""
    async with Workspace().serving() as workspace:
        yield workspace


@pytest.fixture
def desk() -> Desk:
    """Where the clicks arrive."""
    return Desk()


@asynccontextmanager
async def connected(
    slack: Workspace, desk: Desk, pace: Pace = QUICK, token: str = APP_TOKEN, **more: Any
) -> AsyncIterator[SlackSocket]:
    """Run a socket."""
    socket = SlackSocket(
        token, slack.url, desk.take, clock=lambda: NOW, jitter=lambda: 0.0, pace=pace, **more
    )
    task = asyncio.create_task(socket.run())
    try:
        yield socket
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not slack.sockets or slack.dead


async def test_an_envelope_is_answered_after_it_was_taken(slack: Workspace, desk: Desk) -> None:
    """The answer names the envelope, and has what the desk gives; other types are only acknowledged."""
    async with connected(slack, desk) as socket:
        await until(lambda: socket.connected)
        assert socket.trouble == ""
        assert await slack.send({"type": "block_actions"}) == {"envelope_id": "envelope-1"}
        desk.script.append({"response_action": "clear"})
        answer = {"envelope_id": "envelope-2", "payload": {"response_action": "clear"}}
        assert await slack.send({"type": "view_submission"}) == answer
        assert await slack.send({}, type="slash_commands") == {"envelope_id": "envelope-3"}
        await slack.say({"type": "hello"})
        for nonsense in ("{", "[]", '"hello"', '{"type": null}', '{"envelope_id": 7}'):
            await slack.sockets[0].send_str(nonsense)
        assert await slack.send({"type": "block_actions"}) == {"envelope_id": "envelope-4"}
    assert [envelope_id for _, envelope_id in desk.taken] == ["envelope-1", "envelope-2", "envelope-4"]


@pytest.mark.parametrize("error", [StoreUnavailable("its disk is full"), RuntimeError("a fault")])
async def test_what_was_not_done_is_not_acknowledged(slack: Workspace, desk: Desk, error: Exception) -> None:
    """Slack tells the person that the click failed; the next click is taken. What is no payload is."""
    async with connected(slack, desk) as socket:
        await until(lambda: socket.connected)
        desk.script = [error, ValueError("no payload")]
        assert await slack.send({}, within=0.1) is None
        assert await slack.send({}) is not None
        assert await slack.send({}) is not None


@pytest.mark.parametrize("reason", ["warning", "refresh_requested"])
async def test_slack_asks_for_a_new_connection(slack: Workspace, desk: Desk, reason: str) -> None:
    """The new one is there before the old one ends, and what comes over the old one meanwhile is taken."""
    async with connected(slack, desk, Pace(linger=0.2)) as socket:
        await until(lambda: socket.connected)
        await slack.say({"type": "disconnect", "reason": reason})
        (old,) = slack.sockets
        await old.send_json({"type": "interactive", "envelope_id": "late", "payload": {}})
        await until(lambda: len(slack.sockets) == 2)
        await until(lambda: len(slack.sockets) == 1)
        assert slack.sockets != [old]
        assert socket.connected
    assert [envelope_id for _, envelope_id in desk.taken] == ["late"]


async def test_a_stop_while_a_connection_is_closed(slack: Workspace, desk: Desk) -> None:
    """Slack does not answer the close, and the stop waits for no handshake: nothing stays open."""
    slack.dead = True
    async with connected(slack, desk, PATIENT) as socket:
        await until(lambda: socket.connected)
        await slack.say({"type": "disconnect", "reason": "link_disabled"})
        await until(lambda: bool(socket.trouble))
    gc.collect()  # a session that was not closed is a warning, and that fails the test


@pytest.mark.parametrize("how", ["closed", "too_many_websockets"])
async def test_a_connection_that_ends_is_made_again(slack: Workspace, desk: Desk, how: str) -> None:
    """After a pause that grows: a Slack that closes each connection is not asked all the time."""
    with structlog.testing.capture_logs() as logs:
        async with connected(slack, desk, Pace(first=0.01, longest=0.04)) as socket:
            for number in range(1, 5):
                await until(lambda: socket.connected)
                if how == "closed":
                    await slack.close()
                else:
                    await slack.say({"type": "disconnect", "reason": how})
                await until(lambda number=number: slack.opened > number)  # type: ignore[misc]
    assert {entry["reason"] for entry in logs if entry["event"] == "slack_socket_lost"} == {how}


def test_what_is_no_word_of_slacks_keeps_its_own_advice() -> None:
    """A certificate that nobody trusts is no matter of the token."""
    reason = "the certificate of slack.com is not valid: self-signed; SSL_CERT_FILE must name a file"
    assert advised(reason) == reason


def test_pauses_grow_to_the_longest(desk: Desk) -> None:
    """1 s, 2 s, 4 s … 5 min; after a refusal 5 min at once; after a long connection none."""
    socket = SlackSocket(
        APP_TOKEN, "https://slack.com/api/", desk.take, clock=lambda: NOW, jitter=lambda: 0.0
    )
    pauses = [socket._pause(failures, refused=False) for failures in (0, 1, 2, 3, 9, 10, 10_000)]  # noqa: SLF001 - the times are too long to wait
    assert pauses == [0, 1, 2, 4, 256, 300, 300]
    assert socket._pause(1, refused=True) == 300  # noqa: SLF001 - as above


async def test_a_connection_that_is_dead_is_noticed(slack: Workspace, desk: Desk) -> None:
    """No pong: a new client; one over which only pongs come stays."""
    slack.dead = True
    with structlog.testing.capture_logs() as logs:
        async with connected(slack, desk) as socket:
            await until(lambda: slack.opened >= 2)
            slack.dead = False

            async def stays() -> bool:
                opened = slack.opened
                await asyncio.sleep(2 * QUICK.pong)
                return socket.connected and slack.opened == opened

            await until(stays)
    assert {entry["reason"] for entry in logs if "reason" in entry} == {"no pong for 0.3 s"}


@pytest.mark.parametrize(
    ("word", "advice"),
    [
        ("invalid_auth", "make a new app-level token"),
        ("token_revoked", "make a new app-level token"),
        ("missing_scope", "connections:write"),
        ("not_allowed_token_type", "begins with xapp-"),
        ("link_disabled", "switch Socket Mode on"),
    ],
)
async def test_a_refusal_is_said_once_and_asked_again_rarely(
    slack: Workspace, desk: Desk, word: str, advice: str
) -> None:
    """It shows in the warnings at once, with what to do; it is asked again after 5 min, not each second."""
    slack.refusal = "" if word == "link_disabled" else word
    with structlog.testing.capture_logs() as logs:
        async with connected(slack, desk, PATIENT) as socket:
            if word == "link_disabled":
                await until(lambda: socket.connected)
                await slack.say({"type": "disconnect", "reason": word})
            await until(lambda: advice in (socket.trouble or ""))
            await asyncio.sleep(0.05)
            assert slack.opened == 1
            assert APP_TOKEN not in str(socket.trouble)
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["slack_socket_refused"]


async def test_the_way_to_slack_is_that_of_every_client(desk: Desk) -> None:
    """A proxy that stands in the environment is used for the socket too, whose address begins with wss."""
    async with proxying() as proxy:
        network = Network(
            {"HTTP_PROXY": f"http://127.0.0.1:{proxy.port}", "HTTPS_PROXY": f"127.0.0.1:{proxy.port}"}
        )
        address = "http://slack.example/api/"
        socket = SlackSocket(
            APP_TOKEN, address, desk.take, clock=lambda: NOW, jitter=lambda: 0.0, network=network
        )
        for link in ("ws://socket.example/link", "wss://socket.example/link"):
            proxy.body = b'{"ok": true, "url": "%s"}' % link.encode()
            with pytest.raises(DeliveryFailed):
                await socket._open()  # noqa: SLF001 - `run` would only try again
        await socket._session.close()  # noqa: SLF001 - as `run` does at its end
    asked = [request.replace("POST ", "").replace("GET ", "") for request in proxy.asked]
    assert asked[0] == asked[2] == f"{address}apps.connections.open"
    assert asked[1] == "http://socket.example/link"
    assert asked[3] == "CONNECT socket.example:443"


@pytest.mark.parametrize(
    "url", [None, 7, "", "https://slack.com/", "ws://slack.com/link", "wss:///link", "wss://["]
)
def test_an_address_that_is_no_sockets_is_refused(url: object) -> None:
    """Nothing but wss is called, where Slack itself is called by https."""
    with pytest.raises(DeliveryFailed, match="not an answer from Slack"):
        check_address(url, secure=True)
    assert check_address("ws://127.0.0.1:1/link", secure=False)
