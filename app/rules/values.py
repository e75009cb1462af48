"""The values that a rule can name, and the test whether a value is among them."""

import re
from collections.abc import Mapping
from datetime import timedelta
from math import isfinite
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    Tag,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic.config import JsonDict
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from app.model.change import CREATE, UPDATE
from app.model.diff import same
from app.model.incident import Severity

Scalar = str | bool | int | float | None


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number")  # noqa: TRY004 - pydantic wants it, and would take true for 1
    return value


Number = Annotated[float, BeforeValidator(_no_bool, json_schema_input_type=float), Field(allow_inf_nan=False)]
Whole = Annotated[int, BeforeValidator(_no_bool, json_schema_input_type=int)]
VARIABLE_SCHEMA: JsonDict = {"type": "string", "pattern": r"^\$\{[A-Za-z_][A-Za-z0-9_]*\}$"}
"""A value from the environment, where no text is meant."""
OF_NUMBERS = {"type": "type", "minimum": "minimum", "maximum": "maximum", "ge": "minimum", "le": "maximum"}
"""What pydantic says of a number, and its name in a JSON Schema: behind a validator it is pydantic's own."""
GLOB = frozenset("*?[")
REGEX = re.compile(r"[\^$()|\\+{}]|\.\*|^/.*/$")
NO_TEXTS = frozenset({"number", "integer", "boolean"})


UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}
DURATION = re.compile("".join(rf"(?:([0-9]{{1,6}}){unit})?" for unit in UNITS))
MAX_DURATION = timedelta(days=30)


def parse_duration(value: Any) -> timedelta:
    """Parse a time such as ``1h30m``; a ValueError says what is wrong with it."""
    parts = DURATION.fullmatch(value.replace(" ", "")) if isinstance(value, str) else None
    if parts is None or not any(parts.groups()):
        raise ValueError("must be a time such as 30s, 5m, 1h30m or 2d")
    numbers = (int(number or 0) for number in parts.groups())
    duration = timedelta(**dict(zip(UNITS.values(), numbers, strict=True)))
    if not timedelta(0) < duration <= MAX_DURATION:
        raise ValueError("must be between 1s and 30d")
    return duration


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": "^ *([0-9]+d)? *([0-9]+h)? *([0-9]+m)? *([0-9]+s)? *$",
            "examples": ["30s", "5m", "1h30m", "2d"],
        }
    ),
]


EntityAction = Literal["CREATE", "UPDATE", "DELETE", "TIMER_EXPIRED"]
Action = Literal["CREATE", "UPDATE", "DELETE", "TIMER_EXPIRED", "RUN_CREATED", "RUN_UPDATED"]
OF_RUNS = {CREATE: "RUN_CREATED", UPDATE: "RUN_UPDATED"}
"""What a rule calls the change of a run, by its action."""


def as_tuple(value: object) -> object:
    """Take a list or a single value as a tuple."""
    return tuple(value) if isinstance(value, list) else value if isinstance(value, tuple) else (value,)


def _no_regex(pattern: str) -> str:
    if REGEX.search(pattern):
        raise ValueError(
            "looks like a regular expression; write a blueprint's identifier, or a pattern with *, ? or […]"
        )
    return pattern


Blueprint = Annotated[str, Field(min_length=1), AfterValidator(_no_regex)]
_Blueprints = Annotated[tuple[Blueprint, ...], Field(min_length=1)]
Blueprints = Annotated[_Blueprints, BeforeValidator(as_tuple, json_schema_input_type=Blueprint | _Blueprints)]
_Actions = Annotated[tuple[Action, ...], Field(min_length=1)]
Actions = Annotated[_Actions, BeforeValidator(as_tuple, json_schema_input_type=Action | _Actions)]


def _severity_kind(value: object) -> str:
    return "<table>" if isinstance(value, dict) else "<one>"


Severities = Annotated[
    Annotated[Severity, Tag("<one>")] | Annotated[dict[str, Severity], Field(min_length=1), Tag("<table>")],
    Discriminator(_severity_kind),
]


USUAL_LEVELS = ("Basic", "Bronze", "Silver", "Gold")
"""A scorecard's levels, the lowest first, unless it has others.
https://docs.port.io/scorecards/concepts-and-structure (levels)"""
LEVELS_IN_JQ = re.compile(r'(?<!\bproperties)\.scorecards\b|"scorecards"')
"""Where a jq program reads them. Most bodies name none, which says nothing of them."""


OF_LIMITS: JsonDict = {
    "if": {"not": {"required": ["scorecard"]}},
    "then": {
        "properties": {name: {"anyOf": [{"type": "number"}, VARIABLE_SCHEMA]} for name in ("above", "below")}
    },
}
"""For editors: `above` and `below` are numbers, unless a scorecard has levels."""


def as_number(value: Any) -> float:
    """Take a number, which may be written as text where it stands in the environment; else a ValueError."""
    try:
        number = float("nan" if isinstance(value, bool) else value)
    except (TypeError, ValueError):
        number = float("nan")
    if not isfinite(number):
        raise ValueError("must be a number")
    return number


def _kind(value: Any) -> str:
    # The tags keep pydantic to one alternative, so that only its mistakes are shown.
    if isinstance(value, list | tuple):
        return "<list>"
    return "<not>" if isinstance(value, Mapping | Not) else "<one>"


class Strict(BaseModel):
    """A part of the rules file: unknown keys are mistakes, and so are keys without a value.

    Attributes:
        nullable: The keys for which null is a value.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    nullable: ClassVar[frozenset[str]] = frozenset()

    @field_validator("*")
    @classmethod
    def _given(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None and info.field_name not in cls.nullable:
            raise ValueError("must not be empty")
        return value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Describe the keys for editors as the check takes them."""
        schema = handler.resolve_ref_schema(handler(core_schema))
        names = {field.alias or name: name for name, field in cls.model_fields.items()}
        for key, described in schema.get("properties", {}).items():
            if "description" in described:
                described["description"] = " ".join(described["description"].split())
            if described.get("default", 0) is None:  # it means that the key is not there
                del described["default"]
            kinds = described.get("anyOf", [])
            if names[key] not in cls.nullable and {"type": "null"} in kinds:
                kinds.remove({"type": "null"})
            if len(kinds) == 1:  # what is said of the key itself wins
                described.update({**described.pop("anyOf")[0], **described})
            if described.get("type") in NO_TEXTS and "const" not in described:
                own = {right: described.pop(word) for word, right in OF_NUMBERS.items() if word in described}
                described["anyOf"] = [own, VARIABLE_SCHEMA]
        return schema


One = Annotated[Scalar, Tag("<one>")]
Several = Annotated[tuple[Scalar, ...], Field(min_length=1), Tag("<list>")]


class Not(Strict):
    """Any value but these."""

    nullable = frozenset({"not_"})

    not_: Annotated[One | Several, Discriminator(_kind)] = Field(alias="not")
    """The value, or the list of values, that does not count."""


Values = Annotated[One | Several | Annotated[Not, Tag("<not>")], Discriminator(_kind)]


def accepts(values: Values, value: Any) -> bool:
    """Tell whether a value is one of these; one that is a list: whether one of these is in it."""
    if isinstance(values, Not):
        return not accepts(values.not_, value)
    return any(_fits(named, value) for named in (values if isinstance(values, tuple) else (values,)))


def left(values: Values, here: Any, there: Any) -> bool:
    """Tell whether `values` accept a value here for a reason that does not hold there as well."""
    # `not` is about the whole value: a list either holds one of them or does not.
    if isinstance(values, Not):
        return not accepts(values.not_, here)
    several = values if isinstance(values, tuple) else (values,)
    return any(_fits(named, here) and not _fits(named, there) for named in several)


def _fits(named: Scalar, value: Any) -> bool:
    # `to: Rocket` of the team means that it is among the teams.
    return same(named, value) or (isinstance(value, list) and any(same(named, item) for item in value))


MAX_WINDOW = timedelta(hours=24)
"""As long as the store keeps an incident that has ended: longer, and its earlier moves would be forgotten."""


def _at_most_a_day(window: timedelta) -> timedelta:
    if window > MAX_WINDOW:
        raise ValueError("must be 24h at the most")
    return window


class Flap(Strict):
    """How often is too often."""

    changes: Annotated[Whole, Field(ge=2, le=100)]
    """From so many changes on an entity flaps."""
    within: Annotated[Duration, AfterValidator(_at_most_a_day)]
    """That is, so many within this time; and stable is what has not changed for as long."""
