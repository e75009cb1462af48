"""What stands around every route: the answers to errors, headers, and the count of answers to Port."""

import asyncio
import gzip
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import structlog
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import (
    ListenerError,
    SignatureRejected,
    SourceRefused,
    StoreUnavailable,
    TooBusy,
    UnreadableChange,
)
from app.observe.tracing import current_trace_id
from app.observe.watch import Watch
from app.receive.event import WEBHOOK_PATH
from app.receive.sources import SOURCE_REFUSED
from app.receive.whole import FAILURE

log = structlog.get_logger(__name__)

RETRY_AFTER_SECONDS = 5
REST_BYTES, REST_SECONDS = 4 * 1024 * 1024, 2
"""As much of a refused body is read, and so long, before it is answered."""
MAX_RESTS = 8
"""Of so many at once: under a flood a proxy may answer 502 in place of a refusal."""
PLAIN_HEADERS = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))
"""What every answer tells browsers and proxies, unless its route says otherwise."""

PAGE = (b"content-type", b"text/html; charset=utf-8")
PAGE_LEVEL = 5
"""A page of 40 kB takes half a millisecond; on a phone it saves a fifth of a second."""
GZIPPED = {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""The headers of a page: it loads nothing from other sites, and no other site may frame it."""


def plain_headers(app: ASGIApp) -> ASGIApp:
    """Wrap the whole application, and complete each answer's headers."""
    rests = asyncio.Semaphore(MAX_RESTS)

    async def around(scope: Scope, receive: Receive, send: Send) -> None:
        more = True

        async def complete(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                missing = (header for header in PLAIN_HEADERS if header[0] not in present)
                left = message["status"] == 413
                if message["status"] >= 400 and more and not rests.locked():
                    async with rests:
                        await _read_rest(read)
                    left = left or more
                # More of it may come, which is not read (app/web/protocol.py): no request can follow it.
                close = [(b"connection", b"close")] if left else []
                message["headers"] = [*message["headers"], *missing, *close]
            await send(message)

        async def read() -> Message:
            nonlocal more
            message = await receive()
            more = message.get("more_body", False)
            return message

        if scope["type"] == "http":
            await app(scope, read, complete)
        else:
            await app(scope, receive, send)

    return around


def plain_start(app: ASGIApp) -> ASGIApp:
    """Wrap the whole application: a start that fails for a known reason says it, without a traceback.

    The database may go away after it was looked at, and before it is opened.
    """

    async def around(scope: Scope, receive: Receive, send: Send) -> None:
        async def say(message: Message) -> None:
            error = sys.exc_info()[1]
            if message["type"] == "lifespan.startup.failed" and isinstance(error, ListenerError):
                message["message"] = f"Cannot start:\n{error}"
            await send(message)

        await app(scope, receive, say if scope["type"] == "lifespan" else send)

    return around


def without_last_slash(app: ASGIApp) -> ASGIApp:
    """Wrap the whole application: a slash at the end of a path, copied along, means the same address.

    The framework would redirect, by http behind a proxy that ends TLS; and Port follows no redirect.
    """

    async def around(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "").rstrip("/")
        if path and path != scope.get("root_path"):
            scope["path"] = path
        await app(scope, receive, send)

    return around


def takes_gzip(accepted: str) -> bool:
    """Whether a browser takes an answer that is compressed, by its ``Accept-Encoding``."""
    return any(
        name.strip() == "gzip" and weight.strip() not in ("q=0", "q=0.0")
        for name, _, weight in (each.partition(";") for each in accepted.split(","))
    )


def compressed_pages(app: ASGIApp) -> ASGIApp:
    """Wrap the whole application: pages are compressed for browsers that take that.

    What a page reflects of its address could betray by its length the form's token beside it, but only to a
    site that can ask for pages with the cookie, and that cookie is SameSite=strict.
    """

    async def around(scope: Scope, receive: Receive, send: Send) -> None:
        accepts = scope.get("method") == "GET" and Headers(scope=scope).get("accept-encoding")
        if not accepts or not takes_gzip(accepts):
            await app(scope, receive, send)
            return
        start: Message | None = None

        async def compress(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start" and PAGE in message["headers"]:
                start = message  # a page comes in one piece
                return
            if start is not None:
                body = gzip.compress(message.get("body", b""), PAGE_LEVEL, mtime=0)
                kept = [header for header in start["headers"] if header[0] != b"content-length"]
                more = {"content-length": str(len(body)), **GZIPPED}
                added = [(name.lower().encode(), value.encode()) for name, value in more.items()]
                await send({**start, "headers": [*kept, *added]})
                start, message = None, {**message, "body": body}
            await send(message)

        await app(scope, receive, compress)

    return around


def head_as_get(app: ASGIApp) -> ASGIApp:
    """Wrap the whole application: HEAD is answered as GET; the server leaves the body out.

    https://www.rfc-editor.org/rfc/rfc9110#name-head
    """

    async def around(scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("method") != "HEAD":
            await app(scope, receive, send)
            return
        ended, asked = asyncio.Event(), False

        async def head_only(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body"})
                ended.set()

        async def read() -> Message:
            nonlocal asked
            if not asked:
                asked = True
                return {"type": "http.request"}
            await ended.wait()  # a stream would never end: for it the client has gone
            return {"type": "http.disconnect"}

        await app({**scope, "method": "GET"}, read, head_only)

    return around


def _forbidden(_: Request, error: Exception) -> Response:
    log.warning("source_refused", address=str(error))
    return JSONResponse({"error": SOURCE_REFUSED}, 403)


def _unavailable(request: Request, error: Exception) -> Response:
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    if request.url.path.startswith("/api/v1"):
        return JSONResponse({"detail": f"the store is not available: {error}"}, 503, headers)
    log.error("change_not_stored", reason=str(error))
    return JSONResponse({"error": "the change could not be stored; send it again"}, 503, headers)


def _too_busy(_: Request, error: Exception) -> Response:
    log.warning("request_refused", reason=str(error))
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return JSONResponse({"error": "too much waits to be verified; send it again"}, 503, headers)


ERROR_HANDLERS: Mapping[type[Exception], Callable[[Request, Any], Response]] = {
    SourceRefused: _forbidden,
    # No detail: it would only help an attacker who tries signatures. The log has the reason.
    SignatureRejected: lambda *_: JSONResponse({"error": "the signature is missing, stale or wrong"}, 401),
    UnreadableChange: lambda _, error: JSONResponse({"error": error.reason, "path": error.path}, 422),
    StoreUnavailable: _unavailable,
    TooBusy: _too_busy,
    # The sender hung up before its body was whole: it reads no answer.
    ClientDisconnect: lambda *_: Response(status_code=400),
    TimeoutError: lambda *_: JSONResponse({"error": "the body did not arrive in time"}, 408),
}
"""How each kind of error is answered."""


def webhook_answers(app: ASGIApp, watch: Watch) -> ASGIApp:
    """Wrap the webhook: count what Port is answered, and answer what failed before it came here.

    Args:
        app: The application.
        watch: Counts the answers other than 202, whether a route, a limit or an error handler gave them.
    """

    async def around(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"] if scope["type"] == "http" else ""
        if not path.endswith(WEBHOOK_PATH) or scope["method"] != "POST":
            await app(scope, receive, send)
            return
        status = 500  # an application that answers nothing at all has failed

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        if trace_id := current_trace_id():
            structlog.contextvars.bind_contextvars(trace_id=trace_id)
        try:
            if failure := scope.get(FAILURE):
                await _answer(Request(scope), failure)(scope, receive, note)
            else:
                await app(scope, receive, note)
        finally:
            if status != 202:  # the intake counts those itself: it knows a duplicate
                watch.answered(status)

    return around


def _answer(request: Request, error: Exception) -> Response:
    for kind, handler in ERROR_HANDLERS.items():
        if isinstance(error, kind):
            return handler(request, error)
    raise error


async def _read_rest(receive: Receive) -> None:
    """Read and forget the rest of a refused body, up to a limit.

    A proxy that still sends when the connection closes answers 502 in place of the refusal.
    """
    rest = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(REST_SECONDS):
            while rest <= REST_BYTES:
                message = await receive()
                rest += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
