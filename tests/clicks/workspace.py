"""A stand-in workspace: Slack's Web API, its Socket Mode, and people who click.

Rules: https://docs.slack.dev/apis/events-api/using-socket-mode
"""

import asyncio
import itertools
import json
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiohttp import web
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.demo.run import serving
from tests.notifier.slack.stand_in_api import StandInSlackApi
from tests.notifier.slack.stand_in_channel import Message, Refused
from tests.waiting import until

APP_TOKEN = "xapp-1-very-secret-app-token"
TEAM = "T1"
ANSWER_SECONDS = 3.0


class Workspace(StandInSlackApi):
    """Does what Slack does when people click.

    Attributes:
        sockets: The connections that are open.
        opened: How many connections were asked for.
        refusal: The word with which it refuses a connection; empty: it does not.
        dead: New connections say hello, and then nothing more, not even a pong or a close.
        copies: How often each envelope is sent, each copy over any of the connections.
        told: What people were told for themselves alone: each answer to a click.
        forms: The forms that were opened.
        groups: The people in each user group, by its handle.
    """

    def __init__(self, *channels: str, **options: Any) -> None:
        super().__init__(*channels, **options)
        self.sockets: list[web.WebSocketResponse] = []
        self.opened = 0
        self.refusal = ""
        self.dead = False
        self.copies = 1
        self.told: list[dict[str, Any]] = []
        self.forms: list[dict[str, Any]] = []
        self.groups: dict[str, list[str]] = {}
        self.app_token = APP_TOKEN
        self._link = ""
        self._ids = itertools.count(1)
        self._answers: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._methods |= {
            "apps.connections.open": self._open,
            "views.open": self._form,
            "usergroups.list": self._list_groups,
            "usergroups.users.list": self._members,
        }
        self.app.router.routes.append(Route("/respond", self._respond, methods=["POST"]))

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["Workspace"]:
        """Serve it on loopback."""
        linked = web.Application()
        linked.router.add_get("/link", self._socket)
        runner = web.AppRunner(linked, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self._link = f"ws://127.0.0.1:{runner.addresses[0][1]}/link"
        async with serving(self.app) as address:
            self.url = f"{address}/api/"
            try:
                yield self
            finally:
                await self.close()
                await runner.cleanup()

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(socket.close() for socket in self.sockets))

    async def say(self, message: Mapping[str, Any]) -> None:
        """Send a message over every connection."""
        for socket in list(self.sockets):
            await socket.send_str(json.dumps(message))

    async def send(
        self, payload: Mapping[str, Any], *, within: float = ANSWER_SECONDS, **more: Any
    ) -> dict[str, Any] | None:
        """Send a payload in an envelope; the result is the acknowledgement, None: none came in time."""
        envelope_id = f"envelope-{next(self._ids)}"
        envelope = {"type": "interactive", "envelope_id": envelope_id, "payload": payload} | more
        answer = self._answers[envelope_id] = asyncio.get_running_loop().create_future()
        for _ in range(self.copies):
            await until(lambda: bool(self.sockets))
            with suppress(ConnectionError):  # it is about to be closed: what is sent over it is lost
                await random.choice(self.sockets).send_str(json.dumps(envelope))
        try:
            async with asyncio.timeout(within):
                acknowledgement: dict[str, Any] = await answer
                return acknowledgement
        except TimeoutError:
            return None

    def payload(
        self, message: Message, action_id: str, *, channel: str, by: str = "U7", value: str = "", **more: Any
    ) -> dict[str, Any]:
        """Make the payload of a click on an element of a message.

        Args:
            message: The message.
            action_id: The element's.
            channel: The channel's id.
            by: The person's id.
            value: What is chosen from a menu.
            more: What is different.
        """
        block, element = next(
            (block, element)
            for block in blocks_of(message)
            if block["type"] == "actions"
            for element in block["elements"]
            if element["action_id"] == action_id
        )
        action = {"action_id": action_id, "block_id": block["block_id"], "type": element["type"]}
        if value:
            (option,) = [option for option in element["options"] if option["value"] == value]
            action["selected_option"] = option
        number = next(self._ids)
        return {
            "type": "block_actions",
            "user": {
                "id": by,
                "username": f"user-{by.lower()}",
                "name": f"user-{by.lower()}",
                "team_id": TEAM,
            },
            "team": {"id": TEAM, "domain": "example"},
            "trigger_id": f"{number}.{number}.trigger",
            "response_url": self.url.replace("/api/", "/respond"),
            "channel": {"id": channel, "name": "oncall"},
            "container": {"type": "message", "message_ts": message["ts"], "channel_id": channel},
            "message": message,
            "actions": [action],
        } | more

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(autoping=not self.dead, autoclose=not self.dead, timeout=0.1)
        await socket.prepare(request)
        self.sockets.append(socket)
        await socket.send_json({"type": "hello", "num_connections": len(self.sockets)})
        try:
            async for message in socket:
                if message.type is web.WSMsgType.TEXT:
                    answer = message.json()
                    waiting = self._answers.get(answer["envelope_id"])
                    if waiting and not waiting.done():
                        waiting.set_result(answer)
        finally:
            self.sockets.remove(socket)
        if self.dead:
            await asyncio.sleep(1)  # it does not answer a close, either
        return socket

    async def _respond(self, request: Request) -> Response:
        self.told.append(await request.json())
        return Response()

    def _open(self, _: Mapping[str, Any]) -> dict[str, Any]:
        self.opened += 1
        if self.refusal:
            raise Refused(self.refusal)
        return {"url": f"{self._link}?ticket={self.opened}"}

    def _form(self, given: Mapping[str, Any]) -> dict[str, Any]:
        self.forms.append(dict(given["view"]))
        return {"view": {"id": f"V{len(self.forms)}"}}

    def _list_groups(self, _: Mapping[str, Any]) -> dict[str, Any]:
        self._needs("usergroups:read")
        return {"usergroups": [{"id": f"S{handle.upper()}", "handle": handle} for handle in self.groups]}

    def _members(self, given: Mapping[str, Any]) -> dict[str, Any]:
        self._needs("usergroups:read")
        handle = given["usergroup"].removeprefix("S").lower()
        if handle not in self.groups:
            raise Refused("no_such_subteam")
        return {"users": self.groups[handle]}


def blocks_of(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return all blocks of a message, those of its attachments too."""
    attached = [block for part in message.get("attachments") or () for block in part.get("blocks") or ()]
    return [*(message.get("blocks") or ()), *attached]
