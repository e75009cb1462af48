"""The rules file: what it says, and what is said of its mistakes."""

import json
import sys
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from app.errors import RulesError
from app.jq.runner import checking
from app.notifier.alert_body import AlertBody
from app.notifier.http.destination import HttpDestination
from app.notifier.port_action import PortActionDestination
from app.notifier.registry import SETTINGS_MODELS
from app.notifier.slack.kind import SlackDestination
from app.rules import file as rules_file
from app.rules.file import Rules, file_model
from app.rules.rule import BUILT_IN
from app.rules.targets import ByPort, ByTeam, ByTemplate
from app.rules.yaml_text import read_yaml
from tests.rules.mistakes import MISTAKES

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests" / "rules_files"
SCHEMA = ROOT / "docs" / "rules.schema.json"
ENVIRONMENT = {
    "SLACK_WEBHOOK_URL": "https://hooks.slack.com/services/T0/B0/from-the-environment",
    "ROCKET_WEBHOOK_URL": "https://hooks.slack.com/services/T0/B1/from-the-environment",
    "JOBS_TOKEN": "token-from-the-environment",
    "LIMIT": "80",
}
ISSUE = """\
version: 1
destinations:
  alerts:  {type: slack, webhook_url: "${SLACK_WEBHOOK_URL}"}
  rocket:  {type: slack, webhook_url: "${ROCKET_WEBHOOK_URL}"}
  cleanup: {type: http, url: "https://jobs.example.com/close-stale", body: {database: "{{ .context.entityIdentifier }}", cpu: "{{ .diff.after.properties.cpuUtil }}"}}
rules:
  - name: health
    blueprint: deploymentConfig
    when: {property: healthStatus}
    resolve: {property: healthStatus, to: Healthy}
    send: {by_team: {Rocket: rocket}, default: alerts}
  - name: database-cpu
    blueprint: database
    when: {property: cpuUtil, above: 80}
    resolve: {property: cpuUtil, below: 70}
    send: [cleanup, alerts]
"""  # noqa: E501 - the issue's own example


load_rules = partial(rules_file.load_rules, models=SETTINGS_MODELS)


def check_jq(program: str) -> str | None:
    """Stand in for jq."""
    return "bad/0 is not defined" if "bad" in program else None


def load(text: str, name: str = "rules.yaml") -> Rules:
    """Read a rules file's text."""
    return load_rules(text, ENVIRONMENT, name=name, check_jq=check_jq)


def with_rule(**said: Any) -> Rules:
    """Read a file with one rule."""
    return load(json.dumps({"version": 1, "rules": [{"name": "cpu", **said}]}))


def validator() -> Draft202012Validator:
    """Return what checks a file as an editor does."""
    schema = file_model(SETTINGS_MODELS).model_json_schema()
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def plain(text: str) -> Any:
    """Return YAML as an editor reads it."""
    return YAML(typ="safe", pure=True).load(text)


# Mistakes


def test_each_file_has_an_expectation() -> None:
    """And each expectation its file."""
    assert sorted(MISTAKES) == sorted(file.stem for file in FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("name", sorted(MISTAKES))
def test_each_mistake_is_told(name: str) -> None:
    """With file and line, rule, what is wrong, and what would be right; all at once, in the file's order."""
    with pytest.raises(RulesError) as refused:
        load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    assert str(refused.value).splitlines() == [f"rules.yaml:{line}" for line in MISTAKES[name]]
    lines = [one.line for one in refused.value.mistakes]
    assert lines == sorted(lines)


@pytest.mark.parametrize(
    "nested", ["[" * 50_000, "{a: " * 50_000, "\n  " + "- " * 50_000, "\n  " + "? " * 50_000]
)
def test_deep_nesting_is_refused_before_it_is_read(nested: str) -> None:
    """A reader that follows it first takes minutes, in which no file is checked or reloaded."""
    with pytest.raises(RulesError, match=r"rules.yaml:[23]: its values are nested too deep"):
        load(f"version: 1\nrules: {nested}")


@pytest.mark.parametrize("name", sorted(MISTAKES))
def test_no_secret_is_told(name: str) -> None:
    """Neither what stands in the file nor what it takes from the environment."""
    with pytest.raises(RulesError) as refused:
        load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    assert not [
        one for one in ("literal-secret", "other-secret", "from-the-env") if one in str(refused.value)
    ]


@pytest.mark.parametrize(
    "said",
    [
        {"send": "${JOBS_TOKEN}"},
        {"severity": "${JOBS_TOKEN}"},
        {"send": {"by_team": {"A": "${JOBS_TOKEN}"}, "default": "${JOBS_TOKEN}"}},
        {"when": {"jq": "bad ${JOBS_TOKEN}"}},
        {"message": "{{ bad }} ${JOBS_TOKEN} {{"},
        {"blueprint": "^${JOBS_TOKEN}"},
        {"again_after": "${JOBS_TOKEN}"},
    ],
)
def test_no_variable_is_told_by_its_value(said: dict[str, Any]) -> None:
    """Wherever it stands: it has a name."""
    with pytest.raises(RulesError) as refused:
        load_rules(
            json.dumps({"version": 1, "rules": [{"name": "cpu", **said}]}),
            ENVIRONMENT,
            check_jq=lambda program: f"cannot compile {program}" if "bad" in program else None,
        )
    assert "token" not in str(refused.value)


def test_a_secret_in_a_jq_error_has_its_name() -> None:
    """jq repeats the program, which may hold one."""
    with pytest.raises(RulesError, match=r"jq: cannot compile \. == \"\$\{JOBS_TOKEN\}\""):
        load_rules(
            json.dumps({"version": 1, "rules": [{"name": "a", "when": {"jq": '. == "${JOBS_TOKEN}"'}}]}),
            ENVIRONMENT,
            check_jq=lambda program: f"cannot compile {program}",
        )


@given(st.text(max_size=60) | st.sampled_from(ISSUE.splitlines()), st.integers(0, 20))
@settings(max_examples=150, deadline=None)
def test_any_text_is_a_rules_file_or_a_rules_error(line: str, at: int) -> None:
    """Nothing else is raised, whatever line is put between the others."""
    lines = ISSUE.splitlines()
    for text in (line, "\n".join([*lines[:at], line, *lines[at:]])):
        try:
            load(text)
        except RulesError as refused:
            assert refused.mistakes  # noqa: PT017 - it may also be right
            assert "from-the-env" not in str(refused)  # noqa: PT017


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                ("property", "to", "above", "all", "not", "by_team", "template", "port", "default", "x")
            ),
            inner,
            max_size=2,
        )
    ),
    max_leaves=5,
)


@given(
    st.dictionaries(
        st.sampled_from(
            ("name", "blueprint", "on", "when", "resolve", "send", "severity", "message", "again_after", "x")
        ),
        JSON,
        max_size=4,
    ),
    JSON,
)
@settings(max_examples=150, deadline=None)
def test_any_rule_is_right_or_explained(said: dict[str, Any], destination: Any) -> None:
    """Whatever stands where."""
    text = json.dumps({"version": 1, "destinations": {"a": destination}, "rules": [said]})
    try:
        load(text)
    except RulesError as refused:
        assert all(one.line == 1 and one.text for one in refused.mistakes)  # noqa: PT017 - it may be right


# What it says


def test_the_example_of_the_issue() -> None:
    """It is read as it is meant, and its values from the environment are known as secrets."""
    rules = load(ISSUE)
    health, cpu = rules.file.rules
    assert health.send == (ByTeam(by_team={"Rocket": "rocket"}, default="alerts"),)
    assert (cpu.blueprint, cpu.send) == (("database",), ("cleanup", "alerts"))
    alerts, cleanup = rules.file.destinations["alerts"], rules.file.destinations["cleanup"]
    assert isinstance(alerts, SlackDestination)
    assert alerts.webhook_url
    assert alerts.webhook_url.get_secret_value() == ENVIRONMENT["SLACK_WEBHOOK_URL"]
    assert isinstance(cleanup, HttpDestination)
    assert cleanup.body["cpu"] == "{{ .diff.after.properties.cpuUtil }}"
    assert set(rules.hidden) == {ENVIRONMENT["SLACK_WEBHOOK_URL"], ENVIRONMENT["ROCKET_WEBHOOK_URL"]}
    assert "from-the-env" not in repr(rules.file)


def test_the_example_of_the_repository() -> None:
    """It shows all there is, and is right, in the eyes of jq too."""
    text = (ROOT / "rules.example.yaml").read_text(encoding="utf-8")
    with checking() as problem:
        rules = load_rules(text, ENVIRONMENT, check_jq=problem).file
    kinds = {type(target) for rule in rules.rules for target in rule.send}
    assert kinds == {str, ByTeam, ByTemplate, ByPort}
    assert {one.type for one in rules.destinations.values()} == {"slack", "http", "port_action", "console"}
    assert {action for rule in rules.rules for action in rule.on} == {
        "CREATE",
        "UPDATE",
        "DELETE",
        "TIMER_EXPIRED",
    }
    assert any(rule.wait for rule in rules.rules)
    assert any(rule.again_after for rule in rules.rules)
    assert [program for rule in rules.rules for program in rule.programs()]


def test_without_rules_the_built_in_one_holds() -> None:
    """A file may bring destinations only; one of the name `default` takes the place of the built-in one."""
    file = load(
        'version: 1\ndestinations:\n  default: {type: slack, webhook_url: "https://example.com"}'
    ).file
    assert file.rules == (BUILT_IN,)
    assert isinstance(file.destinations["default"], SlackDestination)


def test_variables_within_longer_text() -> None:
    """Several of them too, and in lists and keys' values at any depth; `$$` keeps one from being one."""
    file = load(
        'version: 1\ndestinations:\n  job:\n    type: http\n    url: "https://x/${LIMIT}/${LIMIT}"\n'
        '    headers: {Authorization: "Bearer ${JOBS_TOKEN}"}\n'
        '    body: {a: ["$${LIMIT}", "${LIMIT}", "$LIMIT"]}\n'
        '  run: {type: port_action, action: scale, inputs: {to: "${LIMIT}"}}\n'
    ).file
    job, run = file.destinations["job"], file.destinations["run"]
    assert isinstance(job, HttpDestination)
    assert isinstance(run, PortActionDestination)
    assert job.url.get_secret_value() == "https://x/80/80"
    assert job.headers["Authorization"].get_secret_value() == "Bearer token-from-the-environment"
    assert (job.body, run.inputs) == ({"a": ["${LIMIT}", "80", "$LIMIT"]}, {"to": "80"})


def test_a_number_from_the_environment() -> None:
    """It is text there, and a number where one is wanted."""
    (rule,) = with_rule(when={"property": "cpu", "above": "${LIMIT}"}).file.rules
    assert rule.when is not None
    assert rule.when.above == 80


def test_an_empty_variable_is_not_set() -> None:
    """An empty secret is a mistake of deployment."""
    with pytest.raises(RulesError, match="the environment variable EMPTY is not set"):
        load_rules('version: 1\ndestinations: {a: {type: slack, webhook_url: "${EMPTY}"}}', {"EMPTY": ""})


def test_an_alias_brings_its_parts() -> None:
    """YAML's own way to say something once; what is wrong there is told where it is used."""
    shared = "version: 1\nrules:\n  - &one {name: a, when: {property: cpu}}\n  - {<<: *one, name: b%s}\n"
    assert [rule.when for rule in load(shared % "").file.rules] == [BUILT_IN_LIKE, BUILT_IN_LIKE]
    with pytest.raises(RulesError, match=r"rules.yaml:4: rule 'b': 'sevrity' is not known here"):
        load(shared % ", sevrity: info")


BUILT_IN_LIKE = with_rule(when={"property": "cpu"}).file.rules[0].when


@pytest.mark.parametrize(
    "part",
    ["  - {<<: *a}\n", "  - *a\n", "  - {b: 1}\n"],
)
def test_a_file_twice_as_long_takes_twice_as_long(part: str) -> None:
    """Whatever it repeats: counted in calls."""
    calls = [_calls(f"x: &a {{b: 1, c: 2}}\ny:\n{part * number}") for number in (50, 100, 200)]
    assert calls[2] - calls[1] < 2.2 * (calls[1] - calls[0])


def _calls(text: str) -> int:
    calls = 0

    def count(_: Any, event: str, __: Any) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        read_yaml(text, {}, name="rules")
    finally:
        sys.setprofile(None)
    return calls


def test_each_program_is_compiled_once() -> None:
    """A thousand rules share few programs."""
    seen: list[str] = []
    said = [{"name": str(n), "when": {"jq": ".a"}, "message": "{{ .a }} {{ .b }}"} for n in range(3)]
    load_rules(json.dumps({"version": 1, "rules": said}), {}, check_jq=seen.append)
    assert seen == [".a", ".b"]


def test_durations_and_steps() -> None:
    """As text, and with their defaults."""
    (rule,) = with_rule(when={"property": "cpu", "to": 1, "for": "5m"}, again_after="1h30m").file.rules
    assert (rule.wait, rule.again_after) == (timedelta(minutes=5), timedelta(minutes=90))


# The schema


@pytest.mark.parametrize("text", [ISSUE, (ROOT / "rules.example.yaml").read_text(encoding="utf-8")])
def test_the_schema_allows_the_examples(text: str) -> None:
    """Aliases, durations as text, and one where there may be several."""
    validator().validate(plain(text))


@pytest.mark.parametrize(
    "said",
    [
        {"blueprint": "a", "on": "UPDATE", "send": "x"},
        {"blueprint": ["a"], "on": ["UPDATE"], "send": ["x", {"by_team": {}, "default": "x"}]},
        {"send": {"template": "{{ .a }}", "default": "x"}},
        {"send": {"port": {"team": True, "property": "a"}, "default": "x"}},
        {"when": {"property": "a", "from": None, "to": ["a", 1, True]}, "again_after": "1h 30m"},
        {"when": {"property": "a", "to": {"not": ["a"]}, "for": "5m"}},
        {"when": {"any": [{"all": [{"title": True}]}, {"jq": ".a"}]}},
    ],
)
def test_the_schema_allows_what_is_right(said: dict[str, Any]) -> None:
    """Each form that there is."""
    validator().validate({"version": 1, "rules": [{"name": "a", **said}]})


@pytest.mark.parametrize(
    "said",
    [
        {"blueprints": "a"},
        {"on": "update"},
        {"on": []},
        {"send": {"by_team": {}}},
        {"send": 5},
        {"when": {"property_": "a"}},
        {"when": {"property": "a", "for": 5}},
        {"when": {"property": "a", "for": "5 minutes"}},
        {"when": {"property": "a", "above": "high"}},
        {"severity": "bad"},
        {"when": None},
        {"again_after": None},
        {"when": {"property": None}},
        {"when": {"property": "a", "above": None}},
        {"flap": {"changes": 1, "within": "10m"}, "resolve": {"property": "a", "to": 1}},
    ],
)
def test_the_schema_refuses_what_is_wrong(said: dict[str, Any]) -> None:
    """So that an editor marks it."""
    assert not validator().is_valid({"version": 1, "rules": [{"name": "a", **said}]})
    with pytest.raises(RulesError):
        with_rule(**said)


def test_the_schema_describes_every_key() -> None:
    """For a person who hovers over one; and where no text is meant, a variable may stand all the same."""
    schema = file_model(SETTINGS_MODELS).model_json_schema()
    models = {**schema["$defs"], "RulesFile": schema}
    keys = {f"{name}.{key}": said for name, one in models.items() for key, said in one["properties"].items()}
    assert [key for key, said in keys.items() if not said.get("description")] == []
    assert "null" not in json.dumps(
        [said for key, said in keys.items() if "Condition" not in key and "Not" not in key]
    )
    rules = [{"name": "a", "when": {"property": "a", "above": "${LIMIT}"}}]
    assert validator().is_valid({"version": 1, "rules": rules})
    load(json.dumps({"version": 1, "rules": rules}))


def test_the_schemas_in_the_repository_are_these() -> None:
    """Editors read that of rules; programs that get alerts are tested with the other."""
    alert = json.loads((ROOT / "docs/alert.schema.json").read_text(encoding="utf-8"))
    written = "run: python -m app rules schema --alert > docs/alert.schema.json"
    assert AlertBody.model_json_schema(mode="serialization") == alert, written
    written = SCHEMA.read_text(encoding="utf-8") if SCHEMA.exists() else ""
    current = json.dumps(file_model(SETTINGS_MODELS).model_json_schema(), indent=2, ensure_ascii=False) + "\n"
    assert written == current, "run: python -m app rules schema > docs/rules.schema.json"
