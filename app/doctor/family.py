"""Compares with Port what rules that depend on one another name."""

from collections.abc import Iterator, Mapping

from app.doctor.catalog import Catalog, find_property, like, names_of, properties_of
from app.doctor.finding import CheckStatus, Remark
from app.receive.event import Json
from app.rules.rule import Rule


def of_group(rule: Rule, members: Rule, catalog: Catalog) -> Iterator[Remark]:
    """Say what is wrong with a group's rule, given the rule that it counts the incidents of."""
    about = {name: catalog.blueprints[name] for name in members.blueprint if name in catalog.blueprints}
    if rule.by is None or not about:
        return
    yield from of_relation("by", rule.by.relation, about)
    named = rule.by.property_
    if named and all(find_property(blueprint, named) is None for blueprint in about.values()):
        known = {key for blueprint in about.values() for key in properties_of(blueprint)}
        yield CheckStatus.WRONG, f"by: property: {names_of(about)} has none {like(named, known)}"


def of_relation(key: str, relation: str | None, about: Mapping[str, Json]) -> Iterator[Remark]:
    """Say whether none of some blueprints has a relation, which stands at a key of a rule."""
    known = {name for blueprint in about.values() for name in blueprint.get("relations") or {}}
    if relation is not None and relation not in known:
        yield CheckStatus.WRONG, f"{key}: relation: {names_of(about)} has none {like(relation, known)}"
