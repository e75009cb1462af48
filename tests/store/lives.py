"""The life of an incident in a store, for tests: what happens to it, and what is told of it."""

from dataclasses import replace
from datetime import datetime
from typing import Any

from app.model.change import UPDATE, EntitySnapshot
from app.model.incident import ALL_STEPS, Incident, Route, Step
from app.receive.event import build_event, encode
from app.receive.payload import parse_event
from app.receive.signature import Signed
from app.rules.decide import decide
from app.rules.match import match
from app.rules.rule import Rule, RuleSet
from app.rules.watched import Watched
from app.store import queries
from app.store.rows import Incoming
from app.store.store import Store
from tests.conftest import NOW
from tests.store.helpers import SECOND, claims, delivered

HEALTH: dict[str, Any] = {
    "name": "health",
    "blueprint": "service",
    "when": {"property": "healthStatus", "to": {"not": "Healthy"}},
    "resolve": {"property": "healthStatus", "to": "Healthy"},
}
WATCHED = Watched(frozenset({"title", "team", "properties.healthStatus"}))


def ruled(**more: Any) -> RuleSet:
    """The rules, one of which differs from `HEALTH`."""
    return RuleSet([Rule.model_validate(HEALTH | more)])


def went(
    before: str,
    after: str,
    second: int,
    *,
    queue: str = "default",
    rules: RuleSet | None = None,
    steps: frozenset[Step] = ALL_STEPS,
    **name: str,
) -> Incoming:
    """A health status that changes; `old` and `new` are the entity's names, if they are not ``checkout``."""
    at = NOW + second * SECOND
    old, new = (
        EntitySnapshot(name.get(side, "checkout"), "service", None, None, (), {"healthStatus": value})
        for side, value in (("old", before), ("new", after))
    )
    about = {"blueprint": "service", "entity": old.identifier, "before": old, "after": new}
    body = encode(build_event(action=UPDATE, at=at, origin="UI", by={}, **about))  # type: ignore[arg-type]
    change = parse_event(Signed(body, at))
    found = match(rules or ruled(), change, {})
    hits = tuple(hit.but(routes=(Route(queue, queue, steps),)) for hit in found.hits)
    found = replace(found, watched=WATCHED, hits=hits)
    return Incoming(change, body, at, lambda state: decide(found, state, at), watched=True)


async def tell(store: Store, second: int) -> list[tuple[str, Step, str]]:
    """Deliver what is due: the queue, the step and why it was closed."""
    told = []
    for one in await claims(store, second=second):
        told += [(one.queue, it.notification.step, it.notification.closed) for it in one.deliveries]
        assert await store.record(one, delivered(second=second))
    return told


async def open_ones(store: Store) -> list[Incident]:
    """Read what is open."""
    return [row.incident for row in await store.read(queries.incidents.worst, 10)]


def at(second: int) -> datetime:
    """Return a time."""
    return NOW + second * SECOND
