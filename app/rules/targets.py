"""Where an alert goes: a destination's name, or how to find one from the change itself."""

import re
from collections.abc import Container, Iterable, Iterator, Mapping
from datetime import date, datetime, time
from difflib import get_close_matches
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from app.errors import TemplateError
from app.model.hours import Week
from app.rules.template import parse
from app.rules.values import Duration, Strict, as_tuple

DEFAULT_DESTINATION = "default"
HOLD = "hold"
"""In place of a destination's name: it waits."""
DAY_NAMES = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

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


class ByHours(Strict):
    """Another target, at some hours only."""

    to: "PlainTarget"
    """The target: a destination's name, or a mapping with by_team, template or port."""
    when: Name
    """The name of the `hours` at which it is told."""
    else_: Annotated[Name, Field(alias="else")]
    """Outside of them: `hold`, to be told when they begin, or the destination that is told instead."""

    def at(self, hours: Mapping[str, Week], now: datetime) -> "PlainTarget":
        """Choose the target at a time, UTC; one that holds is the same, and is told later."""
        return self.to if self.else_ == HOLD or hours[self.when].holds(now) else self.else_


TARGET_KINDS: Mapping[str, type[ByTeam | ByTemplate | ByPort | ByHours]] = {
    "by_team": ByTeam,
    "template": ByTemplate,
    "port": ByPort,
    "to": ByHours,
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


def _by_kind(kinds: str) -> Discriminator:
    return Discriminator(
        _kind,
        custom_error_type="target",
        custom_error_message=f"must be a destination's name, or hold {kinds}",
    )


_Named = Annotated[Name, Tag("<name>")]
_OfTeam = Annotated[ByTeam, Tag("<by_team>")]
_Filled = Annotated[ByTemplate, Tag("<template>")]
_LookedUp = Annotated[ByPort, Tag("<port>")]
PlainTarget = Annotated[_Named | _OfTeam | _Filled | _LookedUp, _by_kind("by_team, template or port")]
ByHours.model_rebuild()
Target = Annotated[
    _Named | _OfTeam | _Filled | _LookedUp | Annotated[ByHours, Tag("<to>")],
    _by_kind("by_team, template, port or to"),
]
Targets = Annotated[tuple[Target, ...], Field(min_length=1)]


def _days(value: object) -> object:
    """Read days: ``mon-fri``, ``sat``, or a list of such."""
    days: list[int] = []
    for part in value if isinstance(value, list | tuple) else (value,):
        names = str(part).lower().split("-")
        if len(names) > 2 or not all(name in DAY_NAMES for name in names):
            raise ValueError("must be days such as mon-fri or [mon, wed, sat-sun]")
        first, last = DAY_NAMES.index(names[0]), DAY_NAMES.index(names[-1])
        days += [day % 7 for day in range(first, last + 1 if last >= first else last + 8)]
    return frozenset(days)


def _clock(value: object) -> object:
    text = str(value)
    if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d|24:00", text):
        raise ValueError('must be a time of the day such as "09:00"')
    return time(0) if text == "24:00" else time.fromisoformat(text)


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        near = get_close_matches(name, available_timezones(), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ", such as Europe/Berlin"
        raise ValueError(f"must be the name of a time zone{hint}") from None
    return name


Days = Annotated[frozenset[int], BeforeValidator(_days, json_schema_input_type=str | tuple[str, ...])]
ClockTime = Annotated[time, BeforeValidator(_clock, json_schema_input_type=str)]


class Hours(Strict):
    """Hours of the week at which somebody is there."""

    days: Annotated[Days, Field(min_length=1, default="mon-sun", validate_default=True)]
    """The days on which they begin: `mon-fri`, or a list."""
    from_: Annotated[ClockTime, Field(alias="from")]
    """When they begin, by the clock there."""
    to: ClockTime
    """When they end: on the next day, if that is not later."""
    tz: Annotated[str, AfterValidator(_zone)]
    """The time zone's name."""
    except_: Annotated[tuple[date, ...], Field(alias="except", max_length=1000)] = ()
    """The dates on which they do not begin."""

    @property
    def week(self) -> Week:
        """The same for reckoning."""
        return Week(self.days, self.from_, self.to, ZoneInfo(self.tz), frozenset(self.except_))


class Escalation(Strict):
    """Where an incident goes that nobody has acknowledged."""

    after: Duration
    """How long after its first alert, or after its acknowledgement was taken back."""
    unless: Literal["acknowledged"] = "acknowledged"
    """What stops it, beside the incident's end."""
    send: Annotated[Targets, BeforeValidator(as_tuple, json_schema_input_type=Target | Targets)]
    """Where to, as in a rule."""


Escalations = Annotated[tuple[Escalation, ...], Field(min_length=1)]


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
    if isinstance(target, ByHours):
        yield from ((("to", *way), name) for way, name in named(target.to))
        if target.else_ != HOLD:
            yield ("else",), target.else_
        return
    if isinstance(target, ByTeam):
        yield from ((("by_team", team), name) for team, name in target.by_team.items())
    yield ("default",), target.default


def at_hours(target: Target, hours: Mapping[str, Week], now: datetime) -> PlainTarget:
    """Choose what a target is at a time, UTC."""
    return target.at(hours, now) if isinstance(target, ByHours) else target


def holds(target: Target) -> bool:
    """Tell whether what a target is told outside of its hours waits for them."""
    return isinstance(target, ByHours) and target.else_ == HOLD


def plain(target: Target) -> PlainTarget:
    """Give what a target is without its hours."""
    return target.to if isinstance(target, ByHours) else target


def choose(target: PlainTarget, teams: Iterable[str], found: object, known: Container[str]) -> str:
    """Choose the destination of a target, given the owning teams and what its template or look-up `found`."""
    if isinstance(target, str):
        return target
    if isinstance(target, ByTeam):
        return next((target.by_team[team] for team in teams if team in target.by_team), target.default)
    # A name from the catalog may be anything: what is no destination goes to the default.
    return found if isinstance(found, str) and found in known else target.default
