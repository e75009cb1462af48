"""Which changes matter, and what they do to an incident."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.alerts.change import CatalogChange, EntitySnapshot
from app.alerts.incident import Incident, Step
from app.alerts.rules import BUILT_IN, Alert, Decision, EntityState, Rule, decide, match

NOW = datetime(2026, 6, 9, 12, 28, 20, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
INCIDENT = Incident(
    "health-1", "health", "deploymentConfig", "checkout-prod", "Degraded", NOW - MINUTE, NOW - MINUTE
)


def entity(status: str | None, **properties: Any) -> EntitySnapshot:
    """Return a snapshot of an entity in this status."""
    values = properties if status is None else {"healthStatus": status, **properties}
    return EntitySnapshot("checkout-prod", "deploymentConfig", properties=values)


def change(
    before: EntitySnapshot | str | None = "Healthy",
    after: EntitySnapshot | str | None = "Degraded",
    **facts: Any,
) -> CatalogChange:
    """Return an update between two entities (text: one in this status) with `facts` in place of the usual."""
    before, after = (entity(one) if isinstance(one, str) else one for one in (before, after))
    usual: dict[str, Any] = {
        "key": "0123456789abcdef" * 4,
        "action": "UPDATE",
        "resource": "entity",
        "blueprint": "deploymentConfig",
        "entity": "checkout-prod",
        "title": "Checkout",
        "teams": ("Payments",),
        "before": before,
        "after": after,
        "actor": "ada@example.com",
        "origin": "UI",
        "at": NOW,
    }
    return CatalogChange(**(usual | facts))


def decision(what: CatalogChange, state: EntityState | None = None) -> Decision:
    """Decide by the built-in rule."""
    return decide(match([BUILT_IN], what), state or EntityState())


def only(alerts: tuple[Alert, ...]) -> Alert:
    """Return the one alert that there is."""
    (alert,) = alerts
    return alert


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        (change("Healthy", "Healthy"), "rule 'health': healthStatus did not change"),
        (change(entity(None), entity(None)), "rule 'health': healthStatus did not change"),
        (change(before=None, after=None), "rule 'health': healthStatus did not change"),
        (change(action="CREATE", before=None), "rule 'health' watches UPDATE, this is 'CREATE'"),
        (change(action="DELETE", after=None), "rule 'health' watches UPDATE, this is 'DELETE'"),
        (change(action="update"), "rule 'health' watches UPDATE, this is 'update'"),
        (
            change(action="TIMER_EXPIRED", before=None, after=None, timer="locked_until"),
            "rule 'health' watches UPDATE, this is 'TIMER_EXPIRED'",
        ),
        (change(resource="run", action="scale_up"), "a change of resource type 'run', not of an entity"),
        (change(resource="blueprint"), "a change of resource type 'blueprint', not of an entity"),
    ],
)
def test_what_does_not_matter_has_a_reason(what: CatalogChange, reason: str) -> None:
    """No alert, no incident, and the sentence that says why."""
    assert decision(what) == Decision(reason)


@pytest.mark.parametrize("status", ["Degraded", "Crashed", "Restarting", "On fire", ""])
def test_any_new_status_alerts(status: str) -> None:
    """A status that the blueprint does not know alerts like those that it knows."""
    decided = decision(change("Healthy", status))
    alert = only(decided.alerts)
    assert decided.reason == "rule 'health' matches"
    assert (alert.destination, alert.notification.step) == ("default", Step.OPENED)
    assert (alert.notification.change.before, alert.notification.change.after) == ("Healthy", status)
    assert [one.state for one in decided.incidents] == [status]


def test_a_status_that_appears_or_vanishes_alerts() -> None:
    """To and from no status at all are changes too."""
    assert only(decision(change(entity(None), "Crashed")).alerts).notification.change.before is None
    assert only(decision(change("Healthy", entity(None))).alerts).notification.change.after is None


def test_the_first_trouble_opens_an_incident() -> None:
    """The incident bears the rule, the entity, the state and the change's time; the alert points to it."""
    decided = decision(change())
    (incident,) = decided.incidents
    assert incident == Incident(
        "health-0123456789abcdef", "health", "deploymentConfig", "checkout-prod", "Degraded", NOW, NOW
    )
    assert only(decided.alerts).incident_id == incident.id
    assert only(decided.alerts).notification.opened_at == NOW


def test_more_trouble_moves_the_open_incident() -> None:
    """The open incident is updated, not opened again."""
    decided = decision(change("Degraded", "Crashed"), EntityState(INCIDENT.changed_at, (INCIDENT,)))
    (incident,) = decided.incidents
    assert (incident.id, incident.state, incident.resolved_at) == ("health-1", "Crashed", None)
    assert only(decided.alerts).notification.step is Step.CHANGED
    assert only(decided.alerts).notification.opened_at == INCIDENT.opened_at


def test_healthy_resolves_the_open_incident() -> None:
    """Back to Healthy is told, and ends the incident."""
    decided = decision(change("Degraded", "Healthy"), EntityState(INCIDENT.changed_at, (INCIDENT,)))
    (incident,) = decided.incidents
    assert (incident.id, incident.state, incident.resolved_at) == ("health-1", "Healthy", NOW)
    assert only(decided.alerts).notification.step is Step.RESOLVED


def test_healthy_without_an_open_incident_is_told() -> None:
    """It alerts, as any change of the status does, but no incident comes of it."""
    decided = decision(change("Degraded", "Healthy"))
    assert decided.incidents == ()
    assert only(decided.alerts).incident_id is None
    assert only(decided.alerts).notification.step is Step.NOTICED


@pytest.mark.parametrize("after", ["Healthy", "Crashed"])
@pytest.mark.parametrize("incidents", [(), (INCIDENT,)])
def test_a_late_change_is_told_and_moves_no_incident(after: str, incidents: tuple[Incident, ...]) -> None:
    """Older than the last one seen: it alerts, says so, and leaves the state alone."""
    decided = decision(change("Degraded", after), EntityState(NOW + MINUTE, incidents))
    alert = only(decided.alerts)
    assert decided.incidents == ()
    assert alert.notification.late
    assert alert.notification.step is Step.NOTICED
    assert alert.incident_id == (incidents[0].id if incidents else None)
    assert decided.reason == "rule 'health' matches (late: a newer change was seen)"


def test_a_late_change_that_does_not_matter_keeps_its_reason() -> None:
    """Where nothing is told, it does not count that it came late."""
    decided = decision(change("Healthy", "Healthy"), EntityState(NOW + MINUTE))
    assert decided == Decision("rule 'health': healthStatus did not change")


def test_the_same_time_is_not_late() -> None:
    """Two changes of one millisecond are both taken at their word."""
    assert not only(decision(change(), EntityState(NOW)).alerts).notification.late


def test_an_incident_of_another_rule_stays_alone() -> None:
    """Every rule has incidents of its own."""
    cpu = Rule(name="cpu", property="cpu", healthy="25", destination="ops")
    what = change(before=entity("Healthy", cpu=25), after=entity("Healthy", cpu=91))
    decided = decide(match([BUILT_IN, cpu], what), EntityState(NOW, (INCIDENT,)))
    alert = only(decided.alerts)
    assert (alert.destination, alert.lane, alert.notification.rule) == ("ops", "ops", "cpu")
    assert [one.rule for one in decided.incidents] == ["cpu"]
    assert decided.reason == "rule 'cpu' matches"


def test_every_rule_that_matches_tells_its_own_value() -> None:
    """Two rules, two alerts; each names the other's value among what else changed."""
    cpu = Rule(name="cpu", property="cpu", healthy="25")
    what = change(before=entity("Healthy", cpu=25), after=entity("Degraded", cpu=91))
    matched = match([BUILT_IN, cpu], what)
    told = [alert.notification for alert in decide(matched, EntityState()).alerts]
    assert matched.reason == "rule 'health' matches; rule 'cpu' matches"
    assert [one.change.name for one in told] == ["healthStatus", "cpu"]
    assert [[other.name for other in one.others] for one in told] == [["cpu"], ["healthStatus"]]


@pytest.mark.parametrize("value", [25, 25.0])
def test_numbers_resolve_by_value(value: float) -> None:
    """A rule's end written as 25 is fulfilled by 25.0."""
    cpu = Rule(name="cpu", property="cpu", healthy="25")
    what = change(before=entity(None, cpu=91), after=entity(None, cpu=value))
    assert only(decide(match([cpu], what), EntityState()).alerts).notification.step is Step.NOTICED
