"""Reconcile runs: one process of all makes each, by a lease."""

from datetime import datetime

from app.model.times import MICRO, from_micros, micros_or_none, time_or_none, to_micros
from app.store import leases
from app.store.queries.queues import CLOCKS_DIFFER
from app.store.transaction import Transaction
from app.store.views import ReconcileProgress, StoredRun

RUN = "id, reason, started_at, lease_until, ended_at, entities, recorded, differences, missed, error"
AHEAD = CLOCKS_DIFFER // MICRO
"""A run that began so much later than now was begun before the clock was set back: it hinders nobody."""


async def begin(
    tx: Transaction, *, reason: str, token: str, now: datetime, lease_until: datetime, since: datetime | None
) -> int | None:
    """Begin a run, and give its number; None: one is under way, or there was one.

    Args:
        tx: The transaction.
        reason: Why it is made.
        token: A text that no other process has.
        now: The time, UTC.
        lease_until: When the lease ends, UTC, if it is not kept.
        since: Not if a run that did not fail has begun after this time, UTC; None: at any rate.
    """
    await tx.lock([("reconcile",)])
    at, lease = to_micros(now), to_micros(lease_until)
    rows = await tx.fetch(
        "SELECT token FROM reconcile_runs WHERE ended_at IS NULL AND lease_until > $1 AND lease_until <= $2",
        at,
        lease + AHEAD,
    )
    holders = {holder for (holder,) in rows}
    under_way = holders - await leases.absent(tx, holders, now)
    before = await tx.fetch_value(
        "SELECT 1 FROM reconcile_runs WHERE started_at > $1 AND started_at <= $2"
        " AND ended_at IS NOT NULL AND error = ''",
        micros_or_none(since),  # null is greater than nothing
        at + AHEAD,
    )
    if under_way or before:
        return None
    number: int = await tx.fetch_value(
        "INSERT INTO reconcile_runs (reason, token, started_at, lease_until) VALUES ($1, $2, $3, $4)"
        " RETURNING id",
        reason,
        token,
        at,
        lease,
    )
    return number


async def keep(
    tx: Transaction, run: int, *, token: str, lease_until: datetime, progress: ReconcileProgress
) -> bool:
    """Prolong a run's lease and write how far it is; False: another process has taken over."""
    kept = await tx.fetch_value(
        "UPDATE reconcile_runs SET lease_until = $1, entities = $2, recorded = $3, differences = $4,"
        "  missed = $5 WHERE id = $6 AND token = $7 AND ended_at IS NULL"
        " AND NOT EXISTS (SELECT 1 FROM reconcile_runs AS later WHERE later.id > reconcile_runs.id)"
        " RETURNING id",
        to_micros(lease_until),
        *_numbers(progress),
        run,
        token,
    )
    return kept is not None


async def end(
    tx: Transaction, run: int, *, token: str, now: datetime, progress: ReconcileProgress, error: str = ""
) -> None:
    """Write how a run ended; `error`: why it failed."""
    await tx.execute(
        "UPDATE reconcile_runs SET ended_at = $1, error = $2, entities = $3, recorded = $4,"
        " differences = $5, missed = $6 WHERE id = $7 AND token = $8",
        to_micros(now),
        error,
        *_numbers(progress),
        run,
        token,
    )


async def runs(tx: Transaction, *, limit: int) -> list[StoredRun]:
    """Read runs, newest first."""
    rows = await tx.fetch(f"SELECT {RUN} FROM reconcile_runs ORDER BY id DESC LIMIT $1", limit)
    return [
        StoredRun(
            id_,
            reason,
            from_micros(started_at),
            from_micros(lease_until),
            time_or_none(ended_at),
            ReconcileProgress(*numbers),
            error,
        )
        for id_, reason, started_at, lease_until, ended_at, *numbers, error in rows
    ]


async def baselines(tx: Transaction) -> frozenset[str]:
    """Read the blueprints of which every entity's state was recorded once: what is not known since is new."""
    return frozenset(blueprint for (blueprint,) in await tx.fetch("SELECT blueprint FROM baselines"))


async def mark_baseline(tx: Transaction, blueprint: str) -> None:
    """Note that every entity's state of a blueprint was recorded."""
    await tx.execute("INSERT INTO baselines (blueprint) VALUES ($1) ON CONFLICT DO NOTHING", blueprint)


def _numbers(progress: ReconcileProgress) -> tuple[int, int, int, int]:
    return progress.entities, progress.recorded, progress.differences, progress.missed
