"""Port's list of a blueprint's entities.

Rules: https://docs.port.io/api-reference/search-a-blueprints-entities and, for the meta-properties that
`include` names with a dollar sign,
https://docs.port.io/build-your-software-catalog/customize-integrations/configure-data-model/setup-blueprint/properties/meta-properties
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from app.errors import UnreadableChange
from app.model.change import EntitySnapshot
from app.receive.event import Json
from app.receive.payload import Entity, read_time, too_long
from app.rules.watched import Field, Watched

META = ("$identifier", "$title", "$team", "$updatedAt")
COMPUTED = ("mirrorProperties", "calculationProperties", "aggregationProperties")
"""Where a blueprint describes the properties whose values come from elsewhere.

A change of such a value triggers nothing, and may not move the entity's `updatedAt`.
"""


@dataclass(frozen=True, slots=True)
class Listed:
    """An entity as Port lists it.

    Attributes:
        entity: The entity, as far as was asked.
        updated_at: When it changed last, by Port; None: it does not say.
    """

    entity: EntitySnapshot
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Described:
    """What a blueprint's entities have.

    Attributes:
        fields: All fields but title and team.
        computed: Those whose values come from elsewhere.
    """

    fields: frozenset[Field]
    computed: frozenset[Field]

    def include(self, watched: Watched) -> list[str] | None:
        """Return what to ask a search for; None: everything."""
        if watched.fields is None:
            return None
        names = sorted({one.partition(".")[2] for one in watched.fields & self.fields})
        return [*META, *names]


def read_blueprint(blueprint: Json) -> Described:
    """Return what a blueprint, as Port answers it, says of its entities."""
    own = _names(_object(blueprint.get("schema")).get("properties"))
    computed = frozenset().union(*(_names(blueprint.get(part)) for part in COMPUTED))
    relations = frozenset(f"relations.{name}" for name in _object(blueprint.get("relations")))
    return Described(own | computed | relations, computed)


def read_entity(found: Mapping[str, Any], blueprint: str) -> Listed:
    """Read an entity of a search's answer.

    Raises:
        UnreadableChange: It is none.
    """
    try:
        entity = Entity.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise UnreadableChange(first["msg"], ".".join(map(str, first["loc"]))) from None
    if "\0" in entity.identifier or too_long("entityIdentifier", entity.identifier):
        raise UnreadableChange("no store could hold it", "identifier")
    snapshot = EntitySnapshot(
        identifier=entity.identifier,
        blueprint=blueprint,
        title=entity.title,
        teams=entity.team,
        properties=entity.properties,
        relations=entity.relations,
    )
    return Listed(snapshot, read_time(entity.updatedAt))


def chosen(identifiers: Sequence[str]) -> list[Json]:
    """Return the search rules that choose entities by their identifiers."""
    return [{"property": "$identifier", "operator": "in", "value": list(identifiers)}]


def _names(described: Any) -> frozenset[Field]:
    return frozenset(f"properties.{name}" for name in _object(described))


def _object(value: Any) -> Json:
    return value if isinstance(value, dict) else {}
