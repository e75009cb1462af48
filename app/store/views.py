"""What people look at, and the trail of what they did: queries of their own, beside the outbox."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, Protocol, TypeVar

from app.model.delivery import Outcome, State
from app.model.incident import Incident
from app.model.notification import Notification
from app.store.rows import Delivery

T = TypeVar("T")

QUIET = "none"
"""In place of a delivery's state: changes that led to no alert."""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some rows of a list.

    Attributes:
        rows: The rows, in the list's order.
        next: Where the next page begins; None if this is the last.
        searched_to: How far back the search went when it stopped, because what fits is rare; None if it
            found as many as were wanted, or there is nothing older.
    """

    rows: Sequence[T]
    next: str | None = None
    searched_to: datetime | None = None


@dataclass(frozen=True, slots=True)
class ChangeFilter:
    """Which changes to list; what is None does not matter. Times are UTC, of arrival.

    Attributes:
        blueprint: The blueprint's identifier.
        entity: The entity's identifier.
        text: A part of the entity's identifier, in small or capital letters.
        team: One of the owning teams.
        rule: A rule that alerted on it.
        state: Where one of its deliveries stands, or `QUIET`.
        since: From this time on.
        until: Before this time.
    """

    blueprint: str | None = None
    entity: str | None = None
    text: str | None = None
    team: str | None = None
    rule: str | None = None
    state: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """A stored change. Times are UTC.

    Attributes:
        id: Its number, in the order of arrival.
        key: The same for the same change, however often it arrives.
        received_at: When it arrived.
        at: When it happened.
        action: What happened to the entity.
        resource: What was changed: ``entity`` mostly.
        blueprint: The blueprint's identifier.
        entity: The entity's identifier.
        teams: The owning teams.
        reason: Why it alerted, or why not.
        alerts: How many alerts it led to.
        body: The signed bytes; None in a list if they are many.
    """

    id: int
    key: str
    received_at: datetime
    at: datetime
    action: str
    resource: str
    blueprint: str
    entity: str
    teams: tuple[str, ...]
    reason: str
    alerts: int
    body: bytes | None


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """A delivery, with the number of its change and its incident's name."""

    delivery: Delivery
    change_id: int
    incident_id: str | None


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """One try of a delivery. Times are UTC."""

    delivery_id: int
    outcome: Outcome
    detail: str
    started_at: datetime
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class IncidentRow:
    """An incident, and the last that was decided to be told of it, if anything was."""

    incident: Incident
    last: Notification | None


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts of a time: changes that came, and deliveries that ended in it, by state; what waits now.

    Attributes:
        changes: How many changes came.
        ended: How many deliveries ended, by where they stand.
        pending: How many deliveries wait now, in queues on hold too.
        dead: How many deliveries are dead, whenever they died.
        open: How many incidents are open.
        quarantined: How many bodies are in quarantine.
    """

    changes: int
    ended: dict[State, int] = field(default_factory=dict)
    pending: int = 0
    dead: int = 0
    open: int = 0
    quarantined: int = 0


@dataclass(frozen=True, slots=True)
class Choices:
    """What there is to filter by."""

    blueprints: Sequence[str]
    teams: Sequence[str]
    rules: Sequence[str]


@dataclass(frozen=True, slots=True)
class QuarantineRow:
    """A signed body that could not be read. Times are UTC.

    Attributes:
        id: Its number.
        body: Its first bytes in a list; all of it when it is asked for alone.
        size: How many bytes it has.
        signed_at: When it was signed.
        received_at: When it came.
        path: The field at fault, dotted; empty for the whole body.
        reason: What is wrong with it.
    """

    id: int
    body: bytes
    size: int
    signed_at: datetime
    received_at: datetime
    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class AuditRow:
    """What somebody did.

    Attributes:
        at: When, UTC.
        who: The name that was given at the sign-in, or ``API``.
        what: What was done, as a name: ``retry``, ``silence``.
        details: To what, and what came of it, as a sentence.
        id: Its number; 0: it is not stored yet.
    """

    at: datetime
    who: str
    what: str
    details: str
    id: int = 0


class Views(Protocol):
    """Reads for people, newest first unless said otherwise; `before` is a page's `next`.

    Every method raises `StoreUnavailable` when the store cannot do it now, and `ValueError` for a `before`
    that no page has given.
    """

    async def changes(self, which: ChangeFilter, *, before: str | None, limit: int) -> Page[ChangeRow]:
        """Return changes in the order of their arrival. Where few fit, a page may have fewer and a `next`."""
        ...

    async def change(self, number: int) -> ChangeRow | None:
        """Return one change whole."""
        ...

    async def deliveries(
        self, *, state: State | None = None, before: str | None, limit: int
    ) -> Page[DeliveryRow]:
        """Return deliveries, all or those that stand somewhere; those of the newest change first."""
        ...

    async def deliveries_of(self, changes: Sequence[int]) -> list[DeliveryRow]:
        """Return the deliveries of changes, reports to Port too, by their numbers, oldest first."""
        ...

    async def delivery(self, number: int) -> DeliveryRow | None:
        """Return one delivery."""
        ...

    async def attempts(self, deliveries: Sequence[int]) -> list[AttemptRow]:
        """Return every attempt of deliveries, by their numbers, oldest first."""
        ...

    async def worst(self, limit: int) -> list[IncidentRow]:
        """Return open incidents: the worst first, of those the oldest."""
        ...

    async def incident(self, name: str) -> IncidentRow | None:
        """Return one incident."""
        ...

    async def incidents(
        self,
        *,
        is_open: bool | None = None,
        blueprint: str | None = None,
        entity: str | None = None,
        since: datetime | None = None,
        before: str | None,
        limit: int,
    ) -> Page[IncidentRow]:
        """Return incidents, those that opened last first.

        Args:
            is_open: Only those that are open, or only those that have ended.
            blueprint: With `entity`: only this entity's.
            entity: See `blueprint`.
            since: Only those that were open at or after this time, UTC.
            before: A page's `next`.
            limit: How many at the most.
        """
        ...

    async def told_since(self, since: datetime, limit: int) -> list[Notification]:
        """Return what was decided to be told since a time, UTC, once for each change and rule, oldest first.

        Reminders are no news, and are left out; of more than `limit` the oldest are.
        """
        ...

    async def counts(self, since: datetime) -> Counts:
        """Return counts of the time since then, UTC."""
        ...

    async def choices(self) -> Choices:
        """Return what there is to filter by, in the order of the alphabet."""
        ...

    async def newest(self) -> tuple[int, ...]:
        """Return numbers that grow whenever there is something new to see; cheap enough for every second."""
        ...

    async def quarantine(self, *, before: str | None, limit: int) -> Page[QuarantineRow]:
        """Return what is in quarantine."""
        ...

    async def quarantined(self, number: int) -> QuarantineRow | None:
        """Return one body that is in quarantine, whole."""
        ...

    async def note(self, entry: AuditRow) -> int:
        """Write down what somebody did, which is on disk on return; return the entry's number."""
        ...

    async def noted(self, number: int) -> AuditRow | None:
        """Return one entry of what was done."""
        ...

    async def audit(self, *, before: str | None, limit: int) -> Page[AuditRow]:
        """Return what was done."""
        ...
