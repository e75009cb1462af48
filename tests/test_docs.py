"""The documentation agrees with the program."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from typer.core import TyperGroup

from app import __version__
from app.cli import command_line
from app.jq.runner import checking
from app.notifier.registry import SETTINGS_MODELS
from app.port.setup.resources import automation
from app.rules.file import load_rules
from app.settings import Settings
from scripts.generate_docs import PAGES as GENERATED

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
RULES_GUIDE = (ROOT / "docs/rules.md").read_text()
PAGES = {path.name: path.read_text() for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]}
MOST_WORDS = 1_500


def commands(group: TyperGroup, prefix: str = "") -> list[str]:
    """Return every command with its group's name before it."""
    found = []
    for name, command in group.commands.items():
        found.append(f"{prefix}{name}")
        if isinstance(command, TyperGroup):
            found += commands(command, f"{prefix}{name} ")
    return found


@pytest.mark.parametrize("name", GENERATED)
def test_what_is_made_from_the_source_is_up_to_date(name: str) -> None:
    """The pages of commands, settings and log events, and .env.example, are as the source says."""
    path = ROOT / name
    assert path.exists(), "run scripts/generate_docs.py"
    assert path.read_text() == GENERATED[name](), "run scripts/generate_docs.py"


def test_the_example_of_the_settings_can_be_used_as_it_is() -> None:
    """A copy of .env.example is what README begins with: it says the same as no file at all."""
    copied = Settings(_env_file=ROOT / ".env.example", port_client_secret="x")
    assert copied == Settings(_env_file=None, port_client_secret="x")


def test_every_setting_has_a_description() -> None:
    """Each setting says what it does."""
    for name, info in Settings.model_fields.items():
        assert info.description, name


@pytest.mark.parametrize("command", sorted(set(commands(command_line()))))
def test_every_command_is_shown(command: str) -> None:
    """The README or a page in docs shows each command."""
    assert any(f"app {command}" in text for text in PAGES.values())


def test_every_command_that_is_shown_exists() -> None:
    """Each `python -m app …` that the README or a page in docs shows is a command."""
    shown = {name for text in PAGES.values() for name in re.findall(r"python -m app ([a-z]+)", text)}
    assert shown
    assert shown <= set(command_line().commands)


def test_every_command_has_help() -> None:
    """Each command and each option says what it is for."""
    pending: list[TyperGroup] = [command_line()]
    while pending:
        group = pending.pop()
        for name, command in group.commands.items():
            assert command.help, name
            for parameter in command.params:
                described = getattr(parameter, "help", None)
                assert described, f"{name} {parameter.name}"
            if isinstance(command, TyperGroup):
                pending.append(command)


def test_the_readme_is_short_and_has_contents() -> None:
    """It has 1,500 words at most, and a list of its sections."""
    assert len(README.split()) <= MOST_WORDS
    listed = re.findall(r"^- \[([^]]+)\]\(#", README, re.MULTILINE)
    assert ["Contents", *listed] == re.findall(r"^## (.+)$", README, re.MULTILINE)


def test_every_script_the_readme_shows_exists() -> None:
    """Each `./scripts/…` that the README shows is a file."""
    shown = re.findall(r"\./(scripts/[a-z]+)", README)
    assert shown
    for path in shown:
        assert (ROOT / path).exists(), path


def test_the_automation_in_the_readme_is_bootstraps() -> None:
    """The README shows the automation that bootstrap creates."""
    (shown,) = re.findall(r"^```json\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert json.loads(shown) == automation("deploymentConfig", "https://YOUR-ADDRESS/api/slack")


def examples(text: str) -> list[str]:
    """Return the rules files that a page shows."""
    found = re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [one for one in found if one.startswith("version:")]


@pytest.mark.parametrize("page", ["README.md", "rules.md"])
def test_every_rules_file_that_is_shown_loads(page: str) -> None:
    """Each complete rules file in the README and in docs/rules.md is one, its jq too."""
    environment = {"ROCKET_WEBHOOK_URL": "https://hooks.example.com/rocket", "PD_KEY": "k" * 32}
    environment["TEAMS_URL"] = "https://flows.example.com/x"
    assert examples(PAGES[page])
    with checking() as check_jq:
        for example in examples(PAGES[page]):
            assert load_rules(example, environment, models=SETTINGS_MODELS, check_jq=check_jq).file.rules


def tables() -> dict[str, dict[str, list[str]]]:
    """Return the tables of docs/rules.md: by the schema's definition and by key, the row's cells."""
    found = {}
    for name, table in re.findall(r"<!-- schema: (\w+) -->\n\n((?:\|.*\n)+)", RULES_GUIDE):
        rows = [re.split(r" (?<!\\)\| ", line.strip("| \n")) for line in table.splitlines()[2:]]
        found[name] = {row[0].strip("`"): row for row in rows}
    return found


def definitions() -> dict[str, dict[str, Any]]:
    """Return the objects of the rules file's schema by name."""
    schema: dict[str, Any] = json.loads((ROOT / "docs/rules.schema.json").read_text())
    return {**schema["$defs"], "RulesFile": schema}


@pytest.mark.parametrize("name", sorted(definitions()))
def test_every_key_of_the_rules_file_has_its_row(name: str) -> None:
    """docs/rules.md has a table for each object of the schema, with a row for each key and for no other."""
    rows = tables()[name]
    assert set(rows) == set(definitions()[name]["properties"])


def shown(default: Any) -> str:
    """Return a default as docs/rules.md writes it."""
    match default:
        case None:
            return "none"
        case bool():
            return f"`{json.dumps(default)}`"
        case [{"name": "health"}]:
            return "the built-in rule"
        case [str(only)]:
            return f"`{only}`"
        case list():
            return f"`[{', '.join(default)}]`"
    return f"`{default}`"


@pytest.mark.parametrize("name", sorted(definitions()))
def test_the_defaults_in_the_guide_are_right(name: str) -> None:
    """The default of each key is the schema's; a mapping that is empty unless given has none there."""
    definition = definitions()[name]
    for key, row in tables()[name].items():
        assert len(row) == 5, row
        if key in definition.get("required", ()):
            assert row[2] == "required", key
        else:
            assert row[2] in {shown(definition["properties"][key].get("default")), "`{}`"}, key


EXAMPLES = [(name, key, row[-1].strip("`")) for name, rows in tables().items() for key, row in rows.items()]


@pytest.mark.parametrize(("name", "key", "example"), EXAMPLES)
def test_every_example_of_a_key_is_right(name: str, key: str, example: str) -> None:
    """The example in a key's row has the key, and can stand in a rules file."""
    assert f"{key}:" in example
    given = YAML(typ="safe", pure=True).load(example)
    document: dict[str, Any] = {"version": 1, "destinations": {}, "rules": []} | _in_a_file(name, key, given)
    for one in ("oncall", "cleanup", "ops", "rocket"):
        document["destinations"].setdefault(one, {"type": "console"})
    environment = {"ROCKET_WEBHOOK_URL": "https://hooks.example.com/rocket", "JOBS_TOKEN": "token"}
    environment |= {"PD_KEY": "k" * 32, "TEAMS_URL": "https://flows.example.com/x"}
    load_rules(
        json.dumps(document, default=str),
        environment | {"JOBS_SECRET": "whsec_c2VjcmV0"},
        models=SETTINGS_MODELS,
    )


def _in_a_file(name: str, key: str, given: dict[str, Any]) -> dict[str, Any]:
    if name == "RulesFile":
        return given
    if name == "SlackRules":
        return {"slack": given}
    bases: dict[str, dict[str, Any]] = {
        "SlackDestination": {"type": "slack"}
        | {
            "channel": {},
            "user": {},
            "allow": {"channel": "{{ .a }}"},
            "default": {"user": "{{ .a }}"},
        }.get(key, {"webhook_url": "https://a.example"}),
        "HttpDestination": {"type": "http", "url": "https://a.example"},
        "PortActionDestination": {"type": "port_action", "action": "a"},
        "TeamsDestination": {"type": "teams", "webhook_url": "https://a.example"},
        "PagerDutyDestination": {"type": "pagerduty", "routing_key": "k"},
        "ConsoleDestination": {"type": "console"},
    }
    if name in bases:
        return {"destinations": {"one": bases[name] | given}}
    office = {"from": "09:00", "to": "18:00", "tz": "UTC"} | (given if name == "Hours" else {})
    lookup = {"property": "a"} | ({"relation": "b"} if key in {"property", "each"} else {})
    rule: dict[str, Any] = {
        "Rule": given,
        "Condition": {"when": given}
        | ({"on": "RUN_UPDATED", "resolve": {"run": "status"}} if key == "run" else {}),
        "Not": {"when": given},
        "Flap": {"flap": {"changes": 2, "within": "1m"} | given},
        "ByTeam": {"send": {"by_team": {"a": "ops"}, "default": "ops"} | given},
        "ByTemplate": {"send": {"template": "{{ .a }}", "default": "ops"} | given},
        "ByPort": {"send": {"port": {"team": True, "property": "a"}, "default": "ops"} | given},
        "FromPort": {"mention": given},
        "ByHours": {"send": {"to": "ops", "when": "office", "else": "hold"} | given},
        "Hours": {},
        "Escalation": {"escalate": {"after": "1h", "send": "ops"} | given},
        "PortLookup": {"send": {"port": lookup | given, "default": "ops"}},
        "QuietWhile": {"quiet_while": {"relation": "cluster", "rule": "cluster-health"} | given},
        "GroupBy": given,
        "Affected": {"affected": {"relation": "a"} | given},
    }[name]
    ends = {"resolve": {"property": "a", "to": 1}}
    others = [
        {"name": name, "blueprint": name, "when": {"property": "a"}, **ends}
        for name in ("cluster-health", "service-health")
    ]
    group = {"of": "service-health", "by": "team"} | ({} if key == "share" else {"at_least": 2})
    grouped = name == "GroupBy" or key in ("of", "by", "at_least", "share", "until", "members")
    rules = [*others, {"name": "one"} | (group if grouped else ends) | rule]
    return {"hours": {"office": office}, "rules": rules}


def test_the_version_is_one() -> None:
    """What `--version` and /metrics say is what pyproject.toml says."""
    assert f'\nversion = "{__version__}"\n' in (ROOT / "pyproject.toml").read_text()


def test_the_first_screen_has_the_two_commands() -> None:
    """The README's first screen shows the two commands that set everything up."""
    first_screen = "\n".join(README.splitlines()[:40])
    assert "./scripts/demo" in first_screen
    assert "./scripts/test" in first_screen


def test_the_dockerfile_uses_the_lock_and_another_user() -> None:
    """The image is built from the lock, does not run as root, and asks the listener how it is."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    install = "--require-hashes --no-deps -r requirements.lock"
    for part in (install, "USER 10001", "HEALTHCHECK", "VOLUME /data"):
        assert part in dockerfile


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-test.lock"])
def test_the_lock_is_whole(lock: str) -> None:
    """Every locked package has hashes, no index is named, and what pyproject.toml demands is there."""
    text = (ROOT / lock).read_text()
    packages = re.findall(r"^([a-z0-9_.-]+)==", text, re.MULTILINE | re.IGNORECASE)
    assert len(packages) == len(
        re.findall(r"^[a-zA-Z0-9_.-]+==[^\n]*\\\n    --hash=sha256:", text, re.MULTILINE)
    )
    assert "://" not in text
    demanded = re.findall(r'^    "([a-z_-]+)>=', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    runtime = demanded[: demanded.index("uvloop") + 1]
    wanted = runtime if lock == "requirements.lock" else demanded
    assert {name.replace("_", "-") for name in wanted} <= {name.replace("_", "-") for name in packages}
