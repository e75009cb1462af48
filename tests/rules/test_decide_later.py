"""What is told later, or never: waiting, reminders, late changes."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.model.incident import Acknowledgement, Person, Route, Step
from app.rules.decide import Decision, EntityState, decide
from app.rules.rule import BUILT_IN, Rule
from tests.rules.changes import MINUTE, NOW, cpu, moved, rule
from tests.rules.life import ALERTS, HOUR, HYSTERESIS, LASTING, REMINDING, Life, health, matched, only


def test_a_change_of_what_is_acknowledged() -> None:
    """The places that an escalation would reach stay, with their steps, until it is taken back."""
    job = Route("boss", "boss", frozenset({Step.OPENED}), later=True)
    life = Life([BUILT_IN])
    life.take(health(), 0)
    (incident,) = life.open
    by = Acknowledgement(NOW, Person("ana", "page"))
    life.state = replace(
        life.state, incidents=(replace(incident, acknowledged=by, told=(*incident.told, job)),)
    )
    life.take(health("Degraded", "Restarting"), 1)
    (incident,) = life.open
    assert incident.state == "Restarting"
    assert incident.told == (ALERTS, job)


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


@pytest.mark.parametrize("flaps", [False, True])
def test_a_clock_that_is_behind_ports(flaps: bool) -> None:
    """What must last, or stay stable, does so from now on: the change may seem to come from the future."""
    flap = {"changes": 2, "within": "5m"}
    often = rule(when={"property": "cpu", "above": 80}, resolve={"property": "cpu", "below": 80}, flap=flap)
    life = Life([often if flaps else LASTING])
    life.take(cpu(70, 85), 0, arrives=-120)
    if flaps:
        life.take(cpu(85, 70), 1, arrives=-119)
        life.take(cpu(70, 85), 2, arrives=-118)
    assert [alert.due_at for alert in life.later] == [NOW + (-113 if flaps else -115) * MINUTE]


def test_what_does_not_last_is_never_heard_of() -> None:
    """Neither its beginning nor its end."""
    life = Life([LASTING])
    life.to(85, 0)
    decision = life.to(75, 3)
    assert (decision.alerts, decision.cancel) == ((), tuple(one.id for one in decision.incidents))
    assert (
        decision.reason
        == "rule 'cpu': cpu went from 85 to 75; the rule has above 80; rule 'cpu': it did not last"
    )
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
    assert life.to(2, 1).reason == "rule 'cpu' matches; rule 'cpu' waits to alert of 'matched' already"
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
    assert decision == Decision("rule 'cpu': cpu went from 85 to 60; the rule has above 80")


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
        assert len(life.open) <= 1
    life.take(moved({"cpu": life.value}, None, action="DELETE"), minute + 1)
    life.wait(minute + 10_000)
    is_open = False
    for _, step in life.told:
        assert step in ({Step.REMINDED, Step.RESOLVED} if is_open else {Step.OPENED})
        is_open = step is not Step.RESOLVED
    assert not is_open
    assert life.open == []
    assert life.later == []
