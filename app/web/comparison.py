"""How the comparison with Port is: the last run, what it found, and when the next is due."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Self

from pydantic import BaseModel

from app.store.reconciling import Run

RUNS = 10


@dataclass(frozen=True, slots=True)
class ComparisonShown:
    """How the comparison with Port is. Times are UTC.

    Attributes:
        off: Why nothing is compared; empty: it is.
        last: The last run that came to its end.
        running: The one that is under way.
        error: Why the last run failed; empty: it did not.
        next_at: When the next one is due; None: nobody knows, or it is under way.
    """

    off: str
    last: Run | None
    running: Run | None
    error: str
    next_at: datetime | None


def show_comparison(
    runs: Sequence[Run], *, off: str | None, every: timedelta, now: datetime
) -> ComparisonShown:
    """Return how the comparison with Port is.

    Args:
        runs: The last runs, newest first.
        off: Why nothing is compared; None: it is.
        every: How often it is made.
        now: The time, UTC.
    """
    running = next((one for one in runs[:1] if one.ended_at is None and one.lease_until > now), None)
    ended = [one for one in runs if one.ended_at is not None]
    last = next((one for one in ended if not one.error), None)
    error = ended[0].error if ended else ""
    next_at = None
    if last is not None and last.ended_at and not off and not running and not error:
        next_at = last.ended_at + every
    return ComparisonShown(off or "", last, running, error, next_at)


class ComparisonRun(BaseModel):
    """A comparison of Port's entities with their last known state."""

    id: int
    reason: str
    started_at: datetime
    ended_at: datetime | None
    entities: int
    learned: int
    differences: int
    missed: int
    """Differences of which Port should have called the listener."""
    error: str

    @classmethod
    def of(cls, run: Run) -> Self:
        """Return a run as the API shows it."""
        fields = {name: getattr(run, name) for name in ("id", "reason", "started_at", "ended_at", "error")}
        return cls(**fields, **asdict(run.progress))


class Comparison(BaseModel):
    """How the comparison with Port is."""

    off: str
    """Why nothing is compared; empty: it is."""
    last: ComparisonRun | None
    running: ComparisonRun | None
    error: str
    """Why the last run failed; empty: it did not."""
    next_at: datetime | None

    @classmethod
    def of(cls, shown: ComparisonShown) -> Self:
        """Return it as the API shows it."""
        last, running = (one and ComparisonRun.of(one) for one in (shown.last, shown.running))
        return cls(off=shown.off, last=last, running=running, error=shown.error, next_at=shown.next_at)
