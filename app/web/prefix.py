"""A path before the page's own, where a proxy serves it: that of PAGE_URL, or the server's own."""

import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.receive.event import WEBHOOK_PATH

# Templates escape quotes, so that no text of the catalog can look like one of these.
PAGE_LINK = re.compile(rb'( (?:href|src|action|formaction|content|hx-get|data-url|data-events)=")/(?!/)')

PREFIX = "listener_prefix"
"""Where the prefix is in a request's scope."""
OPENAPI_PATH = "/openapi.json"
LEADS = frozenset({b"location", b"hx-redirect"})
"""The headers that lead a browser to another page."""


def with_prefix(app: ASGIApp, prefix: str) -> ASGIApp:
    """Wrap the whole application: its addresses are taken with the prefix and without, and told with it.

    Some proxies take the prefix away and some do not, so both must work. Pages are written without it.

    Args:
        app: The application.
        prefix: The prefix: ``/listener``; empty: uvicorn's ``--root-path``, which it puts before paths.
    """

    async def around(scope: Scope, receive: Receive, send: Send) -> None:
        root = scope.get("root_path", "").rstrip("/")
        if scope["type"] != "http" or not (before := prefix or root):
            await app(scope, receive, send)
            return
        path, told = scope["path"], before.encode()
        for first in (root, before):
            # A prefix may be the first part of the webhook's own path, which stays what it is.
            if path != WEBHOOK_PATH and (path == first or path.startswith(f"{first}/")):
                path = path[len(first) :] or "/"
        # Of the framework only the description of the API is to know the prefix.
        root = before if path == OPENAPI_PATH else ""
        scope = {**scope, "path": path, "root_path": root, PREFIX: before}
        start: Message | None = None

        async def rewrite(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                headers = [
                    (name, _led(value, told) if name in LEADS else value)
                    for name, value in message["headers"]
                ]
                message["headers"] = headers
                if (b"content-type", b"text/html; charset=utf-8") in headers:
                    start = message  # a page comes in one piece, and its length changes
                    return
            elif start is not None:
                body = PAGE_LINK.sub(rb"\1" + told + rb"/", message.get("body", b""))
                length = (b"content-length", str(len(body)).encode())
                kept = [header for header in start["headers"] if header[0] != b"content-length"]
                await send({**start, "headers": [*kept, length]})
                start, message = None, {**message, "body": body}
            await send(message)

        await app(scope, receive, rewrite)

    return around


def _led(location: bytes, prefix: bytes) -> bytes:
    return prefix + location if location.startswith(b"/") and not location.startswith(b"//") else location
