"""The simulated network: what the real HTTP clients send arrives at a model of the world."""

import asyncio
import json
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

from scripts.simulation.chance import Chance
from scripts.simulation.clock import RUNNING, Process, VirtualLoop
from scripts.simulation.websocket import Wire, accepted

LATENCY_SECONDS = (0.005, 0.08)


@dataclass(slots=True, eq=False)
class Sending:
    """A request as it arrived.

    Attributes:
        process: The process that sent it.
        host: The name of the host.
        method: ``GET``, ``POST`` …
        path: The path, without the query.
        query: The query's values, the last of each name.
        headers: The headers, with names in lower case.
        body: The body.
        begun_at: When the process began to connect; seconds of the loop.
        answered: Set when the whole answer has reached the process.
    """

    process: Process
    host: str
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    begun_at: float = 0.0
    answered: bool = False

    def json(self) -> Any:
        """Read the body as JSON."""
        return json.loads(self.body) if self.body else {}


@dataclass(slots=True)
class Reply:
    """An answer of the world; None as the status: there never is one, `ends`: but the connection ends.

    `opens` is told of the WebSocket that the connection becomes.
    """

    status: int | None = 200
    body: Any = "ok"
    headers: dict[str, str] = field(default_factory=dict)
    after_seconds: float = 0.0
    ends: bool = False
    opens: Callable[[Wire], None] | None = None


Serve = Callable[[Sending], Reply]


class NetworkLoop(VirtualLoop):
    """A virtual loop with a simulated network.

    Attributes:
        hosts: The hosts that there are, with what serves each.
        refused: When a connection to which host was refused; seconds of the loop.
    """

    def __init__(self, chance: Chance) -> None:
        super().__init__(chance.stream("choice"))
        self.hosts: dict[str, Serve] = {}
        self.refused: list[tuple[float, str]] = []
        self.chance = chance
        self._peers: dict[int, tuple[str, float]] = {}

    async def getaddrinfo(self, host: Any, port: Any, **_: Any) -> Any:
        """Give each host a public address of its own."""
        names = sorted(self.hosts)
        host = host.decode() if isinstance(host, bytes) else host
        if host not in names:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        address = (f"52.0.0.{names.index(host) + 1}", int(port))
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address)]

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Connect, or not."""
        begun_at = self.time()
        await self._connect(address[0])
        self._peers[id(sock)] = address[0], begun_at

    async def create_connection(
        self, protocol_factory: Any, host: Any = None, port: Any = None, *, sock: Any = None, **_: Any
    ) -> Any:
        """Connect a client's protocol with the world."""
        del port
        begun_at = self.time()
        if sock is not None:
            host, begun_at = self._peers.pop(id(sock))
            sock.close()
        else:
            await self._connect(host)
        protocol = protocol_factory()
        transport = _Transport(self, protocol, self._name(host), begun_at)
        protocol.connection_made(transport)
        return transport, protocol

    async def _connect(self, address: str) -> None:
        await asyncio.sleep(self._latency())
        if self.chance.strikes("no_connection"):
            self.refused.append((self.time(), self._name(address)))
            raise ConnectionRefusedError(111, "Connection refused")

    def _name(self, address: str) -> str:
        return sorted(self.hosts)[int(address.rpartition(".")[2]) - 1]

    def _latency(self) -> float:
        return self.chance.between("latency", *LATENCY_SECONDS)


class _Socket:
    """What clients ask of the socket under a connection."""

    family = socket.AF_INET

    def getpeername(self) -> tuple[str, int]:
        return "52.0.0.1", 80

    def getsockname(self) -> tuple[str, int]:
        return "10.0.0.1", 50_000

    def setsockopt(self, *_: object) -> None:
        pass


class _Transport(asyncio.Transport):
    """The client's end of a connection, for one request."""

    def __init__(self, loop: NetworkLoop, protocol: Any, host: str, begun_at: float) -> None:
        super().__init__({"socket": _Socket()})
        self._loop = loop
        self._protocol = protocol
        self._host = host
        self._begun_at = begun_at
        self._buffer = b""
        self._closing = False
        self._wire: Wire | None = None
        self._last_at = 0.0
        process = RUNNING.get()
        assert process is not None  # noqa: S101 - only simulated processes have clients
        self._process = process

    def get_protocol(self) -> Any:
        return self._protocol

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def is_reading(self) -> bool:
        return True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: Any) -> None:
        """Send; once the request is whole it travels to the world, and cannot be stopped any more."""
        if self._closing or not self._process.alive:
            return
        if self._wire is not None:
            self._in_order(self._wire.take, bytes(data), here=False)
            return
        self._buffer += bytes(data)
        sending = _parse(self._process, self._host, self._buffer)
        if sending is not None:
            sending.begun_at = self._begun_at
            self._buffer = b""
            self._later(self._loop._latency(), self._arrive, sending, here=False)  # noqa: SLF001

    def _arrive(self, sending: Sending) -> None:
        reply = self._loop.hosts[self._host](sending)
        if self._process.alive and self._loop.chance.strikes("kill_at_send"):
            self._process.end(self._loop.time())
        elif self._process.alive and self._loop.chance.strikes("freeze_at_send"):
            # Half of them end when another process has just taken its queue over.
            ends = self._loop.chance.stream("freeze_at_send until").choice(((5, 60), (29.5, 33)))
            seconds = self._loop.chance.between("freeze_at_send for", *ends)
            self._process.freeze(self._loop.time(), seconds)
        delay = reply.after_seconds + self._loop._latency()  # noqa: SLF001
        if reply.opens is not None and not self._process.alive:
            return
        if reply.opens is not None:
            send, end = self._receive, self._hang_up
            self._wire = wire = Wire(self._process, send, end)
            self._process.at_death.append(wire.end)
            self._in_order(self._protocol.data_received, accepted(sending.headers["sec-websocket-key"]))
            reply.opens(wire)
        elif reply.ends:
            self._later(delay, self._end)
        elif reply.status is not None:
            date = format_datetime(self._loop.wall(), usegmt=True)
            self._later(delay, self._answer, sending, _encode(reply, date))

    def _receive(self, data: bytes) -> None:
        self._in_order(self._take, data)

    def _take(self, data: bytes) -> None:
        if not self._closing:
            self._protocol.data_received(data)

    def _hang_up(self) -> None:
        self._in_order(self._end)

    def _in_order(self, callback: Any, *args: Any, here: bool = True) -> None:
        """Call back after what was sent before, as over one connection nothing overtakes."""
        now = self._loop.time()
        self._last_at = max(now + self._loop._latency(), self._last_at + 1e-6)  # noqa: SLF001
        self._later(self._last_at - now, callback, *args, here=here)

    def _answer(self, sending: Sending, data: bytes) -> None:
        if not self._closing:
            sending.answered = True
            self._protocol.data_received(data)
            self._end()

    def _end(self) -> None:
        if not self._closing:
            self._closing = True
            self._protocol.connection_lost(None)

    def _later(self, delay: float, callback: Any, *args: Any, here: bool = True) -> None:
        context = self._process.context.copy() if here else None
        if context is None:
            context = self._process.context.copy()
            context.run(RUNNING.set, None)
        self._loop.call_later(delay, callback, *args, context=context)

    def close(self) -> None:
        """Close: the answer does not matter any more."""
        if not self._closing and self._process.alive:
            self._closing = True
            if self._wire is not None:
                self._in_order(self._wire.end, here=False)
            self._loop.call_soon(self._protocol.connection_lost, None)

    def write_eof(self) -> None:
        pass

    def abort(self) -> None:
        self.close()


def _parse(process: Process, host: str, data: bytes) -> Sending | None:
    """Read a request; None: it is not whole."""
    head, whole, body = data.partition(b"\r\n\r\n")
    if not whole:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    if len(body) < int(headers.get("content-length", "0")):
        return None
    method, target, _ = first.split(" ")
    parts = urlsplit(target)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    return Sending(process, host, method, parts.path, query, headers, body)


def _encode(reply: Reply, date: str) -> bytes:
    text = isinstance(reply.body, str)
    body = reply.body.encode() if text else json.dumps(reply.body).encode()
    headers = {
        "Content-Type": "text/plain" if text else "application/json",
        "Content-Length": str(len(body)),
        # A kept connection would end by the machine's clock.
        "Connection": "close",
        "Date": date,
        **reply.headers,
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {reply.status} -\r\n{lines}\r\n".encode() + body
