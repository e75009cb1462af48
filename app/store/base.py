"""What every store does."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from app.model.delivery import State
from app.model.report import Fate
from app.model.silence import Silence
from app.store.reconciling import Reconciling
from app.store.rows import (
    Accepted,
    Attempt,
    Claim,
    Delivery,
    Incoming,
    Quarantined,
    QueueState,
    StoredChange,
    Tally,
    Waiting,
)
from app.store.views import Views

CLAIMED_AT_MOST = 50
"""So many deliveries come with a claim; more are read page by page, while others can write."""


class Store(Protocol):
    """A durable outbox. Every method raises `StoreUnavailable` when the store cannot do it now."""

    @property
    def views(self) -> Views:
        """What people look at."""
        ...

    @property
    def reconciling(self) -> Reconciling:
        """What the comparison with Port keeps."""
        ...

    def time(self, own: datetime) -> datetime:
        """Return the time by the clock that all who share the store go by.

        Args:
            own: The time by this machine's clock, UTC.
        """
        ...

    def on_new(self, wake: Callable[[], None]) -> None:
        """Call `wake` when another process has stored something to deliver, if the store can hear of it."""
        ...

    async def accept(self, batch: Sequence[Incoming]) -> list[Accepted]:
        """Store changes with what they lead to, in one transaction that is on disk on return.

        For each: a change that was seen before is left as it is; else the entity's state is looked up,
        `decide` is called, and the change, its alerts, its incidents and what is known of the entity from now
        on are written. A change whose decision is `overtaken` is not stored; one whose `decide` raises
        fails alone, with that error.

        A report is stored with its change, or with the one that was there, once for each run.
        """
        ...

    async def quarantine(
        self, body: bytes, *, signed_at: datetime, received_at: datetime, path: str, reason: str
    ) -> None:
        """Keep a signed body that could not be read; the same body is kept once."""
        ...

    async def quarantined(self) -> list[Quarantined]:
        """Return what is in quarantine, oldest first."""
        ...

    async def leave_quarantine(self, ids: Sequence[int]) -> None:
        """Remove what has been replayed."""
        ...

    async def claim(
        self, *, token: str, now: datetime, lease_until: datetime, limit: int, at_once: Mapping[str, int]
    ) -> list[Claim]:
        """Take the lease of queues that may send now and have something to send.

        Silences that have ended are settled first: of what they kept back, the last alert of each incident
        that is still open is due again, as a reminder.

        Args:
            token: A text that no other dispatcher has.
            now: The time, UTC.
            lease_until: When the leases end, UTC.
            limit: How many queues at the most.
            at_once: How many deliveries each destination takes at once; one that is not named: 1. Of those
                `CLAIMED_AT_MOST` come with the claim, and the rest by `waiting`.
        """
        ...

    async def waiting(self, claim: Claim, *, after: int, limit: int) -> list[Waiting]:
        """Return further deliveries that wait in a claimed queue for its destination, in order.

        Args:
            claim: The queue.
            after: Those with a greater number than this.
            limit: How many at the most.
        """
        ...

    async def body(self, change_key: str) -> bytes | None:
        """Return the signed bytes of a change; None if it is not there any more."""
        ...

    async def record(self, claim: Claim, attempt: Attempt) -> bool:
        """Write what an attempt came to and give the lease back; False if the lease was lost before.

        The messages of the incidents that were told of, other than the attempt's own, are to be changed:
        a delivery for each is put into a queue of its own, ``<queue>/updates``.

        Runs that wait for a report are told, by a further one, once nothing of their change waits any more.
        """
        ...

    async def fate(self, run: str) -> Fate | None:
        """Return what became of the change that a run has brought; None if nothing is known of the run."""
        ...

    async def release(self, claim: Claim, *, unsure: bool = False) -> None:
        """Give the lease back without an attempt; `unsure`: something may have been sent all the same."""
        ...

    async def probe_on_hold(self, now: datetime) -> None:
        """Let every queue that is on hold try at once."""
        ...

    async def queues(self, now: datetime) -> list[QueueState]:
        """Return how every queue is, by name."""
        ...

    async def tally(self, now: datetime) -> Tally:
        """Return the numbers that are watched; it must be quick however much there is."""
        ...

    async def release_hold(self, destination: str, now: datetime) -> int:
        """Let the queues of a destination that are on hold send at once; return how many there were."""
        ...

    async def add_silence(self, silence: Silence) -> int:
        """Add a silence, and return its number."""
        ...

    async def silences(self, *, active_at: datetime | None) -> list[Silence]:
        """Return the silences that have not ended at a time, UTC, or all there are, newest first."""
        ...

    async def end_silence(self, number: int, now: datetime) -> bool:
        """Let a silence end now, UTC; False if there is none of this number that has not ended."""
        ...

    async def retry(
        self,
        *,
        now: datetime,
        ids: Sequence[int] | None = None,
        rule: str | None = None,
        destination: str | None = None,
        since: datetime | None = None,
    ) -> int:
        """Make dead deliveries pending again and let their queues try at once; return how many.

        Args:
            now: The time, UTC; patience counts from here again.
            ids: Which deliveries, waiting ones too; None for those that are dead.
            rule: Only those of this rule.
            destination: Only those for this destination.
            since: Only those that died from this time on, UTC.
        """
        ...

    async def deliveries(self, *, state: State | None, limit: int) -> list[Delivery]:
        """Return deliveries, newest first."""
        ...

    async def count(self) -> dict[State, int]:
        """Return how many deliveries stand where."""
        ...

    async def last_at(self, blueprint: str, entity: str) -> datetime | None:
        """Return when the newest change of an entity that was seen so far happened, UTC; None if none was."""
        ...

    async def history(self, *, since: datetime, after: int, limit: int) -> list[tuple[int, datetime, bytes]]:
        """Return stored changes in the order in which they came: number, time of arrival, signed bytes.

        Args:
            since: Those that arrived from this time on, UTC.
            after: Those with a greater number than this.
            limit: How many at the most.
        """
        ...

    async def told(self, since: datetime) -> dict[tuple[str, str], int]:
        """Return how many alerts were stored since a time, UTC, by rule and destination."""
        ...

    async def prune(self, *, before: datetime, limit: int) -> int:
        """Delete what arrived before a time, but nothing that is pending or open; return how many rows.

        Args:
            before: The time, UTC.
            limit: How many changes, incidents and bodies in quarantine each at the most, so that no
                transaction is long. Until 0 is returned there may be more.
        """
        ...

    async def changes(
        self, *, since: datetime, blueprint: str | None, after: StoredChange | None, limit: int
    ) -> list[StoredChange]:
        """Return changes in the order in which they arrived; none if there are no more.

        Args:
            since: Those that arrived from this time on, UTC.
            blueprint: Only of this blueprint; None for all.
            after: Those behind this one, to go on where the last call ended.
            limit: How many at the most; fewer where their bodies are long, so that memory stays small.
        """
        ...

    async def check(self, now: datetime) -> None:
        """Prove that the store can write."""
        ...

    async def close(self) -> None:
        """Finish what is queued, and close."""
        ...
