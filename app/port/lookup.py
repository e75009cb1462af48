"""Looks up in Port where an alert goes, or whom it calls: in entities related to the changed one."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog

from app.errors import ListenerError, PortError
from app.model.change import CatalogChange
from app.port.client import PortClient
from app.rules.targets import PortLookup

log = structlog.get_logger(__name__)

ANSWERS_KEPT = timedelta(minutes=10)
LOOKUP_SECONDS = 2.0
PORT_AWAY = timedelta(seconds=30)  # after a failure no change waits for Port for a while
OF_ONE_QUESTION = frozenset({400, 403, 404, 422})
"""Statuses by which Port refuses what was asked for, and not the caller."""
MAX_ANSWERS_KEPT = 10_000
MAX_RELATED = 50
"""Of a relation to thousands no more are read: nobody tells so many."""
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

    async def __call__(self, change: CatalogChange, wanted: PortLookup) -> Sequence[object]:
        """Look up the wanted property: a value for each entity that it leads to, None where it has none.

        Nothing at all if it leads to none, or if Port does not answer within 2 s.
        """
        if self._clock() < self._away_until:
            return ()
        try:
            async with asyncio.timeout(LOOKUP_SECONDS):
                return await self._find(change, wanted)
        except (ListenerError, TimeoutError) as error:
            reason = str(error) or f"no answer within {LOOKUP_SECONDS:.0f} s"
            # What Port refuses of one blueprint says nothing of the others.
            if not (isinstance(error, PortError) and error.status in OF_ONE_QUESTION):
                self._away_until = self._clock() + PORT_AWAY
            log.warning("port_lookup_failed", reason=reason)
            return ()

    async def _find(self, change: CatalogChange, wanted: PortLookup) -> Sequence[object]:
        blueprint, entities = await self._targets(change, wanted)
        if not blueprint:
            return ()
        entities = entities[: MAX_RELATED if wanted.each else 1]
        found = await asyncio.gather(*(self._get(blueprint, entity) for entity in entities))
        return [((target or {}).get("properties") or {}).get(wanted.property) for target in found]

    async def _targets(self, change: CatalogChange, wanted: PortLookup) -> tuple[str | None, Sequence[str]]:
        if wanted.team:
            return TEAM_BLUEPRINT, change.teams
        relation = wanted.relation or ""
        entity = change.after or change.before
        target = entity.relations.get(relation) if entity else None
        related = [
            name for name in (target if isinstance(target, list) else [target]) if isinstance(name, str)
        ]
        if not related:
            return None, ()
        # The entity names only the identifier; the blueprint says of which blueprint that is.
        blueprint = await self._get(change.blueprint)
        described = ((blueprint or {}).get("relations") or {}).get(relation) or {}
        return described.get("target"), related

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
