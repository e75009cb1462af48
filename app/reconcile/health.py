"""Whether the comparison with Port is made, and what it says of the webhook's way."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from app.errors import ListenerError
from app.notifier.base import duration
from app.reconcile.schedule import INTERVAL
from app.store.reconciling import Run

LOOKED_BACK = timedelta(days=1)
RUNS = 300
STRAY = 2
"""So many in a day may have been on their way just when Port was asked."""


def judge(runs: Sequence[Run], now: datetime) -> str:
    """Return what the last runs say, in a sentence.

    Args:
        runs: The last runs, newest first.
        now: The time, UTC.

    Raises:
        ListenerError: The last run failed, or Port's webhooks do not come: what is wrong, and what to do.
    """
    ended = [one for one in runs if one.ended_at is not None]
    if not ended:
        return "none was made yet: the listener makes the first when it starts"
    if ended[0].error:
        raise ListenerError(f"the last one failed: {ended[0].error}")
    # Of a start one expects some: the listener was not there to hear.
    usual = [one for one in ended if one.reason == INTERVAL and now - one.started_at < LOOKED_BACK]
    missed = sum(one.progress.missed for one in usual)
    if missed > STRAY:
        raise ListenerError(
            f"within a day {missed:,} changes were found by comparison only: Port's webhooks do not come, or"
            " not all. Has each blueprint that a rule names an automation, and is it published (python -m app"
            " bootstrap --blueprint ID)? What does the log say, and what stands in front of the listener?"
        )
    last = ended[0]
    ago = duration(now - (last.ended_at or now))
    return f"{ago} ago, {last.progress.entities:,} entities, {last.progress.differences:,} differences"
