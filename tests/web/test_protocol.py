"""HTTP as attackers speak it: memory and time that an unfinished request gets are limited."""

import asyncio
import gc
import json
import re
import sys
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import pytest
import structlog
import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from app.errors import SettingsError
from app.main import UNLIMITED, limit_uvicorn
from app.receive.pieces import MAX_READ_BYTES
from app.receive.unproven import MOST_HEAD_BYTES
from app.receive.whole import FAILURE, TAKE, RawHeaders
from app.web.protocol import HEADS, MAX_HEAD_BYTES, MAX_PIPELINED, LimitedProtocol
from tests.waiting import until

HOST = b"Host: x\r\n"
GET = b"GET /a HTTP/1.1\r\n" + HOST + b"\r\n"
POST = b"POST /a HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AA\r\nUpgrade: "
CHANGE = b"POST /api/slack HTTP/1.1\r\nX-Port-Signature: v1,A\r\n" + HOST
FLOOD = [b"a" * 20_000] * 5


class Impatient(LimitedProtocol):
    """With limits of time that a test can wait for."""

    head_seconds = 0.3
    body_seconds = 0.6
    unread_seconds = 0.3
    parted_seconds = 0.1


async def _echo(request: Request) -> Response:
    body = await request.body()
    await asyncio.sleep(0.01)
    return JSONResponse({"body": body.decode(), "headers": sorted(request.headers)})


async def _at_once(_: Request) -> Response:
    return Response("refused", 401)


async def _bound(_: Request) -> Response:
    before = structlog.contextvars.get_contextvars()
    structlog.contextvars.bind_contextvars(change="of this request")
    return JSONResponse(before)


async def _whether_direct(request: Request) -> Response:
    failed = request.scope.get(FAILURE)
    if failed is None:
        await request.body()
    return Response(str(failed or "framework"), 500 if failed else 200)


async def _take(_: RawHeaders, body: bytes) -> bytes:
    if body == b"fault":
        raise ZeroDivisionError(body.decode())
    return b"direct: " + body[:9]


@asynccontextmanager
async def _taking(_: Starlette) -> AsyncIterator[dict[str, Any]]:
    yield {TAKE: _take}


async def _large(_: Request) -> Response:
    return StreamingResponse(iter([bytes(2**20)] * 64))


@pytest.fixture
async def address(caplog: pytest.LogCaptureFixture) -> AsyncIterator[tuple[str, int]]:
    """A server that has the limits; at the end it has logged no traceback."""
    methods = ["GET", "POST", "OPTIONS"]
    routes = [Route("/a", _echo, methods=methods), Route("/refuses", _at_once, methods=methods)]
    routes += [
        Route("/large", _large),
        Route("/bound", _bound),
        Route("/api/slack", _whether_direct, methods=["POST"]),
    ]
    app = Starlette(routes=routes, lifespan=_taking)
    config = uvicorn.Config(app, port=0, http=Impatient, log_config=None, timeout_keep_alive=1)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    yield server.servers[0].sockets[0].getsockname()
    server.should_exit = True
    await task
    assert not [record for record in caplog.records if record.exc_info or record.name == "asyncio"]


async def talk(address: tuple[str, int], *pieces: bytes, seconds: float = 1.5) -> tuple[bytes, bool]:
    """Send pieces; return what came within some seconds, and whether the connection was closed in time."""
    reader, writer = await asyncio.open_connection(*address)
    answer = b""
    try:
        async with asyncio.timeout(seconds):
            with suppress(ConnectionError):
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
            with suppress(ConnectionError):
                while piece := await reader.read(65_536):
                    answer += piece
            return answer, True
    except TimeoutError:
        return answer, False
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("pieces", "status"),
    [
        ([b"GET /a HTTP/1.1\r\nA: ", *FLOOD], 431),
        ([b"GET /a HTTP/1.1\r\n", *[b"A: b\r\n" * 1000] * 9], 431),
        ([b"GET /a HTTP/1.1\r\n" + b"A: b\r\n" * 101 + b"\r\n"], 431),
        ([b"GET /", *FLOOD], 431),
        ([b"GET /" + b"a" * MAX_HEAD_BYTES + b" HTTP/1.1\r\n" + HOST + b"\r\n"], 431),
        ([CHUNKED + b"3;a=", *FLOOD], 431),
        ([CHUNKED, *[b"1;" + b"a" * 20_000 + b"\r\nb\r\n"] * 10], 431),
        ([CHUNKED + b"3\r\nabc\r\n0\r\n", *[b"X: 1\r\n" * 1000] * 9], 431),
        ([CHUNKED + b"3\r\nabc\r\n0\r\nX: ", *FLOOD], 431),
        ([b"\r\n" * 20_000] * 2, 431),
        ([POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc"], 400),
        ([POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"], 400),
        ([POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n"], 400),
        ([POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"], 400),
        ([POST + b"Content-Length: 99999999999999999999\r\n\r\n"], 400),
        ([CHUNKED + b"zz\r\n"], 400),
        ([b"GET /a HTTP/1.1\r\nHost : x\r\n\r\n"], 400),
        ([b"GET /a HTTP/1.1\r\nHost: x\0\r\n\r\n"], 400),
        (["GET /é HTTP/1.1\r\n\r\n".encode("latin1")], 400),
        ([b"GET http://x HTTP/1.1\r\n" + HOST + b"\r\n"], 400),
        ([b"CONNECT x:443 HTTP/1.1\r\n" + HOST + b"\r\n"], 400),
        ([b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"], 400),
        ([b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"], 400),
    ],
)
async def test_refused(address: tuple[str, int], pieces: Sequence[bytes], status: int) -> None:
    """What is too much, or no HTTP, or could mean two things, is answered once and closed."""
    answer, closed = await talk(address, *pieces)
    assert closed
    assert answer.count(b"HTTP/1.1") <= 1  # none: it was closed while more came
    assert not answer or answer.startswith(b"HTTP/1.1 %d " % status)


@pytest.mark.parametrize(
    ("request_", "body"),
    [
        (POST + b"Content-Length: 3\r\n\r\nabc", "abc"),
        (CHUNKED + b"3\r\nabc\r\n0\r\nX-Port-Signature: forged\r\n\r\n", "abc"),
        (POST + UPGRADE + b"h2c\r\nContent-Length: 3\r\n\r\nabc", "abc"),
        (b"GET /a HTTP/1.1\r\n" + HOST + UPGRADE + b"websocket\r\n\r\n", ""),
        (b"\r\n\r\n" + GET, ""),
    ],
)
async def test_served(address: tuple[str, int], request_: bytes, body: str) -> None:
    """A request is read whole, without its trailers, and answered in HTTP/1.1, whatever else it asks for."""
    answer, closed = await talk(address, request_, GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert closed
    assert answer.count(b"HTTP/1.1 200") == 2
    got = json.loads(answer.split(b"\r\n\r\n")[1].partition(b"HTTP")[0])
    assert got["body"] == body
    assert "x-port-signature" not in got["headers"]


@pytest.mark.parametrize(
    "pieces",
    [
        (),
        (b"GET /a HT",),
        (b"GET /a HTTP/1.1\r\n", *[b"A: b\r\n"] * 30),
        (POST + b"Content-Length: 9\r\n\r\nabc",),
        (GET, b"", b"\r\n"),
        (GET + b"GET",),
        (b"POST /refuses HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc",),
        (CHANGE + b"Content-Length: 9\r\n\r\nabc",),
    ],
)
async def test_silence(address: tuple[str, int], pieces: Sequence[bytes]) -> None:
    """Who does not finish a request, or does not begin one, is closed after a while."""
    _, closed = await talk(address, *pieces)
    assert closed


async def test_a_connection_is_kept_between_requests(address: tuple[str, int]) -> None:
    """Proxies use a connection again: it has the time that the setting says, not that of a silent one."""
    reader, writer = await asyncio.open_connection(*address)
    for request in (GET, POST.replace(b"/a", b"/refuses") + b"Content-Length: 3\r\n\r\n"):
        writer.write(request)
        await reader.readuntil(b"}" if request is GET else b"refused")
        if request is not GET:
            writer.write(b"abc")  # the rest comes after the answer
        await asyncio.sleep(2 * Impatient.head_seconds)
    writer.write(GET)
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    writer.close()


@pytest.mark.parametrize(
    "request_", [GET, POST + b"Content-Length: 1\r\n\r\na", CHANGE + b"Content-Length: 0\r\n\r\n"]
)
async def test_an_idle_connection_holds_nothing(address: tuple[str, int], request_: bytes) -> None:
    """What it had of its last request is gone when that is answered: it may be idle for minutes."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(request_.replace(b"Host: x", b"Host: x\r\nA: " + b"a" * 9000))
    assert (await reader.readline()).startswith(b"HTTP/1.1 20")
    assert HEADS.hold(request_, MOST_HEAD_BYTES)
    HEADS.release(request_)
    gc.collect()
    assert not [one for one in gc.get_objects() if isinstance(one, RequestResponseCycle)]
    writer.close()


async def test_pipelined(address: tuple[str, int]) -> None:
    """Some requests may wait for the answer before; a thousand in one packet are not kept in memory."""
    answer, _ = await talk(address, GET * MAX_PIPELINED, seconds=1)
    assert answer.count(b"HTTP/1.1 200") == MAX_PIPELINED
    answer, closed = await talk(address, GET * 1000)
    assert closed
    assert answer.count(b"HTTP/1.1 200") <= MAX_PIPELINED + 1


async def test_log_lines_of_one_request_are_not_about_another(address: tuple[str, int]) -> None:
    """What is pipelined is begun by the request before, and does not name its change."""
    answer, _ = await talk(address, (b"GET /bound HTTP/1.1\r\n" + HOST + b"\r\n") * 3, seconds=1)
    assert answer.count(b"\r\n\r\n{}") == 3


async def test_what_follows_a_request_does_not_undo_it(address: tuple[str, int]) -> None:
    """A whole request is answered, though garbage comes behind it."""
    answer, closed = await talk(address, POST + b"Content-Length: 3\r\n\r\nabc\0\0\0")
    assert closed
    assert answer.startswith(b"HTTP/1.1 200")


async def test_a_body_without_end(address: tuple[str, int]) -> None:
    """What comes long after the answer is not read: a refusal is given once, and the connection closed."""
    pieces = [POST.replace(b"/a", b"/refuses") + b"Content-Length: 999999999\r\n\r\n", *[bytes(100_000)] * 40]
    began = asyncio.get_running_loop().time()
    answer, closed = await talk(address, *pieces)
    assert closed
    assert answer.count(b"HTTP/1.1") <= 1
    assert asyncio.get_running_loop().time() - began < Impatient.body_seconds


async def test_an_answer_that_nobody_reads(address: tuple[str, int]) -> None:
    """Who asks for much and reads nothing of it holds it for a while only."""
    reader, writer = await asyncio.open_connection(*address, limit=1000)
    writer.write(GET.replace(b"/a", b"/large"))
    await asyncio.sleep(3 * Impatient.unread_seconds)
    size = 0
    with suppress(ConnectionError):
        while piece := await reader.read(2**20):
            size += len(piece)
    assert size < 64 * 2**20
    writer.close()


@pytest.mark.parametrize(
    ("request_", "answers"),
    [
        (GET, [b"200"]),
        (GET * 3, [b"200"] * 3),
        (CHANGE + b"Content-Length: 3\r\n\r\nabc", [b"200"]),
        (POST + b"Content-Length: 9\r\n\r\nabc", []),
        (CHANGE + b"Content-Length: 9\r\n\r\nabc", []),
        (GET + b"GET /a", [b"200"]),
        (b"GET /a", []),
        (b"", []),
    ],
)
async def test_who_sends_no_more(address: tuple[str, int], request_: bytes, answers: Sequence[bytes]) -> None:
    """Half a connection is enough to be answered; then, or with nothing to answer, it is closed."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(request_)
    writer.write_eof()
    async with asyncio.timeout(5):
        answer = await reader.read()
    assert re.findall(rb"HTTP/1.1 (\d+)", answer.replace(b"202", b"200")) == answers
    writer.close()


async def test_many_large_heads(address: tuple[str, int]) -> None:
    """Of heads that do not end little is held in all; a small one has room, and so has one after them."""
    large = b"GET /a HTTP/1.1\r\nA: " + b"a" * 9000, b"\r\n\r\n"
    HEADS.hold(large, MOST_HEAD_BYTES)
    try:
        for pieces in large[:1], [b"".join(large)]:
            assert (await talk(address, *pieces))[0].startswith(b"HTTP/1.1 503")
        assert (await talk(address, GET[:9], GET[9:], seconds=0.2))[0].startswith(b"HTTP/1.1 200")
    finally:
        HEADS.release(large)
    assert (await talk(address, *large, seconds=0.2))[0].startswith(b"HTTP/1.1 200")
    assert HEADS.hold(large, MOST_HEAD_BYTES)
    HEADS.release(large)


async def test_expecting(address: tuple[str, int]) -> None:
    """A client that waits for leave to send its body gets it."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(POST + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"abc")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    writer.close()


@pytest.mark.parametrize(
    ("pieces", "answer"),
    [
        ([CHANGE + b"Content-Length: 3\r\n\r\nabc"], b"direct: abc"),
        ([CHANGE + b"Content-Length: 3\r\n\r\n", b"abc"], b"direct: abc"),
        ([CHANGE + b"Content-Length: 3\r\n", b"\r\na", b"b", b"c"], b"direct: abc"),
        ([CHANGE + b"Content-Length: 5\r\n\r\n", b"fault"], b"fault"),
        ([CHANGE + b"Content-Length: 32768\r\n\r\n", b"a" * 32_768], b"direct: aaaaaaaaa"),
        ([CHANGE + b"Content-Length: 32769\r\n\r\n", b"a" * 32_769], b"framework"),
        ([CHANGE + b"Content-Length: 3\r\n\r\n", b"", b"abc"], b"framework"),  # too slow
        ([CHANGE + b"Transfer-Encoding: chunked\r\n\r\n", b"3\r\nabc\r\n0\r\n\r\n"], b"framework"),
        ([CHANGE.replace(b"Sign", b"sign") + b"Content-Length: 3\r\n\r\n", b"abc"], b"direct: abc"),
        ([CHANGE.replace(b"Sign", b"Pen") + b"Content-Length: 3\r\n\r\n", b"abc"], b"framework"),
        ([CHANGE + b"Expect: a\r\nContent-Length: 3\r\n\r\n", b"abc"], b"framework"),
        ([CHANGE + b"Content-Length: 3\r\n\r\n", b"abc" + GET], b"direct: abc"),
    ],
)
async def test_a_change_in_pieces(address: tuple[str, int], pieces: Sequence[bytes], answer: bytes) -> None:
    """One that is small and not slow is answered without the framework; on the connection others follow."""
    reader, writer = await asyncio.open_connection(*address)
    for again in pieces, pieces:
        for piece in again:
            writer.write(piece)
            await asyncio.sleep(0.01 if piece else 2 * Impatient.parted_seconds)
        assert answer == await _body_of(reader)
        if GET in again[-1]:
            assert b'"body"' in await _body_of(reader)
    writer.close()


async def _body_of(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(5):
        head = await reader.readuntil(b"\r\n\r\n")
        return await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))


async def _unread() -> None:
    came, go_on = asyncio.Event(), asyncio.Event()

    async def app(_: Scope, __: Receive, ___: Send) -> None:
        came.set()
        await go_on.wait()

    config = uvicorn.Config(app, port=0, http=Impatient, lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    _, writer = await asyncio.open_connection(*server.servers[0].sockets[0].getsockname())
    writer.write(POST + b"Content-Length: 9999999\r\n\r\n" + bytes(2**20))
    await came.wait()
    connections = cast("set[LimitedProtocol]", server.server_state.connections)
    gone = weakref.ref(next(iter(connections)))
    await until(lambda: any(one.cycle.body for one in connections))
    await asyncio.sleep(0.05)
    assert max(len(one.cycle.body) for one in connections) <= MAX_READ_BYTES
    gc.disable()
    try:
        writer.close()
        await until(lambda: not connections)
        go_on.set()
        await until(lambda: gone() is None)
    finally:
        gc.enable()
        server.should_exit = True
        await serving


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_body_that_nobody_reads(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """On each loop one piece of it is in memory, and nothing when its connection has gone."""
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(_unread())


@pytest.mark.parametrize("http", ["auto", "httptools", "h11"])
async def test_however_uvicorn_is_started(http: str) -> None:
    """The server is limited though it chose its protocol before it imported the application."""
    config = uvicorn.Config(Starlette(), http=http)
    config.load()
    limit_uvicorn()
    server = uvicorn.Server(config)
    made = config.http_protocol_class(  # type: ignore[call-arg]
        config=config, server_state=server.server_state, app_state={}
    )
    assert type(made) is LimitedProtocol
    assert made.app is config.loaded_app

    class Other(LimitedProtocol):
        pass

    other = Other(config=config, server_state=server.server_state, app_state={})
    assert (type(other), other.app) == (Other, config.loaded_app)


async def test_a_protocol_without_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A protocol that cannot be replaced is refused at the start."""
    monkeypatch.setitem(sys.modules, UNLIMITED, sys)
    with pytest.raises(SettingsError, match="zttp"):
        limit_uvicorn()
