"""What the store is given and gives back on the way of a change."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import NamedTuple

import orjson
from pydantic import ValidationError

from app.model.change import CatalogChange
from app.model.delivery import Alert, Outcome, State
from app.model.immutable import immutable
from app.model.incident import Route
from app.model.notification import NOTIFICATION, Message, Notification
from app.model.report import Report
from app.model.silence import Silence, silence_of
from app.model.times import MICRO, Micros
from app.rules.decide import Decision, EntityState
from app.rules.kin.ties import Kin


@immutable(frozen=True, slots=True)
class Incoming:
    """A change on its way into the store.

    Attributes:
        change: The change.
        body: The signed bytes that it was read from.
        received_at: When it arrived, UTC.
        decide: Given what the store knows of the entity, says what the change leads to, each time the same.
        traceparent: The span that it arrived in, if traces are kept: the delivery's goes on from there.
        watched: The entity's last known state is kept, and `decide` is given it.
        report: What its run in Port waits for, if it waits for a report.
        kins: What incidents of the entity have to do with those of others.
        stepped: By how many microseconds the clock of `received_at` was set so far; None: nobody knows.
        step: By how much it was set since.
    """

    change: CatalogChange
    body: bytes
    received_at: datetime
    decide: Callable[[EntityState], Decision]
    traceparent: str | None = None
    watched: bool = False
    report: Report | None = None
    kins: tuple[Kin, ...] = ()
    stepped: int | None = None
    step: timedelta = timedelta(0)

    def at(self, stepped: int) -> "Incoming":
        """Give the same by a clock that was set by so many microseconds in all."""
        step = (stepped - (stepped if self.stepped is None else self.stepped)) * MICRO
        return replace(self, received_at=self.received_at + step, step=step) if step else self


@immutable(frozen=True, slots=True)
class Accepted:
    """What became of a change.

    Attributes:
        key: Its key.
        alerts: How many alerts it has.
        duplicate: Whether it was stored before.
        already_alerted: Reconciling had alerted on it before it came.
        stored: False: the decision was `overtaken`.
        queues: The queues that its alerts wait in.
    """

    key: str
    alerts: int
    duplicate: bool
    already_alerted: bool = False
    stored: bool = True
    queues: frozenset[str] = frozenset()

    def with_alerts(self, decision: Decision | None) -> "Accepted":
        """Copy it with the alerts of another decision; None: it stays as it is."""
        if decision is None:
            return self
        queues = frozenset(alert.queue for alert in decision.alerts)
        return replace(self, alerts=len(decision.alerts), queues=queues)


class NewDelivery(NamedTuple):
    """A row of `deliveries` before it has a number: a field for each column.

    Attributes:
        change_id: The change that it is about.
        queue: The queue it waits in.
        destination: The destination's name.
        notification: What to say: a `Notification` as JSON.
        rule: The rule's name; empty: the listener itself has something to say.
        step: The incident's step.
        severity: How bad it is.
        created_at: When it is stored.
        waiting_since: From when its patience counts.
        kind: ``alert``; ``update`` of a message that was posted; ``report`` to a run in Port.
        due_at: Not before this time; 0: it was never to wait.
        incident_id: The incident that it belongs to.
        repeat_after: Microseconds until the next reminder; None: it is none.
        state: Where it stands.
        ended_at: Since when it waits no more.
        message_id: The message that an update changes.
        run: The run in Port that a report is for.
    """

    change_id: int
    queue: str
    destination: str
    notification: str
    rule: str
    step: str
    severity: str
    created_at: Micros
    waiting_since: Micros
    kind: str = "alert"
    due_at: int = 0
    incident_id: str | None = None
    repeat_after: int | None = None
    state: str = State.PENDING.value
    ended_at: Micros | None = None
    message_id: int | None = None
    run: str | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A delivery that waits in a queue which a dispatcher holds.

    Attributes:
        id: Its number.
        change_key: The key of the change that it is about.
        notification: What to say.
        waiting_since: From when its patience counts, UTC.
        parent: The message that its incident has in this queue's channel, if it has one.
        traceparent: The span that its change arrived in; None: traces are not kept.
        incident_id: The incident that it belongs to; None: to none.
        over: That incident has ended by now, and does not flap.
        reopened: It has ended and opened again since this alert's beginning, and does not flap.
    """

    id: int
    change_key: str
    notification: Notification
    waiting_since: datetime
    parent: Message | None = None
    traceparent: str | None = None
    incident_id: str | None = None
    over: bool = False
    reopened: bool = False

    @property
    def key(self) -> str:
        """The same for every try of this delivery, and for no other, in no other store either."""
        return f"{self.change_key[:16]}-{self.id}"


MAX_SUMMED_UP = 10_000  # go out together: no transaction is long, and the rest goes with the next message


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
        waiting: How many wait for it in all, as far as they can go out together.
        body: The signed bytes of the change that the first of them is about.
        unsure_since: Since when, UTC, something was sent of which nobody knows whether it arrived; else None.
        unsure_sends: How many sends in a row may have arrived though they failed, refusals between them not
            counted, where nobody can ask whether they did.
        silences: The silences that are active now.
        message: The message that these deliveries update; None: they are no updates.
        stories: Of each incident of that message the first and the last notification, and its id.
        run: The run in Port that these deliveries report to; None: they are no reports.
        stepped: By how much the clock was set before: all times are by the clock as it was then.
        spacing: For how long, from the claim on, other queues of its destination wait, which has a rate.
        sent_together: The keys of the deliveries that were sent at `unsure_since`, if only these must be sent
            now, and one of them waits still; else empty.
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
    unsure_sends: int = 0
    silences: tuple[Silence, ...] = ()
    message: Message | None = None
    stories: tuple[tuple[Notification, Notification, str], ...] = ()
    run: str | None = None
    stepped: timedelta = timedelta(0)
    spacing: timedelta = timedelta(0)
    sent_together: tuple[str, ...] = ()

    @property
    def silenced_stories(self) -> Iterator[tuple[Notification, Notification, str, Silence | None]]:
        """Each story, with the silence that covers its incident now; None: none does."""
        return ((*story, silence_of(story[1], self.silences)) for story in self.stories)

    @property
    def alerts(self) -> bool:
        """Whether these deliveries are alerts, not updates of a message or reports to a run."""
        return self.message is None and self.run is None


@dataclass(frozen=True, slots=True)
class Aside:
    """Why a delivery is not sent.

    Attributes:
        outcome: `Outcome.SILENCED` or `Outcome.DEAD`.
        detail: The reason, for a person.
        silence_id: The silence that suppresses it.
        hours: The hours outside of which it is, by name, and when they begin, UTC; None: it is within.
        sent_at: When it was sent, UTC, though nobody knows whether it arrived; None: it was not.
    """

    outcome: Outcome
    detail: str
    silence_id: int | None = None
    hours: tuple[str, datetime] | None = None
    sent_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to deliver, and where it leaves the queue.

    Attributes:
        outcome: How it ended.
        detail: What the destination answered, for a person.
        started_at: When the try began, UTC.
        ended_at: When it ended, UTC.
        next_at: When the queue may send again, UTC.
        failures: Transient failures in a row of the queue, from now on.
        delivery_ids: The numbers of the deliveries that it is about; None: those that were claimed.
        since: Since when, UTC, those of them waited that the message names one by one.
        asides: What was not sent, and why, by number.
        message: The new message that its incidents have in the channel from now on.
        gone: A message that is not there any more.
        unsure: It may have arrived, though it failed.
        unsure_sends: How many sends of the queue may have, from now on; see `Claim`.
        notice: What to say of it elsewhere, unless another queue of this destination is on hold already.
        elsewhere: Where the deliveries go instead, and why.
        revived: The numbers of dead deliveries that become pending again: they were not at fault.
    """

    outcome: Outcome
    detail: str
    started_at: datetime
    ended_at: datetime
    next_at: datetime
    failures: int = 0
    delivery_ids: Sequence[int] | None = None
    since: Sequence[datetime] = ()
    asides: Mapping[int, Aside] = field(default_factory=dict)
    message: Message | None = None
    gone: Message | None = None
    unsure: bool = False
    unsure_sends: int = 0
    notice: Alert | None = None
    elsewhere: Route | None = None
    revived: Sequence[int] = ()

    def moved(self, step: timedelta) -> "Attempt":
        """Give the same by a clock that was set meanwhile."""
        times = {"started_at": self.started_at, "ended_at": self.ended_at, "next_at": self.next_at}
        return replace(self, **{name: at + step for name, at in times.items()})  # type: ignore[arg-type]


def notification_json(notification: Notification) -> str:
    """Write the column ``notification``, which `Notification.read` reads."""
    # Not pydantic, which takes six times as long, unless a number has more than 64 bits.
    with suppress(TypeError):
        return orjson.dumps(vars(notification), default=timedelta.total_seconds).decode()
    return NOTIFICATION.dump_json(notification).decode()


def notification_of(text: str) -> Notification | None:
    """Read the column ``notification``; None: another release has written it, and this one cannot read it."""
    with suppress(ValidationError):
        return Notification.read(text)
    return None
