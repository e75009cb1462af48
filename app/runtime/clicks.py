"""What takes clicks in Slack, as it is configured."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from app.environment import environment
from app.errors import StoreUnavailable
from app.network import Network
from app.observe.watch import Watch
from app.receive.intake import Intake
from app.settings import Settings
from app.store import queries
from app.store.store import Store

if TYPE_CHECKING:  # aiohttp and slack_sdk are imported only where clicks can come
    from app.clicks.handle import Clicks
    from app.clicks.socket_mode import SlackSocket

NOTED_SECONDS = 60.0


def make_clicks(settings: Settings, store: Store, intake: Intake, watch: Watch) -> "Clicks | None":
    """Make what does what people click; None: no click can come.

    Raises:
        SettingsError: The environment's proxy or certificates cannot be used.
    """
    if settings.slack_app_token is None and settings.slack_signing_secret is None:
        return None
    from app.clicks.handle import Clicks

    token = settings.slack_bot_token
    return Clicks(
        store,
        token.get_secret_value() if token else "",
        str(settings.slack_api_url),
        book=lambda: intake.book,
        wake=intake.wake,
        clock=intake.clock,
        network=Network(environment()),
        watch=watch,
    )


async def note_socket(socket: "SlackSocket", store: Store, name: str) -> None:
    """Note in the store how the connection is, whenever that changes and each minute, until cancelled."""
    while True:
        socket.changed.clear()
        if socket.trouble is not None:
            with suppress(StoreUnavailable):
                await store.write(queries.counts.note_socket, name, socket.trouble, store.clock())
        with suppress(TimeoutError):
            async with asyncio.timeout(NOTED_SECONDS):
                await socket.changed.wait()


def make_socket(
    settings: Settings, clicks: "Clicks | None", jitter: Callable[[], float]
) -> "SlackSocket | None":
    """Make the connection over which clicks come; None: they come by HTTP, or not at all.

    Raises:
        SettingsError: The environment's proxy or certificates cannot be used.
    """
    if settings.slack_app_token is None or clicks is None:
        return None
    from app.clicks.socket_mode import SlackSocket

    return SlackSocket(
        settings.slack_app_token.get_secret_value(),
        str(settings.slack_api_url),
        clicks.take,
        clock=clicks.clock,
        jitter=jitter,
        network=Network(environment()),
    )
