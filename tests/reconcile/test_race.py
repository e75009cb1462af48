"""A webhook and a comparison of the same change, at random moments: never two alerts, never none."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from random import Random

import pytest

from app.demo.run import change_body
from app.model.change import RECONCILE
from tests.conftest import DATABASES, Start
from tests.port.stand_in_port import CLIENT_ID, StandInPort
from tests.reconcile.watching import Watching, watching
from tests.waiting import until

ENTITIES = 200
AT_ONCE = 20


@pytest.fixture
async def other(database: str, port: StandInPort, tmp_path: Path) -> AsyncIterator[Watching]:
    """A listener of its own on the same store, by the clock on the wall: it compares."""
    async with watching(database, port, tmp_path) as one:
        one.clock.on_the_wall = True
        yield one


@DATABASES
async def test_at_random_moments(start: Start, other: Watching, tmp_path: Path) -> None:
    """Each change alerts once, whether its webhook comes before, after or never."""
    random = Random(4711)
    names = [f"e{number:04}" for number in range(ENTITIES)]
    for name in names:
        other.set(name, "Healthy")
    assert await other.look() == []
    changed = asyncio.Event()
    looks = 0

    def seen_after(number: int) -> bool:
        return looks > number

    async def happen(mine: list[str], lost: set[str]) -> None:
        for name in mine:
            await asyncio.sleep(random.uniform(0, 0.05))
            at = datetime.now(UTC)
            other.set(name, "Degraded")
            if name in lost:
                continue
            await asyncio.sleep(random.choice((0, 0, 0.01, 0.2, 0.6)) * random.random())
            if name in held_up:
                await until(partial(seen_after, looks + 1))  # what has begun already may have passed it
            body = change_body(
                before="Healthy", after="Degraded", at=at, entity=name, title=name, team="Rocket"
            )
            assert (await service.post(body)).status_code == 202

    async def compare() -> None:
        nonlocal looks
        while not changed.is_set():
            await other.look()
            looks += 1
            await asyncio.sleep(random.uniform(0, 0.05))

    async with start(
        rules_file=tmp_path / "rules.yaml", port_client_id=CLIENT_ID, reconcile_minutes=0
    ) as service:
        lost, held_up = set(random.sample(names, 20)), set(random.sample(names, 40))
        comparing = asyncio.create_task(compare())
        await asyncio.gather(*(happen(names[number::AT_ONCE], lost) for number in range(AT_ONCE)))
        changed.set()
        await comparing
        await asyncio.sleep(1.1)  # what came just before the last look is judged by the next
        await other.look()
    deliveries = await other.alerts()
    told = Counter(
        (one.notification.entity, one.notification.change and one.notification.change.after)
        for one in deliveries
    )
    assert told == Counter((name, "Degraded") for name in names)
    origins = Counter(one.notification.origin for one in deliveries)
    assert len(lost) < origins[RECONCILE] < ENTITIES, "both ways must have been first"
