"""The commands about silences."""

from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated

import typer

from app.cli.base import (
    MAX_NUMBER,
    AsJson,
    Noun,
    print_json_lines,
    print_table,
    run_with_store,
    say,
    span,
    user_name,
)
from app.errors import ListenerError
from app.model.silence import ANY, Silence
from app.notifier.base import duration
from app.rules.hints import why_idle
from app.runtime.configured import configured_rules
from app.settings import load_settings
from app.store import queries
from app.web.api_models import SilenceOut

MAX_TEXT_CHARACTERS = 500

silences = typer.Typer(cls=Noun, help="Silences: mute alerts for a while.")


@silences.command()
def add(
    for_: Annotated[str, typer.Option("--for", help="For how long: 30m, 2h, 1d.")],
    comment: Annotated[str, typer.Option(help="Why.")],
    rule: Annotated[str, typer.Option(help="Only of this rule; *, ? and […] make a pattern.")] = ANY,
    blueprint: Annotated[str, typer.Option(help="Only of this blueprint; a pattern too.")] = ANY,
    entity: Annotated[str, typer.Option(help="Only of this entity; a pattern too.")] = ANY,
    team: Annotated[str, typer.Option(help="Only of entities of this team; a pattern too.")] = ANY,
    author: Annotated[
        str | None, typer.Option(help="Who silences. Not given: the user who runs this.")
    ] = None,
) -> None:
    """Mute alerts. When the silence ends, incidents that are still open alert once."""
    patterns = (rule, blueprint, entity, team)
    if all(pattern == ANY for pattern in patterns):  # by a slip everything would be silent
        raise typer.BadParameter(
            "say what: --rule, --blueprint, --entity or --team; for everything, --rule '?*'"
        )
    author = author or user_name()
    texts = (*patterns, author, comment.strip())
    if not all(texts) or max(map(len, texts)) > MAX_TEXT_CHARACTERS:
        raise typer.BadParameter(
            f"patterns and --comment must not be empty, and each has at most {MAX_TEXT_CHARACTERS} characters"
        )
    now = datetime.now(UTC)
    new = Silence(*patterns, now, now + span("--for", for_), author, comment.strip())
    number = run_with_store(lambda store: store.write(queries.silences.add, new))
    say(f"silence {number}: {_patterns_text(new)}, until {new.ends_at:%Y-%m-%d %H:%M:%S} UTC")
    with suppress(ListenerError):  # it holds without the rules file, too
        if reason := why_idle(new, configured_rules(load_settings()).file.rules):
            say(f"hint: it matches nothing: {reason}")


@silences.command("list")
def list_silences(
    all_: Annotated[bool, typer.Option("--all", help="Also those that have ended.")] = False,
    as_json: AsJson = False,
) -> None:
    """List silences, newest first."""
    now = datetime.now(UTC)
    rows = run_with_store(
        lambda store: store.read(queries.silences.silences, active_at=None if all_ else now)
    )
    if as_json:
        print_json_lines(map(SilenceOut.model_validate, rows))
    elif rows:
        print_table(("id", "patterns", "ends", "by", "why", "silenced"), (_cells(row, now) for row in rows))
    else:
        print("There are no silences.")


def _cells(row: Silence, now: datetime) -> tuple[str, ...]:
    ends = f"in {duration(row.ends_at - now)}" if row.ends_at > now else "ended"
    return str(row.id), _patterns_text(row), ends, row.author, row.comment, str(row.silenced)


@silences.command()
def end(number: Annotated[int, typer.Argument(min=1, max=MAX_NUMBER, help="The silence's number.")]) -> None:
    """End a silence now. Incidents that it muted and that are still open alert once."""
    ended = run_with_store(lambda store: store.write(queries.silences.end, number, datetime.now(UTC)))
    if not ended:
        raise ListenerError(f"there is no silence {number} that has not ended: python -m app silences")
    print(f"silence {number} has ended")


def _patterns_text(silence: Silence) -> str:
    names = ("rule", "blueprint", "entity", "team")
    patterns = {name: getattr(silence, name) for name in names}
    return ", ".join(f"{name} {pattern}" for name, pattern in patterns.items() if pattern != ANY)
