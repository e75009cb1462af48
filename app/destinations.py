"""A notifier for each destination: with runtime.py, the only place that knows their classes."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from app.alerts.destination import (
    ConsoleDestination,
    Destination,
    HttpDestination,
    PortActionDestination,
    SlackDestination,
)
from app.alerts.rules_file import RulesFile
from app.alerts.send import DEFAULT_DESTINATION
from app.errors import SettingsError
from app.expressions import Expressions
from app.notifier.base import Notifier
from app.notifier.slack import SlackNotifier
from app.port.resources import WEBHOOK_PATH
from app.settings import Settings

if TYPE_CHECKING:
    from app.port.client import PortClient


class Destinations:
    """Makes notifiers.

    Args:
        settings: The configuration.
        expressions: Fills templates.
        port: Port's API, if its credentials are configured.
    """

    def __init__(self, settings: Settings, expressions: Expressions, port: "PortClient | None") -> None:
        self._settings = settings
        self._expressions = expressions
        self._port = port

    def make(self, file: RulesFile) -> dict[str, Notifier]:
        """Return a notifier for each destination.

        Raises:
            SettingsError: One cannot be used as it is configured.
        """
        notifiers = {DEFAULT_DESTINATION: self._default_notifier()}
        for name, destination in file.destinations.items():
            notifiers[name] = self._notifier(name, destination)
        return notifiers

    def _default_notifier(self) -> Notifier:
        url = self._settings.slack_webhook_url
        if url is None:
            return self._console()
        return SlackNotifier(url.get_secret_value(), self._app_url, self._pause, page_url=self._page_url)

    def _console(self) -> Notifier:
        from app.notifier.console import ConsoleNotifier

        return ConsoleNotifier(self._app_url)

    @property
    def _app_url(self) -> str:
        return str(self._settings.port_app_url)

    @property
    def _pause(self) -> timedelta:
        return timedelta(seconds=1 / self._settings.slack_messages_per_second)

    @property
    def _page_url(self) -> str | None:
        """Where the changes can be read that a message has no room for; None: nobody can say."""
        url = self._settings.webhook_url
        if url is None or self._settings.admin_token is None:
            return None
        return f"{str(url).rstrip('/').removesuffix(WEBHOOK_PATH)}/changes"

    def _slack(self, name: str, destination: SlackDestination) -> Notifier:
        more: Any = {
            "pause": self._pause,
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
        from app.notifier.slack_bot import SlackBot

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
