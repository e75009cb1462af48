"""Hints: what is no mistake, but hardly meant, each with the right form; and why a rule does not match."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.errors import RulesError
from app.model.silence import Silence
from app.notifier.registry import SETTINGS_MODELS
from app.rules.file import load_rules
from app.rules.hints import why_idle
from app.rules.match import why_not
from tests.rules.changes import moved, rule

HEAD = "version: 1\ndestinations: {unused: {type: console}, used: {type: console}}\nrules:\n"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def hints(said: str) -> list[str]:
    """Read a file with one rule, of which this is said, and return its hints."""
    text = f"{HEAD}  - name: a\n    send: used\n    {said}\n"
    return [hint.at("f", "hint: ") for hint in load_rules(text, {}, models=SETTINGS_MODELS, name="f").hints]


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("when: {property: v, to: 1.10}", 'to: 1.10 is the number 1.1: write "1.10" if the text is meant'),
        ("when: {property: v, to: yes}", 'to: yes is a text: write true, or "yes" if the text is meant'),
        (
            "when: {property: v, to: [a, Off]}",
            'to: Off is a text: write false, or "Off" if the text is meant',
        ),
        (
            "when: {property: v, from: {not: 007}}",
            'not: 007 is the number 7: write "007" if the text is meant',
        ),
        ("when: {property: v, to: 1e3}", 'to: 1e3 is the number 1000.0: write "1e3" if the text is meant'),
        (
            "when: {property: properties.cpu}",
            "property: properties.cpu is no property's identifier: write property: cpu",
        ),
        (
            "when: {property: .diff.after.relations.owner}",
            "property: .diff.after.relations.owner is no property's identifier: write relation: owner",
        ),
        ("when: {property: .cpu}", "property: .cpu is no property's identifier: write property: cpu"),
        (
            "when: {relation: relations.owner}",
            "relation: relations.owner is no relation's identifier: write relation: owner",
        ),
        (
            "{when: {property: v, to: Up}, resolve: {property: v, to: [Up]}}",
            "resolve: it is the same as `when`, so an incident ends as it begins; name the good state",
        ),
        (
            "when: {jq: .event.diff.after.properties.x}",
            "jq: a program sees Port's event itself: write .diff, not .event.diff",
        ),
        (
            "message: 'at {{ .event.action }}'",
            "jq: a program sees Port's event itself: write .action, not .event.action",
        ),
        (
            "{when: {property: v, to: 1}, resolve: {property: v, to: 1}}",
            "resolve: it is the same as `when`, so an incident ends as it begins; name the good state",
        ),
    ],
)
def test_a_hint_has_the_right_form(said: str, hint: str) -> None:
    """It says what was written, what that is, and what to write."""
    said = said[1:-1].replace(", resolve", "\n    resolve") if said.startswith("{") else said
    found = [one for one in hints(said) if "unused" not in one]
    assert [one.partition("rule 'a': ")[2] for one in found] == [hint]


def test_a_destination_that_nobody_uses() -> None:
    """It is named with its line; one that is a fallback is used."""
    assert hints("severity: info") == [
        "f:2: hint: destination 'unused': no rule sends to it, and it is nobody's fallback: name it in a `send`, or remove it"
    ]


@pytest.mark.parametrize(
    "said",
    [
        'when: {property: v, to: ["1.10", "yes", "007", 1.5, 80, -1, true, null, up]}',
        'when: {jq: .diff.event == ".event"}',
        "when: {property: spec.properties}",
        "when: {property: v, to: Down, for: 5m}\n    resolve: {property: v, to: Up}",
    ],
)
def test_what_is_meant_has_no_hint(said: str) -> None:
    """Quotes, plain numbers, and paths that are the user's own."""
    assert len(hints(said)) == 1  # the destination


@pytest.mark.parametrize("key", ["for: 5m", "to: 1", "property: a", "any: []"])
def test_what_belongs_inside_when(key: str) -> None:
    """A key of a condition beside `when` is a mistake, and the right form is shown."""
    with pytest.raises(RulesError, match=r"f:6: rule 'a': `\w+` belongs inside `when`, as in when: \{"):
        hints(key)


@pytest.mark.parametrize(
    ("when", "before", "after", "reason"),
    [
        (
            {"all": [{"property": "cpu", "above": 1}, {"property": "tier", "to": "1"}]},
            {"cpu": 1, "tier": 1},
            {"cpu": 2, "tier": 1},
            'tier is 1, a number; the rule has "1", a text',
        ),
        ({"property": "tier", "to": 1}, {"tier": "2"}, {"tier": "1"}, 'tier went from 2 to "1", a text; the rule has 1, a number'),
        ({"property": "on", "to": "true"}, {"on": False}, {"on": True}, 'on went from false to true, a boolean; the rule has "true", a text'),
        ({"property": "tier", "to": [1, 2]}, {"tier": 4}, {"tier": 3}, "tier went from 4 to 3; the rule has 1 or 2"),
        ({"property": "cpu", "above": 80}, {"cpu": 85}, {"cpu": 90}, "cpu went from 85 to 90; the rule has above 80, as it was before"),
        ({"property": "cpu", "above": 80}, {"cpu": "1"}, {"cpu": "90"}, 'cpu went from 1 to "90", a text; the rule has above 80, a number'),
        ({"property": "s", "from": "Up"}, {"s": "Down"}, {"s": "Off"}, "s went from Down to Off; the rule has Up"),
        ({"property": "s", "to": {"not": "Up"}}, {"s": "Down"}, {"s": "Up"}, "s went from Down to Up; the rule has not Up"),
        (
            {"all": [{"property": "a", "to": 1}, {"property": "b", "to": 2}]},
            {"a": 1, "b": 2, "c": 1},
            {"a": 1, "b": 2, "c": 2},
            "all of it holds, but nothing of it began with this change",
        ),
        ({"any": [{"property": "a"}, {"property": "b", "to": 2}]}, {"b": 2}, {"b": 3}, "a did not change, b went from 2 to 3; the rule has 2"),
        ({"jq": ".a"}, {}, {}, "jq gave none"),
    ],
)  # fmt: skip
def test_why_names_what_does_not_hold(
    when: dict[str, Any], before: dict[str, Any], after: dict[str, Any], reason: str
) -> None:
    """The member of several, its value and the rule's; with the types, where these differ."""
    assert why_not(rule(when=when), moved(before, after), {".a": None}) == reason


@pytest.mark.parametrize(
    ("patterns", "reason"),
    [
        (("cpu", "*"), ""),
        (("c*", "data*"), ""),
        (("*", "web-7"), ""),
        (("cpuu", "*"), "no rule is called 'cpuu'; did you mean 'cpu'?"),
        (("cpu", "databse"), "no rule called 'cpu' is about blueprint 'databse'; did you mean 'database'?"),
        (("*", "queue"), "no rule is about blueprint 'queue'"),
    ],
)
def test_a_silence_that_matches_nothing(patterns: tuple[str, str], reason: str) -> None:
    """As far as that can be seen in the rules."""
    rules = [rule(name="cpu", blueprint="database"), rule(name="web", blueprint="web-*")]
    silence = Silence(*patterns, "*", "*", NOW, NOW + timedelta(hours=1), "me", "")
    assert why_idle(silence, rules) == reason
