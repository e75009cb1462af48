"""The commands about incidents."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from app.cli.base import (
    AsJson,
    Noun,
    print_json_lines,
    print_record,
    print_table,
    read_pages,
    run_with_store,
    say,
    user_name,
)
from app.errors import ListenerError
from app.model.incident import Incident
from app.model.notification import one_line
from app.notifier.base import duration
from app.store import queries
from app.store.store import Store
from app.store.views import AuditEntry, IncidentRow
from app.web.api.models import IncidentOut

MOST_SHOWN = 1_000

incidents = typer.Typer(cls=Noun, help="Incidents: list and show them, close one by hand.")

Id = Annotated[str, typer.Argument(metavar="ID", help="The incident's id.")]


@incidents.command("list")
def list_incidents(
    all_: Annotated[bool, typer.Option("--all", help="Also those that are over, newest first.")] = False,
    as_json: AsJson = False,
) -> None:
    """List open incidents, the worst first."""

    async def work(store: Store) -> list[IncidentRow]:
        if all_:
            return await read_pages(
                lambda before, size: store.read(queries.incidents.page, before=before, limit=size), MOST_SHOWN
            )
        return await store.read(queries.incidents.worst, MOST_SHOWN)

    rows = run_with_store(work)
    if as_json:
        print_json_lines(map(IncidentOut.of, rows))
        return
    now = datetime.now(UTC)
    if rows:
        columns = ("id", "severity", "blueprint", "entity", "state", "for", "rule", "quiet because of")
        lines = [(*_cells(row.incident, now), row.cause) for row in rows]
        some = any(row.cause for row in rows)
        print_table(columns[: 8 if some else 7], (line[: 8 if some else 7] for line in lines))
    print(f"{sum(row.incident.resolved_at is None for row in rows):,} open")


def _cells(row: Incident, now: datetime) -> tuple[str, ...]:
    since = (
        f"over, {duration(now - row.resolved_at)} ago" if row.resolved_at else duration(now - row.opened_at)
    )
    return row.id, row.severity, row.blueprint, row.entity, row.state, since, row.rule


@incidents.command()
def show(name: Id, as_json: AsJson = False) -> None:
    """Show one incident."""
    row = run_with_store(lambda store: store.read(queries.incidents.incident, name))
    if row is None:
        raise ListenerError(f"there is no incident {one_line(name, 60)!r}: python -m app incidents")
    print_json_lines([IncidentOut.of(row)]) if as_json else print_record(IncidentOut.of(row))


@incidents.command()
def close(
    name: Id,
    comment: Annotated[str, typer.Option(help="Why.")] = "",
) -> None:
    """Close an incident that no change will end. Each channel that was told of it is told so."""
    why = f"by {user_name()}: {one_line(comment)}" if comment.strip() else f"by {user_name()}"

    async def work(store: Store) -> list[Incident]:
        now = datetime.now(UTC)
        closed = await store.write(queries.incidents.close, [name], why, now)
        for row in closed:
            about = one_line(f"{row.blueprint} {row.entity}, rule {row.rule}")
            details = f"The incident of {about} is closed {why}."
            await store.write(queries.audit.write, AuditEntry(now, user_name(), "close incident", details))
        return closed

    if not run_with_store(work):
        raise ListenerError(f"there is no open incident {name!r}: python -m app incidents")
    say(f"incident {name} is closed")
