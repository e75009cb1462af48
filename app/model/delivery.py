"""An alert, and the states of its delivery."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from app.model.immutable import immutable
from app.model.incident import Route
from app.model.notification import Notification


@immutable(frozen=True, slots=True)
class Alert:
    """One notification for one destination.

    Attributes:
        destination: The destination's name.
        queue: The queue it waits in.
        notification: Its content.
        incident_id: The incident it belongs to, if any.
        due_at: Not before this time; None: now.
        repeat: The time after which to repeat it, as long as the incident is open.
    """

    destination: str
    queue: str
    notification: Notification
    incident_id: str | None = None
    due_at: datetime | None = None
    repeat: timedelta | None = None

    @classmethod
    def to(cls, route: Route, notification: Notification, *more: Any) -> "Alert":
        """Make the alert for a route, which says why it goes there, and whether hours keep it back."""
        if route.why or route.at_any_time:
            facts = {"instead": route.why or notification.instead, "at_any_time": route.at_any_time}
            notification = notification.but(**facts)
        return cls(route.destination, route.queue, notification, *more)


class Outcome(StrEnum):
    """The outcome of an attempt to deliver."""

    DELIVERED = "delivered"
    RETRY = "retry"
    """The queue waits, then tries the same delivery."""
    ON_HOLD = "on_hold"
    """The queue is on hold, and probed with the same delivery."""
    DEAD = "dead"
    """The delivery is given up; the queue goes on."""
    SILENCED = "silenced"
    """A silence suppresses the delivery; the queue goes on."""


class State(StrEnum):
    """Where a delivery stands. Pending in a queue on hold is shown as on hold."""

    PENDING = "pending"
    ON_HOLD = "on_hold"
    DEAD = "dead"
    DELIVERED = "delivered"
    CANCELLED = "cancelled"
    """It was due later, and by then there was no reason for it any more."""
    SILENCED = "silenced"
    """A silence suppressed it; it is sent when that ends, if its incident is still open then."""
