"""Jobs through the environment's proxy: by choice, and still to no private address."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from app.errors import DeliveryFailed, Scope, SettingsError
from app.network import Network
from app.notifier.http.destination import HttpDestination
from app.notifier.http.notifier import HttpNotifier
from tests.forward_proxy import ForwardProxy, proxying
from tests.notifier.helpers import context
from tests.notifier.http.stand_in_resolver import StandInResolver
from tests.notifier.slack.helpers import item, parcel

PUBLIC, PRIVATE = "93.184.215.14", "10.0.0.7"


@asynccontextmanager
async def calling(
    through: ForwardProxy, url: str, *addresses: str, no_proxy: str = "", **settings: Any
) -> AsyncIterator[HttpNotifier]:
    """Yield a notifier for a URL, whose host's name has these addresses here."""
    network = Network({"HTTP_PROXY": f"127.0.0.1:{through.port}", "NO_PROXY": no_proxy})
    destination = HttpDestination.model_validate({"type": "http", "url": url} | settings)
    notifier = HttpNotifier(
        "job", destination, context(network=network), resolver=StandInResolver(list(addresses))
    )
    try:
        yield notifier
    finally:
        await notifier.close()


@pytest.mark.parametrize(
    ("url", "addresses"), [("http://jobs.example.com/x", (PUBLIC,)), (f"http://{PUBLIC}/x", ())]
)
async def test_through_the_proxy(url: str, addresses: tuple[str, ...]) -> None:
    """With `proxy: environment` the proxy is asked, though its own address is a private one."""
    async with proxying(b"done") as proxy, calling(proxy, url, *addresses, proxy="environment") as job:
        assert (await job.send(await job.prepare(parcel(item("1"))))).detail == "200: done"
    assert proxy.asked == [f"POST {url}"]


@pytest.mark.parametrize(
    ("url", "addresses"),
    [
        ("http://jobs.example.com/x", (PRIVATE,)),
        ("http://jobs.example.com/x", (PUBLIC, "169.254.169.254")),
        (f"http://{PRIVATE}/x", ()),
        ("http://[fd00:ec2::254]/x", ()),
    ],
)
async def test_private_addresses_are_refused_there_too(url: str, addresses: tuple[str, ...]) -> None:
    """The guard holds: the proxy is not asked for what this network keeps to itself."""
    async with proxying() as proxy, calling(proxy, url, *addresses, proxy="environment") as job:
        with pytest.raises(DeliveryFailed, match="is not a public address") as failed:
            await job.send(await job.prepare(parcel(item("1"))))
    assert failed.value.scope is Scope.DESTINATION
    assert proxy.asked == []


async def test_private_addresses_by_choice() -> None:
    """With allow_private the proxy looks the name up, and this process does not."""
    url = "http://jobs.internal/x"
    async with (
        proxying() as proxy,
        calling(proxy, url, PRIVATE, proxy="environment", allow_private=True) as job,
    ):
        await job.send(await job.prepare(parcel(item("1"))))
    assert proxy.asked == [f"POST {url}"]


@pytest.mark.parametrize(
    "options", [{}, {"proxy": "none"}, {"proxy": "environment", "no_proxy": "127.0.0.0/8"}]
)
async def test_past_the_proxy(options: dict[str, str]) -> None:
    """Unless the destination asks for it, and for what NO_PROXY names, the address is called directly."""
    async with proxying() as proxy, proxying() as service:
        url = f"http://127.0.0.1:{service.port}/x"
        async with calling(proxy, url, allow_private=True, **options) as job:
            await job.send(await job.prepare(parcel(item("1"))))
    assert (len(service.asked), proxy.asked) == (1, [])


@pytest.mark.parametrize("url", ["https://jobs.example.com/x", "https://{{ .host }}/x"])
def test_a_proxy_that_cannot_be_used(url: str) -> None:
    """It is refused when the destination is made, and only where the destination wants it."""
    broken = context(network=Network({"HTTPS_PROXY": "socks5://proxy:1"}))
    destination = {"type": "http", "url": url, "allow_hosts": ["*.example.com"]}
    HttpNotifier("job", HttpDestination.model_validate(destination), broken)
    with pytest.raises(SettingsError, match=r"^HTTPS_PROXY names a SOCKS proxy"):
        HttpNotifier("job", HttpDestination.model_validate(destination | {"proxy": "environment"}), broken)
