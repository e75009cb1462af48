"""The commands: ``python -m app …``."""

import asyncio
import json
import sys
from collections.abc import Coroutine
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, NoReturn

import httpx
import typer
import uvicorn
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.alerts.notification import text_of
from app.demo import Shape, change_body, run_demo, signed_headers
from app.errors import ListenerError, UnreadableChange
from app.logs import configure_logging
from app.main import create_app, load_app
from app.notifier.base import duration, one_line
from app.port.signature import Signed
from app.runtime import open_runtime, open_store
from app.settings import load_settings
from app.store.base import Delivery, State

GRACEFUL_SECONDS = 4  # for open requests; the deliveries in flight have their own time after it
SEND_SECONDS = 10.0

app = typer.Typer(
    name="python -m app",
    help="Hears of every change in Port's software catalog and makes sure the right Slack channel does too.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
deliveries_app = typer.Typer(help="What is pending, held, dead or delivered.", invoke_without_command=True)
quarantine_app = typer.Typer(help="Signed bodies that could not be read.", invoke_without_command=True)
app.add_typer(deliveries_app, name="deliveries")
app.add_typer(quarantine_app, name="quarantine")

out = Console()

Limit = Annotated[int, typer.Option(min=1, help="How many at the most.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line; an error is a sentence and an exit status of 1, never a traceback.

    Args:
        arguments: What stands behind ``python -m app``; the process's own unless given.

    Raises:
        SystemExit: Always, with the exit status.
    """
    try:
        app(arguments)
    except ListenerError as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from None
    raise SystemExit(0)


def _run(work: Coroutine[Any, Any, Any]) -> Any:
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        raise SystemExit(130) from None


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8080,
) -> None:
    """Listen for changes, and deliver alerts."""
    uvicorn.run(
        load_app(),
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
    )


@app.command()
def demo(
    changes: Annotated[int, typer.Option(min=1, help="How many changes to send.")] = 5,
    exit_: Annotated[bool, typer.Option("--exit", help="End when the alerts have arrived.")] = False,
) -> None:
    """Show the main job, without any account: a stand-in Port, the real listener, a stand-in Slack."""
    configure_logging("WARNING", "text")
    complete = _run(run_demo(create_app, count=changes, stay=not exit_, console=out))
    raise typer.Exit(0 if complete else 1)


@app.command()
def send(
    url: Annotated[
        str, typer.Option(help="The listener's webhook address.")
    ] = "http://127.0.0.1:8080/api/slack",
    entity: Annotated[str, typer.Option(help="The entity's identifier.")] = "notification-service-prod",
    from_: Annotated[str, typer.Option("--from", help="healthStatus before.")] = "Healthy",
    to: Annotated[str, typer.Option(help="healthStatus after.")] = "Degraded",
    shape: Annotated[Shape, typer.Option(help="Which of Port's bodies to send.")] = Shape.AUTOMATION,
) -> None:
    """Sign one change as Port would, and post it to a running listener."""
    settings = load_settings()
    now = datetime.now(UTC)
    body = change_body(before=from_, after=to, at=now, entity=entity, title=None, shape=shape)
    headers = signed_headers(body, settings.secrets[0] if settings.secrets else "unsigned", now)
    print(f"{entity}: {from_} → {to}, as {shape}, {len(body)} bytes, to {url} …")
    try:
        answer = httpx.post(url, content=body, headers=headers, timeout=SEND_SECONDS)
    except httpx.TimeoutException:
        raise ListenerError(f"no answer from {url} within {SEND_SECONDS:.0f} s") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ListenerError(
            f"cannot reach {url}: {error}. Is the listener running? (python -m app serve)"
        ) from None
    if answer.status_code != httpx.codes.ACCEPTED:
        raise ListenerError(_explain(answer))
    receipt = answer.json()
    print(f"accepted: {receipt['alerts']} alerts, change {receipt['change']}")


def _explain(answer: httpx.Response) -> str:
    meaning = {
        401: "the listener has another PORT_CLIENT_SECRET than this command, or the clocks differ",
        404: "there is no listener at this address; its path is /api/slack",
        413: "the body is larger than the listener's MAX_BODY_BYTES",
        422: "the listener cannot read it as a change",
        503: "the listener cannot store it now; its log says why",
    }.get(answer.status_code, "that is not an answer of the listener's")
    return f"refused with {answer.status_code}: {meaning}. Its answer: {one_line(answer.text)[:300]}"


@deliveries_app.callback()
def deliveries(
    ctx: typer.Context,
    state: Annotated[State | None, typer.Option(help="Only these.")] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List deliveries, newest first."""
    if ctx.invoked_subcommand:
        return

    async def work() -> tuple[list[Delivery], dict[State, int]]:
        async with open_store(load_settings()) as store:
            return await store.deliveries(state=state, limit=limit), await store.count()

    rows, counts = _run(work())
    if as_json:
        for row in rows:
            fields = asdict(row) | {"notification": row.notification.model_dump(mode="json")}
            print(json.dumps(fields, default=str, ensure_ascii=False))
        return
    table = Table("id", "state", "entity", "change", "to", "tries", "age", "last answer", box=None)
    now = datetime.now(UTC)
    for row in rows:
        said = row.notification
        cells = (
            str(row.id),
            row.state,
            one_line(said.entity),
            one_line(f"{text_of(said.change.before)} → {text_of(said.change.after)}"),
            row.destination,
            str(row.attempts),
            duration(now - row.created_at),
            row.detail,
        )
        table.add_row(*map(Text, cells))
    if rows:
        out.print(table)
    out.print(", ".join(f"{number} {name}" for name, number in counts.items()), highlight=False)


@deliveries_app.command()
def retry(
    ids: Annotated[list[int] | None, typer.Argument(help="The deliveries' numbers.")] = None,
    dead: Annotated[bool, typer.Option("--dead", help="All that are dead.")] = False,
) -> None:
    """Try deliveries again at once: dead ones, or waiting ones by number."""
    if bool(ids) == dead:
        raise typer.BadParameter("give either numbers, or --dead")

    async def work() -> int:
        async with open_store(load_settings()) as store:
            return await store.retry(now=datetime.now(UTC), ids=ids or None)

    number = _run(work())
    print(f"{number} will be tried again now")
    if ids and number < len(set(ids)):
        raise ListenerError(f"{len(set(ids)) - number} of them do not exist or were delivered already")


@quarantine_app.callback()
def quarantine(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List what is in quarantine, oldest first."""
    if ctx.invoked_subcommand:
        return

    async def work() -> Any:
        async with open_store(load_settings()) as store:
            return await store.quarantined()

    rows = _run(work())
    if as_json:
        for row in rows:
            fields = asdict(row) | {"body": row.body.decode("utf-8", "replace")}
            print(json.dumps(fields, default=str, ensure_ascii=False))
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
    out.print(table if rows else "Nothing is in quarantine.")


@quarantine_app.command()
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
                    accepted = await runtime.listener.accept(Signed(row.body, row.signed_at))
                except UnreadableChange as error:
                    failed += 1
                    print(f"{row.id}: still not readable: {one_line(str(error))}")
                else:
                    await runtime.store.leave_quarantine([row.id])
                    print(f"{row.id}: accepted, {accepted.alerts} alerts")
            missing = sorted(set(ids or ()) - {row.id for row in rows})
        if missing:
            raise ListenerError(f"not in quarantine: {', '.join(map(str, missing))}")
        return failed

    if _run(work()):
        raise typer.Exit(1)
