"""How the listener is, in a few numbers: for the command and the API."""

from datetime import datetime

from app import __version__
from app.model.incident import RANKS, Severity
from app.reconcile.health import MAX_RUNS
from app.store import queries
from app.store.store import Store
from app.web.api.models import Answer
from app.web.health import Health


class StatusOut(Answer):
    """How the listener is, and what needs attention."""

    status: str
    """`ok`, or `unavailable`."""
    version: str
    open: dict[Severity, int]
    """Open incidents by severity, the worst first."""
    acknowledged: int
    """Open incidents that somebody has acknowledged."""
    on_hold: list[str]
    """The queues that are on hold."""
    dead: int
    """Deliveries that were given up."""
    waiting: int
    """Deliveries that wait in queues."""
    silences: int
    """Silences that are active."""
    reconciled_at: datetime | None
    """When Port was last compared with the last known state."""
    reasons: list[str]
    """What keeps the listener from working."""
    warnings: list[str]
    """What needs attention, though it works."""


async def read_status(store: Store, health: Health, now: datetime) -> StatusOut:
    """Count what is open, on hold, dead, waiting and silenced at a time, UTC, and add it to the health."""
    tally = await store.read(queries.counts.tally, now)
    queues = await store.read(queries.page.queues, now)
    runs = await store.read(queries.reconcile.runs, limit=MAX_RUNS)
    ended = next((run for run in runs if run.ended_at is not None), None)
    warnings = list(health.warnings)
    if tally.dead:
        are = "delivery is" if tally.dead == 1 else "deliveries are"
        warnings.append(f"{tally.dead:,} {are} dead: python -m app deliveries --state dead")
    if ended and ended.error:
        warnings.append(f"reconciling failed: {ended.error}")
    return StatusOut(
        status=health.status,
        version=__version__,
        open={
            severity: tally.by_severity[severity]
            for severity in sorted(RANKS, key=lambda known: -RANKS[known])
        },
        acknowledged=tally.acknowledged,
        on_hold=[queue.name for queue in queues if queue.on_hold is not None],
        dead=tally.dead,
        waiting=sum(queue.waiting for queue in queues),
        silences=tally.silences,
        reconciled_at=ended and ended.ended_at,
        reasons=health.reasons,
        warnings=warnings,
    )
