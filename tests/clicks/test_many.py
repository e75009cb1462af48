"""Ten people click at random, on two replicas, while Slack repeats, delays and loses what it sends."""

import asyncio
import random
import re
from collections import defaultdict
from typing import Any

import pytest

from app.store import queries
from app.store.transaction import Row, Transaction
from tests.clicks.conftest import CHANNEL, Run
from tests.clicks.test_clicks import labels, recorded, trail
from tests.clicks.workspace import Workspace
from tests.waiting import until

PEOPLE, CLICKS, INCIDENTS = 10, 20, 6


async def rows(tx: Transaction) -> list[Row]:
    """Read what was done, by the ids of the clicks."""
    return list(await tx.fetch("SELECT id, incident_id, what, result FROM actions"))


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
async def test_clicks_at_random(run: Run, workspace: Workspace) -> None:
    """One action each, the audit trail complete, and in the end the messages say what the store says."""
    chance = random.Random(7)
    channel = workspace.channel(CHANNEL).id
    clicked: set[str] = set()
    async with run({"rules": [RULE]}) as service, run({"rules": [RULE]}):
        await until(lambda: len(workspace.sockets) == 2)
        for number in range(INCIDENTS):
            await service.change("Healthy", "Degraded", entity=f"entity-{number}")
            await until(lambda: recorded(service))  # each is a message of its own, in no digest
        messages = [one for one in workspace.messages(CHANNEL) if "acknowledge" in labels(one)]

        async def person(name: str) -> None:
            for _ in range(CLICKS):
                message = chance.choice(messages)
                action = next(one for one in labels(message) if one.endswith("acknowledge"))
                payload = workspace.payload(message, action, channel=channel, by=name)
                clicked.add(payload["trigger_id"])
                workspace.copies = chance.choice((1, 1, 2))
                if chance.random() < 0.05 and len(workspace.sockets) == 2:
                    await chance.choice(workspace.sockets).close()
                while await workspace.send(payload, within=1) is None:
                    continue  # the person sees that it failed, and Slack sends it again
                await asyncio.sleep(chance.random() / 100)

        await asyncio.gather(*(person(f"U{number}") for number in range(PEOPLE)))
        done = await service.store.read(rows)
        open_now = (await service.store.read(queries.incidents.page, limit=100)).rows
        entries = await trail(service)

        def agree() -> bool:
            shown = {entity_of(one): "unacknowledge" in labels(one) for one in messages}
            return shown == {row.incident.entity: row.incident.acknowledged is not None for row in open_now}

        await until(agree)
    assert {name for name, *_ in done} == {f"slack:{name}" for name in clicked}
    assert len(clicked) == PEOPLE * CLICKS
    assert len(entries) == sum('"came":"done"' in result for *_, result in done)
    steps = defaultdict(list)
    for entry in entries:
        steps[entry.details.split()[4]].append(entry.what.split()[0])
    for taken in steps.values():  # each in its turn: nothing was done twice, and nothing was lost
        assert taken == (["acknowledge", "unacknowledge"] * len(taken))[: len(taken)]


RULE: dict[str, Any] = {
    "name": "health",
    "when": {"property": "healthStatus", "to": "Degraded"},
    "resolve": {"property": "healthStatus", "to": "Healthy"},
}


def entity_of(message: dict[str, Any]) -> str:
    """Give the entity that a message is about."""
    found = re.search(r"entity-\d+", str(message))
    assert found
    return found[0]
