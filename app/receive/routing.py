"""Matches a change with the rules, and finds where its alerts go."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from app.model.change import ENTITY, CatalogChange
from app.model.incident import Route
from app.receive.payload import bare_event
from app.rules.condition import JqError, Results
from app.rules.match import Failure, Match, match
from app.rules.rulebook import Rulebook
from app.rules.targets import ByPort, ByTemplate, PortLookup, Target, at_hours, choose, plain

Evaluate = Callable[[Sequence[str], Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
"""Runs jq programs on an event: the first result of each, by program; a `JqError` of one that failed."""
LookUp = Callable[[CatalogChange, PortLookup], Awaitable[str | None]]
"""Asks Port for a destination's name; None if it has none, or does not answer in time."""


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
    now = now or change.at
    programs = book.rules.programs(change.blueprint)
    event = bare_event(body) if programs else None
    results = await evaluate(programs, event) if event is not None else {}
    matched = match(book.rules, change, results)
    # What chooses a destination may fail as well; the default gets the alert then.
    chosen = {
        target.program: hit.rule
        for hit in matched.hits
        for target in map(plain, hit.rule.targets)
        if isinstance(target, ByTemplate)
    }
    if chosen:
        results = {**results, **await evaluate([*chosen], bare_event(body) if event is None else event)}
    failed = [
        Failure(rule, program, f"the template in `send` failed: {result.text}")
        for program, rule in chosen.items()
        if isinstance(result := results[program], JqError)
    ]
    reasons = [matched.reason, *(failure.reason for failure in failed)]
    hits = []
    for hit in matched.hits:
        known = (change, results, book, look_up)
        at = now + (hit.rule.wait or timedelta(0))
        routes = await _routes(hit.rule.send, *known, at)
        escalations = tuple(
            [
                (escalation.after, await _routes(escalation.send, *known, at + escalation.after))
                for escalation in hit.rule.escalate
            ]
        )
        hits.append(replace(hit, routes=routes, escalations=escalations) if escalations else hit.to(routes))
    watched = book.watched.get(change.blueprint) if change.resource == ENTITY else None
    failures = (*matched.failures, *failed)
    return Match(change, matched.changes, tuple(hits), "; ".join(reasons), watched, results, failures)


async def _routes(
    targets: Iterable[Target],
    change: CatalogChange,
    results: Results,
    book: Rulebook,
    look_up: LookUp,
    at: datetime,
) -> tuple[Route, ...]:
    names: dict[str, None] = {}  # in the order of `send`, and none twice
    for target in (at_hours(target, book.hours, at) for target in targets):
        value: object = None
        if isinstance(target, ByTemplate):
            value = results[target.program]  # a failure is no destination's name
        elif isinstance(target, ByPort):
            value = await look_up(change, target.port)
        names[choose(target, change.teams, value, book.queues)] = None
    queues = ((name, book.queues[name]) for name in names)
    return tuple(Route(name, queue.of(change.entity), queue.steps) for name, queue in queues)
