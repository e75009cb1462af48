"""How long it is usually quiet between two changes, and whether it is longer now."""

from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta
from statistics import median

SHORTEST = timedelta(minutes=1)
TIMES_THE_USUAL = 10
REMEMBERED = 100
NEEDED = 20  # with fewer nobody knows what is usual


class Gaps:
    """Notices that changes may have been lost.

    Usual is the median of the last hundred gaps between two changes; ten times that, and a minute at least,
    is longer than usual.

    Args:
        clock: Gives the time, UTC.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._gaps: deque[float] = deque(maxlen=REMEMBERED)
        self._last: datetime | None = None
        self._told = False
        self._refused = False

    def heard(self) -> None:
        """A change has come."""
        now = self._clock()
        if self._last is not None:
            self._gaps.append((now - self._last).total_seconds())
        self._last, self._told = now, False

    def refused(self) -> None:
        """A change came and could not be stored: Port was answered 503, and does not send it again."""
        self._refused = True

    def reason(self) -> str | None:
        """Return why changes may have been lost since this was asked last, if they may: each silence once."""
        if self._refused:
            self._refused = False
            return "refused"
        if self._last is None or self._told or len(self._gaps) < NEEDED:
            return None
        longer = max(SHORTEST, timedelta(seconds=TIMES_THE_USUAL * median(self._gaps)))
        self._told = self._clock() - self._last > longer
        return "gap" if self._told else None
