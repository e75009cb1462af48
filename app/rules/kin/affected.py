"""Who is affected by an incident: what depends on its entity."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from app.rules.values import Strict, Whole

MAX_NAMED = 10
Relation = Annotated[str, Field(min_length=1)]
Relations = Annotated[tuple[Relation, ...], Field(min_length=1)]


def _several(value: Any) -> Any:
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


class Affected(Strict):
    """What depends on the entity of an incident."""

    relation: Annotated[Relations, BeforeValidator(_several, json_schema_input_type=Relation | Relations)]
    """The relation, or several, by which others depend on it."""
    depth: Annotated[Whole, Field(ge=1, le=5)] = 1
    """How many steps it goes: 2 names what depends on those that depend on it, too."""


def in_words(names: list[str], count: int) -> str:
    """Write who is affected: ``affects 12: checkout, billing, … and 2 more``; empty: nobody is."""
    if not count:
        return ""
    more = f" and {count - len(names):,} more" if count > len(names) else ""
    return f"affects {count:,}: {', '.join(names)}{more}"
