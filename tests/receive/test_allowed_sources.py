"""ALLOWED_SOURCES, over real loopback connections, with and without a proxy's word for the address."""

import asyncio
import sys
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from app.demo.run import change_body, signed_headers
from app.demo.stand_in_slack import StandInSlack
from app.errors import SourceRefused
from app.port.setup.probe import send
from tests.acceptance.process import listening
from tests.conftest import SECRET, Start

PORTS_OWN = "3.251.12.205"
ELSEWHERE = "203.0.113.7"


async def post(url: str, *forwarded: str, source: str | None = None) -> int:
    """Post a signed change with X-Forwarded-For headers, from a local address, and return the status."""
    body = change_body(before="Healthy", after="Degraded", at=datetime.now(UTC))
    headers = [*signed_headers(body, SECRET, datetime.now(UTC)).items()]
    headers += [("x-forwarded-for", one) for one in forwarded]
    transport = httpx.AsyncHTTPTransport(local_address=source)
    async with httpx.AsyncClient(transport=transport) as client:
        return (await client.post(f"{url}/api/slack", content=body, headers=headers)).status_code


@pytest.mark.parametrize(
    ("allowed", "forwarded", "status"),
    [
        ("127.0.0.1", (), 202),
        ("127.0.0.0/8,port-eu", (), 202),
        ("port-eu", (), 403),
        ("port-eu", (PORTS_OWN,), 202),
        ("port-us", (PORTS_OWN,), 403),
        ("port-eu", (f"::ffff:{PORTS_OWN}",), 202),
        ("port-eu", (f"{PORTS_OWN}:4711",), 202),
        # The proxy adds what it sees to what the sender has written.
        ("port-eu", (f"{PORTS_OWN}, {ELSEWHERE}",), 403),
        ("port-eu", (PORTS_OWN, ELSEWHERE), 403),
        ("port-eu", (f"{ELSEWHERE}, {PORTS_OWN}",), 202),
        ("port-eu", (f"{PORTS_OWN}, nonsense",), 403),
        ("port-eu", ("",), 403),
        ("127.0.0.1", (ELSEWHERE,), 403),
    ],
)
async def test_allowed_sources(start: Start, allowed: str, forwarded: tuple[str, ...], status: int) -> None:
    """Only from allowed addresses changes are taken; the last that a trusted proxy has seen counts."""
    async with start(allowed_sources=allowed) as service:
        assert await post(service.url, *forwarded) == status


async def test_only_changes_are_restricted(start: Start) -> None:
    """Health, readiness and the documentation are open to all, and a refusal stores nothing."""
    async with start(allowed_sources="port-eu") as service:
        answer = await service.change("Healthy", "Degraded")
        assert (answer.status_code, answer.json()) == (403, {"error": "this address may not send changes"})
        assert await service.deliveries() == []
        for path in ("/healthz", "/readyz", "/openapi.json"):
            assert (await service.client.get(path)).status_code == 200


async def test_the_doctor_is_let_in_or_says_so(start: Start) -> None:
    """From a machine that is not allowed the doctor's change is refused, and known to be by a listener."""
    for allowed in ("port-eu", "127.0.0.1"):
        refused = (
            pytest.raises(SourceRefused, match="ALLOWED_SOURCES") if allowed == "port-eu" else nullcontext()
        )
        async with start(allowed_sources=allowed) as service:
            with refused:
                await send(f"{service.url}/api/slack", SECRET, datetime.now(UTC), through_smee=False)


async def test_refused_before_the_body_is_read(start: Start) -> None:
    """The answer comes though the body does not."""
    async with start(allowed_sources="port-eu") as service:
        address = urlsplit(service.url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(b"POST /api/slack HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n\r\n{")
        assert b" 403 " in await asyncio.wait_for(reader.readline(), 20)
        writer.close()
        await writer.wait_closed()


@pytest.mark.acceptance
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8 without setting it up")
async def test_a_forged_address(tmp_path: Path, slack: StandInSlack) -> None:
    """`serve` believes X-Forwarded-For from FORWARDED_ALLOW_IPS only, and logs who is refused."""
    settings = {"ALLOWED_SOURCES": "port-eu", "FORWARDED_ALLOW_IPS": "127.0.0.9,127.0.1.0/24"}
    async with listening(tmp_path, slack.url, **settings) as listener:
        assert await post(listener.url, PORTS_OWN) == 403
        assert await post(listener.url, PORTS_OWN, source="127.0.0.8") == 403
        assert await post(listener.url, PORTS_OWN, source="127.0.0.9") == 202
        assert await post(listener.url, f"{PORTS_OWN}, 127.0.0.9", source="127.0.1.7") == 202
        assert await post(listener.url, f"{PORTS_OWN}, {ELSEWHERE}", source="127.0.0.9") == 403
        log = listener.log.read_text()
    for address in ("127.0.0.1", "127.0.0.8", ELSEWHERE):
        assert f'"event":"source_refused","address":"{address}"' in log
