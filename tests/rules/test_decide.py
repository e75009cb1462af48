"""What a change leads to, from one change to the next."""

import json
from dataclasses import replace

import pytest

from app.model.change import CatalogChange
from app.model.incident import Incident, Route, Step
from app.notifier.slack.alert import alert_message
from app.rules.decide import Decision, EntityState, decide
from app.rules.match import match
from app.rules.rule import BUILT_IN, Rule, RuleSet
from tests.rules.changes import MINUTE, NOW, change, cpu, entity, moved, rule
from tests.rules.life import ALERTS, HOUR, HYSTERESIS, LASTING, REMINDING, Life, health, matched, only

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
        (health(resource="run", action="scale_up"), "no rule is about runs of blueprint 'database'"),
        (health(resource="blueprint"), "no rule asks for a blueprint: rules are about entities and runs"),
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
    assert matched(rules, cpu(70, 85), **{".no": False}).reason == (
        "rule 'a': ram did not change; rule 'b': cpu went from 70 to 85; the rule has above 90; "
        "rule 'c': jq gave false; rule 'd': watches CREATE, DELETE, this is 'UPDATE'; "
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


@pytest.mark.parametrize("when", [{"property": "ttl"}, None])
@pytest.mark.parametrize("whole", [True, False])
def test_a_timers_alert_is_about_no_value(when: dict[str, str] | None, whole: bool) -> None:
    """Whether its event has the entity or not, nothing changed but that the timer ran out."""
    after = entity({"ttl": "2026-06-09T12:28:18Z", "tier": 1}) if whole else None
    what = change(None, after, action="TIMER_EXPIRED", timer="ttl")
    one = rule(on="TIMER_EXPIRED", **({"when": when} if when else {}))
    notification = only(decide(matched([one], what), EntityState(), NOW)).notification
    assert (notification.change, notification.others, notification.timer) == (None, (), "ttl")
    assert "The timer of ttl ran out" in json.dumps(alert_message(notification, "https://app.port.io"))


# The life of an incident


def test_the_first_trouble_opens_an_incident() -> None:
    """The incident bears the rule, the entity, the state and the change's time; the alert points to it."""
    decision = decide(matched([HYSTERESIS], cpu(70, 85)), EntityState(), NOW + HOUR)
    assert decision.incidents == (
        Incident(
            "cpu-0123456789abcdef01234567",
            "cpu",
            "database",
            "payments-db",
            "above 80",
            NOW,
            NOW,
            told=(ALERTS,),
            openings=(NOW,),
        ),
    )
    alert = only(decision)
    assert (alert.destination, alert.queue, alert.incident_id) == (
        "alerts",
        "alerts",
        "cpu-0123456789abcdef01234567",
    )
    assert (alert.due_at, alert.repeat, alert.notification.opened_at) == (None, None, NOW)


def test_hysteresis() -> None:
    """Above 80 opens, in between is nothing, below 70 closes, and then it may open again."""
    life = Life([HYSTERESIS])
    for minute, value in enumerate((75, 85, 95, 75, 72, 85, 75, 69, 60, 75, 81)):
        life.to(value, minute)
    assert life.told == [(1, Step.OPENED), (7, Step.RESOLVED), (10, Step.OPENED)]


def test_what_never_opened_never_resolves() -> None:
    """Falling below the end's limit is not worth a word of its own."""
    decision = Life([HYSTERESIS], value=75).to(60, 0)
    assert decision == Decision("rule 'cpu': cpu went from 75 to 60; the rule has above 80")


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
    assert life.to("high", 3).reason == "rule 'cpu' matches; rule 'cpu' has alerted of 'high' already"
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
    assert (
        decision.reason
        == "rule 'cpu': cpu went from 85 to 60; the rule has above 80; rule 'cpu': its incident ends"
    )


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
    assert life.open == []
    assert only(decision).notification.step is Step.RESOLVED
    told = life.told
    assert life.wait(10_000).told == told


def test_a_timer_leaves_incidents_alone() -> None:
    """Its event carries no entity, which does not mean that the value is gone."""
    life = Life([LASTING, replace_name(REMINDING, "reminding")])
    life.to(85, 0)
    decision = life.take(change(None, None, action="TIMER_EXPIRED", timer="lock"), 1)
    assert (decision.alerts, decision.incidents, decision.cancel) == ((), (), ())
    assert len(life.open) == 2


def replace_name(one: Rule, name: str) -> Rule:
    """Return the rule under another name."""
    return one.model_copy(update={"name": name})


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
    assert [one.rule for one in life.open] == ["health"]


def test_each_destination_is_told_once() -> None:
    """Also where two names mean the same channel, and so the same queue."""
    routes = (ALERTS, Route("jobs", "jobs/3"), ALERTS, Route("also-alerts", "alerts"))
    decision = decide(matched([BUILT_IN], health(), *routes), EntityState(), NOW)
    assert [(one.destination, one.queue) for one in decision.alerts] == [
        ("alerts", "alerts"),
        ("jobs", "jobs/3"),
    ]


def test_a_destination_hears_of_the_steps_that_it_wants() -> None:
    """A job that fixes something does not run again because it is fixed."""
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


def test_an_entity_without_properties() -> None:
    """A change of nothing is no trouble."""
    assert decide(matched([HYSTERESIS], change(entity(), entity())), EntityState(), NOW).alerts == ()


# Where it is told

ROCKET, STAR = Route("rocket", "rocket"), Route("star", "star")
OPENS_AND_ENDS = Route("tickets", "tickets/3", frozenset({Step.OPENED, Step.RESOLVED}))
OPENS = Route("jobs", "jobs", frozenset({Step.OPENED}))


def routed(values: list[tuple[int, tuple[Route, ...]]], rules: Rule = HYSTERESIS) -> list[set[str]]:
    """Let the `cpu` go through values, each with the routes of its time; return the queues that each told."""
    state, before, told = EntityState(), 0, list[set[str]]()
    for minute, (value, routes) in enumerate(values):
        what = replace(cpu(before, value), at=NOW + minute * MINUTE, key=f"{minute:016}")
        decision = decide(matched([rules], what, *routes), state, what.at)
        kept = {one.id: one for one in (*state.incidents, *decision.incidents)}
        state, before = EntityState(what.at, tuple(kept.values())), value
        told.append({alert.queue for alert in decision.alerts})
    return told


FLAPPING = rule(
    when={"property": "cpu", "above": 80},
    resolve={"property": "cpu", "below": 70},
    flap={"changes": 3, "within": "10m"},
)


@pytest.mark.parametrize(
    ("values", "rules", "told"),
    [
        ([(85, (ROCKET,)), (60, (STAR,))], HYSTERESIS, [{"rocket"}, {"rocket", "star"}]),
        ([(85, (ROCKET, OPENS, OPENS_AND_ENDS)), (60, (STAR,))], HYSTERESIS,
         [{"rocket", "jobs", "tickets/3"}, {"rocket", "star", "tickets/3"}]),
        # By the queue that it began in, though the destination has others by now.
        ([(85, (OPENS_AND_ENDS,)), (60, (replace(OPENS_AND_ENDS, queue="tickets/1"),))], HYSTERESIS,
         [{"tickets/3"}, {"tickets/3"}]),
        # What ended there is over: what begins again is told where it belongs now.
        ([(85, (ROCKET,)), (60, (ROCKET,)), (85, (STAR,)), (60, (STAR,))], HYSTERESIS,
         [{"rocket"}, {"rocket"}, {"star"}, {"star"}]),
        ([(85, (ROCKET,)), (60, (ROCKET,)), (85, (STAR,)), (60, (STAR,))], FLAPPING,
         [{"rocket"}, {"rocket"}, {"star"}, {"star"}]),
        ([(85, (ROCKET,)), (60, (ROCKET,)), (85, (ROCKET,)), (60, (STAR,))], FLAPPING,
         [{"rocket"}, {"rocket"}, {"rocket"}, {"rocket", "star"}]),
    ],
)  # fmt: skip
def test_what_was_told_is_told_to_its_end(
    values: list[tuple[int, tuple[Route, ...]]], rules: Rule, told: list[set[str]]
) -> None:
    """Each later step goes where the rule sends now, and wherever the incident was told."""
    assert routed(values, rules) == told


@pytest.mark.parametrize("name", ["team", "relations"])
def test_another_order_is_no_change(name: str) -> None:
    """Neither for a rule about it, nor for one about any change."""
    teams = {"before": ("a", "b"), "after": ("b", "a")} if name == "team" else {}
    related = {"before": {"on": ["a", "b"]}, "after": {"on": ["b", "a"]}} if name == "relations" else {}
    before, after = (
        entity({}, teams=teams.get(side, ()), relations=related.get(side, {})) for side in ("before", "after")
    )
    what = change(before, after)
    about = rule(name="about", when={"team": True} if name == "team" else {"relation": "on"})
    assert decide(matched([about, rule(name="any")], what), EntityState(), NOW).alerts == ()


def test_an_alert_names_the_threshold_and_how_often() -> None:
    """Beyond which number its value is, at the beginning and at the end; and how often it began in a day."""
    life = Life([HYSTERESIS])
    heard = []
    day = 24 * 60
    for minute, value in (
        *((0, 85), (5, 60), (100, 90), (110, 50), (200, 91)),
        (day + 150, 50),
        (day + 160, 81),
    ):
        life.to(value, minute)
        assert life.last is not None
        heard.append((life.last.limit, life.last.times, life.last.last_at))
    above, below = "above 80", ("below 70", 0, None)
    assert heard == [
        (above, 1, None),
        below,
        (above, 2, NOW),
        below,
        (above, 3, NOW + 100 * MINUTE),
        below,
        (above, 2, NOW + 200 * MINUTE),
    ]


def test_trouble_that_did_not_last_is_not_counted() -> None:
    """Nobody heard of it."""
    lasting = {"property": "cpu", "above": 80, "for": "5m"}
    life = Life([rule(when=lasting, resolve={"property": "cpu", "below": 70})])
    for minute, value in ((0, 85), (2, 60), (10, 85), (20, 60)):
        life.to(value, minute)
    assert [len(one.openings) for one in life.state.incidents] == [1]


def test_what_is_over_says_how_bad_it_was() -> None:
    """The state that all is well in has no severity; and a change for the better is said."""
    severity = {"Crashed": "critical", "Degraded": "info"}
    health = rule(
        when={"property": "cpu"},
        resolve={"property": "cpu", "to": "Healthy"},
        severity=severity,
        name="health",
    )
    life = Life([health], value="Healthy")
    heard = []
    for minute, value in enumerate(("Degraded", "Crashed", "Degraded", "Healthy")):
        life.to(value, minute)
        assert life.last is not None
        heard.append((life.last.severity, life.last.worse, life.last.better))
    assert heard == [
        ("info", False, False),
        ("critical", True, False),
        ("info", False, True),
        ("info", False, False),
    ]
