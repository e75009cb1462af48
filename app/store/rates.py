"""The rates of destinations, over all their queues and all processes: when each may send next."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from app.model.times import MICRO, Micros, to_micros
from app.store.rows import Claim
from app.store.transaction import Transaction


class Slots:
    """When destinations may send, as long as a claim lasts.

    Args:
        spacings: The least time between two messages, by destination; of others nothing is limited.
        now: The time, UTC.
    """

    def __init__(self, spacings: Mapping[str, timedelta], now: datetime) -> None:
        self._spacings = {name: spacing // MICRO for name, spacing in spacings.items() if spacing}
        self._now = to_micros(now)
        self._next: dict[str, Micros] | None = None

    async def take(self, tx: Transaction, destination: str) -> Micros | None:
        """Take the right to send to a destination now; None: it is taken, else when the next one is."""
        spacing = self._spacings.get(destination)
        if spacing is None:
            return None
        if self._next is None:
            self._next = await self._lock(tx)
        following = Micros(self._now + spacing)
        # One that another process has just locked is its own; one later than a spacing from now was taken
        # before the clock was set back.
        next_at = self._next.get(destination, following)
        if self._now < next_at <= following:
            return next_at
        self._next[destination] = following
        await tx.execute("UPDATE rates SET next_at = $1 WHERE destination = $2", following, destination)
        return None

    async def _lock(self, tx: Transaction) -> dict[str, Micros]:
        """Lock the destinations' rows, as far as nobody else has, without waiting for anybody."""
        names = sorted(self._spacings)
        found = await tx.fetch("SELECT destination FROM rates WHERE destination = ANY($1)", names)
        if missing := sorted({*names} - {name for (name,) in found}):
            await tx.execute_many(
                "INSERT INTO rates (destination) VALUES ($1) ON CONFLICT (destination) DO NOTHING",
                [(name,) for name in missing],
            )
        rows = await tx.fetch(
            "SELECT destination, next_at FROM rates WHERE destination = ANY($1)"
            " ORDER BY destination FOR UPDATE SKIP LOCKED",
            names,
        )
        return {name: Micros(next_at) for name, next_at in rows}


async def give_back(tx: Transaction, claim: Claim) -> None:
    """Let the other queues of a claim's destination send, since nothing was sent from this one."""
    times = to_micros(claim.claimed_at), to_micros(claim.claimed_at + claim.spacing)
    free = "UPDATE rates SET next_at = $1 WHERE destination = $3 AND next_at = $2 RETURNING true"
    if await tx.fetch_value(free, *times, claim.destination):
        await tx.execute("UPDATE queues SET next_at = $1 WHERE next_at = $2 AND holder IS NULL", *times)
