"""The difference between two snapshots of an entity."""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from app.model.change import EntitySnapshot
from app.model.immutable import immutable

Path = tuple[str, ...]
Field = str
"""``title``, ``team``, ``properties.healthStatus``, ``relations.service``, ``scorecards.readiness``."""

SCALAR_TYPES = frozenset((str, int, float, bool))
AT_TOP = frozenset(("properties", "relations", "scorecards"))
"""What of a snapshot holds values by name."""
UNORDERED = frozenset(("team", "relations"))
"""Of these a list is a set: in which order Port gives its members is no fact of the entity."""
INSTANT = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?([Zz]|[+-]\d\d:?\d\d)?", re.ASCII)


@immutable(frozen=True, slots=True)
class PropertyChange:
    """One value that changed.

    Attributes:
        path: Where: ``("title",)``, ``("properties", "healthStatus")``, ``("properties", "spec", "cpu")``.
        before: The value before; None where there was none.
        after: The value after; None where there is none now.
    """

    path: Path
    before: Any
    after: Any

    @property
    def name(self) -> str:
        """The path as people write it, without ``properties``: ``healthStatus``, ``spec.cpu``, ``title``."""
        return ".".join(self.path[1:] if self.path[0] == "properties" else self.path)

    @property
    def differs(self) -> bool:
        """Whether it is a change at all: the values before and after are not the same."""
        return not same(self.before, self.after, self.path[0])


def diff(before: EntitySnapshot | None, after: EntitySnapshot | None) -> tuple[PropertyChange, ...]:
    """Compare two snapshots: title, icon, team, properties, relations and scorecards, objects looked into.

    None stands for an entity that does not exist. What is the same, `same` says. Bookkeeping fields are not
    part of a snapshot. A scorecard that the later one does not name did not change.
    """
    later = _fields(after)
    if before and after and before.scorecards:
        later["scorecards"] = {**before.scorecards, **after.scorecards}
    found: list[PropertyChange] = []
    _compare((), _fields(before), later, found)
    return tuple(found)


def fields_of(changes: Iterable[PropertyChange]) -> frozenset[Field]:
    """Collect the fields in which there is a change."""
    return frozenset([".".join(value.path[:2]) for value in changes])


def same_field(field: Field, a: Any, b: Any) -> bool:
    """Tell whether a field has the same value on both sides."""
    return same(a, b, field.partition(".")[0])


def same(a: Any, b: Any, kind: str = "properties") -> bool:
    """Tell whether two JSON values of a kind (``properties``, ``relations``, ``team`` …) are one to Port.

    25 is 25.0, but true is not 1; a value that is null and one that is missing are the same; so is an instant
    in another notation or time zone. Of the kinds `UNORDERED` the order of a list does not count.
    """
    if a is b:
        return True
    if type(a) is type(b) and type(a) in SCALAR_TYPES:  # nearly all values are
        return bool(a == b) or (type(a) is str and _same_instant(a, b))
    # To Python they are numbers, and True == 1.
    if isinstance(a, bool) or isinstance(b, bool):
        return False
    if isinstance(a, dict) and isinstance(b, dict):
        return all(same(a.get(key), b.get(key)) for key in a.keys() | b.keys())
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and (all(map(same, a, b)) or (kind in UNORDERED and _same_set(a, b)))
    return bool(a == b)


def _same_set(a: Sequence[Any], b: Sequence[Any]) -> bool:
    return sorted(map(repr, a)) == sorted(map(repr, b))


def _same_instant(a: str, b: str) -> bool:
    if "-" not in a or not (INSTANT.fullmatch(a) and INSTANT.fullmatch(b)):
        return False
    try:
        return datetime.fromisoformat(a.upper()) == datetime.fromisoformat(b.upper())
    except ValueError:  # the 31st of February
        return False


def _fields(snapshot: EntitySnapshot | None) -> dict[str, Any]:
    if snapshot is None:
        return {}
    return {
        "title": snapshot.title,
        "icon": snapshot.icon,
        "team": list(snapshot.teams) or None,
        "properties": snapshot.properties,
        "relations": snapshot.relations,
        "scorecards": snapshot.scorecards or None,
    }


def _compare(
    path: Path, before: Mapping[str, Any], after: Mapping[str, Any], found: list[PropertyChange]
) -> None:
    # An object in an object is compared key by key, so that an alert names what changed within it.
    # Keys in the order of `after`, then what is gone: the order in which a person reads the entity.
    if list(before) == list(after):  # nearly always
        values: Iterable[tuple[str, Any, Any]] = zip(after, before.values(), after.values(), strict=True)
    else:
        values = [(key, before.get(key), after.get(key)) for key in {**after, **before}]
    for key, old, new in values:
        if old is new or (type(old) is type(new) and type(old) in SCALAR_TYPES and old == new):
            continue  # as `same` says; nearly all values are
        at_top = not path and key in AT_TOP
        if at_top or (isinstance(old, dict) and isinstance(new, dict)):
            _compare((*path, key), old or {}, new or {}, found)
        elif not same(old, new, path[0] if path else key):
            found.append(PropertyChange((*path, key), old, new))
