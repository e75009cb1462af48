"""Keeps deleting what is old, for as long as the listener runs."""

import asyncio
from contextlib import suppress
from datetime import timedelta

import structlog

from app.errors import StoreUnavailable
from app.store.queries.prune import cutoff
from app.store.store import Store

log = structlog.get_logger(__name__)

EVERY = timedelta(hours=1)
PRUNED_ROWS = 200  # of each table at once: 50 ms with a million changes, for which requests wait
PAUSE = timedelta(milliseconds=50)  # lets the requests through
FIRST_SHARE = timedelta(days=1)
"""How much history a start deletes at most, so that a clock that is wrong at the start costs no more."""
HOURLY_SHARE = 2 * EVERY  # so that what is left over from a long stop goes, too


async def keep_pruned(store: Store, retention: timedelta) -> None:
    """Delete what is older than `retention` at once, and again every hour, in small steps, until cancelled.

    Args:
        store: The store.
        retention: How long to keep what is neither pending nor open.
    """
    share = FIRST_SHARE
    while True:
        total = 0
        with suppress(StoreUnavailable):  # the next round is soon enough
            before = await store.write(cutoff, retention, store.clock(), share)
            share = HOURLY_SHARE
            while pruned := await store.prune(before=before, limit=PRUNED_ROWS):
                total += pruned
                await asyncio.sleep(PAUSE.total_seconds())
        if total:
            log.info("store_pruned", rows=total)
        await asyncio.sleep(EVERY.total_seconds())
