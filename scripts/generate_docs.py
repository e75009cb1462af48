#!/usr/bin/env python3
"""Writes docs/cli.md, docs/settings.md, docs/logs.md and .env.example from the source."""

import ast
import inspect
import sys
import textwrap
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Literal, cast, get_args, get_origin

import typer.main
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from app.cli import command_line  # noqa: E402 - the root first
from app.observe.events import EVENTS  # noqa: E402
from app.settings import Settings  # noqa: E402

LEVELS = {name: name for name in ("debug", "info", "warning", "error", "critical")} | {"exception": "error"}
SECTIONS = {"port_client_secret": "Port", "slack_webhook_url": "Slack", "rules_file": "The listener"}
"""The setting with which each section of .env.example begins."""
COMMENTED_OUT = {"database_url"}  # the image sets it, and a copy of .env.example must not undo that
ENV_WIDTH = 110
NOTE = "Made by `scripts/generate_docs.py` from the source: do not edit."


UNCONVERTED = (
    "deliver",
    "jq",
    "notifier",
    "observe/otel.py",
    "port",
    "receive",
    "reconcile",
    "runtime.py",
    "store",
)
"""Whose log lines are not events yet; goes away with the last of them."""


@dataclass
class Event:
    """What the source says of a log event."""

    levels: set[str] = field(default_factory=set)
    fields: set[str] = field(default_factory=set)


def log_events(source: Path) -> dict[str, Event]:
    """Collect the calls ``log.<level>("id", field=…)`` of all modules below a folder.

    Args:
        source: The folder.

    Raises:
        ValueError: The id, or a field's name, cannot be read from the source.
    """
    events: dict[str, Event] = defaultdict(Event)
    for path in sorted(source.rglob("*.py")):
        if str(path.relative_to(source)).startswith(UNCONVERTED):
            continue
        for function in _functions(ast.parse(path.read_text())):
            for level, call in _log_calls(function):
                place = f"{path.relative_to(source.parent)}:{call.lineno}"
                for event_id in _ids(call, place):
                    events[event_id].levels.add(level)
                    events[event_id].fields |= _field_names(call, function, place)
    return dict(events)


def _functions(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield a module's statements and those of its classes: the calls are in the functions among them."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield from (
                item for item in node.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)
            )
        else:
            yield node


def _log_calls(node: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Yield each call of a method of `log` with its level."""
    for call in ast.walk(node):
        if (
            isinstance(call, ast.Call)
            and isinstance(call.func, ast.Attribute)
            and isinstance(call.func.value, ast.Name)
            and call.func.value.id == "log"
            and call.func.attr in LEVELS
        ):
            yield LEVELS[call.func.attr], call


def _ids(call: ast.Call, place: str) -> list[str]:
    first = call.args[0] if call.args else None
    choices = [first.body, first.orelse] if isinstance(first, ast.IfExp) else [first]
    ids = [choice.value for choice in choices if isinstance(choice, ast.Constant)]
    if len(call.args) != 1 or len(ids) != len(choices):
        raise ValueError(f"{place}: the event's id must be one literal text, and the rest fields")
    return [str(event_id) for event_id in ids]


def _field_names(call: ast.Call, function: ast.AST, place: str) -> set[str]:
    """Return the names of a call's fields; those of ``**fields`` stand in a dict of the same function."""
    names = {keyword.arg for keyword in call.keywords if keyword.arg and keyword.arg != "exc_info"}
    for keyword in call.keywords:
        if keyword.arg is None:
            if not isinstance(keyword.value, ast.Name):
                raise ValueError(f"{place}: give the fields as **fields, a dict of this function")
            names |= _dict_keys(keyword.value.id, function, place)
    return {name for name in names if name}


def _dict_keys(variable: str, function: ast.AST, place: str) -> set[str]:
    keys: set[str] = set()
    for node in ast.walk(function):
        targets = node.targets if isinstance(node, ast.Assign) else []
        targets = [node.target] if isinstance(node, ast.AnnAssign | ast.AugAssign) else targets
        for target in targets:
            if isinstance(target, ast.Name) and target.id == variable:
                keys |= {
                    str(key.value)
                    for item in ast.walk(node)
                    if isinstance(item, ast.Dict)
                    for key in item.keys
                    if isinstance(key, ast.Constant)
                }
            elif (
                isinstance(target, ast.Subscript)
                and isinstance(target.value, ast.Name)
                and target.value.id == variable
                and isinstance(target.slice, ast.Constant)
            ):
                keys.add(str(target.slice.value))
    if not keys:
        raise ValueError(f"{place}: no dict {variable!r} with literal names in this function")
    return keys


def logs_page() -> str:
    """Return docs/logs.md: each event with its level, its fields, its module and its meaning."""
    rows = (
        f"| `{event_id}` | {', '.join(sorted(event.levels))} |"
        f" {', '.join(f'`{name}`' for name in sorted(event.fields))} | {_cell(EVENTS.get(event_id, ''))} |"
        for event_id, event in sorted(log_events(ROOT / "app").items())
    )
    return "\n".join(
        (
            "# Log events",
            "",
            NOTE,
            "",
            "Each line of the log is an event with a stable id, as `event`, and fields. Every line also has",
            "`time`, `level` and `logger`. No line has a secret or a payload.",
            "",
            "| event | level | fields | meaning, and what to do |",
            "|---|---|---|---|",
            *rows,
            "",
        )
    )


def settings_page() -> str:
    """Return docs/settings.md: each setting with its type, default and description."""
    rows = (
        f"| `{name.upper()}` | {_type_text(info)} | {_code(_default_text(info))} |"
        f" {_cell(_description(info))} |"
        for name, info in Settings.model_fields.items()
    )
    return "\n".join(
        (
            "# Settings",
            "",
            NOTE,
            "",
            "Each setting is an environment variable, or a line of `.env` in the working directory; the",
            "environment wins. An empty value counts as not set. [.env.example](../.env.example) has all.",
            "",
            "| variable | type | default | what it does |",
            "|---|---|---|---|",
            *rows,
            "",
        )
    )


def env_example() -> str:
    """Return .env.example: each setting with its description above and its default."""
    lines = ["# Copy to .env and fill in. Every setting can be an environment variable instead, which wins."]
    for name, info in Settings.model_fields.items():
        if name in SECTIONS:
            lines += ["", f"# --- {SECTIONS[name]} ".ljust(ENV_WIDTH, "-")]
        choices = get_args(info.annotation) if _is_choice(info) else ()
        more = f" One of {', '.join(map(str, choices))}." if choices else ""
        text = _description(info) + more
        lines += textwrap.wrap(text, ENV_WIDTH, initial_indent="# ", subsequent_indent="# ")
        lines.append(f"{'# ' if name in COMMENTED_OUT else ''}{name.upper()}={_default_text(info)}")
    return "\n".join((*lines, ""))


def _description(info: FieldInfo) -> str:
    return " ".join((info.description or "").split())


def _is_choice(info: FieldInfo) -> bool:
    return get_origin(info.annotation) is Literal


def _type_text(info: FieldInfo) -> str:
    if _is_choice(info):
        return ", ".join(f"`{choice}`" for choice in get_args(info.annotation))
    kinds = [kind for kind in get_args(info.annotation) or (info.annotation,) if kind is not type(None)]
    names = {
        "AnyHttpUrl": "URL",
        "bool": "`true`, `false`",
        "float": "number",
        "int": "whole number",
        "Path": "file",
        "SecretStr": "secret",
        "str": "text",
    }
    return ", ".join(names.get(kind.__name__, kind.__name__) for kind in kinds)


def _default_text(info: FieldInfo) -> str:
    default = info.get_default()  # None too for one that depends on another setting
    if default is None:
        return ""
    if isinstance(default, SecretStr):
        return default.get_secret_value()
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:g}" if isinstance(default, float) else str(default).rstrip("/")


def commands_page() -> str:
    """Return docs/cli.md: each command with its arguments and options."""
    group = cast("TyperGroup", typer.main.get_command(command_line()))
    lines = [
        "# Commands",
        "",
        NOTE,
        "",
        "Run them as `python -m app COMMAND`; `--help` behind any of them shows the same. A command that",
        "fails prints one sentence and ends with status 1; wrong arguments end with status 2.",
        "",
    ]
    for path, command in _commands(group, "python -m app"):
        lines += [f"## {path.removeprefix('python -m app ')}", "", *_usage(path, command), ""]
        lines += [inspect.cleandoc(command.help or ""), ""]
        rows = [_parameter_row(parameter) for parameter in command.params if parameter.name != "help"]
        if rows:
            lines += ["| argument or option | default | what it does |", "|---|---|---|", *rows, ""]
    return "\n".join(lines)


def _commands(group: TyperGroup, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if not isinstance(command, TyperGroup) or command.invoke_without_command:
            yield f"{prefix} {name}", command
        if isinstance(command, TyperGroup):
            yield from _commands(command, f"{prefix} {name}")


def _usage(path: str, command: TyperGroup | TyperCommand) -> list[str]:
    arguments = [parameter for parameter in command.params if isinstance(parameter, TyperArgument)]
    has_options = any(isinstance(parameter, TyperOption) for parameter in command.params)
    parts = [path, *(["[OPTIONS]"] if has_options else []), *map(_argument_text, arguments)]
    return ["```sh", " ".join(parts), "```"]


def _argument_text(argument: TyperArgument) -> str:
    name = (argument.name or "").upper() + ("…" if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def _parameter_row(parameter: Any) -> str:
    if isinstance(parameter, TyperArgument):
        name = _argument_text(parameter)
    else:
        name = ", ".join((*parameter.opts, *parameter.secondary_opts))
        if not parameter.is_flag:
            name += f" {_value_text(parameter)}"
    required = isinstance(parameter, TyperOption) and parameter.required
    default = (
        ""
        if parameter.default in (None, False)
        else str(getattr(parameter.default, "value", parameter.default))
    )
    return f"| {_code(name)} | {'required' if required else _code(default)} | {_cell(parameter.help or '')} |"


def _value_text(option: TyperOption) -> str:
    annotation = option.type_descriptor.annotation
    kind = (get_args(annotation) or (annotation,))[0]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "|".join(str(choice.value) for choice in kind)
    return {str: "TEXT", int: "NUMBER", Path: "FILE"}[kind]


def _code(text: str) -> str:
    return f"`{text}`".replace("|", "\\|") if text else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


PAGES = {
    "docs/cli.md": commands_page,
    "docs/settings.md": settings_page,
    "docs/logs.md": logs_page,
    ".env.example": env_example,
}
"""Each file that is made here, and the function that returns its text."""


def main() -> None:
    """Write every file that differs, and say which."""
    for name, page in PAGES.items():
        path, text = ROOT / name, page()
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(f"{name} written")


if __name__ == "__main__":
    main()
