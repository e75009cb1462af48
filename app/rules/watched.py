"""The fields of an entity that the rules read: its last known state, which is compared with Port."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

from app.model.change import ENTITY, EntitySnapshot
from app.model.diff import AT_TOP, Field
from app.rules.mention import catalog_mentions
from app.rules.rule import Rule, RuleSet
from app.rules.targets import ByPort, ByTemplate, CatalogText, named, plain
from app.rules.values import GLOB

ALWAYS: frozenset[Field] = frozenset({"title", "team"})
"""Every alert names them."""


@dataclass(frozen=True)
class Watched:
    """What of a blueprint's entities the rules read.

    Attributes:
        fields: Their fields; None: whatever there is, because a jq program or a template may read it.
    """

    fields: frozenset[Field] | None

    @cached_property
    def _paths(self) -> list[tuple[Field, list[str]]]:
        return [(field, field.split(".", 1)) for field in (ALWAYS if self.fields is None else self.fields)]

    def __contains__(self, field: Field) -> bool:
        if self.fields is None:
            return field in ALWAYS or field.partition(".")[0] in AT_TOP
        return field in self.fields

    def values(self, entity: EntitySnapshot) -> dict[Field, Any]:
        """Take the watched values of an entity; where fields are named, null stands for what it lacks."""
        if self.fields is not None:
            return {field: entity.value(*path) for field, path in self._paths}
        values: dict[Field, Any] = {field: entity.value(*path) for field, path in self._paths}
        parts = (entity.properties, entity.relations, entity.scorecards)
        for kind, items in zip(("properties", "relations", "scorecards"), parts, strict=True):
            values |= {f"{kind}.{name}": value for name, value in items.items() if value is not None}
        return {field: value for field, value in values.items() if value is not None}


def watched_by(
    rules: RuleSet, wide: Container[str] = (), sources: Mapping[str, CatalogText] = MappingProxyType({})
) -> dict[str, Watched]:
    """Collect the blueprints that rules name, and what is watched of each.

    A pattern (``svc-*``, or no blueprint at all) names none, but is about those that other rules name. The
    templates of a destination that is `wide` may read anything of an entity. Where the catalog chooses the
    channel of a destination, its name leads to what gives that, in `sources`.
    """
    # Port lists no blueprint's runs, and a group's entities are of no blueprint that changes.
    about = [rule for rule in rules.rules if rule.resource == ENTITY and rule.of is None]
    names = dict.fromkeys(name for rule in about for name in rule.blueprint if GLOB.isdisjoint(name))
    # What depends on an entity may be of any blueprint.
    leading = {f"relations.{name}" for rule in about if rule.affected for name in rule.affected.relation}
    ties = rules.family.fields
    watched = {name: _together(rules.about(name), wide, sources, ties) for name in names}
    return {name: Watched(None if fields is None else fields | leading) for name, fields in watched.items()}


def _together(
    rules: Sequence[Rule],
    wide: Container[str],
    sources: Mapping[str, CatalogText],
    ties: Mapping[str, frozenset[Field]],
) -> frozenset[Field] | None:
    fields = set(ALWAYS)
    for rule in rules:
        fields |= ties.get(rule.name, frozenset())
        # A rule's own words are templates: they may read any property.
        if rule.fields is None or rule.title is not None or rule.message is not None:
            return None
        fields |= rule.fields
        read = list(catalog_mentions(rule.mention))
        for target in map(plain, rule.targets):
            names = [name for _, name in named(target)]
            if isinstance(target, ByTemplate) or any(name in wide for name in names):
                return None
            read += [target] if isinstance(target, ByPort) else []
            read += [sources[name] for name in names if name in sources]
        for source in read:
            if isinstance(source, str):  # a template, which may read anything
                return None
            if source.port.relation:
                fields.add(f"relations.{source.port.relation}")
    return frozenset(fields)


def snapshot_of(identifier: str, blueprint: str, values: Mapping[Field, Any]) -> EntitySnapshot:
    """Make the snapshot of an entity of these values; what is not watched is left out."""
    parts: dict[str, dict[str, Any]] = {kind: {} for kind in AT_TOP}
    for field, value in values.items():
        kind, _, name = field.partition(".")
        if kind in parts and value is not None:
            parts[kind][name] = value
    title, teams = values.get("title"), tuple(values.get("team") or ())
    return EntitySnapshot(identifier, blueprint, title, None, teams, **parts)
