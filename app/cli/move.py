"""The command that moves a SQLite store to PostgreSQL."""

from typing import Annotated

import typer

from app.cli.base import run
from app.errors import ListenerError
from app.settings import load_settings

DEFAULT_FILE = "sqlite:///data/listener.db"


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
    path = load_settings(**({"database_url": source} if source else {})).database_path
    target = load_settings(**({"database_url": to} if to else {}))
    if path is None:
        raise ListenerError(f"the rows come from a SQLite file: give --from {DEFAULT_FILE}")
    if target.database_path is not None:
        raise ListenerError("the rows go to PostgreSQL: give --to postgresql://…")
    from app.store.move import move as move_rows

    url = target.database_url.get_secret_value()
    run(move_rows(path, url, say=lambda line: print(line, flush=True)))
    print("Every row was copied. Set DATABASE_URL to it, start the listener, and keep the file for a while.")
