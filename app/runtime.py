"""Puts the parts together: the one place that knows which class does what, and that reads settings."""

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import structlog
from opentelemetry.trace import Tracer

from app.deliver.dispatcher import Dispatcher
from app.deliver.message import Messages
from app.deliver.reload import RulesInForce
from app.deliver.turn import Sender
from app.environment import environment
from app.jq.runner import Jq
from app.model.change import CatalogChange
from app.network import Network
from app.notifier.base import Notifier
from app.notifier.kind import AskFate, NotifierContext
from app.notifier.registry import SETTINGS_MODELS, make_notifiers
from app.observe.tracing import OFF
from app.observe.watch import NOBODY, Watch
from app.receive.event import WEBHOOK_PATH
from app.receive.intake import Intake, LookUp
from app.receive.receiver import Receiver
from app.receive.rules_source import make_rulebook, read_rules, reload_on_change, reload_on_sighup
from app.reconcile.health import RULES, why_off
from app.rules.file import Rules
from app.rules.targets import PortLookup
from app.settings import Settings
from app.store import queries
from app.store.opening import now, open_store
from app.store.prune import keep_pruned
from app.store.store import Store

if TYPE_CHECKING:
    from app.port.client import PortClient

log = structlog.get_logger(__name__)

Loop = Coroutine[None, None, None]

STOP_SECONDS = 5.0  # with uvicorn's own wait for open requests, a stop takes less than 10 s


@dataclass(frozen=True, slots=True)
class Runtime:
    """The running parts of a listener."""

    store: Store
    intake: Intake
    receiver: Receiver
    sender: Sender
    dispatcher: Dispatcher
    rules: RulesInForce


@asynccontextmanager
async def open_runtime(
    settings: Settings,
    *,
    dispatch: bool = True,
    reconcile: bool = False,
    watch: Watch = NOBODY,
    tracer: Tracer = OFF,
) -> AsyncIterator[Runtime]:
    """Open the store and start the delivery loop; at the end let what is in flight finish, and close.

    Args:
        settings: The configuration.
        dispatch: Whether to deliver; if not, another process does.
        reconcile: Whether to reconcile with Port at intervals, where that is configured.
        watch: Counts what happens.
        tracer: Makes spans of it.

    Raises:
        StoreUnavailable: The store cannot be opened.
        RulesError: Something is wrong with the rules file.
        SettingsError: A destination cannot be used as it is configured.
    """
    _warn_of_what_is_unusual(settings)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(*settings.database, upgrade=dispatch, watch=watch))
        conditions, templates = Jq(), Jq()  # a slow template must not keep changes waiting
        stack.push_async_callback(conditions.close)
        stack.push_async_callback(templates.close)
        port = _port_client(settings)
        if port is not None:
            stack.push_async_callback(port.close)
        runtime = _assemble(settings, store, conditions, templates, port, watch, tracer)
        watch.rules_taken(list(runtime.intake.book.rules.by_name), runtime.sender.notifiers)
        # Closed before Port's client and jq, which notifiers use.
        stack.push_async_callback(runtime.rules.close)
        stack.enter_context(reload_on_sighup(runtime.rules.reload))
        loops: list[Loop] = []
        if dispatch:
            store.on_new(runtime.dispatcher.wake)
            # The restart may be because somebody has fixed the destination.
            await store.write(queries.deliveries.probe_on_hold, now())
            await runtime.rules.follow()
            kept_for = timedelta(days=settings.retention_days)
            loops += (runtime.dispatcher.run(), keep_pruned(store, kept_for, now))
        if reconcile:
            loops += _reconcile_loop(settings, runtime, stack)
        if settings.rules_file is not None:
            loops.append(reload_on_change(settings.rules_file.absolute(), runtime.rules.reload))
        await stack.enter_async_context(_running(loops, runtime.dispatcher))
        yield runtime


@asynccontextmanager
async def _running(loops: Sequence[Loop], dispatcher: Dispatcher) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(loop) for loop in loops]
    try:
        yield
    finally:
        # The dispatcher first: what it is sending is to be recorded.
        await dispatcher.stop(STOP_SECONDS)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def default_webhook(settings: Settings) -> str:
    """Return the Slack webhook of the destination that needs no name; empty if that is the terminal."""
    return settings.slack_webhook_url.get_secret_value() if settings.slack_webhook_url else ""


def configured_rules(settings: Settings) -> Rules:
    """Read the rules that the settings name.

    Raises:
        RulesError: They cannot be used; it names every mistake.
    """
    return read_rules(settings.rules_file, environment(), SETTINGS_MODELS)


def check_network(settings: Settings) -> Network:
    """Return the way to other hosts, after a look at the addresses that the settings name.

    Raises:
        SettingsError: The environment names a proxy or certificates that cannot be used there.
    """
    network = Network(environment())
    token = settings.slack_bot_token and settings.slack_api_url
    for url in (settings.port_client_id and settings.port_api_url, default_webhook(settings), token):
        if url:
            network.httpx(str(url))
    return network


def load_usable(
    settings: Settings, context: NotifierContext | None = None
) -> tuple[Rules, dict[str, Notifier]]:
    """Read the rules that the settings name, and make a notifier for each destination.

    The start, a reload, `rules check` and `doctor` go through this, and so refuse the same. The notifiers
    hold no connection until they are used.

    Args:
        settings: The configuration.
        context: What notifiers are made with; None: what the settings give, without a store.

    Raises:
        RulesError: The rules, or destinations in them, cannot be used; it names every mistake.
        SettingsError: The file cannot be read, or the settings give no usable client.
    """
    check_network(settings)
    rules = configured_rules(settings)
    context = context or notifier_context(settings, Jq(), _port_client(settings), None)
    return rules, make_notifiers(rules, context)


def _warn_of_what_is_unusual(settings: Settings) -> None:
    if not settings.secrets:
        log.warning("unsigned_accepted", effect="anybody who can reach this listener can send changes")
    if settings.slack_webhook_url is None:
        log.warning("slack_webhook_not_set", effect="alerts for the default destination are printed here")


def _reconcile_loop(settings: Settings, runtime: Runtime, stack: AsyncExitStack) -> list[Loop]:
    client, minutes = _port_client(settings, patient=True), settings.reconcile_minutes
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

    reconciler = Reconciler(runtime.intake, client, timedelta(minutes=minutes), new_token=new_token)
    runtime.rules.on_more_watched = lambda: reconciler.want(RULES)
    return [reconciler.reconcile_when_due()]


def new_token() -> str:
    """Make a text that no other process has."""
    return secrets.token_hex(8)


def _port_client(settings: Settings, *, patient: bool = False) -> "PortClient | None":
    if settings.port_client_id is None or settings.port_client_secret is None:
        return None
    from app.port.client import PortClient

    secret = settings.port_client_secret.get_secret_value()
    # The client that delivers is not patient: when to try again is the store's to say.
    return PortClient(
        str(settings.port_api_url),
        settings.port_client_id,
        secret,
        clock=now,
        patient=patient,
        network=Network(environment()),
    )


def notifier_context(
    settings: Settings, jq: Jq, port: "PortClient | None", fate: AskFate | None
) -> NotifierContext:
    """Take out of the settings what notifiers are made with.

    Args:
        settings: The configuration.
        jq: Fills templates.
        port: Port's API; None: its credentials are not configured.
        fate: Says what became of a run's change; None: runs get no reports.
    """
    page_url, token = None, settings.slack_bot_token
    if settings.webhook_url is not None and settings.admin_token is not None:
        page_url = f"{str(settings.webhook_url).rstrip('/').removesuffix(WEBHOOK_PATH)}/changes"
    return NotifierContext(
        app_url=str(settings.port_app_url),
        page_url=page_url,
        default_webhook=default_webhook(settings),
        bot_token=token.get_secret_value() if token else "",
        slack_api_url=str(settings.slack_api_url),
        port=port,
        fate=fate,
        render=jq.render,
        clock=now,
        network=Network(environment()),
    )


def _look_up(port: "PortClient | None") -> LookUp:
    async def nobody_to_ask(_: CatalogChange, __: PortLookup) -> None:
        log.warning("lookup_unavailable", reason="PORT_CLIENT_ID is not set", effect="the default is alerted")

    if port is None:
        return nobody_to_ask
    from app.port.lookup import Lookup

    return Lookup(port, now)


def _assemble(
    settings: Settings,
    store: Store,
    conditions: Jq,
    templates: Jq,
    port: "PortClient | None",
    watch: Watch,
    tracer: Tracer,
) -> Runtime:
    context = notifier_context(settings, templates, port, lambda run: store.read(queries.reports.fate, run))
    load = partial(load_usable, settings, context)
    rules, notifiers = load()
    for hint in rules.hints:
        log.warning("rules_hint", reason=hint.at(rules.name))
    make_book = partial(make_rulebook, default_webhook=context.default_webhook)
    book = make_book(rules.file)
    messages = Messages(store.body, templates, book.rules)

    def clock() -> datetime:
        return store.time(now())

    sender = Sender(
        store,
        notifiers,
        prepare=messages.prepare,
        clock=clock,
        jitter=lambda: random.uniform(-1, 1),  # noqa: S311 - spreads retries, guards nothing
        fallbacks=book.fallbacks,
        why_not=messages.why_not,
        tracer=tracer,
    )
    dispatcher = Dispatcher(store, sender, clock=clock, new_token=new_token, watch=watch, tracer=tracer)
    intake = Intake(
        store=store,
        book=book,
        clock=clock,
        evaluate=conditions.evaluate,
        look_up=_look_up(port),
        wake=dispatcher.wake,
        reports=port is not None,
        watch=watch,
        tracer=tracer,
    )
    receiver = Receiver(
        intake,
        secrets=settings.secrets,
        accept_unsigned=settings.accept_unsigned,
        tolerance=timedelta(seconds=settings.signature_tolerance_seconds),
    )
    in_force = RulesInForce(
        load=load,
        make_book=make_book,
        intake=intake,
        messages=messages,
        sender=sender,
        dispatcher=dispatcher,
        store=store,
        clock=now,
        watch=watch,
    )
    return Runtime(store, intake, receiver, sender, dispatcher, in_force)
