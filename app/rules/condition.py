"""The conditions of a rule: its `when` and `resolve`."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, ValidationInfo, field_validator, model_validator

from app.model.change import CatalogChange, EntitySnapshot
from app.model.diff import Path, PropertyChange, same
from app.model.notification import text_of
from app.rules.values import OF_LIMITS, USUAL_LEVELS, Duration, Strict, Values, accepts, as_number, left

Results = Mapping[str, Any]
"""The first result of each jq program for a change; a `JqError` of one that failed."""


@dataclass(frozen=True, slots=True)
class JqError:
    """A program failed, or could not be run.

    Attributes:
        text: Why, in one line, which is not long. It may hold values of the event.
        costly: It kept the process for jq for as long as it could, or killed it.
        ours: The program is not known to be at fault: the process was killed, or cannot start.
    """

    text: str
    costly: bool = False
    ours: bool = False


SUBJECTS = ("property_", "relation", "title", "team", "scorecard", "run", "all_", "any_", "jq")


class Condition(Strict):
    """One thing that can be said of a change: of one value, of several conditions together, or by jq."""

    model_config = ConfigDict(json_schema_extra=OF_LIMITS)

    nullable = frozenset({"from_", "to"})

    property_: Annotated[str, Field(min_length=1)] | None = Field(default=None, alias="property")
    """A property's name, dotted into objects."""
    relation: Annotated[str, Field(min_length=1)] | None = None
    """A relation's name."""
    title: Literal[True] | None = None
    """The title."""
    team: Literal[True] | None = None
    """The owning teams."""
    scorecard: Annotated[str, Field(min_length=1)] | None = None
    """A scorecard's identifier; the value is the entity's level on it."""
    run: Annotated[str, Field(min_length=1)] | None = None
    """A field of the run, such as `status`; dots lead into objects, of which the identifier counts."""
    levels: Annotated[tuple[str, ...], Field(min_length=2)] = USUAL_LEVELS
    """The scorecard's levels, the lowest first."""
    from_: Values = Field(default=None, alias="from")
    """What the value was before: one, a list, or `not`. Of a value that is a list itself, such as the teams:
    what was in it, and is not any more."""
    to: Values = None
    """What it is now; what came into a list."""
    above: float | str | None = None
    """The value crossed this number, or this level, on its way up."""
    below: float | str | None = None
    """The value crossed this number, or this level, on its way down."""
    all_: Annotated[tuple["Condition", ...], Field(min_length=1)] | None = Field(default=None, alias="all")
    """Each of these holds now, and at least one of them began to with this change."""
    any_: Annotated[tuple["Condition", ...], Field(min_length=1)] | None = Field(default=None, alias="any")
    """At least one of these."""
    jq: Annotated[str, Field(min_length=1)] | None = None
    """A jq program on Port's event, exactly as in an automation's condition; anything but false and null is a
    match, and names the state unless it is just true. Whether it came true with this change is the program's
    own affair. https://docs.port.io/actions-and-automations/define-automations/setup-trigger"""
    for_: Duration | None = Field(default=None, alias="for")
    """Only if it still holds after this time."""

    @field_validator("above", "below", mode="before")
    @classmethod
    def _limits(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None:
            return None
        levels = info.data.get("levels", USUAL_LEVELS)
        if info.data.get("scorecard") is None:
            return as_number(value)
        if value not in levels:
            known = ", ".join(levels)
            raise ValueError(f"must be one of {known}; name other levels in `levels`, the lowest first")
        return value

    @model_validator(mode="after")
    def _one_subject(self) -> Self:
        values = {field.rstrip("_"): getattr(self, field) for field in SUBJECTS}
        subjects = [key for key, value in values.items() if value is not None]
        if len(subjects) != 1:
            raise ValueError(
                f"needs exactly one of {', '.join(values)}; it has {', '.join(subjects) or 'none'}"
            )
        tests = self._tests
        if tests and self.path is None:
            raise ValueError(f"from, to, above and below belong to one value, not to {subjects[0]}")
        # A number that is above 80 and below 90 is two crossings: which one would name the state?
        numbers = tests & {"above", "below"}
        if len(numbers) == 2 or (numbers and len(tests) > 1):
            raise ValueError("above, below, and from with to exclude one another; combine them with `all`")
        if self.scorecard is None and "levels" in self.model_fields_set:
            raise ValueError("levels belong to a scorecard")
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

    @cached_property
    def path(self) -> Path | None:
        """The path of the value that it is about, as in a `PropertyChange`; None if there is no one value."""
        if self.property_ is not None:
            return ("properties", *self.property_.split("."))
        if self.run is not None:  # its fields are the properties of what stands for it
            return ("properties", *self.run.split("."))
        if self.relation is not None:
            return ("relations", self.relation)
        if self.scorecard is not None:
            return ("scorecards", self.scorecard)
        return ("title",) if self.title else ("team",) if self.team else None

    @property
    def leaves(self) -> tuple["Condition", ...]:
        """The conditions that combine no others."""
        if not self.members:
            return (self,)
        return tuple(leaf for member in self.members for leaf in member.leaves)

    def matches(self, change: CatalogChange, results: Results) -> bool:
        """Tell whether it came true with this change."""
        # One of them must begin with this change: else each change of anything else would alert again.
        if self.all_ is not None:
            return all(member.fulfilled(change, results) for member in self.all_) and any(
                member.matches(change, results) for member in self.all_
            )
        if self.any_ is not None:
            return any(member.matches(change, results) for member in self.any_)
        if self.jq is not None:
            return self._jq_holds(results)
        before, after = self.value(change.before), self.value_after(change)
        # The crossing counts, not being beyond: else each further value would alert.
        if self.above is not None or self.below is not None:
            return self.beyond(after) and not self.beyond(before)
        fields = self.model_fields_set
        return (
            not same(before, after, (self.path or ("",))[0])
            and ("from_" not in fields or left(self.from_, before, after))
            and ("to" not in fields or left(self.to, after, before))
        )

    def fulfilled(self, change: CatalogChange, results: Results) -> bool:
        """Tell whether it is true after this change, whenever it came true."""
        if self.all_ is not None:
            return all(member.fulfilled(change, results) for member in self.all_)
        if self.any_ is not None:
            return any(member.fulfilled(change, results) for member in self.any_)
        return self._level_holds(change) if self.is_level else self.matches(change, results)

    @cached_property
    def is_level(self) -> bool:
        """Whether it can be said of an entity at one moment, without a change; of one that combines none."""
        return bool(self._tests) and "from_" not in self._tests

    @cached_property
    def can_lapse(self) -> bool:
        """Whether it can be seen of an entity that it holds no more."""
        # One of several holds until none does; all of several hold until one does not.
        if self.any_ is not None:
            return all(member.can_lapse for member in self.any_)
        if self.all_ is not None:
            return any(member.can_lapse for member in self.all_)
        return bool(self._tests - {"from_"})

    def lapses(self, change: CatalogChange) -> bool:
        """Tell whether it can be seen that it does not hold, or hold any more, after this change."""
        if self.any_ is not None:
            return all(member.lapses(change) for member in self.any_)
        if self.all_ is not None:
            return any(member.lapses(change) for member in self.all_)
        if self.scorecard is not None and self.value_after(change) is None:
            return False  # nothing is said of it
        return self.can_lapse and not self._level_holds(change)

    def main(self, change: CatalogChange) -> PropertyChange | None:
        """Choose the value that it is about: the first that came true, else that changed, else the first."""
        if self.path is not None:
            return self.pair(change)
        leaves = [leaf for leaf in self.leaves if leaf.path is not None]
        values = [leaf.pair(change) for leaf in leaves]
        came_true = (value for leaf, value in zip(leaves, values, strict=True) if leaf.matches(change, {}))
        changed = (value for value in values if value.differs)
        return next(came_true, None) or next(changed, values[0] if values else None)

    def state(self, change: CatalogChange, results: Results) -> str:
        """Describe the state after a change: thresholds crossed (``above 80``), values, jq's result; or "".

        It is the same for the same trouble and another for another: so the one does not alert twice, and the
        other does alert.
        """
        if not self.members:  # nearly all conditions; what follows would cost each of them a microsecond
            return self.own_state(change, results, named=False)
        # With the values' names, where there are several: else two of them could give the same state.
        leaves = self.leaves
        states = (leaf.own_state(change, results, named=len(leaves) > 1) for leaf in leaves)
        return ", ".join(filter(None, states))

    def own_state(self, change: CatalogChange, results: Results, *, named: bool) -> str:
        """Describe the state of one value or program; `named`: with the value's name."""
        if self.path is None:
            result = self._result(results)
            return text_of(result) if result is not None and not isinstance(result, bool) else ""
        after = self.value_after(change)
        state = self.threshold
        if not state:
            state = text_of(after)
        elif not self.beyond(after):
            return ""
        return f"{self.pair(change).name} {state}" if named else state

    @cached_property
    def threshold(self) -> str:
        """The number that the value crosses, in words: ``above 80``; empty: it crosses none."""
        if self.above is not None:
            return f"above {text_of(self.above)}"
        return "" if self.below is None else f"below {text_of(self.below)}"

    def pair(self, change: CatalogChange) -> PropertyChange:
        """Take the value that it is about out of both sides of a change."""
        return PropertyChange(self.path or ("",), self.value(change.before), self.value_after(change))

    def _level_holds(self, change: CatalogChange) -> bool:
        after = self.value_after(change)
        if self.above is not None or self.below is not None:
            return self.beyond(after)
        if self.scorecard is not None and after is None:
            return False
        return change.after is not None and accepts(self.to, after)

    def _jq_holds(self, results: Results) -> bool:
        # As in an automation's condition of Port: 0 and "" are a match.
        result = self._result(results)
        return result is not None and result is not False

    def _result(self, results: Results) -> Any:
        result = results.get(self.jq or "")
        return None if isinstance(result, JqError) else result

    def value(self, entity: EntitySnapshot | None) -> Any:
        """Take the value that it is about out of an entity; None where there is none."""
        if entity is None or self.path is None:
            return None
        if self.property_ is not None:
            return _look_up(entity.properties, self.property_)
        if self.run is not None:
            value = _look_up(entity.properties, self.run)
            return value.get("identifier", value) if isinstance(value, Mapping) else value
        return entity.value(*self.path)

    def value_after(self, change: CatalogChange) -> Any:
        """Take the value after a change; a scorecard that its body does not name is as it was."""
        value = self.value(change.after)
        return self.value(change.before) if value is None and self.scorecard and change.after else value

    def beyond(self, value: Any) -> bool:
        """Tell whether a value is a number, or a level, above or below the limit."""
        limit = self.below if self.above is None else self.above
        if isinstance(limit, str):  # by the order of the levels
            if value not in self.levels:
                return False
            value, limit = self.levels.index(value), self.levels.index(limit)
        # To Python true is the number 1; in a catalog it is none.
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return bool(value < (limit or 0.0)) if self.above is None else bool(value > (limit or 0.0))


def _look_up(properties: Mapping[str, Any], name: str) -> Any:
    # A property whose own name has dots comes before a path into an object.
    if name in properties:
        return properties[name]
    value: Any = properties
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
