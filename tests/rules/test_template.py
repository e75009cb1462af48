"""Port's templates: finding the programs, and filling in what they came to."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import TemplateError
from app.model.notification import Part
from app.rules.template import as_text, expressions, fill, parse, parts


@pytest.mark.parametrize(
    ("text", "programs"),
    [
        ("", ()),
        ("plain { text }", ()),
        ("{{.a}}", (".a",)),
        ("{{ .a }} and {{ .b }}", (".a", ".b")),
        ("{{.a}}{{.b}}", (".a", ".b")),
        ("{{ {a: {b: 1}} }}", ("{a: {b: 1}}",)),
        ("{{ {a: {b: 1}}}}", ("{a: {b: 1}}",)),
        ("{{{a: {b: 1}}}}!", ("{a: {b: 1}}",)),
        ('{{ "}}" }}', ('"}}"',)),
        ('{{ "{{" + .a }}', ('"{{" + .a',)),
        (r'{{ "\"}}" }}', (r'"\"}}"',)),
        (r'{{ "\\" }} }', (r'"\\"',)),
        (r'{{ "\(.a | "}}\(")}}")") }}" }} b', (r'"\(.a | "}}\(")}}")") }}"',)),
        (r'{{ "\({a: (1)}) }}" }}', (r'"\({a: (1)}) }}"',)),
        ("{{ .a\n| .b }}", (".a\n| .b",)),
        ("{{ (.a }} b", ("(.a",)),
        ("{{ .a } }}", (".a }",)),
        ("\"{{ .a }}\" 'x'", (".a",)),
    ],
)
def test_programs_are_found(text: str, programs: tuple[str, ...]) -> None:
    """Braces of jq's own objects and strings end nothing; what jq cannot read is left for jq to say."""
    assert parse(text).expressions == programs


def test_text_is_taken_apart_in_order() -> None:
    """Nothing of it is lost, not even white space."""
    assert parse(" CPU {{ .cpu }} %\n").pieces == (
        Part(" CPU ", literal=True),
        Part(".cpu", literal=False),
        Part(" %\n", literal=True),
    )


@pytest.mark.parametrize(
    ("text", "sentence", "position"),
    [
        ("ab {{ .a", "{{ without }} at character 4", 3),
        ("{{ .a }", "{{ without }} at character 1", 0),
        ("{{ .a }} {{ .b", "{{ without }} at character 10", 9),
        ('{{ "a }}', "{{ without }} at character 1", 0),
        ('{{ "a\\', "{{ without }} at character 1", 0),
        ("{{ .foo {{ }}", "{{ without }} at character 1", 0),
        ("prefix{.foo}}postfix", "}} without {{ at character 12", 11),
        ("{{ .foo }} }}", "}} without {{ at character 12", 11),
        ("a {{ }}", "nothing between {{ and }} at character 3", 2),
    ],
)
def test_mistakes_are_said_with_their_place(text: str, sentence: str, position: int) -> None:
    """The same that Port refuses, and an empty expression, which jq would take for the whole event."""
    with pytest.raises(TemplateError) as caught:
        parse(text)
    assert (str(caught.value), caught.value.position) == (sentence, position)


def test_expressions_of_a_nested_value_are_found_once() -> None:
    """In an object's values and a list's items; keys are no templates."""
    value = {"{{ .key }}": ["{{ .a }}", {"x": "{{ .b }} {{ .a }}"}], "n": 1, "no": None}
    assert expressions(value) == [".a", ".b"]
    assert expressions(3) == []


@pytest.mark.parametrize("result", [None, True, 85, 1.5, "x", ["a"], {"a": None}])
@pytest.mark.parametrize("text", ["{{ .a }}", "{{.a}}", " {{ .a }}\n"])
def test_a_string_of_one_expression_keeps_the_type(text: str, result: Any) -> None:
    """As in Port, also with white space around it."""
    assert fill(text, {".a": result}) == result


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (None, ""),
        (False, "false"),
        (85, "85"),
        (1.5, "1.5"),
        ("", ""),
        ("café {{ .b }}", "café {{ .b }}"),
        (["é", 1], '["é",1]'),
        ({"a": None}, '{"a":null}'),
    ],
)
def test_within_a_text_a_result_becomes_text(result: Any, text: str) -> None:
    """Null is empty, a string itself, never a template again; the rest is compact JSON."""
    assert as_text(result) == text
    assert fill("<{{ .a }}>", {".a": result}) == f"<{text}>"


def test_a_nested_value_is_filled() -> None:
    """The shape stays, and what is given is not changed."""
    body = {"db": "{{ .id }}", "list": ["{{ .cpu }} %", 3], "{{ .id }}": None, "deep": {"cpu": "{{ .cpu }}"}}
    before = repr(body)
    assert fill(body, {".id": "payments", ".cpu": 85}) == {
        "db": "payments",
        "list": ["85 %", 3],
        "{{ .id }}": None,
        "deep": {"cpu": 85},
    }
    assert repr(body) == before


def test_values_can_be_told_from_the_authors_text() -> None:
    """So that a notifier escapes the one and not the other."""
    assert parts("*{{ .a }}* is <{{ .b }}>", {".a": "<!channel>", ".b": None}) == (
        Part("*", literal=True),
        Part("<!channel>", literal=False),
        Part("* is <", literal=True),
        Part("", literal=False),
        Part(">", literal=True),
    )


def test_a_missing_result_is_the_callers_mistake() -> None:
    """It is not taken for null."""
    with pytest.raises(KeyError):
        fill("{{ .a }}", {})


@given(st.text(st.sampled_from('{} ".a\\()')))
def test_any_text_is_a_template_or_a_template_error(text: str) -> None:
    """Nothing else is raised, and a template gives back its literals where nothing is filled in."""
    try:
        template = parse(text)
    except TemplateError:
        return
    assert len(parts(text, dict.fromkeys(template.expressions))) == len(template.pieces)
    assert template.expressions or fill(text, {}) == text
