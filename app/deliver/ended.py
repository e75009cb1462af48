"""What came of an attempt, for the log and the metrics."""

from collections import Counter
from typing import Any

import structlog

from app.model.delivery import Outcome
from app.model.report import RUNS
from app.observe.watch import Watch
from app.store.rows import Attempt, Claim

log = structlog.get_logger(__name__)


def log_attempt(claim: Claim, attempt: Attempt) -> None:
    """Write in the log what came of an attempt that was recorded."""
    fields: dict[str, Any] = {
        "delivery": (attempt.delivery_ids or [claim.deliveries[0].id])[0],
        "deliveries": len(attempt.delivery_ids or ()),
        "queue": claim.queue,
        "destination": claim.destination,
        "detail": attempt.detail,
        "took_ms": round((attempt.ended_at - attempt.started_at).total_seconds() * 1000),
    }
    if attempt.asides:
        log.info("alerts_set_aside", queue=claim.queue, deliveries=len(attempt.asides))
    if attempt.outcome is Outcome.DELIVERED:
        changed = "run_reported" if claim.destination == RUNS else "message_updated"
        log.info("alert_delivered" if claim.alerts else changed, **fields)
    elif attempt.outcome is Outcome.RETRY:
        log.warning("delivery_failed", next_at=attempt.next_at.isoformat(), **fields)
    elif attempt.outcome is Outcome.DEAD:
        log.error("delivery_dead", **fields)
    elif attempt.outcome is Outcome.ON_HOLD and not claim.on_hold:
        log.error("queue_on_hold", **fields)
    elif attempt.outcome is Outcome.ON_HOLD:
        log.warning("queue_still_on_hold", next_at=attempt.next_at.isoformat(), **fields)
    if claim.on_hold and attempt.outcome in (Outcome.DELIVERED, Outcome.DEAD, Outcome.RETRY):
        log.warning("queue_released", queue=claim.queue, destination=claim.destination)


def count_attempt(claim: Claim, attempt: Attempt, watch: Watch) -> None:
    """Count what came of an attempt that was recorded."""
    destination = claim.destination
    for outcome, number in Counter(aside.outcome for aside in attempt.asides.values()).items():
        watch.delivered(destination, outcome, number)
    if attempt.outcome is Outcome.RETRY:
        watch.retried(destination)
    if not claim.alerts and attempt.outcome is Outcome.DELIVERED:
        watch.changed(destination)
        return
    if number := alerted(claim, attempt):
        watch.delivered(destination, attempt.outcome, number)
    if attempt.outcome is Outcome.DELIVERED:
        watch.sent(destination, [(attempt.ended_at - since).total_seconds() for since in attempt.since])


def alerted(claim: Claim, attempt: Attempt) -> int:
    """Count the deliveries that an attempt is about."""
    return len(claim.deliveries if attempt.delivery_ids is None else attempt.delivery_ids)
