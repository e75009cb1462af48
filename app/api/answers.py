"""Counts what is answered to Port other than 202, whoever answers: a route, a limit, an error's handler."""

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.slack import PATH
from app.tracing import Tracing
from app.watch import Watch


class Answers:
    """Middleware around the whole application.

    Args:
        app: The application.
        watch: Hears of the answers.
        tracing: Knows in which trace a request is, so that its log lines say it.
    """

    def __init__(self, app: ASGIApp, watch: Watch, tracing: Tracing) -> None:
        self._app = app
        self._watch = watch
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and note its answer if it was a change."""
        if scope["type"] != "http" or scope["method"] != "POST" or not scope["path"].endswith(PATH):
            await self._app(scope, receive, send)
            return
        status = 500  # whoever answers nothing at all has failed

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        if trace_id := self._tracing.trace_id:
            structlog.contextvars.bind_contextvars(trace_id=trace_id)
        try:
            await self._app(scope, receive, note)
        finally:
            if status != 202:
                self._watch.answered(status)
