"""Times as the store and the last known state keep them: whole microseconds since 1970, UTC.

A whole number compares and sorts alike in Python, SQLite and PostgreSQL, and no time zone is lost on the way.
"""

import math
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import NewType

import orjson

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICRO = timedelta(microseconds=1)
DATES_AGREE = timedelta(minutes=1)
MAX_RETRY_AFTER_SECONDS = 1e9  # what is longer is nonsense, and would overflow a timedelta

NO_TIMES = "[]"
"""As most lists of times are: to parse it would take longest."""
Micros = NewType("Micros", int)
"""A moment: microseconds since 1970, UTC."""


@lru_cache(maxsize=1024)  # a change has some of its times five times
def to_micros(time: datetime) -> Micros:
    """Convert an aware time into microseconds since 1970."""
    return Micros((time - EPOCH) // MICRO)


def from_micros(micros: int) -> datetime:
    """Convert microseconds since 1970 into an aware time, UTC."""
    return EPOCH + micros * MICRO  # timedelta(microseconds=…) takes six times as long


def micros_or_none(time: datetime | None) -> Micros | None:
    """Convert a time that may be missing."""
    return None if time is None else to_micros(time)


def time_or_none(micros: int | None) -> datetime | None:
    """Convert microseconds that may be missing."""
    return None if micros is None else from_micros(micros)


def times_json(times: tuple[datetime, ...]) -> str:
    """Write times as JSON: a list of microseconds."""
    return orjson.dumps([to_micros(time) for time in times]).decode() if times else NO_TIMES


def times_of(text: str) -> tuple[datetime, ...]:
    """Read times from JSON."""
    return () if text == NO_TIMES else tuple(map(from_micros, orjson.loads(text)))


def clock_ahead(date: str | None, now: datetime) -> timedelta:
    """Tell by how much a clock is ahead of another machine's, by the ``Date`` of its answer.

    Less than a minute, or no date that can be read, counts as nothing: the answer took time, and the header
    has whole seconds (https://www.rfc-editor.org/rfc/rfc9110#section-6.6.1).
    """
    try:
        theirs = parsedate_to_datetime(date or "")
    except (ValueError, OverflowError):
        return timedelta(0)
    ahead = now - (theirs if theirs.tzinfo else theirs.replace(tzinfo=UTC))
    return ahead if abs(ahead) >= DATES_AGREE else timedelta(0)


def parse_retry_after(text: str | None, now: datetime) -> timedelta | None:
    """Parse a ``Retry-After`` header, seconds or an HTTP date, into a time to wait; None if it is neither.

    Rules: https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3; parts of a second are taken too.
    """
    try:
        seconds = float(text or "")
    except ValueError:
        try:
            date = parsedate_to_datetime(text or "")
        except (ValueError, OverflowError):
            return None
        return max(timedelta(0), (date if date.tzinfo else date.replace(tzinfo=UTC)) - now)
    usable = math.isfinite(seconds) and 0 <= seconds < MAX_RETRY_AFTER_SECONDS
    return timedelta(seconds=seconds) if usable else None
