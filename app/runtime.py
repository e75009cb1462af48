"""Puts the parts together: with storage.py and destinations.py, all that knows the concrete classes."""

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import structlog
from opentelemetry.trace import Tracer

from app.deliver.dispatcher import Dispatcher
from app.deliver.turn import Courier
from app.errors import ListenerError, StoreUnavailable
from app.jq.expressions import Expressions, with_mention
from app.jq.runner import Jq
from app.model.change import CatalogChange
from app.model.incident import Step
from app.model.notification import Notification
from app.notifier.base import Item, Parcel
from app.notifier.registry import Destinations
from app.observe.tracing import OFF
from app.observe.watch import NOBODY, Watch
from app.receive.intake import Intake, LookUp
from app.receive.payload import bare_event
from app.receive.receiver import Receiver
from app.receive.rules_source import make_rulebook, read_rules, reload_on_change, reload_on_sighup
from app.reconcile.health import RULES, why_off
from app.rules.file import Rules
from app.rules.targets import PortLookup
from app.settings import Settings, environment
from app.store.base import Store
from app.store.opening import now, open_store
from app.store.prune import keep_pruned
from app.store.rows import Claim, Waiting

if TYPE_CHECKING:
    from app.port.client import PortClient
    from app.reconcile.schedule import Reconciler

log = structlog.get_logger(__name__)

STOP_SECONDS = 5.0  # with uvicorn's own wait for open requests, a stop takes less than 10 s


@dataclass(slots=True)
class Runtime:
    """The running parts.

    Attributes:
        settings: The configuration.
        store: The outbox.
        intake: Takes changes in.
        receiver: Receives Port's requests.
        courier: Delivers alerts.
        dispatcher: Lets it, queue by queue.
        expressions: Runs users' jq.
        destinations: Makes notifiers.
        watch: Hears of what happens.
        reconciler: Compares with Port; None: nobody does here.
        rules_problem: Why the rules file was not taken when it was read last; None if it was.
    """

    settings: Settings
    store: Store
    intake: Intake
    receiver: Receiver
    courier: Courier
    dispatcher: Dispatcher
    expressions: Expressions
    destinations: Destinations
    watch: Watch = NOBODY
    reconciler: "Reconciler | None" = None
    rules_problem: str | None = None
    _closing: set[asyncio.Task[None]] = field(default_factory=set)

    async def reload(self) -> None:
        """Read the rules file again; one that cannot be used is said, and the rules stay as they are."""
        try:
            rules = await asyncio.to_thread(read_rules, self.settings.rules_file, environment())
            notifiers = self.destinations.make(rules.file)
        except ListenerError as error:
            self.rules_problem = str(error)
            self.watch.rules_refused()
            log.error("rules refused, the old ones stay", reason=str(error))
            return
        self.rules_problem = None
        self.watch.rules_taken([one.name for one in rules.file.rules], notifiers)
        replaced = self.courier.replace(notifiers)
        self._closing.add(closing := asyncio.create_task(replaced.close()))
        closing.add_done_callback(self._closing.discard)
        known = self.intake.book.watched.keys()
        self.intake.book = make_rulebook(rules.file, default_webhook(self.settings))
        self.courier.fallbacks = self.intake.book.fallbacks
        with suppress(StoreUnavailable):  # then they try when their time comes
            await self.store.probe_on_hold(now())  # what was mended may be why they are on hold
        self.dispatcher.wake()
        if self.reconciler is not None and self.intake.book.watched.keys() - known:
            self.reconciler.want(RULES)
        log.info("rules loaded", rules=len(rules.file.rules), destinations=len(notifiers))

    async def prepare(self, claim: Claim, deliveries: Sequence[Waiting]) -> Parcel:
        """Return what deliveries say: the first with its rule's own words as they are now and Port's event.

        Args:
            claim: The queue.
            deliveries: Some of what waits there, one at least.
        """
        first, *others = deliveries
        head = first.id == claim.deliveries[0].id
        body = claim.body if head else await self.store.body(first.change_key)
        event = bare_event(body or b"{}")
        rules = self.intake.book.rules
        said = [
            await self.expressions.with_message(first.notification, rules, event),
            *(with_mention(one.notification, rules) for one in others),
        ]
        items = (Item(one.key, what, one.parent) for one, what in zip(deliveries, said, strict=True))
        return Parcel(tuple(items), event)

    def why_not(self, notification: Notification) -> str | None:
        """Return why an alert is not to be sent any more, in view of the rules as they are now."""
        gone = notification.rule not in self.intake.book.rules.by_name
        return "its rule is no longer there" if gone and notification.step is Step.REMINDED else None

    async def close(self) -> None:
        """Let go of all connections."""
        await self.courier.close()
        await asyncio.gather(*self._closing)


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
        reconcile: Whether to compare with Port every so often, where that is configured.
        watch: Hears of what happens.
        tracer: Makes spans of it.

    Raises:
        StoreUnavailable: The store cannot be opened.
        RulesError: Something is wrong with the rules file.
        SettingsError: A destination cannot be used as it is configured.
    """
    _say_what_is_unusual(settings)
    rules = read_rules(settings.rules_file, environment())
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(*settings.database, upgrade=dispatch, watch=watch))
        jq = Jq()
        stack.push_async_callback(jq.close)
        port = _port_client(settings)
        runtime = _assemble(settings, rules, store, jq, port, watch, tracer)
        watch.rules_taken([one.name for one in rules.file.rules], runtime.courier.notifiers)
        if port is not None:
            stack.push_async_callback(port.close)
        stack.push_async_callback(runtime.close)
        tasks: list[asyncio.Task[None]] = []
        stack.enter_context(reload_on_sighup(runtime.reload))
        if dispatch:
            store.on_new(runtime.dispatcher.wake)
            await store.probe_on_hold(now())  # whoever restarts us has perhaps just mended the destination
            tasks = [
                asyncio.create_task(runtime.dispatcher.run()),
                asyncio.create_task(keep_pruned(store, timedelta(days=settings.retention_days), now)),
            ]
        if reconcile:
            patient = _port_client(settings, patient=True)
            if patient is not None:
                stack.push_async_callback(patient.close)
            runtime.reconciler = make_reconciler(settings, runtime.intake, patient)
            if runtime.reconciler is not None:
                tasks.append(asyncio.create_task(runtime.reconciler.reconcile_when_due()))
        if settings.rules_file is not None:
            tasks.append(
                asyncio.create_task(reload_on_change(settings.rules_file.absolute(), runtime.reload))
            )
        try:
            yield runtime
        finally:
            await runtime.dispatcher.stop(STOP_SECONDS)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def default_webhook(settings: Settings) -> str:
    """Return the webhook of the destination that needs no name; empty if that is the terminal."""
    return settings.slack_webhook_url.get_secret_value() if settings.slack_webhook_url else ""


def _say_what_is_unusual(settings: Settings) -> None:
    if not settings.secrets:
        log.warning("ACCEPT_UNSIGNED is on: anybody who can reach this listener can send changes")
    if settings.slack_webhook_url is None:
        log.warning("SLACK_WEBHOOK_URL is not set: alerts for the default are printed here")


def make_reconciler(settings: Settings, intake: Intake, client: "PortClient | None") -> "Reconciler | None":
    """Make what reconciles every so often; None, which the log says, where that is not configured.

    Args:
        settings: The configuration.
        intake: Takes in what is found.
        client: Port's API, a patient client; None: not configured.
    """
    minutes = settings.reconcile_minutes
    if reason := why_off(minutes, settings.missing_credential, intake.book):
        say = log.warning if minutes else log.info  # 0 is somebody's decision
        say("reconcile_off", reason=reason)
    if client is None or not minutes:
        return None  # without a watched blueprint it stays: a reload may bring one
    from app.reconcile.schedule import Reconciler

    return Reconciler(intake, client, timedelta(minutes=minutes), new_token=new_token)


def new_token() -> str:
    """Make a text that no other process has."""
    return secrets.token_hex(8)


def _port_client(settings: Settings, *, patient: bool = False) -> "PortClient | None":
    if settings.port_client_id is None or settings.port_client_secret is None:
        return None
    from app.port.client import PortClient

    secret = settings.port_client_secret.get_secret_value()
    # What delivers is not patient: what is to be tried again, and when, is the store's to say.
    return PortClient(str(settings.port_api_url), settings.port_client_id, secret, clock=now, patient=patient)


def _assemble(
    settings: Settings,
    rules: Rules,
    store: Store,
    jq: Jq,
    port: "PortClient | None",
    watch: Watch,
    tracer: Tracer,
) -> Runtime:
    expressions = Expressions(jq)

    def clock() -> datetime:
        return store.time(now())

    async def nobody_to_ask(_: CatalogChange, __: PortLookup) -> None:
        log.warning("no look-up in Port: PORT_CLIENT_ID is not set; the default hears of it")

    async def prepare(claim: Claim, deliveries: Sequence[Waiting]) -> Parcel:
        return await runtime.prepare(claim, deliveries)

    book = make_rulebook(rules.file, default_webhook(settings))
    destinations = Destinations(settings, expressions, port, store.fate)
    courier = Courier(
        store,
        destinations.make(rules.file),
        prepare=prepare,
        clock=clock,
        jitter=lambda: random.uniform(-1, 1),  # noqa: S311 - spreads retries, guards nothing
        fallbacks=book.fallbacks,
        why_not=lambda one: runtime.why_not(one),  # noqa: PLW0108 - it is made below
        tracer=tracer,
    )
    dispatcher = Dispatcher(store, courier, clock=clock, new_token=new_token, watch=watch, tracer=tracer)
    look_up: LookUp = nobody_to_ask
    if port is not None:
        from app.port.lookup import Lookup

        look_up = Lookup(port, now)
    intake = Intake(
        store=store,
        book=book,
        clock=clock,
        evaluate=expressions.evaluate,
        look_up=look_up,
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
    runtime = Runtime(
        settings, store, intake, receiver, courier, dispatcher, expressions, destinations, watch
    )
    return runtime
