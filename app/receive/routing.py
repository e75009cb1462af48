"""Matches a change, and finds out where its alerts go and whom they call: by jq, and by asking Port."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from app.model.change import ENTITY, CatalogChange
from app.model.incident import Route
from app.receive.payload import bare_event
from app.rules.condition import JqError
from app.rules.match import Failure, Hit, Match, match
from app.rules.mention import catalog_mentions, people_in
from app.rules.rule import Rule
from app.rules.rulebook import Rulebook, ordered_by
from app.rules.targets import (
    ByPort,
    ByTemplate,
    CatalogText,
    PlainTarget,
    PortLookup,
    at_hours,
    choose,
    holds,
    plain,
    programs_of,
)
from app.rules.template import fill

Evaluate = Callable[[Sequence[str], Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
"""Runs jq programs on an event: the first result of each, by program; a `JqError` of one that failed."""
LookUp = Callable[[CatalogChange, PortLookup], Awaitable[Sequence[object]]]
"""Asks Port for the values of a property: one for each entity that it leads to, None where that has none;
none at all if it leads to none, or Port does not answer in time."""
_Due = tuple[PlainTarget, bool]
"""A target, and whether no hours keep it quiet."""


async def match_and_route(
    change: CatalogChange,
    body: bytes,
    book: Rulebook,
    evaluate: Evaluate,
    look_up: LookUp,
    now: datetime | None = None,
) -> Match:
    """Match a change with the rules, and find the routes of its alerts; jq is run on the change's body.

    Where the hours decide on a route, `now` counts, UTC; not given: when it happened.
    """
    programs = book.rules.programs(change.blueprint, change.resource)
    event = bare_event(body) if programs else None
    results = await evaluate(programs, event) if event is not None else {}
    matched = match(book.rules, change, results)
    watched = book.watched.get(change.blueprint) if change.resource == ENTITY else None
    asked = (*matched.hits, *_groups(matched.hits))
    if book.plain.issuperset([hit.rule.name for hit in asked]):  # as of most: it is the way of every change
        routed = [hit.to(_plain_routes(hit, change, book)) for hit in asked]
        return matched.but(hits=_without_groups(routed, matched), watched=watched)
    way = _Way(change, body, book, evaluate, look_up, dict(results), event)
    # What chooses a destination may fail as well; the default gets the alert then.
    await way.run(_of_targets(asked))
    ways = [
        [(after, await way.names(targets)) for after, targets in _sends(hit, book, now or change.at)]
        for hit in asked
    ]
    names = [[name for _, some in mine for name in some] for mine in ways]
    await way.run(_of_catalog(asked, names, book))
    hits, why = [], dict[str, None]()
    for hit, ((_, mine), *later) in zip(asked, ways, strict=True):
        routes = await way.routes(hit.rule, mine)
        found = hit.but(routes=routes, people=await way.people(hit))
        if later:
            escalations = [(after, await way.routes(hit.rule, some)) for after, some in later]
            found = found.but(escalations=tuple(escalations))
        hits.append(found)
        why |= dict.fromkeys(
            f"{route.why}; its default is {route.destination}" for route in routes if route.why
        )
    reasons = [matched.reason, *(failure.reason for failure in way.failures), *why]
    failures = (*matched.failures, *way.failures)
    return matched.but(
        hits=_without_groups(hits, matched),
        reason="; ".join(reasons),
        watched=watched,
        results=way.results,
        failures=failures,
    )


def _groups(hits: Iterable[Hit]) -> Iterable[Hit]:
    """List the groups in which incidents count: where theirs would be alerted is found out with the rest."""
    rules = {rule.name: rule for hit in hits if hit.kin for rule in hit.kin.groups}
    return [Hit(rule, matches=True, resolves=False) for rule in rules.values()]


def _without_groups(hits: Sequence[Hit], matched: Match) -> tuple[Hit, ...]:
    """Take the groups' hits, the last ones, away, and note them with their members'."""
    number = len(matched.hits)
    if number == len(hits):  # hardly any has groups
        return tuple(hits)
    groups = {hit.rule.name: hit for hit in hits[number:]}
    for hit in hits[:number]:
        if hit.kin is not None:
            hit.kin.asked.update((rule.name, groups[rule.name]) for rule in hit.kin.groups)
    return tuple(hits[:number])


def _plain_routes(hit: Hit, change: CatalogChange, book: Rulebook) -> tuple[Route, ...]:
    names = [choose(plain(target), change.teams, None, book.queues) for target in hit.rule.send]
    whose = ordered_by(hit.rule, change.entity)
    return tuple([route for name in dict.fromkeys(names) for route in book.routes(name, whose)])


def _sends(hit: Hit, book: Rulebook, now: datetime) -> Iterator[tuple[timedelta, list[_Due]]]:
    """Yield the targets of a hit, and of each of its escalations, by the hours at which they are due."""
    at = now + (hit.rule.wait or timedelta(0))
    sends = ((escalation.after, escalation.send) for escalation in hit.rule.escalate)
    for after, targets in ((timedelta(0), hit.rule.send), *sends):
        yield after, [(at_hours(target, book.hours, at + after), not holds(target)) for target in targets]


def _of_targets(hits: Iterable[Hit]) -> Iterator[tuple[str, Rule, str]]:
    """Yield the programs that choose destinations, each with its rule and what it is."""
    for hit in hits:
        for target in map(plain, hit.rule.targets):
            if isinstance(target, ByTemplate):
                yield target.program, hit.rule, "the template in `send`"


def _of_catalog(
    hits: Sequence[Hit], names: Sequence[Iterable[str]], book: Rulebook
) -> Iterator[tuple[str, Rule, str]]:
    """Yield the programs that choose queues, and those that name people."""
    for hit, mine in zip(hits, names, strict=True):
        for name in mine:
            if catalog := book.queues[name].catalog:
                for program in programs_of(catalog.source):
                    yield program, hit.rule, f"the template of {name}"
        for source in catalog_mentions(hit.rule.mention) if hit.matches else ():
            for program in programs_of(source):
                yield program, hit.rule, "the template in `mention`"


@dataclass(slots=True)
class _Way:
    """What was found out about where the alerts of a change go."""

    change: CatalogChange
    body: bytes
    book: Rulebook
    evaluate: Evaluate
    look_up: LookUp
    results: dict[str, Any]
    event: Mapping[str, Any] | None
    failures: list[Failure] = field(default_factory=list)

    async def run(self, programs: Iterable[tuple[str, Rule, str]]) -> None:
        """Run programs, and note those that fail."""
        asked = {program: (rule, what) for program, rule, what in programs}
        if not asked:
            return
        if self.event is None:
            self.event = bare_event(self.body)
        self.results |= await self.evaluate([*asked], self.event)
        for program, (rule, what) in asked.items():
            if isinstance(result := self.results[program], JqError):
                self.failures.append(Failure(rule, program, f"{what} failed: {result.text}"))

    async def names(self, targets: Iterable[_Due]) -> Mapping[str, bool]:
        """Give the destinations of targets, in their order, and whether no hours keep them quiet."""
        names: dict[str, bool] = {}
        for target, at_any_time in targets:
            values: Sequence[object] = ()
            if isinstance(target, ByTemplate):
                values = (self.results[target.program],)  # a failure is no destination's name
            elif isinstance(target, ByPort):
                values = await self._looked_up(target.port)
            for value in values or (None,):
                name = choose(target, self.change.teams, value, self.book.queues)
                names[name] = names.get(name, False) or at_any_time
        return names

    async def routes(self, rule: Rule, names: Mapping[str, bool]) -> tuple[Route, ...]:
        """List the routes of a rule's alerts to destinations, as `names` gives them."""
        routes, whose = list[Route](), ordered_by(rule, self.change.entity)
        for name, at_any_time in names.items():
            catalog = self.book.queues[name].catalog
            values = await self._values(catalog.source) if catalog else ()
            for route in self.book.routes(name, whose, values):
                # Where the catalog leads to another destination, its own hours would count.
                elsewhere = at_any_time and route.destination != name
                routes.append(replace(route, at_any_time=True) if elsewhere else route)
        return tuple(routes)

    async def people(self, hit: Hit) -> tuple[str, ...]:
        """List whom the rule's mention names of the catalog, as it is written there."""
        sources = catalog_mentions(hit.rule.mention) if hit.matches else ()
        return people_in([value for source in sources for value in await self._values(source)])

    async def _values(self, source: CatalogText) -> Sequence[object]:
        if not isinstance(source, str):
            return await self._looked_up(source.port)
        programs = programs_of(source)
        results = [self.results[program] for program in programs]
        failed = next((result for result in results if isinstance(result, JqError)), None)
        value = failed or fill(source, self.results)
        return value if isinstance(value, list) else [value]

    async def _looked_up(self, wanted: PortLookup) -> Sequence[object]:
        values = await self.look_up(self.change, wanted)
        # A property that is a list names several, if all are wanted.
        several = (value if wanted.each and isinstance(value, list) else [value] for value in values)
        return [value for values in several for value in values]
