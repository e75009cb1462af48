"""Whether reconciling is on, and what the last runs show about the way of Port's webhooks."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from app.errors import ListenerError
from app.notifier.base import duration
from app.rules.rulebook import Rulebook
from app.store.views import StoredRun

START, INTERVAL, RULES, COMMAND = "start", "interval", "rules", "command"
"""Why a run is made."""
LOOKED_BACK = timedelta(days=1)
MAX_RUNS = 300
STRAY_CHANGES = 2
"""So many in a day may have been on their way just when Port was asked."""


def why_off(minutes: float, missing: str | None, book: Rulebook) -> str | None:
    """Give the reason why nothing is reconciled, and what to do about it; None: it is.

    Args:
        minutes: How often to reconcile; 0: never.
        missing: The setting that is missing for Port's API; None: none is.
        book: The rules.
    """
    if not minutes:
        return "RECONCILE_MINUTES is 0"
    if missing:
        return f"{missing} is not set, and it needs Port's API"
    if not book.watched:
        return "no rule names a blueprint: let `blueprint` of a rule (RULES_FILE) say which to compare"
    return None


def judge(runs: Sequence[StoredRun], now: datetime) -> str:
    """Sum up the last runs, which are given newest first, in a sentence.

    Raises:
        ListenerError: The last run failed, or Port's webhooks do not come: what is wrong, and what to do.
    """
    ended = [run for run in runs if run.ended_at is not None]
    if not ended:
        return "none was made yet: the listener makes the first when it starts"
    if ended[0].error:
        raise ListenerError(f"the last one failed: {ended[0].error}")
    # After a start some are expected: the listener was not there to receive them.
    usual = [run for run in ended if run.reason == INTERVAL and now - run.started_at < LOOKED_BACK]
    missed = sum(run.progress.missed for run in usual)
    if missed > STRAY_CHANGES:
        raise ListenerError(
            f"within a day {missed:,} changes were found by reconciling only: Port's webhooks do not come, or"
            " not all. Has each blueprint that a rule names an automation, and is it published (python -m app"
            " bootstrap --blueprint ID)? Look at the log, and at the proxies in front of the listener"
        )
    last = ended[0]
    ago = duration(now - (last.ended_at or now))
    return f"{ago} ago, {last.progress.entities:,} entities, {last.progress.differences:,} differences"
