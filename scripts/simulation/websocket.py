"""The world's end of a WebSocket: its handshake, and its frames.

Rules: https://datatracker.ietf.org/doc/html/rfc6455 (sections 4.2.2 and 5.2)
"""

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

from scripts.simulation.clock import Process

_ACCEPT = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TEXT, _CLOSE, _PING, _PONG = 0x1, 0x8, 0x9, 0xA


def accepted(key: str) -> bytes:
    """Write the answer to a handshake, by the key in it."""
    digest = hashlib.sha1(f"{key}{_ACCEPT}".encode(), usedforsecurity=False).digest()
    lines = ("HTTP/1.1 101 -", "Upgrade: websocket", "Connection: Upgrade")
    return "\r\n".join(
        (*lines, f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}", "\r\n")
    ).encode()


class Wire:
    """A connection.

    Args:
        process: The process at the other end.
        send: Sends bytes there.
        end: Ends the connection.

    Attributes:
        process: The process at the other end.
        heard: Called with each message that comes.
        silent: Nothing goes over it any more, in either direction.
        open: It has not ended.
    """

    def __init__(self, process: Process, send: Callable[[bytes], None], end: Callable[[], None]) -> None:
        self.process = process
        self.heard: Callable[[Any], None] = lambda _: None
        self.silent, self.open = False, True
        self._send, self._end = send, end
        self._buffer = b""

    def say(self, message: Any) -> None:
        """Send a message."""
        self._write(_TEXT, json.dumps(message).encode())

    def end(self) -> None:
        """End the connection, without a word."""
        if self.open:
            self.open = False
            self._end()

    def take(self, data: bytes) -> None:
        """Take bytes that have arrived."""
        if self.silent:
            return
        self._buffer += data
        for kind, payload in self._frames():
            if kind == _TEXT:
                self.heard(json.loads(payload))
            elif kind == _PING:
                self._write(_PONG, payload)
            elif kind == _CLOSE:
                self._write(_CLOSE, payload)
                self.end()

    def _frames(self) -> Iterator[tuple[int, bytes]]:
        """Yield what is whole; a client's frames have a mask, and none of ours is longer than 64 KiB."""
        while len(self._buffer) >= 6:
            kind, length, begins = self._buffer[0] & 0xF, self._buffer[1] & 0x7F, 2
            if length == 126:
                length, begins = int.from_bytes(self._buffer[2:4], "big"), 4
            ends = begins + 4 + length
            if len(self._buffer) < ends:
                return
            mask, masked = self._buffer[begins : begins + 4], self._buffer[begins + 4 : ends]
            self._buffer = self._buffer[ends:]
            yield kind, bytes(byte ^ mask[place % 4] for place, byte in enumerate(masked))

    def _write(self, kind: int, payload: bytes) -> None:
        if self.silent or not self.open:
            return
        length = bytes([len(payload)]) if len(payload) < 126 else b"\x7e" + len(payload).to_bytes(2, "big")
        self._send(bytes([0x80 | kind]) + length + payload)
