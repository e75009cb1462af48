"""The commands for the database: a copy of it, its changes as JSON, and its move to PostgreSQL."""

import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from pydantic_core import from_json, to_json

from app.cli.base import OF_THE_STORE, run, span
from app.errors import ListenerError
from app.settings import Settings, load_settings
from app.store import queries
from app.store.database_url import sqlite_file
from app.store.opening import existing_database, now, open_store
from app.store.sqlite.copy import MEGABYTE, copy_database, restore_database
from app.store.sqlite.private_file import private_file
from app.store.views import StoredChange

CHANGES_A_PAGE = 500
OBEYED = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""What a terminal obeys, or what reorders a line, and JSON allows in a text as it is."""
DEFAULT_FILE = "sqlite:///data/listener.db"

Force = Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")]


def backup(file: Annotated[Path, typer.Argument(help="The copy to make.")], force: Force = False) -> None:
    """Copy the database to a file, while the listener runs, and check the copy."""
    database = existing_database(_settings().database[0])
    if file.exists() and file.samefile(database):  # --force would replace the database by its own copy
        raise ListenerError(f"{file} is the database itself: name another file")
    _demand_free(file, force=force)
    for side in ("-wal", "-journal"):
        # SQLite would take it for a part of the new copy, and corrupt the copy.
        if file.with_name(f"{file.name}{side}").exists():
            raise ListenerError(
                f"{file}{side} is there: a program has {file} open, or was stopped while it had. Name another"
                " file, or see to that first"
            )
    began = time.monotonic()
    copy_database(database, file)
    print(f"{file}: {file.stat().st_size / MEGABYTE:.1f} MB, checked, in {time.monotonic() - began:.1f} s")


def restore(file: Annotated[Path, typer.Argument(help="The copy, as `backup` makes it.")]) -> None:
    """Put a copy in the database's place, and keep what was there beside it. Stop the listener first."""
    database = sqlite_file(_settings().database[0])
    if database is None:
        raise ListenerError(
            "restore is for a SQLite file. On PostgreSQL: stop all replicas, make an empty database,"
            " `pg_restore --dbname=URL FILE` into it, set DATABASE_URL to it, and start"
        )
    if not file.is_file():
        raise ListenerError(f"there is no file {file}: name a copy that `backup` has made")
    if database.exists() and file.samefile(database):
        raise ListenerError(f"{file} is the database itself: name a copy")
    database.parent.mkdir(parents=True, exist_ok=True)
    kept = restore_database(file, database, now())
    before = f"What was there is {kept}. " if kept else ""
    print(f"{database} is the copy now. {before}Start the listener.")


def export(
    file: Annotated[Path, typer.Argument(help="Where to write; - is standard output.")] = Path("-"),
    since: Annotated[
        str | None, typer.Option(help="Only the last 12h, 7d. Not given: all that are stored.")
    ] = None,
    blueprint: Annotated[str | None, typer.Option(help="Only of this blueprint.")] = None,
    force: Force = False,
) -> None:
    """Write the stored changes as JSON lines, oldest first, each with its body."""
    settings = _settings()
    start = datetime.fromtimestamp(0, UTC) if since is None else now() - span("--since", since)

    async def work() -> int:
        number, last = 0, None
        async with open_store(*settings.database, must_exist=True) as store:
            with _output(file, force=force) as out:
                while rows := await store.read(
                    queries.changes.history,
                    since=start,
                    blueprint=blueprint,
                    after=last,
                    limit=CHANGES_A_PAGE,
                ):
                    out.writelines(map(json_line, rows))
                    number, last = number + len(rows), rows[-1]
        return number

    number = run(work())
    print(f"{number} changes", file=sys.stderr)


def json_line(change: StoredChange) -> bytes:
    """Format a change as a line of JSON, with its body as it was signed, as far as a terminal may see it."""
    # In JSON, line breaks are only between values, and all other controls only in texts.
    body = (change.body or b"").replace(b"\r", b" ").replace(b"\n", b" ")
    if b"Infinity" in body or b"NaN" in body:  # Python reads these numbers, but JSON does not have them
        body = to_json(from_json(body), inf_nan_mode="null")
    if not body.isascii() or b"\x7f" in body:
        text = body.decode(errors="surrogateescape")
        text = OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
        body = text.encode(errors="surrogateescape")
    head = {
        "key": change.key,
        "received_at": _time(change.received_at),
        "at": _time(change.at),
        "action": change.action,
        "resource": change.resource,
        "blueprint": change.blueprint,
        "entity": change.entity,
        "reason": change.reason,
        "alerts": change.alerts,
    }
    return b'%s, "body": %s}\n' % (json.dumps(head).removesuffix("}").encode(), body)


def move(
    to: Annotated[
        str | None,
        typer.Option(
            help="An empty database, postgresql://…. Not given: DATABASE_URL, which `ps` does not show."
        ),
    ] = None,
    source: Annotated[
        str | None, typer.Option("--from", help=f"The SQLite file: {DEFAULT_FILE}. Not given: DATABASE_URL.")
    ] = None,
) -> None:
    """Copy a SQLite file's rows to PostgreSQL, and compare. Stop the listener first; safe to run again."""
    if not to and not source:
        raise typer.BadParameter("give --to, or --from where DATABASE_URL is PostgreSQL's already")
    path = sqlite_file(_settings(**({"database_url": source} if source else {})).database[0])
    url, _ = _settings(**({"database_url": to} if to else {})).database
    if path is None:
        raise ListenerError(f"the rows come from a SQLite file: give --from {DEFAULT_FILE}")
    if sqlite_file(url) is not None:
        raise ListenerError("the rows go to PostgreSQL: give --to postgresql://…")
    from app.store.move import move as move_rows

    run(move_rows(path, url, say=lambda line: print(line, flush=True)))
    print("Every row was copied. Set DATABASE_URL to it, start the listener, and keep the file for a while.")


def _time(at: datetime) -> str:
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _settings(**overrides: str) -> Settings:
    return load_settings(only=OF_THE_STORE, **overrides)


def _demand_free(file: Path, *, force: bool) -> None:
    if not file.parent.is_dir():
        raise ListenerError(f"there is no folder {file.parent}: make it first")
    if file.exists() and not file.is_file():
        raise ListenerError(f"{file} is not a file: name one")
    if file.exists() and not force:
        raise ListenerError(f"{file} exists: name another file, or replace it with --force")


@contextmanager
def _output(file: Path, *, force: bool) -> Iterator[BinaryIO]:
    if file == Path("-"):
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    _demand_free(file, force=force)
    try:
        with private_file(file) as part, part.open("wb") as out:
            yield out
    except OSError as error:
        raise ListenerError(f"cannot write {file}: {error.strerror}") from None
