"""A forward proxy on loopback, which answers in the place of those whom it would ask."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ssl import SSLContext


class ForwardProxy:
    """Keeps the first line of each request; a tunnel (CONNECT) it refuses with 403.

    Attributes:
        asked: The requests' methods and addresses.
        logins: Their Proxy-Authorization.
        body: What it answers 200 with.
    """

    def __init__(self, body: bytes) -> None:
        self.asked: list[str] = []
        self.logins: list[str] = []
        self.body = body
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, and close the connection."""
        first, *headers = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        fields = {name.lower(): value for name, _, value in (header.partition(": ") for header in headers)}
        await reader.readexactly(int(fields.get("content-length", 0)))
        self.asked.append(first.rpartition(" ")[0])
        self.logins.append(fields.get("proxy-authorization", ""))
        status = "403 Forbidden" if first.startswith("CONNECT") else "200 OK"
        kind = "Content-Type: application/json\r\n" if self.body.startswith(b"{") else ""
        head = f"HTTP/1.1 {status}\r\n{kind}Content-Length: {len(self.body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + self.body)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def proxying(body: bytes = b"ok", tls: SSLContext | None = None) -> AsyncIterator[ForwardProxy]:
    """Run a proxy, or any server, that answers with a body; `port` is where."""
    proxy = ForwardProxy(body)
    async with await asyncio.start_server(proxy.serve, "127.0.0.1", 0, ssl=tls) as server:
        proxy.port = server.sockets[0].getsockname()[1]
        yield proxy
