"""What a rule's `when` and `resolve` can say about a change."""

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from app.alerts.change import CatalogChange, EntitySnapshot
from app.alerts.diff import Path, PropertyChange, same

Scalar = str | bool | int | float | None
Results = Mapping[str, Any]
"""What each jq program came to for this change; a program that failed is missing."""

DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


def _duration(value: Any) -> Any:
    found = DURATION.fullmatch(value.replace(" ", "")) if isinstance(value, str) and value else None
    if found is None or not any(found.groups()):
        raise ValueError("must be a time such as 30s, 5m, 1h30m or 2d")
    days, hours, minutes, seconds = (int(one or 0) for one in found.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


Duration = Annotated[
    timedelta,
    BeforeValidator(_duration, json_schema_input_type=str),
    Field(gt=timedelta(0), le=timedelta(days=30), json_schema_extra={"examples": ["30s", "5m", "1h30m"]}),
]


class Strict(BaseModel):
    """A part of the rules file: unknown keys are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Not(Strict):
    """Any value but these."""

    not_: Scalar | tuple[Scalar, ...] = Field(alias="not")


Values = Scalar | tuple[Scalar, ...] | Not


SUBJECTS = {
    "property": "property_",
    "relation": "relation",
    "title": "title",
    "team": "team",
    "all": "all_",
    "any": "any_",
    "jq": "jq",
}


class Condition(Strict):
    """One thing that can be said of a change: about one value, several conditions together, or a jq program.

    Attributes:
        property_: A property's name, dotted into objects.
        relation: A relation's name.
        title: The title.
        team: The owning teams.
        from_: What the value was before: one, a list, or `not`.
        to: What it is now.
        above: The value crossed this number on its way up.
        below: The value crossed this number on its way down.
        all_: Each of these holds now, and at least one of them began to with this change.
        any_: At least one of these.
        jq: A jq program on Port's event, exactly as in an automation's condition; anything but false and
            null is a match: https://docs.port.io/actions-and-automations/define-automations/setup-trigger
        for_: Only if it still holds after this time.
    """

    property_: Annotated[str, Field(min_length=1)] | None = Field(default=None, alias="property")
    relation: Annotated[str, Field(min_length=1)] | None = None
    title: Literal[True] | None = None
    team: Literal[True] | None = None
    from_: Values = Field(default=None, alias="from")
    to: Values = None
    above: float | None = None
    below: float | None = None
    all_: Annotated[tuple["Condition", ...], Field(min_length=1)] | None = Field(default=None, alias="all")
    any_: Annotated[tuple["Condition", ...], Field(min_length=1)] | None = Field(default=None, alias="any")
    jq: Annotated[str, Field(min_length=1)] | None = None
    for_: Duration | None = Field(default=None, alias="for")

    @model_validator(mode="after")
    def _one_subject(self) -> Self:
        given = [name for name, field in SUBJECTS.items() if getattr(self, field) is not None]
        if len(given) != 1:
            raise ValueError(
                f"needs exactly one of {', '.join(SUBJECTS)}; it has {', '.join(given) or 'none'}"
            )
        tests = self._tests
        if tests and self.path is None:
            raise ValueError(f"from, to, above and below belong to one value, not to {given[0]}")
        numbers = tests & {"above", "below"}
        if len(numbers) == 2 or (numbers and len(tests) > 1):
            raise ValueError("above, below, and from with to exclude one another; combine them with `all`")
        if any(member.for_ for member in self.members):
            raise ValueError("`for` belongs to the whole `when`, not to a part of it")
        return self

    @property
    def _tests(self) -> set[str]:
        return self.model_fields_set & {"from_", "to", "above", "below"}

    @property
    def members(self) -> tuple["Condition", ...]:
        """The conditions that this one combines."""
        return self.all_ or self.any_ or ()

    @property
    def path(self) -> Path | None:
        """The path of the value that it is about, as in a `PropertyChange`; None if there is no one value."""
        if self.property_ is not None:
            return ("properties", *self.property_.split("."))
        if self.relation is not None:
            return ("relations", self.relation)
        return ("title",) if self.title else ("team",) if self.team else None

    def leaves(self) -> Iterator["Condition"]:
        """Yield the conditions that combine no others."""
        if not self.members:
            yield self
        for member in self.members:
            yield from member.leaves()

    @property
    def is_level(self) -> bool:
        """Whether it can be said of an entity at one moment, without a change."""
        if self.members:
            return all(member.is_level for member in self.members)
        return bool(self._tests) and "from_" not in self._tests

    def matches(self, change: CatalogChange, results: Results) -> bool:
        """Tell whether it came true with this change."""
        if self.all_ is not None:
            return all(one.fulfilled(change, results) for one in self.all_) and any(
                one.matches(change, results) for one in self.all_
            )
        if self.any_ is not None:
            return any(one.matches(change, results) for one in self.any_)
        if self.jq is not None:
            return self._jq_holds(results)
        before, after = self.value(change.before), self.value(change.after)
        if self.above is not None or self.below is not None:
            return self.beyond(after) and not self.beyond(before)
        fields = self.model_fields_set
        return (
            not same(before, after)
            and ("from_" not in fields or _accepts(self.from_, before))
            and ("to" not in fields or _accepts(self.to, after))
        )

    def fulfilled(self, change: CatalogChange, results: Results) -> bool:
        """Tell whether it is true after this change, whenever it came true."""
        if self.all_ is not None:
            return all(one.fulfilled(change, results) for one in self.all_)
        if self.any_ is not None:
            return any(one.fulfilled(change, results) for one in self.any_)
        if not self.is_level:
            return self.matches(change, results)
        after = self.value(change.after)
        if self.above is not None or self.below is not None:
            return self.beyond(after)
        return change.after is not None and _accepts(self.to, after)

    def main(self, change: CatalogChange) -> PropertyChange | None:
        """Return the value that it is about: the first that changed, else the first; None if none."""
        values = [
            PropertyChange(leaf.path, leaf.value(change.before), leaf.value(change.after))
            for leaf in self.leaves()
            if leaf.path is not None
        ]
        changed = (one for one in values if not same(one.before, one.after))
        return next(changed, values[0] if values else None)

    def state(self, change: CatalogChange) -> str | None:
        """Return the threshold that was crossed (``above 80``); None if there is none."""
        for leaf in self.leaves():
            for name in ("above", "below"):
                limit = getattr(leaf, name)
                if limit is not None and leaf.beyond(leaf.value(change.after)):
                    return f"{name} {limit:g}"
        return None

    def _jq_holds(self, results: Results) -> bool:
        return results.get(self.jq or "") not in (None, False)

    def value(self, entity: EntitySnapshot | None) -> Any:
        """Return the value that it is about; None where there is none."""
        if entity is None or self.path is None:
            return None
        if self.property_ is not None:
            return _look_up(entity.properties, self.property_)
        if self.relation is not None:
            return entity.relations.get(self.relation)
        return entity.title if self.title else list(entity.teams)

    def beyond(self, value: Any) -> bool:
        """Tell whether a value is a number above, or below, the limit."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return bool(value > self.above) if self.above is not None else bool(value < (self.below or 0.0))


def _accepts(values: Values, value: Any) -> bool:
    if isinstance(values, Not):
        return not _accepts(values.not_, value)
    if isinstance(values, tuple):
        return any(_accepts(one, value) for one in values)
    # `to: Rocket` of the team means that it is among the teams.
    return same(values, value) or (isinstance(value, list) and any(same(values, one) for one in value))


def _look_up(properties: Mapping[str, Any], name: str) -> Any:
    if name in properties:
        return properties[name]
    value: Any = properties
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
