"""What every store does, and the rows it gives and takes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from app.alerts.change import CatalogChange
from app.alerts.decide import Decision, EntityState
from app.alerts.notification import Notification
from app.alerts.retry import Outcome


@dataclass(frozen=True, slots=True)
class Incoming:
    """A change on its way into the store.

    Attributes:
        change: The change.
        body: The signed bytes that it was read from.
        received_at: When it arrived, UTC.
        decide: Given what the store knows of the entity, says what the change leads to. It must be pure:
            a store may call it again when a transaction is repeated.
    """

    change: CatalogChange
    body: bytes
    received_at: datetime
    decide: Callable[[EntityState], Decision]


@dataclass(frozen=True, slots=True)
class Accepted:
    """What became of a change: how many alerts it has, and whether it was stored before."""

    key: str
    alerts: int
    duplicate: bool


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
class Claim:
    """A lane that a dispatcher holds, and the delivery at its head.

    Attributes:
        lane: The lane's name.
        token: Proves that the lease is still ours.
        lease_until: When the lease ends, UTC.
        failures: Transient failures in a row so far.
        held: The lane is held, and this is a probe.
        delivery_id: The delivery at the head.
        change_key: The change that it tells of.
        destination: Its destination's name.
        notification: What to say.
        body: The signed bytes of the change that it tells of.
        waiting_since: Since when its patience counts, UTC.
    """

    lane: str
    token: str
    lease_until: datetime
    failures: int
    held: bool
    delivery_id: int
    change_key: str
    destination: str
    notification: Notification
    body: bytes
    waiting_since: datetime


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to deliver, and where it leaves the lane.

    Attributes:
        outcome: What it came to.
        detail: What the destination answered, for a person.
        started_at: When the try began, UTC.
        ended_at: When it ended, UTC.
        next_at: When the lane may send again, UTC.
        failures: Transient failures in a row of the lane, from now on.
    """

    outcome: Outcome
    detail: str
    started_at: datetime
    ended_at: datetime
    next_at: datetime
    failures: int = 0


class State(StrEnum):
    """Where a delivery stands. Pending in a held lane is shown as held."""

    PENDING = "pending"
    HELD = "held"
    DEAD = "dead"
    DELIVERED = "delivered"
    CANCELLED = "cancelled"
    """It was to be told later, and then there was nothing to tell any more."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery as people look at it. Times are UTC.

    Attributes:
        id: Its number.
        change_key: The change that it tells of.
        lane: The lane it waits or waited in.
        destination: The destination's name.
        state: Where it stands.
        notification: What it says.
        created_at: When it was stored.
        ended_at: When it was delivered or given up; None while it waits.
        attempts: How often it was tried.
        detail: What came of the last attempt, or why the lane is held; empty if there is nothing to say.
        next_at: When it may be sent; None unless it waits.
    """

    id: int
    change_key: str
    lane: str
    destination: str
    state: State
    notification: Notification
    created_at: datetime
    ended_at: datetime | None
    attempts: int
    detail: str
    next_at: datetime | None


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


class Store(Protocol):
    """A durable outbox. Every method raises `StoreUnavailable` when the store cannot do it now."""

    async def accept(self, batch: Sequence[Incoming]) -> list[Accepted]:
        """Store changes with what they lead to, in one transaction that is on disk on return.

        For each: a change that was seen before is left as it is; else the entity's state is looked up,
        `decide` is called, and the change, its alerts and its incidents are written. A change whose
        `decide` raises fails alone, with that error.
        """
        ...

    async def quarantine(
        self, body: bytes, *, signed_at: datetime, received_at: datetime, path: str, reason: str
    ) -> None:
        """Keep a signed body that could not be read; the same body is kept once."""
        ...

    async def quarantined(self) -> list[Quarantined]:
        """Return what is in quarantine, oldest first."""
        ...

    async def leave_quarantine(self, ids: Sequence[int]) -> None:
        """Remove what has been replayed."""
        ...

    async def claim(self, *, token: str, now: datetime, lease_until: datetime, limit: int) -> list[Claim]:
        """Take the lease of lanes that may send now and have something to send."""
        ...

    async def record(self, claim: Claim, attempt: Attempt) -> bool:
        """Write what an attempt came to and give the lease back; False if the lease was lost before."""
        ...

    async def release(self, claim: Claim) -> None:
        """Give the lease back without an attempt."""
        ...

    async def probe_held(self, now: datetime) -> None:
        """Let every lane that is held try at once."""
        ...

    async def retry(self, *, now: datetime, ids: Sequence[int] | None = None) -> int:
        """Make dead deliveries pending again and let their lanes try at once; return how many.

        Args:
            now: The time, UTC; patience counts from here again.
            ids: Which deliveries, waiting ones too; None for all that are dead.
        """
        ...

    async def deliveries(self, *, state: State | None, limit: int) -> list[Delivery]:
        """Return deliveries, newest first."""
        ...

    async def count(self) -> dict[State, int]:
        """Return how many deliveries stand where."""
        ...

    async def last_at(self, blueprint: str, entity: str) -> datetime | None:
        """Return when the newest change of an entity that was seen so far happened, UTC; None if none was."""
        ...

    async def history(self, *, since: datetime, after: int, limit: int) -> list[tuple[int, datetime, bytes]]:
        """Return stored changes in the order in which they came: number, time of arrival, signed bytes.

        Args:
            since: Those that arrived from this time on, UTC.
            after: Those with a greater number than this.
            limit: How many at the most.
        """
        ...

    async def told(self, since: datetime) -> dict[tuple[str, str], int]:
        """Return how many alerts were stored since a time, UTC, by rule and destination."""
        ...

    async def prune(self, *, before: datetime, limit: int) -> int:
        """Delete what arrived before a time, but nothing that is pending or open; return how many rows.

        Args:
            before: The time, UTC.
            limit: How many changes, incidents and bodies in quarantine each at the most, so that no
                transaction is long. Until 0 is returned there may be more.
        """
        ...

    async def changes(
        self, *, since: datetime, blueprint: str | None, after: StoredChange | None, limit: int
    ) -> list[StoredChange]:
        """Return changes in the order in which they arrived; none if there are no more.

        Args:
            since: Those that arrived from this time on, UTC.
            blueprint: Only of this blueprint; None for all.
            after: Those behind this one, to go on where the last call ended.
            limit: How many at the most; fewer where their bodies are long, so that memory stays small.
        """
        ...

    async def check(self, now: datetime) -> None:
        """Prove that the store can write."""
        ...

    async def close(self) -> None:
        """Finish what is queued, and close."""
        ...
