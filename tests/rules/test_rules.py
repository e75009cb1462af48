"""Which rules a change can concern, and what each has to say to it."""

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from app.model.diff import diff
from app.rules.rule import BUILT_IN, MAX_STATE_CHARS, Rule, RuleSet
from tests.rules.changes import change, cpu, entity, moved, rule

ABOVE = {"property": "cpu", "above": 80}
BELOW = {"property": "cpu", "below": 70}


def names(rules: RuleSet, *args: Any) -> list[str]:
    """Return the names of the candidates for a change."""
    what = cpu(*args)
    return [one.name for one in rules.candidates(what, diff(what.before, what.after))]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            {"blueprint": "database", "on": "CREATE", "send": "alerts"},
            (("database",), ("CREATE",), ("alerts",)),
        ),
        (
            {"blueprint": ["a", "b"], "on": ["UPDATE", "DELETE"], "send": ["x", "y"]},
            (("a", "b"), ("UPDATE", "DELETE"), ("x", "y")),
        ),
        ({}, (("*",), ("UPDATE",), ("default",))),
    ],
)
def test_one_or_several(said: dict[str, Any], expected: tuple[Any, ...]) -> None:
    """A single one need not be a list; without any, updates of everything go to the default."""
    one = rule(**said)
    assert (one.blueprint, one.on, one.send) == expected


@pytest.mark.parametrize("pattern", ["^database$", "db.*", "a|b", "(db)", r"db\d", "db+", "db{2}", "/db/"])
def test_a_blueprint_is_no_regular_expression(pattern: str) -> None:
    """Who writes one is told of patterns, in place of a rule that never matches."""
    with pytest.raises(ValidationError, match="looks like a regular expression"):
        rule(blueprint=pattern)


@pytest.mark.parametrize(
    ("said", "has_incident"),
    [
        ({}, False),
        ({"when": ABOVE}, False),
        ({"when": ABOVE, "resolve": BELOW}, True),
        ({"when": ABOVE, "again_after": "1h"}, True),
        ({"when": ABOVE | {"for": "5m"}}, True),
    ],
)
def test_what_has_an_incident(said: dict[str, Any], has_incident: bool) -> None:
    """Whoever resolves, reminds or waits must remember."""
    assert rule(**said).has_incident is has_incident


def test_only_its_actions_matter() -> None:
    """An update is not a creation, whatever the values."""
    one = rule(on=["CREATE"], when=ABOVE)
    assert one.matches(moved(None, {"cpu": 85}, action="CREATE"), {})
    assert not one.matches(cpu(70, 85), {})
    assert not one.matches(cpu(70, 85, action="create"), {})


def test_without_a_condition_every_change_matters() -> None:
    """Of its actions."""
    assert rule(on="DELETE").matches(moved({}, None, action="DELETE"), {})


@pytest.mark.parametrize(
    ("when", "timer", "expected"),
    [
        (None, "lock", True),
        ({"property": "lock"}, "lock", True),
        ({"property": "lock", "to": "x"}, "lock", True),
        ({"property": "lease"}, "lock", False),
        ({"any": [{"property": "lease"}, {"property": "lock"}]}, "lock", True),
        ({"jq": ".yes"}, "lock", True),
        ({"jq": ".no"}, "lock", False),
        ({"title": True}, None, False),
        ({"jq": ".no"}, None, False),
        ({"property": "lock"}, None, False),
    ],
)
def test_a_timer_that_ran_out(when: dict[str, Any] | None, timer: str | None, expected: bool) -> None:
    """It concerns who names its property: there is no diff to look into."""
    one = rule(on="TIMER_EXPIRED", **({"when": when} if when else {}))
    what = change(None, None, action="TIMER_EXPIRED", timer=timer)
    assert one.matches(what, {".yes": True, ".no": False}) is expected


def test_a_timer_says_nothing_of_values() -> None:
    """It ends no incident: that its event carries no entity does not mean that the value is gone."""
    what = change(None, None, action="TIMER_EXPIRED", timer="lock")
    for said in ({"again_after": "1h"}, {"resolve": BELOW}, {"resolve": {"property": "cpu", "to": None}}):
        assert not rule(when=ABOVE, **said).resolves(what, {})
    assert not rule(when=ABOVE).lapses(what)


@pytest.mark.parametrize(
    ("said", "after", "resolves"),
    [
        ({"when": ABOVE, "resolve": BELOW}, 60, True),
        ({"when": ABOVE, "resolve": BELOW}, 75, False),
        ({"when": ABOVE | {"for": "5m"}, "resolve": BELOW}, 75, False),
        ({"when": ABOVE | {"for": "5m"}}, 75, True),
        ({"when": ABOVE, "again_after": "1h"}, 75, True),
        ({"when": ABOVE, "again_after": "1h"}, 85, False),
        ({"when": {"property": "cpu", "from": 90, "to": 95}, "again_after": "1h"}, 75, True),
        ({"when": ABOVE}, 60, False),
    ],
)
def test_what_ends_an_incident(said: dict[str, Any], after: int, resolves: bool) -> None:
    """`resolve`; where there is none, that `when` holds no more; nothing, if there are no incidents."""
    assert rule(**said).resolves(cpu(95, after), {}) is resolves


def test_a_deleted_entity_has_no_trouble() -> None:
    """Whatever the rule says."""
    gone = moved({"cpu": 85}, None, action="DELETE")
    assert rule(when=ABOVE, resolve=BELOW).resolves(gone, {})
    assert not rule(when=ABOVE).resolves(gone, {})


@pytest.mark.parametrize(
    ("what", "state"),
    [
        (cpu(70, 85), "above 80"),
        (moved(None, {"cpu": 85}, action="CREATE"), "above 80"),
        (cpu(85, 60), "60"),
        (moved({"cpu": 85}, None, action="DELETE"), "delete"),
        (change(None, None, action="TIMER_EXPIRED", timer="lock"), "lock expired"),
        (change(None, None, action="TIMER_EXPIRED"), "expired"),
    ],
)
def test_the_state(what: Any, state: str) -> None:
    """The threshold; else the value; else what happened: a new entity is no other trouble than an old one."""
    assert rule(when=ABOVE).state(what, {}) == state


def test_the_state_of_a_rule_about_no_value() -> None:
    """The action, or that it matched."""
    assert rule().state(cpu(1, 2), {}) == "update"
    assert rule(when={"jq": ".a"}).state(cpu(1, 2), {".a": True}) == "matched"


def test_a_long_state_is_cut_and_still_tells_apart() -> None:
    """A value of a megabyte is not kept as a state; one that differs only at its end is another."""
    one = rule(when={"property": "cpu"})
    states = {one.state(cpu("", "x" * 1_000_000 + end), {}) for end in "ab"}
    assert len(states) == 2
    assert max(map(len, states)) < MAX_STATE_CHARS + 20


def test_what_the_end_is_about() -> None:
    """Where the end is seen in another value than the beginning, that is what is told."""
    one = rule(when=ABOVE, resolve={"property": "status", "to": "Up"})
    end = one.main(moved({"cpu": 85, "status": "Down"}, {"cpu": 85, "status": "Up"}))
    assert end is not None
    assert (end.name, end.after) == ("status", "Up")
    assert rule(when={"jq": ".a"}).main(cpu(1, 2)) is None


def test_the_programs_of_a_blueprint() -> None:
    """Each once, of `when` and `resolve`, and of no other blueprint's rules."""
    rules = RuleSet(
        [
            rule(
                name="a", blueprint="data*", when={"any": [{"jq": ".a"}, {"jq": ".b"}]}, resolve={"jq": ".c"}
            ),
            rule(name="b", blueprint="database", when={"jq": ".a"}),
            rule(name="c", blueprint="service", when={"jq": ".d"}),
        ]
    )
    assert rules.programs("database") == (".a", ".b", ".c")


def test_blueprints_by_name_and_by_pattern() -> None:
    """In the order of the file, each once; upper and lower case are two things."""
    globs = ["database", "*", "data*", "d?tabase", "[dx]atabase", "Database", "db", ["database", "data*"]]
    rules = RuleSet([rule(name=str(number), blueprint=glob) for number, glob in enumerate(globs)])
    assert [one.name for one in rules.about("database")] == ["0", "1", "2", "3", "4", "7"]
    assert [one.name for one in rules.about("service")] == ["1"]
    assert rules.by_name["3"].blueprint == ("d?tabase",)


@pytest.mark.parametrize(
    ("said", "concerned"),
    [
        ({}, True),
        ({"when": {"jq": ".a"}}, True),
        ({"when": {"property": "cpu"}}, True),
        ({"when": {"property": "cpu.cores"}}, True),
        ({"when": {"property": "ram"}}, False),
        ({"when": {"relation": "ram"}}, False),
        ({"when": {"title": True}}, False),
        ({"when": {"team": True}}, False),
        ({"when": {"property": "ram"}, "resolve": {"property": "cpu", "to": 1}}, True),
        ({"when": {"any": [{"property": "ram"}, {"property": "cpu"}]}}, True),
        ({"when": {"property": "ram"}, "on": "CREATE"}, False),
    ],
)
def test_an_update_concerns_who_watches_what_changed(said: dict[str, Any], concerned: bool) -> None:
    """Everybody else cannot match and is not asked."""
    assert names(RuleSet([rule(**said)]), 70, 85) == (["cpu"] if concerned else [])


@pytest.mark.parametrize(
    ("said", "before", "after"),
    [
        ({"title": True}, {"title": "A"}, {"title": "B"}),
        ({"team": True}, {"teams": ("A",)}, {"teams": ("B",)}),
        ({"relation": "owner"}, {"relations": {"owner": "a"}}, {"relations": {"owner": "b"}}),
        ({"property": "a.b"}, {"properties": {"a.b": 1}}, {"properties": {"a.b": 2}}),
        ({"property": "a.b"}, {"properties": {"a": {"b": 1}}}, {"properties": {"a": {"b": 2}}}),
        ({"property": "a"}, {"properties": {"a": {"b": 1}}}, {"properties": {"a": {"b": 2}}}),
    ],
)
def test_whoever_matches_is_a_candidate(said: dict[str, Any], before: Any, after: Any) -> None:
    """Whatever it is that changed."""
    rules = RuleSet([rule(when=said)])
    what = change(entity(**before), entity(**after))
    assert rules.rules[0].matches(what, {})
    assert rules.candidates(what, diff(what.before, what.after)) == rules.rules


def test_other_actions_concern_everybody_of_the_blueprint() -> None:
    """A deletion ends incidents of any rule about it."""
    rules = RuleSet([rule(when={"property": "ram"}), rule(name="other", blueprint="service")])
    gone = moved({"cpu": 85}, None, action="DELETE")
    assert [one.name for one in rules.candidates(gone, diff(gone.before, gone.after))] == ["cpu"]


def test_a_thousand_rules_over_fifty_blueprints() -> None:
    """A change is held against the rules about its blueprint and its fields only."""
    rules = RuleSet(
        [
            rule(name=f"{b}/{p}", blueprint=f"blueprint-{b}", when={"property": f"p{p}"})
            for b in range(50)
            for p in range(20)
        ]
    )
    what = moved({"p3": 1, "p7": 1, "p8": 1}, {"p3": 2, "p7": 2, "p8": 1}, blueprint="blueprint-17")
    assert len(rules.rules) == 1000
    assert len(rules.about("blueprint-17")) == 20
    candidates = rules.candidates(what, diff(what.before, what.after))
    assert [one.name for one in candidates] == ["17/3", "17/7"]


def test_the_built_in_rule() -> None:
    """Any update of `healthStatus`, until it is Healthy."""
    assert BUILT_IN.matches(moved({"healthStatus": "Healthy"}, {"healthStatus": "On fire"}), {})
    assert BUILT_IN.resolves(moved({"healthStatus": "On fire"}, {"healthStatus": "Healthy"}), {})
    assert (BUILT_IN.blueprint, BUILT_IN.send, BUILT_IN.wait) == (("*",), ("default",), None)


def test_how_long_it_waits() -> None:
    """As long as its condition says."""
    assert rule(when=ABOVE | {"for": "5m"}).wait == timedelta(minutes=5)
    assert isinstance(rule(), Rule)


@pytest.mark.parametrize(
    ("severity", "before", "after", "expected"),
    [
        ("info", 1, 2, "info"),
        ({"Crashed": "critical"}, "Healthy", "Crashed", "critical"),
        ({"Crashed": "critical"}, "Healthy", "Degraded", "warning"),
        ({"above 80": "critical"}, 10, 90, "critical"),
        ({"90": "info"}, 10, 90, "info"),
        ({"true": "info"}, False, True, "info"),
    ],
)
def test_severity_by_value(severity: Any, before: Any, after: Any, expected: str) -> None:
    """The value that it is about or its state names the severity; any other is a warning."""
    limit = {"above": 80} if isinstance(after, int) and not isinstance(after, bool) else {}
    one = rule(when={"property": "cpu"} | limit, severity=severity)
    what = cpu(before, after)
    assert one.severity_of(what, one.state(what, {})) == expected


@pytest.mark.parametrize(
    ("written", "mention"),
    [
        ("@here", "<!here>"),
        ("@channel <!subteam^S123ABC>", "<!channel> <!subteam^S123ABC>"),
        ("<!everyone>", "<!everyone>"),
        (" <@U0123> ", "<@U0123>"),
    ],
)
def test_mention(written: str, mention: str) -> None:
    """It is kept in Slack's own notation."""
    assert rule(mention=written).mention == mention


@pytest.mark.parametrize(
    "wrong", ["here", "@ada", "<!subteam^s1>", "@here and there", "", "<!date^1^x|y>", "<@U1|x>", "#oncall"]
)
def test_what_a_mention_cannot_be(wrong: str) -> None:
    """Whatever else Slack would make of it is refused."""
    with pytest.raises(ValidationError):
        rule(mention=wrong)
