"""A path before the page's own, where a proxy serves it beside other things: the path of PAGE_URL."""

import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.receive.event import WEBHOOK_PATH

# Templates escape quotes, so that no text of the catalog can look like one of these.
PAGE_LINK = re.compile(rb'( (?:href|src|action|formaction|content|hx-get|data-url|data-events)=")/(?!/)')

LEADS = frozenset({b"location", b"hx-redirect"})
"""The headers that lead a browser to another page."""


def with_prefix(app: ASGIApp, prefix: str) -> ASGIApp:
    """Wrap the whole application: its addresses are taken with the prefix and without, and told with it.

    Some proxies take the prefix away and some do not, so both must work. Pages are written without it.

    Args:
        app: The application.
        prefix: The prefix: ``/listener``; empty: there is none.
    """
    if not prefix:
        return app
    told = prefix.encode()

    async def around(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        path = scope["path"]
        # A prefix may be the first part of the webhook's own path, which stays what it is.
        if path != WEBHOOK_PATH and (path == prefix or path.startswith(f"{prefix}/")):
            scope = {**scope, "path": path[len(prefix) :] or "/"}
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
