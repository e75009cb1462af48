"""A sender of constant rate: a slow answer does not keep the next request back, and its own delay counts."""

import gc
import select
import socket
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from scripts.benchmark.load import CONNECTIONS, Answer
from scripts.benchmark.slack import LENGTH

PATIENCE = 30.0


@dataclass(frozen=True)
class Paced:
    """What came of a request.

    Attributes:
        due: When it was to be sent (`time.monotonic`), whenever it was.
        answered: When its answer was there.
    """

    due: float
    answered: float

    @property
    def milliseconds(self) -> float:
        """How long its sender waited for the answer."""
        return (self.answered - self.due) * 1000


@dataclass
class _Connection:
    socket: socket.socket
    waiting: bytes = b""
    number: int = -1

    def fileno(self) -> int:
        return self.socket.fileno()

    def take(self) -> bytes | None:
        """Return the answer once it is whole."""
        received = self.socket.recv(65536)
        if not received:
            raise RuntimeError("the connection was closed")
        self.waiting += received
        head, separator, body = self.waiting.partition(b"\r\n\r\n")
        length = int(found[1]) if (found := LENGTH.search(head)) else 0
        if not separator or len(body) < length:
            return None
        whole, self.waiting = self.waiting, b""
        return whole


def pace(port: int, requests: Sequence[bytes], a_second: float, answer: Answer) -> list[Paced]:
    """Send each request at its time, and return what came of each, in their order.

    Raises:
        RuntimeError: One was answered otherwise, or not at all.
    """
    free: deque[_Connection] = deque()
    busy: dict[int, _Connection] = {}
    for _ in range(CONNECTIONS):
        connected = socket.create_connection(("127.0.0.1", port))
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        free.append(_Connection(connected))
    answered = [0.0] * len(requests)
    sent, left = 0, len(requests)
    gc.disable()
    try:
        began = time.monotonic() + 0.1
        while left:
            wait = PATIENCE
            while sent < len(requests) and free:
                wait = began + sent / a_second - time.monotonic()
                if wait > 0:
                    break
                connection = free.popleft()
                connection.number = sent
                connection.socket.sendall(requests[sent])
                busy[connection.fileno()] = connection
                sent, wait = sent + 1, PATIENCE
            # select, since the other ways to wait know whole milliseconds only
            readable, _, _ = select.select(list(busy), [], [], wait)
            if not readable and wait == PATIENCE:
                raise RuntimeError("no answer came")
            for number in readable:
                if (whole := busy[number].take()) is not None:
                    _check(whole, answer)
                    connection = busy.pop(number)
                    answered[connection.number] = time.monotonic()
                    free.append(connection)
                    left -= 1
    finally:
        gc.enable()
        for connection in (*free, *busy.values()):
            connection.socket.close()
    return [Paced(began + number / a_second, at) for number, at in enumerate(answered)]


def _check(whole: bytes, answer: Answer) -> None:
    if whole.split(b" ", 2)[1] != str(answer.status).encode() or answer.part.encode() not in whole:
        raise RuntimeError(f"the round is invalid: {whole.decode()}")
