"""The command about the configuration."""

import os
import sys
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

import typer
from pydantic import AnyUrl, SecretStr

from app.cli.base import AsJson, print_json_lines, print_table
from app.environment import DOTENV, REFERENCE, environment
from app.errors import SettingsError
from app.model.notification import text_of
from app.settings import Settings, load_settings
from app.store.database_url import SQLITE

config = typer.Typer(help="The configuration.", no_args_is_help=True)

HIDDEN = "(hidden)"
ASIDE = ("accept_unsigned", "allowed_sources")
"""What `load_settings(only=…)` sets aside; it is shown as it is written."""
ELSEWHERE = ("_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "OTEL_")
"""Parts of names that libraries read."""


@config.callback()
def about() -> None:
    """Keep the noun: typer would drop it where it has only one command."""


@config.command()
def show(as_json: AsJson = False) -> None:
    """Show each setting's value and where it is from, secrets hidden; 1 if one cannot be used."""
    mistakes, aside, variables = "", {}, environment()
    try:
        settings = load_settings()
    except SettingsError as error:
        mistakes = str(error)
        settings = load_settings(only=("",))  # the defaults in place of what is wrong
        aside = {name: variables.get(name.upper()) or Settings.model_fields[name].default for name in ASIDE}
    wrong = {line.partition(" ")[0] for line in mistakes.splitlines()}
    rows = [
        {
            "name": name.upper(),
            "value": None if name.upper() in wrong else _shown(aside.get(name, getattr(settings, name))),
            "from": _origin(name.upper(), variables),
        }
        for name in Settings.model_fields
    ]
    if as_json:
        print_json_lines(rows)
    else:
        print_table(
            ("name", "value", "from"),
            ([text_of(cell) if cell is not None else "" for cell in row.values()] for row in rows),
        )
    for text in _unknown(settings, variables):
        print(text, file=sys.stderr)
    if mistakes:
        print(mistakes, file=sys.stderr)
        raise typer.Exit(1)


def _shown(value: Any) -> Any:
    if isinstance(value, AnyUrl) and value.password:
        return str(value).replace(f":{value.password}@", f":{HIDDEN}@")
    if isinstance(value, SecretStr):
        text = value.get_secret_value()
        return text if text.startswith(SQLITE) else HIDDEN
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def _origin(name: str, variables: Mapping[str, str]) -> str:
    for variable in (f"{name}_FILE", name):
        if os.environ.get(variable, "").strip():
            return "environment" if variable == name else variable
        if variable in variables and variables[variable].strip():
            return str(DOTENV) if variable == name else f"{variable} in {DOTENV}"
    return "default"


def _unknown(settings: Settings, variables: Mapping[str, str]) -> Iterator[str]:
    """Yield a warning for each name that .env alone has, and that nothing reads."""
    settable = [name.upper() for name in Settings.model_fields]
    try:
        rules = settings.rules_file.read_text(encoding="utf-8") if settings.rules_file else ""
        written = DOTENV.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return
    known = {*settable, *(match["name"] for match in REFERENCE.finditer(rules + written))}
    for name in variables.keys() - os.environ.keys():
        read = known & {name, name.removesuffix("_FILE")}
        if read or any(part in name.upper() for part in ELSEWHERE):
            continue
        close = get_close_matches(name.upper(), settable, 1)
        meant = f"; did you mean {close[0]}?" if close else ""
        yield f"hint: {DOTENV}: nothing reads {name}{meant}"
