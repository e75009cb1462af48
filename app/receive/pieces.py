"""How connections are read: a little at a time, into memory that they share."""

import asyncio
import threading

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_READ_BYTES = 32 * 1024
"""As much is read of a connection at once; uvloop would read 256 kB of each of a thousand."""


class _Buffer(threading.local):
    """Where a thread's loop reads into; what it has read is copied before it reads again."""

    def __init__(self) -> None:
        self.bytes = bytearray(MAX_READ_BYTES)


_BUFFER = _Buffer()


class InPieces(asyncio.BufferedProtocol):
    """Reads a connection piece by piece, for a protocol that takes what there is.

    It stands apart, since uvloop lets no `asyncio.Protocol` give the buffer.
    """

    def __init__(self, protocol: HttpToolsProtocol) -> None:
        self._take = protocol.data_received
        for name in ("eof_received", "connection_lost", "pause_writing", "resume_writing"):
            setattr(self, name, getattr(protocol, name))

    @override
    def get_buffer(self, sizehint: int) -> bytearray:
        return _BUFFER.bytes

    @override
    def buffer_updated(self, nbytes: int) -> None:
        self._take(bytes(memoryview(_BUFFER.bytes)[:nbytes]))
