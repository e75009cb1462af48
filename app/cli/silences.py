"""The commands about silences."""

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated

import typer

from app.cli.base import (
    MAX_NUMBER,
    AsJson,
    Noun,
    act_here,
    print_json_lines,
    print_record,
    print_table,
    run_with_store,
    say,
    span,
    start_time,
    user_name,
)
from app.cli.remote import Remote, Token, Url, remote
from app.errors import ListenerError
from app.model.silence import ANY, Silence, SilencePreview
from app.notifier.base import duration
from app.rules.hints import why_idle
from app.runtime.configured import configured_rules
from app.settings import load_settings
from app.store import queries
from app.web.actions import MAX_COMMENT_CHARACTERS, MAX_PATTERN_CHARACTERS
from app.web.api.models import ActionOut
from app.web.api.silence_actions import add_silence, covered_text, end_silence, revise_silence
from app.web.api.silence_models import SilenceOut, SilencePreviewOut

silences = typer.Typer(cls=Noun, help="Silences: mute alerts for a while.")

WHEN_IT_BEGINS = "When it begins: 30m (from now), 22:00 (in this machine's zone), 2026-06-09T22:00."
Number = Annotated[int, typer.Argument(min=1, max=MAX_NUMBER, help="The silence's number.")]


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
    start: Annotated[
        str | None,
        typer.Option(help=WHEN_IT_BEGINS + " Not given: now."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would cover.")] = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Mute alerts. When the silence ends, incidents that are still open alert once."""
    patterns = (rule, blueprint, entity, team)
    if all(pattern == ANY for pattern in patterns):  # by a slip everything would be silent
        raise typer.BadParameter(
            "say what: --rule, --blueprint, --entity or --team; for everything, --rule '?*'"
        )
    author = author or user_name()
    comment = comment.strip()
    if not all((*patterns, author, comment)) or max(len(comment), len(author)) > MAX_COMMENT_CHARACTERS:
        raise typer.BadParameter(
            "patterns and --comment must not be empty, and comment and author have at most"
            f" {MAX_COMMENT_CHARACTERS} characters"
        )
    if max(map(len, patterns)) > MAX_PATTERN_CHARACTERS:
        raise typer.BadParameter(f"a pattern has at most {MAX_PATTERN_CHARACTERS} characters")
    now = datetime.now(UTC)
    starts_at = start_time("--start", start, now) if start else now
    ends_at = starts_at + span("--for", for_)
    new = Silence(*patterns, starts_at, ends_at, author, comment)
    listener = remote(url, token)
    covered = _preview(listener, new, now)
    say(f"It covers {covered_text(covered.incidents, covered.alerts)}.")
    if not dry_run:
        say(_add(listener, new, begins_now=not start).done)
    if listener is None:
        with suppress(ListenerError):  # it holds without the rules file, too
            if reason := why_idle(new, configured_rules(load_settings()).file.rules):
                say(f"hint: it matches nothing: {reason}")


def _preview(listener: Remote | None, new: Silence, now: datetime) -> SilencePreview | SilencePreviewOut:
    if listener is None:
        return run_with_store(lambda store: store.read(queries.silences.preview, new, now))
    return listener.ask("/silences/preview", SilencePreviewOut, **_patterns(new))


def _add(listener: Remote | None, new: Silence, *, begins_now: bool) -> ActionOut:
    if listener is None:
        patterns = (new.rule, new.blueprint, new.entity, new.team)
        starts_at = None if begins_now else new.starts_at
        return act_here(
            lambda here: add_silence(here, new.author, patterns, new.ends_at, new.comment, starts_at)
        )
    times = {"starts_at": new.starts_at.isoformat(), "ends_at": new.ends_at.isoformat()}
    body = {**_patterns(new), **times, "comment": new.comment}
    return replace(listener, who=new.author).act("POST", "/silences", body)


@silences.command("list")
def list_silences(
    all_: Annotated[bool, typer.Option("--all", help="Also those that have ended.")] = False,
    url: Url = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """List silences, newest first."""
    now = datetime.now(UTC)
    rows = _read(remote(url, token), ended=all_, now=now)
    if as_json:
        print_json_lines(rows)
    elif rows:
        print_table(("id", "patterns", "ends", "by", "why", "silenced"), (_cells(row, now) for row in rows))
    else:
        print("There are no silences.")


def _read(listener: Remote | None, *, ended: bool, now: datetime) -> list[SilenceOut]:
    if listener is not None:
        return listener.ask_list("/silences", SilenceOut, ended=ended)
    at = None if ended else now
    rows = run_with_store(lambda store: store.read(queries.silences.silences, active_at=at))
    return [SilenceOut.model_validate(row) for row in rows]


def _cells(row: SilenceOut, now: datetime) -> tuple[str, ...]:
    ends = f"in {duration(row.ends_at - now)}" if row.ends_at > now else "ended"
    begins = f"begins in {duration(row.starts_at - now)}, " if row.starts_at > now else ""
    return str(row.id), _patterns_text(row), begins + ends, row.author, row.comment, str(row.silenced)


@silences.command()
def show(number: Number, url: Url = None, token: Token = None, as_json: AsJson = False) -> None:
    """Show one silence."""
    rows = _read(remote(url, token), ended=True, now=datetime.now(UTC))
    row = next((row for row in rows if row.id == number), None)
    if row is None:
        raise ListenerError(f"there is no silence {number}: python -m app silences --all")
    print_json_lines([row]) if as_json else print_record(row)


@silences.command()
def edit(
    number: Number,
    for_: Annotated[str | None, typer.Option("--for", help="It ends so long from now: 2h.")] = None,
    extend: Annotated[str | None, typer.Option(help="It ends so much later than it would: 1h.")] = None,
    start: Annotated[str | None, typer.Option(help=WHEN_IT_BEGINS)] = None,
    comment: Annotated[str | None, typer.Option(help="Why.")] = None,
    url: Url = None,
    token: Token = None,
) -> None:
    """Change when a silence begins or ends, or why it is there."""
    comment = comment and comment.strip()
    if not (for_ or extend or start or comment) or (for_ and extend):
        raise typer.BadParameter("say what: --for or --extend, --start, --comment")
    listener, now = remote(url, token), datetime.now(UTC)
    row = next((row for row in _read(listener, ended=False, now=now) if row.id == number), None)
    if row is None:
        raise ListenerError(f"there is no silence {number} that has not ended: python -m app silences")
    ends_at = (
        now + span("--for", for_) if for_ else row.ends_at + span("--extend", extend) if extend else None
    )
    starts_at = start_time("--start", start, now) if start else None
    times = {"starts_at": starts_at, "ends_at": ends_at}
    if listener is None:
        done = act_here(
            lambda here: revise_silence(here, user_name(), number, comment=comment, **times), "silences"
        )
        say(done.done)
        return
    body = {name: at.isoformat() for name, at in times.items() if at} | (
        {"comment": comment} if comment else {}
    )
    say(listener.act("PATCH", f"/silences/{number}", body).done)


@silences.command()
def end(number: Number, url: Url = None, token: Token = None) -> None:
    """End a silence now. Incidents that it muted and that are still open alert once."""
    if listener := remote(url, token):
        say(listener.act("DELETE", f"/silences/{number}").done)
        return
    say(act_here(lambda here: end_silence(here, user_name(), number), "silences").done)


def _patterns(silence: Silence | SilenceOut) -> dict[str, str]:
    return {name: getattr(silence, name) for name in ("rule", "blueprint", "entity", "team")}


def _patterns_text(silence: Silence | SilenceOut) -> str:
    return ", ".join(f"{name} {pattern}" for name, pattern in _patterns(silence).items() if pattern != ANY)
