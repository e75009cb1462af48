"""Port's REST API over httpx, as far as bootstrap, doctor and the actions need it.

Rules: https://docs.port.io/api-reference/port-api
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Self
from urllib.parse import quote

import httpx

from app.alerts.notification import one_line
from app.errors import PortError, SettingsError
from app.port.refusal import LONGEST_MESSAGE, REGIONS, advice, message, rate_limit_wait
from app.port.request import Json, Page, Request
from app.port.token import SharedToken, Token

__all__ = ["Json", "Page", "PortClient", "Request"]

TIMEOUT_SECONDS = 30.0
PAUSES_SECONDS = (1.0, 3.0)  # between the tries of a call that Port or the network failed
RATE_LIMIT_WAITS = 5
LOG_IN = "/v1/auth/access_token"


class PortClient:
    """A client of Port's API, for one organization. Use it as an async context manager, or `close` it.

    It fetches a token, which all calls share, waits when Port limits the rate, and tries again what failed
    for no fault of ours. When that does not help, each method raises `PortError`.

    Args:
        base_url: Where the API is; a ``/v1`` or a ``/`` at its end does no harm.
        client_id: The organization's client id.
        client_secret: Its client secret. It appears in no error.
        clock: Gives the time, UTC.
        sleep: Waits for so many seconds.
        progress: Told in one line why a call takes longer.
        dry_run: Send only what reads (GET), and put everything else into `planned`.
        patient: Wait and try again. Where a lane of the outbox waits instead, and a call has some seconds
            only, give False: what Port or the network failed, 429 too, is an error at once.

    Raises:
        SettingsError: `base_url` is not a URL.
    """

    def __init__(
        self,
        base_url: str,
        client_id: str,
        client_secret: str,
        *,
        clock: Callable[[], datetime],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        progress: Callable[[str], None] = lambda _: None,
        dry_run: bool = False,
        patient: bool = True,
    ) -> None:
        self.base_url = re.sub(r"/*(/v1)?/*$", "", base_url)
        if not re.match(r"https?://[^\s/]+", self.base_url):
            raise SettingsError(f"PORT_API_URL must be a URL such as {REGIONS['eu']}")
        self.dry_run = dry_run
        self.planned: list[Request] = []
        self.sleep = sleep
        self.progress = progress
        self._patient = patient
        self._credentials = {"clientId": client_id, "clientSecret": client_secret}
        self._clock = clock
        self._token = SharedToken(self._log_in, clock)
        self._http = httpx.AsyncClient(timeout=TIMEOUT_SECONDS)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def get_blueprint(self, identifier: str) -> Json | None:
        """Return a blueprint, or None if there is none of this identifier."""
        return await self._find("blueprint", "blueprints", identifier)

    async def create_blueprint(self, blueprint: Json) -> None:
        """Create a blueprint."""
        await self._call(Request("POST", _path("blueprints"), body=blueprint))

    async def patch_blueprint(self, identifier: str, changes: Json) -> None:
        """Lay `changes` over a blueprint.

        Whether Port merges inside a top-level field or replaces it, its page does not say, so give each
        field whole: https://docs.port.io/api-reference/update-a-blueprint
        """
        await self._call(Request("PATCH", _path("blueprints", identifier), body=changes))

    async def delete_blueprint(self, identifier: str) -> None:
        """Delete a blueprint; that it does not exist is as good. Port refuses while it has entities."""
        await self._delete("blueprints", identifier)

    async def get_entity(self, blueprint: str, identifier: str) -> Json | None:
        """Return an entity, or None if it or its blueprint does not exist."""
        return await self._find("entity", "blueprints", blueprint, "entities", identifier)

    async def upsert_entity(self, blueprint: str, entity: Json) -> None:
        """Create an entity, or set the given fields of the one that exists."""
        query = {"upsert": "true", "merge": "true"}
        request = Request("POST", _path("blueprints", blueprint, "entities"), query, entity)
        await self._call(request, repeatable=True)

    async def patch_entity(self, blueprint: str, identifier: str, changes: Json) -> None:
        """Set fields of an entity: ``{"properties": {"healthStatus": "Degraded"}}``."""
        path = _path("blueprints", blueprint, "entities", identifier)
        await self._call(Request("PATCH", path, body=changes))

    async def delete_entity(self, blueprint: str, identifier: str) -> None:
        """Delete an entity, not its dependents; that it does not exist is as good."""
        await self._delete("blueprints", blueprint, "entities", identifier)

    async def search_entities(
        self,
        blueprint: str,
        rules: list[Json],
        *,
        limit: int = 200,
        after: str | None = None,
        include: list[str] | None = None,
    ) -> Page:
        """Return a page of a blueprint's entities.

        Args:
            blueprint: The blueprint.
            rules: What must hold for each, as on https://docs.port.io/search-and-query; none: all.
            limit: How many on a page, 1 to 1000.
            after: `Page.next` of the page before.
            include: Only these properties, relations and meta-properties (``$title``); None: all.
        """
        body: Json = {"query": {"combinator": "and", "rules": rules}, "limit": limit}
        body |= {"from": after} if after else {}
        body |= {"include": include} if include else {}
        request = Request("POST", _path("blueprints", blueprint, "entities", "search"), body=body)
        answer = await self._call(request, repeatable=True)
        if self.dry_run:
            return Page([], None)
        entities, following = answer.get("entities"), answer.get("next")
        # Whoever takes a proxy's empty answer for "there are none" takes all entities for deleted.
        if not isinstance(entities, list) or (following and following == after):
            raise self._no_port(request)
        return Page(entities, following)

    async def list_automations(self) -> list[Json]:
        """Return all automations of the organization."""
        request = Request("GET", _path("actions"), {"trigger_type": "automation", "version": "v2"})
        actions = (await self._call(request)).get("actions")
        if not isinstance(actions, list):
            raise self._no_port(request)
        return actions

    async def get_action(self, identifier: str) -> Json | None:
        """Return an automation or a self-service action, or None if there is none of this identifier."""
        return await self._find("action", "actions", identifier)

    async def create_action(self, action: Json) -> None:
        """Create an automation."""
        await self._call(Request("POST", _path("actions"), body=action))

    async def update_action(self, identifier: str, action: Json) -> None:
        """Replace an automation: what `action` lacks is gone."""
        await self._call(Request("PUT", _path("actions", identifier), body=action))

    async def delete_action(self, identifier: str) -> None:
        """Delete an automation; that it does not exist is as good."""
        await self._delete("actions", identifier)

    async def start_run(self, action: str, inputs: Mapping[str, Any], entity: str | None = None) -> str:
        """Start a run of a self-service action, and return the run's id; what it does is not waited for.

        Port takes no idempotency key, so what may have been done is not tried again: the error says so.

        Args:
            action: The action's identifier.
            inputs: Its user inputs by name: https://docs.port.io/api-reference/execute-a-self-service-action
            entity: The entity that it is about, for an action on existing entities.
        """
        body: Json = {"properties": dict(inputs)} | ({"entity": entity} if entity else {})
        request = Request("POST", _path("actions", action, "runs"), body=body)
        run = (await self._call(request)).get("run")
        if not isinstance(run, dict) or not isinstance(run.get("id"), str):
            raise self._no_port(request)
        return str(run["id"])

    async def log_run(self, run: str, line: str) -> None:
        """Add a line to a run's log: https://docs.port.io/api-reference/add-a-log-to-an-action-run"""
        await self._call(Request("POST", _path("actions", "runs", run, "logs"), body={"message": line}))

    async def patch_run(self, run: str, changes: Json) -> None:
        """Say how a run ended: https://docs.port.io/api-reference/patch-an-action-run

        Args:
            run: The run's id.
            changes: ``status``, SUCCESS or FAILURE, ``statusLabel``, ``summary``, ``link``.
        """
        await self._call(Request("PATCH", _path("actions", "runs", run), {"version": "v2"}, changes))

    async def get_audit_log(self, query: Mapping[str, str]) -> Json:
        """Return an answer of the audit log as it is, for its form is not described."""
        return await self._call(Request("GET", _path("audit-log"), query))

    async def _find(self, name: str, *segments: str) -> Json | None:
        request = Request("GET", _path(*segments))
        try:
            found = (await self._call(request)).get(name)
        except PortError as error:
            if error.status == httpx.codes.NOT_FOUND:
                return None
            raise
        if not isinstance(found, dict):
            raise self._no_port(request)
        return found

    async def _delete(self, *segments: str) -> None:
        try:
            await self._call(Request("DELETE", _path(*segments)))
        except PortError as error:
            if error.status != httpx.codes.NOT_FOUND:
                raise

    async def _call(self, request: Request, *, repeatable: bool | None = None) -> Json:
        """Send a request with a token, and return the answer's object; `repeatable`: twice does no harm."""
        if self.dry_run and request.method != "GET":
            self.planned.append(request)
            return {}
        may_repeat = request.method != "POST" if repeatable is None else repeatable
        token = await self._token.get()
        answer = await self._send(request, may_repeat, token)
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            token = await self._token.get(refused=token)
            answer = await self._send(request, may_repeat, token)
        return self._read(request, answer)

    async def _log_in(self) -> Token:
        request = Request("POST", LOG_IN, body=self._credentials)
        token = Token.of(self._read(request, await self._send(request, repeatable=True)))
        if token is None:
            raise self._no_port(request)
        return token

    async def _send(self, request: Request, repeatable: bool, token: str = "") -> httpx.Response:
        waits, pauses = (0, iter(PAUSES_SECONDS)) if self._patient else (RATE_LIMIT_WAITS, iter(()))
        while True:
            try:
                answer = await self._http.request(
                    request.method,
                    self.base_url + request.path,
                    params=dict(request.query),
                    json=request.body,
                    headers={"Authorization": f"Bearer {token}"} if token else {},
                )
            except (httpx.RequestError, httpx.InvalidURL) as error:
                not_sent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
                pause = next(pauses, None) if repeatable or not_sent else None
                if pause is None:
                    raise self._unreachable(request, error, repeatable or not_sent) from None
                reason = "Port cannot be reached"
            else:
                if answer.status_code == httpx.codes.TOO_MANY_REQUESTS and waits < RATE_LIMIT_WAITS:
                    waits += 1
                    pause = rate_limit_wait(answer.headers, self._clock())
                    reason = f"Port limits the rate ({waits} of {RATE_LIMIT_WAITS})"
                elif answer.status_code >= 500 and repeatable and (next_pause := next(pauses, None)):
                    pause, reason = next_pause, f"Port answered {answer.status_code}"
                else:
                    return answer
            self.progress(f"{reason}: waiting {pause:.0f} s, then {request} again")
            await self.sleep(pause)

    def _read(self, request: Request, answer: httpx.Response) -> Json:
        try:
            body = answer.json() if answer.content else {}
        except ValueError:
            body = None
        if answer.is_success and isinstance(body, dict) and body.get("ok") is not False:
            return body
        if answer.is_success or answer.is_redirect:
            raise self._no_port(request, answer.status_code)
        wait = rate_limit_wait(answer.headers, self._clock()) if answer.status_code == 429 else None
        raise PortError(
            str(request),
            one_line(self._hide(message(body, answer)), LONGEST_MESSAGE),
            advice(answer.status_code, self.base_url, logging_in=request.path == LOG_IN),
            status=answer.status_code,
            trace_id=one_line(self._hide(answer.headers.get("x-trace-id", "")), 100),
            retry_after=None if wait is None else timedelta(seconds=wait),
        )

    def _no_port(self, request: Request, status: int | None = None) -> PortError:
        said = "that is not an answer of Port's API"
        return PortError(str(request), said, f"Is PORT_API_URL right? It is {self.base_url}", status=status)

    def _unreachable(self, request: Request, error: Exception, harmless: bool) -> PortError:
        said = one_line(self._hide(str(error)), LONGEST_MESSAGE) or type(error).__name__
        said = f"cannot reach {self.base_url}: {said}" + ("" if harmless else "; it may have arrived")
        return PortError(
            str(request),
            said,
            "Check the network, the proxy settings (HTTPS_PROXY) and PORT_API_URL",
        )

    def _hide(self, text: str) -> str:
        for secret in (self._credentials["clientSecret"], self._token.text):
            text = text.replace(secret, "[hidden]") if secret else text
        return text


def _path(*segments: str) -> str:
    return "/v1/" + "/".join(quote(one, safe="") for one in segments)
