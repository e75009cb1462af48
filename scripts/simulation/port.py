"""A model of Port: entities that change, webhooks that are lost, late or doubled, an API that fails."""

import asyncio
import base64
import hmac
import json
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from scripts.simulation.network import Reply, Sending
from scripts.simulation.world import Change, World

if TYPE_CHECKING:
    from scripts.simulation.kinds.kind import Kind

BLUEPRINT = "service"
SECRET = "port-client-secret"  # noqa: S105 - of no real Port
TEAMS = ("Rocket", "Star", "Nova")
ENTITIES = 6
STORM = 12

Post = Callable[[bytes, dict[str, str]], Awaitable[int | None]]
"""Sends a webhook; gives the status of the answer, None if there is none."""


class Port:
    """Port.

    Args:
        world: Is told what happened.
        post: Reaches the listener.
    """

    def __init__(self, world: World, post: Post) -> None:
        self._world = world
        self._post = post
        self._tasks: set[asyncio.Task[None]] = set()
        self._last: dict[str, Change] = {}
        for number in range(ENTITIES):
            name = f"service-{number}"
            self._change(name, name, TEAMS[number % len(TEAMS)], 10, "CREATE")

    async def live(self, until: float) -> None:
        """Let entities change until a time of the loop."""
        world = self._world
        random = world.chance.stream("changes")
        while True:
            await asyncio.sleep(random.expovariate(1 / 3))
            if world.loop.time() > until:
                return
            number = STORM if world.chance.strikes("storm") else 1
            for _ in range(number):
                # All is drawn before it is known whether it happens, so that muting one leaves the others.
                entity = f"service-{random.randrange(ENTITIES)}"
                well = random.random() < 0.4
                if world.chance.happens("change"):
                    self._happen(entity, 10 if well else 60)
                await asyncio.sleep(random.uniform(0.002, 0.2))  # of two within 1 ms nobody knows the order

    async def finish(self) -> None:
        """Wait for the webhooks that are on their way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _happen(self, entity: str, load: int) -> None:
        chance, before = self._world.chance, self._last[entity]
        name, team = before.name, before.team
        if before.action == "DELETE":
            self._change(entity, name, team, 10, "CREATE")
        elif chance.strikes("deleted"):
            self._change(entity, name, team, 0, "DELETE")
        else:
            if chance.strikes("team_moves"):
                team = chance.stream("team").choice(TEAMS)
            if chance.strikes("renamed"):
                name = f"{entity}x{len(self._world.changes)}"
            self._change(entity, name, team, load)
        self._send(before, self._last[entity])

    def _change(self, entity: str, name: str, team: str, load: int, action: str = "UPDATE") -> None:
        changes, at = self._world.changes, self._world.loop.time()
        serial, before = len(changes) + 1, self._last.get(entity)
        renames = before is not None and before.name != name
        change = Change(serial, entity, name, team, load + serial / 10_000, at, action, renames)
        changes[change.load] = self._last[entity] = change
        for kind in self._world.kinds:
            kind.changed(before, change)

    def _send(self, before: Change, after: Change) -> None:
        world, chance = self._world, self._world.chance
        world.say(f"Port: {after.action} {after.name} of {after.team} {before.load:g} -> {after.load:g}")
        if chance.strikes("port_lost"):
            world.say(f"Port: sends no webhook of {after.load:g}")
            return
        body = event_body(before, after, iso(world, after.at), world.kinds)
        late = chance.between("late", 5, 60) if chance.strikes("port_late") else 0.0
        delays = [chance.between("webhook", 0.01, 0.3) + late]
        if chance.strikes("port_twice"):
            delays.append(delays[0] + chance.between("twice", 0.0, 20))
        for delay in delays:
            self.start(self._deliver(after, body, delay))

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something that the end of the night waits for."""
        self._tasks.add(task := asyncio.ensure_future(work))
        task.add_done_callback(self._tasks.discard)

    async def _deliver(self, change: Change, body: bytes, delay: float) -> None:
        world = self._world
        await asyncio.sleep(delay)
        if change.sent_at is None:
            change.sent_at = world.loop.time()
        status = await self.send(body)
        world.say(f"Port: webhook of {change.load:g} answered {status}")
        if status not in (202, 503, None) and not (status == 401 and world.clock_was_off()):
            world.refused.append(f"the webhook of {change.shown} was answered {status}")
        if status == 202 and change.stored_at is None:
            change.stored_at = world.loop.time()

    async def send(self, body: bytes) -> int | None:
        """Send a webhook; give the status of the answer, None if there is none."""
        stamp = str(int(self._world.loop.wall().timestamp()))
        signature = hmac.digest(SECRET.encode(), stamp.encode() + b"." + body, "sha256")
        headers = {
            "x-port-timestamp": stamp,
            "x-port-signature": "v1," + base64.b64encode(signature).decode(),
        }
        return await self._post(body, headers)

    def serve(self, sending: Sending) -> Reply:
        """Answer a request to the API."""
        if (failure := self._failure()) is not None:
            self._world.port_away.append(self._world.loop.time())
            return failure
        path = sending.path.split("/")[2:]
        if answer := next(filter(None, (kind.answer(path) for kind in self._world.kinds)), None):
            return answer
        match path:
            case ["auth", "access_token"]:
                return Reply(200, {"ok": True, "accessToken": "token", "expiresIn": 10_800})
            case ["blueprints", _]:
                schema = {"properties": {"load": {"type": "number"}}}
                blueprint = {"identifier": path[1], "schema": schema, "relations": {}}
                return Reply(200, {"ok": True, "blueprint": blueprint})
            case ["blueprints", identifier, "entities", "search"] if identifier != BLUEPRINT:
                for kind in self._world.kinds:
                    if (entities := kind.entities(identifier)) is not None:
                        return Reply(200, {"ok": True, "entities": entities, "next": None})
            case ["blueprints", _, "entities", "search"]:
                listed = {name: last for name, last in sorted(self._last.items()) if last.action != "DELETE"}
                self._world.listings.append(
                    (self._world.loop.time(), {name: last.load for name, last in listed.items()})
                )
                entities = [self._entity(change) for change in listed.values()]
                return Reply(200, {"ok": True, "entities": entities, "next": None})
        return Reply(404, {"ok": False, "error": "not_found"})

    def _failure(self) -> Reply | None:
        chance = self._world.chance
        if chance.strikes("port_api_503"):
            return Reply(503, {"ok": False})
        if chance.strikes("port_api_429"):
            return Reply(429, {"ok": False}, {"x-ratelimit-reset": "2", "Retry-After": "2"})
        return Reply(None) if chance.strikes("port_api_hang") else None

    def _entity(self, change: Change) -> dict[str, Any]:
        return snapshot(change, self._world.kinds) | {"updatedAt": iso(self._world, change.at)}


def iso(world: World, at: float) -> str:
    """Give a time of the loop as Port writes it."""
    time = world.loop.wall() - timedelta(seconds=world.loop.time() - at)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def snapshot(change: Change, kinds: Iterable["Kind"] = ()) -> dict[str, Any]:
    """Build the entity as it was after a change."""
    entity: dict[str, Any] = {
        "identifier": change.name,
        "title": change.name,
        "blueprint": BLUEPRINT,
        "team": [change.team],
        "properties": {"load": change.load},
        "relations": {},
    }
    for kind in kinds:
        for name, values in kind.snapshot(change).items():
            entity[name] = {**entity[name], **values}
    return entity


def event_body(before: Change, after: Change, at: str, kinds: Iterable["Kind"] = ()) -> bytes:
    """Build the body of a change's webhook, which happened `at` a time as Port writes it."""
    event = {
        "action": after.action,
        "resourceType": "entity",
        "trigger": {"by": {"userId": "u1"}, "origin": "UI", "at": at},
        "context": {"blueprintIdentifier": BLUEPRINT, "entityIdentifier": after.name},
        "diff": {
            "before": None if after.action == "CREATE" else snapshot(before, kinds),
            "after": None if after.action == "DELETE" else snapshot(after, kinds),
        },
    }
    return json.dumps({"event": event}, separators=(",", ":")).encode()
