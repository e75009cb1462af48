"""The rate of a destination: over all its queues, and over all processes that share the store."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from zlib import crc32

import pytest

from app.model.delivery import Outcome, State
from app.store import queries
from app.store.rows import Attempt, Claim, Incoming
from app.store.store import Store
from tests.conftest import NOW, count
from tests.store.helpers import LEASE, incoming

CRASHES, QUEUES = 80, 8
SPACING = timedelta(seconds=60) / 120


def to_pager(entity: str) -> Incoming:
    """A crash whose alert is for one of the queues of a pager."""
    one = incoming(after="Crashed", entity=entity)

    def decide(state: object) -> object:
        decision = one.decide(state)  # type: ignore[arg-type]
        alerts = (
            replace(alert, destination="pager", queue=f"pager/{crc32(entity.encode()) % QUEUES}")
            for alert in decision.alerts
        )
        return replace(decision, alerts=tuple(alerts))

    return replace(one, decide=decide)  # type: ignore[arg-type]


async def claim(store: Store, token: str, now: datetime, limit: int = 64) -> list[Claim]:
    """Claim what may go out at a time."""
    return await store.claim(
        token=token,
        now=now,
        lease_until=now + LEASE,
        limit=limit,
        batch_limits={"pager": 1},
        spacings={"pager": SPACING},
    )


async def test_two_replicas_stay_within_the_rate(store: Store) -> None:
    """However many alerts wait in however many queues, and nothing is left out or starved."""
    await store.accept([to_pager(f"entity-{number}") for number in range(CRASHES)])
    now, sent = NOW, list[tuple[datetime, str]]()
    while len(sent) < CRASHES:
        replicas = await asyncio.gather(claim(store, "a", now), claim(store, "b", now))
        for one in [one for claims in replicas for one in claims]:
            sent.append((now, one.queue))
            rested = now + SPACING  # as the sender has it
            done = Attempt(Outcome.DELIVERED, "ok", now, now, rested, delivery_ids=[one.deliveries[0].id])
            assert await store.record(one, done)
        due = await store.read(queries.queues.next_due, now)
        now = max(now + SPACING / 5, min(due or now, now + SPACING))
    assert await count(store, State.DELIVERED) == CRASHES
    times = [at for at, _ in sent]
    assert all(later - earlier >= SPACING for earlier, later in pairwise(times))
    assert times[-1] - times[0] < CRASHES * SPACING * 1.5
    # Who waits longest goes first, in whatever queue.
    assert {queue for _, queue in sent[: 3 * QUEUES]} == {f"pager/{number}" for number in range(QUEUES)}


@pytest.mark.parametrize("set_by", [timedelta(hours=-1), timedelta(hours=1)])
async def test_a_clock_that_was_set_stops_nobody(store: Store, set_by: timedelta) -> None:
    """A slot that lies further ahead than one spacing was taken by another clock."""
    await store.accept([to_pager("one"), to_pager("two")])
    (first,) = await claim(store, "a", NOW, limit=1)
    assert await store.record(first, Attempt(Outcome.DELIVERED, "ok", NOW, NOW, NOW))
    await store.accept([to_pager("three")])
    assert len(await claim(store, "a", NOW + set_by)) == 1


async def test_others_are_not_limited(store: Store) -> None:
    """Without a rate nothing is written or waited for."""
    await store.accept([to_pager(f"entity-{number}") for number in range(30)])
    claims = await store.claim(
        token="a", now=NOW, lease_until=NOW + LEASE, limit=64, batch_limits={"pager": 1}
    )
    assert len(claims) == QUEUES
    assert await store.read(lambda tx: tx.fetch("SELECT * FROM rates")) == []


async def test_a_claim_leaves_others_rates_alone(store: Store) -> None:
    """It locks what it sends to, and no destination that another process may claim meanwhile."""
    await store.accept([to_pager("one")])
    claims = await store.claim(
        token="a",
        now=NOW,
        lease_until=NOW + LEASE,
        limit=64,
        batch_limits={"pager": 1},
        spacings={"pager": SPACING, "ops": SPACING},
    )
    assert len(claims) == 1
    rows = await store.read(lambda tx: tx.fetch("SELECT destination FROM rates"))
    assert [name for (name,) in rows] == ["pager"]


async def test_what_is_silenced_takes_no_slot(store: Store) -> None:
    """The next queue of the destination may send at once, whether it waited since this claim or comes now."""
    await store.accept([to_pager(f"entity-{number}") for number in range(CRASHES)])
    (first,) = await claim(store, "a", NOW)
    assert await claim(store, "b", NOW) == []
    assert await store.record(first, Attempt(Outcome.SILENCED, "", NOW, NOW, NOW, delivery_ids=()))
    (second,) = await claim(store, "b", NOW)
    await store.give_back(second)
    (third,) = await claim(store, "a", NOW)
    await store.give_back(third, unsure=True)
    assert await claim(store, "b", NOW + SPACING / 2) == []
