"""Compares the rules with Port: blueprints, properties, values, teams, automations.

Rules: https://docs.port.io/build-your-software-catalog/customize-integrations/configure-data-model/setup-blueprint/properties
(types, enum, timer), https://docs.port.io/actions-and-automations/define-automations/setup-trigger (events)
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from app.doctor.automations import compare_automations, named_values
from app.doctor.catalog import Catalog, find_property, like, names_of, properties_of, read_catalog
from app.doctor.family import of_group, of_relation
from app.doctor.finding import CheckStatus, Remark
from app.model.change import TIMER_EXPIRED
from app.port.client import PortClient
from app.port.lookup import TEAM_BLUEPRINT
from app.receive.event import Json
from app.rules.condition import Condition
from app.rules.file import Rules
from app.rules.mention import catalog_mentions
from app.rules.rule import Rule
from app.rules.targets import (
    ByPort,
    ByTeam,
    ByTemplate,
    CatalogText,
    FromPort,
    PortLookup,
    named,
    plain,
    programs_of,
)
from app.rules.values import GLOB

TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "number": (int, float),
    "integer": (int, float),
    "boolean": (bool,),
}


async def compare(rules: Rules, client: PortClient, webhook_url: str | None) -> list[Remark]:
    """Compare rules with what Port has.

    Args:
        rules: The rules.
        client: Port's API; it is only read.
        webhook_url: The address that automations are to call; None: it is not known.

    Returns:
        What is wrong, worth a note or was not looked at, each with file, line and rule.

    Raises:
        PortError: Port could not be asked.
    """
    catalog = await read_catalog(client, webhook_url)
    remarks: dict[Remark, None] = {}  # in order, and none twice
    for number, rule in enumerate(rules.file.rules):
        place = f"{rules.name}:{rules.line_of('rules', number)}: " if rules.name else ""
        members = next((other for other in rules.file.rules if other.name == rule.of), None)
        sources = list(_sources(rule, rules))
        of_rule = _of_rule(rule, sources, catalog) if members is None else of_group(rule, members, catalog)
        for status, text in of_rule:
            remarks[status, f"{place}rule {rule.name!r}: {text}"] = None
    return list(remarks)


def _sources(rule: Rule, rules: Rules) -> Iterator[tuple[str, CatalogText]]:
    """Yield what gives channels and people of the catalog for a rule, each with what it is called."""
    for source in catalog_mentions(rule.mention):
        yield "mention", source
    for target in map(plain, rule.targets):
        for _, name in named(target):
            destination = rules.file.destinations.get(name)
            if destination is not None and (by_catalog := destination.routing().catalog):
                yield f"destination {name!r}", by_catalog.source


def _of_rule(rule: Rule, sources: Iterable[tuple[str, CatalogText]], catalog: Catalog) -> Iterator[Remark]:
    about: dict[str, Json] = {}
    for pattern in rule.blueprint:
        if GLOB.isdisjoint(pattern):
            matching = [pattern] if pattern in catalog.blueprints else []
        else:
            matching = [name for name in catalog.blueprints if fnmatchcase(name, pattern)]
        if not matching:
            yield CheckStatus.WRONG, f"blueprint: Port has none {like(pattern, catalog.blueprints)}"
        about |= {name: catalog.blueprints[name] for name in matching}
    if not about:
        return
    if rule.quiet_while:
        yield from of_relation("quiet_while", rule.quiet_while.relation, about)
    for leaf in rule.leaves:
        yield from _of_leaf(leaf, rule, about, catalog)
    for target in map(plain, rule.targets):
        yield from _of_target(target, about, catalog)
    for what, source in sources:
        yield from _of_source(what, source, about, catalog)
    yield from _not_compared(rule)
    yield from compare_automations(rule, about, catalog)


def _not_compared(rule: Rule) -> Iterator[Remark]:
    parts = {
        "what its jq reads was": any(leaf.jq for leaf in rule.leaves),
        "its scorecards, and their levels, were": any(leaf.scorecard for leaf in rule.leaves),
        "what the template of its `send` reads was": any(
            isinstance(target, ByTemplate) for target in map(plain, rule.targets)
        ),
    }
    yield from (
        (CheckStatus.NOTE, f"{part} not compared with Port") for part, is_there in parts.items() if is_there
    )


def _of_leaf(leaf: Condition, rule: Rule, about: Mapping[str, Json], catalog: Catalog) -> Iterator[Remark]:
    if leaf.relation is not None:
        known = {name for blueprint in about.values() for name in blueprint.get("relations") or {}}
        if leaf.relation not in known:
            yield CheckStatus.WRONG, f"relation: {names_of(about)} has none {like(leaf.relation, known)}"
    elif leaf.team:
        yield from _of_teams("team", [name for name in named_values(leaf) if isinstance(name, str)], catalog)
    elif leaf.property_ is not None:
        yield from _of_property(leaf, rule, about)


def _of_property(leaf: Condition, rule: Rule, about: Mapping[str, Json]) -> Iterator[Remark]:
    name = leaf.property_ or ""
    in_each = {identifier: find_property(blueprint, name) for identifier, blueprint in about.items()}
    having = [described for described in in_each.values() if described is not None]
    if not having:
        known = {key for blueprint in about.values() for key in properties_of(blueprint)}
        yield CheckStatus.WRONG, f"property: {names_of(about)} has none {like(name, known)}"
        return
    for blueprint in rule.blueprint:
        if blueprint in in_each and in_each[blueprint] is None:
            yield CheckStatus.NOTE, f"property: {blueprint} has no {name}, so its changes never match"
    if all(described.get("computed") for described in having):
        text = (
            f"property: {name} is computed: Port sends no webhook when it changes, only reconciling sees it"
        )
        yield CheckStatus.NOTE, text
    if TIMER_EXPIRED in rule.on and not any(described.get("format") == "timer" for described in having):
        yield CheckStatus.WRONG, f"property: {name} is no timer, so it never sends TIMER_EXPIRED"
    if "." in name and all("type" not in described for described in having):
        return  # inside an object, of which Port says nothing
    types = sorted({str(described["type"]) for described in having if "type" in described})
    if (leaf.above, leaf.below) != (None, None) and types and not {"number", "integer"} & {*types}:
        yield CheckStatus.WRONG, f"property: above and below need a number, and {name} is {_kind(types)}"
    for value in named_values(leaf):
        if all(_refuses(described, value) for described in having):
            allowed = {str(item) for described in having for item in described.get("enum") or ()}
            hint = like(str(value), allowed).partition("; ")[2] if allowed else ""
            why = (
                f"is {_kind(types)}"
                if all(_of_another_type(described, value) for described in having)
                else "has no such value"
            )
            text = f"{name} is never {_written(value)}: it {why}" + (f"; {hint}" if hint else "")
            yield CheckStatus.WRONG, text


def _kind(types: Sequence[str]) -> str:
    return " or ".join(f"a{'n' if name[:1] in 'aio' else ''} {name}" for name in types)


def _written(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


def _refuses(described: Json, value: Any) -> bool:
    enum = described.get("enum")
    return _of_another_type(described, value) or (isinstance(enum, list) and bool(enum) and value not in enum)


def _of_another_type(described: Json, value: Any) -> bool:
    wanted = TYPES.get(str(described.get("type")))
    if wanted is None:  # an array, an object: its items may be anything
        return False
    return not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted)


def _of_teams(key: str, names: Iterable[str], catalog: Catalog) -> Iterator[Remark]:
    for name in dict.fromkeys(names):
        if catalog.teams is None:
            yield CheckStatus.NOT_LOOKED_AT, f"{key}: {name!r}, since Port does not list its teams"
        elif name not in catalog.teams:
            yield CheckStatus.WRONG, f"{key}: Port has no team {like(name, catalog.teams)}"


def _of_target(target: Any, about: Mapping[str, Json], catalog: Catalog) -> Iterator[Remark]:
    if isinstance(target, ByTeam):
        yield from _of_teams("by_team", target.by_team, catalog)
    if isinstance(target, ByPort):
        yield from _of_lookup(target.port, about, catalog, "port")


def _of_source(
    what: str, source: CatalogText, about: Mapping[str, Json], catalog: Catalog
) -> Iterator[Remark]:
    if isinstance(source, FromPort):
        yield from _of_lookup(source.port, about, catalog, f"{what}: port")
    elif programs_of(source):
        yield CheckStatus.NOTE, f"{what}: what its template reads was not compared with Port"


def _of_lookup(lookup: PortLookup, about: Mapping[str, Json], catalog: Catalog, key: str) -> Iterator[Remark]:
    relation, name = lookup.relation, lookup.property
    leads = [(blueprint.get("relations") or {}).get(relation) for blueprint in about.values()]
    led_to = {str(lead.get("target")) for lead in leads if lead}
    blueprints = {TEAM_BLUEPRINT} if lookup.team else led_to
    if not blueprints:
        yield CheckStatus.WRONG, f"{key}: {names_of(about)} has no relation called {relation!r}"
    elif known := [catalog.blueprints[key] for key in blueprints if key in catalog.blueprints]:
        if not any(name in properties_of(blueprint) for blueprint in known):
            yield CheckStatus.WRONG, f"{key}: {names_of(blueprints)} has no property called {name!r}"
    else:
        yield CheckStatus.WRONG, f"{key}: Port has no blueprint called {' or '.join(sorted(blueprints))}"
