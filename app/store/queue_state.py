"""How a queue is, and what of it people must know."""

from dataclasses import dataclass
from datetime import datetime, timedelta

WAITS_LONG = timedelta(seconds=45)
"""What could go and has waited longer is told everywhere."""


@dataclass(frozen=True, slots=True)
class QueueState:
    """How a queue is. Times are UTC.

    Attributes:
        name: The queue's name.
        destination: The destination's name.
        waiting: How many deliveries wait in it and could go now.
        oldest_at: Since when the first of them waits; None if none does.
        on_hold: Why it is on hold; None if it is not.
        failures: Transient failures in a row so far.
        next_at: When it may send again.
        delivered_at: When something was delivered last; None if nothing was.
        detail: What was answered last to the first that waits; empty: it was not tried.
        sending: A process holds it now.
        told: On hold: the destinations that got alerts which wait here.
        untold: On hold: how many of the alerts that wait nobody has got.
    """

    name: str
    destination: str
    waiting: int
    oldest_at: datetime | None
    on_hold: str | None
    failures: int
    next_at: datetime
    delivered_at: datetime | None
    detail: str = ""
    sending: bool = False
    told: tuple[str, ...] = ()
    untold: int = 0

    def trouble(self, now: datetime) -> str | None:
        """Say what is wrong with it at a time, UTC, in words that follow its name; None: nothing is."""
        if self.on_hold is not None:
            return "; ".join((f"is on hold: {self.on_hold}", *self._who_was_told()))
        if self.oldest_at is None or max(now - self.oldest_at, self.next_at - now) <= WAITS_LONG:
            return None
        waits = "1 delivery waits" if self.waiting == 1 else f"{self.waiting:,} deliveries wait"
        return f"{waits} since {self.oldest_at:%Y-%m-%d %H:%M:%S} UTC, because {self._why(now)}"

    def _who_was_told(self) -> list[str]:
        told = [f"{', '.join(self.told)} got alerts that wait here"] if self.told else []
        if self.untold:
            alerts = "1 alert that waits" if self.untold == 1 else f"{self.untold:,} alerts that wait"
            told.append(f"nobody was told of {alerts}")
        return told

    def _why(self, now: datetime) -> str:
        if self.next_at > now:
            again = f"the next try is at {self.next_at:%H:%M:%S} UTC"
            return f"the last try failed ({self.detail}); {again}" if self.detail else again
        if self.sending:
            return "the destination is slow: one is being sent now"
        return "no process delivers it: is one running that does (`serve`, or `dispatch`)?"
