"""A fake of Slack's incoming webhooks, for the demo and the tests."""

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

Answer = Response | Callable[[], Any]


class StandInSlack:
    """Takes messages as Slack's incoming webhooks do.

    Attributes:
        url: The webhook's address, set by the code that serves it.
        received: When each message was taken (`time.monotonic`, seconds), and the message.
        answers: The next answers, in place of taking a message: a response, or an async function that
            returns one.
        refused: How many messages came sooner than a second after the last, if `one_a_second`.
        on_message: Called with each message that was taken.
        app: The web application.
    """

    def __init__(
        self, on_message: Callable[[dict[str, Any]], None] = lambda _: None, *, one_a_second: bool = False
    ) -> None:
        self.url = ""
        self.one_a_second, self.refused = one_a_second, 0
        self.received: list[tuple[float, dict[str, Any]]] = []
        self.answers: deque[Answer] = deque()
        self.on_message = on_message
        self.app = Starlette(routes=[Route("/services/{path:path}", self._take, methods=["POST"])])

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The messages that were taken, in order."""
        return [message for _, message in self.received]

    async def _take(self, request: Request) -> Response:
        message: dict[str, Any] = await request.json()
        if self.answers:
            answer = self.answers.popleft()
            response: Response = answer if isinstance(answer, Response) else await answer()
            return response
        if not (message.get("text") or message.get("blocks")):
            return PlainTextResponse("no_text", 400)
        now = time.monotonic()
        if self.one_a_second and self.received and now < self.received[-1][0] + 1:
            self.refused += 1
            return PlainTextResponse("rate_limited", 429, {"Retry-After": "1"})
        self.received.append((now, message))
        self.on_message(message)
        return PlainTextResponse("ok")
