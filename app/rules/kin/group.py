"""Groups: one incident for many of another rule, when so many are open at once: pure."""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from app.model.notification import text_of
from app.rules.values import Strict, Whole

if TYPE_CHECKING:
    from app.rules.rule import Rule

PERCENT = re.compile(r"([1-9][0-9]?|100) ?%")
TEAM_BLUEPRINT_LABEL = "_team"
MAX_GROUP_CHARS = 200


def _percent(value: Any) -> Any:
    matched = PERCENT.fullmatch(value) if isinstance(value, str) else None
    if matched is None:
        raise ValueError("must be a share such as 50%")
    return int(matched[1])


Percent = Annotated[
    int,
    BeforeValidator(_percent),
    WithJsonSchema({"type": "string", "pattern": f"^{PERCENT.pattern}$", "examples": ["50%"]}),
]
Members = Literal["keep", "quiet"]


class GroupBy(Strict):
    """What entities of a group have in common."""

    relation: Annotated[str, Field(min_length=1)] | None = None
    """The entity that they are related to by this relation."""
    property_: Annotated[str, Field(min_length=1)] | None = Field(default=None, alias="property")
    """The value of this property."""
    team: Literal[True] | None = None
    """The owning team."""

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if sum(part is not None for part in (self.relation, self.property_, self.team)) != 1:
            raise ValueError("needs one of relation, property and team: true")
        return self

    @property
    def field(self) -> str:
        """The field that holds it."""
        if self.relation is not None:
            return f"relations.{self.relation}"
        return "team" if self.team else f"properties.{self.property_}"

    @property
    def label(self) -> str:
        """What takes the place of the blueprint of a group, where the rule names none."""
        return self.relation or (TEAM_BLUEPRINT_LABEL if self.team else self.property_) or ""


def by_team(value: Any) -> Any:
    """Read ``by: team``, which is short for ``by: {team: true}``."""
    return {"team": True} if value == "team" else value


def blueprint_of(rule: "Rule") -> str:
    """Give what takes the place of the blueprint in the incidents of a group's rule."""
    return rule.blueprint[0] if rule.blueprint != ("*",) else rule.by.label if rule.by else ""


def groups_in(value: Any) -> Iterable[str]:
    """Name the groups that an entity belongs to by the value of its field: several, where that is a list."""
    values = value if isinstance(value, list | tuple) else (value,)
    return tuple(dict.fromkeys(text_of(item)[:MAX_GROUP_CHARS] for item in values if item not in (None, "")))


def needed(rule: "Rule", total: int) -> int:
    """Count how many members must be open at once, of all that there are, that the group opens."""
    if rule.share is None:
        return rule.at_least or 1
    return max(1, -(-rule.share * total // 100))


def enough(rule: "Rule", total: int) -> int:
    """Count how many members may be open still when the group resolves."""
    return needed(rule, total) - 1 if rule.until is None else rule.until


def state_of(rule: "Rule") -> str:
    """Describe the state of a group that is open: ``3 or more open``."""
    return f"{rule.share}% or more open" if rule.share is not None else f"{rule.at_least} or more open"


Count = Annotated[Whole, Field(ge=1, le=100_000)]
Rest = Annotated[Whole, Field(ge=0, le=100_000)]
By = Annotated[GroupBy | None, BeforeValidator(by_team, json_schema_input_type=GroupBy | Literal["team"])]
