"""The rows that a store gives and takes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from app.model.change import CatalogChange
from app.model.delivery import Alert, Outcome, State
from app.model.notification import Message, Notification
from app.model.report import Report
from app.model.silence import Silence
from app.rules.decide import Decision, EntityState


@dataclass(frozen=True, slots=True)
class Incoming:
    """A change on its way into the store.

    Attributes:
        change: The change.
        body: The signed bytes that it was read from.
        received_at: When it arrived, UTC.
        decide: Given what the store knows of the entity, says what the change leads to. It must be pure:
            a store may call it again when a transaction is repeated.
        traceparent: The span that it arrived in, where traces are kept; whoever delivers goes on from there.
        watched: The entity's last known state is kept, and `decide` is given it.
        report: What its run in Port waits for, if it waits to be told.
    """

    change: CatalogChange
    body: bytes
    received_at: datetime
    decide: Callable[[EntityState], Decision]
    traceparent: str | None = None
    watched: bool = False
    report: Report | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """What became of a change.

    Attributes:
        key: Its key.
        alerts: How many alerts it has.
        duplicate: Whether it was stored before.
        noticed: A comparison with Port had told of it before it came.
        stored: False: the decision was `overtaken`.
    """

    key: str
    alerts: int
    duplicate: bool
    noticed: bool = False
    stored: bool = True


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A signed body that could not be read. Times are UTC."""

    id: int
    body: bytes
    signed_at: datetime
    received_at: datetime
    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """A delivery that waits in a queue which a dispatcher holds.

    Attributes:
        id: Its number.
        change_key: The change that it tells of.
        notification: What to say.
        waiting_since: Since when its patience counts, UTC.
        parent: The message that its incident has in this queue's channel, if it has one.
        traceparent: See `Incoming`.
    """

    id: int
    change_key: str
    notification: Notification
    waiting_since: datetime
    parent: Message | None = None
    traceparent: str | None = None

    @property
    def key(self) -> str:
        """The same for every try of this delivery, and for no other, in no other store either."""
        return f"{self.change_key[:16]}-{self.id}"


@dataclass(frozen=True, slots=True)
class Claim:
    """A queue that a dispatcher holds, and what waits in it for the destination at its head.

    Attributes:
        queue: The queue's name.
        token: Proves that the lease is still ours.
        claimed_at: When it was claimed, UTC.
        lease_until: When the lease ends, UTC.
        failures: Transient failures in a row so far.
        on_hold: The queue is on hold, and this is a probe.
        destination: The destination's name.
        deliveries: The first of what waits for it, in order.
        waiting: How many wait for it in all.
        body: The signed bytes of the change that the first of them tells of.
        unsure_since: Since when, UTC, something was sent of which nobody knows whether it arrived; else None.
        silences: What nobody is to hear of now.
        message: The message that these deliveries are to change; None: they are messages themselves.
        stories: What that message tells of: of each incident the first and the last notification.
    """

    queue: str
    token: str
    claimed_at: datetime
    lease_until: datetime
    failures: int
    on_hold: bool
    destination: str
    deliveries: tuple[Waiting, ...]
    waiting: int
    body: bytes
    unsure_since: datetime | None = None
    silences: tuple[Silence, ...] = ()
    message: Message | None = None
    stories: tuple[tuple[Notification, Notification], ...] = ()


@dataclass(frozen=True, slots=True)
class Aside:
    """What becomes of a delivery that is not sent.

    Attributes:
        outcome: `Outcome.SILENCED` or `Outcome.DEAD`.
        detail: Why, for a person.
        silence_id: The silence that keeps it back.
    """

    outcome: Outcome
    detail: str
    silence_id: int | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to deliver, and where it leaves the queue.

    Attributes:
        outcome: What it came to.
        detail: What the destination answered, for a person.
        started_at: When the try began, UTC.
        ended_at: When it ended, UTC.
        next_at: When the queue may send again, UTC.
        failures: Transient failures in a row of the queue, from now on.
        told: The numbers of the deliveries that it is about; None: those that were claimed.
        since: Since when, UTC, those of them waited that the message names one by one.
        asides: What was not sent, and why, by number.
        message: The new message that the incidents which it tells of have in the channel from now on.
        gone: A message that is not there any more.
        unsure: It may have arrived, though it failed.
        notice: What to tell of it elsewhere, unless another queue of this destination is on hold already.
    """

    outcome: Outcome
    detail: str
    started_at: datetime
    ended_at: datetime
    next_at: datetime
    failures: int = 0
    told: Sequence[int] | None = None
    since: Sequence[datetime] = ()
    asides: Mapping[int, Aside] = field(default_factory=dict)
    message: Message | None = None
    gone: Message | None = None
    unsure: bool = False
    notice: Alert | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery as people look at it. Times are UTC.

    Attributes:
        id: Its number.
        change_key: The change that it tells of.
        queue: The queue it waits or waited in.
        destination: The destination's name.
        state: Where it stands.
        notification: What it says.
        created_at: When it was stored.
        ended_at: When it was delivered or given up; None while it waits.
        attempts: How often it was tried.
        detail: What came of the last attempt, or why the queue is on hold; empty if there is nothing to say.
        next_at: When it may be sent; None unless it waits.
    """

    id: int
    change_key: str
    queue: str
    destination: str
    state: State
    notification: Notification
    created_at: datetime
    ended_at: datetime | None
    attempts: int
    detail: str
    next_at: datetime | None


@dataclass(frozen=True, slots=True)
class QueueState:
    """How a queue is. Times are UTC.

    Attributes:
        name: The queue's name.
        destination: The destination's name.
        waiting: How many deliveries wait in it and could go now.
        oldest_at: Since when the first of them waits; None if none does.
        on_hold: Why it is on hold; None if it is not.
        failures: Transient failures in a row so far.
        next_at: When it may send again.
        delivered_at: When something was delivered last; None if nothing was.
    """

    name: str
    destination: str
    waiting: int
    oldest_at: datetime | None
    on_hold: str | None
    failures: int
    next_at: datetime
    delivered_at: datetime | None


@dataclass(frozen=True, slots=True)
class StoredChange:
    """A change as it is kept. Times are UTC.

    Attributes:
        id: Its number.
        key: Its key: the same change has the same.
        received_at: When it arrived.
        at: When it happened, by the event itself.
        action: UPDATE, say.
        resource: What kind of thing changed: entity, say.
        blueprint: Its blueprint.
        entity: Its entity.
        reason: Why it alerted, or not.
        alerts: How many alerts it led to.
        body: The signed bytes that it was read from.
    """

    id: int
    key: str
    received_at: datetime
    at: datetime
    action: str
    resource: str
    blueprint: str
    entity: str
    reason: str
    alerts: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Tally:
    """Numbers that are watched.

    Attributes:
        incidents: How many are open, by rule and severity.
        dead: How many deliveries were given up, and are kept.
        silences: How many silences hold now.
        schema: The number of the schema.
    """

    incidents: Mapping[tuple[str, str], int]
    dead: int
    silences: int
    schema: int
