"""The catalog of a test: entities as Port has them, and the part of Port's API that the listener reads."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from typing_extensions import override

from app.model.change import CREATE, DELETE, ENTITY, TIMER_EXPIRED, CatalogChange, EntitySnapshot
from app.port.client import EntityPage, PortClient
from app.receive.event import Json, build_event
from app.suite.clock import TEST_START
from app.suite.model import GivenEntity, Moment

BEFORE = timedelta(days=1)
"""How long before a test began the entities that it begins with were last changed."""


@dataclass(frozen=True, slots=True)
class _Kept:
    entity: EntitySnapshot
    updated_at: datetime


class SuiteCatalog(PortClient):
    """The catalog, which answers as Port's API does, and never fails.

    Args:
        given: The entities that there are at first, by identifier.
    """

    def __init__(self, given: Mapping[str, GivenEntity]) -> None:
        # Not the client's own: nothing is asked over the network.
        self._kept: dict[tuple[str, str], _Kept] = {}
        self._relations: dict[tuple[str, str], Any] = {}
        self._blueprints: dict[str, str] = {}  # by entity, of those that are gone too
        for name, entity in given.items():
            snapshot = EntitySnapshot(
                identifier=name,
                blueprint=entity.blueprint,
                title=entity.title,
                teams=entity.team or (),
                properties=entity.properties,
                relations=entity.relations,
                scorecards=entity.scorecards,
            )
            self._keep(snapshot, TEST_START - BEFORE)

    def change(self, moment: Moment, at: datetime) -> Json:
        """Change an entity as a step says, and give Port's event of it."""
        name = moment.entity or ""
        blueprint = moment.blueprint or self._blueprints.get(name, "")
        kept = self._kept.pop((blueprint, name), None)
        # An entity of which nothing was said is there already: its values are not known.
        before = kept.entity if kept else EntitySnapshot(name, blueprint)
        after = _changed(before, moment)
        if moment.action != DELETE:
            self._keep(after, at)
        event = build_event(
            action=moment.action,
            blueprint=blueprint,
            entity=after.identifier,
            at=at,
            origin="UI",
            by={"userId": "suite"},
            before=None if moment.action in (CREATE, TIMER_EXPIRED) else before,
            after=None if moment.action == DELETE else after,
        )
        event["context"]["propertyIdentifier"] = moment.timer
        return event

    def take_over(self, change: CatalogChange) -> None:
        """Change an entity as a body of Port's says; of a run there is nothing in the catalog."""
        if change.resource != ENTITY:
            return
        self._blueprints[change.entity] = change.blueprint
        former = (change.blueprint, change.former or change.entity)
        if change.before is not None or change.action in (CREATE, DELETE):
            self._kept.pop(former, None)
        if change.after is not None:
            self._keep(change.after, change.at)

    def _keep(self, entity: EntitySnapshot, at: datetime) -> None:
        self._kept[entity.blueprint, entity.identifier] = _Kept(entity, at)
        self._blueprints[entity.identifier] = entity.blueprint
        # They belong to the blueprint, and stay when the entity goes.
        self._relations |= {(entity.blueprint, name): value for name, value in entity.relations.items()}

    @override
    async def get_blueprint(self, identifier: str) -> Json | None:
        entities = [kept.entity for (blueprint, _), kept in self._kept.items() if blueprint == identifier]
        relations = {name: value for (kind, name), value in self._relations.items() if kind == identifier}
        return {
            "identifier": identifier,
            "schema": {"properties": {name: {} for entity in entities for name in entity.properties}},
            "relations": {name: {"target": self._blueprint_of(value)} for name, value in relations.items()},
        }

    def _blueprint_of(self, related: Any) -> str | None:
        first = related[0] if isinstance(related, list) and related else related
        return next((blueprint for blueprint, name in self._kept if name == first), None)

    @override
    async def get_entity(self, blueprint: str, identifier: str) -> Json | None:
        kept = self._kept.get((blueprint, identifier))
        return _answer(kept) if kept else None

    @override
    async def search_entities(
        self,
        blueprint: str,
        rules: list[Json],
        *,
        limit: int = 200,
        after: str | None = None,
        include: list[str] | None = None,
    ) -> EntityPage:
        names = rules[0]["value"] if rules else None  # the listener asks for nothing but identifiers
        found = [
            _answer(kept)
            for (kind, name), kept in self._kept.items()
            if kind == blueprint and (names is None or name in names)
        ]
        return EntityPage(found, None)


def _changed(entity: EntitySnapshot, moment: Moment) -> EntitySnapshot:
    properties = deepcopy(dict(entity.properties))
    for path, value in (moment.set_ or {}).items():
        *outer, last = path.split(".")
        inside = properties
        for name in outer:
            inner = inside.get(name)
            inside[name] = dict(inner) if isinstance(inner, Mapping) else {}
            inside = inside[name]
        inside[last] = value
    scorecards = {**entity.scorecards, **(moment.scorecards or {})}
    return replace(
        entity,
        identifier=moment.rename or entity.identifier,
        title=moment.title or entity.title,
        teams=entity.teams if moment.team is None else moment.team,
        properties={name: value for name, value in properties.items() if value is not None},
        relations={**entity.relations, **(moment.relations or {})},
        scorecards={name: level for name, level in scorecards.items() if level is not None},
    )


def _answer(kept: _Kept) -> Json:
    entity = kept.entity
    return {
        "identifier": entity.identifier,
        "title": entity.title,
        "blueprint": entity.blueprint,
        "team": list(entity.teams),
        "properties": dict(entity.properties),
        "relations": dict(entity.relations),
        "scorecards": {name: {"level": level} for name, level in entity.scorecards.items()},
        "updatedAt": kept.updated_at.isoformat(),
    }
