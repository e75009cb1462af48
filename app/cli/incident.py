"""The commands about incidents."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from app.cli.base import AsJson, print_json_lines, run_with_store, say, user_name
from app.errors import ListenerError
from app.model.incident import Incident
from app.model.notification import one_line
from app.notifier.base import duration
from app.store import queries
from app.store.store import Store
from app.store.views import AuditEntry
from app.web.api_models import IncidentOut

MOST_SHOWN = 1_000

incident = typer.Typer(help="Incidents: list the open ones, close one by hand.", no_args_is_help=True)


@incident.command("list")
def list_incidents(as_json: AsJson = False) -> None:
    """List open incidents, the worst first."""
    rows = run_with_store(lambda store: store.read(queries.incidents.worst, MOST_SHOWN))
    now = datetime.now(UTC)
    if as_json:
        print_json_lines(IncidentOut.of(row).model_dump(mode="json") for row in rows)
    else:  # no table: an id that is cut cannot be copied
        for row in rows:
            found = row.incident
            about = f"{found.blueprint} {found.entity}: {found.state}, for {duration(now - found.opened_at)}"
            print(one_line(f"{found.id}  {found.severity}  {about}"))
        print(f"{len(rows):,} open")


@incident.command()
def close(
    name: Annotated[str, typer.Argument(metavar="ID", help="The incident's id.")],
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
        raise ListenerError(f"there is no open incident {name!r}: python -m app incident list")
    say(f"incident {name} is closed")
