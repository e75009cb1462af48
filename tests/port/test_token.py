"""The token that all calls share, against a stand-in Port on loopback."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.errors import PortError
from app.port.client import PortClient
from tests.port.stand_in_port import CLIENT_ID, CLIENT_SECRET, LOGIN, StandInPort, refusal, standing_in

START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
HOURS = timedelta(hours=3)


class Clock:
    """The time, as the test sets it."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The client's clock."""
    return Clock()


@pytest.fixture
async def port() -> AsyncIterator[StandInPort]:
    """A stand-in Port."""
    async with standing_in() as stand_in:
        yield stand_in


@pytest.fixture
async def client(port: StandInPort, clock: Clock) -> AsyncIterator[PortClient]:
    """A client whose outbox waits in its place."""
    async with PortClient(port.url, CLIENT_ID, CLIENT_SECRET, clock=clock, patient=False) as one:
        yield one


def logins(port: StandInPort) -> int:
    """Return how often a token was asked for."""
    return sum(one.path == LOGIN for one in port.requests)


async def ask(client: PortClient, times: int = 1) -> None:
    """Make some calls at once; each needs the token."""
    await asyncio.gather(*(client.get_blueprint("service") for _ in range(times)))


async def test_calls_at_once_ask_once(port: StandInPort, client: PortClient) -> None:
    """Twenty calls at the same moment ask for one token, and when Port refuses it, for one more."""
    await ask(client, 20)
    assert logins(port) == 1
    port.expire_token()
    await ask(client, 20)
    assert logins(port) == 2


async def test_renewed_before_it_ends(port: StandInPort, client: PortClient, clock: Clock) -> None:
    """Shortly before its end a new token is asked for, once, and no call is ever refused."""
    await ask(client)
    clock.now = START + HOURS - timedelta(minutes=6)
    await ask(client, 3)
    assert logins(port) == 1
    clock.now = START + HOURS - timedelta(minutes=4)
    await ask(client, 3)
    assert logins(port) == 2
    await ask(client, 3)
    assert logins(port) == 2


async def test_same_token_again(port: StandInPort, client: PortClient, clock: Clock) -> None:
    """A token that is about to end is not asked for with every call, though Port gives the same one again."""
    port.expires_in = 40
    await ask(client)
    await ask(client)
    assert logins(port) == 1
    clock.now += timedelta(seconds=31)
    await ask(client, 5)
    assert logins(port) == 2


async def test_renewal_fails(port: StandInPort, client: PortClient, clock: Clock) -> None:
    """A token that is still good serves on while Port gives no new one; after its end the error is told."""
    await ask(client)
    clock.now = START + HOURS - timedelta(minutes=4)
    port.script("POST", LOGIN, refusal(503), refusal(503))
    await ask(client, 3)
    assert logins(port) == 2
    clock.now = START + HOURS
    with pytest.raises(PortError, match="503"):
        await ask(client)
    await ask(client)
    assert logins(port) == 4


@pytest.mark.parametrize("said", [None, "soon", -1, 0, True, 1e300])
async def test_length_that_is_none(port: StandInPort, client: PortClient, clock: Clock, said: Any) -> None:
    """A token of which Port does not say how long it is good serves until it is refused."""
    port.expires_in = said
    await ask(client)
    clock.now += timedelta(days=2)
    await ask(client)
    assert logins(port) == 1
    port.expire_token()
    await ask(client)
    assert logins(port) == 2


async def test_one_that_gives_up(port: StandInPort, client: PortClient) -> None:
    """A call that is cut off while it asks for the token leaves the next one free to ask."""
    asked, never = asyncio.Event(), asyncio.Event()

    async def be_silent() -> None:
        asked.set()
        await never.wait()

    port.before_answer = be_silent
    call = asyncio.create_task(ask(client))
    await asked.wait()
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    port.before_answer = None
    await ask(client)
    assert logins(port) == 2
