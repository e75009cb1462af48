"""What a condition says of a change."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from app.model.change import CatalogChange, EntitySnapshot
from app.rules.condition import Condition
from app.rules.values import Duration
from tests.rules.changes import change, condition, cpu, entity, moved

NUMBERS = st.integers(-3, 3) | st.floats(-3, 3) | st.sampled_from((0.5, 2**60, float("inf")))
VALUES = (
    NUMBERS | st.none() | st.booleans() | st.sampled_from(("", "1", "gold")) | st.lists(NUMBERS, max_size=2)
)
LEVELS = st.one_of(
    st.builds(lambda n: condition(property="cpu", above=n), st.integers(-3, 3)),
    st.builds(lambda n: condition(property="cpu", below=n), st.integers(-3, 3)),
    st.builds(lambda one: condition(property="cpu", to=one), st.sampled_from((1, True, "gold", None))),
    st.builds(lambda one: condition(property="cpu", to={"not": one}), st.sampled_from((1, "gold", None))),
)
COMBINED = st.recursive(
    LEVELS,
    lambda inner: st.builds(
        lambda key, parts: Condition.model_validate(
            {key: [part.model_dump(by_alias=True, exclude_unset=True) for part in parts]}
        ),
        st.sampled_from(("all", "any")),
        st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=4,
)


def matches(one: Condition, what: CatalogChange, **results: Any) -> bool:
    """Tell whether a condition came true with a change."""
    return one.matches(what, results)


@pytest.mark.parametrize(
    ("name", "before", "after", "expected"),
    [
        ("tier", {"tier": "gold"}, {"tier": "iron"}, True),
        ("tier", {"tier": "gold"}, {"tier": "gold"}, False),
        ("tier", {}, {"tier": "gold"}, True),
        ("tier", {}, {"tier": None}, False),
        ("tier", {"tier": 25}, {"tier": 25.0}, False),
        ("tier", {"tier": True}, {"tier": 1}, True),
        ("tier", {"other": 1}, {"other": 2}, False),
        ("spec.cpu", {"spec": {"cpu": 1}}, {"spec": {"cpu": 2}}, True),
        ("spec.cpu", {"spec": {"cpu": 1, "x": 1}}, {"spec": {"cpu": 1, "x": 2}}, False),
        ("spec.cpu", {"spec": "small"}, {"spec": {"cpu": 2}}, True),
        ("spec.cpu", {"spec": [1]}, {"spec": None}, False),
        ("spec.cpu", {"spec.cpu": 1}, {"spec.cpu": 2}, True),
        ("spec.cpu", {"spec.cpu": 1, "spec": {"cpu": 1}}, {"spec.cpu": 1, "spec": {"cpu": 2}}, False),
        ("spec", {"spec": {"cpu": 1}}, {"spec": {"cpu": 2}}, True),
        ("spec", {"spec": {"cpu": 1}}, {"spec": {"cpu": 1, "x": None}}, False),
    ],
)
def test_a_property_by_its_name(name: str, before: Any, after: Any, expected: bool) -> None:
    """Bare, any change of the value; a dot leads into an object, unless the whole name is a property's."""
    assert matches(condition(property=name), moved(before, after)) is expected


@pytest.mark.parametrize(
    ("said", "before", "after"),
    [
        ({"relation": "owner"}, {"relations": {"owner": "ada"}}, {"relations": {"owner": "bob"}}),
        ({"relation": "owner", "to": None}, {"relations": {"owner": "ada"}}, {"relations": {}}),
        ({"title": True}, {"title": "A"}, {"title": "B"}),
        ({"title": True, "to": "B"}, {"title": "A"}, {"title": "B"}),
        ({"team": True}, {"teams": ("Rocket",)}, {"teams": ("Payments",)}),
        ({"team": True, "to": "Payments"}, {"teams": ("Rocket",)}, {"teams": ("Rocket", "Payments")}),
        ({"team": True, "from": "Rocket"}, {"teams": ("Rocket", "Payments")}, {"teams": ("Payments",)}),
        ({"team": True, "to": None}, {"teams": ("Rocket",)}, {"teams": ()}),
        ({"team": True, "to": {"not": "Rocket"}}, {"teams": ("Rocket",)}, {"teams": ("Payments",)}),
    ],
)
def test_what_else_an_entity_has(said: dict[str, Any], before: dict[str, Any], after: dict[str, Any]) -> None:
    """Relations, the title, and the teams, among which one may come or go."""
    one = condition(**said)
    assert matches(one, change(entity(**before), entity(**after)))
    assert not matches(one, change(entity(**after), entity(**after)))


def test_a_team_that_stays_did_not_come() -> None:
    """When another team joins, nobody who was there before has come or gone."""
    joined = change(entity(teams=("Rocket",)), entity(teams=("Rocket", "Payments")))
    assert not matches(condition(team=True, to="Rocket"), joined)
    assert not matches(condition(team=True, from_="Rocket"), joined)


def test_an_entity_without_teams_comes_without_a_change_of_team() -> None:
    """No teams and no entity are the same."""
    assert not matches(condition(team=True), change(None, entity(), action="CREATE"))


@pytest.mark.parametrize(
    ("said", "pairs"),
    [
        ({"to": "b"}, {"ab", "cb"}),
        ({"to": ["b", "c"]}, {"ab", "ac", "bc", "cb"}),
        ({"to": {"not": "b"}}, {"ac", "ba", "bc", "ca"}),
        ({"to": {"not": ["b", "c"]}}, {"ba", "ca"}),
        ({"from": "b"}, {"ba", "bc"}),
        ({"from": ["b", "c"]}, {"ba", "bc", "ca", "cb"}),
        ({"from": {"not": "b"}}, {"ab", "ac", "ca", "cb"}),
        ({"from": "a", "to": "b"}, {"ab"}),
        ({"from": {"not": "a"}, "to": {"not": "c"}}, {"ba", "ca", "cb"}),
        ({}, {"ab", "ac", "ba", "bc", "ca", "cb"}),
    ],
)
def test_from_and_to(said: dict[str, Any], pairs: set[str]) -> None:
    """One value, a list, or `not`; never without a change."""
    one = condition(property="tier", **said)
    found = {b + a for b in "abc" for a in "abc" if matches(one, moved({"tier": b}, {"tier": a}))}
    assert found == pairs


@pytest.mark.parametrize(
    ("before", "after", "above", "below"),
    [
        (70, 85, True, False),
        (85, 90, False, False),
        (80, 80.5, True, False),
        (79, 80, False, False),
        (85, 80, False, False),
        (85, 75, False, True),
        (None, 85, True, False),
        (None, 75, False, True),
        ("85", 90, True, False),
        (85, "90", False, False),
        (0, True, False, False),
        (True, 85, True, False),
        (70, [85], False, False),
        (85, None, False, False),
    ],
)
def test_above_and_below_mean_crossing(before: Any, after: Any, above: bool, below: bool) -> None:
    """Only the change that brings a number beyond the limit; text, truth and lists are no numbers."""
    assert matches(condition(property="cpu", above=80), cpu(before, after)) is above
    assert matches(condition(property="cpu", below=80), cpu(before, after)) is below


def test_a_new_entity_may_be_beyond_from_the_start() -> None:
    """Nothing before is not beyond."""
    assert matches(condition(property="cpu", above=80), moved(None, {"cpu": 85}, action="CREATE"))
    assert not matches(condition(property="cpu", below=80), moved({"cpu": 85}, None, action="DELETE"))


@given(VALUES, VALUES, st.integers(-3, 3), st.sampled_from(("above", "below")))
@settings(deadline=None)
def test_crossing_is_being_beyond_and_not_having_been(before: Any, after: Any, limit: int, way: str) -> None:
    """For any two values whatever."""
    one = condition(property="cpu", **{way: limit})
    what = cpu(before, after)
    assert matches(one, what) is (one.beyond(after) and not one.beyond(before))
    assert one.fulfilled(what, {}) is one.beyond(after)


@given(COMBINED, VALUES, VALUES, VALUES)
@settings(deadline=None)
def test_a_level_depends_on_what_is(one: Condition, before: Any, other: Any, after: Any) -> None:
    """Whether it holds does not depend on what was; it comes true only if it holds; else it has lapsed."""
    holds = one.fulfilled(cpu(before, after), {})
    assert one.fulfilled(cpu(other, after), {}) is holds
    assert one.lapses(cpu(before, after)) is (not holds)
    assert holds or not matches(one, cpu(before, after))
    assert not matches(one, cpu(after, after))


def test_all_hold_and_one_came_true() -> None:
    """In whichever order they come true, it is the last that counts; what holds already says nothing new."""
    both = condition(all=[{"property": "cpu", "above": 80}, {"property": "tier", "to": "gold"}])
    assert matches(both, moved({"cpu": 70, "tier": "gold"}, {"cpu": 85, "tier": "gold"}))
    assert matches(both, moved({"cpu": 85, "tier": "iron"}, {"cpu": 85, "tier": "gold"}))
    assert matches(both, moved({"cpu": 70, "tier": "iron"}, {"cpu": 85, "tier": "gold"}))
    assert not matches(both, moved({"cpu": 85, "tier": "gold"}, {"cpu": 90, "tier": "gold"}))
    assert not matches(both, moved({"cpu": 70, "tier": "iron"}, {"cpu": 85, "tier": "iron"}))


def test_all_with_a_mere_change() -> None:
    """What can only be said of a change must be said of this one."""
    both = condition(all=[{"property": "version"}, {"property": "tier", "to": "gold"}])
    assert matches(both, moved({"version": 1, "tier": "gold"}, {"version": 2, "tier": "gold"}))
    assert not matches(both, moved({"version": 1, "tier": "iron"}, {"version": 1, "tier": "gold"}))


def test_any_of_them_came_true() -> None:
    """One is enough, also inside of others."""
    either = condition(
        any=[{"property": "cpu", "above": 80}, {"all": [{"property": "a"}, {"property": "b", "to": 1}]}]
    )
    assert matches(either, moved({"cpu": 70}, {"cpu": 85}))
    assert matches(either, moved({"a": 1, "b": 1}, {"a": 2, "b": 1}))
    assert not matches(either, moved({"a": 1, "b": 1, "cpu": 85}, {"a": 1, "b": 2, "cpu": 85}))


@pytest.mark.parametrize(
    ("result", "expected"),
    [(True, True), (0, True), ("", True), ([], True), ({}, True), (1, True), (False, False), (None, False)],
)
def test_a_jq_program_says_yes_by_anything_but_no(result: Any, expected: bool) -> None:
    """As in an automation: false and null are no."""
    one = condition(jq=".a")
    assert one.matches(cpu(1, 2), {".a": result}) is one.fulfilled(cpu(1, 2), {".a": result}) is expected


def test_a_jq_program_that_failed_says_no() -> None:
    """It has no result."""
    assert not condition(jq=".a").matches(cpu(1, 2), {".b": True})


@pytest.mark.parametrize(
    ("said", "can", "gone", "stays"),
    [
        ({"property": "cpu", "to": 1}, True, 2, 1),
        ({"property": "cpu", "from": 0, "to": 1}, True, 2, 1),
        ({"property": "cpu", "above": 80}, True, 80, 81),
        ({"any": [{"property": "cpu", "above": 80}, {"property": "cpu", "below": 10}]}, True, 50, 5),
        ({"all": [{"property": "cpu", "above": 80}, {"jq": ".a"}]}, True, 50, 90),
    ],
)
def test_when_it_can_be_seen_to_have_ended(said: dict[str, Any], can: bool, gone: int, stays: int) -> None:
    """By what is now, whatever it came from."""
    one = condition(**said)
    assert one.can_lapse is can
    assert one.lapses(cpu(81, gone))
    assert not one.lapses(cpu(81, stays))


@pytest.mark.parametrize(
    "said",
    [
        {"property": "cpu"},
        {"property": "cpu", "from": 1},
        {"jq": ".a"},
        {"any": [{"property": "cpu", "above": 80}, {"jq": ".a"}]},
    ],
)
def test_what_never_shows_its_end(said: dict[str, Any]) -> None:
    """A mere change, and a program, are true once."""
    one = condition(**said)
    assert not one.can_lapse
    assert not one.lapses(cpu(81, 50))


@pytest.mark.parametrize(
    ("said", "after", "state"),
    [
        ({"property": "cpu", "above": 80}, {"cpu": 85}, "above 80"),
        ({"property": "cpu", "above": 80}, {"cpu": 75}, ""),
        ({"property": "cpu", "below": 0}, {"cpu": -1}, "below 0"),
        ({"property": "cpu", "above": 1234567.5}, {"cpu": 9e9}, "above 1234567.5"),
        ({"property": "cpu"}, {"cpu": 85.0}, "85"),
        ({"property": "cpu"}, {}, "none"),
        ({"jq": ".a"}, {}, "high"),
        ({"jq": ".yes"}, {}, ""),
        ({"any": [{"property": "cpu", "above": n} for n in (80, 90)]}, {"cpu": 85}, "cpu above 80"),
        (
            {"any": [{"property": "cpu", "above": n} for n in (80, 90)]},
            {"cpu": 95},
            "cpu above 80, cpu above 90",
        ),
        (
            {"any": [{"property": p, "above": 80} for p in ("cpu", "ram")]},
            {"cpu": 1, "ram": 85},
            "ram above 80",
        ),
        (
            {"all": [{"property": "cpu", "above": 80}, {"property": "tier"}]},
            {"cpu": 85},
            "cpu above 80, tier none",
        ),
    ],
)
def test_the_state_tells_troubles_apart(said: dict[str, Any], after: dict[str, Any], state: str) -> None:
    """Thresholds crossed, values, and what jq says; with names where there are several."""
    assert condition(**said).state(moved({}, after), {".a": "high", ".yes": True}) == state


def test_the_main_value_is_the_one_that_came_true() -> None:
    """Else one that changed, else the first; a program is about none."""
    either = condition(any=[{"property": "cpu", "above": 80}, {"property": "ram", "above": 80}, {"jq": ".a"}])
    crossed = either.main(moved({"cpu": 20, "ram": 70}, {"cpu": 25, "ram": 90}))
    only_moved = either.main(moved({"cpu": 20, "ram": 70}, {"cpu": 20, "ram": 75}))
    still = either.main(moved({"cpu": 20}, {"cpu": 20}))
    assert [one and one.name for one in (crossed, only_moved, still)] == ["ram", "ram", "cpu"]
    assert condition(jq=".a").main(cpu(1, 2)) is None


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({}, "it has none"),
        ({"above": 80}, "it has none"),
        ({"property": "a", "relation": "b"}, "it has property, relation"),
        ({"property": ""}, "at least 1 character"),
        ({"property": None}, "must not be empty"),
        ({"title": False}, "Input should be True"),
        ({"all": []}, "at least 1 item"),
        ({"all": [{"property": "a"}], "to": 1}, "belong to one value, not to all"),
        ({"jq": ".a", "from": None}, "belong to one value, not to jq"),
        ({"property": "a", "above": 1, "below": 2}, "exclude one another"),
        ({"property": "a", "above": 1, "to": 2}, "exclude one another"),
        ({"property": "a", "above": True}, "must be a number"),
        ({"property": "a", "above": None}, "must not be empty"),
        ({"property": "a", "above": float("nan")}, "must be a number"),
        ({"property": "a", "to": []}, "at least 1 item"),
        ({"property": "a", "to": {"not": []}}, "at least 1 item"),
        ({"property": "a", "to": {"nor": 1}}, "Extra inputs"),
        ({"any": [{"property": "a", "to": 1, "for": "5m"}]}, "belongs to the whole `when`"),
        ({"property": "a", "property_": "b"}, "Extra inputs"),
    ],
)
def test_what_makes_no_sense_is_refused(said: dict[str, Any], problem: str) -> None:
    """With a reason."""
    with pytest.raises(ValidationError, match=problem):
        Condition.model_validate(said)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("5m", 300),
        ("1h30m", 5400),
        ("2d", 172_800),
        ("1d 2h 3m 4s", 93_784),
        ("720h", 2_592_000),
    ],
)
def test_durations(text: str, seconds: int) -> None:
    """Days, hours, minutes and seconds, in this order."""
    assert TypeAdapter(Duration).validate_python(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text",
    ["", " ", "5", 5, None, True, "5 minutes", "5m1h", "-5m", "1.5h", "0s", "31d", "9" * 30 + "d", "\u0665m"],
)
def test_what_is_no_duration(text: Any) -> None:
    """No unit, no sense, none at all, or longer than 30 days."""
    with pytest.raises(ValidationError, match=r"must be a time such as|must be between 1s and 30d"):
        TypeAdapter(Duration).validate_python(text)


def test_a_duration_stands_beside_the_condition() -> None:
    """`for` says how long, and changes nothing else."""
    one = condition(property="cpu", above=80, for_="5m")
    assert one.for_ == timedelta(minutes=5)
    assert matches(one, cpu(70, 85))


def test_an_entity_that_is_not_there_has_no_values() -> None:
    """Nothing is what was deleted, and also not `none`."""
    gone = moved({"cpu": 1}, None, action="DELETE")
    assert not condition(property="cpu", to=None).fulfilled(gone, {})
    assert matches(condition(property="cpu", to=None), gone)
    assert condition(property="cpu").value(None) is None
    assert isinstance(gone.before, EntitySnapshot)
