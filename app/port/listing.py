"""Port's list of a blueprint's entities.

Rules: https://docs.port.io/api-reference/search-a-blueprints-entities and, for the meta-properties that
`include` names with a dollar sign,
https://docs.port.io/build-your-software-catalog/customize-integrations/configure-data-model/setup-blueprint/properties/meta-properties
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from app.errors import UnreadableChange
from app.model.change import EntitySnapshot
from app.model.diff import Field
from app.receive import event
from app.receive.event import Json, read_time, too_long
from app.rules.watched import Watched

META_PROPERTIES = ("$identifier", "$title", "$team", "$updatedAt")
COMPUTED_PARTS = ("mirrorProperties", "calculationProperties", "aggregationProperties")
"""Where a blueprint describes the properties whose values come from elsewhere.

A change of such a value triggers nothing, and may not move the entity's `updatedAt`.
"""


@dataclass(frozen=True, slots=True)
class ListedEntity:
    """An entity as Port lists it, as far as was asked.

    Attributes:
        entity: The entity.
        updated_at: When it was last changed, UTC; None where Port says no time.
        levels: Whether Port says anything of its scorecards: no page promises that.
    """

    entity: EntitySnapshot
    updated_at: datetime | None = None
    levels: bool = True


@dataclass(frozen=True, slots=True)
class DescribedBlueprint:
    """The fields of a blueprint's entities but title and team; `computed`: their values come from others."""

    fields: frozenset[Field]
    computed: frozenset[Field]

    def include(self, watched: Watched) -> list[str] | None:
        """List the properties and relations to ask a search for; None: all."""
        # How `include` would name a scorecard, no page of Port's says.
        if watched.fields is None or any(map(is_level, watched.fields)):
            return None
        # Without the prefix, as Port's `include` wants them; title and team are among the meta-properties.
        names = sorted({name.partition(".")[2] for name in watched.fields & self.fields})
        return [*META_PROPERTIES, *names]


def read_blueprint(blueprint: Json) -> DescribedBlueprint:
    """Read the fields of a blueprint's entities from the blueprint, as Port answers it."""
    own = _names(_object(blueprint.get("schema")).get("properties"))
    computed = frozenset().union(*(_names(blueprint.get(part)) for part in COMPUTED_PARTS))
    relations = frozenset(f"relations.{name}" for name in _object(blueprint.get("relations")))
    return DescribedBlueprint(own | computed | relations, computed)


def read_entity(answer: Mapping[str, Any], blueprint: str) -> ListedEntity:
    """Read an entity of a search's answer.

    Raises:
        UnreadableChange: It is not an entity, or no store could hold it.
    """
    entity = event.read_entity(answer)
    # It is a key in the store: it can neither be cut nor have characters replaced.
    if "\0" in entity["identifier"] or too_long("entityIdentifier", entity["identifier"]):
        raise UnreadableChange("no store could hold it", "identifier")
    snapshot = replace(event.read_snapshot(entity, blueprint), icon=None)  # it is not asked for
    return ListedEntity(snapshot, read_time(entity.get("updatedAt")), levels="scorecards" in answer)


def is_level(field: Field) -> bool:
    """Tell whether a field is the level on a scorecard, which may change without the entity's own time."""
    return field.startswith("scorecards.")


def _names(described: Any) -> frozenset[Field]:
    return frozenset(f"properties.{name}" for name in _object(described))


def _object(value: Any) -> Json:
    return value if isinstance(value, dict) else {}
