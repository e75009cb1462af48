"""Working hours: when they are, by the clock of a place."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from app.model.notification import Notification

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
DAYS_OF_A_WEEK = 7


@dataclass(frozen=True, slots=True)
class Week:
    """The hours of a week.

    Attributes:
        days: The days on which they begin; Monday is 0.
        begin: When they begin, by the clock of the place.
        end: When they end there: the next day, if that is not later than `begin`.
        zone: The place's time zone.
        free: The dates, there, on which they do not begin.
    """

    days: frozenset[int]
    begin: time
    end: time
    zone: ZoneInfo
    free: frozenset[date] = frozenset()

    def holds(self, now: datetime) -> bool:
        """Tell whether a time, UTC, is within them."""
        return any(begin <= now < end for begin, end in self._spans(now, days=2))

    def next_begin(self, now: datetime) -> datetime:
        """Give when, after a time, UTC, they begin next."""
        days = DAYS_OF_A_WEEK * (len(self.free) + 2)
        return min(begin for begin, _ in self._spans(now, days=days) if begin > now)

    def _spans(self, now: datetime, *, days: int) -> Iterator[tuple[datetime, datetime]]:
        """Yield when they begin and end, UTC, on so many days from the day before a time on."""
        first = now.astimezone(self.zone).date() - DAY
        for day in (first + number * DAY for number in range(days + 1)):
            if day.weekday() in self.days and day not in self.free:
                last = day if self.begin < self.end else day + DAY
                # What the clock shows twice begins at the first time and ends at the second.
                begin, end = self._utc(day, self.begin, fold=0), self._utc(last, self.end, fold=1)
                if begin < end:  # else they lie in the hour that a clock leaves out
                    yield begin, end

    def _utc(self, day: date, at: time, *, fold: int) -> datetime:
        shown = datetime.combine(day, at)
        utc = shown.replace(fold=fold, tzinfo=self.zone).astimezone(UTC)
        if (
            utc.astimezone(self.zone).replace(tzinfo=None) != shown
        ):  # the clock leaves it out: where it goes on
            utc = shown.replace(fold=1, tzinfo=self.zone).astimezone(UTC)  # before that
            while utc.astimezone(self.zone).replace(tzinfo=None) < shown:
                utc += MINUTE
        return utc


def held(hours: str, said: Notification, since: datetime | None = None) -> Notification:
    """Let an alert that hours of a name held say from when it is, UTC; None: from its own time."""
    return said.but(was_quiet=f"it is from {since or said.at:%a %H:%M} UTC, outside of hours {hours}")
