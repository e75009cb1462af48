"""What every notifier does, and what several of them need."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, runtime_checkable
from urllib.parse import quote

from app.model.notification import Message, Notification

SEND_TIMEOUT = timedelta(seconds=10)

MARKS = {"Healthy": "🟢", "Degraded": "🟠", "Crashed": "🔴", "Restarting": "🟡"}
"""The blueprint's enum colours."""
NEUTRAL_MARK = "⚪"


@dataclass(frozen=True, slots=True)
class Item:
    """One delivery on its way to a destination.

    Attributes:
        delivery_id: The same for every try of the same delivery, and for no other.
        notification: What to say.
        parent: The message that its incident has in the channel already, if it has one.
    """

    delivery_id: str
    notification: Notification
    parent: Message | None = None


@dataclass(frozen=True, slots=True)
class Parcel:
    """What a destination is to tell at once.

    Attributes:
        items: One at least, as many as the destination takes at once at the most, in their order.
        event: Port's own event, of the first.
        more: How many further ones wait that are not among the items, because they are too many.
        counts: Where `more` is not 0: how many of all that wait, the items too, are of which new value.
    """

    items: tuple[Item, ...]
    event: Mapping[str, Any] = field(default_factory=dict)
    more: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of a parcel.

    Attributes:
        detail: What the destination answered, for a person.
        told: The delivery ids of the items that it now knows; None: all, those not among the items too.
        message: The new message in the channel, where there is a way to name it and it is no reply.
        gone: A message that was found not to be there any more.
    """

    detail: str
    told: frozenset[str] | None = None
    message: Message | None = None
    gone: Message | None = None


class Notifier(Protocol):
    """Delivers to one destination.

    Attributes:
        pause: How long its queues rest after each message.
        at_once: How many alerts it takes at once.
    """

    pause: timedelta
    at_once: int

    async def send(self, parcel: Parcel) -> Sent:
        """Deliver, and return what came of it.

        Raises:
            DeliveryFailed: The destination did not take it.
        """
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


@dataclass(frozen=True, slots=True)
class Story:
    """An incident as a message tells it: the first and the last that was decided of it."""

    first: Notification
    last: Notification


@runtime_checkable
class Keeper(Notifier, Protocol):
    """A notifier whose messages can be found again and changed."""

    async def find(self, parcel: Parcel, since: datetime) -> Sent | None:
        """Return what of a parcel stands in the channel already; None: nothing.

        Args:
            parcel: What may have been sent, and nobody knows whether it arrived.
            since: When that was at the earliest, UTC.

        Raises:
            DeliveryFailed: The channel cannot be asked now.
        """
        ...

    async def update(self, message: Message, stories: Sequence[Story]) -> str:
        """Let a message say how its incidents are now, and return what the destination answered.

        Raises:
            MessageGone: It is not there any more.
            DeliveryFailed: The destination did not take it.
        """
        ...


@runtime_checkable
class Reporter(Notifier, Protocol):
    """A notifier that tells runs in Port what became of the change which they brought."""

    async def report(self, run: str, reports: int) -> str:
        """Tell a run how its change is now, and return what came of that.

        Args:
            run: The run's id.
            reports: How many of the reports that wait for it this is about.

        Raises:
            DeliveryFailed: Port did not take it.
        """
        ...


@runtime_checkable
class Linker(Notifier, Protocol):
    """A notifier whose messages have addresses."""

    async def permalink(self, message: Message) -> str | None:
        """Return a message's address; None if it has none.

        Raises:
            DeliveryFailed: The channel cannot be asked now.
        """
        ...


def mark(status: str) -> str:
    """Return the mark for a status, a neutral one where it is not one of the blueprint's."""
    return MARKS.get(status, NEUTRAL_MARK)


def entity_url(app_url: str, blueprint: str, entity: str) -> str:
    """Return the address of an entity's page in Port's app at `app_url`."""
    return f"{app_url.rstrip('/')}/{quote(blueprint, safe='')}Entity?identifier={quote(entity, safe='')}"


def words(name: str) -> str:
    """Return a property's name as words: ``newRelicUrl`` → ``New Relic``."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[_-]+", " ", name)
    spaced = re.sub(r" ?\b(url|link)$", "", spaced, flags=re.IGNORECASE) or spaced
    return spaced[:1].upper() + spaced[1:]


def duration(span: timedelta) -> str:
    """Return a span as people say it: ``40 s``, ``12 min``, ``3 h 5 min``, ``2 d 4 h``."""
    seconds = max(0, int(span.total_seconds()))
    if seconds < 60:
        return f"{seconds} s"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if minutes < 60:
        return f"{minutes} min"
    if hours < 24:
        return f"{hours} h {minutes % 60} min" if minutes % 60 else f"{hours} h"
    return f"{days} d {hours % 24} h" if hours % 24 else f"{days} d"


def timestamp(time: datetime) -> str:
    """Return a time as people read it, UTC."""
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
