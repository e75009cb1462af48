"""The commands about silences."""

import getpass
import json
import os
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from app.cli.base import OUT, AsJson, run, span
from app.errors import ListenerError
from app.model.notification import one_line
from app.model.silence import ANY, Silence
from app.notifier.base import duration
from app.settings import load_settings
from app.store.opening import open_store

LONGEST = 500

silence = typer.Typer(help="What nobody is to hear of for a while.", no_args_is_help=True)


@silence.command()
def add(
    for_: Annotated[str, typer.Option("--for", help="For how long: 30m, 2h, 1d.")],
    comment: Annotated[str, typer.Option(help="Why.")],
    rule: Annotated[str, typer.Option(help="Only of this rule; *, ? and […] make a pattern.")] = ANY,
    blueprint: Annotated[str, typer.Option(help="Only of this blueprint; a pattern too.")] = ANY,
    entity: Annotated[str, typer.Option(help="Only of this entity; a pattern too.")] = ANY,
    team: Annotated[str, typer.Option(help="Only of entities of this team; a pattern too.")] = ANY,
    author: Annotated[str | None, typer.Option(help="Who; the user who runs this unless given.")] = None,
) -> None:
    """Silence alerts: none is sent, and what is still open is told once when the silence ends."""
    given = (rule, blueprint, entity, team)
    if all(one == ANY for one in given):
        raise typer.BadParameter(
            "say what: --rule, --blueprint, --entity or --team; for everything, --rule '?*'"
        )
    author = author or _user()
    texts = (*given, author, comment.strip())
    if not all(texts) or max(map(len, texts)) > LONGEST:
        raise typer.BadParameter(
            f"patterns and --comment must not be empty, and each has at most {LONGEST} characters"
        )
    now = datetime.now(UTC)
    new = Silence(*given, now, now + span("--for", for_), author, comment.strip())

    async def work() -> int:
        async with open_store(*load_settings().database, must_exist=True) as store:
            return await store.add_silence(new)

    number = run(work())
    print(f"silence {number}: {_what(new)}, until {new.ends_at:%Y-%m-%d %H:%M:%S} UTC")


@silence.command("list")
def list_silences(
    all_: Annotated[bool, typer.Option("--all", help="Those that have ended, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """List silences, newest first."""
    now = datetime.now(UTC)

    async def work() -> list[Silence]:
        async with open_store(*load_settings().database, must_exist=True) as store:
            return await store.silences(active_at=None if all_ else now)

    rows = run(work())
    if as_json:
        for row in rows:
            print(json.dumps(asdict(row), default=str, ensure_ascii=True))
        return
    table = Table("id", "what", "ends", "by", "why", "silenced", box=None)
    for row in rows:
        ends = f"in {duration(row.ends_at - now)}" if row.ends_at > now else "ended"
        cells = (str(row.id), _what(row), ends, row.author, row.comment, str(row.silenced))
        table.add_row(*(Text(one_line(cell)) for cell in cells))
    OUT.print(table if rows else "Nothing is silenced.")


@silence.command()
def end(number: Annotated[int, typer.Argument(min=1, max=2**63 - 1, help="The silence's number.")]) -> None:
    """End a silence now: of what it kept back, what is still open is told once."""

    async def work() -> bool:
        async with open_store(*load_settings().database, must_exist=True) as store:
            return await store.end_silence(number, datetime.now(UTC))

    if not run(work()):
        raise ListenerError(f"there is no silence {number} that has not ended: python -m app silence list")
    print(f"silence {number} has ended")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container it is often a number without a name
        return f"user {os.getuid()}"


def _what(one: Silence) -> str:
    patterns = {"rule": one.rule, "blueprint": one.blueprint, "entity": one.entity, "team": one.team}
    return ", ".join(f"{name} {pattern}" for name, pattern in patterns.items() if pattern != ANY)
