"""The values that a rule can name, and the test whether a value is among them."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag

from app.model.diff import same

Scalar = str | bool | int | float | None


def given(value: Any) -> Any:
    """Refuse a key without a value: something was forgotten."""
    if value is None:
        raise ValueError("must not be empty")
    return value


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number")  # noqa: TRY004 - pydantic wants it, and would take true for 1
    return value


Number = Annotated[float, BeforeValidator(_no_bool, json_schema_input_type=float), Field(allow_inf_nan=False)]


def _kind(value: Any) -> str:
    # The tags keep pydantic to one alternative, so that only its mistakes are shown.
    if isinstance(value, list | tuple):
        return "<list>"
    return "<not>" if isinstance(value, Mapping | Not) else "<one>"


class Strict(BaseModel):
    """A part of the rules file: unknown keys are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


One = Annotated[Scalar, Tag("<one>")]
Several = Annotated[tuple[Scalar, ...], Field(min_length=1), Tag("<list>")]


class Not(Strict):
    """Any value but these."""

    not_: Annotated[One | Several, Discriminator(_kind)] = Field(alias="not")


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
