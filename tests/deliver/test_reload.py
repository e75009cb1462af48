"""The rules are read again while alerts are on their way: what is replaced ends well, and soon."""

import asyncio
import gc
import json
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import aiohttp
from starlette.responses import PlainTextResponse, Response

from app.demo.run import change_body
from app.demo.stand_in_slack import StandInSlack
from app.model.delivery import State
from app.runtime.listener import Runtime, open_runtime
from app.settings import Settings
from app.store import queries
from tests.told import entities
from tests.waiting import until

RELOADS = 20


def rules(slack: StandInSlack) -> str:
    """Return a rules file by which one rule tells two channels."""
    base = slack.url.rpartition("/")[0]
    destinations = {
        name: {"type": "slack", "webhook_url": f"{base}/{name}", "rate": 1000} for name in ("one", "two")
    }
    rule = {"name": "health", "when": {"property": "healthStatus"}, "send": [*destinations]}
    return json.dumps({"version": 1, "destinations": destinations, "rules": [rule]})


def open_sessions() -> int:
    """Return how many sessions are not closed yet."""
    gc.collect()
    return sum(isinstance(one, aiohttp.ClientSession) and not one.closed for one in gc.get_objects())


async def change(runtime: Runtime, entity: str) -> None:
    """Take a change, as after its signature was verified."""
    body = change_body(before="Healthy", after="Degraded", at=datetime.now(UTC), entity=entity)
    await runtime.receiver.accept(await runtime.receiver.verify(body, None))


def is_told(slack: StandInSlack, entity: str) -> bool:
    """Tell whether a channel has heard of an entity."""
    return entity in entities(slack.messages)


async def test_what_is_replaced_is_closed_after_its_last_send(tmp_path: Path, slack: StandInSlack) -> None:
    """Reload after reload leaves as few sessions as there are channels; a send under way ends well."""
    began, may_end = asyncio.Event(), asyncio.Event()

    async def slowly() -> Response:
        began.set()
        await may_end.wait()
        return PlainTextResponse("ok")

    slack.answers.append(slowly)
    file = tmp_path / "rules.json"
    file.write_text(rules(slack))
    settings = Settings(
        _env_file=None,
        accept_unsigned=True,
        rules_file=file,
        database_url=f"sqlite:///{tmp_path}/listener.db",
    )
    before = open_sessions()
    async with open_runtime(settings) as runtime:
        await change(runtime, "under-way")
        await began.wait()
        await until(lambda: entities(slack.messages) == ["under-way"])  # the other channel waits for nobody
        for number in range(RELOADS):
            await runtime.rules.reload()
            await change(runtime, f"entity-{number}")
            await until(partial(is_told, slack, f"entity-{number}"))
        # The first reading's two, since one of them is sending, and one of the last reading's.
        await until(lambda: open_sessions() - before <= 3)
        may_end.set()

        async def all_delivered() -> bool:
            return not (await runtime.store.read(queries.counts.by_state))[State.PENDING]

        await until(all_delivered)
        await until(lambda: open_sessions() - before <= 2)
        attempts = (await runtime.store.read(queries.page.deliveries, limit=2 * RELOADS + 2)).rows
        assert {one.state for one in attempts} == {State.DELIVERED}
        assert [one.attempts for one in attempts if one.notification.entity == "under-way"] == [1, 1]
    assert open_sessions() == before
