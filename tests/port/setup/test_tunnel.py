"""The tunnel between a real stand-in smee and a real target, on loopback."""

import asyncio
import itertools
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from app.demo.run import change_body, serving, signed_headers
from app.errors import ListenerError
from app.port.setup.tunnel import new_channel, run_tunnel
from app.receive.signature import Signed, parse_headers, verify, verify_encoded
from tests.conftest import SECRET
from tests.port.stand_in_smee import Ending, StandInSmee, stringify

SOON_SECONDS = 20.0
"""Far below the limits, 45 s of silence and 60 s for a post, that would end a wait by themselves."""
TLS = httpx.create_ssl_context()  # a tenth of a second each time, were it left to each client
TUNNEL_SCRIPT = """\
import signal, sys
from app.port.setup.tunnel import run_tunnel
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
try:
    run_tunnel(sys.argv[1], sys.argv[2], lambda line: print(line, flush=True), post_limit=60)
except KeyboardInterrupt:
    print("stopped")
"""


class Target:
    """Takes what is forwarded.

    Attributes:
        received: The headers and the raw body of each post, in order.
        answer: Answers a post.
    """

    def __init__(self) -> None:
        self.received: list[tuple[dict[str, str], bytes]] = []
        self.answer: Callable[[int], Response] = lambda _: JSONResponse({"alerts": 1}, 202)
        self.hangs_at: int | None = None
        self.release = asyncio.Event()
        self.app = Starlette(routes=[Route("/api/slack", self._take, methods=["POST"])])

    @property
    def bodies(self) -> list[bytes]:
        return [body for _, body in self.received]

    def verified(self, number: int = 0) -> Signed:
        """Return what Port signed, or raise SignatureRejected."""
        headers, body = self.received[number]
        claim = parse_headers(headers, datetime.now(UTC), timedelta(minutes=5))
        return verify(body, claim, [SECRET]) or verify_encoded(body, claim, [SECRET])

    async def _take(self, request: Request) -> Response:
        number = len(self.received)
        self.received.append((dict(request.headers), await request.body()))
        if number == self.hangs_at:
            await self.release.wait()
        return self.answer(number)


@pytest.fixture
def target() -> Target:
    """A target that is not served yet."""
    return Target()


@pytest.fixture
async def target_url(target: Target) -> AsyncIterator[str]:
    """The target's address."""
    async with serving(target.app) as address:
        yield f"{address}/api/slack"
        target.release.set()


@pytest.fixture
def smee() -> StandInSmee:
    """A stand-in smee that is not served yet."""
    return StandInSmee()


@pytest.fixture
async def channel(smee: StandInSmee) -> AsyncIterator[str]:
    """A channel of the stand-in smee, which is served on loopback."""
    async with smee.serving() as address:
        yield f"{address}/channel"


@asynccontextmanager
async def tunnel(
    source: str, target: str, *, post_limit: float = 60, silence: float = 45
) -> AsyncIterator[list[str]]:
    """Run a tunnel in a thread, and yield the lines that it says; at the end it must stop at once."""
    lines: list[str] = []
    stop = threading.Event()
    run = asyncio.create_task(
        asyncio.to_thread(
            run_tunnel, source, target, lines.append, stop=stop, post_limit=post_limit, silence=silence
        )
    )
    try:
        yield lines
    finally:
        stop.set()
        await asyncio.wait_for(run, SOON_SECONDS)


async def until(condition: Callable[[], object], seconds: float = SOON_SECONDS) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def post(channel: str, *bodies: bytes, headers: dict[str, str] | None = None) -> None:
    """Post bodies to a smee channel, signed as Port signs them."""
    async with httpx.AsyncClient(verify=TLS) as port:
        for body in bodies:
            signed = signed_headers(body, SECRET, datetime.now(UTC))
            answer = await port.post(channel, content=body, headers=signed | (headers or {}))
            assert answer.status_code == 200


def body_with(title: str = "Café 🚀", entity: str = "notification-service-prod") -> bytes:
    """Return a change's body."""
    return change_body(before="Healthy", after="Degraded", at=datetime.now(UTC), title=title, entity=entity)


async def test_the_bytes_that_port_signed_arrive(
    smee: StandInSmee, channel: str, target: Target, target_url: str
) -> None:
    """The very bytes arrive, so that the signature holds without any re-encoding."""
    bodies = [
        body_with("Café 🚀"),
        # The bytes and the characters at which Python breaks lines, and JavaScript does not.
        body_with("Ångström, работает хорошо, 全部 \u0085 \u2028 \u2029 \x7f"),
        b'{"small":1e-7,"large":1e+21,"exact":100000000000000000000,"half":0.5,"none":null,"deep":[[{}]]}',
        rb'{"title":"half an emoji: \ud83d","quoted":"\"body\":{}"}',
        b"{}",
    ]
    async with tunnel(channel, target_url):
        await until(lambda: smee.opened)
        await post(channel, *bodies)
        await until(lambda: len(target.received) == len(bodies))
    assert target.bodies == bodies
    assert [target.verified(number).body for number in range(len(bodies))] == bodies


def test_the_stand_in_writes_json_as_javascript_does() -> None:
    """Without this the tests above would prove nothing."""
    value = {"é\u2028": [1e-7, 1.5e21, 1e20, -0.0, 25.0, 1e-6, 2**64, True, None, "\ud83d"]}
    numbers = "1e-7,1.5e+21,100000000000000000000,0,25,0.000001,18446744073709552000"
    assert stringify(value) == f'{{"é\u2028":[{numbers},true,null,"\\ud83d"]}}'


async def test_headers_arrive_without_those_of_the_connection(
    smee: StandInSmee, channel: str, target: Target, target_url: str
) -> None:
    """The sender's headers arrive, also odd ones; host and length are those of the new request."""
    body = body_with()
    async with tunnel(channel, target_url):
        await until(lambda: smee.opened)
        await post(channel, body, headers={"X-Note": ',"body":{"fake":1},', "Body": "no", "TE": "trailers"})
        await until(lambda: target.received)
    headers, _ = target.received[0]
    assert headers["x-note"] == ',"body":{"fake":1},'
    assert headers["content-type"] == "application/json"
    assert headers["content-length"] == str(len(body))
    assert headers["host"] == urlsplit(target_url).netloc
    assert "te" not in headers
    assert target.verified().body == body


async def test_a_large_change_arrives(
    smee: StandInSmee, channel: str, target: Target, target_url: str
) -> None:
    """A body near smee's limit of 1 MiB arrives whole, though it comes in many pieces."""
    body = body_with("é🚀" * 160_000)
    async with tunnel(channel, target_url):
        await until(lambda: smee.opened)
        await post(channel, body)
        await until(lambda: target.received)
    assert target.bodies == [body]


async def test_200_changes_keep_their_order(
    smee: StandInSmee, channel: str, target: Target, target_url: str
) -> None:
    """Changes go on in the order in which they came, each with one line that says the answer."""
    bodies = [body_with(f"Café {number} 🚀", f"service-{number}") for number in range(200)]
    async with tunnel(channel, target_url) as lines:
        await until(lambda: smee.opened)
        await post(channel, *bodies)
        await until(lambda: len(lines) == 201)
    assert target.bodies == bodies
    assert lines == [
        f"connected to {channel}",
        *(f"202 service-{number}, alerts: 1" for number in range(200)),
    ]


@pytest.mark.parametrize("ending", Ending)
async def test_a_stream_that_ends_is_opened_again(
    smee: StandInSmee, channel: str, target: Target, target_url: str, ending: Ending
) -> None:
    """Soon after its end the stream is back, also where the connection stays open; a line says so."""
    bodies = [body_with("before"), body_with("after")]
    async with tunnel(channel, target_url) as lines:
        await until(lambda: smee.opened)
        await post(channel, bodies[0])
        await until(lambda: target.received)
        smee.end_streams(ending)
        # uvicorn closes a connection that is idle for 75 s; the tunnel must not wait for that.
        await until(lambda: len(smee.opened) == 2)
        await post(channel, bodies[1])
        await until(lambda: len(target.received) == 2)
    assert target.bodies == bodies
    assert sum(line.startswith("no stream from") for line in lines) == 1


async def test_a_server_that_starts_again_is_found_again(
    smee: StandInSmee, target: Target, target_url: str
) -> None:
    """While smee is away that is said, and soon after its return changes arrive."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    channel = f"http://127.0.0.1:{port}/channel"
    async with tunnel(channel, target_url) as lines:
        async with smee.serving(port):
            await until(lambda: smee.opened)
        await until(lambda: any("it cannot be reached" in line for line in lines))
        async with smee.serving(port):
            before = len(smee.opened)
            await until(lambda: len(smee.opened) > before)
            await post(channel, body_with())
            await until(lambda: target.received)
    target.verified()


async def test_a_silent_stream_is_opened_again_and_pings_keep_one(target_url: str) -> None:
    """A stream without pings counts as dead after a while; one with pings is left alone."""
    dead, alive = StandInSmee(ping_seconds=None), StandInSmee(ping_seconds=0.1)
    async with (
        dead.serving() as silent,
        alive.serving() as pinging,
        tunnel(f"{silent}/c", target_url, silence=2) as lines,
        tunnel(f"{pinging}/c", target_url, silence=2),
    ):
        await until(lambda: len(dead.opened) == 2)
    assert len(alive.opened) == 1
    assert any("it sends nothing any more" in line for line in lines)


async def test_tries_have_a_pause_between_them(target_url: str) -> None:
    """A server that hangs up is tried again at once, then after longer and longer pauses, and said once."""
    tries: list[float] = []

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tries.append(time.monotonic())
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with (
        server,
        tunnel(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/c", target_url) as lines,
    ):
        await until(lambda: len(tries) == 5)
    pauses = [later - earlier for earlier, later in itertools.pairwise(tries)]
    assert all(pause > 0.09 * number for number, pause in enumerate(pauses))
    assert sum(pauses[:3]) < 2.5  # a second each would be three
    assert len(lines) == 1


async def test_what_is_no_channel_is_said(target_url: str) -> None:
    """A refusal, and a page that is no stream, are said."""
    answers = {
        "it answers 403": PlainTextResponse("Channel has been disabled", 403),
        "it is not a smee channel": PlainTextResponse("<!DOCTYPE html>\n\n", media_type="text/html"),
    }
    app = Starlette(routes=[Route("/{reason}", lambda request: answers[request.path_params["reason"]])])
    async with serving(app) as address:
        for reason in answers:
            async with tunnel(f"{address}/{reason}", target_url) as lines:
                await until(lambda: lines)
            assert f": {reason}." in lines[0]


async def test_a_target_that_hangs_delays_and_blocks_nothing_for_ever(
    smee: StandInSmee, channel: str, target: Target, target_url: str
) -> None:
    """After the time limit the next change follows; meanwhile a stream that ends is opened again."""
    target.hangs_at = 0
    bodies = [body_with("first"), body_with("second")]
    async with tunnel(channel, target_url, post_limit=2) as lines:
        await until(lambda: smee.opened)
        await post(channel, *bodies)
        await until(lambda: target.received)
        smee.end_streams(Ending.RESPONSE)
        await until(lambda: len(smee.opened) == 2, 1.9)
        assert len(target.received) == 1
        await until(lambda: "202 notification-service-prod, alerts: 1" in lines)
    assert target.bodies == bodies
    assert any("in time" in line and "hangs" in line for line in lines)


async def test_a_target_that_is_away_is_said(smee: StandInSmee, channel: str) -> None:
    """Without a listener the line says so."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/api/slack"
        async with tunnel(channel, url) as lines:
            await until(lambda: smee.opened)
            await post(channel, body_with())
            await until(lambda: len(lines) == 2)
    assert lines[1].startswith(f"no answer for notification-service-prod: is the listener running at {url}?")


async def test_an_answer_that_is_no_2xx_is_said(
    smee: StandInSmee, channel: str, target: Target, target_url: str
) -> None:
    """A refusal is one line with what to do; text from outside cannot move a terminal's cursor."""
    answers = [
        PlainTextResponse("no", 401),
        PlainTextResponse("odd\r\n\x1b[2Jthing \u202e" + "x" * 1000, 418),
        PlainTextResponse("fine"),
    ]
    target.answer = lambda number: answers[number]
    bodies = [
        body_with(),
        body_with(entity="a\n\x1b[31mb"),
        b'{"event":{"context":null},"context":[]}',
    ]
    async with tunnel(channel, target_url) as lines:
        await until(lambda: smee.opened)
        await post(channel, *bodies)
        await until(lambda: len(lines) == 4)
    assert "PORT_CLIENT_SECRET" in lines[1]
    assert lines[1].startswith("401 notification-service-prod: ")
    assert lines[2].startswith("418 a [31mb: odd [2Jthing xxx")
    assert lines[2].isprintable()
    assert len(lines[2]) < 150
    assert lines[3] == "200 an event"


async def test_what_is_no_webhook_is_left_out(target: Target, target_url: str) -> None:
    """Events that smee would not make are said and left out, and the next change follows."""
    odd = [
        "5",
        "[]",
        "{",
        "{}",
        '{"a":"b"}',
        '{"body":{},"né":"x"}',
        '{"body":{},"x":"a\\nb"}',
        "[" * 100_000,
    ]
    good = '{"x-a":"b","body":{"entity":"good"},"query":{},"timestamp":1}'

    events = [*odd, good]

    async def stream(_: Request) -> Response:
        text = "".join(f"retry: 1\n: comment\ndata: {one}\n\n" for one in events)
        events.clear()  # the tunnel comes back at once
        return Response(text, headers={"content-type": "text/event-stream"})

    async with (
        serving(Starlette(routes=[Route("/c", stream)])) as address,
        tunnel(f"{address}/c", target_url) as lines,
    ):
        await until(lambda: target.received)
        await until(lambda: any(line.startswith("202") for line in lines))
    assert target.bodies[0] == b'{"entity":"good"}'
    assert sum("not a webhook" in line for line in lines) == len(odd)
    assert "202 good, alerts: 1" not in lines[:1]


async def test_a_new_channel_is_asked_for(smee: StandInSmee) -> None:
    """The smee server's redirect names the channel."""
    async with smee.serving() as address:
        first, second = [await asyncio.to_thread(new_channel, address) for _ in range(2)]
    assert first.startswith(f"{address}/")
    assert len(first) == len(second) > len(address) + 10
    assert first != second


async def test_no_new_channel_is_an_error(target_url: str) -> None:
    """A server that is no smee server, one that is away, and what is no URL are errors with a sentence."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        away = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        with pytest.raises(ListenerError, match=rf"no new channel from {away}/new: \S"):
            await asyncio.to_thread(new_channel, away)
    with pytest.raises(ListenerError, match=r"answered 404\. Is it a smee server"):
        await asyncio.to_thread(new_channel, target_url)
    with pytest.raises(ListenerError, match="not a URL"):
        new_channel("smee.io")


@pytest.mark.parametrize(
    "url", ["", "smee.io/abc", "ftp://smee.io/abc", "http://", "http://a\nb", "http://[::"]
)
def test_what_is_no_url_is_refused(url: str) -> None:
    """Both ends must be URLs, before anything starts."""
    with pytest.raises(ListenerError, match="not a URL"):
        run_tunnel(url, "http://localhost/api/slack")
    with pytest.raises(ListenerError, match="not a URL"):
        run_tunnel("http://localhost/c", url)


@pytest.mark.acceptance
@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT cannot be sent to one process there")
async def test_ctrl_c_ends_the_process_at_once(
    smee: StandInSmee, channel: str, target: Target, target_url: str
) -> None:
    """A real process ends at once, though its stream is open, a post hangs and another change waits."""
    target.hangs_at = 0
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", TUNNEL_SCRIPT, channel, target_url, stdout=-1, stderr=-1
    )
    try:
        await until(lambda: smee.opened)
        await post(channel, body_with(), body_with())
        await until(lambda: target.received)
        process.send_signal(signal.SIGINT)
        assert process.stdout
        connected, stopped = [
            await asyncio.wait_for(process.stdout.readline(), SOON_SECONDS) for _ in ("connected", "stopped")
        ]
        output, errors = await asyncio.wait_for(process.communicate(), SOON_SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert (connected.decode().strip(), stopped) == (f"connected to {channel}", b"stopped\n")
    assert output == errors == b""
    assert process.returncode == 0


@pytest.mark.acceptance
async def test_plain_pysmee_forwards_a_change_whose_signature_holds(
    smee: StandInSmee, channel: str, target: Target, target_url: str
) -> None:
    """`pysmee forward` breaks the text, and the signature's last candidate mends it."""
    body = body_with("Café 🚀")
    pysmee = Path(sys.executable).with_name("pysmee")
    process = await asyncio.create_subprocess_exec(
        pysmee, "forward", channel, target_url, stdout=-3, stderr=-3
    )
    try:
        await until(lambda: smee.opened)
        await post(channel, body)
        await until(lambda: target.received)
    finally:
        process.kill()
        await process.wait()
    assert target.bodies != [body]
    assert target.verified().body == body
