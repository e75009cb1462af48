"""A stand-in for Port's API, for tests: a real server on loopback that keeps state and can be made to fail.

It answers as Port's API description and docs say, and where they leave a thing open, in the harsher way.
"""

import json
from base64 import b64decode, b64encode
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from app.demo.run import serving
from tests.port.stand_in_automations import Automations, now

Json = dict[str, Any]

CLIENT_ID = "stand-in-client-id"
CLIENT_SECRET = "stand-in-client-secret-0815"
TRACE_ID = "trace-4711"
LOGIN = "/v1/auth/access_token"
NAMES = {
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    409: "identifier_taken",
    422: "invalid_request",
}


@dataclass(frozen=True)
class Recorded:
    """A request as it arrived; `path` is as it was sent, quoted."""

    method: str
    path: str
    query: dict[str, str]
    body: Any


def refusal(status: int, message: str = "because the test wants it", **headers: str) -> Response:
    """Return an answer as Port gives it when it refuses."""
    body = {"ok": False, "error": NAMES.get(status, "error"), "message": message}
    return JSONResponse(body, status, {"x-trace-id": TRACE_ID} | headers)


class StandInPort:
    """Keeps blueprints, entities and actions as Port does.

    Attributes:
        url: The API's address, once it is served.
        blueprints: By identifier.
        entities: By blueprint and identifier.
        actions: By identifier.
        runs: Those of self-service actions that were started, in order.
        requests: All requests, in order.
        scripted: What to answer next instead of doing what is asked, by method and path as it is sent.
        token: The only token that is good; the same until `expire_token`.
        expires_in: For how many seconds Port says it is good.
        before_answer: Awaited before each answer: one that never ends is a Port that does not answer.
        patch_merges: Whether a PATCH of a blueprint merges inside a top-level field. Not documented.
        lingering: How many times a blueprint's deletion still sees entities that are gone.
        call_webhooks: Whether published automations are carried out.
        automations: What carries them out; its `deliveries` are the calls that were made.
    """

    def __init__(self, *, call_webhooks: bool = False) -> None:
        self.url = ""
        self.blueprints: dict[str, Json] = {}
        self.entities: dict[tuple[str, str], Json] = {}
        self.actions: dict[str, Json] = {}
        self.runs: list[Json] = []
        self.requests: list[Recorded] = []
        self.scripted: dict[tuple[str, str], deque[Response]] = {}
        self.token = "stand-in-token-1"
        self.expires_in: Any = 10800
        self.before_answer: Callable[[], Awaitable[Any]] | None = None
        self.patch_merges = False
        self.lingering = 0
        self.call_webhooks = call_webhooks
        self.automations = Automations(CLIENT_SECRET)
        blueprint, entity = "/v1/blueprints/{blueprint}", "/v1/blueprints/{blueprint}/entities/{entity}"
        self.app = Starlette(
            middleware=[Middleware(_QuotedPaths)],
            routes=[
                self._route("POST", LOGIN, self._log_in),
                self._route("GET", "/v1/blueprints", self._list_blueprints),
                self._route("POST", "/v1/blueprints", self._create_blueprint),
                self._route("GET", blueprint, self._get_blueprint),
                self._route("PATCH", blueprint, self._patch_blueprint),
                self._route("DELETE", blueprint, self._delete_blueprint),
                self._route("POST", f"{blueprint}/entities", self._create_entity),
                self._route("POST", f"{blueprint}/entities/search", self._search),
                self._route("GET", entity, self._get_entity),
                self._route("PATCH", entity, self._patch_entity),
                self._route("DELETE", entity, self._delete_entity),
                self._route("GET", "/v1/actions", self._list_actions),
                self._route("POST", "/v1/actions", self._create_action),
                self._route("GET", "/v1/actions/{action}", self._get_action),
                self._route("PUT", "/v1/actions/{action}", self._put_action),
                self._route("DELETE", "/v1/actions/{action}", self._delete_action),
                self._route("POST", "/v1/actions/{action}/runs", self._start_run),
                self._route("PATCH", "/v1/actions/runs/{run}", self._patch_run),
                self._route("POST", "/v1/actions/runs/{run}/logs", self._log_run),
            ],
        )

    @property
    def writes(self) -> list[Recorded]:
        """The requests that change something, or try to."""
        reads = (LOGIN, "/search")
        return [one for one in self.requests if one.method != "GET" and not one.path.endswith(reads)]

    def script(self, method: str, path: str, *answers: Response) -> None:
        """Answer the next requests to one route so."""
        self.scripted.setdefault((method, path), deque()).extend(answers)

    def expire_token(self) -> None:
        """Make the token that clients have a bad one."""
        self.token = f"stand-in-token-{int(self.token.rpartition('-')[2]) + 1}"

    def _route(self, method: str, path: str, do: Callable[[Request, Any], Response]) -> Route:
        async def endpoint(request: Request) -> Response:
            raw = await request.body()
            body = json.loads(raw) if raw else None
            sent = request.url.path
            request.scope["path_params"] = {key: unquote(one) for key, one in request.path_params.items()}
            self.requests.append(Recorded(request.method, sent, dict(request.query_params), body))
            if self.before_answer is not None:
                await self.before_answer()
            if scripted := self.scripted.get((request.method, sent)):
                return scripted.popleft()
            if sent != LOGIN and request.headers.get("authorization") != f"Bearer {self.token}":
                return refusal(401, "the token is not valid")
            return do(request, body)

        return Route(path, endpoint, methods=[method])

    def _log_in(self, _: Request, body: Any) -> Response:
        if body != {"clientId": CLIENT_ID, "clientSecret": CLIENT_SECRET}:
            return refusal(401, f"wrong client id or secret: {body.get('clientSecret')}")
        return JSONResponse(
            {"ok": True, "accessToken": self.token, "expiresIn": self.expires_in, "tokenType": "Bearer"}
        )

    def _list_blueprints(self, *_: Any) -> Response:
        return JSONResponse({"ok": True, "blueprints": [*self.blueprints.values()]})

    def _create_blueprint(self, _: Request, body: Any) -> Response:
        if body["identifier"] in self.blueprints:
            return refusal(409, "a blueprint of this identifier exists")
        defaults: Json = {"relations": {}, "mirrorProperties": {}, "calculationProperties": {}}
        self.blueprints[body["identifier"]] = defaults | body | _stamps()
        return JSONResponse({"ok": True, "blueprint": self.blueprints[body["identifier"]]}, 201)

    def _get_blueprint(self, request: Request, _: Any) -> Response:
        found = self.blueprints.get(request.path_params["blueprint"])
        return JSONResponse({"ok": True, "blueprint": found}) if found else refusal(404, "no such blueprint")

    def _patch_blueprint(self, request: Request, body: Any) -> Response:
        name = request.path_params["blueprint"]
        if name not in self.blueprints:
            return refusal(404, "no such blueprint")
        if not body.get("changelogDestination", True):
            return refusal(422, "changelogDestination must be an object")
        old = self.blueprints[name]
        new = _deep(old, body) if self.patch_merges else old | body
        self.blueprints[name] = new | {"updatedAt": now()}
        return JSONResponse({"ok": True, "blueprint": self.blueprints[name]})

    def _delete_blueprint(self, request: Request, _: Any) -> Response:
        name = request.path_params["blueprint"]
        if name not in self.blueprints:
            return refusal(404, "no such blueprint")
        if self.lingering or any(blueprint == name for blueprint, _ in self.entities):
            self.lingering = max(self.lingering - 1, 0)
            return refusal(422, "the blueprint has entities")
        del self.blueprints[name]
        return JSONResponse({"ok": True})

    def _create_entity(self, request: Request, body: Any) -> Response:
        blueprint = request.path_params["blueprint"]
        if blueprint not in self.blueprints:
            return refusal(404, "no such blueprint")
        key = (blueprint, body["identifier"])
        old = self.entities.get(key)
        if old and request.query_params.get("upsert") != "true":
            return refusal(409, "an entity of this identifier exists")
        if old and request.query_params.get("merge") == "true":
            body = old | body | {"properties": old["properties"] | body.get("properties", {})}
        properties = self.blueprints[blueprint]["schema"]["properties"]
        defaults = (
            {} if old else {name: one["default"] for name, one in properties.items() if "default" in one}
        )
        new: Json = {"title": None, "team": [], "relations": {}} | body | _stamps(old)
        new |= {"blueprint": blueprint, "properties": defaults | body.get("properties", {})}
        self._change(key, new)
        return JSONResponse({"ok": True, "entity": new}, 201)

    def _get_entity(self, request: Request, _: Any) -> Response:
        found = self.entities.get((request.path_params["blueprint"], request.path_params["entity"]))
        return JSONResponse({"ok": True, "entity": found}) if found else refusal(404, "no such entity")

    def _patch_entity(self, request: Request, body: Any) -> Response:
        key = (request.path_params["blueprint"], request.path_params["entity"])
        old = self.entities.get(key)
        if old is None:
            return refusal(404, "no such entity")
        self._change(key, _deep(old, body) | {"updatedAt": now()})
        return JSONResponse({"ok": True, "entity": self.entities[key]})

    def _delete_entity(self, request: Request, _: Any) -> Response:
        key = (request.path_params["blueprint"], request.path_params["entity"])
        if key not in self.entities:
            return refusal(404, "no such entity")
        self._change(key, None)
        return JSONResponse({"ok": True})

    def _search(self, request: Request, body: Any) -> Response:
        """Give a page; `next` is opaque, and what is included is all there is in an entity."""
        wanted, limit = request.path_params["blueprint"], body.get("limit", 200)
        if wanted not in self.blueprints:
            return refusal(404, "no such blueprint")
        if not 1 <= limit <= 1000:
            return refusal(422, "limit must be between 1 and 1000")
        rules = body.get("query", {}).get("rules", [])
        names = [name for blueprint, name in sorted(self.entities) if blueprint == wanted]
        found = [name for name in names if all(_holds(rule, name) for rule in rules)]
        # Whoever takes an entity away from a page that was read moves none of those behind it.
        last = b64decode(body["from"]).decode() if "from" in body else ""
        found = [name for name in found if name > last]
        page: Json = {"ok": True, "entities": [self.entities[wanted, name] for name in found[:limit]]}
        if "include" in body:
            described = self.blueprints[wanted]
            known = {*META, *described["schema"]["properties"], *described.get("relations", {})}
            known |= {*described.get("mirrorProperties", {}), *described.get("calculationProperties", {})}
            if unknown := set(body["include"]) - known:
                return refusal(422, f"unknown properties: {sorted(unknown)}")
            page["entities"] = [_only(one, set(body["include"])) for one in page["entities"]]
        if len(found) > limit:
            page["next"] = b64encode(found[limit - 1].encode()).decode()
        return JSONResponse(page)

    def _list_actions(self, request: Request, _: Any) -> Response:
        wanted = request.query_params.get("trigger_type")
        found = [one for one in self.actions.values() if wanted in {None, one["trigger"]["type"]}]
        return JSONResponse({"ok": True, "actions": found})

    def _create_action(self, _: Request, body: Any) -> Response:
        if body["identifier"] in self.actions:
            return refusal(409, "an action of this identifier exists")
        self.actions[body["identifier"]] = self._action(body)
        return JSONResponse({"ok": True, "action": self.actions[body["identifier"]]}, 201)

    def _get_action(self, request: Request, _: Any) -> Response:
        found = self.actions.get(request.path_params["action"])
        return JSONResponse({"ok": True, "action": found}) if found else refusal(404, "no such action")

    def _put_action(self, request: Request, body: Any) -> Response:
        name = request.path_params["action"]
        if name not in self.actions:
            return refusal(404, "no such action")
        self.actions[name] = self._action(body)
        return JSONResponse({"ok": True, "action": self.actions[name]})

    def _delete_action(self, request: Request, _: Any) -> Response:
        if self.actions.pop(request.path_params["action"], None) is None:
            return refusal(404, "no such action")
        return JSONResponse({"ok": True})

    def _start_run(self, request: Request, body: Any) -> Response:
        action = self.actions.get(request.path_params["action"])
        if action is None or action["trigger"]["type"] != "self-service":
            return refusal(404, "no such action")
        inputs = action["trigger"].get("userInputs", {})
        given, required = body["properties"].keys(), set(inputs.get("required", []))
        for name in sorted(given ^ (given & inputs.get("properties", {}).keys()) | required - given):
            return refusal(422, f"input {name} is unknown or missing")
        run = {"id": f"r_{len(self.runs)}", "status": "IN_PROGRESS", "properties": body["properties"]}
        self.runs.append(run | {"action": {"identifier": action["identifier"]}})
        return JSONResponse({"ok": True, "run": self.runs[-1]}, 202)

    def _patch_run(self, request: Request, body: Any) -> Response:
        run = self.automations.runs.get(request.path_params["run"])
        if run is None:
            return refusal(404, "no such run")
        if "status" in body and (run["synchronized"] or run["status"] != "IN_PROGRESS"):
            return refusal(422, "the run has ended")
        run |= body
        return JSONResponse({"ok": True, "run": {"id": request.path_params["run"]} | run})

    def _log_run(self, request: Request, body: Any) -> Response:
        run = self.automations.runs.get(request.path_params["run"])
        if run is None:
            return refusal(404, "no such run")
        run["logs"].append(body["message"])
        return JSONResponse({"ok": True, "runLog": {"id": "l_1", "message": body["message"]}}, 201)

    def _action(self, body: Json) -> Json:
        given = {
            "id": f"action_{len(self.requests)}",
            "requiredApproval": False,
            "allowAnyoneToViewRuns": True,
        }
        return given | deepcopy(body) | _stamps()

    def _change(self, key: tuple[str, str], after: Json | None) -> None:
        """Store an entity's change, and carry out what is to happen on it."""
        before = self.entities.pop(key, None)
        if after:
            self.entities[key] = after
        event = self.automations.event(key, before, after)
        if event and self.call_webhooks:
            self.automations.fire(list(self.actions.values()), event)


class _QuotedPaths:
    """Lets routes be found by the path as it was sent: a quoted slash parts nothing."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["path"] = scope["raw_path"].decode()
        await self._app(scope, receive, send)


@asynccontextmanager
async def standing_in(*, call_webhooks: bool = False) -> AsyncIterator[StandInPort]:
    """Serve a stand-in Port on loopback."""
    port = StandInPort(call_webhooks=call_webhooks)
    async with serving(port.app) as port.url:
        yield port
        await port.automations.settled()


META = ("$identifier", "$title", "$team", "$icon", "$createdAt", "$updatedAt", "$createdBy", "$updatedBy")


def _holds(rule: Json, name: str) -> bool:
    assert rule["property"] == "$identifier"
    if rule["operator"] == "in":
        return name in rule["value"]
    assert rule["operator"] == "!="
    return bool(name != rule["value"])


def _only(entity: Json, include: set[str]) -> Json:
    """Return an entity with what a search includes only."""
    kept = {name: value for name, value in entity.items() if f"${name}" in include}
    for part in ("properties", "relations"):
        kept[part] = {name: one for name, one in entity.get(part, {}).items() if name in include}
    return kept


def _deep(old: Json, new: Json) -> Json:
    both = {
        key: _deep(old[key], value) if isinstance(value, dict) and isinstance(old.get(key), dict) else value
        for key, value in new.items()
    }
    return old | both


def _stamps(old: Json | None = None) -> Json:
    created = {"createdAt": now(), "createdBy": "stand-in"} if old is None else {}
    return created | {"updatedAt": now(), "updatedBy": "stand-in"}
