"""The part of the stand-in Port that carries out automations: it calls webhooks as Port does."""

import asyncio
import json
import re
from collections.abc import Sequence
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

import httpx

from app.receive.signature import SIGNATURE_HEADER, TIMESTAMP_HEADER, sign
from tests.conftest import NO_TLS

Json = dict[str, Any]


class Automations:
    """Calls the webhooks of published automations, one after the other, signed.

    Args:
        secret: The organization's client secret.

    Attributes:
        deliveries: The URL and status (None: no answer) of each call.
        runs: The automations' runs, by their ids, with what they were told.
    """

    def __init__(self, secret: str) -> None:
        self.deliveries: list[tuple[str, int | None]] = []
        self.runs: dict[str, Json] = {}
        self._secret = secret
        self._calls: list[asyncio.Task[None]] = []

    async def settled(self) -> None:
        """Wait until all webhooks are called."""
        while waiting := [task for task in self._calls if not task.done()]:
            await asyncio.gather(*waiting)

    def start(self, *, synchronized: bool = False) -> str:
        """Let a run begin, and return its id."""
        name = f"r_{len(self.runs)}"
        self.runs[name] = {"status": "IN_PROGRESS", "synchronized": synchronized, "logs": []}
        return name

    def fire(self, actions: Sequence[Json], event: Json) -> None:
        """Call, in the background, what is to be called when an entity has changed.

        Args:
            actions: All actions that Port has.
            event: What happened, as `event` has it.
        """
        context = event["context"]
        wanted = {"ANY_ENTITY_CHANGE", f"ENTITY_{event['action']}D"}
        for one in actions:
            watched = one["trigger"].get("event", {})
            if (
                one.get("publish")
                and watched.get("type") in wanted
                and watched["blueprintIdentifier"] == context["blueprintIdentifier"]
            ):
                earlier = self._calls[-1] if self._calls else None
                call = self._call(one["invocationMethod"], deepcopy(event), earlier)
                self._calls.append(asyncio.create_task(call))

    @staticmethod
    def event(key: tuple[str, str], before: Json | None, after: Json | None) -> Json | None:
        """Return what happened to an entity; None: nothing.

        Args:
            key: The blueprint and the entity.
            before: The entity before.
            after: The entity after.
        """
        if before and after and _content(before) == _content(after):
            return None
        return {
            "action": "CREATE" if before is None else "DELETE" if after is None else "UPDATE",
            "resourceType": "entity",
            "trigger": {"by": {"orgId": "org_1", "userId": "auth0|u1"}, "origin": "API", "at": now()},
            "context": {
                "blueprintIdentifier": key[0],
                "entityIdentifier": key[1],
                "propertyIdentifier": None,
            },
            "diff": {"before": before, "after": after},
        }

    async def _call(self, method: Json, event: Json, earlier: asyncio.Task[None] | None) -> None:
        if earlier:
            await asyncio.wait([earlier])
        envelope: Json = {
            "event": event,
            "trigger": {"by": {"user": {"email": "ada@example.com"}}, "at": now()},
            "run": {"id": self.start(synchronized=method.get("synchronized", True))},
        }
        run = self.runs[envelope["run"]["id"]]
        filled = _filled(method["body"], envelope)
        body = json.dumps(filled, ensure_ascii=False, separators=(",", ":")).encode()
        timestamp = str(int(datetime.now(UTC).timestamp()))
        headers = _filled(method.get("headers", {}), envelope) | {
            SIGNATURE_HEADER: sign(body, timestamp, self._secret),
            TIMESTAMP_HEADER: timestamp,
        }
        try:
            async with httpx.AsyncClient(verify=NO_TLS) as client:
                verb = method.get("method", "POST")
                answer = await client.request(verb, method["url"], content=body, headers=headers)
            status: int | None = answer.status_code
        except httpx.HTTPError:
            status = None
        self.deliveries.append((method["url"], status))
        if run["synchronized"]:
            run["status"] = "SUCCESS" if status in range(200, 300) else "FAILURE"


def now() -> str:
    """Return the time as Port writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _content(entity: Json) -> Json:
    return {key: value for key, value in entity.items() if not key.startswith(("updated", "created"))}


def _filled(template: Any, envelope: Json) -> Any:
    """Fill in ``{{ .path.to.a.value }}``; that is all of jq that our automations use."""
    if isinstance(template, dict):
        return {key: _filled(value, envelope) for key, value in template.items()}
    if isinstance(template, str) and (match := re.fullmatch(r"\{\{ *\.([\w.]+) *\}\}", template)):
        value: Any = envelope
        for name in match[1].split("."):
            value = value[name]
        return value
    return template
