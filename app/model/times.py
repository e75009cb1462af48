"""Times as the store has them: whole microseconds since 1970, which compare and sort as the times do."""

from datetime import UTC, datetime, timedelta
from typing import NewType

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICRO = timedelta(microseconds=1)
Micros = NewType("Micros", int)


def to_micros(time: datetime) -> Micros:
    """Convert an aware time to whole microseconds since 1970."""
    return Micros((time - EPOCH) // MICRO)


def from_micros(micros: Micros) -> datetime:
    """Convert microseconds since 1970 to a time, UTC."""
    return EPOCH + micros * MICRO


def micros_or_none(time: datetime | None) -> Micros | None:
    """Convert a time, if there is one, to microseconds since 1970."""
    return None if time is None else to_micros(time)


def time_or_none(micros: Micros | None) -> datetime | None:
    """Convert microseconds since 1970, if there are any, to a time, UTC."""
    return None if micros is None else from_micros(micros)
