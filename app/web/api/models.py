"""What the API under /api/v1 answers (``…Out``) and takes (``…In``)."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
)

from app.model.delivery import Outcome, State
from app.model.notification import Notification
from app.store.views import Delivery, DeliveryAttempt, StoredRun

_T = TypeVar("_T")

IncidentState = Literal["open", "resolved"]


FIRST_TIME, LAST_TIME = (datetime(year, 1, 1, tzinfo=UTC) for year in (1970, 9000))


def within_reach(time: datetime) -> datetime:
    """Limit a time, so that arithmetic on it cannot overflow."""
    return min(max(time, FIRST_TIME), LAST_TIME)


Time = Annotated[AwareDatetime, AfterValidator(within_reach)]


class Answer(BaseModel):
    """An answer, made by `model_validate` from an object whose attributes have the fields' names."""

    model_config = ConfigDict(from_attributes=True)


def attributes_of(row: Any) -> dict[str, Any]:
    """Return a dataclass's attributes by name, not copied as `asdict` does."""
    return {field.name: getattr(row, field.name) for field in fields(row)}


class PageOut(Answer, Generic[_T]):
    """A page of a list."""

    items: list[_T]
    next: str | None = None
    """Give it as `before` to get what follows; null: this was the last page. Its format may change."""


class ProblemOut(Answer):
    """Why it was not done."""

    detail: str


class ActionOut(Answer):
    """It was done, and is in the audit trail."""

    done: str
    audit: int
    """The number of the trail's entry."""
    id: int = 0
    """The number of what was made, if anything was."""


class ValueOut(Answer):
    """A value before and after, as text."""

    name: str
    before: str
    after: str


class ChangeOut(Answer):
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
    values: list[ValueOut]
    """What changed; in a list the first few."""
    values_left_out: int
    reason: str
    """Why it alerted, or why not."""
    alerts: int
    reconciled: bool = Field(default=False, exclude=True)
    """Whether it was found by reconciling; for the page only."""


class ChangesOut(PageOut[ChangeOut]):
    """A page of changes."""

    searched_to: datetime | None = None
    """The search went back to this time and found fewer than `limit`: go on with `next`."""


class AttemptOut(Answer):
    """One attempt of a delivery."""

    outcome: Outcome
    detail: str
    started_at: datetime
    ended_at: datetime


class DeliveryOut(Answer):
    """An alert for one destination, and every attempt to deliver it."""

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
    attempts: list[AttemptOut]

    @classmethod
    def of(cls, row: Delivery, attempts: Mapping[int, list[DeliveryAttempt]]) -> Self:
        """Make the answer from a delivery and the attempts, by the deliveries' numbers."""
        more = {"change": row.change_id, "incident": row.incident_id, "attempts": attempts.get(row.id, [])}
        return cls.model_validate(attributes_of(row) | more)


class RetryIn(BaseModel):
    """Which dead deliveries to try again; each field that is given narrows it down."""

    model_config = ConfigDict(extra="forbid")

    rule: Annotated[str, Field(min_length=1)] | None = None
    destination: Annotated[str, Field(min_length=1)] | None = None
    since: Time | None = None
    """Those that died at or after this time."""


class QueueOut(Answer):
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


class ReconcileRunOut(Answer):
    """One comparison of Port's entities with their last known state."""

    id: int
    reason: str
    started_at: datetime
    ended_at: datetime | None
    entities: int
    recorded: int
    """Entities whose state was recorded for the first time."""
    differences: int
    missed: int
    """Differences of which Port should have called the listener."""
    error: str

    @classmethod
    def of(cls, run: StoredRun) -> Self:
        """Make the answer from a run and its progress."""
        return cls.model_validate(attributes_of(run) | asdict(run.progress))


class ReconciliationOut(Answer):
    """How reconciling with Port goes."""

    off: str
    """Why nothing is reconciled; empty: it is."""
    last: ReconcileRunOut | None
    running: ReconcileRunOut | None
    error: str
    """Why the last run failed; empty: it did not."""
    next_at: datetime | None


def _as_text(body: bytes | str) -> str:
    return body if isinstance(body, str) else body.decode("utf-8", "replace")


class QuarantineOut(Answer):
    """A signed body that could not be read."""

    id: int
    signed_at: datetime
    received_at: datetime
    path: str
    """The field at fault, dotted; empty for the whole body."""
    reason: str
    size: int
    """In bytes."""
    body: Annotated[str, BeforeValidator(_as_text)]
    """In a list its first 2,000 bytes; those that are not UTF-8 are replaced."""


class AuditOut(Answer):
    """An entry of the audit trail."""

    id: int
    at: datetime
    who: str
    what: str
    details: str
