"""Keeps deleting what is old, for as long as the listener runs."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta

import structlog

from app.errors import StoreUnavailable
from app.store.store import Store

log = structlog.get_logger(__name__)

EVERY = timedelta(hours=1)
PRUNED_ROWS = 200  # of each table at once: 50 ms with a million changes, for which requests wait
PAUSE = timedelta(milliseconds=50)  # lets the requests through


async def keep_pruned(store: Store, retention: timedelta, clock: Callable[[], datetime]) -> None:
    """Delete what is older than `retention` at once, and again every hour, in small steps, until cancelled.

    Args:
        store: The store.
        retention: How long to keep what is neither pending nor open.
        clock: Gives the time, UTC.
    """
    total = 0
    while True:
        pruned = 0
        with suppress(StoreUnavailable):  # the next round is soon enough
            pruned = await store.prune(before=clock() - retention, limit=PRUNED_ROWS)
        total += pruned
        if pruned:
            await asyncio.sleep(PAUSE.total_seconds())
            continue
        if total:
            log.info("store_pruned", rows=total)
            total = 0
        await asyncio.sleep(EVERY.total_seconds())
