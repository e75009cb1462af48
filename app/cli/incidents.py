"""The commands about incidents."""

import secrets
from datetime import UTC, datetime, timedelta
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
    span,
    user_name,
)
from app.errors import ListenerError
from app.model.incident import Incident, Person
from app.model.notification import one_line
from app.notifier.base import duration
from app.store import queries
from app.store.actions import Action, ActionResult, Verb, act
from app.store.store import Store
from app.store.views import IncidentFilter, IncidentRow
from app.web.api.models import IncidentOut

MOST_SHOWN = 1_000

incidents = typer.Typer(cls=Noun, help="Incidents: list and show them; acknowledge, silence or close one.")

Id = Annotated[str, typer.Argument(metavar="ID", help="The incident's id.")]
Why = Annotated[str, typer.Option("--comment", help="Why.")]


@incidents.command("list")
def list_incidents(
    all_: Annotated[bool, typer.Option("--all", help="Also those that are over, newest first.")] = False,
    unacknowledged: Annotated[
        bool, typer.Option("--unacknowledged", help="Only those that nobody looks after.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List open incidents, the worst first."""
    which = IncidentFilter(acknowledged=False if unacknowledged else None)

    async def work(store: Store) -> list[IncidentRow]:
        if all_:
            return await read_pages(
                lambda before, size: store.read(
                    queries.incidents.page, which=which, before=before, limit=size
                ),
                MOST_SHOWN,
            )
        return await store.read(queries.incidents.worst, MOST_SHOWN, which)

    rows = run_with_store(work)
    if as_json:
        print_json_lines(map(IncidentOut.of, rows))
        return
    now = datetime.now(UTC)
    if rows:
        columns = ("id", "severity", "blueprint", "entity", "state", "for", "acknowledged", "rule")
        print_table(columns, (_cells(row.incident, now) for row in rows))
    print(f"{sum(row.incident.resolved_at is None for row in rows):,} open")


def _cells(row: Incident, now: datetime) -> tuple[str, ...]:
    since = (
        f"over, {duration(now - row.resolved_at)} ago" if row.resolved_at else duration(now - row.opened_at)
    )
    by = row.acknowledged
    acknowledged = f"{by.by.name}, {duration(now - by.at)} ago" if by else ""
    return row.id, row.severity, row.blueprint, row.entity, row.state, since, acknowledged, row.rule


@incidents.command()
def show(name: Id, as_json: AsJson = False) -> None:
    """Show one incident."""
    row = run_with_store(lambda store: store.read(queries.incidents.incident, name))
    if row is None:
        raise ListenerError(f"there is no incident {one_line(name, 60)!r}: python -m app incidents")
    print_json_lines([IncidentOut.of(row)]) if as_json else print_record(IncidentOut.of(row))


@incidents.command()
def ack(name: Id, comment: Why = "") -> None:
    """Acknowledge an incident: reminders and escalations stop until it gets worse."""
    _act("acknowledge", name, comment)


@incidents.command()
def unack(name: Id, comment: Why = "") -> None:
    """Take an acknowledgement back: reminders and escalations count from now."""
    _act("unacknowledge", name, comment)


@incidents.command()
def silence(
    name: Id,
    for_: Annotated[
        str | None, typer.Option("--for", help="For how long: 30m, 2h, 1d. Not given: until it is over.")
    ] = None,
    comment: Why = "",
) -> None:
    """Mute the alerts of an incident, but not its end."""
    _act("silence", name, comment, None if for_ is None else span("--for", for_))


@incidents.command()
def close(name: Id, comment: Why = "") -> None:
    """Close an incident that no change will end. Each channel that was told of it is told so."""
    _act("close", name, comment)


def _act(verb: Verb, name: str, comment: str, lasts: timedelta | None = None) -> None:
    async def work(store: Store) -> ActionResult:
        now = store.clock()
        person = Person(user_name(), "command")
        until = None if lasts is None else now + lasts
        return await store.write(act, Action(secrets.token_hex(16), verb, name, person, comment, until), now)

    result = run_with_store(work)
    if result.came != "done":
        raise ListenerError(f"{result.text.rstrip('.')}: python -m app incidents")
    say(result.text)
