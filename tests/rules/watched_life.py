"""An entity of which the last known state is kept, as changes come and reconciling finds some."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from app.model.change import CatalogChange, EntitySnapshot
from app.model.diff import diff
from app.model.incident import Route
from app.model.times import to_micros
from app.port.listing import ListedEntity
from app.reconcile.difference import compare
from app.rules.decide import Decision, EntityState, decide
from app.rules.last_known import LastKnown, after_change, first_state
from app.rules.match import match
from app.rules.rule import BUILT_IN, Rule, RuleSet
from app.rules.watched import Watched
from tests.rules.changes import NOW, change

SECOND = timedelta(seconds=1)
HEALTH = Watched(frozenset({"title", "team", "properties.healthStatus"}))


def entity(health: str | None, **more: Any) -> EntitySnapshot:
    """An entity of this health."""
    properties = {"healthStatus": health} if health else {}
    return EntitySnapshot("payments-db", "database", "Payments", properties=properties | more)


def moved(before: str | None, after: str | None, at: float, **facts: Any) -> CatalogChange:
    """A change of the health, `at` seconds after NOW; None: there is no entity."""
    action = "CREATE" if before is None else "DELETE" if after is None else "UPDATE"
    sides = [None if one is None else entity(one) for one in (before, after)]
    return change(*sides, action=action, at=NOW + at * SECOND, **facts)


def known_at(health: str, at: float = 0) -> LastKnown:
    """An entity of this health that was first read `at` seconds after NOW."""
    return first_state(
        HEALTH.values(entity(health)), to_micros(NOW + at * SECOND), HEALTH, to_micros(NOW + at * SECOND)
    )


def followed(known: LastKnown | None, what: CatalogChange, watched: Watched = HEALTH) -> LastKnown | None:
    """The state after a change that came as soon as it happened."""
    return after_change(known, what, diff(what.before, what.after), watched, what.at)


def after(known: LastKnown | None, what: CatalogChange) -> LastKnown:
    """The state after a change that moves something."""
    found = followed(known, what)
    assert found is not None
    return found


def look(
    known: LastKnown | None, listed: str, updated: float | None, *, asked: float, first: bool = False
) -> Any:
    """Compare with a listing that was asked for `asked` seconds after NOW."""
    updated_at = None if updated is None else NOW + updated * SECOND
    asked_at = NOW + asked * SECOND
    return compare(
        known, ListedEntity(entity(listed), updated_at), HEALTH, asked_at=asked_at, first=first, now=asked_at
    )


class WatchedLife:
    """The state of an entity as changes come, and the alerts as rule, value before, value after."""

    def __init__(self, *rules: Rule, health: str = "Healthy") -> None:
        self.rules = RuleSet(rules or (BUILT_IN,))
        self.state = EntityState(NOW, (), known_at(health))
        self.alerts: list[tuple[str, Any, Any]] = []

    def take(self, what: CatalogChange, *, reconciled: bool = False) -> Decision:
        """Decide on a change, and move the state."""
        found = match(self.rules, what, {})
        hits = tuple(replace(hit, routes=(Route("default", "default"),)) for hit in found.hits)
        decision = decide(
            replace(found, hits=hits, watched=HEALTH), self.state, max(what.at, NOW), reconciled=reconciled
        )
        incidents = {one.id: one for one in (*self.state.incidents, *decision.incidents)}
        last_at = max(self.state.last_at or what.at, what.at)
        self.state = EntityState(last_at, tuple(incidents.values()), decision.known or self.state.known)
        for alert in decision.alerts:
            value = alert.notification.change
            self.alerts.append((alert.notification.rule, value and value.before, value and value.after))
        return decision
