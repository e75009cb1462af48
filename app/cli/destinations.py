"""The commands about destinations."""

import asyncio
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from app.cli.base import OUT, AsJson, run
from app.errors import DeliveryFailed, ListenerError
from app.model.notification import Notification, one_line
from app.model.report import RUNS
from app.notifier.base import SEND_TIMEOUT, Item, Parcel, duration
from app.notifier.registry import SETTINGS_MODELS
from app.observe.logs import configure_logging
from app.receive.rulebook import make_rulebook, read_rules, secrets_of
from app.rules.file import Rules
from app.rules.targets import DEFAULT_DESTINATION
from app.runtime import default_webhook, open_runtime
from app.settings import Settings, environment, load_settings
from app.store.opening import open_store
from app.store.rows import QueueState

TEST = "A test message of the Port changelog listener: alerts for destination {name} arrive here."

destinations = typer.Typer(help="Where alerts go, and how it is there.", invoke_without_command=True)

Name = Annotated[str, typer.Argument(help="The destination's name.")]


@destinations.callback()
def list_destinations(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List destinations: what waits for them, and which are on hold and why."""
    if ctx.invoked_subcommand:
        return
    settings, now = load_settings(), datetime.now(UTC)
    rules = read_rules(settings.rules_file, environment(), SETTINGS_MODELS)
    kinds, channels = _kinds(settings, rules), _channels(settings, rules)

    async def work() -> list[QueueState]:
        async with open_store(*settings.database, must_exist=True) as store:
            return await store.queues(now)

    queues = run(work())
    rows = [
        _row(name, kinds.get(name), _queues_of(name, channels, queues), now)
        for name in [*kinds, *sorted({queue.destination for queue in queues} - kinds.keys())]
    ]
    if as_json:
        for row in rows:
            print(json.dumps(row, ensure_ascii=True))
        return
    table = Table("name", "type", "state", "waiting", "oldest", "last delivered", box=None)
    for row in rows:
        cells = ("name", "type", "state", "waiting", "oldest", "last_delivered")
        table.add_row(*(Text(one_line(str(row[cell]))) for cell in cells))
    OUT.print(table)


def _kinds(settings: Settings, rules: Rules) -> dict[str, str]:
    default = "slack" if settings.slack_webhook_url else "console"
    named = rules.file.destinations
    return {DEFAULT_DESTINATION: default} | {name: one.type for name, one in named.items()}


def _channels(settings: Settings, rules: Rules) -> dict[str, str]:
    """Return the name of each destination's queues: destinations that are one channel have the same."""
    queues = make_rulebook(rules.file, default_webhook(settings)).queues
    return {name: one.name for name, one in queues.items()}


def _queues_of(name: str, channels: Mapping[str, str], queues: Iterable[QueueState]) -> list[QueueState]:
    channel = channels.get(name, name)
    shared = (channel, f"{channel}/updates")
    return [one for one in queues if one.destination == name or one.name in shared]


def _row(name: str, kind: str | None, queues: list[QueueState], now: datetime) -> dict[str, Any]:
    on_hold = next((queue.on_hold for queue in queues if queue.on_hold), None)
    failing = any(queue.failures for queue in queues)
    oldest = min((queue.oldest_at for queue in queues if queue.oldest_at), default=None)
    last = max((queue.delivered_at for queue in queues if queue.delivered_at), default=None)
    state = f"on hold: {on_hold}" if on_hold else "failing, tried again" if failing else "ok"
    return {
        "name": name,
        "type": kind or ("runs in Port" if name == RUNS else "(not in the rules any more)"),
        "state": state,
        "waiting": sum(queue.waiting for queue in queues),
        "oldest": duration(now - oldest) if oldest else "",
        "last_delivered": f"{duration(now - last)} ago" if last else "never",
    }


@destinations.command("test")
def send_test(
    name: Name,
    start: Annotated[
        bool, typer.Option("--run", help="Of a job: really start it, with an empty event.")
    ] = False,
) -> None:
    """Send a marked test message to a destination, past the queue, and print what it answers."""
    settings = load_settings()
    rules = read_rules(settings.rules_file, environment(), SETTINGS_MODELS)
    configure_logging("ERROR", "text", settings.hidden + secrets_of(rules))
    destination = rules.file.destinations.get(name)
    if destination is not None and destination.routing().steps is not None and not start:
        raise ListenerError(f"{name} starts a job; --run does so, with an empty event")

    async def work() -> str:
        async with open_runtime(settings, dispatch=False) as runtime:
            notifier = runtime.sender.notifiers.get(name)
            if notifier is None:
                raise _unknown(name, runtime.sender.notifiers)
            now = datetime.now(UTC)
            said = Notification.notice(TEST.format(name=name), now)
            item = Item(f"test-{int(now.timestamp())}", said)
            try:
                async with asyncio.timeout(SEND_TIMEOUT.total_seconds()):
                    return (await notifier.send(Parcel((item,)))).detail
            except DeliveryFailed as failed:
                raise ListenerError(f"{name} did not take it: {failed.reason}") from None
            except TimeoutError:
                raise ListenerError(f"{name} did not answer in time") from None

    print(f"{name} answered: {run(work())}")


@destinations.command()
def release(name: Name) -> None:
    """Let a destination that is on hold send again at once; what waits goes out as digests."""

    settings = load_settings()
    channels = _channels(settings, read_rules(settings.rules_file, environment(), SETTINGS_MODELS))

    async def work() -> int:
        async with open_store(*settings.database, must_exist=True) as store:
            now = datetime.now(UTC)
            queues = _queues_of(name, channels, await store.queues(now))
            if name not in channels and not queues:
                raise _unknown(name, channels)
            return sum(
                [await store.release_hold(one, now) for one in {queue.destination for queue in queues}]
            )

    if not run(work()):
        raise ListenerError(f"{one_line(name, 60)} is not on hold: python -m app destinations")
    print(f"{name} is released")


def _unknown(name: str, known: Iterable[str]) -> ListenerError:
    return ListenerError(
        f"there is no destination {one_line(name, 60)!r}; there are {', '.join(sorted(known))}"
    )
