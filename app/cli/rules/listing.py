"""The commands that list the rules and show one."""

from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic_core import to_json
from typing_extensions import override

from app.cli.base import AsJson, print_json_lines, print_table, say
from app.errors import ListenerError
from app.model.notification import one_line, text_of
from app.notifier.registry import SETTINGS_MODELS
from app.receive.rules_source import read_rules
from app.rules.kin.group import state_of
from app.rules.rule import Rule
from app.runtime.configured import configured_rules
from app.settings import load_settings

MAX_WHEN_CHARACTERS = 60

RulesFile = Annotated[Path | None, typer.Option("--file", help="The rules file. Not given: RULES_FILE.")]


def list_rules(file: RulesFile = None, as_json: AsJson = False) -> None:
    """List the rules, in the order of the file."""
    rules = _rules(file)
    if as_json:
        print_json_lines(map(_as_written, rules))
    elif rules:
        print_table(("name", "blueprint", "when", "severity", "send"), map(_cells, rules))
    else:
        print("There are no rules.")


def show_rule(
    name: Annotated[str, typer.Argument(help="The rule's name.")],
    file: RulesFile = None,
    as_json: AsJson = False,
) -> None:
    """Show one rule as it is in the file, a key a line."""
    rules = {rule.name: rule for rule in _rules(file)}
    if (rule := rules.get(name)) is None:
        raise ListenerError(f"there is no rule {one_line(name, 60)!r}: python -m app rules list")
    if as_json:
        print_json_lines([_as_written(rule)])
        return
    for key, value in _as_written(rule).items():
        say(f"{key}: {_text(value)}")


def _rules(file: Path | None) -> tuple[Rule, ...]:
    settings = load_settings(only=("rules_file",))
    path = file or settings.rules_file
    # Nothing is sent: the variables that destinations need are no matter.
    loaded = read_rules(path, AnyVariable(), SETTINGS_MODELS) if path else configured_rules(settings)
    return tuple(loaded.file.rules)


class AnyVariable(dict[str, str]):
    """Variables, each of which is set: to an address, which is a text too."""

    @override
    def get(self, name: str, default: Any = None) -> str:
        return f"https://example.com/{name}"


def _as_written(rule: Rule) -> dict[str, Any]:
    return rule.model_dump(mode="json", by_alias=True, exclude_unset=True)


def _text(value: object) -> str:
    return to_json(value).decode() if isinstance(value, dict | list) else text_of(value)


def _cells(rule: Rule) -> tuple[str, ...]:
    written = _as_written(rule)
    when = one_line(_text(written["when"]), MAX_WHEN_CHARACTERS) if "when" in written else "any change"
    when = f"{state_of(rule)} of {rule.of}" if rule.of else when
    severity = written.get("severity", rule.severity)
    send = written.get("send", rule.send)
    targets = ", ".join(map(_text, send)) if isinstance(send, list | tuple) else _text(send)
    return rule.name, ", ".join(rule.blueprint), when, _text(severity), targets
