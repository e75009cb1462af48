"""The values that a rule can name, and the test whether a value is among them."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

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
    field_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from app.model.diff import same
from app.model.incident import Severity

Scalar = str | bool | int | float | None


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number")  # noqa: TRY004 - pydantic wants it, and would take true for 1
    return value


Number = Annotated[float, BeforeValidator(_no_bool, json_schema_input_type=float), Field(allow_inf_nan=False)]
Whole = Annotated[int, BeforeValidator(_no_bool, json_schema_input_type=int)]
VARIABLE_SCHEMA = {"type": "string", "pattern": r"^\$\{[A-Za-z_][A-Za-z0-9_]*\}$"}
"""A value from the environment, where no text is meant."""
OF_NUMBERS = {"type": "type", "minimum": "minimum", "maximum": "maximum", "ge": "minimum", "le": "maximum"}
"""What pydantic says of a number, and its name in a JSON Schema: behind a validator it is pydantic's own."""
GLOB = frozenset("*?[")
REGEX = re.compile(r"[\^$()|\\+{}]|\.\*|^/.*/$")
NO_TEXTS = frozenset({"number", "integer", "boolean"})


def _no_regex(pattern: str) -> str:
    if REGEX.search(pattern):
        raise ValueError(
            "looks like a regular expression; write a blueprint's identifier, or a pattern with *, ? or […]"
        )
    return pattern


Blueprint = Annotated[str, Field(min_length=1), AfterValidator(_no_regex)]


def _severity_kind(value: object) -> str:
    return "<table>" if isinstance(value, dict) else "<one>"


Severities = Annotated[
    Annotated[Severity, Tag("<one>")] | Annotated[dict[str, Severity], Field(min_length=1), Tag("<table>")],
    Discriminator(_severity_kind),
]


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
