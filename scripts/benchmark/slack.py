"""A stand-in for Slack, or for any other receiver, in a thread of its own."""

import asyncio
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class StandIn:
    """Takes every POST, and nothing else.

    Attributes:
        port: Where it listens, on loopback.
        received: When each came (`time.monotonic`), and its body.
        taken: The bodies of those that were answered with a success.
        delay: How long it takes to answer, seconds.
        status: What it answers.
        connections: Those that are open.
    """

    def __init__(self) -> None:
        self.port = 0
        self.received: list[tuple[float, bytes]] = []
        self.taken: list[bytes] = []
        self.delay = 0.0
        self.status = "200 OK"
        self.connections: set[asyncio.Transport] = set()

    @property
    def url(self) -> str:
        """A webhook's address at it."""
        return f"http://127.0.0.1:{self.port}/services/T0/B0/bench"

    def wait_for(self, number: int, patience: float = 30.0) -> None:
        """Return when so many have come.

        Raises:
            RuntimeError: They do not come.
        """
        end = time.monotonic() + patience
        while len(self.received) < number:
            if time.monotonic() > end:
                raise RuntimeError(f"only {len(self.received)} of {number} messages came")
            time.sleep(0.02)


class _Connection(asyncio.Protocol):
    def __init__(self, stand_in: StandIn) -> None:
        self._stand_in = stand_in
        self._waiting = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - a server's always is
        self._transport = transport
        self._stand_in.connections.add(transport)

    def connection_lost(self, _: Exception | None) -> None:
        if self._transport is not None:
            self._stand_in.connections.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._waiting += data
        while True:
            head, separator, rest = self._waiting.partition(b"\r\n\r\n")
            length = int(found[1]) if (found := LENGTH.search(head)) else 0
            if not separator or len(rest) < length:
                return
            self._waiting = rest[length:]
            if not head.startswith(b"POST"):
                self._answer("404 Not Found")
                continue
            self._stand_in.received.append((time.monotonic(), rest[:length]))
            if self._stand_in.status.startswith("2"):
                self._stand_in.taken.append(rest[:length])
            if self._stand_in.delay:
                asyncio.get_running_loop().call_later(
                    self._stand_in.delay, self._answer, self._stand_in.status
                )
            else:
                self._answer(self._stand_in.status)

    def _answer(self, status: str) -> None:
        if self._transport is not None and not self._transport.is_closing():
            answer = f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"
            self._transport.write(answer.encode())


@contextmanager
def stand_in(*, delay: float = 0.0) -> Iterator[StandIn]:
    """Run a stand-in that takes so many seconds for an answer."""
    standing, started, ending = StandIn(), threading.Event(), asyncio.Event()
    standing.delay = delay
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        server = await loop.create_server(lambda: _Connection(standing), "127.0.0.1", 0)
        standing.port = server.sockets[0].getsockname()[1]
        started.set()
        await ending.wait()
        server.close()
        while standing.connections:  # one that the loop leaves open warns when it is collected
            for one in standing.connections:
                one.abort()
            await asyncio.sleep(0)

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    started.wait()
    try:
        yield standing
    finally:
        loop.call_soon_threadsafe(ending.set)
        thread.join()
        loop.close()
