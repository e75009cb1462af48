"""A storm: hundreds of entities fail at once, and the channel stays readable."""

import asyncio
import itertools
import os
import tracemalloc
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from starlette.responses import PlainTextResponse

from app.deliver.dispatcher import Dispatcher
from app.deliver.turn import Sender
from app.demo.run import serving
from app.demo.stand_in_slack import StandInSlack
from app.model.delivery import State
from app.model.times import EPOCH
from app.notifier.base import Item, Parcel
from app.notifier.slack.webhook import SlackWebhook
from app.store import queries
from app.store.rows import Claim, Waiting
from app.store.sqlite.database import open_sqlite
from tests.acceptance.process import listening, post_change
from tests.conftest import NO_TLS, NOW
from tests.deliver.helpers import Clock
from tests.notifier.slack.limits import assert_no_markup_of_others, assert_within_slacks_limits
from tests.store.helpers import incoming
from tests.told import entities
from tests.waiting import until

CHANGES = 500
SECONDS = int(os.environ.get("STORM_SECONDS", "10"))


@pytest.mark.acceptance
async def test_a_storm_makes_a_handful_of_messages(tmp_path: Path) -> None:
    """With a Slack that takes one message a second: 20 at the most, every entity told, in half a minute."""
    slack = StandInSlack(one_a_second=True)
    async with (
        serving(slack.app) as address,
        listening(tmp_path, f"{address}/services/very-secret-token", rate=1) as listener,
        httpx.AsyncClient(base_url=listener.url, timeout=30, verify=NO_TLS) as client,
    ):
        started = asyncio.get_running_loop().time()
        for number in range(CHANGES):
            after = ("Degraded", "Crashed", "Restarting")[number % 3]
            assert (await post_change(client, f"entity-{number}", after)).status_code == 202
            pause = started + (number + 1) * SECONDS / CHANGES - asyncio.get_running_loop().time()
            await asyncio.sleep(max(0.0, pause))
        lasted = asyncio.get_running_loop().time() - started
        await until(lambda: len(entities(slack.messages)) >= CHANGES, 30)
    assert sorted(entities(slack.messages)) == sorted(f"entity-{number}" for number in range(CHANGES))
    assert len(slack.messages) <= 20 * max(1, lasted / SECONDS)  # a busy machine takes longer to send them
    assert slack.refused <= 1  # never twice in a row
    assert len(entities(slack.messages[:1])) == 1  # the first did not wait for others
    for message in slack.messages:
        assert_within_slacks_limits(message)
        assert_no_markup_of_others(message)


async def prepare(_: Claim, deliveries: Sequence[Waiting]) -> Parcel:
    """Say what was decided."""
    return Parcel(tuple(Item(one.key, one.notification) for one in deliveries))


async def test_thousands_that_waited_for_an_hour(tmp_path: Path, slack: StandInSlack) -> None:
    """Slack is away for an hour; then a handful of messages tells of all, and memory stays flat."""
    clock, tokens = Clock(), itertools.count()
    store = open_sqlite(tmp_path / "listener.db")
    notifier = SlackWebhook(slack.url, "https://app.port.io", pause=timedelta(0))
    sender = Sender(store, {"default": notifier}, prepare=prepare, clock=clock, jitter=lambda: 0.0)
    dispatcher = Dispatcher(store, sender, clock=clock, new_token=lambda: f"token-{next(tokens)}")
    for first in range(0, 4_000, 500):
        await store.accept([incoming(entity=f"e{number}") for number in range(first, first + 500)])
    slack.answers.append(PlainTextResponse("rollup_error", 503))
    running = asyncio.create_task(dispatcher.run())

    async def has_failed() -> bool:
        return [queue.failures for queue in await store.read(queries.page.queues, NOW)] == [1]

    await until(has_failed)
    tracemalloc.start()
    clock.now = NOW + timedelta(hours=1)
    dispatcher.wake()

    async def all_told() -> bool:
        return (await store.read(queries.counts.overview, EPOCH)).ended[State.DELIVERED] == 4_000

    await until(all_told, 60)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    await dispatcher.stop(5)
    await running
    await notifier.close()
    await store.close()
    assert len(slack.messages) <= 5
    assert "4,000" in slack.messages[0]["text"]
    assert "and 3," in str(slack.messages[0])
    assert peak < 50e6
    for message in slack.messages:
        assert_within_slacks_limits(message)
