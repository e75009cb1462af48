#!/usr/bin/env python3
"""Writes docs/cli.md, docs/settings.md, docs/logs.md and .env.example from the source."""

import inspect
import sys
import textwrap
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from app.cli import command_line  # noqa: E402 - the root first
from app.observe.events import EVENTS  # noqa: E402
from app.settings import Settings  # noqa: E402
from scripts.log_events import log_events  # noqa: E402

SECTIONS = {"port_client_secret": "Port", "slack_webhook_url": "Slack", "rules_file": "The listener"}
"""The setting with which each section of .env.example begins."""
COMMENTED_OUT = {"database_url"}  # the image sets it, and a copy of .env.example must not undo that
ENV_WIDTH = 110
NOTE = "Made by `scripts/generate_docs.py` from the source: do not edit."


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
            "environment wins. An empty value counts as not set; white space or a pair of quotes around a",
            "value is taken off. [.env.example](../.env.example) has all.",
            "",
            "`NAME_FILE` is the path of a file that holds `NAME`, such as a mounted secret of Docker or",
            "Kubernetes: `PORT_CLIENT_SECRET_FILE=/run/secrets/port`. It works for each setting, and for",
            "each `${NAME}` of the rules.",
            "",
            "`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`, `SSL_CERT_FILE` and `SSL_CERT_DIR` may",
            "stand in `.env` too: [Outgoing proxies](operations.md#outgoing-proxies).",
            "",
            "| variable | type | default | what it does |",
            "|---|---|---|---|",
            *rows,
            "",
        )
    )


def env_example() -> str:
    """Return .env.example: each setting with its description above and its default."""
    lines = [
        "# Copy to .env and fill in. Every setting can be an environment variable instead, which wins.",
        "# No quotes and no comments behind values: docker run --env-file would keep them.",
    ]
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
    if isinstance(info.annotation, type) and issubclass(info.annotation, Enum):
        return ", ".join(f"`{choice.value}`" for choice in info.annotation)
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
    default = info.get_default()
    if default is None or default is PydanticUndefined:  # the latter: it depends on another setting
        return ""
    if isinstance(default, SecretStr):
        return default.get_secret_value()
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:g}" if isinstance(default, float) else str(default)


def commands_page() -> str:
    """Return docs/cli.md: each command with its arguments and options."""
    lines = [
        "# Commands",
        "",
        NOTE,
        "",
        "Run them as `python -m app COMMAND`; `--help` behind any of them shows the same. A command that",
        "fails prints one sentence and ends with status 1; wrong arguments end with status 2.",
        "",
        "Each noun is plural: `deliveries`, `incidents`, `silences`, `destinations`. Alone it lists:",
        "`deliveries` is `deliveries list`. `--json` prints what the API answers, one object a line.",
        "On a terminal long texts are folded; for another program each row is one line, and nothing is cut.",
        "",
    ]
    for path, command in _commands(command_line(), "python -m app"):
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
            name += f" {parameter.metavar}"
    required = isinstance(parameter, TyperOption) and parameter.required
    default = (
        ""
        if parameter.default in (None, False)
        else str(getattr(parameter.default, "value", parameter.default))
    )
    return f"| {_code(name)} | {'required' if required else _code(default)} | {_cell(parameter.help or '')} |"


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
