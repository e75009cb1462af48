"""Working hours, by the clock of a place: over a year, with both days on which it is set."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from app.model.hours import Week

BERLIN = ZoneInfo("Europe/Berlin")
OFFICE = Week(frozenset(range(5)), time(9), time(18), BERLIN, frozenset({date(2026, 12, 25)}))
NIGHT = Week(frozenset({4, 5}), time(22), time(6), BERLIN)
ALWAYS = Week(frozenset(range(7)), time(0), time(0), BERLIN)
LATE = Week(frozenset({5}), time(22), time(2, 30), BERLIN)
GONE = Week(frozenset(range(7)), time(2, 10), time(2, 50), BERLIN)
EARLY = Week(frozenset(range(7)), time(2, 30), time(3, 30), BERLIN)


def utc(month: int, day: int, hour: int, minute: int = 0, second: int = 0, *, year: int = 2026) -> datetime:
    """A time, UTC."""
    return datetime(year, month, day, hour, minute, second, tzinfo=UTC)


@pytest.mark.parametrize(
    ("week", "now", "begins"),
    [
        (OFFICE, utc(3, 27, 17), utc(3, 30, 7)),  # a Friday evening in winter, the Monday after in summer
        (OFFICE, utc(10, 23, 16), utc(10, 26, 8)),
        (OFFICE, utc(12, 24, 17), utc(12, 28, 8)),  # the 25th is a Friday, and free
        (OFFICE, utc(3, 30, 6, 59, 59), utc(3, 30, 7)),
        (NIGHT, utc(3, 29, 4), utc(4, 3, 20)),  # Saturday's ends at six in summer
        (EARLY, utc(3, 28, 3), utc(3, 29, 1)),  # on the 29th there is no half past two: at three
        (EARLY, utc(3, 29, 1, 30), utc(3, 30, 0, 30)),
        (EARLY, utc(10, 24, 3), utc(10, 25, 0, 30)),  # there are two: the first
    ],
)
def test_when_they_begin(week: Week, now: datetime, begins: datetime) -> None:
    """At the time that the clock there shows, whatever it was set to meanwhile."""
    assert not week.holds(now)
    assert week.next_begin(now) == begins


@pytest.mark.parametrize(
    ("week", "now", "holds"),
    [
        (OFFICE, utc(3, 30, 7), True),
        (OFFICE, utc(3, 30, 15, 59, 59), True),
        (OFFICE, utc(3, 30, 16), False),
        (OFFICE, utc(12, 25, 10), False),
        (NIGHT, utc(3, 28, 21), True),
        (NIGHT, utc(3, 29, 3, 59), True),  # the night from Saturday on, an hour shorter
        (NIGHT, utc(10, 25, 4, 59), True),  # and an hour longer
        (NIGHT, utc(10, 25, 5), False),
        (NIGHT, utc(3, 30, 0), False),
        (ALWAYS, utc(3, 29, 1), True),
        (LATE, utc(3, 29, 0, 59, 59), True),  # to half past two, which that clock does not show
        (LATE, utc(3, 29, 1), False),
        (GONE, utc(3, 29, 1), False),
        (EARLY, utc(10, 25, 1, 29), True),
    ],
)
def test_whether_they_hold(week: Week, now: datetime, holds: bool) -> None:
    """From their first second to the last one before their end."""
    assert week.holds(now) is holds


@pytest.mark.parametrize("week", [OFFICE, NIGHT, EARLY, LATE, GONE])
def test_a_year(week: Week) -> None:
    """Whenever they do not hold, they begin at the first time after it at which they do."""
    now, step, waited = utc(1, 1, 0), timedelta(hours=7, minutes=13), 0
    while now < utc(1, 1, 0, year=2027):
        if not week.holds(now):
            begins = week.next_begin(now)
            assert week.holds(begins)
            assert not week.holds(begins - timedelta(seconds=1))
            waited += 1
        now += step
    assert waited > 300
