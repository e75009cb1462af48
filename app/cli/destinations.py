"""The commands about destinations."""

import asyncio
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote

import typer
from pydantic_core import to_json

from app.cli.base import (
    OF_STORE_AND_RULES,
    AsJson,
    Noun,
    OnThisMachine,
    acted,
    print_json_lines,
    print_table,
    run,
    run_with_store,
    say,
    user_name,
)
from app.cli.remote import Remote, Token, Url, remote
from app.errors import DeliveryFailed, ListenerError
from app.model.notification import Notification, one_line, text_of
from app.model.report import RUNS
from app.notifier.base import SEND_TIMEOUT, Item, Parcel, duration
from app.observe.logs import Hider, configure_logging
from app.receive.rules_source import make_rulebook, secrets_of
from app.rules.file import Rules
from app.rules.targets import DEFAULT_DESTINATION
from app.runtime.configured import configured_rules, default_webhook
from app.runtime.listener import open_runtime
from app.settings import Settings, load_settings
from app.store import queries
from app.store.queue_state import QueueState
from app.store.store import Store
from app.web.actions import record
from app.web.actions import release as release_queue
from app.web.api.models import ActionOut, QueueOut

TEST_TEXT = "A test message of the Port changelog listener: alerts for destination {name} arrive here."

destinations = typer.Typer(cls=Noun, help="Destinations, and the state of their queues.")

Name = Annotated[str, typer.Argument(help="The destination's name.")]


@destinations.command("list")
def list_destinations(url: Url = None, token: Token = None, as_json: AsJson = False) -> None:
    """List destinations: how many alerts wait for each, and which are on hold and why.

    Of a listener elsewhere those that were sent to, without their types.
    """
    if listener := remote(url, token):
        _print(_elsewhere(listener), as_json=as_json)
        return
    settings, now = load_settings(only=OF_STORE_AND_RULES), datetime.now(UTC)
    rules = configured_rules(settings)
    kinds, channels = _kinds(settings, rules), _channels(settings, rules)
    queues = run_with_store(lambda store: store.read(queries.page.queues, now))
    # A destination that left the rules may still have a queue in which alerts wait.
    rows = [
        _row(name, kinds.get(name), _queues_of(name, channels, queues), now)
        for name in [*kinds, *sorted({queue.destination for queue in queues} - kinds.keys())]
    ]
    _print(rows, as_json=as_json)


def _print(rows: Iterable[Mapping[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_json_lines(rows)
    else:
        columns = ("name", "type", "state", "waiting", "oldest", "last delivered")
        print_table(columns, (_cells(row, datetime.now(UTC)) for row in rows))


def _elsewhere(listener: Remote) -> list[dict[str, Any]]:
    queues = [QueueState(**queue.model_dump()) for queue in listener.ask_list("/queues", QueueOut)]
    names = dict.fromkeys(queue.destination for queue in queues)
    return [
        _row(name, "", [queue for queue in queues if queue.destination == name], datetime.now(UTC))
        for name in names
    ]


def _kinds(settings: Settings, rules: Rules) -> dict[str, str]:
    default = "slack" if settings.slack_webhook_url else "console"
    named = rules.file.destinations
    return {DEFAULT_DESTINATION: default} | {name: destination.type for name, destination in named.items()}


def _channels(settings: Settings, rules: Rules) -> dict[str, str]:
    """Return the queue's name of each destination: destinations of one channel share a queue."""
    queues = make_rulebook(rules.file, default_webhook(settings)).queues
    return {name: queue.name for name, queue in queues.items()}


def _queues_of(name: str, channels: Mapping[str, str], queues: Iterable[QueueState]) -> list[QueueState]:
    channel = channels.get(name, name)
    shared = (channel, f"{channel}/updates")
    return [queue for queue in queues if queue.destination == name or queue.name in shared]


def _row(name: str, kind: str | None, queues: list[QueueState], now: datetime) -> dict[str, Any]:
    trouble = next((text for queue in queues if (text := queue.trouble(now))), None)
    failing = any(queue.failures for queue in queues)
    oldest = min((queue.oldest_at for queue in queues if queue.oldest_at), default=None)
    last = max((queue.delivered_at for queue in queues if queue.delivered_at), default=None)
    state = (trouble or "").removeprefix("is ") or ("failing, is retried" if failing else "ok")
    return {
        "name": name,
        "type": kind
        if kind is not None
        else ("runs in Port" if name == RUNS else "(no longer in the rules)"),
        "state": state,
        "waiting": sum(queue.waiting for queue in queues),
        "oldest_at": oldest,
        "delivered_at": last,
    }


def _cells(row: Mapping[str, Any], now: datetime) -> tuple[str, ...]:
    *texts, waiting, oldest, last = row.values()
    ago = f"{duration(now - last)} ago" if last else "never"
    return *texts, str(waiting), duration(now - oldest) if oldest else "", ago


@destinations.command()
def show(name: Name, as_json: AsJson = False) -> None:
    """Show one destination as it is in the rules file, a key a line; secrets are hidden."""
    settings = load_settings(only=OF_STORE_AND_RULES)
    rules = configured_rules(settings)
    known = _kinds(settings, rules)
    if destination := rules.file.destinations.get(name):
        written = destination.model_dump(mode="json", by_alias=True, exclude_unset=True)
    elif name in known:  # `default`, which needs no entry in the file
        address = {"webhook_url": "${SLACK_WEBHOOK_URL}"} if settings.slack_webhook_url else {}
        written = {"type": known[name], **address}
    else:
        raise _unknown(name, known)
    # Hidden before it is encoded: in JSON a secret may be written otherwise.
    shown = Hider(secrets_of(rules))(written)
    if as_json:
        print_json_lines([{"name": name, **shown}])
        return
    for key, value in shown.items():
        say(f"{key}: {to_json(value).decode() if isinstance(value, dict | list) else text_of(value)}")


@destinations.command("test")
def send_test(
    name: Name,
    start: Annotated[bool, typer.Option("--run", help="For a job: start it, with an empty event.")] = False,
) -> None:
    """Send a marked test message to a destination, without its queue, and print the answer."""
    settings = load_settings()
    rules = configured_rules(settings)
    # The answer is printed; a warning on the way would only repeat it.
    configure_logging("ERROR", "text", settings.hidden + secrets_of(rules))
    destination = rules.file.destinations.get(name)
    if destination is not None and destination.routing().steps is not None and not start:
        raise ListenerError(f"{name} starts a job; give --run to start it, with an empty event")

    async def work() -> str:
        async with open_runtime(settings, dispatch=False) as runtime:
            notifier = runtime.sender.notifiers.get(name)
            if notifier is None:
                raise _unknown(name, runtime.sender.notifiers)
            now = datetime.now(UTC)
            notice = Notification.notice(TEST_TEXT.format(name=name), now)
            item = Item(f"test-{int(now.timestamp())}", notice)
            try:
                async with asyncio.timeout(SEND_TIMEOUT.total_seconds()):
                    parcel = await notifier.prepare(Parcel((item,)))
                    answer = (await notifier.send(parcel)).detail
            except DeliveryFailed as failed:
                raise ListenerError(f"{name} did not take it: {failed.reason}") from None
            except TimeoutError:
                raise ListenerError(f"{name} did not answer in time") from None
            here, text = OnThisMachine(runtime.store), f"To destination {name}: {one_line(answer)}."
            await record(here, user_name(), "test message", text)
            return answer

    say(f"{name} answered: {run(work())}")


@destinations.command()
def release(name: Name, url: Url = None, token: Token = None) -> None:
    """Release a destination that is on hold: it sends at once, many waiting alerts as digests."""
    if listener := remote(url, token):
        queues = listener.ask_list("/queues", QueueOut)
        queue = next((queue for queue in queues if queue.destination == name and queue.on_hold), None)
        if queue is None:
            raise ListenerError(f"{one_line(name, 60)} is not on hold: python -m app status")
        say(listener.act("POST", f"/queues/{quote(queue.name, safe='')}/release").done)
        return
    settings = load_settings(only=OF_STORE_AND_RULES)
    channels = _channels(settings, configured_rules(settings))

    async def work(store: Store) -> list[ActionOut]:
        queues = _queues_of(name, channels, await store.read(queries.page.queues, datetime.now(UTC)))
        if name not in channels and not queues:
            raise _unknown(name, channels)
        # One for each destination: releasing one queue releases all of its destination.
        held = {queue.destination: queue.name for queue in queues if queue.on_hold is not None}
        here, who = OnThisMachine(store), user_name()
        return [await acted(release_queue(here, who, queue)) for queue in held.values()]

    if not (released := run_with_store(work)):
        raise ListenerError(f"{one_line(name, 60)} is not on hold: python -m app destinations")
    for done in released:
        say(done.done)


def _unknown(name: str, known: Iterable[str]) -> ListenerError:
    return ListenerError(
        f"there is no destination {one_line(name, 60)!r}; known are {', '.join(sorted(known))}"
    )
