"""Suites: those that stand hold, what does not hold is explained, and mistakes have their line."""

import json
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest
from ruamel.yaml import YAML

from app.cli import main
from app.cli.rules.suite import run_files
from app.errors import SuiteError
from app.suite.file import load_suite
from app.suite.model import SuiteFile

ROOT = Path(__file__).parents[2]
RECIPES = Path(__file__).parent / "recipes"
GUIDE = (ROOT / "docs/testing-rules.md").read_text()
SCHEMA = json.loads((ROOT / "docs/suite.schema.json").read_text())
RULES = """
version: 1
destinations:
  oncall: {type: slack, webhook_url: "${ONCALL_URL}"}
  job: {type: http, url: "https://jobs.example.com/{{ .diff.after.properties.load.name }}"}
rules:
  - name: down
    blueprint: service
    when: {property: status, to: Down}
    resolve: {property: status, to: Up}
    send: oncall
  - name: work
    blueprint: service
    when: {property: load, above: 80}
    send: job
  - name: never
    blueprint: service
    when: {property: gone}
"""
DELETED = {
    "action": "DELETE",
    "resourceType": "entity",
    "trigger": {"at": "2026-01-05T09:00:00Z"},
    "context": {"blueprintIdentifier": "service", "entityIdentifier": "mall"},
    "diff": {"before": {"identifier": "mall", "blueprint": "service", "properties": {}}, "after": None},
}
HEAD = """version: 1
rules: rules.yaml
entities:
  shop: {blueprint: service, properties: {status: Up}}
tests:
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the rules."""
    (tmp_path / "rules.yaml").write_text(RULES)
    return tmp_path


def write(folder: Path, tests: str, head: str = HEAD) -> Path:
    """Write a suite."""
    path = folder / "a.suite.yaml"
    path.write_text(head + tests)
    return path


def test_the_example_and_every_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """rules.example.yaml and each recipe of the docs has a suite; all hold, and hit every rule."""
    guide = (ROOT / "docs/rules.md").read_text()
    recipes = re.findall(
        r"^\*\*(.+?)\*\*.*?^```yaml\n(.*?)^```", guide[guide.index("## Recipes") :], re.MULTILINE | re.DOTALL
    )
    names = [re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") for title, _ in recipes]
    assert names
    for name, (_, text) in zip(names, recipes, strict=True):
        shutil.copy(RECIPES / f"{name}.yaml", tmp_path)
        (tmp_path / f"{name}.rules.yaml").write_text(text)
    suites = [ROOT / "rules.example.suite.yaml", *(tmp_path / f"{name}.yaml" for name in names)]
    suites += [file.with_name("suite.yaml") for file in (ROOT / "docs/recipes").glob("*/rules.yaml")]
    status = run_files(suites, None)
    printed = capsys.readouterr().out
    assert status == 0, printed
    assert "never hit" not in printed


def test_the_examples_of_the_guide(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each rules file in docs/testing-rules.md holds by the suite below it."""
    blocks = re.findall(r"^```yaml\n# (\S+)\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
    for name, text in blocks:
        (tmp_path / name).write_text(text)
    suites = [tmp_path / name for name, _ in blocks if name.endswith(".suite.yaml")]
    assert len(suites) == len(blocks) / 2 == 3
    assert run_files(suites, None) == 0, capsys.readouterr().out


@pytest.mark.parametrize(
    ("steps", "lines"),
    [
        (
            "{at: +0s, entity: shop, set: {status: Down}, told: {oncall: {step: changed, says: On fire}}}",
            [
                "a.suite.yaml:8: at +0s, expected: oncall is told changed (says 'On fire')",
                "happened:  +0s opened: shop by rule 'down', status Up → Down (warning)",
                "it says: ",
                "because:   +0s shop: rule 'down' matches",
            ],
        ),
        (
            "{at: +0s, entity: shop, set: {status: Lost}, told: oncall, because: nothing}",
            [
                "expected: oncall is told something",
                "happened:  it was told nothing",
                "status went from Up to Lost; the rule has Down",
                "expected: the reason has 'nothing'",
            ],
        ),
        (
            "{at: +0s, entity: shop, set: {load: 99}, told: job}",
            ["because:   dead (template {{ .diff.after.properties.load.name }}: "],
        ),
        (
            "{silence: {for: 1h}}\n      - {at: +1m, entity: shop, set: {status: Down}, told: oncall}",
            ["because:   silenced (silence 1, by the suite): opened: shop by rule 'down'"],
        ),
        (
            "{fails: oncall}\n      - {at: +1m, entity: shop, set: {status: Down}, resolved: oncall}",
            ["expected: oncall is told that an incident is resolved", "on hold (the suite lets it fail)"],
        ),
        (
            "{at: +0s, entity: shop, set: {status: Down}, not told: '*'}",
            ["expected: oncall is told nothing", "+0s  → oncall     opened: shop by rule 'down'"],
        ),
        (
            "{acknowledge: shop, because: x}",
            ["expected: shop has an open incident", "happened:  it has none", "what happened:\n  nothing"],
        ),
        (
            "{entity: shop, action: DELETE}\n      - "  # noqa: ISC004 - one text
            "{at: +1m, entity: shop, action: CREATE, set: {status: Down}, told: job}",
            ["+1m  change       CREATE service shop"],
        ),
        (
            f"{{body: {json.dumps(DELETED)}}}\n      - "  # noqa: ISC004 - one text
            "{at: +1m, entity: mall, action: CREATE, set: {status: Down}, told: job}",
            ["+1m  change       CREATE service mall"],
        ),
        (
            "{entity: shop, set: {status: Down}}\n      - "  # noqa: ISC004 - one text
            "{entity: b, blueprint: service, set: {status: Down}, told: {oncall: [opened, opened]}}",
            ["not sent before +1s: opened: b by rule 'down'"],
        ),
    ],
)
def test_what_does_not_hold(
    folder: Path, capsys: pytest.CaptureFixture[str], steps: str, lines: list[str]
) -> None:
    """Each expectation says what was expected, what happened and why; so does JUnit's file."""
    path = write(folder, f"  - name: a night\n    timeline:\n      - {steps}\n")
    assert run_files([path], folder / "junit.xml") == 1
    printed = capsys.readouterr().out
    for line in lines:
        assert line in printed
    assert "a.suite.yaml:6: test 'a night' does not hold" in printed
    assert "rules.yaml:16: rule 'never' was never hit" in printed
    case = ElementTree.parse(folder / "junit.xml").find("testsuite/testcase")  # noqa: S314 - our own
    assert case is not None
    assert case.get("line") == "6"
    assert [failure.get("message") for failure in case] == re.findall(r"expected: (.*)", printed)


@pytest.mark.parametrize(
    ("tests", "mistake"),
    [
        (
            "  - {name: a, timeline: [{at: 4m, told: oncall}]}",
            "6: test 'a': at: must be a time since the test",
        ),
        (
            "  - {name: a, timeline: [{at: +4m, tolled: oncall}]}",
            "'tolled' is not known here; did you mean 'told'?",
        ),
        (
            "  - {name: a, timeline: [{told: onkall}]}",
            "rules.yaml has no destination 'onkall'; did you mean 'oncall'?",
        ),
        ("  - {name: a, timeline: [{told: {oncall: open}}]}", "oncall: must be 'opened', 'changed', "),
        (
            "  - {name: a, timeline: [{told: {oncall: {rule: dwn}}}]}",
            "has no rule 'dwn'; did you mean 'down'?",
        ),
        (
            "  - {name: a, timeline: [{told: {oncall: {stop: a}}}]}",
            "'stop' is not known here; did you mean 'step'?",
        ),
        ("  - {name: a, timeline: [{not told: anyone}]}", "write '*' in `not told` for all of them"),
        ("  - {name: a, timeline: [{not told: x-*}]}", "no destination 'x-*'"),
        ("  - {name: a, timeline: [{at: +1s}]}", "does nothing: give what happens"),
        ("  - {name: a, timeline: [{entity: shop}]}", "changes nothing of the entity"),
        (
            "  - {name: a, timeline: [{entity: shpo, set: {a: 1}}]}",
            "no entity 'shpo' is known here: give its blueprint",
        ),
        ("  - {name: a, timeline: [{set: {a: 1}}]}", "set: needs `entity`, which changes"),
        (
            "  - {name: a, timeline: [{entity: shop, set: {a: 1}, body: {}}]}",
            "has entity and body: make a step of each",
        ),
        ("  - {name: a, timeline: [{entity: shop, action: TIMER_EXPIRED}]}", "that needs a timer"),
        ("  - {name: a, timeline: [{body: {a: 1}}]}", "body: not a change of Port's: "),
        ("  - {name: a, timeline: [{body: none.json}]}", "body: none.json cannot be read: No such file"),
        ("  - {name: a, timeline: [{silence: {for: long}}]}", "for: must be a time such as 30s"),
        ("  - {name: a, timeline: [{told: {oncall: opened}, resolved: oncall}]}", "looks at oncall twice"),
        ("  - {name: a, timeline: [{entity: shop, body: {}}]}", "has entity and body: make a step of each"),
        ("  - {name: a, timeline: [{silence: {fro: 1h}}]}", "'fro' is not known here; did you mean 'for'?"),
        (
            "  - {name: a, timeline: [{silence: {for: 1h, rule: dwn}}]}",
            "rules.yaml has no rule 'dwn'; did you mean 'down'?",
        ),
        ("  - {name: a, timeline: [{silence: end}]}", "silence: no step above begins one"),
        ("  - {name: a, timeline: [{works: oncall}]}", "works: no step above lets 'oncall' fail"),
        (
            "  - {name: a, timeline: [{acknowledge: shpo}]}",
            "acknowledge: no entity 'shpo' is known here; did you mean 'shop'?",
        ),
        ("  - {name: a, timeline: [{reconcile: yea}]}", "reconcile: must be true"),
        (
            "  - {name: a, timeline: [{told: oncall, because: 5}]}",
            "because: must be text; put it in quotes",
        ),
        (
            "  - {name: a, timeline: [{entity: shop, action: DELETE}, {entity: shop, set: {a: 1}}]}",
            "entity: 'shop' was deleted or renamed above; action: CREATE makes it again",
        ),
        (
            "  - {name: a, timeline: [{entity: shop, rename: mall}, {entity: shop, action: DELETE}]}",
            "entity: 'shop' was deleted or renamed above",
        ),
        (
            "  - {name: a, timeline: [{told: oncall}]}\n  - {name: a, timeline: [{told: oncall}]}",
            "7: test 'a': name: an earlier test has this name",
        ),
        (
            "  - {name: a, timeline: [{at: +2m, told: oncall}, {at: +1m, told: oncall}]}",
            "is before that of the step",
        ),
        ("  - {name: a}", "'timeline' is missing"),
        ("  - {name: a, timeline: [{told: [oncall]}], name: b}", "6: the key 'name' is there twice"),
    ],
)
def test_a_mistake(folder: Path, tests: str, mistake: str) -> None:
    """A mistake is a sentence with the suite's name and the line."""
    with pytest.raises(SuiteError) as error:
        load_suite(write(folder, tests))
    assert re.match(r".*/a\.suite\.yaml:[67]: ", str(error.value))
    assert mistake in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("head", "mistake"),
    [
        ("", "a suite is a mapping with version, rules and tests"),
        (RULES, "a.suite.yaml:6: this is a rules file; a suite names it"),
        (HEAD.replace("rules.yaml", "none.yaml"), "a.suite.yaml:2: rules: the rules file "),
        (
            HEAD.replace("rules.yaml", "wrong.yaml"),
            "wrong.yaml:9: rule 'down': when: 'too' is not known here",
        ),
    ],
)
def test_what_cannot_be_run(
    folder: Path, capsys: pytest.CaptureFixture[str], head: str, mistake: str
) -> None:
    """A wrong suite or rules file is status 2, with every mistake; nothing is run."""
    (folder / "wrong.yaml").write_text(RULES.replace("status, to: Down", "status, too: Down"))
    tests = "  - {name: a, timeline: [{told: oncall}]}" if head.startswith("version") else ""
    assert run_files([write(folder, tests, head), folder / "nowhere.yaml"], None) == 2
    printed = capsys.readouterr()
    assert mistake in printed.err
    assert "nowhere.yaml cannot be read: No such file or directory" in printed.err
    assert printed.out == ""


def test_a_destination_that_cannot_be_made(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What `rules check` refuses, a suite refuses too, with the line of the rules file."""
    (folder / "rules.yaml").write_text(RULES.replace('load.name }}"', 'load.name }}", headers: {Host: a}'))
    path = write(folder, "  - {name: a, timeline: [{told: oncall}]}")
    assert run_files([path], None) == 2
    assert "rules.yaml:5: destination 'job': headers: 'Host' cannot be set" in capsys.readouterr().err


def test_by_the_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`rules test --suite` takes several files, of which the hook of pre-commit makes use."""
    path = write(folder, "  - {name: a, timeline: [{at: +3d, not told: '*'}]}")
    (hook,) = YAML(typ="safe", pure=True).load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert re.search(hook["files"], path.name)
    words = hook["entry"].split()[1:]
    for arguments, status in ((["--junit", str(folder / "none/a.xml")], 1), ([], 0)):
        with pytest.raises(SystemExit) as end:
            main([*words, str(path), str(path), *arguments])
        assert end.value.code == status
    printed = capsys.readouterr()
    assert f"{path}: 1 test holds" in printed.out
    assert "a.xml: No such file or directory" in printed.err
    with pytest.raises(SystemExit) as end:
        main(["rules", "test", str(folder / "rules.yaml")])
    assert end.value.code == 2


def test_the_schema_and_the_guide() -> None:
    """docs/suite.schema.json is the model's and takes the example; the guide has each key."""
    written = "run: python -m app rules schema --suite > docs/suite.schema.json"
    assert SuiteFile.model_json_schema() == SCHEMA, written
    example = YAML(typ="safe", pure=True).load((ROOT / "rules.example.suite.yaml").read_text())
    jsonschema.Draft202012Validator(SCHEMA).validate(example)
    for name, model in {**SCHEMA["$defs"], "SuiteFile": SCHEMA}.items():
        if name != "SilenceSpan":
            (table,) = re.findall(rf"<!-- suite: {name} -->\n\n((?:\|.*\n)+)", GUIDE)
            cells = "".join(row.split("|")[1] for row in table.splitlines()[2:])
            assert set(re.findall(r"`([^`]+)`", cells)) == set(model["properties"]), name
