"""A change in one piece or more, which the framework does not see, is answered as one that it sees."""

import asyncio
import re
from datetime import UTC, datetime
from itertools import count

import pytest

from app.demo.run import change_body, signed_headers
from app.store import queries
from app.store.transaction import Transaction
from tests.conftest import SECRET, Service

END = b"\r\n\r\n"
NUMBERS = count()


def request(kind: str, entity: str = "", after: str = "Degraded") -> bytes:
    """Return a request of a kind, with a change of its own."""
    entity = entity or f"e{next(NUMBERS)}"
    body = change_body(before="Healthy", after=after, at=datetime.now(UTC), entity=entity)
    body = {"unreadable": b'{"action": 5}', "no JSON": b"{"}.get(kind, body)
    signed = signed_headers(body, "wrong" if kind == "wrong" else SECRET, datetime.now(UTC))
    lines = [] if kind == "unsigned" else [f"{name}: {value}" for name, value in signed.items()]
    if kind == "two signatures":
        lines.insert(0, "X-Port-Signature: v1,AAAA")
    if kind == "chunked":
        lines, body = [*lines, "transfer-encoding: chunked"], b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    else:
        lines.append(f"content-length: {len(body)}")
    if kind in ("close", "unsigned"):
        lines.append("connection: close")
    version = "1.0" if kind == "1.0" else "1.1"
    lines = [f"POST /api/slack HTTP/{version}", "host: x", *lines, "", ""]
    return "\r\n".join(lines).encode() + body


def usual(whole: bytes) -> bytes:
    """Change a request so that the framework answers it."""
    return whole.replace(b"/api/slack ", b"/api/slack?a=1 ", 1)


async def answers(service: Service, number: int, *pieces: bytes) -> bytes:
    """Send pieces, and return so many answers, without what differs each time."""
    host, port = service.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    answer = b""
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0.01)
    async with asyncio.timeout(10):
        for _ in range(number):
            head = await reader.readuntil(END)
            length = re.search(rb"content-length: (\d+)", head)
            assert length is not None
            answer += head + await reader.readexactly(int(length[1]))
    closed = b"\r\nconnection: close" in answer
    assert not closed or await reader.read() == b""
    writer.close()
    return re.sub(rb"[0-9a-f]{64}|date: .*?\r\n", b"", answer)


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("plain", 202),
        ("two signatures", 202),
        ("chunked", 202),
        ("close", 202),
        ("1.0", 202),
        ("unsigned", 401),
        ("wrong", 401),
        ("unreadable", 422),
        ("no JSON", 422),
    ],
)
async def test_whichever_way(service: Service, kind: str, status: int) -> None:
    """The same status, headers and body, in one piece, in two, and by the framework."""
    answer = await answers(service, 1, usual(request(kind)))
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    head, _, body = request(kind).partition(END)
    for pieces in ((request(kind),), (head + END, body)):
        assert sorted((await answers(service, 1, *pieces)).splitlines()) == sorted(answer.splitlines())


async def damage(tx: Transaction) -> None:
    """Write into incidents what no release can read."""
    await tx.execute("UPDATE incidents SET told = 'no JSON'")


async def test_a_fault_of_ours(service: Service) -> None:
    """What fails inside is answered 500 either way, and kept."""
    assert (await answers(service, 1, request("plain", "broken"))).startswith(b"HTTP/1.1 202")
    await service.store.write(damage)
    whole = await answers(service, 1, request("plain", "broken", "Crashed"))
    assert whole.startswith(b"HTTP/1.1 500 ")
    as_usual = await answers(service, 1, usual(request("plain", "broken", "Crashed")))
    assert sorted(whole.splitlines()) == sorted(as_usual.splitlines())
    rows = (await service.store.read(queries.quarantine.bodies, limit=9)).rows
    assert [row.reason for row in rows] == ["a fault in this program: JSONDecodeError"] * 2


async def test_several_in_one_piece(service: Service) -> None:
    """Changes that do not wait for the answer before are answered in their order, and garbage after them."""
    answer = await answers(service, 3, request("plain") + request("unreadable") + request("close"))
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"202", b"422", b"202"]
    assert (await answers(service, 1, request("plain") + b"\0\0\0")).startswith(b"HTTP/1.1 202")
