"""Stands before the routes: counts what Port is answered, and spares a change the way through them."""

from collections.abc import Awaitable, Callable, Mapping

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.observe.tracing import Tracing
from app.observe.watch import Watch
from app.receive.event import WEBHOOK_PATH

Handlers = Mapping[type[Exception], Callable[[Request, Exception], Response]]
"""What each kind of error is answered with."""


class Answers:
    """Middleware around the whole application.

    Args:
        app: The application.
        watch: Hears of the answers other than 202, whoever gave them: a route, a limit, an error's handler.
        tracing: Knows in which trace a request is, so that its log lines say it.
        handlers: The errors' handlers.
        shortcut: The route's own function, called with the bare request, or None. What the framework does
            around it (routing, dependencies, exit stacks) takes as long as to parse the change, and gives it
            nothing: its body must not be parsed before it is verified.
    """

    def __init__(
        self,
        app: ASGIApp,
        watch: Watch,
        tracing: Tracing,
        handlers: Handlers,
        shortcut: Callable[[Request], Awaitable[Response]] | None,
    ) -> None:
        self._app = app
        self._watch = watch
        self._tracing = tracing
        self._handlers = handlers
        self._errors = tuple(handlers)
        self._shortcut = shortcut

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and note its answer if it was a change."""
        if scope["type"] != "http" or scope["method"] != "POST" or not scope["path"].endswith(WEBHOOK_PATH):
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
            if self._shortcut is not None and scope["path"] == scope.get("root_path", "") + WEBHOOK_PATH:
                request = Request(scope, receive)
                response = await self._answer(self._shortcut, request)
                await response(scope, receive, note)
            else:
                await self._app(scope, receive, note)
        finally:
            if status != 202:
                self._watch.answered(status)

    async def _answer(self, answer: Callable[[Request], Awaitable[Response]], request: Request) -> Response:
        try:
            return await answer(request)
        except HTTPException as error:  # the body is too large
            return JSONResponse({"detail": error.detail}, error.status_code)
        except self._errors as error:
            return next(
                self._handlers[kind](request, error) for kind in type(error).__mro__ if kind in self._handlers
            )
