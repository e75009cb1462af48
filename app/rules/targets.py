"""Where an alert goes: a destination's name, or how to find one from the change itself."""

from collections.abc import Container, Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from app.errors import TemplateError
from app.rules.template import parse
from app.rules.values import Strict

DEFAULT_DESTINATION = "default"

Name = Annotated[str, Field(min_length=1)]


class ByTeam(Strict):
    """A table by owning team; the first team that stands in it counts."""

    by_team: dict[str, Name]
    """From a team's name to a destination's."""
    default: Name
    """The destination where no team is in the table."""


def _one_expression(text: str) -> str:
    try:
        only = parse(text).only
    except TemplateError as error:
        raise ValueError(str(error)) from None
    if only is None:
        raise ValueError('must be one jq expression in braces, as in "{{ .diff.after.properties.channel }}"')
    return text


class ByTemplate(Strict):
    """A template, one jq expression in `{{ }}`, that gives a destination's name."""

    template: Annotated[str, AfterValidator(_one_expression)]
    """One jq expression in braces that gives a destination's name."""
    default: Name
    """The destination where it gives none."""

    @property
    def program(self) -> str:
        """The jq program between the braces."""
        return parse(self.template).only or ""


class PortLookup(Strict):
    """An entity that is related to the changed one, and the property there that names a destination."""

    relation: Name | None = None
    """The relation to follow."""
    team: Literal[True] | None = None
    """The owning team's entity (blueprint `_team`) instead of a relation."""
    property: Name
    """The property to read there."""
    each: Literal[True] | None = None
    """Every related entity, or every owning team, instead of the first."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.relation is None) == (self.team is None):
            raise ValueError("needs either relation, or team: true")
        return self


class FromPort(Strict):
    """Looked up in Port, kept for 10 minutes."""

    port: PortLookup
    """Which property to read in Port."""


class ByPort(FromPort):
    """Looked up in Port, kept for 10 minutes."""

    default: Name
    """The destination where that gives none."""


TARGET_KINDS: Mapping[str, type[ByTeam | ByTemplate | ByPort]] = {
    "by_team": ByTeam,
    "template": ByTemplate,
    "port": ByPort,
}


def _kind(target: Any) -> str | None:
    """Guess the kind that a target is meant to be, so that only that kind's mistakes are shown."""
    if isinstance(target, str):
        return "<name>"
    # By the key that is nearest to a kind: `by_tema` is meant to be `by_team`.
    if isinstance(target, Mapping):
        near = (get_close_matches(str(key), TARGET_KINDS, n=1) for key in target)
        return next((f"<{names[0]}>" for names in near if names), None)
    return next((f"<{key}>" for key, kind in TARGET_KINDS.items() if isinstance(target, kind)), None)


Target = Annotated[
    Annotated[Name, Tag("<name>")]
    | Annotated[ByTeam, Tag("<by_team>")]
    | Annotated[ByTemplate, Tag("<template>")]
    | Annotated[ByPort, Tag("<port>")],
    Discriminator(
        _kind,
        custom_error_type="target",
        custom_error_message="must be a destination's name, or hold by_team, template or port",
    ),
]


CatalogText = Annotated[
    Annotated[Name, Tag("<text>")] | Annotated[FromPort, Tag("<port>")],
    Discriminator(lambda value: "<port>" if isinstance(value, Mapping | FromPort) else "<text>"),
]
"""A text, which may be a template, or a look-up that gives one."""


def programs_of(text: CatalogText) -> tuple[str, ...]:
    """List the jq programs of a text that may be a template; TemplateError: it is none."""
    return parse(text).expressions if isinstance(text, str) else ()


def named(target: Target) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the destinations that a target names itself, each with the way to it in the file."""
    if isinstance(target, str):
        yield (), target
        return
    if isinstance(target, ByTeam):
        yield from ((("by_team", team), name) for team, name in target.by_team.items())
    yield ("default",), target.default


def choose(target: Target, teams: Iterable[str], found: object, known: Container[str]) -> str:
    """Choose the destination of a target, given the owning teams and what its template or look-up `found`."""
    if isinstance(target, str):
        return target
    if isinstance(target, ByTeam):
        return next((target.by_team[team] for team in teams if team in target.by_team), target.default)
    # A name from the catalog may be anything: what is no destination goes to the default.
    return found if isinstance(found, str) and found in known else target.default
