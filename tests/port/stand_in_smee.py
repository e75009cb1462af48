"""A stand-in for smee.io on loopback, with all that makes the real one hard to live with.

Source: https://github.com/probot/smee.io, lib/server.js and lib/keep-alive.js.
"""

import asyncio
import itertools
import json
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from enum import StrEnum
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from app.demo.run import serving

EXACT_IN_JAVASCRIPT = 2**53


class Ending(StrEnum):
    """How a stream ends."""

    RESPONSE = "response"
    """The response is complete; the TCP connection stays open."""
    CONNECTION = "connection"
    """The TCP connection is closed in the middle of the response."""


class StandInSmee:
    """Sends on what is posted to a channel, as smee.io does.

    Args:
        ping_seconds: After how long without anything else each stream gets a ping; None: never.

    Attributes:
        opened: When each stream was opened (`time.monotonic`).
        app: The web application.
    """

    def __init__(self, ping_seconds: float | None = 30) -> None:
        self.opened: list[float] = []
        self._ping_seconds = ping_seconds
        self._streams: dict[str, list[asyncio.Queue[str | Ending]]] = {}
        self._ending = False
        self.app = Starlette(
            routes=[
                Route("/new", self._new, methods=["GET"]),
                Route("/{channel}", self._open, methods=["GET"]),
                Route("/{channel}", self._take, methods=["POST"]),
            ]
        )

    @asynccontextmanager
    async def serving(self, port: int = 0) -> AsyncIterator[str]:
        """Serve on loopback, and yield the address; at the end all connections are closed.

        Args:
            port: The port; 0 takes one that is free.
        """
        self._ending = False
        async with serving(self.app, port) as address:
            try:
                yield address
            finally:
                self._ending = True
                self.end_streams(Ending.CONNECTION)

    def end_streams(self, ending: Ending) -> None:
        """End all streams that are open; what is posted from now on does not reach them."""
        for queue in itertools.chain.from_iterable(self._streams.values()):
            queue.put_nowait(ending)
        self._streams.clear()

    async def _new(self, request: Request) -> Response:
        return RedirectResponse(request.base_url.replace(path=f"/{secrets.token_urlsafe(12)}"), 307)

    async def _open(self, request: Request) -> Response:
        self.opened.append(time.monotonic())
        if request.headers.get("accept") != "text/event-stream":
            return Response("<!DOCTYPE html>\n\n", media_type="text/html")
        queue: asyncio.Queue[str | Ending] = asyncio.Queue()
        self._streams.setdefault(request.path_params["channel"], []).append(queue)
        if self._ending:
            self.end_streams(Ending.CONNECTION)
        return _Stream(queue, self._ping_seconds)

    async def _take(self, request: Request) -> Response:
        try:
            body = json.loads(await request.body())
        except ValueError:
            body = None
        if not isinstance(body, dict):
            return PlainTextResponse("body must be object", 400)
        payload = {
            **request.headers,
            "body": body,
            "query": dict(request.query_params),
            "timestamp": time.time_ns() // 1_000_000,
        }
        for queue in self._streams.get(request.path_params["channel"], []):
            queue.put_nowait(f"data: {stringify(payload)}\n\n")
        return Response()  # 200, also when nobody listens


class _Stream(Response):
    """Sends events until it is told how to end."""

    def __init__(self, queue: asyncio.Queue[str | Ending], ping_seconds: float | None) -> None:
        # Without a charset, as smee sends it: that makes requests, and so pysmee, take it for latin-1.
        super().__init__(headers={"content-type": "text/event-stream", "cache-control": "no-cache"})
        self._queue = queue
        self._ping_seconds = ping_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        headers = [one for one in self.raw_headers if one[0] != b"content-length"]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        event: str | Ending = "event: ready\ndata: {}\n\n"
        for number in itertools.count():
            if isinstance(event, Ending):
                break
            chunk = f"id: {number}\n{event}".encode()
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            try:
                event = await asyncio.wait_for(self._queue.get(), self._ping_seconds)
            except TimeoutError:
                event = "event: ping\ndata: {}\n\n"
        if event is Ending.RESPONSE:
            await send({"type": "http.response.body"})
        # An application that returns without this last message makes uvicorn close the connection.


def stringify(value: Any) -> str:
    """Return a JSON value as JavaScript's ``JSON.stringify`` writes it.

    Rule: ECMAScript, JSON.stringify and Number::toString.
    """
    match value:
        case dict():
            return "{" + ",".join(f"{stringify(key)}:{stringify(one)}" for key, one in value.items()) + "}"
        case list():
            return "[" + ",".join(map(stringify, value)) + "]"
        case str() | bool() | None:
            # Half an emoji, which is no text in any encoding, is escaped.
            return json.dumps(value, ensure_ascii=False).encode(errors="backslashreplace").decode()
    if isinstance(value, int) and abs(value) <= EXACT_IN_JAVASCRIPT:
        return str(value)
    number = float(value)
    if number == 0:
        return "0"
    if 1e-6 <= abs(number) < 1e21:
        text = format(Decimal(repr(number)), "f")
        return text.rstrip("0").rstrip(".") if "." in text else text
    mantissa, exponent = repr(number).split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent):+d}"
