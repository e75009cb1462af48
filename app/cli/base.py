"""The parts that commands share: output, options, the store, and the event loop."""

import asyncio
import getpass
import json
import os
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from datetime import timedelta
from typing import Annotated, Any, TypeVar

import typer
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.errors import ListenerError
from app.model.notification import one_line
from app.model.text import without_controls
from app.rules.condition import Duration
from app.settings import load_settings
from app.store.opening import open_store
from app.store.store import Store

_T = TypeVar("_T")

OUT = Console()
MAX_NUMBER = 2**63 - 1
"""The largest number that the databases can hold."""

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]


def span(option: str, text: str) -> timedelta:
    """Parse an option's duration: ``30m``, ``12h``, ``2d``.

    Raises:
        ListenerError: It is not one; the text names the option.
    """
    try:
        return TypeAdapter(Duration).validate_python(text)
    except ValidationError as error:
        wrong = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ListenerError(f"{option} {one_line(text, 40)} {wrong}") from None


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a command's coroutine and return its result; Ctrl-C ends the process with status 130."""
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def run_with_store(work: Callable[[Store], Awaitable[_T]]) -> _T:
    """Run what works with the configured store, and return its result.

    Raises:
        SettingsError: The configuration cannot be used.
        StoreUnavailable: There is no store yet, or it cannot be opened.
    """

    async def opened() -> _T:
        async with open_store(*load_settings().database, must_exist=True) as store:
            return await work(store)

    return run(opened())


def say(text: str) -> None:
    """Print lines in which something is as a person or the catalog wrote it: no terminal obeys it."""
    print("\n".join(map(without_controls, text.split("\n"))))


def print_json_lines(rows: Iterable[Mapping[str, Any]]) -> None:
    """Print one JSON object per line, in ASCII; what JSON does not have is printed as text."""
    for row in rows:
        print(json.dumps(row, default=str, ensure_ascii=True))


def print_table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Print a table without borders, each cell on one line and without markup."""
    table = Table(*columns, box=None)
    for row in rows:
        table.add_row(*(Text(one_line(cell)) for cell in row))
    OUT.print(table)


def user_name() -> str:
    """Name the user who runs the command."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container the user is often a number without a name
        return f"user {os.getuid()}"
