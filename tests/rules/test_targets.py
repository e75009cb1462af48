"""Where an alert goes."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from app.rules.targets import ByPort, ByTeam, ByTemplate, PlainTarget, choose, named

TARGET: TypeAdapter[PlainTarget] = TypeAdapter(PlainTarget)
TEAMS = {"by_team": {"Rocket": "rocket", "Payments": "pay"}, "default": "alerts"}
TEMPLATE = {"template": "{{ .diff.after.properties.channel }}", "default": "alerts"}
PORT = {"port": {"relation": "system", "property": "channel"}, "default": "alerts"}
KNOWN = frozenset({"alerts", "rocket", "pay"})


def routed(*targets: Any, teams: tuple[str, ...] = (), **found: object) -> tuple[str, ...]:
    """Return where targets lead; `found` holds what the target of a place (`at0`) came to."""
    parsed = [TARGET.validate_python(target) for target in targets]
    return tuple(choose(target, teams, found.get(f"at{place}"), KNOWN) for place, target in enumerate(parsed))


def test_however_it_is_found() -> None:
    """A target's own name, its team's, or what was found."""
    targets = ("pay", "unknown", TEAMS, PORT)
    assert routed(*targets, teams=("Rocket",), at3="rocket") == ("pay", "unknown", "rocket", "rocket")


@pytest.mark.parametrize(
    ("teams", "expected"),
    [
        (("Rocket",), "rocket"),
        (("Unknown", "Payments"), "pay"),
        (("Payments", "Rocket"), "pay"),
        (("rocket",), "alerts"),
        ((), "alerts"),
    ],
)
def test_by_team(teams: tuple[str, ...], expected: str) -> None:
    """The first owning team that stands in the table; else the default."""
    assert routed(TEAMS, teams=teams) == (expected,)


@pytest.mark.parametrize("target", [TEMPLATE, PORT])
@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ("rocket", "rocket"),
        ("unknown", "alerts"),
        (None, "alerts"),
        (5, "alerts"),
        (["rocket"], "alerts"),
        ("", "alerts"),
    ],
)
def test_by_what_was_found(target: Any, found: object, expected: str) -> None:
    """A destination that there is; whatever else it came to goes to the default."""
    assert routed(target, at0=found) == (expected,)


@pytest.mark.parametrize("target", [TEMPLATE, PORT])
def test_what_was_not_found_goes_to_the_default(target: Any) -> None:
    """An alert is never lost over it."""
    assert routed(target) == ("alerts",)


def test_a_target_is_read_by_its_keys() -> None:
    """As the one kind that it is, and an object of that kind is itself."""
    kinds: dict[type, Any] = {ByTeam: TEAMS, ByTemplate: TEMPLATE, ByPort: PORT}
    for kind, said in kinds.items():
        target = TARGET.validate_python(said)
        assert isinstance(target, kind)
        assert TARGET.validate_python(target) == target


def test_the_names_in_a_target_with_the_way_to_each() -> None:
    """What a template or Port will say is not known before."""
    assert [list(named(TARGET.validate_python(one))) for one in ("pay", TEAMS, TEMPLATE, PORT)] == [
        [((), "pay")],
        [(("by_team", "Rocket"), "rocket"), (("by_team", "Payments"), "pay"), (("default",), "alerts")],
        [(("default",), "alerts")],
        [(("default",), "alerts")],
    ]


def test_the_program_of_a_template() -> None:
    """What is between the braces, which may nest."""
    assert ByTemplate(template=' {{ {a: "}}"}.a }} ', default="x").program == '{a: "}}"}.a'


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        (5, "must be a destination's name"),
        ({}, "must be a destination's name"),
        ({"default": "alerts"}, "must be a destination's name"),
        ("", "at least 1 character"),
        ({"by_team": {"Rocket": "rocket"}}, "Field required"),
        ({"template": "rocket", "default": "x"}, "must be one jq expression in braces"),
        ({"template": "{{ .a }}-{{ .b }}", "default": "x"}, "must be one jq expression in braces"),
        ({"template": "{{ .a }}-alerts", "default": "x"}, "must be one jq expression in braces"),
        ({"template": "{{ .a", "default": "x"}, "{{ without }}"),
        ({"port": {"property": "a"}, "default": "x"}, "needs either relation, or team: true"),
        ({"port": {"relation": "a", "team": True, "property": "a"}, "default": "x"}, "needs either relation"),
    ],
)
def test_what_makes_no_sense_is_refused(said: Any, problem: str) -> None:
    """With one reason, of the kind that was meant."""
    with pytest.raises(ValidationError) as refused:
        TARGET.validate_python(said)
    (error,) = refused.value.errors()
    assert problem in error["msg"]
