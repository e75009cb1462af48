"""Port's REST API, as far as bootstrap, doctor, the actions, the reports and reconciling need it.

Rules: https://docs.port.io/api-reference/port-api
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard
from urllib.parse import quote

import httpx

from app.errors import PortError
from app.port.transport import Request, Transport
from app.receive.event import Json


@dataclass(frozen=True, slots=True)
class EntityPage:
    """A page of a search, as Port answers it; `next`: the next page's `after`, None: this is the last one."""

    entities: list[Json]
    next: str | None


class PortClient(Transport):
    """The routes of Port's API, called through `Transport`.

    Raises:
        PortError: By each method, where Port did not do what it was asked, or was not reached.
    """

    async def get_blueprint(self, identifier: str) -> Json | None:
        """Return a blueprint, or None if there is none of this identifier."""
        return await self._find("blueprint", "blueprints", identifier)

    async def list_blueprints(self) -> list[Json]:
        """Return all blueprints of the organization."""
        request = Request("GET", _path("blueprints"))
        blueprints = (await self.call(request)).get("blueprints")
        if not _are_objects(blueprints):
            raise self.no_port(request)
        return blueprints

    async def create_blueprint(self, blueprint: Json) -> None:
        """Create a blueprint."""
        await self.call(Request("POST", _path("blueprints"), body=blueprint))

    async def patch_blueprint(self, identifier: str, changes: Json) -> None:
        """Lay `changes` over a blueprint.

        Whether Port merges inside a top-level field or replaces it, its page does not say, so give each
        field whole: https://docs.port.io/api-reference/update-a-blueprint
        """
        await self.call(Request("PATCH", _path("blueprints", identifier), body=changes))

    async def delete_blueprint(self, identifier: str) -> None:
        """Delete a blueprint; that it does not exist is as good. Port refuses while it has entities."""
        await self._delete("blueprints", identifier)

    async def get_entity(self, blueprint: str, identifier: str) -> Json | None:
        """Return an entity, or None if it or its blueprint does not exist."""
        return await self._find("entity", "blueprints", blueprint, "entities", identifier)

    async def upsert_entity(self, blueprint: str, entity: Json) -> None:
        """Create an entity, or set the given fields of the one that exists."""
        # merge: what Port has and this entity does not name stays.
        query = {"upsert": "true", "merge": "true"}
        request = Request("POST", _path("blueprints", blueprint, "entities"), query, entity)
        await self.call(request, repeatable=True)

    async def patch_entity(self, blueprint: str, identifier: str, changes: Json) -> None:
        """Set fields of an entity: ``{"properties": {"healthStatus": "Degraded"}}``."""
        path = _path("blueprints", blueprint, "entities", identifier)
        await self.call(Request("PATCH", path, body=changes))

    async def delete_entity(self, blueprint: str, identifier: str) -> None:
        """Delete an entity, not its dependents; that it does not exist is as good."""
        # Required, by Port's description of the route; without it nothing is deleted.
        await self._delete("blueprints", blueprint, "entities", identifier, delete_dependents="false")

    async def search_entities(
        self,
        blueprint: str,
        rules: list[Json],
        *,
        limit: int = 200,
        after: str | None = None,
        include: list[str] | None = None,
    ) -> EntityPage:
        """Return a page of a blueprint's entities.

        Args:
            blueprint: The blueprint.
            rules: What must hold for each, as on https://docs.port.io/search-and-query; none: all.
            limit: How many on a page, 1 to 1000.
            after: `EntityPage.next` of the page before.
            include: Only these properties, relations and meta-properties (``$title``); None: all.
        """
        body: Json = {"query": {"combinator": "and", "rules": rules}, "limit": limit}
        body |= {"from": after} if after else {}
        body |= {"include": include} if include else {}
        # A POST that only reads: it may be repeated.
        request = Request("POST", _path("blueprints", blueprint, "entities", "search"), body=body)
        answer = await self.call(request, repeatable=True)
        if self.dry_run:  # it was not sent
            return EntityPage([], None)
        entities, following = answer.get("entities"), answer.get("next")
        # A proxy's empty answer must not pass for "there are none": all entities would count as deleted.
        wrong = not isinstance(following, str | None) or (following and following == after)
        if wrong or not isinstance(entities, list):
            raise self.no_port(request)
        # One that is odd must not hide the others; a list of nothing else is no answer of Port's.
        objects = [entity for entity in entities if isinstance(entity, dict)]
        if entities and not objects:
            raise self.no_port(request)
        return EntityPage(objects, following)

    async def list_automations(self) -> list[Json]:
        """Return all automations of the organization."""
        request = Request("GET", _path("actions"), {"trigger_type": "automation", "version": "v2"})
        actions = (await self.call(request)).get("actions")
        if not _are_objects(actions):  # a proxy's page may be JSON as well
            raise self.no_port(request)
        return actions

    async def get_action(self, identifier: str) -> Json | None:
        """Return an automation or a self-service action, or None if there is none of this identifier."""
        return await self._find("action", "actions", identifier)

    async def create_action(self, action: Json) -> None:
        """Create an automation."""
        await self.call(Request("POST", _path("actions"), body=action))

    async def update_action(self, identifier: str, action: Json) -> None:
        """Replace an automation: what `action` lacks is gone."""
        await self.call(Request("PUT", _path("actions", identifier), body=action))

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
        run = (await self.call(request)).get("run")
        if not isinstance(run, dict) or not isinstance(run.get("id"), str):
            raise self.no_port(request)
        return str(run["id"])

    async def log_run(self, run: str, line: str) -> None:
        """Add a line to a run's log: https://docs.port.io/api-reference/add-a-log-to-an-action-run"""
        await self.call(Request("POST", _path("actions", "runs", run, "logs"), body={"message": line}))

    async def patch_run(self, run: str, changes: Json) -> None:
        """Say how a run ended: https://docs.port.io/api-reference/patch-an-action-run

        Args:
            run: The run's id.
            changes: ``status``, SUCCESS or FAILURE, ``statusLabel``, ``summary``, ``link``.
        """
        await self.call(Request("PATCH", _path("actions", "runs", run), {"version": "v2"}, changes))

    async def _find(self, name: str, *segments: str) -> Json | None:
        request = Request("GET", _path(*segments))
        try:
            answer = (await self.call(request)).get(name)
        except PortError as error:
            if error.status == httpx.codes.NOT_FOUND:
                return None
            raise
        if not isinstance(answer, dict):
            raise self.no_port(request)
        return answer

    async def _delete(self, *segments: str, **query: str) -> None:
        try:
            await self.call(Request("DELETE", _path(*segments), query))
        except PortError as error:
            if error.status != httpx.codes.NOT_FOUND:
                raise


def _are_objects(value: Any) -> TypeGuard[list[Json]]:
    return isinstance(value, list) and all(isinstance(member, dict) for member in value)


def _path(*segments: str) -> str:
    return "/v1/" + "/".join(quote(segment, safe="") for segment in segments)
