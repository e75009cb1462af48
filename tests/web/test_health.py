"""What needs attention is said in the same words wherever people look."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from app.model.delivery import Outcome
from app.store import queries
from app.store.queue_state import QueueState
from app.store.sqlite.database import open_sqlite
from app.web.health import check_readiness
from tests.conftest import NOW
from tests.store.helpers import SECOND, attempt, claim, incoming

QUIET = QueueState("payments", "payments", 0, None, None, 0, NOW, None)
WAITS = replace(QUIET, waiting=2, oldest_at=NOW - timedelta(seconds=46))
HELD = replace(QUIET, waiting=2, oldest_at=NOW, on_hold="404 no_service")
JUST_NOW = "1 delivery waits since 2026-06-09 12:28:20 UTC, because "
SINCE = "2 deliveries wait since 2026-06-09 12:27:34 UTC, because "


@pytest.mark.parametrize(
    ("queue", "said"),
    [
        (QUIET, None),
        (replace(WAITS, oldest_at=NOW - timedelta(seconds=45)), None),
        (WAITS, f"{SINCE}no process delivers it: is one running that does (`serve`, or `dispatch`)?"),
        (replace(WAITS, sending=True), f"{SINCE}the destination is slow: one is being sent now"),
        (
            replace(WAITS, next_at=NOW + SECOND, detail="429", failures=0),
            f"{SINCE}the last try failed (429); the next try is at 12:28:21 UTC",
        ),
        # It has only just failed, but is to come back in 50 minutes: nobody needs to wait a minute for that.
        (
            replace(WAITS, waiting=1, oldest_at=NOW, next_at=NOW + timedelta(minutes=50), detail="429"),
            f"{JUST_NOW}the last try failed (429); the next try is at 13:18:20 UTC",
        ),
        (replace(QUIET, next_at=NOW + timedelta(minutes=50)), None),
        (replace(HELD, waiting=0), "is on hold: 404 no_service"),
        (replace(HELD, untold=2), "is on hold: 404 no_service; nobody was told of 2 alerts that wait"),
        (replace(HELD, told=("ops",)), "is on hold: 404 no_service; ops got alerts that wait here"),
    ],
)
def test_trouble_of_a_queue(queue: QueueState, said: str | None) -> None:
    """A queue that is on hold, or in which something waits for long, says so with the reason."""
    assert queue.trouble(NOW) == said


async def test_nobody_delivers(tmp_path: Path) -> None:
    """Where changes are only taken in, what waits for 45 s is a warning; what is delivered is none."""
    store = open_sqlite(tmp_path / "listener.db")
    await store.accept([incoming()])
    assert (await check_readiness(store, None, [], NOW + 45 * SECOND)).warnings == []
    health = await check_readiness(store, None, [], NOW + 100 * SECOND)
    assert health.status == "ok"
    (warning,) = health.warnings
    assert warning.startswith(f"queue default: {JUST_NOW}no process delivers it")
    claimed = await claim(store, second=100)
    (queue,) = await store.read(queries.page.queues, NOW + 101 * SECOND)
    assert queue.sending
    await store.record(claimed, attempt(Outcome.DELIVERED, second=101))
    assert (await check_readiness(store, None, [], NOW + 999 * SECOND)).warnings == []
    await store.close()
