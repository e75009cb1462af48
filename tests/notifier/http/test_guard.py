"""Which addresses are refused, and that a connection goes to the very address that was judged."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from app.demo.run import serving
from app.notifier.http.guard import AddressRefused, Judge, connector, refusal
from tests.notifier.http.stand_in_resolver import StandInResolver

REFUSED = {
    "0.0.0.0": "unspecified",
    "0.1.2.3": "unspecified",
    "10.0.0.1": "private",
    "100.64.0.1": "carrier-grade NAT",
    "100.127.255.255": "carrier-grade NAT",
    "100.100.100.200": "metadata",
    "127.0.0.1": "loopback",
    "127.255.255.254": "loopback",
    "168.63.129.16": "metadata",
    "169.254.0.1": "link-local",
    "169.254.169.254": "metadata",
    "172.16.0.1": "private",
    "172.31.255.255": "private",
    "192.0.0.192": "reserved",
    "192.0.2.1": "documentation",
    "192.88.99.1": "6to4",
    "192.168.255.255": "private",
    "198.19.0.1": "benchmarking",
    "198.51.100.1": "documentation",
    "203.0.113.1": "documentation",
    "224.0.0.1": "multicast",
    "239.255.255.250": "multicast",
    "240.0.0.1": "reserved",
    "255.255.255.255": "reserved",
    "::": "unspecified",
    "::1": "loopback",
    "::127.0.0.1": "reserved",
    "::8.8.8.8": "reserved",
    "::ffff:127.0.0.1": "IPv4-mapped",
    "::ffff:8.8.8.8": "IPv4-mapped",
    "::ffff:0:127.0.0.1": "reserved",
    "64:ff9b::127.0.0.1": "loopback",
    "64:ff9b::169.254.169.254": "metadata",
    "64:ff9b::10.0.0.1": "private",
    "64:ff9b:1::7f00:1": "reserved",
    "100::1": "reserved",
    "2001::7f00:1": "reserved",
    "2001:db8::1": "documentation",
    "2002:7f00:1::": "6to4",
    "2002:808:808::": "6to4",
    "3fff::1": "documentation",
    "5f00::1": "reserved",
    "fc00::1": "private",
    "fd00:ec2::254": "metadata",
    "fe80::1": "link-local",
    "fe80::1%eth0": "link-local",
    "fec0::1": "private",
    "ff02::1": "multicast",
    "ff0e::1": "multicast",
    "2130706433": "not numeric",
    "127.1": "not numeric",
    "0177.0.0.1": "not numeric",
    "localhost": "not numeric",
    "": "not numeric",
}
PUBLIC = (
    "1.1.1.1",
    "8.8.8.8",
    "100.63.255.255",
    "100.128.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "223.255.255.255",
    "2001:4860:4860::8888",
    "2606:4700:4700::1111",
    "2a00:1450:4001::1",
    "64:ff9b::8.8.8.8",
)


@pytest.mark.parametrize(("address", "kind"), REFUSED.items())
def test_what_is_refused(address: str, kind: str) -> None:
    """Whatever is not the address of somebody on the internet is refused, and called what it is."""
    assert refusal(address) == kind


@pytest.mark.parametrize("address", PUBLIC)
def test_what_may_be_called(address: str) -> None:
    """Public addresses pass, also those next to a refused network, and a public one behind NAT64."""
    assert refusal(address) == ""


def only(allowed: str) -> Judge:
    """Return a judge that lets one address pass."""
    return lambda address: "" if address == allowed else "not this one"


@asynccontextmanager
async def calling(
    judge: Judge, resolver: AbstractResolver | None = None
) -> AsyncIterator[aiohttp.ClientSession]:
    """Yield a session that connects as `judge` allows."""
    async with aiohttp.ClientSession(connector=connector(judge, resolver)) as session:
        yield session


@pytest.fixture
async def port() -> AsyncIterator[str]:
    """The port of a server on 127.0.0.1 that answers `here`."""

    async def here(_: Request) -> PlainTextResponse:
        return PlainTextResponse("here")

    async with serving(Starlette(routes=[Route("/", here)])) as url:
        yield url.rpartition(":")[2]


async def refused(session: aiohttp.ClientSession, url: str) -> str:
    """Call, and return why the address is refused."""
    with pytest.raises(aiohttp.ClientConnectorError) as raised:
        await session.get(url)
    assert isinstance(raised.value.os_error, AddressRefused)
    return str(raised.value.os_error)


async def test_the_judged_address_is_the_one_that_is_called(port: str) -> None:
    """A name is looked up once for each connection, and its address then is what counts (DNS rebinding)."""
    resolver = StandInResolver(["127.0.0.1"], ["127.0.0.2"], ["127.0.0.1"], ["127.0.0.2"])
    url = f"http://rebind.test:{port}/"
    async with calling(only("127.0.0.1"), resolver) as session:
        for _ in range(2):
            async with session.get(url, headers={"Connection": "close"}) as answer:
                assert await answer.text() == "here"
            assert await refused(session, url) == "127.0.0.2 (not this one)"
    assert resolver.asked == ["rebind.test"] * 4


async def test_a_kept_connection_stays_where_it_was_judged(port: str) -> None:
    """In a burst a connection serves again; whatever the name says by then, it leads to the same address."""
    resolver = StandInResolver(["127.0.0.1"], ["127.0.0.2"])
    async with calling(only("127.0.0.1"), resolver) as session:
        for _ in range(3):
            async with session.get(f"http://rebind.test:{port}/") as answer:
                assert await answer.text() == "here"
    assert resolver.asked == ["rebind.test"]


@pytest.mark.parametrize("addresses", [["127.0.0.1", "127.0.0.2"], ["127.0.0.2", "127.0.0.1"]])
async def test_one_bad_address_of_several(port: str, addresses: list[str]) -> None:
    """A name that has a refused address among its addresses is refused, whichever comes first."""
    async with calling(only("127.0.0.1"), StandInResolver(addresses)) as session:
        assert await refused(session, f"http://both.test:{port}/") == "127.0.0.2 (not this one)"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "good@127.0.0.1", "[::1]", "[::ffff:7f00:1]", "[fe80::1%25lo]"]
)
async def test_an_address_in_the_url(port: str, host: str) -> None:
    """aiohttp asks no resolver for an address: it is judged all the same."""
    resolver = StandInResolver(["8.8.8.8"])
    async with calling(refusal, resolver) as session:
        assert await refused(session, f"http://{host}:{port}/")
    assert resolver.asked == []


async def test_the_systems_own_resolver(port: str) -> None:
    """Without a resolver the system's is used, and `localhost` is refused."""
    async with calling(refusal) as session:
        assert "(loopback)" in await refused(session, f"http://localhost:{port}/")
