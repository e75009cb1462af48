"""A stand-in for Slack's Web API: channels that hold messages, threads, metadata, scopes, limits.

Rules: https://docs.slack.dev/reference/methods (arguments, errors), https://docs.slack.dev/apis/web-api/rate-limits
"""

import itertools
import json
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tests.notifier.slack.stand_in_channel import (
    Channel,
    Message,
    Refused,
    checked,
    in_channel,
    in_time,
    is_true,
    page,
    seen,
)
from tests.notifier.slack.stand_in_people import PEOPLE_SCOPES, People

TOKEN = "xoxb-very-secret-token"
SCOPES = frozenset(
    {"chat:write", "channels:history", "groups:history", "channels:read", "groups:read"}
    | {"chat:write.public"}
    | PEOPLE_SCOPES
)

Answer = Response | Callable[[], Awaitable[Response]]


class HangUp(Response):
    """An answer of which only the beginning arrives."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's
        """Begin, and let the server close the connection."""
        headers = [(b"content-type", b"application/json"), (b"content-length", b"100")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"ok"', "more_body": True})


class StandInSlackApi:
    """Does what Slack's Web API does.

    Attributes:
        url: The API's address, once it is served: set it to ``{address}/api/``.
        channels: By ID.
        people: Who is there.
        scopes: What the token may do.
        calls: Each call that had the right token: the method and what it was given.
        answers: What to answer next instead, by method.
        on_stored: Called with each message that was posted, before that is answered; a response that it
            gives is the answer.
        one_a_second: Take one message a second in each channel, and refuse what comes sooner.
        refused: How many came sooner.
        faults: What was wrong with messages that Slack would not have taken as they were meant.
        unthread: Post a reply to the channel where the message it replies to was deleted, as Slack does;
            else refuse it.
        app: The web application.
    """

    def __init__(
        self,
        *channels: str,
        scopes: frozenset[str] = SCOPES,
        one_a_second: bool = False,
        unthread: bool = True,
    ) -> None:
        self.url = ""
        self.token, self.app_token = TOKEN, ""
        self.channels: dict[str, Channel] = {}
        self.scopes = scopes
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.answers: defaultdict[str, deque[Answer]] = defaultdict(deque)
        self.on_stored: Callable[[Message], Awaitable[Response | None]] | None = None
        self.one_a_second = one_a_second
        self.refused = 0
        self.faults: list[str] = []
        self.unthread = unthread
        self._numbers = itertools.count(1)
        self._last_ts = 0
        self._methods = {
            "auth.test": self._auth_test,
            "chat.getPermalink": self._permalink,
            "chat.postMessage": self._post,
            "chat.update": self._update,
            "conversations.history": self._history,
            "conversations.info": self._info,
            "conversations.list": self._list,
            "conversations.replies": self._replies,
        }
        self.people = People(self.channels, self._needs)
        self._methods |= self.people.methods
        self.app = Starlette(routes=[Route("/api/{method}", self._call, methods=["GET", "POST"])])
        for name in channels:
            self.add(name)

    def add(self, name: str, **facts: Any) -> Channel:
        """Make a channel, in which the app is unless `facts` say otherwise."""
        channel = Channel(f"C{next(self._numbers):010d}", name, **facts)
        self.channels[channel.id] = channel
        return channel

    def channel(self, name_or_id: str) -> Channel:
        """Return a channel by its ID or its name."""
        found = self.channels.get(name_or_id)
        name = name_or_id.removeprefix("#")
        found = found or next((one for one in self.channels.values() if one.name == name), None)
        if found is None or (found.private and not found.member):
            raise Refused("channel_not_found")
        return found

    def messages(self, channel: str) -> list[Message]:
        """Return what stands in a channel, broadcast replies too, in order."""
        return [one for one in self.channel(channel).posted if in_channel(one)]

    def thread(self, channel: str, ts: str) -> list[Message]:
        """Return the replies to a message, in order."""
        posted = self.channel(channel).posted
        return [one for one in posted if one.get("thread_ts") == ts and one["ts"] != ts]

    def delete(self, channel: str, ts: str) -> None:
        """Delete a message, as somebody may do in Slack."""
        where = self.channel(channel)
        where.posted = [one for one in where.posted if one["ts"] != ts]

    def refuse(self, method: str, error: str, **more: Any) -> None:
        """Let the next call of a method be answered with an error."""
        self.answers[method].append(JSONResponse({"ok": False, "error": error, **more}))

    async def _call(self, request: Request) -> Response:
        method = request.path_params["method"]
        given = await _given(request)
        token = request.headers.get("authorization", "").removeprefix("Bearer ") or given.pop("token", "")
        if not token:
            return JSONResponse({"ok": False, "error": "not_authed"})
        if token not in {self.token, self.app_token}:
            return JSONResponse({"ok": False, "error": "invalid_auth"})
        self.calls.append((method, given))
        if self.answers[method]:
            answer = self.answers[method].popleft()
            return answer if isinstance(answer, Response) else await answer()
        try:
            if method not in self._methods:
                raise Refused("unknown_method", req_method=method)  # noqa: TRY301 - one place answers
            answered = self._methods[method](given)
        except Refused as refused:
            status, headers = (429, {"Retry-After": "1"}) if "ratelimited" in str(refused) else (200, {})
            return JSONResponse(refused.answer, status, headers)
        except AssertionError as fault:
            self.faults.append(str(fault))
            raise
        if method == "chat.postMessage" and self.on_stored:
            instead = await self.on_stored(answered["message"])
            if instead is not None:
                return instead
        headers = {"x-oauth-scopes": ",".join(sorted(self.scopes))}
        return JSONResponse({"ok": True, **answered}, headers=headers)

    def _needs(self, scope: str) -> None:
        if scope not in self.scopes:
            raise Refused("missing_scope", needed=scope, provided=",".join(sorted(self.scopes)))

    def _auth_test(self, _: Mapping[str, Any]) -> dict[str, Any]:
        who = {"user": "alerts", "user_id": "U1", "bot_id": "B1"}
        return {"url": "https://example.slack.com/", "team": "Example", "team_id": "T1", **who}

    def _post(self, given: Mapping[str, Any]) -> dict[str, Any]:
        self._needs("chat:write")
        channel = self.channel(given.get("channel", ""))
        if channel.archived:
            raise Refused("is_archived")
        if not channel.member and "chat:write.public" not in self.scopes:
            raise Refused("not_in_channel")
        message = checked(given)
        parent_ts = given.get("thread_ts")
        if parent_ts and channel.of(parent_ts) is None:
            if not self.unthread:
                raise Refused("thread_not_found")
            parent_ts = None
        now = time.monotonic()
        if self.one_a_second and now < channel.last_at + 1:
            self.refused += 1
            raise Refused("ratelimited")
        channel.last_at = now
        message |= {"type": "message", "subtype": "bot_message", "bot_id": "B1", "ts": self._new_ts()}
        if parent_ts:
            parent = channel.of(parent_ts)
            assert parent is not None
            parent["thread_ts"] = message["thread_ts"] = parent_ts
            if is_true(given.get("reply_broadcast")):
                message["subtype"] = "thread_broadcast"
        channel.posted.append(message)
        return {"channel": channel.id, "ts": message["ts"], "message": message}

    def _update(self, given: Mapping[str, Any]) -> dict[str, Any]:
        self._needs("chat:write")
        channel = self.channels.get(given.get("channel", ""))  # a name will not do
        if channel is None:
            raise Refused("channel_not_found")
        if channel.archived:
            raise Refused("is_inactive")
        message = channel.of(given.get("ts", ""))
        if message is None:
            raise Refused("message_not_found")
        new = checked(given)
        # What is not given stays as it was, but for blocks where there is a text.
        kept = {key: value for key, value in message.items() if key != "blocks"}
        message.clear()
        message.update(kept | new | {"edited": {"user": "U1", "ts": self._new_ts()}})
        return {"channel": channel.id, "ts": message["ts"], "text": message["text"], "message": message}

    def _permalink(self, given: Mapping[str, Any]) -> dict[str, Any]:
        channel = self.channels.get(given.get("channel", ""))  # a name will not do
        if channel is None:
            raise Refused("channel_not_found")
        ts = given.get("message_ts", "")
        if channel.of(ts) is None:
            raise Refused("message_not_found")
        link = f"https://example.slack.com/archives/{channel.id}/p{ts.replace('.', '')}"
        return {"channel": channel.id, "permalink": link}

    def _readable(self, given: Mapping[str, Any]) -> Channel:
        channel = self.channels.get(given.get("channel", ""))
        if channel is None or (channel.private and not channel.member):
            raise Refused("channel_not_found")
        self._needs(channel.scope("history"))
        if not channel.member:
            raise Refused("not_in_channel")
        return channel

    def _history(self, given: Mapping[str, Any]) -> dict[str, Any]:
        posted = [one for one in self._readable(given).posted if in_channel(one) and in_time(one, given)]
        messages, more = page(posted[::-1], given, default=100, most=999)
        return {"messages": [seen(one, given) for one in messages], **more}

    def _replies(self, given: Mapping[str, Any]) -> dict[str, Any]:
        channel = self._readable(given)
        parent = channel.of(given.get("ts", ""))
        if parent is None:
            raise Refused("thread_not_found")
        replies = [one for one in self.thread(channel.id, parent["ts"]) if in_time(one, given)]
        messages, more = page([parent, *replies], given, default=1000, most=1000)
        return {"messages": [seen(one, given) for one in messages], **more}

    def _info(self, given: Mapping[str, Any]) -> dict[str, Any]:
        channel = self.channels.get(given.get("channel", ""))
        if channel is None or (channel.private and not channel.member):
            raise Refused("channel_not_found")
        self._needs(channel.scope("read"))
        return {"channel": _described(channel) | {"previous_names": channel.previous_names}}

    def _list(self, given: Mapping[str, Any]) -> dict[str, Any]:
        types = given.get("types", "public_channel").split(",")
        for kind, scope in (("public_channel", "channels:read"), ("private_channel", "groups:read")):
            if kind in types:
                self._needs(scope)
        listed = [
            _described(one)
            for one in self.channels.values()
            if ("private_channel" if one.private else "public_channel") in types
            and (one.member or not one.private)
            and not (one.archived and is_true(given.get("exclude_archived")))
        ]
        channels, more = page(listed, given, default=100, most=1000)
        return {"channels": channels, **more}

    def _new_ts(self) -> str:
        self._last_ts = max(self._last_ts + 1, time.time_ns() // 1_000)
        return f"{self._last_ts // 1_000_000}.{self._last_ts % 1_000_000:06d}"


def _described(channel: Channel) -> dict[str, Any]:
    facts = {"is_private": channel.private, "is_archived": channel.archived, "is_member": channel.member}
    return {"id": channel.id, "name": channel.name, "is_channel": True, **facts}


async def _given(request: Request) -> dict[str, Any]:
    if request.headers.get("content-type", "").startswith("application/json"):
        given: dict[str, Any] = await request.json()
        return given
    form = {**request.query_params, **dict(parse_qsl((await request.body()).decode()))}
    in_json = ("blocks", "attachments", "metadata")
    return {key: json.loads(value) if key in in_json else value for key, value in form.items()}
