"""The commands about changes, which alerted or did not, and about what people did: the audit trail."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from app.cli.base import (
    MAX_NUMBER,
    AsJson,
    Noun,
    print_json_lines,
    print_record,
    print_table,
    read_pages,
    run_with_store,
    span,
)
from app.cli.remote import Token, Url, remote
from app.errors import ListenerError
from app.notifier.base import duration
from app.store import queries
from app.store.store import Store
from app.store.views import ChangeFilter
from app.web.api.models import AuditOut, ChangeOut
from app.web.view import view_change

changes = typer.Typer(cls=Noun, help="Changes: what came, and why it alerted or did not.")
audit = typer.Typer(cls=Noun, help="The audit trail: what people did.")

Limit = Annotated[int, typer.Option(min=1, max=MAX_NUMBER, help="How many at most.")]


@changes.command("list")
def list_changes(
    entity: Annotated[str | None, typer.Option(help="Only of this entity.")] = None,
    blueprint: Annotated[str | None, typer.Option(help="Only of this blueprint.")] = None,
    team: Annotated[str | None, typer.Option(help="Only of entities of this team.")] = None,
    rule: Annotated[str | None, typer.Option(help="Only those on which this rule alerted.")] = None,
    since: Annotated[str | None, typer.Option(help="Only those of the last 30m, 12h, 2d.")] = None,
    limit: Limit = 50,
    url: Url = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """List changes, newest first, each with the reason why it alerted or did not."""
    now = datetime.now(UTC)
    start = now - span("--since", since) if since else None
    wanted: dict[str, Any] = {"entity": entity, "blueprint": blueprint, "team": team, "rule": rule}
    if listener := remote(url, token):
        rows = listener.ask_pages("/changes", ChangeOut, limit, **wanted, since=start and start.isoformat())
    else:
        which = ChangeFilter(**wanted, since=start)
        found = run_with_store(
            lambda store: read_pages(
                lambda before, size: store.read(queries.changes.changes, which, before=before, limit=size),
                limit,
            )
        )
        rows = [view_change(row) for row in found]
    if as_json:
        print_json_lines(rows)
    elif rows:
        columns = ("id", "age", "blueprint", "entity", "what changed", "alerts", "reason")
        print_table(columns, (_cells(row, now) for row in rows))
    else:
        print("No change fits.")


def _cells(row: ChangeOut, now: datetime) -> tuple[str, ...]:
    values = ", ".join(f"{value.name} {value.before} → {value.after}" for value in row.values)
    what = values or row.action.lower().replace("_", " ")
    age = duration(now - row.received_at)
    return str(row.id), age, row.blueprint, row.entity, what, str(row.alerts), row.reason


@changes.command("show")
def show_change(
    number: Annotated[int, typer.Argument(min=1, max=MAX_NUMBER, help="The change's number.")],
    url: Url = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Show one change with all its values, and why it alerted or did not."""

    async def work(store: Store) -> ChangeOut | None:
        row = await store.read(queries.changes.change, number)
        return None if row is None else view_change(row, whole=True)

    listener = remote(url, token)
    found = listener.ask(f"/changes/{number}", ChangeOut) if listener else run_with_store(work)
    if found is None:
        raise ListenerError(f"there is no change {number}: python -m app changes")
    print_json_lines([found]) if as_json else print_record(found)


@audit.command("list")
def list_audit(limit: Limit = 50, url: Url = None, token: Token = None, as_json: AsJson = False) -> None:
    """List what people did on the page, in Slack, through the API and by commands, newest first."""
    if listener := remote(url, token):
        rows = listener.ask_pages("/audit", AuditOut, limit)
    else:
        found = run_with_store(
            lambda store: read_pages(
                lambda before, size: store.read(queries.audit.entries, before=before, limit=size), limit
            )
        )
        rows = [AuditOut.model_validate(row) for row in found]
    if as_json:
        print_json_lines(rows)
    elif rows:
        cells = ((f"{row.at:%Y-%m-%d %H:%M:%S}", row.who, row.what, row.details) for row in rows)
        print_table(("at (UTC)", "who", "what", "details"), cells)
    else:
        print("Nobody has done anything yet.")
