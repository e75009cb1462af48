"""What stands between a replica and its server, and what it may do."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def read(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Read a message, and return its type and the whole of it."""
    head = await reader.readexactly(5)
    return head[:1], head + await reader.readexactly(int.from_bytes(head[1:]) - 4)


class HoldingProxy:
    """Passes bytes between replicas and the server; when `trap` says so, it holds the server's answers back.

    Args:
        folder: Where it listens, as the server does.
        server: The server's socket.
        trap: Given what a client has said lately, says whether to hold from here on.
    """

    def __init__(self, folder: Path, server: Path, trap: Callable[[bytes], bool]) -> None:
        self._folder, self._server, self._trap = folder, server, trap
        self.holding, self.open = asyncio.Event(), asyncio.Event()
        self.open.set()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Listen."""
        async with await asyncio.start_unix_server(self._serve, self._folder / ".s.PGSQL.5432"):
            yield

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_unix_connection(self._server / ".s.PGSQL.5432")

        async def forth() -> None:
            said = b""
            while data := await reader.read(65536):
                said = (said + data)[-4096:]
                if not self.holding.is_set() and self._trap(said):
                    self.open.clear()
                    self.holding.set()
                server_writer.write(data)
            server_writer.close()

        async def back() -> None:
            while data := await server_reader.read(65536):
                await self.open.wait()
                writer.write(data)
            writer.close()

        try:
            with suppress(ConnectionError):
                await asyncio.gather(forth(), back())
        finally:  # a side that was reset has not closed the other
            server_writer.close()
            writer.close()


class PoolingProxy:
    """Does as pgbouncer in transaction mode: each transaction gets the connection that has rested longest.

    Args:
        folder: Where it listens, as a server does.
        server: The server's folder.
        number: How many connections it has to the server.
    """

    def __init__(self, folder: Path, server: Path, number: int) -> None:
        self._folder, self._server, self._number = folder, server, number
        self._resting: asyncio.Queue[Streams] = asyncio.Queue()
        self._greeting = b""

    @asynccontextmanager
    async def serving(self, database: str) -> AsyncIterator[None]:
        """Connect to a database, and listen."""
        for _ in range(self._number):
            reader, writer = await asyncio.open_unix_connection(self._server / ".s.PGSQL.5432")
            startup = (
                b"\0\3\0\0user\0postgres\0database\0" + database.encode() + b"\0client_encoding\0utf8\0\0"
            )
            writer.write((len(startup) + 4).to_bytes(4) + startup)
            self._greeting, kind = b"", b""
            while kind != b"Z":
                kind, message = await read(reader)
                self._greeting += message if kind != b"K" else b"K\0\0\0\x0c" + b"\x01" * 8
            self._resting.put_nowait((reader, writer))
        async with await asyncio.start_unix_server(self._serve, self._folder / ".s.PGSQL.5432"):
            yield
        while not self._resting.empty():
            self._resting.get_nowait()[1].close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = await reader.readexactly(4)
        await reader.readexactly(int.from_bytes(length) - 4)
        writer.write(self._greeting)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                kind, message = await read(reader)
                if kind == b"X":
                    break
                server = await self._resting.get()
                await self._transaction(message, reader, writer, server)
                self._resting.put_nowait(server)
        writer.close()

    async def _transaction(
        self, message: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: Streams
    ) -> None:
        from_server, to_server = server
        while True:
            while message[:1] not in (b"Q", b"S", b"H"):  # what ends a question, so that there is an answer
                to_server.write(message)
                _, message = await read(reader)
            to_server.write(message)
            flushed, ready = message[:1] == b"H", b""
            while ready not in (b"Z", *((b"T", b"n", b"E") if flushed else ())):
                ready, answer = await read(from_server)
                writer.write(answer)
            if ready == b"Z" and answer[-1:] == b"I":
                return
            _, message = await read(reader)
