"""A change in one piece, which the framework does not see, is answered as one that comes in two."""

import asyncio
import re
from datetime import UTC, datetime
from itertools import count

import pytest

from app.demo.run import change_body, signed_headers
from tests.conftest import SECRET, Service

END = b"\r\n\r\n"
NUMBERS = count()


def request(kind: str) -> bytes:
    """Return a request of a kind, with a change of its own."""
    body = change_body(before="Healthy", after="Degraded", at=datetime.now(UTC), entity=f"e{next(NUMBERS)}")
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
    path = "/api/slack?a=1" if kind == "query" else "/api/slack"
    version = "1.0" if kind == "1.0" else "1.1"
    lines = [f"POST {path} HTTP/{version}", "host: x", *lines, "", ""]
    return "\r\n".join(lines).encode() + body


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
        ("query", 202),
        ("close", 202),
        ("1.0", 202),
        ("unsigned", 401),
        ("wrong", 401),
        ("unreadable", 422),
        ("no JSON", 422),
    ],
)
async def test_as_in_two_pieces(service: Service, kind: str, status: int) -> None:
    """The same status, headers and body, whichever way it takes."""
    whole, parted = request(kind), request(kind)
    head, _, body = parted.partition(END)
    answer = await answers(service, 1, whole)
    assert sorted(answer.splitlines()) == sorted((await answers(service, 1, head + END, body)).splitlines())
    assert answer.startswith(b"HTTP/1.1 %d " % status)


async def test_several_in_one_piece(service: Service) -> None:
    """Changes that do not wait for the answer before are answered in their order, and garbage after them."""
    answer = await answers(service, 3, request("plain") + request("unreadable") + request("close"))
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"202", b"422", b"202"]
    assert (await answers(service, 1, request("plain") + b"\0\0\0")).startswith(b"HTTP/1.1 202")
