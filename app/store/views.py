"""What people read: rows for the page, the API and the commands. Times are UTC."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from app.model.delivery import Outcome, State
from app.model.incident import Incident
from app.model.notification import Notification

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class StoredChange:
    """A change as it is kept. Times are UTC.

    Attributes:
        id: Its number, in the order of arrival.
        key: The same for the same change, however often it arrives.
        received_at: When it arrived.
        at: When it happened, by the event itself.
        action: What happened: ``UPDATE``, say.
        resource: The kind of thing that changed: ``entity`` mostly.
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
class Delivery:
    """A delivery as people look at it. Times are UTC.

    Attributes:
        id: Its number.
        change_id: The number of its change.
        change_key: The key of its change.
        incident_id: The incident that it belongs to.
        queue: The queue it waits or waited in.
        destination: The destination's name.
        state: Where it stands.
        notification: What it says.
        created_at: When it was stored.
        ended_at: When it was delivered or given up; None while it waits.
        attempts: How often it was tried.
        detail: How the last attempt ended, or why the queue is on hold; empty: there is nothing to say.
        next_at: When it may be sent; None unless it waits.
    """

    id: int
    change_id: int
    change_key: str
    incident_id: str | None
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
class DeliveryAttempt:
    """One try of a delivery. Times are UTC."""

    outcome: Outcome
    detail: str
    started_at: datetime
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class IncidentRow:
    """An incident, its last notification, if there was one, where it escalates to, and when, UTC, and what
    it is quiet because of: ``cluster eu-1, rule cluster-health``."""

    incident: Incident
    last: Notification | None
    cause: str = ""
    escalations: tuple[tuple[str, datetime], ...] = ()


@dataclass(frozen=True, slots=True)
class Quarantined:
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
class AuditEntry:
    """What somebody did.

    Attributes:
        at: When, UTC.
        who: The name that was given at the sign-in, or ``API``.
        what: The action's name: ``retry``, ``silence``.
        details: On what, and its result, as a sentence.
        id: Its number; 0: it is not stored yet.
    """

    at: datetime
    who: str
    what: str
    details: str
    id: int = 0


@dataclass(frozen=True, slots=True)
class Page(Generic[_T]):
    """Some rows of a list.

    Attributes:
        rows: The rows, in the list's order.
        next: Where the next page begins; None: this is the last one.
        searched_to: How far back the search went when it stopped, because what fits is rare; None: it found
            as many as were wanted, or there is nothing older.
    """

    rows: Sequence[_T]
    next: str | None = None
    searched_to: datetime | None = None


QUIET = "none"
"""In place of a delivery's state: changes that led to no alert."""


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
class IncidentFilter:
    """Which incidents to list; `text` is a part of the entity's name, `top`: no other stands for them."""

    severity: str | None = None
    blueprint: str | None = None
    entity: str | None = None
    rule: str | None = None
    team: str | None = None
    text: str | None = None
    ids: Sequence[str] | None = None
    top: bool = False
    acknowledged: bool | None = None


@dataclass(frozen=True, slots=True)
class Choices:
    """The values that changes and incidents can be filtered by."""

    blueprints: Sequence[str]
    teams: Sequence[str]
    rules: Sequence[str]


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts since a time, and of now.

    Attributes:
        changes: How many changes came.
        ended: How many alerts ended, by where they stand.
        pending: How many alerts wait now, in queues on hold too.
        dead: How many deliveries are dead, whenever they died.
        open: How many incidents are open.
        quarantined: How many bodies are in quarantine.
    """

    changes: int
    ended: Mapping[State, int]
    pending: int
    dead: int
    open: int
    quarantined: int


@dataclass(frozen=True, slots=True)
class Tally:
    """Numbers for monitoring.

    Attributes:
        incidents: How many are open, by rule and severity.
        acknowledged: How many of these somebody looks after.
        dead: How many deliveries are dead, and are kept.
        silences: How many silences are active.
        schema: The number of the schema.
    """

    incidents: Mapping[tuple[str, str], int]
    acknowledged: int
    dead: int
    silences: int
    schema: int

    @property
    def by_severity(self) -> Counter[str]:
        """How many incidents are open, by severity."""
        by_rule = (Counter({severity: number}) for (_, severity), number in self.incidents.items())
        return sum(by_rule, Counter[str]())


@dataclass(frozen=True, slots=True)
class ReconcileProgress:
    """How far a reconcile run is.

    Attributes:
        entities: How many entities it has compared.
        recorded: Of how many it recorded the state for the first time, which alerts nobody.
        differences: How many differ from their last known state.
        missed: For how many of these Port should have called us.
    """

    entities: int = 0
    recorded: int = 0
    differences: int = 0
    missed: int = 0


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A reconcile run. Times are UTC.

    Attributes:
        id: Its number.
        reason: Why it was made: ``start``, ``interval``, ``rules`` or ``command``.
        started_at: When it began.
        lease_until: If it has not ended by then, its process has.
        ended_at: When it ended; None: it has not, or nobody knows.
        progress: What it found.
        error: Why it failed; empty: it did not.
    """

    id: int
    reason: str
    started_at: datetime
    lease_until: datetime
    ended_at: datetime | None
    progress: ReconcileProgress
    error: str
