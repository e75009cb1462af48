"""Times as the store and the last known state keep them: whole microseconds since 1970, UTC.

A whole number compares and sorts alike in Python, SQLite and PostgreSQL, and no time zone is lost on the way.
"""

from datetime import UTC, datetime, timedelta
from typing import NewType

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICRO = timedelta(microseconds=1)

Micros = NewType("Micros", int)
"""A moment: microseconds since 1970, UTC."""


def to_micros(time: datetime) -> Micros:
    """Convert an aware time into microseconds since 1970."""
    return Micros((time - EPOCH) // MICRO)


def from_micros(micros: int) -> datetime:
    """Convert microseconds since 1970 into an aware time, UTC."""
    return EPOCH + timedelta(microseconds=micros)


def micros_or_none(time: datetime | None) -> Micros | None:
    """Convert a time that may be missing."""
    return None if time is None else to_micros(time)


def time_or_none(micros: int | None) -> datetime | None:
    """Convert microseconds that may be missing."""
    return None if micros is None else from_micros(micros)
