"""What the API under /api/v1 answers and takes."""

from datetime import datetime, timedelta
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from app.model.delivery import Outcome, State
from app.model.incident import Severity
from app.model.notification import Notification
from app.model.silence import ANY
from app.model.silence import Silence as OneSilence
from app.store.rows import QueueState
from app.store.views import AttemptRow, AuditRow, DeliveryRow, IncidentRow, QuarantineRow
from app.web.show import ChangeShown

T = TypeVar("T")


class _Read(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class Listed(BaseModel, Generic[T]):
    """A page of a list."""

    items: list[T]
    next: str | None = None
    """Give it as `before` to get what follows; null: this was the last page. What is in it may change."""


class Problem(BaseModel):
    """Why it was not done."""

    detail: str


class Value(_Read):
    """A value before and after, as text."""

    name: str
    before: str
    after: str


class Change(BaseModel):
    """A change as it came, and what was decided."""

    id: int
    key: str
    received_at: datetime
    at: datetime
    action: str
    resource: str
    blueprint: str
    entity: str
    title: str
    teams: list[str]
    actor: str
    origin: str
    values: list[Value]
    """What changed; in a list the first few."""
    values_left_out: int
    reason: str
    """Why it alerted, or why not."""
    alerts: int

    @classmethod
    def of(cls, shown: ChangeShown) -> Self:
        """Return a change as the API shows it."""
        row = shown.row
        return cls(
            id=row.id,
            key=row.key,
            received_at=row.received_at,
            at=row.at,
            action=row.action,
            resource=row.resource,
            blueprint=row.blueprint,
            entity=row.entity,
            title=shown.title,
            teams=list(row.teams),
            actor=shown.actor,
            origin=shown.origin,
            values=[Value.model_validate(one) for one in shown.differences],
            values_left_out=shown.left_out,
            reason=row.reason,
            alerts=row.alerts,
        )


class Changes(Listed[Change]):
    """A page of changes."""

    searched_to: datetime | None = None
    """The search went back to this time and has not found as many as it may: go on with `next`."""


class Try(_Read):
    """One try of a delivery."""

    outcome: Outcome
    detail: str
    started_at: datetime
    ended_at: datetime


class Delivery(BaseModel):
    """An alert for one destination, and every try to deliver it."""

    id: int
    change: int
    """The number of its change."""
    incident: str | None
    queue: str
    destination: str
    state: State
    detail: str
    created_at: datetime
    ended_at: datetime | None
    next_at: datetime | None
    notification: Notification
    attempts: list[Try]

    @classmethod
    def of(cls, row: DeliveryRow, attempts: list[AttemptRow]) -> Self:
        """Return a delivery as the API shows it, with those of the attempts that are its own."""
        one = row.delivery
        return cls(
            id=one.id,
            change=row.change_id,
            incident=row.incident_id,
            queue=one.queue,
            destination=one.destination,
            state=one.state,
            detail=one.detail,
            created_at=one.created_at,
            ended_at=one.ended_at,
            next_at=one.next_at,
            notification=one.notification,
            attempts=[Try.model_validate(each) for each in attempts if each.delivery_id == one.id],
        )


class Incident(_Read):
    """What a rule knows to be wrong with an entity."""

    id: str
    rule: str
    blueprint: str
    entity: str
    title: str = ""
    state: str
    severity: Severity
    opened_at: datetime
    changed_at: datetime
    resolved_at: datetime | None
    flapping: bool

    @classmethod
    def of(cls, row: IncidentRow) -> Self:
        """Return an incident as the API shows it."""
        shown = cls.model_validate(row.incident)
        return shown.model_copy(update={"title": row.last.title if row.last else row.incident.entity})


class Silence(_Read):
    """What nobody is to hear of for a while."""

    id: int
    rule: str
    blueprint: str
    entity: str
    team: str
    starts_at: datetime
    ends_at: datetime
    author: str
    comment: str
    silenced: int
    """How many alerts it has kept back."""

    @classmethod
    def of(cls, one: OneSilence) -> Self:
        """Return a silence as the API shows it."""
        return cls.model_validate(one)


class NewSilence(BaseModel):
    """A silence from now on. At least one of the four patterns is needed: `*`, `?` and `[…]` match."""

    model_config = ConfigDict(extra="forbid")

    rule: str = ANY
    blueprint: str = ANY
    entity: str = ANY
    team: str = ANY
    comment: Annotated[str, Field(min_length=1, max_length=500)]
    ends_at: AwareDatetime | None = None
    seconds: Annotated[int, Field(gt=0, le=366 * 86400)] | None = None
    """In place of `ends_at`: for how long."""

    @model_validator(mode="after")
    def _one_end(self) -> Self:
        if (self.ends_at is None) == (self.seconds is None):
            raise ValueError("give either ends_at or seconds")
        return self

    def end(self, now: datetime) -> datetime:
        """Return when it ends."""
        return self.ends_at or now + timedelta(seconds=self.seconds or 0)


class Queue(_Read):
    """The queue of one channel."""

    name: str
    destination: str
    waiting: int
    oldest_at: datetime | None
    on_hold: str | None
    """Why it is on hold; null if it is not."""
    failures: int
    next_at: datetime
    delivered_at: datetime | None

    @classmethod
    def of(cls, one: QueueState) -> Self:
        """Return a queue as the API shows it."""
        return cls.model_validate(one)


class Quarantined(BaseModel):
    """A signed body that could not be read."""

    id: int
    signed_at: datetime
    received_at: datetime
    path: str
    """The field at fault, dotted; empty for the whole body."""
    reason: str
    size: int
    """In bytes."""
    body: str
    """Its first 2,000 bytes."""

    @classmethod
    def of(cls, row: QuarantineRow) -> Self:
        """Return a body as the API shows it."""
        fields: dict[str, Any] = {name: getattr(row, name) for name in cls.model_fields if name != "body"}
        return cls(**fields, body=row.body.decode("utf-8", "replace"))


class Entry(_Read):
    """What somebody did."""

    id: int
    at: datetime
    who: str
    what: str
    details: str

    @classmethod
    def of(cls, row: AuditRow) -> Self:
        """Return an entry of the trail as the API shows it."""
        return cls.model_validate(row)


class Did(BaseModel):
    """It was done, and is in the audit trail."""

    done: str
    audit: int
    """The number of the trail's entry."""
    id: int = 0
    """The number of what was made, if anything was."""


IncidentState = Literal["open", "resolved"]
