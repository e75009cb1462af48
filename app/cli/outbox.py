"""The commands about deliveries and the quarantine: list them, and try them again."""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

import typer

from app.cli.base import (
    MAX_NUMBER,
    AsJson,
    Noun,
    OnThisMachine,
    act_here,
    print_json_lines,
    print_record,
    print_table,
    read_pages,
    run,
    run_with_store,
    say,
    span,
    user_name,
)
from app.cli.remote import Token, Url, remote
from app.errors import ListenerError, UnreadableChange
from app.model.delivery import State
from app.model.incident import place_of
from app.model.notification import Notification, one_line, text_of
from app.notifier.base import duration
from app.observe.logs import configure_logging
from app.receive.signature import Signed
from app.runtime.listener import Runtime, open_runtime
from app.settings import load_settings
from app.store import queries
from app.store.store import Store
from app.store.views import Page, Quarantined
from app.web import actions
from app.web.api.models import ActionOut, DeliveryOut, QuarantineOut

deliveries = typer.Typer(cls=Noun, help="What is pending, on hold, dead or delivered.")
quarantine = typer.Typer(cls=Noun, help="Signed bodies that could not be read.")


Number = Annotated[int, typer.Argument(min=1, max=MAX_NUMBER, help="Its number.")]


def change_text(alert: Notification) -> str:
    """Return the change of an alert in a few words: ``Healthy → Degraded``."""
    if alert.change is None:
        return alert.action.lower().replace("_", " ")
    return f"{text_of(alert.change.before)} → {text_of(alert.change.after)}"


@deliveries.command("list")
def list_deliveries(
    state: Annotated[State | None, typer.Option(help="Only those in this state.")] = None,
    entity: Annotated[str | None, typer.Option(help="Only of this entity.")] = None,
    rule: Annotated[str | None, typer.Option(help="Only of this rule.")] = None,
    destination: Annotated[str | None, typer.Option(help="Only for this destination.")] = None,
    since: Annotated[str | None, typer.Option(help="Only those of the last 30m, 12h, 2d.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=MAX_NUMBER, help="How many at most.")] = 50,
    url: Url = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """List deliveries, those of the newest change first."""
    start = datetime.now(UTC) - span("--since", since) if since else None
    wanted: dict[str, Any] = {"state": state, "entity": entity, "rule": rule, "destination": destination}

    async def work(store: Store) -> tuple[list[DeliveryOut], Mapping[State, int]]:
        # Page by page, so that a large --limit holds no reader's transaction open for long.
        async def read(before: str | None, size: int) -> Page[DeliveryOut]:
            page = await store.read(queries.page.deliveries, **wanted, since=start, before=before, limit=size)
            attempts = await store.read(queries.page.attempts, [row.id for row in page.rows])
            return Page([DeliveryOut.of(row, attempts) for row in page.rows], page.next)

        return await read_pages(read, limit), await store.read(queries.counts.by_state)

    counts: Mapping[State, int] | None = None
    if listener := remote(url, token):
        rows = listener.ask_pages(
            "/deliveries", DeliveryOut, limit, **wanted, since=start and start.isoformat()
        )
    else:
        rows, counts = run_with_store(work)
    if as_json:
        print_json_lines(rows)
        return
    if rows:
        columns = ("id", "state", "entity", "change", "to", "tries", "age", "last answer")
        print_table(columns, (_cells(row, datetime.now(UTC)) for row in rows))
    print(f"{len(rows):,} deliveries" if counts is None else _counts_text(counts))


@deliveries.command("show")
def show_delivery(number: Number, url: Url = None, token: Token = None, as_json: AsJson = False) -> None:
    """Show one delivery with every attempt."""

    async def work(store: Store) -> DeliveryOut | None:
        row = await store.read(queries.page.delivery, number)
        attempts = await store.read(queries.page.attempts, [number])
        return None if row is None else DeliveryOut.of(row, attempts)

    listener = remote(url, token)
    found = listener.ask(f"/deliveries/{number}", DeliveryOut) if listener else run_with_store(work)
    if found is None:
        raise ListenerError(f"there is no delivery {number}: python -m app deliveries")
    print_json_lines([found]) if as_json else print_record(found)


def _cells(row: DeliveryOut, now: datetime) -> tuple[str, ...]:
    return (
        str(row.id),
        row.state.replace("_", " "),
        row.notification.entity,
        change_text(row.notification),
        place_of(row.destination, row.queue),
        str(len(row.attempts)),
        duration(now - row.created_at),
        row.detail,
    )


def _counts_text(counts: Mapping[State, int]) -> str:
    """Format the number of deliveries in each state: ``2 pending (1 in queues on hold), 0 dead, …``."""
    on_hold = counts[State.ON_HOLD]
    note = f" ({on_hold} in queues on hold)" if on_hold else ""
    ended = (State.DEAD, State.DELIVERED, State.CANCELLED, State.SILENCED)
    numbers = (f"{counts[state]} {state}" for state in ended)
    return ", ".join((f"{counts[State.PENDING] + on_hold} pending{note}", *numbers))


@deliveries.command()
def retry(
    ids: Annotated[
        list[int] | None, typer.Argument(min=1, max=MAX_NUMBER, help="The deliveries' numbers.")
    ] = None,
    dead: Annotated[bool, typer.Option("--dead", help="All that are dead.")] = False,
    rule: Annotated[str | None, typer.Option(help="Those that are dead of this rule.")] = None,
    destination: Annotated[str | None, typer.Option(help="Those that are dead for this destination.")] = None,
    since: Annotated[str | None, typer.Option(help="Those that died within this time: 30m, 12h, 2d.")] = None,
    url: Url = None,
    token: Token = None,
) -> None:
    """Try deliveries again at once: dead ones, or waiting ones by number. Their history stays."""
    if "" in (rule, destination, since):  # by a variable that is not set everything would be tried again
        raise typer.BadParameter("--rule, --destination and --since must not be empty")
    several = dead or rule is not None or destination is not None or since is not None
    if bool(ids) == several:
        raise typer.BadParameter("give either numbers, or --dead, --rule, --destination or --since")
    now = datetime.now(UTC)
    start = now - span("--since", since) if since else None
    if listener := remote(url, token):
        if several:
            body = {"rule": rule, "destination": destination, "since": start and start.isoformat()}
            say(listener.act("POST", "/deliveries/retry", body).done)
        _each(lambda number: listener.act("POST", f"/deliveries/{number}/retry"), ids or ())
        return
    who = user_name()
    if several:
        say(
            act_here(
                lambda here: actions.retry_dead(here, who, rule=rule, destination=destination, since=start)
            ).done
        )
    _each(lambda number: act_here(partial(actions.retry, who=who, number=number)), ids or ())


def _each(act: Callable[[int], ActionOut], ids: Iterable[int]) -> None:
    """Do the same to each of several; what cannot be done is said at the end."""
    wrong = []
    for number in ids:
        try:
            say(act(number).done)
        except ListenerError as error:
            wrong.append(str(error))
    if wrong:
        raise ListenerError("\n".join(wrong))


@quarantine.command("list")
def list_quarantine(url: Url = None, token: Token = None, as_json: AsJson = False) -> None:
    """List what is in quarantine, newest first."""

    async def work(store: Store) -> list[Quarantined]:
        rows = await _quarantine_rows(store)
        # Pages of the list have only the first bytes of each body.
        whole = [await store.read(queries.quarantine.body, row.id) for row in rows] if as_json else rows
        return [row for row in whole if row]

    if listener := remote(url, token):
        rows = listener.ask_pages("/quarantine", QuarantineOut, MAX_NUMBER)
        if as_json:  # whole, as here: the API's list has the beginning of each
            rows = [listener.ask(f"/quarantine/{row.id}", QuarantineOut) for row in rows]
    else:
        rows = [QuarantineOut.model_validate(row) for row in run_with_store(work)]
    if as_json:
        print_json_lines(rows)
    elif rows:
        cells = (
            (str(row.id), f"{row.received_at:%Y-%m-%d %H:%M:%S}", str(row.size), row.path, row.reason)
            for row in rows
        )
        print_table(("id", "received", "bytes", "field", "reason"), cells)
    else:
        print("Nothing is in quarantine.")


@quarantine.command("show")
def show_quarantined(number: Number, url: Url = None, token: Token = None, as_json: AsJson = False) -> None:
    """Show one body, and what is wrong with it."""
    if listener := remote(url, token):
        found = listener.ask(f"/quarantine/{number}", QuarantineOut)
    else:
        row = run_with_store(lambda store: store.read(queries.quarantine.body, number))
        if row is None:
            raise ListenerError(f"not in quarantine: {number}")
        found = QuarantineOut.model_validate(row)
    print_json_lines([found]) if as_json else print_record(found)


async def _quarantine_rows(store: Store) -> list[Quarantined]:
    return await read_pages(
        lambda before, size: store.read(queries.quarantine.bodies, before=before, limit=size)
    )


@quarantine.command()
def replay(
    ids: Annotated[
        list[int] | None, typer.Argument(min=1, max=MAX_NUMBER, help="Their numbers; all if none is given.")
    ] = None,
    url: Url = None,
    token: Token = None,
) -> None:
    """Read bodies again, after an upgrade: one that can be read now is accepted, and leaves quarantine."""
    if listener := remote(url, token):
        # Oldest first, as they came.
        listed = ids or sorted(row.id for row in listener.ask_pages("/quarantine", QuarantineOut, MAX_NUMBER))
        _each(lambda number: listener.act("POST", f"/quarantine/{number}/replay"), listed)
        return
    settings = load_settings()
    configure_logging("WARNING", "text", settings.hidden)  # an accepted change is printed below instead

    async def work() -> int:
        failed = 0
        async with open_runtime(settings, dispatch=False) as runtime:
            # Oldest first, as they came.
            present = sorted(row.id for row in await _quarantine_rows(runtime.store))
            for number in present:
                if not ids or number in ids:
                    failed += not await _replay_one(runtime, number)
            missing = sorted(set(ids or ()).difference(present))
        if missing:
            raise ListenerError(f"not in quarantine: {', '.join(map(str, missing))}")
        return failed

    if run(work()):
        raise typer.Exit(1)


async def _replay_one(runtime: Runtime, number: int) -> bool:
    """Read a body again and print the outcome; False: it stays in quarantine."""
    row = await runtime.store.read(queries.quarantine.body, number)
    if row is None:
        return True  # a person on the page was faster
    try:
        accepted = await runtime.intake.accept(Signed(row.body, row.signed_at))
    except UnreadableChange as error:
        print(f"{number}: still not readable: {one_line(str(error))}")
        return False
    except ListenerError:
        raise  # the store is away: the others would fail as well
    except Exception as error:  # noqa: BLE001 - a body with which the program fails must not stop the others
        print(f"{number}: still an error in this program: {type(error).__name__}")
        return False
    done = await actions.left_quarantine(OnThisMachine(runtime.store), user_name(), number, accepted)
    say(done.done)
    return True
