"""Rules on runs and on scorecards: what matches, what is said of it, and what Port need not send."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from app.cli.rules.commands import with_values
from app.model.change import CatalogChange
from app.model.diff import diff
from app.model.incident import Route, Step
from app.model.notification import Notification
from app.notifier.alert_body import alert_body
from app.notifier.base import Item
from app.notifier.slack.alert import alert_message
from app.receive.payload import parse_event
from app.receive.signature import Signed
from app.rules.decide import EntityState, decide
from app.rules.match import match, why_not
from app.rules.rule import Rule, RuleSet
from app.rules.watched import snapshot_of, watched_by
from tests.conftest import NOW
from tests.notifier.helpers import context
from tests.rules.changes import change, condition, entity, rule
from tests.rules.life import matched

PAYLOADS = Path(__file__).parents[1] / "payloads"
RUNS = {"on": ["RUN_CREATED", "RUN_UPDATED"]}
FAILED = rule(**RUNS, when={"run": "status", "to": "FAILURE"}, severity="critical")
STUCK = rule(**RUNS, when={"run": "status", "to": "WAITING_FOR_APPROVAL", "for": "1h"})
HOUR = timedelta(hours=1)


def run_of(before: Any, after: Any, at: Any = NOW, **facts: Any) -> CatalogChange:
    """Return the change of a run of Port's own example, between two statuses; None: there is no such side."""
    body = json.loads((PAYLOADS / "run_updated.json").read_text())
    event = body["event"]
    event["action"] = "UPDATE" if before else "CREATE"
    event["trigger"]["at"] = at.isoformat()
    for side, status in (("before", before), ("after", after)):
        facts_ = {**event["diff"][side], "status": status} | facts
        event["diff"][side] = facts_ if status else None
    return parse_event(Signed(json.dumps(body).encode(), at))


@pytest.mark.parametrize(
    ("said", "what", "matches"),
    [
        ({"run": "status", "to": "FAILURE"}, run_of("IN_PROGRESS", "FAILURE"), True),
        ({"run": "status", "to": "FAILURE"}, run_of("FAILURE", "FAILURE", summary="again"), False),
        ({"run": "status", "to": "FAILURE"}, run_of("IN_PROGRESS", "SUCCESS"), False),
        ({"run": "status", "to": "WAITING_FOR_APPROVAL"}, run_of(None, "WAITING_FOR_APPROVAL"), True),
        ({"run": "status", "from": "IN_PROGRESS"}, run_of("IN_PROGRESS", "FAILURE"), True),
        (
            {"all": [{"run": "action", "to": "myActionId"}, {"run": "status", "to": "FAILURE"}]},
            run_of("IN_PROGRESS", "FAILURE"),
            True,
        ),
        (
            {"all": [{"run": "action", "to": "another"}, {"run": "status", "to": "FAILURE"}]},
            run_of("IN_PROGRESS", "FAILURE"),
            False,
        ),
        (
            {"all": [{"run": "entity.title", "to": "entityTitle"}, {"run": "status"}]},
            run_of("IN_PROGRESS", "FAILURE"),
            True,
        ),
        (
            {"run": "properties.replicas", "above": 3},
            run_of(None, "IN_PROGRESS", properties={"replicas": 5}),
            True,
        ),
    ],
)
def test_conditions_on_runs(said: dict[str, Any], what: CatalogChange, matches: bool) -> None:
    """A run's fields are named as Port has them; of an object the identifier counts."""
    one = rule(**RUNS, when=said)
    hits = match(RuleSet([one]), what, {}).hits
    assert any(hit.matches for hit in hits) is matches


def test_runs_and_entities_do_not_meet() -> None:
    """A rule is about one of them, whatever its pattern, and is asked of no other."""
    health = rule(name="health", when={"property": "status"})
    rules = RuleSet([FAILED, health, rule(name="jq", **RUNS, when={"jq": ".a"})])
    assert rules.about("x") == (health,)
    assert rules.programs("x") == ()
    assert rules.programs("x", "run") == (".a",)
    what = run_of("IN_PROGRESS", "FAILURE")
    assert [hit.rule for hit in match(rules, what, {}).hits if hit.matches] == [FAILED]
    assert (
        match(RuleSet([health]), what, {}).reason
        == "no rule is about runs of blueprint 'blueprintIdentifier'"
    )
    created = rule(on="RUN_CREATED", when={"run": "status", "to": "FAILURE"})
    assert why_not(created, what, {}) == "watches RUN_CREATED, this is 'UPDATE'"
    named = RuleSet(
        [rule(**RUNS, blueprint="service"), rule(name="b", blueprint="service", when={"title": True})]
    )
    assert watched_by(named)["service"].fields == frozenset({"title", "team"})
    assert watched_by(RuleSet([rule(**RUNS, blueprint="service")])) == {}
    assert named.why_gone("cpu", "other") == "rule 'cpu' is no longer about blueprint 'other'"


@pytest.mark.parametrize(
    ("said", "mistake"),
    [
        ({"on": ["RUN_CREATED", "UPDATE"]}, "on: a rule is about runs or about entities"),
        ({**RUNS, "when": {"property": "status"}}, "with on: RUN_CREATED a condition is about `run`, or jq"),
        ({"when": {"run": "status"}}, "`run` belongs to a rule with on: RUN_CREATED or RUN_UPDATED"),
        ({"when": {"scorecard": "ready", "below": "Platinum"}}, "must be one of Basic, Bronze, Silver, Gold"),
        ({"when": {"scorecard": "ready", "below": 2}}, "must be one of Basic, Bronze, Silver, Gold"),
        ({"when": {"property": "tier", "below": "Gold"}}, "must be a number"),
        ({"when": {"property": "tier", "levels": ["a", "b"]}}, "levels belong to a scorecard"),
    ],
)
def test_what_makes_no_sense(said: dict[str, Any], mistake: str) -> None:
    """It is refused, with what would be right."""
    with pytest.raises(ValidationError, match=mistake):
        rule(**said)


def told(one: Rule, what: CatalogChange) -> Notification:
    """Return what is said of a change that a rule matches."""
    (alert,) = decide(matched([one], what), EntityState(), what.at).alerts
    return alert.notification


def test_what_is_said_of_a_run() -> None:
    """The action and its entity, the run's own page and links, who started it; no entity's page."""
    links = ["https://ci.example.com/1", "https://ci.example.com/2"]
    alert = told(FAILED, run_of("IN_PROGRESS", "FAILURE", link=links))
    assert (alert.title, alert.resource) == ("entityTitle: Some action title", "run")
    assert [link.url for link in alert.links] == links
    body = alert_body(Item("k", alert, incident_id=None), context(page_url="https://l.example.com"))
    assert body.links.port == "https://app.port.io/organization/run?runId=r_Q0YotCZMKxDLdlaU"
    assert body.links.page == (
        "https://l.example.com/entity?blueprint=blueprintIdentifier&entity=r_Q0YotCZMKxDLdlaU"
    )
    assert (body.actor, body.state) == ("James Hetfield", "FAILURE")
    assert "entityTitle: Some action title: status IN_PROGRESS → FAILURE" in body.text
    started = told(rule(**RUNS, when={"run": "status"}), run_of(None, "IN_PROGRESS"))
    assert "Some action title started: status IN_PROGRESS" in alert_body(Item("k", started), context()).text
    text = json.dumps(alert_message(alert, "https://app.port.io"))
    assert "organization/run?runId=r_Q0YotCZMKxDLdlaU" in text
    assert "Entity?identifier" not in text


def test_a_run_that_waits_too_long() -> None:
    """`for` counts from its beginning, also of one that begins so; an answer in time ends it unheard."""
    what = run_of(None, "WAITING_FOR_APPROVAL")
    decision = decide(matched([STUCK], what), EntityState(), NOW)
    (alert,) = decision.alerts
    assert (alert.due_at, alert.notification.step) == (NOW + HOUR, Step.OPENED)
    (incident,) = decision.incidents
    assert incident.entity == "r_Q0YotCZMKxDLdlaU"
    later = run_of("WAITING_FOR_APPROVAL", "IN_PROGRESS", NOW + HOUR / 2)
    state = EntityState(NOW, (incident,))
    ended = decide(matched([STUCK], later), state, NOW + HOUR / 2)
    assert (ended.alerts, ended.cancel) == ((), (incident.id,))
    assert ended.incidents[0].resolved_at
    after = decide(
        matched([STUCK], run_of("WAITING_FOR_APPROVAL", "SUCCESS", NOW + 2 * HOUR)), state, NOW + 2 * HOUR
    )
    assert [one.notification.step for one in after.alerts] == [Step.RESOLVED]


LEVELS: list[tuple[Any, Any, bool]] = [
    ("Gold", "Silver", True),
    ("Gold", "Basic", True),
    ("Silver", "Bronze", False),
    ("Silver", "Gold", False),
    (None, "Bronze", True),
    ("Gold", None, False),
    ("Gold", "Platinum", False),
]


@pytest.mark.parametrize(("before", "after", "fell"), LEVELS)
def test_a_level_that_falls(before: Any, after: Any, fell: bool) -> None:
    """`below` is a crossing, by the order of the levels; a level that is none of them is not compared."""
    below = condition(scorecard="ready", below="Gold")
    sides = (entity(scorecards={"ready": level} if level else {}) for level in (before, after))
    what = change(*sides)
    assert below.matches(what, {}) is fell
    assert below.path == ("scorecards", "ready")


def test_levels_of_its_own() -> None:
    """A scorecard that has others names them, the lowest first."""
    above = condition(scorecard="dora", levels=["low", "medium", "high", "elite"], above="low")
    what = change(entity(scorecards={"dora": "low"}), entity(scorecards={"dora": "high"}))
    assert above.matches(what, {})
    assert above.state(what, {}) == "above low"


def test_what_is_said_of_a_scorecard() -> None:
    """It is named without its place, and what it fell below."""
    one = rule(when={"scorecard": "ready", "below": "Gold"}, resolve={"scorecard": "ready", "to": "Gold"})
    what = change(entity(scorecards={"ready": "Gold"}), entity(scorecards={"ready": "Bronze"}))
    alert = told(one, what)
    body = alert_body(Item("k", alert), context())
    assert "ready Gold → Bronze (below Gold)" in body.text
    assert one.fields == frozenset({"scorecards.ready"})


FELL = rule(when={"scorecard": "prod", "below": "Silver"}, again_after="1h")
BASIC = {"scorecard": "prod", "to": "Basic"}
NO_MORE = {"scorecard": "prod", "to": {"not": "Basic"}}
EITHER = rule(when={"any": [BASIC, {"property": "a", "to": 0}]}, again_after="1h")
ALIKE = rule(when=BASIC, resolve={"any": [NO_MORE, {"property": "b", "to": 1}]})
BY_JQ = rule(when={"jq": ".scorecards.basic"}, resolve={"jq": ".scorecards.level"})


@pytest.mark.parametrize(
    ("one", "then", "reconciled", "ends"),
    [
        (FELL, {}, False, False),
        (FELL, {"prod": "Gold"}, False, True),
        (rule(when=BASIC, resolve=NO_MORE), {"other": "Gold"}, False, False),
        (rule(when=BASIC, resolve=NO_MORE), {"prod": "Gold"}, False, True),
        (BY_JQ, {"other": "Gold"}, True, False),
        (BY_JQ, {}, True, False),
        (BY_JQ, {}, False, False),
        (EITHER, {}, False, False),
        (EITHER, {"prod": "Gold"}, False, True),
        (ALIKE, {"other": "Gold"}, False, False),
        (BY_JQ, {"prod": "Gold"}, False, True),
    ],
)
def test_a_body_without_scorecards(one: Rule, then: dict[str, str], reconciled: bool, ends: bool) -> None:
    """It says nothing of an open incident of theirs; one that has the level ends it."""
    sides = (entity({"a": 1}, scorecards={"prod": level}) for level in ("Gold", "Basic"))
    began = matched(
        [one], change(*sides, at=NOW - HOUR), **{".scorecards.basic": True, ".scorecards.level": False}
    )
    state = EntityState(NOW - HOUR, decide(began, EntityState(), NOW).incidents)
    assert len(state.incidents) == 1
    later = change(*(entity({"a": value}, scorecards=then) for value in (1, 2)), at=NOW)
    found = matched([one], later, **{".scorecards.basic": False, ".scorecards.level": True})
    if reconciled:  # as intake has it
        found = replace(found, hits=tuple(hit for hit in found.hits if not hit.rule.reads_scorecards))
    decision = decide(found, state, NOW, reconciled=reconciled)
    assert [incident.resolved_at is not None for incident in decision.incidents] == [True] * ends


@pytest.mark.parametrize("then", [{}, {"other": "Gold"}])
@pytest.mark.parametrize("one", [FELL, rule(when=BASIC, resolve=NO_MORE), EITHER, ALIKE, BY_JQ])
def test_scorecards_that_vanish_from_a_body(one: Rule, then: dict[str, str]) -> None:
    """Nothing of them has changed: no incident ends, none of a level that was left begins, none changes."""
    began = change(*(entity({"a": 1}, scorecards={"prod": level}) for level in ("Gold", "Basic")))
    results = {".scorecards.basic": True, ".scorecards.level": False}
    opened = decide(matched([one], began, **results), EntityState(), NOW)
    state = EntityState(NOW, opened.incidents)
    sides = entity({"a": 1}, scorecards={"prod": "Basic"}), entity({"a": 2}, scorecards=then)
    later = change(*sides, at=NOW + HOUR, key="2" * 16)
    results = {".scorecards.basic": bool(then), ".scorecards.level": not then}
    left = rule(name="left", when={"scorecard": "prod", "from": "Basic"})
    decision = decide(matched([one, left], later, **results), state, NOW + HOUR)
    assert [value.name for value in diff(later.before, later.after)] == [
        "a",
        *(f"scorecards.{x}" for x in then),
    ]
    assert (decision.alerts, decision.incidents) == ((), ())


@pytest.mark.parametrize(
    ("program", "reads"),
    [
        (".diff.after.scorecards.prod.level", True),
        ('.diff.after["scorecards"]', True),
        (".diff.after.properties.scorecardsDone", False),
        (".diff.after.properties.scorecards", False),
    ],
)
def test_what_reads_scorecards(program: str, reads: bool) -> None:
    """A property that is only called so is one like any other: its incident ends by any body."""
    assert rule(when={"jq": program}).reads_scorecards is reads


def test_the_lost_end_of_a_run() -> None:
    """A later change of the run shows that what was wrong with it is over."""
    state = EntityState(
        NOW, decide(matched([STUCK], run_of(None, "WAITING_FOR_APPROVAL")), EntityState(), NOW).incidents
    )
    later = run_of("SUCCESS", "SUCCESS", NOW + HOUR / 2, summary="done")
    (ended,) = decide(matched([STUCK], later), state, NOW + HOUR / 2).incidents
    assert ended.resolved_at


def test_levels_come_from_ports_bodies_and_go_into_ours() -> None:
    """Only the level counts; two changes that differ in it alone are two; what is watched keeps it."""
    body = json.loads((PAYLOADS / "automation_update.json").read_text())
    sides = body["event"]["diff"]
    for side, level in (("before", "Gold"), ("after", "Silver")):
        sides[side]["scorecards"] = {"ready": {"level": level, "rules": [{"identifier": "x"}]}, "odd": 5}
    first = parse_event(Signed(json.dumps(body).encode(), NOW))
    assert [value.name for value in diff(first.before, first.after) if value.path[0] == "scorecards"] == [
        "scorecards.ready"
    ]
    assert first.after
    assert first.after.scorecards == {"ready": "Silver"}
    sides["after"]["scorecards"]["ready"]["level"] = "Bronze"
    assert parse_event(Signed(json.dumps(body).encode(), NOW)).key != first.key
    one = rule(blueprint="service", when={"scorecard": "ready", "below": "Gold"})
    watched = watched_by(RuleSet([one]))["service"]
    values = watched.values(first.after)
    assert values["scorecards.ready"] == "Silver"
    assert snapshot_of("a", "service", values).scorecards == {"ready": "Silver"}


def test_routes_of_a_run_are_its_own() -> None:
    """A run's alerts stay in order among themselves."""
    what = run_of("IN_PROGRESS", "FAILURE")
    (hit,) = matched([FAILED], what, Route("a", "a")).hits
    assert (hit.state, hit.matches) == ("FAILURE", True)


def test_a_run_with_other_values() -> None:
    """`rules test --set` sets a run's own fields, as it sets an entity's properties."""
    body = with_values((PAYLOADS / "run_updated.json").read_bytes(), ["status=FAILURE"])
    what = parse_event(Signed(body, NOW))
    assert [hit.rule for hit in match(RuleSet([FAILED]), what, {}).hits] == [FAILED]
