"""A stand-in for PagerDuty's Events API v2, as its public pages describe it.

Rules: https://developer.pagerduty.com/docs/send-alert-event, https://developer.pagerduty.com/docs/send-change-event
"""

from collections import Counter, deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

KEY = "0123456789abcdef0123456789ABCDEF"
A_MINUTE = 120
NEVER = datetime.min.replace(tzinfo=UTC)


class StandInPagerDuty:
    """Keeps an alert for each dedup key.

    Attributes:
        open: The events that opened the alerts that are open, by dedup key.
        acknowledged: The dedup keys of those that are acknowledged.
        opened: How often an alert was opened, by dedup key.
        reopened: The dedup keys that were opened again by a trigger of what had been resolved.
        events: What was taken.
        changes: The change events.
        answers: What is answered next, in place of what it would answer.
        down: It answers 503.
        refused: How often it answered 429.
        url: Its address.
    """

    def __init__(self, clock: Callable[[], datetime], a_minute: int = A_MINUTE) -> None:
        self._clock, self._a_minute = clock, a_minute
        self.url = ""
        self._lately: deque[datetime] = deque()
        self.open: dict[str, dict[str, Any]] = {}
        self.acknowledged: set[str] = set()
        self.opened: Counter[str] = Counter()
        self.reopened: list[str] = []
        self._heard: dict[str, datetime] = {}
        self._ended: dict[str, datetime] = {}
        self.events: list[dict[str, Any]] = []
        self.changes: list[dict[str, Any]] = []
        self.answers: list[Response] = []
        self.down = False
        self.refused = 0
        routes = [Route("/v2/enqueue", self._alert, methods=["POST"])]
        self.app = Starlette(routes=[*routes, Route("/v2/change/enqueue", self._change, methods=["POST"])])

    async def _alert(self, request: Request) -> Response:
        event = await request.json()
        if refused := self._refuse(event, await request.body(), _wrong_alert(event)):
            return refused
        self.events.append(event)
        key = event["dedup_key"]
        match event["event_action"]:
            case "trigger":
                self.opened[key] += key not in self.open
                if since := event["payload"].get("custom_details", {}).get("opened_at"):
                    self._heard[key] = datetime.fromisoformat(since)
                    if key not in self.open and self._heard[key] <= self._ended.get(key, NEVER):
                        self.reopened.append(key)
                self.open.setdefault(key, event)
            case "acknowledge" if key in self.open:
                self.acknowledged.add(key)
            case "resolve":
                if self.open.pop(key, None) and key in self._heard:
                    self._ended[key] = self._heard[key]
                self.acknowledged.discard(key)
        return JSONResponse({"status": "success", "message": "Event processed", "dedup_key": key}, 202)

    async def _change(self, request: Request) -> Response:
        event = await request.json()
        if refused := self._refuse(event, await request.body(), _wrong_change(event)):
            return refused
        self.changes.append(event)
        return JSONResponse({"status": "success", "message": "Change event processed"}, 202)

    def _refuse(self, event: dict[str, Any], body: bytes, wrong: list[str]) -> Response | None:
        if self.answers:
            return self.answers.pop(0)
        if self.down:
            return Response(status_code=503)
        now = self._clock()
        while self._lately and now - self._lately[0] >= timedelta(minutes=1):
            self._lately.popleft()
        if len(self._lately) >= self._a_minute:
            self.refused += 1
            return Response(status_code=429)
        self._lately.append(now)
        if len(body) > 512_000:
            return Response(status_code=413)
        if event["routing_key"] != KEY:
            return JSONResponse({"status": "invalid event", "errors": ["Invalid routing key"]}, 400)
        return JSONResponse({"status": "invalid event", "errors": wrong}, 400) if wrong else None


def _wrong_alert(event: dict[str, Any]) -> list[str]:
    known = {"routing_key", "event_action", "dedup_key", "payload", "links", "images", "client", "client_url"}
    wrong = [f"unknown {name}" for name in event.keys() - known]
    if event["event_action"] not in {"trigger", "acknowledge", "resolve"}:
        wrong.append("event_action")
    if not 0 < len(event["dedup_key"]) <= 255:
        wrong.append("dedup_key")
    if event["event_action"] != "trigger":
        return wrong
    if event["payload"].get("severity") not in {"critical", "error", "warning", "info"}:
        wrong.append("severity")
    more = {"severity", "component", "group", "class"}
    return wrong + _wrong_payload(event["payload"], more) + _wrong_links(event)


def _wrong_change(event: dict[str, Any]) -> list[str]:
    wrong = [f"unknown {name}" for name in event.keys() - {"routing_key", "payload", "links"}]
    return wrong + _wrong_payload(event["payload"], set()) + _wrong_links(event)


def _wrong_payload(payload: dict[str, Any], more: set[str]) -> list[str]:
    known = {"summary", "source", "timestamp", "custom_details"} | more
    wrong = [f"unknown {name}" for name in payload.keys() - known]
    if not payload["source"] or not 0 < len(payload["summary"]) <= 1_024:
        wrong.append("summary or source")
    if "timestamp" in payload and datetime.fromisoformat(payload["timestamp"]).tzinfo is None:
        wrong.append("timestamp")
    return wrong


def _wrong_links(event: dict[str, Any]) -> list[str]:
    return [
        f"link {link}" for link in event.get("links", ()) if {*link} != {"href", "text"} or not link["text"]
    ]
