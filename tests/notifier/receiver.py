"""A receiver that answers as it is told, and each kind of destination that delivers to it from a store."""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from app.deliver.turn import Sender
from app.network import DIRECT, Network
from app.notifier.base import Notifier
from app.notifier.kind import NotifierContext
from app.notifier.registry import SETTINGS_MODELS, kind_of
from app.port.client import PortClient
from app.store.rows import Attempt
from app.store.store import Store
from tests.conftest import NOW
from tests.deliver.helpers import prepare
from tests.notifier.helpers import context
from tests.store.helpers import incoming

MADE_BY_CHANGE = "http, made by the change"
TOKEN_BY_CHANGE = "http, token made by the change"
TEAMS, PAGERDUTY = "teams", "pagerduty"
KINDS = (
    "slack webhook",
    "slack bot",
    TEAMS,
    PAGERDUTY,
    "http",
    MADE_BY_CHANGE,
    TOKEN_BY_CHANGE,
    "port_action",
)
"""Every kind that calls something; a terminal refuses nothing."""
TOKEN = JSONResponse({"ok": True, "accessToken": "t", "expiresIn": 10_800})
ASKING = ("conversations.list", "conversations.history")


@dataclass(frozen=True)
class Answer:
    """What the receiver answers to each delivery."""

    status: int
    body: str = ""
    headers: Mapping[str, str] | None = None

    def response(self) -> Response:
        kind = "application/json" if self.body.startswith("{") else "text/plain"
        return Response(self.body, self.status, dict(self.headers or {}), kind)


class Receiver:
    """Gives every delivery `answer`, and `asked` to who asks for channels or messages.

    Everybody gets the body of a `stream`, if there is one.
    """

    def __init__(self) -> None:
        self.answer = Answer(200)
        self.stream: Callable[[], AsyncIterator[bytes]] | None = None
        self.asked: dict[str, Any] = {"ok": True, "channels": [], "messages": []}
        methods = ["GET", "POST"]
        self.app = Starlette(routes=[Route("/{path:path}", self._receive, methods=methods)])

    async def _receive(self, request: Request) -> Response:
        if self.stream is not None:
            return StreamingResponse(self.stream(), self.answer.status, self.answer.headers)
        path = request.url.path
        if path.endswith("/auth/access_token"):
            return TOKEN
        if path.endswith(ASKING):
            return JSONResponse(self.asked)
        return self.answer.response()


def make(
    kind: str, url: str, clock: Any, client: PortClient | None = None, network: Network = DIRECT
) -> Notifier:
    """Make the notifier of a kind, by its settings, that calls an address."""
    settings: dict[str, dict[str, Any]] = {
        "slack webhook": {"type": "slack", "webhook_url": f"{url}/services/T0/B0/x"},
        "slack bot": {"type": "slack", "channel": "#oncall"},
        "http": {"type": "http", "url": f"{url}/jobs", "allow_private": True},
        MADE_BY_CHANGE: {"type": "http", "url": f"{url}/{{{{ .path }}}}", "allow_private": True},
        "port_action": {"type": "port_action", "action": "restart"},
        TEAMS: {"type": "teams", "webhook_url": f"{url}/flow"},
    }
    settings[PAGERDUTY] = {"type": "pagerduty", "routing_key": "k" * 32, "url": f"{url}/v2/enqueue"}
    settings[PAGERDUTY] |= {"allow_private": True}
    settings[TOKEN_BY_CHANGE] = settings[MADE_BY_CHANGE] | {"headers": {"X-Token": "{{ .token }}"}}
    given = settings[kind]
    made: NotifierContext = context(
        bot_token="xoxb-1",
        slack_api_url=f"{url}/api/",
        port=client,
        clock=clock,
        render=_render,
        network=network,
    )
    model = SETTINGS_MODELS[given["type"]].model_validate(given)
    return kind_of(given["type"]).make("default", model, made)


async def _render(template: Any, _: Mapping[str, Any]) -> Any:
    return template | {"url": ["one" for _ in template["url"]]} if "url" in template else template


def port_client(url: str, clock: Any, network: Network = DIRECT) -> PortClient:
    """Make the client of Port's API that destinations get."""
    return PortClient(url, "id", "secret", clock=clock, patient=False, network=network)


class Deliveries:
    """One alert that waits in a store, and is tried again whenever its time has come."""

    def __init__(self, store: Store) -> None:
        self.store, self.now = store, NOW

    def clock(self) -> datetime:
        return self.now

    async def tries(self, notifier: Notifier, number: int) -> list[Attempt]:
        """Try to deliver `number` times, each as early as the one before allows."""
        sender = Sender(
            self.store, {"default": notifier}, prepare=prepare, clock=self.clock, jitter=lambda: 0.0
        )
        await self.store.accept([incoming()])
        attempts = []
        for token in range(number):
            claims = await self.store.claim(
                token=str(token),
                now=self.now,
                lease_until=self.now + timedelta(seconds=30),
                limit=1,
                batch_limits={"default": 1},
            )
            if not claims:
                break
            attempt = await sender.attempt(claims[0])
            assert attempt is not None
            assert await self.store.record(claims[0], attempt)
            attempts.append(attempt)
            self.now = attempt.next_at
        return attempts
