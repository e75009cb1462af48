"""A channel does not wait for the lease of a process that was killed; it does for one that is frozen."""

import asyncio
import os
import random
import signal
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.deliver.dispatcher import QUEUE_LEASE
from app.model.delivery import State
from app.store import queries
from app.store.rows import Claim
from app.store.sqlite.database import open_sqlite
from app.store.store import Store
from tests.acceptance.dispatching import start_dispatcher
from tests.store.helpers import incoming
from tests.waiting import until

pytestmark = pytest.mark.acceptance

KILLS = 20


async def add(store: Store, entity: str) -> None:
    """Store an alert that is due now."""
    await store.accept([replace(incoming(entity=entity), received_at=datetime.now(UTC))])


async def take(store: Store, after: timedelta) -> list[Claim]:
    """Claim what is due some time from now."""
    now = datetime.now(UTC) + after
    return await store.claim(token="a", now=now, lease_until=now + QUEUE_LEASE, limit=9, batch_limits={})


@pytest.mark.parametrize("processes", [1, 2])
async def test_twenty_kills(tmp_path: Path, processes: int) -> None:
    """Killed and started again twenty times under load, nothing is lost, and nothing waits for a lease."""
    database, sent = tmp_path / "listener.db", tmp_path / "sent"
    store, randomness, entities = open_sqlite(database), random.Random(4711), list[str]()
    running = [start_dispatcher(database, sent) for _ in range(processes)]
    for _ in range(KILLS):
        for _ in range(5):
            entities.append(f"entity-{len(entities)}")
            await add(store, entities[-1])
            await asyncio.sleep(randomness.random() * 0.1)
        victim = running.pop(0)
        victim.kill()
        await asyncio.to_thread(victim.join)
        running.append(start_dispatcher(database, sent))

    async def all_delivered() -> bool:
        return (await store.read(queries.counts.by_state))[State.DELIVERED] == len(entities)

    await until(all_delivered)
    for process in running:
        process.kill()
    assert set(sent.read_text().split()) == set(entities)
    rows = (await store.read(queries.page.deliveries, state=None, limit=1000)).rows
    # On an idle machine the longest is below 2 s.
    assert max(row.ended_at - row.created_at for row in rows if row.ended_at) < QUEUE_LEASE / 2
    await store.close()


async def test_a_frozen_process_keeps_its_queues(tmp_path: Path) -> None:
    """While it is frozen nobody else sends; once it is killed another does, though not at once."""
    database, sent = tmp_path / "listener.db", tmp_path / "sent"
    store = open_sqlite(database)
    await add(store, "one")
    process = start_dispatcher(database, sent, seconds=60)
    await until(sent.exists)
    await until(lambda: "one" in sent.read_text())
    assert process.pid
    os.kill(process.pid, signal.SIGSTOP)
    assert await take(store, timedelta(seconds=2)) == []
    process.kill()
    await asyncio.to_thread(process.join)
    assert await take(store, timedelta(seconds=-2)) == []
    (claim,) = await take(store, timedelta(seconds=2))
    assert claim.unsure_since
    await store.close()
