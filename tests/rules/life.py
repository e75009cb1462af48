"""An entity's life under some rules, as a store would keep it."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from app.model.change import CatalogChange
from app.model.delivery import Alert
from app.model.incident import Incident, Route, Step
from app.model.notification import Notification
from app.rules.decide import Decision, EntityState, decide
from app.rules.match import Match, match
from app.rules.rule import Rule, RuleSet
from tests.rules.changes import MINUTE, NOW, cpu, moved, rule

ALERTS = Route("alerts", "alerts")
HOUR = timedelta(hours=1)
HYSTERESIS = rule(when={"property": "cpu", "above": 80}, resolve={"property": "cpu", "below": 70})
LASTING = rule(when={"property": "cpu", "above": 80, "for": "5m"})
REMINDING = rule(
    when={"property": "cpu", "above": 80}, resolve={"property": "cpu", "below": 70}, again_after="1h"
)


def matched(rules: list[Rule], what: CatalogChange, *routes: Route, **results: Any) -> Match:
    """Match, and route every hit."""
    found = match(RuleSet(rules), what, results)
    return replace(found, hits=tuple(replace(hit, routes=routes or (ALERTS,)) for hit in found.hits))


@dataclass
class Life:
    """An entity and what is known of it, as a store would keep it, one change after the other.

    Attributes:
        rules: The rules.
        state: What is known.
        value: The entity's `cpu`.
        told: The steps of what people have heard, with the minute.
        later: What they are to hear later.
        results: What jq programs come to.
        last: What they have heard last.
    """

    rules: list[Rule]
    state: EntityState = field(default_factory=EntityState)
    value: Any = 0
    told: list[tuple[int, Step]] = field(default_factory=list)
    later: list[Alert] = field(default_factory=list)
    results: dict[str, Any] = field(default_factory=dict)
    number: int = 0
    last: Notification | None = None

    @property
    def open(self) -> list[Incident]:
        """The incidents that are open."""
        return [one for one in self.state.incidents if one.resolved_at is None]

    def to(self, value: Any, minute: int, **facts: Any) -> Decision:
        """Let the `cpu` change at a minute."""
        what = cpu(self.value, value, **facts)
        self.value = value
        return self.take(what, minute)

    def take(self, what: CatalogChange, minute: int, arrives: int | None = None) -> Decision:
        """Let a change happen at a minute, and arrive then or later."""
        now = NOW + (minute if arrives is None else arrives) * MINUTE
        self._pass(now)
        self.number += 1
        what = replace(what, at=NOW + minute * MINUTE, key=f"{self.number:016}")
        decision = decide(matched(self.rules, what, **self.results), self.state, now)
        incidents = {one.id: one for one in (*self.state.incidents, *decision.incidents)}
        self.later = [one for one in self.later if one.incident_id not in decision.cancel]
        for alert in decision.alerts:
            if alert.due_at is None or alert.due_at <= now:
                self._tell(alert, now)
            else:
                self.later.append(alert)
        self.state = EntityState(
            max(filter(None, (self.state.last_at, what.at))),
            tuple(incidents.values()),
        )
        return decision

    def wait(self, minute: int) -> "Life":
        """Let time pass."""
        self._pass(NOW + minute * MINUTE)
        return self

    def _tell(self, alert: Alert, now: datetime) -> None:
        self.told.append(((now - NOW) // MINUTE, alert.notification.step))
        self.last = alert.notification

    def _pass(self, now: datetime) -> None:
        for alert in sorted(self.later, key=lambda one: one.due_at or NOW):
            due = alert.due_at
            while due is not None and due <= now:
                self._tell(alert, due)
                due = due + alert.repeat if alert.repeat else None
            self.later.remove(alert)
            if due is not None:
                self.later.append(replace(alert, due_at=due))


def only(decision: Decision) -> Alert:
    """Return the one alert that there is."""
    (alert,) = decision.alerts
    return alert


def health(before: Any = "Healthy", after: Any = "Degraded", **facts: Any) -> CatalogChange:
    """Return a change of a health status."""
    return moved({"healthStatus": before}, {"healthStatus": after}, **facts)
