"""The commands that look at the store, and mend what is in it."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from app.cli.base import OUT, AsJson, run, span
from app.errors import ListenerError, UnreadableChange
from app.model.delivery import State
from app.model.notification import Notification, one_line, text_of
from app.notifier.base import duration
from app.observe.logs import configure_logging
from app.receive.signature import Signed
from app.runtime import open_runtime
from app.settings import load_settings
from app.store.opening import open_store
from app.store.rows import Delivery, Quarantined

deliveries = typer.Typer(help="What is pending, on hold, dead or delivered.", invoke_without_command=True)
quarantine = typer.Typer(help="Signed bodies that could not be read.", invoke_without_command=True)


def what(said: Notification) -> str:
    """Return in a few words what an alert is about."""
    if said.change is None:
        return said.action.lower().replace("_", " ")
    return f"{text_of(said.change.before)} → {text_of(said.change.after)}"


@deliveries.callback()
def list_deliveries(
    ctx: typer.Context,
    state: Annotated[State | None, typer.Option(help="Only these.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=2**63 - 1, help="How many at the most.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List deliveries, newest first."""
    if ctx.invoked_subcommand:
        return

    async def work() -> tuple[list[Delivery], dict[State, int]]:
        async with open_store(*load_settings().database, must_exist=True) as store:
            return await store.deliveries(state=state, limit=limit), await store.count()

    rows, counts = run(work())
    if as_json:
        for row in rows:
            fields = asdict(row) | {"notification": row.notification.model_dump(mode="json")}
            print(json.dumps(fields, default=str, ensure_ascii=True))
        return
    table = Table("id", "state", "entity", "change", "to", "tries", "age", "last answer", box=None)
    now = datetime.now(UTC)
    for row in rows:
        said = row.notification
        cells = (
            str(row.id),
            row.state,
            one_line(said.entity),
            one_line(what(said)),
            row.destination,
            str(row.attempts),
            duration(now - row.created_at),
            row.detail,
        )
        table.add_row(*map(Text, cells))
    if rows:
        OUT.print(table)
    OUT.print(", ".join(f"{number} {name}" for name, number in counts.items()), highlight=False)


@deliveries.command()
def retry(
    ids: Annotated[
        list[int] | None, typer.Argument(min=1, max=2**63 - 1, help="The deliveries' numbers.")
    ] = None,
    dead: Annotated[bool, typer.Option("--dead", help="All that are dead.")] = False,
    rule: Annotated[str | None, typer.Option(help="Those that are dead of this rule.")] = None,
    destination: Annotated[str | None, typer.Option(help="Those that are dead for this destination.")] = None,
    since: Annotated[str | None, typer.Option(help="Those that died within this time: 30m, 12h, 2d.")] = None,
) -> None:
    """Try deliveries again at once: dead ones, or waiting ones by number. Their history stays."""
    several = dead or rule is not None or destination is not None or since is not None
    if bool(ids) == several:
        raise typer.BadParameter("give either numbers, or --dead, --rule, --destination or --since")
    now = datetime.now(UTC)
    start = now - span("--since", since) if since else None

    async def work() -> int:
        async with open_store(*load_settings().database, must_exist=True) as store:
            return await store.retry(
                now=now, ids=ids or None, rule=rule, destination=destination, since=start
            )

    number = run(work())
    print(f"{number} will be tried again now")
    if ids and number < len(set(ids)):
        raise ListenerError(f"{len(set(ids)) - number} of them do not exist or were delivered already")


@quarantine.callback()
def list_quarantine(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List what is in quarantine, oldest first."""
    if ctx.invoked_subcommand:
        return

    async def work() -> list[Quarantined]:
        async with open_store(*load_settings().database, must_exist=True) as store:
            return await store.quarantined()

    rows = run(work())
    if as_json:
        for row in rows:
            fields = asdict(row) | {"body": row.body.decode("utf-8", "replace")}
            print(json.dumps(fields, default=str, ensure_ascii=True))
        return
    table = Table("id", "received", "bytes", "field", "reason", box=None)
    for row in rows:
        cells = (
            str(row.id),
            f"{row.received_at:%Y-%m-%d %H:%M:%S}",
            str(len(row.body)),
            row.path,
            row.reason,
        )
        table.add_row(*(Text(one_line(cell)) for cell in cells))
    OUT.print(table if rows else "Nothing is in quarantine.")


@quarantine.command()
def replay(
    ids: Annotated[list[int] | None, typer.Argument(help="Their numbers; all if none is given.")] = None,
) -> None:
    """Read bodies again, after an upgrade: what can be read now is accepted, and leaves quarantine."""
    settings = load_settings()
    configure_logging("WARNING", "text", settings.hidden)

    async def work() -> int:
        failed = 0
        async with open_runtime(settings, dispatch=False) as runtime:
            rows = [row for row in await runtime.store.quarantined() if not ids or row.id in ids]
            for row in rows:
                try:
                    accepted = await runtime.intake.accept(Signed(row.body, row.signed_at))
                except UnreadableChange as error:
                    failed += 1
                    print(f"{row.id}: still not readable: {one_line(str(error))}")
                except ListenerError:
                    raise
                except Exception as error:  # noqa: BLE001 - it must not keep the others back
                    failed += 1
                    print(f"{row.id}: still a fault in this program: {type(error).__name__}")
                else:
                    await runtime.store.leave_quarantine([row.id])
                    print(f"{row.id}: accepted, {accepted.alerts} alerts")
            missing = sorted(set(ids or ()) - {row.id for row in rows})
        if missing:
            raise ListenerError(f"not in quarantine: {', '.join(map(str, missing))}")
        return failed

    if run(work()):
        raise typer.Exit(1)
