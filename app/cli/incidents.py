"""The commands about incidents."""

import secrets
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Any
from urllib.parse import quote

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
    say,
    span,
    user_name,
)
from app.cli.remote import Remote, Token, Url, remote
from app.errors import ListenerError, SettingsError
from app.model.delivery import State
from app.model.incident import Person, Severity, place_of
from app.model.notification import one_line
from app.notifier.base import duration
from app.observe.logs import configure_logging
from app.runtime.configured import open_links
from app.settings import load_settings
from app.store import queries
from app.store.actions import Action, ActionResult, Verb, act
from app.store.store import Store
from app.store.views import IncidentFilter, IncidentRow
from app.web.api.incident_models import AlertOut, IncidentOut, read_alerts

MOST_NAMED = 20
OF_MESSAGES = ("slack_bot_token", "slack_api_url")
"""The settings by which messages' addresses are found."""

incidents = typer.Typer(cls=Noun, help="Incidents: list and show them; acknowledge, silence or close one.")

Id = Annotated[str, typer.Argument(metavar="ID", help="The incident's id, or its entity.")]
Why = Annotated[str, typer.Option("--comment", help="Why.")]


@incidents.command("list")
def list_incidents(
    all_: Annotated[bool, typer.Option("--all", help="Also those that are over, newest first.")] = False,
    unacknowledged: Annotated[
        bool, typer.Option("--unacknowledged", help="Only those that nobody looks after.")
    ] = False,
    severity: Annotated[Severity | None, typer.Option(help="Only of this severity.")] = None,
    entity: Annotated[str | None, typer.Option(help="Only of this entity.")] = None,
    blueprint: Annotated[str | None, typer.Option(help="Only of this blueprint.")] = None,
    team: Annotated[str | None, typer.Option(help="Only of entities of this team.")] = None,
    rule: Annotated[str | None, typer.Option(help="Only of this rule.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=MAX_NUMBER, help="How many at most.")] = 1_000,
    url: Url = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """List open incidents, the worst first."""
    which: dict[str, Any] = {"severity": severity, "entity": entity, "blueprint": blueprint, "team": team}
    which |= {"rule": rule, "acknowledged": False if unacknowledged else None}
    if listener := remote(url, token):
        which |= {} if all_ else {"state": "open", "order": "worst"}
        rows = listener.ask_pages("/incidents", IncidentOut, limit, **which)
    else:
        rows = run_with_store(lambda store: _read(store, IncidentFilter(**which), limit, all_=all_))
    if as_json:
        print_json_lines(rows)
        return
    now = datetime.now(UTC)
    if rows:
        columns = (
            "id",
            "severity",
            "blueprint",
            "entity",
            "state",
            "for",
            "open",
            "alerts",
            "acknowledged",
            "rule",
            "quiet because of",
        )
        lines = [(*_cells(row, now), row.cause) for row in rows]
        shown = len(columns) - (not any(row.cause for row in rows))
        print_table(columns[:shown], (line[:shown] for line in lines))
    more = "; a higher --limit may show more" if len(rows) == limit else ""
    print(f"{sum(row.resolved_at is None for row in rows):,} open{more}")


async def _read(store: Store, which: IncidentFilter, limit: int, *, all_: bool) -> list[IncidentOut]:
    page = partial(queries.incidents.page, is_open=None if all_ else True, which=which, worst_first=not all_)
    rows = await read_pages(lambda before, size: store.read(page, before=before, limit=size), limit)
    return await _out(store, rows)


async def _out(store: Store, rows: Sequence[IncidentRow]) -> list[IncidentOut]:
    configure_logging("ERROR", "text")  # that Slack does not say where a message is, is no line of a list
    settings = None
    with suppress(SettingsError):  # then there are no links; the incidents need no token
        settings = load_settings(only=OF_MESSAGES)
    async with open_links(settings, store.clock) as find_links:
        ids = [row.incident.id for row in rows]
        alerts = await read_alerts(store, ids, store.clock(), find_links)
    return [IncidentOut.of(row, alerts) for row in rows]


def _how(alert: AlertOut) -> str:
    quiet = alert.state is State.PENDING and alert.next_at is None
    return "quiet" if quiet else alert.state.replace("_", " ")


def _cells(row: IncidentOut, now: datetime) -> tuple[str, ...]:
    over = row.resolved_at
    since = f"over, {duration(now - over)} ago" if over else duration(now - row.changed_at)
    at = row.acknowledged_at
    acknowledged = f"{row.acknowledged_by}, {duration(now - at)} ago" if at else ""
    alerts = ", ".join(f"{place_of(alert.destination, alert.queue)} {_how(alert)}" for alert in row.alerts)
    return (
        row.id,
        row.severity,
        row.blueprint,
        row.entity,
        row.state,
        since,
        duration((over or now) - row.opened_at),
        alerts or "none",
        acknowledged,
        row.rule,
    )


def _named(name: str, listener: Remote | None) -> str:
    """Find an open incident's id by its entity; what is no entity, or one of several, is an id itself.

    Raises:
        ListenerError: The entity has several open incidents; the text has their ids.
    """
    if listener:
        rows = listener.ask_pages("/incidents", IncidentOut, MOST_NAMED, state="open", entity=name)
        ids = [row.id for row in rows]
    else:
        which = IncidentFilter(entity=name)
        found = run_with_store(lambda store: store.read(queries.incidents.worst, MOST_NAMED, which))
        ids = [row.incident.id for row in found]
    if len(ids) > 1:
        raise ListenerError(f"{one_line(name, 60)} has several open incidents: {', '.join(ids)}")
    return ids[0] if ids else name


@incidents.command()
def show(name: Id, url: Url = None, token: Token = None, as_json: AsJson = False) -> None:
    """Show one incident."""
    listener = remote(url, token)
    name = _named(name, listener)
    if listener:
        incident = listener.ask(f"/incidents/{quote(name)}", IncidentOut)
    else:

        async def work(store: Store) -> list[IncidentOut]:
            row = await store.read(queries.incidents.incident, name)
            return await _out(store, [row] if row else [])

        if not (rows := run_with_store(work)):
            raise ListenerError(f"there is no incident {one_line(name, 60)!r}: python -m app incidents")
        incident = rows[0]
    print_json_lines([incident]) if as_json else print_record(incident)


@incidents.command()
def ack(name: Id, comment: Why = "", url: Url = None, token: Token = None) -> None:
    """Acknowledge an incident: reminders and escalations stop until it gets worse."""
    _act("acknowledge", name, comment, remote(url, token))


@incidents.command()
def unack(name: Id, comment: Why = "", url: Url = None, token: Token = None) -> None:
    """Take an acknowledgement back: reminders and escalations count from now."""
    _act("unacknowledge", name, comment, remote(url, token))


@incidents.command()
def silence(
    name: Id,
    for_: Annotated[
        str | None, typer.Option("--for", help="For how long: 30m, 2h, 1d. Not given: until it is over.")
    ] = None,
    comment: Why = "",
    url: Url = None,
    token: Token = None,
) -> None:
    """Mute the alerts of an incident, but not its end."""
    lasts = None if for_ is None else span("--for", for_)
    _act("silence", name, comment, remote(url, token), lasts)


@incidents.command()
def close(name: Id, comment: Why = "", url: Url = None, token: Token = None) -> None:
    """Close an incident that no change will end. Each channel that was told of it is told so."""
    _act("close", name, comment, remote(url, token))


def _act(
    verb: Verb, name: str, comment: str, listener: Remote | None, lasts: timedelta | None = None
) -> None:
    name = _named(name, listener)
    if listener is not None:
        body: dict[str, Any] = {"comment": comment}
        body |= {"seconds": int(lasts.total_seconds())} if lasts else {}
        say(listener.act("POST", f"/incidents/{quote(name)}/{verb}", body).done)
        return

    async def work(store: Store) -> ActionResult:
        now = store.clock()
        person = Person(user_name(), "command")
        until = None if lasts is None else now + lasts
        return await store.write(act, Action(secrets.token_hex(16), verb, name, person, comment, until), now)

    result = run_with_store(work)
    if result.came != "done":
        raise ListenerError(f"{result.text.rstrip('.')}: python -m app incidents")
    say(result.text)
