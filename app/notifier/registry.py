"""A notifier for each destination: with runtime.py, the only place that knows their classes."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from app.errors import DeliveryFailed, SettingsError
from app.jq.expressions import Expressions
from app.model.notification import Message
from app.model.report import RUNS, Fate
from app.notifier.base import Linker, Notifier
from app.notifier.slack.webhook import SlackNotifier
from app.receive.event import WEBHOOK_PATH
from app.rules.destination import (
    ConsoleDestination,
    Destination,
    HttpDestination,
    PortActionDestination,
    SlackDestination,
)
from app.rules.file import RulesFile
from app.rules.targets import DEFAULT_DESTINATION
from app.settings import Settings

if TYPE_CHECKING:
    from app.port.client import PortClient


log = structlog.get_logger(__name__)

PERMALINK_SECONDS = 3.0  # a report is not to wait for Slack: it does without

AskFate = Callable[[str], Awaitable[Fate | None]]


class Destinations:
    """Makes notifiers.

    Args:
        settings: The configuration.
        expressions: Fills templates.
        port: Port's API, if its credentials are configured.
        fate: Says what became of the change that a run in Port has brought; None: runs are told nothing.
    """

    def __init__(
        self,
        settings: Settings,
        expressions: Expressions,
        port: "PortClient | None",
        fate: AskFate | None = None,
    ) -> None:
        self._settings = settings
        self._expressions = expressions
        self._port = port
        self._fate = fate

    def make(self, file: RulesFile) -> dict[str, Notifier]:
        """Return a notifier for each destination, and, with Port's credentials, one for the runs in Port.

        Raises:
            SettingsError: One cannot be used as it is configured.
        """
        notifiers = {DEFAULT_DESTINATION: self._default_notifier()}
        for name, destination in file.destinations.items():
            notifiers[name] = self._notifier(name, destination)
        if self._port is not None and self._fate is not None:
            notifiers[RUNS] = self._runs(self._port, self._fate, notifiers)
        return notifiers

    def _runs(self, port: "PortClient", fate: AskFate, notifiers: Mapping[str, Notifier]) -> Notifier:
        from app.notifier.port_runs import PortRuns

        return PortRuns(
            fate=fate,
            log_run=port.log_run,
            patch_run=port.patch_run,
            permalink=partial(_permalink, notifiers),
            clock=lambda: datetime.now(UTC),
        )

    def _default_notifier(self) -> Notifier:
        url = self._settings.slack_webhook_url
        if url is None:
            return self._console()
        return SlackNotifier(url.get_secret_value(), self._app_url, page_url=self._page_url)

    def _console(self) -> Notifier:
        from app.notifier.console import ConsoleNotifier

        return ConsoleNotifier(self._app_url)

    @property
    def _app_url(self) -> str:
        return str(self._settings.port_app_url)

    @property
    def _page_url(self) -> str | None:
        """Where all can be read that a message has no room for, if there is a page and it is known."""
        url = self._settings.webhook_url
        if url is None or self._settings.admin_token is None:
            return None
        return f"{str(url).rstrip('/').removesuffix(WEBHOOK_PATH)}/changes"

    def _slack(self, name: str, destination: SlackDestination) -> Notifier:
        more: Any = {
            "pause": timedelta(seconds=1 / destination.rate),
            "group_by": destination.group_by,
            "digest_after": destination.digest_after,
            "page_url": self._page_url,
        }
        if destination.webhook_url is not None:
            return SlackNotifier(destination.webhook_url.get_secret_value(), self._app_url, **more)
        token = self._settings.slack_bot_token
        if token is None or destination.channel is None:
            raise SettingsError(
                f"destination {name!r} has a channel, which needs SLACK_BOT_TOKEN: your Slack app's page,"
                " OAuth & Permissions, has it"
            )
        from app.notifier.slack.bot import SlackBot

        api_url = str(self._settings.slack_api_url)
        return SlackBot(token.get_secret_value(), destination.channel, self._app_url, api_url=api_url, **more)

    def _notifier(self, name: str, destination: Destination) -> Notifier:
        match destination:
            case SlackDestination():
                return self._slack(name, destination)
            case HttpDestination():
                from app.notifier.http import HttpNotifier

                return HttpNotifier(
                    method=destination.method,
                    url=destination.url.get_secret_value(),
                    headers={key: one.get_secret_value() for key, one in destination.headers.items()},
                    body=destination.body,
                    secret=destination.secret.get_secret_value() if destination.secret else None,
                    allow_private=destination.allow_private,
                    render=self._expressions.render,
                    clock=lambda: datetime.now(UTC),
                )
            case PortActionDestination():
                if self._port is None:
                    raise SettingsError(f"destination {name!r} needs PORT_CLIENT_ID and PORT_CLIENT_SECRET")
                from app.notifier.port_action import PortActionNotifier

                return PortActionNotifier(
                    action=destination.action,
                    inputs=destination.inputs,
                    entity=destination.entity,
                    start_run=self._port.start_run,
                    run_url=lambda run: f"{self._app_url.rstrip('/')}/organization/run?runId={run}",
                    render=self._expressions.render,
                )
            case ConsoleDestination():
                return self._console()


async def _permalink(notifiers: Mapping[str, Notifier], destination: str, message: Message) -> str | None:
    notifier = notifiers.get(destination)
    if not isinstance(notifier, Linker):
        return None
    try:
        async with asyncio.timeout(PERMALINK_SECONDS):
            return await notifier.permalink(message)
    except (DeliveryFailed, TimeoutError) as error:
        log.info("no address of a message for a report", destination=destination, reason=str(error))
        return None
