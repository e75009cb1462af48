"""What a change leads to, from one change to the next."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.alerts.change import CatalogChange
from app.alerts.decide import Alert, Decision, EntityState, Match, Route, decide, match
from app.alerts.incident import Incident, Step
from app.alerts.rules import BUILT_IN, Rule, RuleSet
from tests.alerts.changes import MINUTE, NOW, change, cpu, entity, moved, rule

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
    """

    rules: list[Rule]
    state: EntityState = field(default_factory=EntityState)
    value: Any = 0
    told: list[tuple[int, Step]] = field(default_factory=list)
    later: list[Alert] = field(default_factory=list)
    results: dict[str, Any] = field(default_factory=dict)
    number: int = 0

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
            tuple(one for one in incidents.values() if one.resolved_at is None),
        )
        return decision

    def wait(self, minute: int) -> "Life":
        """Let time pass."""
        self._pass(NOW + minute * MINUTE)
        return self

    def _tell(self, alert: Alert, now: datetime) -> None:
        self.told.append(((now - NOW) // MINUTE, alert.notification.step))

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


# What does not matter


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        (health("Healthy", "Healthy"), "rule 'health': healthStatus did not change"),
        (change(None, None), "rule 'health': healthStatus did not change"),
        (health(action="CREATE"), "rule 'health': watches UPDATE, this is 'CREATE'"),
        (health(action="update"), "rule 'health': watches UPDATE, this is 'update'"),
        (
            change(None, None, action="TIMER_EXPIRED", timer="lock"),
            "rule 'health': watches UPDATE, this is 'TIMER_EXPIRED'",
        ),
        (moved({}, None, action="DELETE"), "rule 'health': watches UPDATE, this is 'DELETE'"),
        (health(resource="run", action="scale_up"), "a change of resource type 'run', not of an entity"),
        (health(resource="blueprint"), "a change of resource type 'blueprint', not of an entity"),
    ],
)
def test_what_does_not_matter_has_a_reason(what: CatalogChange, reason: str) -> None:
    """No alert, no incident, and the sentence that says why."""
    assert decide(matched([BUILT_IN], what), EntityState(), NOW) == Decision(reason)


def test_each_rule_says_why_not() -> None:
    """What it watches, what did not change, or how it changed instead; and five rules are enough."""
    rules = [
        rule(name="a", when={"property": "ram"}),
        rule(name="b", when={"property": "cpu", "above": 90}),
        rule(name="c", when={"jq": ".no"}),
        rule(name="d", on=["CREATE", "DELETE"]),
        rule(name="e", blueprint="service"),
        *(rule(name=f"f{number}", on="CREATE") for number in range(3)),
    ]
    assert matched(rules, cpu(70, 85)).reason == (
        "rule 'a': ram did not change; rule 'b': cpu went from 70 to 85; "
        "rule 'c': its condition does not hold; rule 'd': watches CREATE, DELETE, this is 'UPDATE'; "
        "rule 'f0': watches CREATE, this is 'UPDATE'; and 2 more do not match"
    )
    assert matched(rules[4:5], cpu(70, 85)).reason == "no rule is about blueprint 'database'"


# Without incidents


@pytest.mark.parametrize("status", ["Degraded", "Crashed", "On fire", "", None])
def test_any_new_status_alerts(status: str | None) -> None:
    """A status that nobody knows alerts like those that are known."""
    decision = decide(matched([BUILT_IN], health("Healthy", status)), EntityState(), NOW)
    told = only(decision).notification
    assert decision.reason == "rule 'health' matches"
    assert told.change is not None
    assert (told.step, told.change.before, told.change.after) == (Step.OPENED, "Healthy", status)


def test_a_rule_without_an_end_opens_no_incident() -> None:
    """Each match is told as itself."""
    life = Life([rule(when={"property": "cpu"})])
    assert [life.to(value, value).incidents for value in (1, 2, 3)] == [(), (), ()]
    assert life.told == [(1, Step.NOTICED), (2, Step.NOTICED), (3, Step.NOTICED)]


@pytest.mark.parametrize(
    ("action", "what"),
    [
        ("CREATE", moved(None, {"cpu": 85}, action="CREATE")),
        ("DELETE", moved({"cpu": 85}, None, action="DELETE")),
        ("TIMER_EXPIRED", change(None, None, action="TIMER_EXPIRED", timer="lock")),
    ],
)
def test_other_actions_are_told_too(action: str, what: CatalogChange) -> None:
    """Where a rule asks for them."""
    told = only(decide(matched([rule(on=action)], what), EntityState(), NOW)).notification
    assert (told.action, told.step, told.timer) == (action, Step.NOTICED, what.timer)


# The life of an incident


def test_the_first_trouble_opens_an_incident() -> None:
    """The incident bears the rule, the entity, the state and the change's time; the alert points to it."""
    decision = decide(matched([HYSTERESIS], cpu(70, 85)), EntityState(), NOW + HOUR)
    assert decision.incidents == (
        Incident("cpu-0123456789abcdef", "cpu", "database", "payments-db", "above 80", NOW, NOW),
    )
    alert = only(decision)
    assert (alert.destination, alert.lane, alert.incident_id) == ("alerts", "alerts", "cpu-0123456789abcdef")
    assert (alert.due_at, alert.repeat, alert.notification.opened_at) == (None, None, NOW)
    assert decision.cancel == ()


def test_hysteresis() -> None:
    """Above 80 opens, in between is nothing, below 70 closes, and then it may open again."""
    life = Life([HYSTERESIS])
    for minute, value in enumerate((75, 85, 95, 75, 72, 85, 75, 69, 60, 75, 81)):
        life.to(value, minute)
    assert life.told == [(1, Step.OPENED), (7, Step.RESOLVED), (10, Step.OPENED)]


def test_what_never_opened_never_resolves() -> None:
    """Falling below the end's limit is not worth a word of its own."""
    decision = Life([HYSTERESIS], value=75).to(60, 0)
    assert decision == Decision("rule 'cpu': cpu went from 75 to 60")


def test_a_match_that_is_an_end_is_told_without_an_incident() -> None:
    """Any change of the health is worth telling, but Healthy is no trouble."""
    decision = decide(matched([BUILT_IN], health("Degraded", "Healthy")), EntityState(), NOW)
    assert decision.incidents == ()
    assert (only(decision).incident_id, only(decision).notification.step) == (None, Step.NOTICED)


def test_the_same_state_alerts_once() -> None:
    """Within an open incident; the reason says so. Another state is told, and so is the next incident's."""
    life = Life(
        [rule(when={"property": "cpu", "to": ["high", "full"]}, resolve={"property": "cpu", "to": "ok"})]
    )
    life.to("high", 1)
    life.to("odd", 2)
    assert life.to("high", 3).reason == "rule 'cpu' matches; rule 'cpu' has told of 'high' already"
    for minute, value in ((4, "full"), (5, "ok"), (6, "high")):
        life.to(value, minute)
    assert life.told == [(1, Step.OPENED), (4, Step.CHANGED), (5, Step.RESOLVED), (6, Step.OPENED)]


def test_a_new_entity_in_trouble_is_in_the_same_trouble() -> None:
    """What a CREATE opened, an update within the same threshold does not tell again."""
    life = Life(
        [
            rule(
                on=["CREATE", "UPDATE"],
                when={"property": "cpu", "above": 80},
                resolve={"property": "cpu", "below": 70},
            )
        ]
    )
    life.take(moved(None, {"cpu": 85}, action="CREATE"), 1)
    life.take(cpu(75, 85), 2)
    assert life.told == [(1, Step.OPENED)]


def test_another_trouble_of_the_same_rule_is_told() -> None:
    """Of several thresholds each counts, and each value's own."""
    said = {"any": [{"property": p, "above": n} for p in ("cpu", "ram") for n in (80, 90)]}
    life = Life([rule(when=said, resolve={"property": "cpu", "below": 10})])
    steps = [({"cpu": 85}, {}), ({"cpu": 95}, {"cpu": 85}), ({"cpu": 50, "ram": 85}, {"cpu": 95})]
    for minute, (after, before) in enumerate(steps):
        life.take(moved(before, after), minute)
    assert life.told == [(0, Step.OPENED), (1, Step.CHANGED), (2, Step.CHANGED)]


def test_a_program_may_name_the_state() -> None:
    """What is just true is the same trouble as before; a word is another, if it is another word."""
    life = Life([rule(when={"jq": ".a"}, resolve={"property": "cpu", "to": 0})])
    for minute, result in enumerate((True, True, "high", "high", "full"), start=1):
        life.results = {".a": result}
        life.to(minute, minute)
    assert life.told == [(1, Step.OPENED), (3, Step.CHANGED), (5, Step.CHANGED)]


def test_the_end_keeps_the_beginning() -> None:
    """So that it can be said how long it lasted; the reason says that it is the end."""
    life = Life([HYSTERESIS])
    life.to(85, 1)
    decision = life.to(60, 13)
    (incident,) = decision.incidents
    assert (incident.opened_at, incident.resolved_at) == (NOW + MINUTE, NOW + 13 * MINUTE)
    assert (incident.state, decision.cancel) == ("60", (incident.id,))
    assert only(decision).notification.opened_at == incident.opened_at
    assert decision.reason == "rule 'cpu': cpu went from 85 to 60; rule 'cpu': its incident ends"


def test_the_end_may_show_in_another_value() -> None:
    """Then that one is told."""
    life = Life([rule(when={"property": "cpu", "above": 80}, resolve={"property": "status", "to": "Up"})])
    life.to(85, 1)
    decision = life.take(moved({"cpu": 85, "status": "Down"}, {"cpu": 85, "status": "Up"}), 2)
    told = only(decision).notification
    assert told.change is not None
    assert (told.step, told.change.name, told.change.after) == (Step.RESOLVED, "status", "Up")


@pytest.mark.parametrize("one", [HYSTERESIS, LASTING, REMINDING, BUILT_IN], ids=lambda one: str(one.name))
def test_a_deleted_entity_has_no_incident(one: Rule) -> None:
    """Its end is told, and nothing is said of it later."""
    life = Life([one])
    life.take(moved({"cpu": 70, "healthStatus": "Healthy"}, {"cpu": 85, "healthStatus": "Crashed"}), 0)
    decision = life.take(moved({"cpu": 85, "healthStatus": "Crashed"}, None, action="DELETE"), 10)
    assert life.state.incidents == ()
    assert only(decision).notification.step is Step.RESOLVED
    told = life.told
    assert life.wait(10_000).told == told


def test_a_timer_leaves_incidents_alone() -> None:
    """Its event carries no entity, which does not mean that the value is gone."""
    life = Life([LASTING, replace_name(REMINDING, "reminding")])
    life.to(85, 0)
    decision = life.take(change(None, None, action="TIMER_EXPIRED", timer="lock"), 1)
    assert (decision.alerts, decision.incidents, decision.cancel) == ((), (), ())
    assert len(life.state.incidents) == 2


def replace_name(one: Rule, name: str) -> Rule:
    """Return the rule under another name."""
    return one.model_copy(update={"name": name})


# Waiting


def test_what_must_last_is_told_when_it_has_lasted() -> None:
    """A row that falls due: from the change's own time on, if the change took a while to arrive."""
    life = Life([LASTING])
    decision = life.take(cpu(70, 85), 0, arrives=1)
    alert = only(decision)
    assert (alert.due_at, alert.notification.step) == (NOW + 5 * MINUTE, Step.OPENED)
    assert [one.due_at for one in decision.incidents] == [alert.due_at]
    assert life.wait(4).told == []
    assert life.wait(60).told == [(5, Step.OPENED)]


def test_what_arrives_after_it_has_lasted_is_told_at_once() -> None:
    """Nobody waits twice."""
    life = Life([LASTING])
    life.take(cpu(70, 85), 0, arrives=7)
    assert life.told == [(7, Step.OPENED)]


def test_what_does_not_last_is_never_heard_of() -> None:
    """Neither its beginning nor its end."""
    life = Life([LASTING])
    life.to(85, 0)
    decision = life.to(75, 3)
    assert (decision.alerts, decision.cancel) == ((), tuple(one.id for one in decision.incidents))
    assert decision.reason == "rule 'cpu': cpu went from 85 to 75; rule 'cpu': it did not last"
    assert life.wait(60).told == []


def test_each_time_it_waits_anew() -> None:
    """What came back counts from its return."""
    life = Life([LASTING])
    for minute, value in ((0, 85), (3, 75), (4, 90)):
        life.to(value, minute)
    assert life.wait(60).told == [(9, Step.OPENED)]


def test_the_end_of_what_lasted_is_told() -> None:
    """Whoever heard of it hears that it is over."""
    life = Life([LASTING])
    life.to(85, 0)
    life.to(75, 30)
    assert life.told == [(5, Step.OPENED), (30, Step.RESOLVED)]


def test_waiting_goes_with_hysteresis() -> None:
    """Until it is told, what falls below its own limit did not last; after that only `resolve` ends it."""
    said = {"property": "cpu", "above": 80, "for": "5m"}
    life = Life([rule(when=said, resolve={"property": "cpu", "below": 70})])
    for minute, value in ((0, 85), (2, 75), (10, 85), (20, 75), (25, 90), (30, 60)):
        life.to(value, minute)
    assert life.told == [(15, Step.OPENED), (30, Step.RESOLVED)]


def test_a_change_while_waiting_is_what_is_told() -> None:
    """At the time at which the first was due, and as the beginning that it is to those who hear it."""
    life = Life([rule(when={"property": "cpu", "to": {"not": "ok"}, "for": "5m"})], value="ok")
    life.to("high", 0)
    decision = life.to("full", 3)
    alert = only(decision)
    assert (alert.due_at, alert.notification.step) == (NOW + 5 * MINUTE, Step.OPENED)
    assert decision.cancel == (alert.incident_id,)
    assert life.wait(60).told == [(5, Step.OPENED)]
    life.to("high", 61)
    assert life.told[1:] == [(61, Step.CHANGED)]


def test_the_same_again_while_waiting() -> None:
    """It goes on waiting, and the reason does not claim that anybody has heard."""
    life = Life(
        [rule(when={"jq": ".a", "for": "5m"}, resolve={"property": "cpu", "to": 0})], results={".a": True}
    )
    life.to(1, 0)
    assert life.to(2, 1).reason == "rule 'cpu' matches; rule 'cpu' waits to tell of 'matched' already"
    assert life.wait(60).told == [(5, Step.OPENED)]


def test_what_left_its_value_did_not_last() -> None:
    """Also where the way there counted."""
    life = Life([rule(when={"property": "cpu", "from": "ok", "to": "high", "for": "5m"})], value="ok")
    life.to("high", 0)
    life.to("full", 3)
    assert life.wait(60).told == []


def test_what_ends_as_it_begins_does_not_last() -> None:
    """Healthy again, of which no beginning is known: nothing to wait for, nothing to tell."""
    one = rule(when={"property": "cpu", "for": "5m"}, resolve={"property": "cpu", "to": "ok"})
    decision = Life([one], value="high").to("ok", 0)
    assert decision == Decision("rule 'cpu' matches; rule 'cpu': it did not last")


# Reminders


def test_reminders_while_it_is_open() -> None:
    """Each hour from the alert on, until the end."""
    life = Life([REMINDING])
    alerts = life.to(85, 0).alerts
    assert [(one.notification.step, one.due_at, one.repeat) for one in alerts] == [
        (Step.OPENED, None, None),
        (Step.REMINDED, NOW + HOUR, HOUR),
    ]
    assert alerts[1].notification.at == NOW + HOUR
    life.to(60, 150)
    assert life.wait(1000).told == [
        (0, Step.OPENED),
        (60, Step.REMINDED),
        (120, Step.REMINDED),
        (150, Step.RESOLVED),
    ]


def test_a_change_begins_the_hour_anew() -> None:
    """The old reminder is taken back, and the new one tells of the new state; the same state leaves it."""
    life = Life(
        [
            rule(
                when={"property": "cpu", "to": ["high", "full"]},
                resolve={"property": "cpu", "to": 0},
                again_after="1h",
            )
        ]
    )
    for minute, value in ((0, "high"), (20, "odd"), (30, "high"), (40, "full")):
        decision = life.to(value, minute)
    assert decision.cancel
    assert [one.notification.change and one.notification.change.after for one in life.later] == ["full"]
    assert life.wait(110).told == [(0, Step.OPENED), (40, Step.CHANGED), (100, Step.REMINDED)]


def test_a_reminder_counts_from_when_it_is_told() -> None:
    """After waiting; and what did not last reminds nobody."""
    one = rule(when={"property": "cpu", "above": 80, "for": "5m"}, again_after="1h")
    life = Life([one])
    life.to(85, 0)
    life.to(75, 2)
    life.to(85, 10)
    assert life.wait(80).told == [(15, Step.OPENED), (75, Step.REMINDED)]


def test_a_reminder_without_a_resolve_ends_with_its_cause() -> None:
    """An incident that never closes would remind for ever."""
    life = Life([rule(when={"property": "cpu", "above": 80}, again_after="1h")])
    life.to(85, 0)
    life.to(79, 70)
    assert life.wait(1000).told == [(0, Step.OPENED), (60, Step.REMINDED), (70, Step.RESOLVED)]


# Late


@pytest.mark.parametrize("after", ["Healthy", "Crashed"])
@pytest.mark.parametrize("opened", [True, False])
def test_a_late_change_is_told_and_moves_no_incident(after: str, opened: bool) -> None:
    """Older than the last one seen: it says so, and neither opens, changes nor resolves."""
    life = Life([BUILT_IN])
    if opened:
        life.take(health(), 0)
    life.take(moved({"cpu": 1}, {"cpu": 2}), 10)
    before = life.state
    decision = life.take(health("Degraded", after), 5)
    told = only(decision)
    assert (told.notification.late, told.notification.step, told.incident_id) == (True, Step.NOTICED, None)
    assert (decision.incidents, decision.cancel, life.state) == ((), (), before)
    assert decision.reason == "rule 'health' matches; late: a newer change was seen"


def test_a_late_end_is_not_told() -> None:
    """It resolves nothing, so there is nothing to say."""
    decision = decide(matched([HYSTERESIS], cpu(85, 60)), EntityState(NOW + MINUTE), NOW)
    assert decision == Decision("rule 'cpu': cpu went from 85 to 60")


def test_what_must_last_and_comes_late_is_not_told() -> None:
    """Whether it lasted is not for an old change to say; the reason is kept."""
    decision = decide(matched([LASTING], cpu(70, 85)), EntityState(NOW + MINUTE), NOW)
    assert decision == Decision("rule 'cpu' matches; rule 'cpu': too late to see whether it lasts")


def test_a_late_change_that_does_not_matter_keeps_its_reason() -> None:
    """Where nothing is told, it does not count that it came late."""
    decision = decide(matched([BUILT_IN], health("Healthy", "Healthy")), EntityState(NOW + MINUTE), NOW)
    assert decision == Decision("rule 'health': healthStatus did not change")


def test_the_same_time_is_not_late() -> None:
    """Two changes of one millisecond are both taken at their word."""
    assert not only(decide(matched([BUILT_IN], health()), EntityState(NOW), NOW)).notification.late


# Several rules, several destinations


def test_two_rules_on_one_change() -> None:
    """Two alerts, two incidents; each names the other's value among what else changed."""
    what = moved({"healthStatus": "Healthy", "cpu": 70}, {"healthStatus": "Degraded", "cpu": 85})
    found = matched([BUILT_IN, HYSTERESIS], what)
    decision = decide(found, EntityState(), NOW)
    told = [alert.notification for alert in decision.alerts]
    assert decision.reason == "rule 'health' matches; rule 'cpu' matches"
    assert [one.change and one.change.name for one in told] == ["healthStatus", "cpu"]
    assert [[other.name for other in one.others] for one in told] == [["cpu"], ["healthStatus"]]
    assert [one.rule for one in decision.incidents] == ["health", "cpu"]


def test_every_rule_has_incidents_of_its_own() -> None:
    """One ends, the other goes on."""
    life = Life([BUILT_IN, HYSTERESIS])
    life.take(moved({"healthStatus": "Healthy", "cpu": 70}, {"healthStatus": "Degraded", "cpu": 85}), 0)
    life.take(moved({"healthStatus": "Degraded", "cpu": 85}, {"healthStatus": "Degraded", "cpu": 60}), 1)
    assert [one.rule for one in life.state.incidents] == ["health"]


def test_each_destination_is_told_once() -> None:
    """Also where two names mean the same channel, and so the same lane."""
    routes = (ALERTS, Route("jobs", "jobs/3"), ALERTS, Route("also-alerts", "alerts"))
    decision = decide(matched([BUILT_IN], health(), *routes), EntityState(), NOW)
    assert [(one.destination, one.lane) for one in decision.alerts] == [
        ("alerts", "alerts"),
        ("jobs", "jobs/3"),
    ]


def test_a_destination_hears_of_the_steps_that_it_wants() -> None:
    """A job that mends something does not run again because it is mended."""
    job = Route("job", "job", frozenset({Step.OPENED, Step.NOTICED}))
    state = EntityState()
    opened = decide(matched([HYSTERESIS], cpu(70, 85), job, ALERTS), state, NOW)
    state = EntityState(NOW, opened.incidents)
    ended = decide(matched([HYSTERESIS], cpu(85, 60), job, ALERTS), state, NOW)
    unknown_end = decide(matched([BUILT_IN], health("Degraded", "Healthy"), job, ALERTS), EntityState(), NOW)
    assert [one.destination for one in opened.alerts] == ["job", "alerts"]
    assert [one.destination for one in ended.alerts] == ["alerts"]
    assert [one.destination for one in unknown_end.alerts] == ["alerts"]


def test_a_rule_nobody_hears_of_still_keeps_its_incident() -> None:
    """Routes may come back with the next version of the rules."""
    found = match(RuleSet([HYSTERESIS]), cpu(70, 85), {})
    decision = decide(found, EntityState(), NOW)
    assert (decision.alerts, len(decision.incidents)) == ((), 1)


# Whatever happens


@given(
    st.sampled_from((HYSTERESIS, LASTING, REMINDING)),
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from((50, 75, 85, 95, None))), max_size=12),
)
@settings(max_examples=150, deadline=None)
def test_the_story_makes_sense_to_who_hears_it(one: Rule, steps: list[tuple[int, Any]]) -> None:
    """It begins before it ends, ends before it begins again, and reminds only in between."""
    life, minute = Life([one]), 0
    for pause, value in steps:
        minute += pause
        life.to(value, minute)
        assert len(life.state.incidents) <= 1
    life.take(moved({"cpu": life.value}, None, action="DELETE"), minute + 1)
    life.wait(minute + 10_000)
    is_open = False
    for _, step in life.told:
        assert step in ({Step.REMINDED, Step.RESOLVED} if is_open else {Step.OPENED})
        is_open = step is not Step.RESOLVED
    assert not is_open
    assert life.state.incidents == ()
    assert life.later == []


def test_an_entity_without_properties() -> None:
    """A change of nothing is no trouble."""
    assert decide(matched([HYSTERESIS], change(entity(), entity())), EntityState(), NOW).alerts == ()
