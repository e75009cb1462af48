"""What every notifier does, and what several of them need."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from urllib.parse import quote

from app.alerts.notification import Notification

SEND_TIMEOUT = timedelta(seconds=10)

MARKS = {"Healthy": "🟢", "Degraded": "🟠", "Crashed": "🔴", "Restarting": "🟡"}
"""The blueprint's enum colours."""
NEUTRAL_MARK = "⚪"


class Notifier(Protocol):
    """Delivers to one destination.

    Attributes:
        pause: How long its lanes rest after each message.
    """

    pause: timedelta

    async def send(self, notification: Notification, *, delivery_id: str, event: Mapping[str, Any]) -> str:
        """Deliver, and return what the destination answered, for a person.

        Args:
            notification: What to say.
            delivery_id: The same for every try of the same delivery, and for no other.
            event: Port's own event.

        Raises:
            DeliveryFailed: The destination did not take it.
        """
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


def mark(status: str) -> str:
    """Return the mark for a status, a neutral one where it is not one of the blueprint's."""
    return MARKS.get(status, NEUTRAL_MARK)


def entity_url(app_url: str, blueprint: str, entity: str) -> str:
    """Return the address of an entity's page in Port's app at `app_url`."""
    return f"{app_url.rstrip('/')}/{quote(blueprint, safe='')}Entity?identifier={quote(entity, safe='')}"


def words(name: str) -> str:
    """Return a property's name as words: ``newRelicUrl`` → ``New Relic``."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[_-]+", " ", name)
    spaced = re.sub(r" ?\b(url|link)$", "", spaced, flags=re.IGNORECASE) or spaced
    return spaced[:1].upper() + spaced[1:]


def duration(span: timedelta) -> str:
    """Return a span as people say it: ``40 s``, ``12 min``, ``3 h 5 min``, ``2 d 4 h``."""
    seconds = max(0, int(span.total_seconds()))
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
