"""The difference between two snapshots of an entity."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from app.model.change import EntitySnapshot

Path = tuple[str, ...]
Field = str
"""``title``, ``team``, ``properties.healthStatus``, ``relations.service``."""

SCALAR_TYPES = frozenset((str, int, float, bool))


@dataclass(frozen=True, slots=True)
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


def diff(before: EntitySnapshot | None, after: EntitySnapshot | None) -> tuple[PropertyChange, ...]:
    """Compare two snapshots: title, icon, team, properties and relations, objects looked into.

    None stands for an entity that does not exist. A value that is null and one that is missing are the
    same; 25 equals 25.0; true does not equal 1. Bookkeeping fields are not part of a snapshot.
    """
    return tuple(_changes((), _fields(before), _fields(after)))


def fields_of(changes: Iterable[PropertyChange]) -> frozenset[Field]:
    """Collect the fields in which there is a change."""
    return frozenset(".".join(value.path[:2]) for value in changes)


def same(a: Any, b: Any) -> bool:
    """Tell whether two JSON values are the same to Port: by value, but true is not 1."""
    if a is b:
        return True
    if type(a) is type(b) and type(a) in SCALAR_TYPES:  # nearly all values are
        return bool(a == b)
    # To Python they are numbers, and True == 1.
    if isinstance(a, bool) or isinstance(b, bool):
        return False
    if isinstance(a, dict) and isinstance(b, dict):
        return all(same(a.get(key), b.get(key)) for key in a.keys() | b.keys())
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def _fields(snapshot: EntitySnapshot | None) -> dict[str, Any]:
    if snapshot is None:
        return {}
    return {
        "title": snapshot.title,
        "icon": snapshot.icon,
        "team": list(snapshot.teams) or None,
        "properties": snapshot.properties,
        "relations": snapshot.relations,
    }


def _changes(path: Path, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[PropertyChange]:
    # An object in an object is compared key by key, so that an alert names what changed within it.
    # Keys in the order of `after`, then what is gone: the order in which a person reads the entity.
    for key in [*after, *(key for key in before if key not in after)]:
        old, new = before.get(key), after.get(key)
        at_top = not path and key in {"properties", "relations"}
        if at_top or (isinstance(old, dict) and isinstance(new, dict)):
            yield from _changes((*path, key), old or {}, new or {})
        elif not same(old, new):
            yield PropertyChange((*path, key), old, new)
