"""A fake Slack workspace for the demo: the Web API, and a page on which people click."""

import itertools
import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from app.clicks.signature import SLACK_SIGNATURE_HEADER, SLACK_TIMESTAMP_HEADER, sign_for_slack
from app.demo.channel_page import channels_page
from app.network import DIRECT

DEMO_TEAM, VISITOR = "T0DEMO0000", {"id": "U1ADA", "name": "ada"}
CHANNELS = {"alerts": "C0DEMO0000", "team-payments": "C0DEMO0001"}
"""Their IDs by their names."""
NAMES = {id_: name for name, id_ in CHANNELS.items()}
MOST_ALONE = 3
FIXED_ANSWERS: dict[str, dict[str, Any]] = {
    "auth.test": {"team_id": DEMO_TEAM, "team": "Demo", "user_id": "U0BOT"},
    "conversations.list": {
        "channels": [{"id": id_, "name": name, "is_member": True} for name, id_ in CHANNELS.items()]
    },
}


class StandInWorkspace:
    """Takes messages by a bot token, and sends what is clicked on its page to the listener, signed.

    Args:
        secret: The signing secret.
        on_message: Called with each message that is posted.

    Attributes:
        url: Its own address, set by the code that serves it.
        listener: The listener's address, set by the code that serves that.
        messages: What stands in the channels and their threads, in order; `channel` is the ID.
        alone: What the visitor was told for themselves alone.
        app: The web application.
    """

    def __init__(self, secret: str, on_message: Callable[[dict[str, Any]], None] = lambda _: None) -> None:
        self.url = self.listener = ""
        self.messages: list[dict[str, Any]] = []
        self.alone: list[str] = []
        self._secret, self._on_message = secret, on_message
        self._form: dict[str, Any] | None = None
        self._numbers = itertools.count(1)
        self.app = Starlette(
            routes=[
                Route("/api/{method}", self._call, methods=["GET", "POST"]),
                Route("/respond", self._respond, methods=["POST"]),
                Route("/", self._page),
                Route("/archives/{channel}/{message}", self._find),
                Route("/click", self._click, methods=["POST"]),
                Route("/submit", self._submit, methods=["POST"]),
                Route("/cancel", self._cancel, methods=["POST"]),
            ]
        )

    async def _call(self, request: Request) -> Response:
        given = dict(request.query_params) if request.method == "GET" else await request.json()
        answer = self._answer(request.path_params["method"], given)
        return JSONResponse(answer if "error" in answer else {"ok": True, **answer})

    def _answer(self, method: str, given: Mapping[str, Any]) -> dict[str, Any]:
        if method in FIXED_ANSWERS:
            return FIXED_ANSWERS[method]
        match method:
            case "chat.postMessage":
                return self._post(given)
            case "chat.getPermalink":
                place = f"{self.url}/archives/{given['channel']}"
                return {"permalink": f"{place}/p{given['message_ts'].replace('.', '')}"}
            case "chat.update":
                return self._update(given)
            case "views.open":
                self._form = dict(given["view"])
                return {"view": {"id": "V1"}}
            case "conversations.history" | "conversations.replies":
                channel = given["channel"]
                return {
                    "messages": [message for message in self.messages[::-1] if message["channel"] == channel]
                }
            case "conversations.info" if given["channel"] in NAMES:
                return {
                    "channel": {"id": given["channel"], "name": NAMES[given["channel"]], "is_member": True}
                }
        return {"ok": False, "error": "unknown_method"}

    def _post(self, given: Mapping[str, Any]) -> dict[str, Any]:
        channel = CHANNELS.get(given["channel"].lstrip("#"), given["channel"])
        if channel not in NAMES:
            return {"ok": False, "error": "channel_not_found"}
        message = {**given, "channel": channel, "ts": f"{time.time():.6f}"}
        self.messages.append(message)
        self._on_message(message)
        return {"channel": channel, "ts": message["ts"], "message": message}

    def _update(self, given: Mapping[str, Any]) -> dict[str, Any]:
        found = [message for message in self.messages if message["ts"] == given["ts"]]
        if not found:
            return {"ok": False, "error": "message_not_found"}
        (message,) = found
        message.pop("blocks", None)
        message.update(given)
        return {"channel": message["channel"], "ts": message["ts"], "message": message}

    async def _respond(self, request: Request) -> Response:
        self.alone = [*self.alone, (await request.json())["text"]][-MOST_ALONE:]
        return Response()

    async def _page(self, _: Request) -> Response:
        return HTMLResponse(channels_page(NAMES, self.messages, self.alone, self._form))

    async def _find(self, request: Request) -> Response:
        return RedirectResponse(f"/#{request.path_params['message']}")

    async def _click(self, request: Request) -> Response:
        form = await request.form()
        action: dict[str, Any] = {"action_id": form["action_id"], "block_id": form["block_id"]}
        if value := form.get("value"):
            action["selected_option"] = {"value": value}
        channel = next(message["channel"] for message in self.messages if message["ts"] == form["ts"])
        return await self._send(
            {
                "type": "block_actions",
                "channel": {"id": channel, "name": NAMES[channel]},
                "container": {"type": "message", "message_ts": form["ts"], "channel_id": channel},
                "response_url": f"{self.url}/respond",
                "actions": [action],
            }
        )

    async def _submit(self, request: Request) -> Response:
        form = await request.form()
        values = {name: {name: {"value": str(text)}} for name, text in form.items()}
        view = {**(self._form or {}), "id": "V1", "state": {"values": values}}
        return await self._send({"type": "view_submission", "view": view})

    async def _cancel(self, _: Request) -> Response:
        self._form = None
        return RedirectResponse("/", 303)

    async def _send(self, payload: Mapping[str, Any]) -> Response:
        """Send a payload to the listener, as Slack does, and show the page again."""
        user = VISITOR | {"team_id": DEMO_TEAM}
        whole = {"user": user, "trigger_id": f"{time.time_ns()}.{next(self._numbers)}", **payload}
        body = urlencode({"payload": json.dumps(whole)}).encode()
        timestamp = str(int(datetime.now(UTC).timestamp()))
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            SLACK_TIMESTAMP_HEADER: timestamp,
            SLACK_SIGNATURE_HEADER: sign_for_slack(body, timestamp, self._secret),
        }
        address = f"{self.listener}/api/slack/interactive"
        async with httpx.AsyncClient(**DIRECT.httpx(address)) as client:
            answer = await client.post(address, content=body, headers=headers)
        if payload["type"] == "view_submission":
            errors = answer.json().get("errors") if answer.content else None
            self._form = {**(self._form or {}), "errors": errors} if errors else None
        if answer.status_code != 200:
            self.alone = [*self.alone, f"Slack says: the click failed ({answer.status_code})."][-MOST_ALONE:]
        return RedirectResponse("/", 303)
