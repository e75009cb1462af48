"""Notifiers that record: what each destination of the rules file is sent, message by message."""

import json
from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from app.errors import DeliveryFailed, Scope
from app.model.diff import diff
from app.model.incident import CATALOG_QUEUES, Step
from app.model.notification import Notification, text_of
from app.notifier.alert_body import digest_of
from app.notifier.base import Notifier, Parcel, Sent
from app.notifier.console import LINK, SLACK_MENTION
from app.notifier.http.parts import MAX_BODY_BYTES
from app.notifier.kind import NotifierContext, SlackMessage
from app.notifier.registry import kind_of
from app.notifier.slack.compose import compose, named_only
from app.notifier.slack.kind import SlackDestination
from app.notifier.slack.markup import unescaped
from app.notifier.teams import TeamsDestination
from app.receive.payload import parse_event
from app.receive.signature import Signed
from app.rules.destination import DestinationSettings
from app.store.views import StoredChange
from app.suite.clock import TEST_START, SuiteClock, offset

FAILS = "the suite lets it fail"


@dataclass(frozen=True, slots=True)
class RecordedAlert:
    """An alert that a destination was sent.

    Attributes:
        since: How long the test had lasted.
        destination: The destination's name; of what the catalog names, that: ``#team-rocket``.
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
        self.spacing = real.spacing
        self.fails = False
        self.unreached: set[str] = set()
        self._name = name
        self._settings = settings
        self._real = real
        self._context = context
        self._clock = clock
        self._alerts = alerts

    def of_queue(self, queue: str) -> "Recorder":
        """Give the recorder of a channel or a person that the catalog names, or itself."""
        if not queue.startswith(CATALOG_QUEUES):
            return self
        there = copy(self)
        there._name = queue  # noqa: SLF001 - its own
        return there

    async def send(self, parcel: Parcel) -> Sent:
        """Record the alerts that the next message of a parcel would have.

        Raises:
            DeliveryFailed: The test lets the destination fail, or a template of the message does.
        """
        if self.fails:
            raise DeliveryFailed(FAILS, Scope.DESTINATION)
        if self._name in self.unreached:
            raise DeliveryFailed(FAILS, Scope.PLACE)
        message: str | SlackMessage
        items, delivered = parcel.items, None
        if isinstance(self._settings, SlackDestination | TeamsDestination):
            composed = compose(
                named_only(parcel),
                self._context.app_url,
                group_by=self._settings.group_by,
                digest_after=self._settings.digest_after,
            )
            items, delivered, message = composed.shown, composed.delivered, composed.message
        elif len(items) > 1:
            body, items = digest_of(items, self._context, MAX_BODY_BYTES)
            message, delivered = json.dumps(body), frozenset(item.delivery_id for item in items)
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


def let(recorders: Mapping[str, Recorder], name: str, *, fail: bool) -> None:
    """Let a destination fail, or work; or a channel of the catalog, which then cannot be reached."""
    if name in recorders:
        recorders[name].fails = fail
        return
    for recorder in recorders.values():
        (recorder.unreached.add if fail else recorder.unreached.discard)(name)


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


def described(row: StoredChange) -> str:
    """Describe a change in one line: whose it is, and what changed."""
    change = parse_event(Signed(row.body or b"", row.received_at))
    values = [
        f"{value.name} {text_of(value.before)} → {text_of(value.after)}"
        for value in diff(change.before, change.after)
    ]
    late = f" (happened at {offset(row.at - TEST_START)})" if row.at != row.received_at else ""
    found = " found by reconciling" if change.found_at else ""
    return f"{row.action} {row.blueprint} {row.entity}{found}: {', '.join(values) or 'no value'}{late}"
