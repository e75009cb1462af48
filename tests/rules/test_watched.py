"""The fields that rules read, of which the last known state is kept."""

from typing import Any

import pytest

from app.rules.rule import BUILT_IN, RuleSet
from app.rules.targets import CatalogText, FromPort
from app.rules.watched import Watched, watched_by
from tests.rules.changes import rule


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"when": {"property": "cpu", "above": 80}}, {"properties.cpu"}),
        ({"when": {"property": "spec.cpu"}}, {"properties.spec", "properties.spec.cpu"}),
        ({"when": {"relation": "owner"}}, {"relations.owner"}),
        ({"when": {"title": True}}, {"title"}),
        (
            {"when": {"any": [{"property": "a"}, {"team": True}]}, "resolve": {"property": "b", "to": 1}},
            {"properties.a", "properties.b", "team"},
        ),
        ({"when": {"jq": ".x"}}, None),
        ({}, None),
    ],
)
def test_the_fields_that_conditions_read(said: dict[str, Any], expected: set[str] | None) -> None:
    """`when` and `resolve` name them; jq, and a rule for any change, may read all."""
    assert rule(**said).fields == expected


def test_only_blueprints_that_rules_name_are_watched() -> None:
    """A pattern names none, but what it reads counts for those that others name."""
    rules = RuleSet(
        [
            rule(name="one", blueprint="database", when={"property": "cpu"}),
            rule(name="two", blueprint="data*", when={"property": "ram"}),
            rule(name="three", when={"property": "healthStatus"}),
        ]
    )
    assert watched_by(rules).keys() == {"database"}
    assert watched_by(rules)["database"] == Watched(
        frozenset({*("title", "team", "properties.cpu", "properties.ram", "properties.healthStatus")})
    )
    assert watched_by(RuleSet([BUILT_IN])) == {}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            {"send": {"port": {"relation": "owner", "property": "channel"}, "default": "x"}},
            {"relations.owner"},
        ),
        ({"send": {"port": {"team": True, "property": "channel"}, "default": "x"}}, set()),
        ({"send": {"by_team": {"Rocket": "x"}, "default": "x"}}, set()),
        ({"send": {"template": "{{ .diff.after.title }}", "default": "x"}}, None),
        ({"send": {"by_team": {"Rocket": "job"}, "default": "x"}}, None),
        ({"send": ["x", "job"]}, None),
        ({"title": "{{ .diff.after.title }}"}, None),
        ({"message": "hello"}, None),
        ({"send": "teams"}, {"relations.owner"}),
        ({"send": "own"}, None),
        ({"mention": {"port": {"relation": "onCall", "property": "email"}}}, {"relations.onCall"}),
        ({"mention": "{{ .a }}"}, None),
        ({"mention": "@here"}, set()),
    ],
)
def test_routing_and_templates_are_watched_too(said: dict[str, Any], expected: set[str] | None) -> None:
    """What decides where to, and all where a template or a job's own may read it."""
    lookup = FromPort.model_validate({"port": {"relation": "owner", "property": "channel"}})
    sources: dict[str, CatalogText] = {"teams": lookup, "own": "{{ .a }}"}
    rules = RuleSet([rule(blueprint="database", when={"property": "cpu"}, **said)])
    found = watched_by(rules, {"job"}, sources)
    fields = found["database"].fields
    assert fields == (None if expected is None else {"title", "team", "properties.cpu", *expected})
