"""Puts the parts together: the one place that knows which class does what, and that reads settings."""

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import structlog
from opentelemetry.trace import Tracer

from app.deliver.dispatcher import POLL_SECONDS, Dispatcher
from app.deliver.reload import RulesInForce
from app.deliver.turn import Sender
from app.errors import StoreUnavailable
from app.jq.runner import Jq
from app.model.change import CatalogChange
from app.notifier.registry import notifier_at
from app.observe.tracing import OFF
from app.observe.watch import NOBODY, Watch
from app.receive.intake import Intake
from app.receive.receiver import Receiver
from app.receive.routing import LookUp
from app.receive.rules_source import content_of, make_rulebook, reload_on_change, reload_on_sighup
from app.receive.unproven import Unproven
from app.reconcile.health import RULES, why_off
from app.rules.targets import DEFAULT_DESTINATION, PortLookup
from app.runtime.clicks import make_clicks, make_socket, note_socket
from app.runtime.configured import Clock, load_usable, notifier_context, port_client
from app.runtime.parts import put_together
from app.settings import Settings
from app.store import queries
from app.store.clock import steady
from app.store.opening import now, open_store
from app.store.prune import keep_pruned
from app.store.store import Store

if TYPE_CHECKING:
    from app.clicks.handle import Clicks
    from app.clicks.socket_mode import SlackSocket
    from app.port.client import PortClient
    from app.runtime.apart import Apart

log = structlog.get_logger(__name__)
Loop = Coroutine[None, None, None]
STOP_SECONDS = 5.0  # with uvicorn's own wait for open requests, a stop takes less than 10 s


def new_token() -> str:
    """Make a text that no other process has."""
    return secrets.token_hex(8)


def _jitter() -> float:
    return random.uniform(-1, 1)  # noqa: S311 - spreads retries, guards nothing


@dataclass(frozen=True, slots=True)
class Machine:
    """What a listener takes from the machine it runs on; the simulator gives its own.

    Attributes:
        clock: Gives the time, UTC.
        new_token: Makes texts that no other process has.
        jitter: Gives random numbers from -1 to 1, which spread retries.
        open_store: Opens the configured store.
        steady: Gives a time that nobody sets, for what is kept in memory.
    """

    clock: Clock = now
    new_token: Callable[[], str] = new_token
    jitter: Callable[[], float] = _jitter
    open_store: Callable[..., AbstractAsyncContextManager[Store]] = open_store
    steady: Clock = steady


@dataclass(frozen=True, slots=True)
class Runtime:
    """The running parts of a listener."""

    store: Store
    intake: Intake
    receiver: Receiver
    sender: Sender
    dispatcher: Dispatcher
    rules: RulesInForce
    clicks: "Clicks | None" = None
    socket: "SlackSocket | None" = None


@asynccontextmanager
async def open_runtime(
    settings: Settings,
    *,
    receive: bool = True,
    dispatch: bool = True,
    apart: "Apart | None" = None,
    reconcile: bool = False,
    follow_file: bool = True,
    watch: Watch = NOBODY,
    tracer: Tracer = OFF,
    machine: Machine = Machine(),
) -> AsyncIterator[Runtime]:
    """Open the store and start the delivery loop; at the end let what is in flight finish, and close.

    Args:
        settings: The configuration.
        receive: Whether changes come; if not, another process takes them.
        dispatch: Whether to deliver; if not, another process does.
        apart: That other process, if this one has started it.
        reconcile: Whether to reconcile with Port at intervals, where that is configured.
        follow_file: Whether to read the rules file again when it has changed; if not, the caller does.
        watch: Counts what happens.
        tracer: Makes spans of it.
        machine: What it takes from the machine it runs on.

    Raises:
        StoreUnavailable: The store cannot be opened.
        RulesError: Something is wrong with the rules file.
        SettingsError: A destination cannot be used as it is configured.
    """
    if receive and not settings.secrets:
        log.warning("unsigned_accepted", effect="anybody who can reach this listener can send changes")
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(
            machine.open_store(*settings.database, upgrade=dispatch, watch=watch)
        )
        await store.follow_clock()  # before anything is stored or decided by a clock that was set meanwhile
        store.own("")  # from now on `restore` sees that a listener runs, though it may only receive
        conditions, templates = Jq(), Jq()  # a slow template must not keep changes waiting
        stack.push_async_callback(conditions.close)
        stack.push_async_callback(templates.close)
        port = port_client(settings, clock=machine.clock)
        if port is not None:
            stack.push_async_callback(port.close)
        # Before the rules are read: no change of the file from here on is missed, however long a start takes.
        content = content_of(settings.rules_file) if settings.rules_file else None
        runtime = _assemble(settings, store, conditions, templates, port, watch, tracer, machine, apart)
        for hint in runtime.rules.hints if receive else ():
            log.warning("rules_hint", reason=hint)
        watch.rules_taken(list(runtime.intake.book.rules.by_name), runtime.sender.notifiers)
        # Closed before Port's client and jq, which notifiers use.
        stack.push_async_callback(runtime.rules.close)
        reload = apart.reloading(runtime.rules.reload) if apart else runtime.rules.reload
        stack.enter_context(reload_on_sighup(reload))
        if runtime.clicks is not None:
            stack.push_async_callback(runtime.clicks.close)
        loops: list[Loop] = []
        delivering = partial(_delivering, settings, runtime, machine)
        if dispatch:
            store.on_new(runtime.dispatcher.wake)
            # The restart may be because somebody has fixed the destination.
            await store.write(queries.deliveries.probe_on_hold, store.clock())
            await store.write(queries.silences.end_hours, store.clock())  # and other hours may be in force
            await runtime.rules.follow()
            await stack.enter_async_context(delivering())
        else:
            loops.append(_follow_clock(store))
        if apart:
            loops.append(apart.stand_in(runtime.dispatcher, delivering))
        if reconcile:
            loops += _reconcile_loop(settings, runtime, stack, machine)
        if follow_file and settings.rules_file is not None:
            loops.append(reload_on_change(settings.rules_file.absolute(), content, reload))
        await stack.enter_async_context(_running(loops, runtime.dispatcher))
        yield runtime


def _delivering(settings: Settings, runtime: Runtime, machine: Machine) -> AbstractAsyncContextManager[None]:
    """Deliver, and do what goes with it, as long as the context lasts."""
    kept_for = timedelta(days=settings.retention_days)
    loops: list[Loop] = [runtime.dispatcher.run(), keep_pruned(runtime.store, kept_for)]
    if runtime.socket is not None:
        note = note_socket(runtime.socket, runtime.store, machine.new_token())
        loops += (runtime.socket.run(), note)
    return _running(loops, runtime.dispatcher)


@asynccontextmanager
async def _running(loops: Sequence[Loop], dispatcher: Dispatcher) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(loop) for loop in loops]
    for task in tasks:
        task.add_done_callback(_say_end)
    try:
        yield
    finally:
        # The dispatcher first: what it is sending is to be recorded.
        await dispatcher.stop(STOP_SECONDS)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _say_end(task: asyncio.Task[None]) -> None:
    """Say that a loop has ended by a fault: else nobody would know that its work is not done any more."""
    if not task.cancelled() and (fault := task.exception()):
        log.error("background_ended", part=getattr(task.get_coro(), "__qualname__", ""), exc_info=fault)


async def _follow_clock(store: Store) -> None:
    """Do what the dispatcher does elsewhere each time it looks for work."""
    while True:
        await asyncio.sleep(POLL_SECONDS)
        with suppress(StoreUnavailable):
            await store.follow_clock()


def _reconcile_loop(
    settings: Settings, runtime: Runtime, stack: AsyncExitStack, machine: Machine
) -> list[Loop]:
    client, minutes = port_client(settings, patient=True, clock=machine.clock), settings.reconcile_minutes
    if client is not None:
        stack.push_async_callback(client.close)
    if reason := why_off(minutes, settings.missing_credential, runtime.intake.book):
        if minutes:
            log.warning("reconcile_off", reason=reason)
        else:  # somebody's decision
            log.info("reconcile_off", reason=reason)
    if client is None or not minutes:
        return []  # without a watched blueprint it stays on: a reload may bring one
    from app.reconcile.schedule import Reconciler

    reconciler = Reconciler(runtime.intake, client, timedelta(minutes=minutes), new_token=machine.new_token)
    runtime.rules.on_more_watched = lambda: reconciler.want(RULES)
    return [reconciler.reconcile_when_due()]


def _look_up(port: "PortClient | None", clock: Clock) -> LookUp:
    async def nobody_to_ask(_: CatalogChange, __: PortLookup) -> Sequence[object]:
        log.warning("lookup_unavailable", reason="PORT_CLIENT_ID is not set", effect="the default is alerted")
        return ()

    if port is None:
        return nobody_to_ask
    from app.port.lookup import Lookup

    return Lookup(port, clock)


def _assemble(
    settings: Settings,
    store: Store,
    conditions: Jq,
    templates: Jq,
    port: "PortClient | None",
    watch: Watch,
    tracer: Tracer,
    machine: Machine,
    apart: "Apart | None",
) -> Runtime:
    context = notifier_context(
        settings, templates, port, lambda run: store.read(queries.reports.fate, run), store.clock
    )
    load = partial(load_usable, settings, context)
    rules, notifiers = load()
    if apart is None and not context.default_webhook and DEFAULT_DESTINATION not in rules.file.destinations:
        log.warning("slack_webhook_not_set", effect="alerts for the default destination are printed here")
    make_book = partial(make_rulebook, default_webhook=context.default_webhook)
    parts = put_together(
        store,
        make_book(rules.file),
        notifiers,
        conditions=conditions,
        templates=templates,
        look_up=_look_up(port, machine.steady),
        jitter=machine.jitter,
        new_token=machine.new_token,
        wake=apart.wake if apart else None,
        reports=port is not None,
        watch=watch,
        tracer=tracer,
    )
    receiver = Receiver(
        parts.intake,
        secrets=settings.secrets,
        accept_unsigned=settings.accept_unsigned,
        tolerance=timedelta(seconds=settings.signature_tolerance_seconds),
        unproven=Unproven(settings.max_body_bytes),
    )
    in_force = RulesInForce(
        load=load,
        make_book=make_book,
        make_at=partial(notifier_at, context),
        intake=parts.intake,
        messages=parts.messages,
        sender=parts.sender,
        dispatcher=parts.dispatcher,
        store=store,
        clock=store.clock,
        watch=watch,
        hints=[hint.at(rules.name) for hint in rules.hints],
    )
    clicks = make_clicks(settings, store, parts.intake, watch)
    socket = make_socket(settings, clicks, machine.jitter)
    return Runtime(store, parts.intake, receiver, parts.sender, parts.dispatcher, in_force, clicks, socket)
