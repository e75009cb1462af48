"""What Port has, as far as rules may name it."""

from collections.abc import Iterable
from dataclasses import dataclass

from app.errors import PortError
from app.port.client import PortClient
from app.port.listing import COMPUTED_PARTS
from app.port.lookup import TEAM_BLUEPRINT
from app.receive.event import Json
from app.rules.mistakes import nearest

TEAMS_A_PAGE = 1_000
NOT_TO_BE_LISTED = frozenset({403, 404, 422})
"""An organization may not have its teams as entities, or not let us read them."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """What Port has.

    Attributes:
        blueprints: By identifier.
        automations: Those of the organization.
        teams: Their names and identifiers; None: they cannot be listed.
        webhook_url: The address that automations are to call; None: it is not known.
    """

    blueprints: dict[str, Json]
    automations: list[Json]
    teams: set[str] | None
    webhook_url: str | None


async def read_catalog(client: PortClient, webhook_url: str | None) -> Catalog:
    """Read what Port has; raises `PortError` where it cannot be asked."""
    blueprints = {str(blueprint.get("identifier")): blueprint for blueprint in await client.list_blueprints()}
    return Catalog(blueprints, await client.list_automations(), await _teams(client), webhook_url)


async def _teams(client: PortClient) -> set[str] | None:
    teams: set[str] = set()
    after = None
    try:
        while True:
            page = await client.search_entities(TEAM_BLUEPRINT, [], limit=TEAMS_A_PAGE, after=after)
            teams.update(str(team.get(key)) for team in page.entities for key in ("identifier", "title"))
            if not (after := page.next):
                return teams
    except PortError as error:
        if error.status in NOT_TO_BE_LISTED:
            return None
        raise


def properties_of(blueprint: Json) -> dict[str, Json]:
    """Collect the properties of a blueprint by name; those whose values come from others are `computed`."""
    own = (blueprint.get("schema") or {}).get("properties") or {}
    computed = {
        name: {"computed": True, **{key: value for key, value in described.items() if key == "type"}}
        for part in COMPUTED_PARTS
        for name, described in (blueprint.get(part) or {}).items()
    }
    return computed | own


def find_property(blueprint: Json, name: str) -> Json | None:
    """Describe a property, by its name or by a path into it; None: the blueprint has none."""
    properties = properties_of(blueprint)
    if name in properties:
        return properties[name]
    # A name with dots leads into an object.
    outer = properties.get(name.partition(".")[0]) if "." in name else None
    return None if outer is None else {key: outer[key] for key in ("computed",) if key in outer}


def like(name: str, known: Iterable[str]) -> str:
    """Name what is not there, with what may be meant."""
    near = nearest(name, sorted(known, reverse=True))
    return f"called {name!r}" + (f"; did you mean {near!r}?" if near and near != name else "")


def names_of(names: Iterable[str]) -> str:
    """List names, the first three of many."""
    several = sorted(names)
    return ", ".join(several[:3]) + (f" and {len(several) - 3} more" if len(several) > 3 else "")
