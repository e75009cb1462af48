"""Notifiers that record: what each destination of the rules file is sent, message by message."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from app.errors import DeliveryFailed, Scope
from app.model.incident import Step
from app.model.notification import Notification, text_of
from app.notifier.base import Notifier, Parcel, Sent
from app.notifier.console import LINK, SLACK_MENTION
from app.notifier.kind import NotifierContext, SlackMessage
from app.notifier.registry import kind_of
from app.notifier.slack.compose import compose
from app.notifier.slack.kind import SlackDestination
from app.notifier.slack.markup import unescaped
from app.notifier.teams import TeamsDestination
from app.rules.destination import DestinationSettings
from app.suite.clock import SuiteClock

FAILS = "the suite lets it fail"


@dataclass(frozen=True, slots=True)
class RecordedAlert:
    """An alert that a destination was sent.

    Attributes:
        since: How long the test had lasted.
        destination: The destination's name.
        notification: The alert.
        text: The message that it came in.
        together: How many alerts that message has.
    """

    since: timedelta
    destination: str
    notification: Notification
    text: str
    together: int = 1

    def shown(self) -> str:
        """Describe it in one line."""
        return shown(self.notification) + (f", in a digest of {self.together}" if self.together > 1 else "")


def shown(alert: Notification) -> str:
    """Describe an alert in one line: its step, whose it is, and what changed."""
    if alert.step is Step.NOTICE:
        return f"notice: {alert.title}"
    change = alert.change
    values = f", {change.name} {text_of(change.before)} → {text_of(change.after)}" if change else ""
    if alert.closed:
        values = f", {alert.closed}"
    return f"{alert.step}: {alert.entity} by rule {alert.rule!r}{values} ({alert.severity})"


def reasons_of(decision: str) -> list[str]:
    """Split the reason of a decision into a line for each rule."""
    first, *others = decision.split("; rule ")
    return [first, *(f"rule {other}" for other in others)]


class Recorder(Notifier):
    """Records what a destination is sent, at the rate and in the digests of the real one.

    Args:
        name: The destination's name.
        settings: Its settings.
        real: The notifier that would send.
        context: What that was made with.
        clock: The time of the test.
        alerts: Where the alerts are put.
    """

    def __init__(
        self,
        name: str,
        settings: DestinationSettings,
        real: Notifier,
        context: NotifierContext,
        clock: SuiteClock,
        alerts: list[RecordedAlert],
    ) -> None:
        self.pause = real.pause
        self.batch_limit = real.batch_limit
        self.fails = False
        self._name = name
        self._settings = settings
        self._real = real
        self._context = context
        self._clock = clock
        self._alerts = alerts

    async def send(self, parcel: Parcel) -> Sent:
        """Record the alerts that the next message of a parcel would have.

        Raises:
            DeliveryFailed: The test lets the destination fail, or a template of the message does.
        """
        if self.fails:
            raise DeliveryFailed(FAILS, Scope.DESTINATION)
        message: str | SlackMessage
        items, delivered = parcel.items, None
        if isinstance(self._settings, SlackDestination | TeamsDestination):
            composed = compose(
                parcel,
                self._context.app_url,
                group_by=self._settings.group_by,
                digest_after=self._settings.digest_after,
            )
            items, delivered, message = composed.shown, composed.delivered, composed.message
        else:
            message = await kind_of(self._settings.type).dry_run(
                self._settings, items[0], parcel.event, self._context
            )
        text = message if isinstance(message, str) else "\n".join(_texts(message))
        for item in items:
            self._alerts.append(
                RecordedAlert(self._clock.since, self._name, item.notification, text, len(items))
            )
        return Sent("recorded", delivered=delivered)

    async def close(self) -> None:
        """Close the connections of the real one."""
        await self._real.close()


def _texts(message: Any) -> Iterator[str]:
    """Yield all texts of a message in Slack's form, as people see them."""
    if isinstance(message, Mapping):
        for key, value in message.items():
            if key == "text" and isinstance(value, str):
                yield unescaped(SLACK_MENTION.sub(r"@\1", LINK.sub(r"\1", value)))
            else:
                yield from _texts(value)
    elif isinstance(message, list | tuple):
        for part in message:
            yield from _texts(part)
