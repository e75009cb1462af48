"""A catalog of a cluster and its services under rules that depend on one another, on a store that may die."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from app.model.change import DELETE, UPDATE, EntitySnapshot
from app.model.delivery import Outcome
from app.model.incident import Route
from app.model.notification import Notification
from app.receive.event import build_event, encode
from app.receive.payload import parse_event
from app.receive.signature import Signed
from app.rules.decide import decide
from app.rules.match import Hit, match
from app.rules.rule import Rule, RuleSet
from app.rules.targets import Targets
from app.store.opening import open_store
from app.store.rows import Attempt, Incoming
from tests.conftest import NOW
from tests.store.helpers import LEASE

WELL = {"cluster": "Up", "service": "Healthy"}
CLUSTER = {
    "name": "cluster-health",
    "blueprint": "cluster",
    "when": {"property": "healthStatus", "to": "Down"},
    "resolve": {"property": "healthStatus", "to": "Up"},
    "send": "platform",
}
SERVICE = {
    "name": "service-health",
    "blueprint": "service",
    "when": {"property": "healthStatus"},
    "resolve": {"property": "healthStatus", "to": "Healthy"},
    "severity": {"Crashed": "critical"},
    "send": "owners",
}
Heard = tuple[float, str, str, str]
"""When in seconds, the entity, the step, the state."""


@dataclass
class Catalog:
    """Entities with a health, and what each channel has heard of them.

    Attributes:
        url: The database.
        rules: The rules.
        relations: Of each entity its relations.
        blueprints: Of each entity its blueprint.
        heard: What each queue has heard.
        messages: How many messages that took.
    """

    url: str
    rules: list[Rule]
    blueprints: Mapping[str, str]
    relations: dict[str, dict[str, Any]] = field(default_factory=lambda: defaultdict(dict))
    teams: Mapping[str, Sequence[str]] = field(default_factory=dict)
    second: float = 0.0
    heard: dict[str, list[Heard]] = field(default_factory=lambda: defaultdict(list))
    alerts: list[Notification] = field(default_factory=list)
    messages: int = 0
    reasons: list[str] = field(default_factory=list)
    states: dict[str, str] = field(default_factory=dict)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    _number: int = 0

    async def __aenter__(self) -> "Catalog":
        self.store = await self._stack.enter_async_context(open_store(self.url))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def die(self) -> None:
        """Let the process end, and another one begin."""
        await self._stack.aclose()
        await self.__aenter__()

    @property
    def now(self) -> datetime:
        """The time."""
        return NOW + timedelta(seconds=self.second)

    def incoming(
        self, entity: str, state: str | None = None, *, former: str = "", **relations: Any
    ) -> Incoming:
        """Make a change of an entity's health, relations or `former` name; of none: it is deleted."""
        before = self._snapshot(former or entity)
        self.relations[entity] = {**self.relations[entity], **relations}
        self.states[entity] = state or self.states.get(entity, WELL[self.blueprints[entity]])
        gone = state is None and not relations
        after = None if gone else self._snapshot(entity)
        event = build_event(
            action=DELETE if gone else UPDATE,
            blueprint=self.blueprints[entity],
            entity=entity,
            at=self.now,
            origin="API",
            by={},
            before=before,
            after=after,
        )
        body, now = encode(event), self.now
        self._number += 1
        change = replace(parse_event(Signed(body, now)), key=f"{self._number:016}")
        matched = match(RuleSet(self.rules), change, {})
        hits = tuple(
            replace(
                hit,
                routes=_routes(hit.rule.send),
                escalations=_escalations(hit.rule),
            )
            for hit in matched.hits
        )
        for hit in hits:
            if hit.kin:
                hit.kin.asked.update(
                    (rule.name, Hit(rule, True, False, _routes(rule.send), escalations=_escalations(rule)))
                    for rule in hit.kin.groups
                )
        kins = tuple(matched.kins.values())
        return Incoming(
            change,
            body,
            now,
            lambda state: decide(replace(matched, hits=hits), state, now + state.step),
            kins=kins,
        )

    def _snapshot(self, entity: str) -> EntitySnapshot:
        blueprint = self.blueprints[entity]
        properties = {"healthStatus": self.states.get(entity, WELL[blueprint])}
        teams = tuple(self.teams.get(entity, ()))
        return EntitySnapshot(entity, blueprint, entity, None, teams, properties, self.relations[entity])

    async def change(self, entity: str, state: str | None = None, **relations: Any) -> None:
        """Let an entity change now, after all that was due before."""
        await self.hear()
        await self.store.accept([self.incoming(entity, state, **relations)])
        await self.hear()

    async def go_to(self, second: float) -> None:
        """Let time pass."""
        self.second = second
        await self.hear()

    async def hear(self) -> None:
        """Let every channel hear what is due now."""
        while claims := await self.claims():
            for claim in claims:
                self.messages += claim.alerts
                for delivery in claim.deliveries if claim.alerts else ():
                    alert = delivery.notification
                    self.alerts.append(alert)
                    state = str(alert.change.after) if alert.change else alert.action
                    self.heard[claim.queue].append((self.second, alert.entity, str(alert.step), state))
                done = Attempt(Outcome.DELIVERED, "ok", self.now, self.now, self.now)
                assert await self.store.record(claim, done)

    async def claims(self) -> list[Any]:
        """Claim what is due now."""
        return await self.store.claim(
            token="a",
            now=self.now,
            lease_until=self.now + LEASE,
            limit=50,
            batch_limits={str(name): 1000 for rule in self.rules for name in rule.targets},
        )


def _routes(targets: Targets) -> tuple[Route, ...]:
    return tuple(Route(str(name), str(name)) for name in targets)


def _escalations(rule: Rule) -> tuple[tuple[timedelta, tuple[Route, ...]], ...]:
    return tuple((some.after, _routes(some.send)) for some in rule.escalate)
