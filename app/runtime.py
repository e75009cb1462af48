"""Puts the parts together: the only module that knows the concrete classes."""

import asyncio
import random
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from app.alerts.rules import BUILT_IN, DEFAULT_DESTINATION
from app.dispatcher import Dispatcher
from app.errors import StoreUnavailable
from app.listener import Listener
from app.notifier.base import Notifier
from app.notifier.console import ConsoleNotifier
from app.notifier.slack import SlackNotifier
from app.settings import Settings
from app.store.base import Store
from app.store.schema import prepare
from app.store.sqlite import SQLiteStore

log = structlog.get_logger(__name__)

STOP_SECONDS = 5.0  # with uvicorn's own wait for open requests, a stop takes less than 10 s
PRUNE_EVERY = timedelta(hours=1)
PRUNE_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Runtime:
    """The running parts."""

    store: Store
    listener: Listener
    dispatcher: Dispatcher


def prepare_store(settings: Settings) -> None:
    """Bring the configured store to this release's schema, so that a start that must fail does so early.

    Raises:
        StoreUnavailable: It cannot be opened, or a newer release has written it.
    """
    prepare(settings.database_path)


@asynccontextmanager
async def open_store(settings: Settings) -> AsyncIterator[Store]:
    """Open the configured store, and close it at the end.

    Raises:
        StoreUnavailable: It cannot be opened.
    """
    store = await asyncio.to_thread(SQLiteStore, settings.database_path)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def open_runtime(settings: Settings, *, dispatch: bool = True) -> AsyncIterator[Runtime]:
    """Open the store and start the delivery loop; at the end let what is in flight finish, and close.

    Args:
        settings: The configuration.
        dispatch: Whether to deliver; if not, another process does.

    Raises:
        StoreUnavailable: The store cannot be opened.
    """
    if not settings.secrets:
        log.warning("ACCEPT_UNSIGNED is on: anybody who can reach this listener can send changes")
    notifiers: dict[str, Notifier] = {DEFAULT_DESTINATION: _default_notifier(settings)}
    async with open_store(settings) as store:
        dispatcher = Dispatcher(
            store,
            notifiers,
            pause=timedelta(seconds=1 / settings.slack_messages_per_second),
            clock=_now,
            jitter=lambda: random.uniform(-1, 1),  # noqa: S311 - spreads retries, guards nothing
            new_token=lambda: secrets.token_hex(8),
        )
        listener = Listener(
            store=store,
            rules=(BUILT_IN,),
            secrets=settings.secrets,
            tolerance=timedelta(seconds=settings.signature_tolerance_seconds),
            clock=_now,
            wake=dispatcher.wake,
        )
        tasks: list[asyncio.Task[None]] = []
        if dispatch:
            await store.probe_held(_now())  # whoever restarts us has perhaps just mended the destination
            tasks = [
                asyncio.create_task(dispatcher.run()),
                asyncio.create_task(_keep_pruned(store, timedelta(days=settings.retention_days))),
            ]
        try:
            yield Runtime(store, listener, dispatcher)
        finally:
            await dispatcher.stop(STOP_SECONDS)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for notifier in notifiers.values():
                await notifier.close()


def _now() -> datetime:
    return datetime.now(UTC)


def _default_notifier(settings: Settings) -> Notifier:
    app_url = str(settings.port_app_url)
    if settings.slack_webhook_url is None:
        log.warning("SLACK_WEBHOOK_URL is not set: alerts are printed here and go nowhere else")
        return ConsoleNotifier(app_url)
    return SlackNotifier(settings.slack_webhook_url.get_secret_value(), app_url)


async def _keep_pruned(store: Store, retention: timedelta) -> None:
    while True:
        pruned = 0
        with suppress(StoreUnavailable):  # the next round is soon enough
            pruned = await store.prune(before=_now() - retention, limit=PRUNE_AT_ONCE)
        if pruned:
            log.info("pruned", changes=pruned)
            await asyncio.sleep(0.05)  # let the requests through
            continue
        await asyncio.sleep(PRUNE_EVERY.total_seconds())
