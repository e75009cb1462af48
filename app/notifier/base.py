"""The interface of every notifier, and what several of them need."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, runtime_checkable
from urllib.parse import quote, urlencode

from app.model.change import ACTION_RUN, ENTITY
from app.model.notification import Message, Notification
from app.model.silence import Silence

# Well below the lease of a queue: what has begun ends before another process may send the same.
SEND_TIMEOUT = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Item:
    """One delivery on its way to a destination.

    Attributes:
        delivery_id: The same for every attempt at the same delivery, and for no other delivery.
        notification: The alert.
        parent: The message that its incident has in the channel already; None: it has none.
        incident_id: The incident's id, the same at each of its steps; None: it has none.
        over: The incident has ended by now, whatever the alert says.
        reopened: It has ended and opened again by now, of which comes another alert.
    """

    delivery_id: str
    notification: Notification
    parent: Message | None = None
    incident_id: str | None = None
    over: bool = False
    reopened: bool = False


@dataclass(frozen=True, slots=True)
class Parcel:
    """The alerts that a destination gets at once.

    Attributes:
        items: The alerts in their order; one at least, `Notifier.batch_limit` at most.
        event: Port's bare event of the first.
        more: How many further alerts wait that have no room among the items.
        counts: Where `more` is not 0: how many of all that wait, the items too, have which new value.
        filled: The destination's own templates, filled by `Notifier.prepare`; None: it has none.
        together: The delivery ids that this was first sent with, where that may have arrived; else those of
            the items. What was silenced or withdrawn since is no item any more.
    """

    items: tuple[Item, ...]
    event: Mapping[str, Any] = field(default_factory=dict)
    more: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    filled: Any = None
    together: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of a parcel that was sent.

    Attributes:
        detail: The destination's answer, for a person.
        delivered: The delivery ids of the items that the message names; None: it stands for all that wait,
            those not among the items too.
        message: The new message in the channel, where it can be named and is no reply.
        gone: A message that is not there any more.
    """

    detail: str
    delivered: frozenset[str] | None = None
    message: Message | None = None
    gone: Message | None = None


@dataclass(frozen=True, slots=True)
class Tried:
    """What was found at a destination that was asked, and alerted of nothing.

    Attributes:
        detail: What is well, for a person.
        note: What is worth knowing about it; empty: nothing.
        unseen: What could not be looked at, and why; empty: nothing.
    """

    detail: str = ""
    note: str = ""
    unseen: str = ""


class Notifier(Protocol):
    """Delivers to one destination.

    Attributes:
        pause: How long its queues rest after each message.
        batch_limit: How many alerts one message may list; 1 where each starts a job of its own.
        repeats_alike: What may have arrived is sent again with the same alerts, no more: by that its receiver
            knows it again.
        spacing: The least time between two of its messages, over all its queues and all processes.
        address: What it calls, where nothing that it told can be told to its end by another address: the
            settings, as JSON, of a destination there, which is a secret; or a digest, if no last word can be
            said there. Empty: it can be.
    """

    address: str = ""
    pause: timedelta = timedelta(0)
    spacing: timedelta = timedelta(0)
    batch_limit: int = 1
    repeats_alike: bool = False

    def of_queue(self, queue: str) -> "Notifier":
        """Give the notifier of one of its queues, by the queue's name."""
        return self

    async def prepare(self, parcel: Parcel) -> Parcel:
        """Fill in the destination's own templates, before the time that a send may take begins.

        Raises:
            DeliveryFailed: A template fails.
        """
        return parcel

    async def send(self, parcel: Parcel) -> Sent:
        """Send a parcel that is prepared, and say what came of it.

        Raises:
            DeliveryFailed: The destination did not take it.
        """
        ...

    async def probe(self, message: str = "") -> Tried:
        """Find out, by the client that delivers, whether alerts would arrive.

        Args:
            message: A text to post, for a channel; a job is never started. Empty: nothing is posted.

        Raises:
            ListenerError: They would not; the text says why, and what to do.
        """
        return Tried(unseen="its kind cannot be tried without an alert")

    async def close(self) -> None:
        """Close its connections, if it has any of its own."""
        return


@dataclass(frozen=True, slots=True)
class Story:
    """An incident in a message.

    Attributes:
        first: The first alert of it that the message had.
        last: The last one.
        incident_id: Its id.
        silence: The silence that keeps its alerts back now; None: none does.
    """

    first: Notification
    last: Notification
    incident_id: str | None = None
    silence: Silence | None = None


@runtime_checkable
class Keeper(Notifier, Protocol):
    """A notifier whose messages can be found again and updated, and have addresses."""

    async def find(self, parcel: Parcel, since: datetime) -> Sent | None:
        """Find the alerts of a parcel that are in the channel already; None: none is.

        Args:
            parcel: Alerts that may have been sent, while it is not known whether they arrived.
            since: The time, UTC, before which they were not sent.

        Raises:
            DeliveryFailed: The channel cannot be asked now.
        """
        ...

    async def update(self, message: Message, stories: Sequence[Story]) -> str:
        """Update a message to its incidents as they are now; the result is the answer, for a person.

        Raises:
            MessageGone: It is not there any more.
            DeliveryFailed: The destination did not take it.
        """
        ...

    async def permalink(self, message: Message) -> str | None:
        """Ask for a message's address; None if it has none.

        Raises:
            DeliveryFailed: The channel cannot be asked now.
        """
        ...


@runtime_checkable
class Reporter(Notifier, Protocol):
    """A notifier that reports to runs in Port what became of the change that a run has brought."""

    async def report(self, run: str, reports: int) -> str:
        """Report to a run how its change is now; the result says what came of that, for a person.

        Args:
            run: The run's id.
            reports: How many of the reports that wait for it this is about.

        Raises:
            DeliveryFailed: Port did not take it.
        """
        ...


def entity_url(app_url: str, blueprint: str, entity: str, resource: str = ENTITY) -> str:
    """Return the address of an entity's page, or of a run's, in Port's app at `app_url`."""
    if resource == ACTION_RUN:
        return f"{app_url.rstrip('/')}/organization/run?runId={quote(entity, safe='')}"
    return f"{app_url.rstrip('/')}/{quote(blueprint, safe='')}Entity?identifier={quote(entity, safe='')}"


def page_of(page_url: str, blueprint: str, entity: str) -> str:
    """Make the address of an entity on this listener's own page, which is at `page_url`."""
    query = urlencode({"blueprint": blueprint, "entity": entity}, quote_via=quote)
    return f"{page_url.rstrip('/')}/entity?{query}"


def name_of(name: str) -> str:
    """Return a property's name as words: ``newRelicUrl`` → ``New Relic``."""
    # Between the words of camelCase, snake_case and kebab-case.
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[_-]+", " ", name)
    # That a button leads to an address goes without saying; but a property may be called just "url".
    spaced = re.sub(r" ?\b(url|link)$", "", spaced, flags=re.IGNORECASE) or spaced
    return spaced[:1].upper() + spaced[1:]


def duration(span: timedelta) -> str:
    """Return a span as people say it: ``40 s``, ``12 min``, ``3 h 5 min``, ``2 d 4 h``."""
    seconds = max(0, int(span.total_seconds()))  # the clocks of two machines may differ
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
