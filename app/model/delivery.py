"""An alert, and what becomes of it as a delivery."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from app.model.notification import Notification


@dataclass(frozen=True, slots=True)
class Alert:
    """One notification for one destination.

    Attributes:
        destination: The destination's name.
        lane: The lane it waits in.
        notification: What to say.
        incident_id: The incident it belongs to, if any.
        due_at: Not before this time; None: now.
        repeat: How long after it to say it again, as long as the incident is open.
    """

    destination: str
    lane: str
    notification: Notification
    incident_id: str | None = None
    due_at: datetime | None = None
    repeat: timedelta | None = None


class Outcome(StrEnum):
    """What an attempt to deliver came to."""

    DELIVERED = "delivered"
    RETRY = "retry"
    """The lane waits, then tries the same delivery."""
    HELD = "held"
    """The lane is held, and probed with the same delivery."""
    DEAD = "dead"
    """The delivery is given up; the lane goes on."""
    SILENCED = "silenced"
    """A silence keeps the delivery back; the lane goes on."""


class State(StrEnum):
    """Where a delivery stands. Pending in a held lane is shown as held."""

    PENDING = "pending"
    HELD = "held"
    DEAD = "dead"
    DELIVERED = "delivered"
    CANCELLED = "cancelled"
    """It was to be told later, and then there was nothing to tell any more."""
    SILENCED = "silenced"
    """A silence kept it back; it is told when that ends, if its incident is still open then."""
