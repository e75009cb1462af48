"""Where an alert goes: a destination's name, or how to find one from the change itself."""

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from app.alerts.change import CatalogChange
from app.alerts.condition import Strict

DEFAULT_DESTINATION = "default"

Name = Annotated[str, Field(min_length=1)]


class ByTeam(Strict):
    """A table by owning team; the first team that stands in it counts."""

    by_team: dict[str, Name]
    default: Name


class ByTemplate(Strict):
    """A template, one jq expression in `{{ }}`, that gives a destination's name."""

    template: Annotated[str, Field(pattern=r"^\s*\{\{.+\}\}\s*$")]
    default: Name

    @property
    def program(self) -> str:
        """The jq program between the braces."""
        return self.template.strip()[2:-2].strip()


class PortLookup(Strict):
    """An entity that is related to the changed one, and the property there that names a destination.

    Attributes:
        relation: The relation to follow.
        team: The owning team's entity (blueprint `_team`) instead of a relation.
        property: The property to read there.
    """

    relation: Name | None = None
    team: Literal[True] | None = None
    property: Name

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.relation is None) == (self.team is None):
            raise ValueError("needs either relation, or team: true")
        return self


class ByPort(Strict):
    """Looked up in Port, kept for 10 minutes."""

    port: PortLookup
    default: Name


Target = Name | ByTeam | ByTemplate | ByPort

Found = Mapping[int, object]
"""What the templates and look-ups among a rule's targets came to, by the target's place in `send`."""


def names(target: Target) -> Iterator[str]:
    """Yield the destinations that a target names itself."""
    if isinstance(target, str):
        yield target
        return
    yield target.default
    if isinstance(target, ByTeam):
        yield from target.by_team.values()


def route(
    targets: tuple[Target, ...], change: CatalogChange, found: Found, known: Callable[[str], bool]
) -> tuple[str, ...]:
    """Return the destinations of a rule's targets for a change, each once.

    Args:
        targets: The rule's `send`.
        change: The change.
        found: What its templates and look-ups came to.
        known: Tells whether there is a destination of a name; what is not known goes to the default.
    """
    chosen: dict[str, None] = {}
    for place, target in enumerate(targets):
        if isinstance(target, str):
            chosen[target] = None
        elif isinstance(target, ByTeam):
            team = next((team for team in change.teams if team in target.by_team), None)
            chosen[target.default if team is None else target.by_team[team]] = None
        else:
            name = found.get(place)
            chosen[name if isinstance(name, str) and known(name) else target.default] = None
    return tuple(chosen)
