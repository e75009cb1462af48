"""The parts that commands share: output, options, the store, and the event loop."""

import asyncio
import json
import os
import pwd
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import from_json, to_json
from rich.cells import cell_len
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text
from starlette.exceptions import HTTPException
from typer.core import TyperGroup
from typing_extensions import override

from app.errors import ListenerError
from app.model.notification import one_line, text_of
from app.model.text import without_controls
from app.rules.values import Duration
from app.settings import load_settings
from app.store.opening import open_store
from app.store.store import Store
from app.store.views import Page

if TYPE_CHECKING:  # it takes time, and most commands do nothing of it
    from app.web.api.models import ActionOut

_T = TypeVar("_T")
_Row = TypeVar("_Row")

OUT = Console()
ROWS_A_PAGE = 500
NAMES_OF_USER = ("LOGNAME", "USER", "LNAME", "USERNAME")
OF_THE_STORE = ("database_url", "database_listen_url")
"""The settings that a command about the store uses."""
OF_STORE_AND_RULES = (*OF_THE_STORE, "rules_file", "slack_webhook_url")
"""Those that one about the store and the rules uses."""
MAX_NUMBER = 2**63 - 1
"""The largest number that the databases can hold."""

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]


class Noun(TyperGroup):
    """A noun's commands; without one of them it is ``list``, whose options it takes."""

    @override
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put ``list`` where no command stands."""
        lists = not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names)
        if lists and not ctx.resilient_parsing:  # a shell that completes asks which commands there are
            args = ["list", *args]
        return super().parse_args(ctx, args)


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


def start_time(option: str, text: str, now: datetime) -> datetime:
    """Parse an option's start: a duration from now, the next 22:00 of this machine's zone, or ISO 8601.

    Raises:
        ListenerError: It is none of them; the text names the option.
    """
    with suppress(ValueError):
        at = datetime.combine(now.astimezone(), time.fromisoformat(text))
        # A day is added before the zone: where clocks change in between, it has 23 or 25 hours.
        return (at if at.astimezone() > now else at + timedelta(days=1)).astimezone(UTC)
    with suppress(ValueError, OverflowError):
        return datetime.fromisoformat(text).astimezone(UTC)
    return now + span(option, text)


def json_or_text(text: str) -> Any:
    """Parse an option's value: as JSON if it is, else it is the text itself."""
    try:
        return from_json(text, allow_inf_nan=False)
    except ValueError:
        return text


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a command's coroutine and return its result; Ctrl-C ends the process with status 130."""
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def run_with_store(work: Callable[[Store], Awaitable[_T]]) -> _T:
    """Run what works with the configured store, and return its result.

    Raises:
        SettingsError: The settings of the database cannot be used.
        StoreUnavailable: There is no store yet, or it cannot be opened.
    """

    async def opened() -> _T:
        async with open_store(*load_settings(only=OF_THE_STORE).database, must_exist=True) as store:
            return await work(store)

    return run(opened())


@dataclass(frozen=True, slots=True)
class OnThisMachine:
    """What actions need of the running parts, where a command does them: `app.web.actions.ActionContext`."""

    store: Store

    @property
    def clock(self) -> Callable[[], datetime]:
        """Gives the time, UTC."""
        return self.store.clock

    def wake(self) -> None:
        """Do nothing: the listener's own process looks for work by itself."""


def act_here(action: Callable[[OnThisMachine], Awaitable["ActionOut"]], look: str = "") -> "ActionOut":
    """Let an action be done on this machine's store, which writes it into the audit trail.

    Args:
        action: One of `app.web.actions`.
        look: The command that shows what there is, for who named what is not there.

    Raises:
        ListenerError: It cannot be done.
    """
    return run_with_store(lambda store: acted(action(OnThisMachine(store)), look))


async def acted(action: Awaitable["ActionOut"], look: str = "") -> "ActionOut":
    """Await an action; one that cannot be done is a `ListenerError`."""
    try:
        return await action
    except HTTPException as refused:
        where = f": python -m app {look}" if look else "."
        raise ListenerError(refused.detail.rstrip(".") + where) from None


def say(text: str) -> None:
    """Print lines in which something is as a person or the catalog wrote it: no terminal obeys it."""
    print("\n".join(map(without_controls, text.split("\n"))))


async def read_pages(
    read: Callable[[str | None, int], Awaitable[Page[_Row]]], limit: int = MAX_NUMBER
) -> list[_Row]:
    """Read a list page by page.

    Args:
        read: Reads a page, given the `next` of the page before (None: the first) and the page's size.
        limit: How many rows at most.
    """
    rows: list[_Row] = []
    before = None
    while len(rows) < limit:
        page = await read(before, min(ROWS_A_PAGE, limit - len(rows)))
        rows += page.rows
        if (before := page.next) is None:
            break
    return rows


def print_json_lines(rows: Iterable[BaseModel | Mapping[str, Any]]) -> None:
    """Print one JSON object per line, in ASCII: times in ISO 8601, null for what is not there."""
    for row in rows:
        # By way of pydantic: it knows times, enums and models; and NaN, which JSON has not, is null.
        print(json.dumps(from_json(to_json(row, inf_nan_mode="null")), ensure_ascii=True))


def print_table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Print a table without borders, each cell on one line; for another program each row is one line too."""
    heads, cells = tuple(columns), [[one_line(cell) for cell in row] for row in rows]
    if OUT.is_terminal:
        table = Table(*(Column(head, overflow="fold") for head in heads), box=None)
        for row in cells:
            table.add_row(*map(Text, row))
        OUT.print(table)
        return
    widths = [max(map(cell_len, column)) for column in zip(heads, *cells, strict=True)]
    for line in (heads, *cells):
        padded = (text + " " * (width - cell_len(text)) for text, width in zip(line, widths, strict=True))
        print("  ".join(padded).rstrip())


def print_record(row: BaseModel) -> None:
    """Print one thing, a field a line; lists of things below, indented."""
    for name, value in row.model_dump(mode="json").items():
        label = name.replace("_", " ")
        if isinstance(value, list) and value and isinstance(value[0], dict):
            print(f"{label}:")
            for part in value:
                print("  " + ", ".join(f"{key} {one_line(text_of(text))}" for key, text in part.items()))
        else:
            print(f"{label}: {one_line(text_of(value))}")


def user_name(number: int | None = None) -> str:
    """Name the user who runs the command, or who has a number where the environment names nobody."""
    number = os.getuid() if number is None else number
    if name := next(filter(None, map(os.environ.get, NAMES_OF_USER)), None):
        return name
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:  # in a container the user is often a number without a name
        return f"user {number}"
