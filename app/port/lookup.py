"""Looks up in Port to which destination an alert goes: a property of an entity related to the changed one."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import structlog

from app.errors import ListenerError
from app.model.change import CatalogChange
from app.port.client import PortClient
from app.rules.targets import PortLookup

log = structlog.get_logger(__name__)

ANSWERS_KEPT = timedelta(minutes=10)
LOOKUP_SECONDS = 2.0
PORT_AWAY = timedelta(seconds=30)  # after a failure no change waits for Port for a while
MAX_ANSWERS_KEPT = 10_000
TEAM_BLUEPRINT = "_team"
"""Port's own: https://docs.port.io/sso-rbac/users-and-teams/manage-users-teams"""


class Lookup:
    """Follows a relation or the owning team, and keeps the answers for 10 minutes.

    Args:
        client: Port's API.
        clock: Gives a time that nobody can set.
    """

    def __init__(self, client: PortClient, clock: Callable[[], datetime]) -> None:
        self._client = client
        self._clock = clock
        self._away_until = clock()
        self._kept: dict[tuple[str, ...], tuple[datetime, dict[str, Any] | None]] = {}

    async def __call__(self, change: CatalogChange, wanted: PortLookup) -> str | None:
        """Look up the wanted property; None: it is no text, or Port does not answer within 2 s."""
        if self._clock() < self._away_until:
            return None
        try:
            async with asyncio.timeout(LOOKUP_SECONDS):
                return await self._find(change, wanted)
        except (ListenerError, TimeoutError) as error:
            reason = str(error) or f"no answer within {LOOKUP_SECONDS:.0f} s"
            self._away_until = self._clock() + PORT_AWAY
            log.warning("port_lookup_failed", reason=reason)
            return None

    async def _find(self, change: CatalogChange, wanted: PortLookup) -> str | None:
        blueprint, entity = await self._target(change, wanted)
        if not blueprint or not entity:
            return None
        target = await self._get(blueprint, entity)
        value = ((target or {}).get("properties") or {}).get(wanted.property)
        return value if isinstance(value, str) and value else None

    async def _target(self, change: CatalogChange, wanted: PortLookup) -> tuple[str | None, str | None]:
        if wanted.team:
            return TEAM_BLUEPRINT, change.teams[0] if change.teams else None
        relation = wanted.relation or ""
        entity = change.after or change.before
        target = entity.relations.get(relation) if entity else None
        # A relation to many: the first counts, as with teams.
        identifier = target[0] if isinstance(target, list) and target else target
        if not isinstance(identifier, str):
            return None, None
        # The entity names only the identifier; the blueprint says of which blueprint that is.
        blueprint = await self._get(change.blueprint)
        described = ((blueprint or {}).get("relations") or {}).get(relation) or {}
        return described.get("target"), identifier

    async def _get(self, blueprint: str, *entity: str) -> dict[str, Any] | None:
        key = (blueprint, *entity)
        now = self._clock()
        until, answer = self._kept.get(key, (now, None))
        if until <= now:
            get = self._client.get_entity if entity else self._client.get_blueprint
            answer = await get(*key)
            # All at once, as that needs no order; within 10 minutes they are back.
            if len(self._kept) >= MAX_ANSWERS_KEPT:
                self._kept.clear()
            self._kept[key] = (now + ANSWERS_KEPT, answer)
        return answer
