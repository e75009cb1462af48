"""Ten people click at random while incidents change, on three replicas, and Slack does what it does wrong.

With CLICKS=100 INCIDENTS=50 it is a thousand clicks, and `-s` shows the longest answer.
"""

import asyncio
import os
import random
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from app.model.change import UPDATE, EntitySnapshot
from app.notifier.slack.buttons import About
from app.receive.event import build_event, encode
from app.store import queries
from app.store.transaction import Row, Transaction
from tests.clicks.conftest import CHANNEL, Run
from tests.clicks.test_clicks import labels, recorded
from tests.clicks.workspace import Workspace, blocks_of
from tests.conftest import Service
from tests.waiting import until

PEOPLE, CLICKS, INCIDENTS = 10, int(os.environ.get("CLICKS", "8")), int(os.environ.get("INCIDENTS", "6"))
CHANGES = PEOPLE * CLICKS // 4
ACKNOWLEDGING = {"acknowledge", "unacknowledge"}
RULES: dict[str, Any] = {
    "destinations": {
        "default": {"type": "slack", "channel": f"#{CHANNEL}", "rate": 1000, "digest_after": 1000}
    },
    "rules": [
        {
            "name": "health",
            "when": {"property": "healthStatus", "to": {"not": "Healthy"}},
            "resolve": {"property": "healthStatus", "to": "Healthy"},
            "severity": {"Degraded": "warning", "Crashed": "critical"},
        }
    ],
}


class Catalog:
    """Entities whose health, and whose name, change at random."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.entities = [(f"entity-{number}", "Healthy") for number in range(INCIDENTS)]

    def change(self, number: int, status: str, *, renamed: bool = False) -> bytes:
        """Make the body of a change of an entity's health, and perhaps of its name."""
        name, before = self.entities[number]
        after = f"{name.partition('.')[0]}.{self.chance.randrange(10**6)}" if renamed else name
        sides = [
            EntitySnapshot(side, "service", None, None, (), {"healthStatus": value})
            for side, value in ((name, before), (after, status))
        ]
        self.entities[number] = after, status
        event = build_event(
            action=UPDATE,
            blueprint="service",
            entity=after,
            at=datetime.now(UTC),
            origin="UI",
            by={},
            before=sides[0],
            after=sides[1],
        )
        return encode(event)

    def any_change(self) -> bytes:
        """Make one worse, better, well again, or let it have another name."""
        number = self.chance.randrange(INCIDENTS)
        _, status = self.entities[number]
        if self.chance.random() < 0.2:
            return self.change(number, status, renamed=True)
        others = [one for one in ("Healthy", "Degraded", "Crashed") if one != status]
        return self.change(number, self.chance.choice(others))


PLANNED = {"type": "disconnect", "reason": "warning"}


class Trial:
    """People, a catalog and a Slack that are at work at the same time.

    Attributes:
        clicked: The id of each click.
        answers: After how many seconds each was answered.
        lost: How many were lost on the way to us, and clicked again.
    """

    def __init__(self, workspace: Workspace, *replicas: Service) -> None:
        self.chance = random.Random(7)
        self.catalog = Catalog(self.chance)
        self.workspace, self.replicas = workspace, replicas
        self.clicked: set[str] = set()
        self.answers: list[float] = []
        self.lost = 0
        self._repeats: list[asyncio.Task[Any]] = []

    async def post(self, body: bytes) -> None:
        """Post a change to one of the replicas."""
        assert (await self.chance.choice(self.replicas).post(body)).status_code == 202

    async def run(self) -> None:
        """Let all happen."""
        await asyncio.gather(self._changes(), *(self._person(f"U{number}") for number in range(PEOPLE)))
        await asyncio.gather(*self._repeats)

    async def _person(self, name: str) -> None:
        for _ in range(CLICKS):
            await until(lambda: bool(self._clickable()))
            message = self.chance.choice(self._clickable())
            action = next(one for one in labels(message) if one in ACKNOWLEDGING)
            channel = self.workspace.channel(CHANNEL).id
            payload = self.workspace.payload(message, action, channel=channel, by=name)
            self.clicked.add(payload["trigger_id"])
            self.workspace.copies = self.chance.choice((1, 1, 2))
            began = time.monotonic()
            while await self.workspace.send(payload) is None:
                self.lost += 1  # the person sees that it failed, and Slack sends it again
                began = time.monotonic()
            self.answers.append(time.monotonic() - began)
            if self.chance.random() < 0.1:  # it comes once more, later
                self._repeats.append(asyncio.create_task(self.workspace.send(payload)))
            await asyncio.sleep(self.chance.random() / 100)

    def _clickable(self) -> list[dict[str, Any]]:
        return [one for one in self.workspace.messages(CHANNEL) if ACKNOWLEDGING & {*labels(one)}]

    async def _changes(self) -> None:
        sockets = self.workspace.sockets
        for number in range(CHANGES):
            await self.post(self.catalog.any_change())
            if number == CHANGES // 2:  # one replica is refused from now on; the others go on
                self.workspace.refusal = "token_revoked"
                await sockets[0].close()
            elif number % 20 == 10 and len(sockets) > 1 and not self.workspace.refusal:
                socket = self.chance.choice(sockets)
                await (socket.close() if self.chance.random() < 0.5 else socket.send_json(PLANNED))
            await asyncio.sleep(self.chance.random() / 20)

    def shown(self) -> dict[str, list[str]]:
        """Give the buttons that the messages have, by the incident."""
        found: dict[str, list[str]] = {}
        for message in self.workspace.messages(CHANNEL):
            for block in blocks_of(message):
                if about := About.parse(block.get("block_id", "")):
                    found.setdefault(about.incident, []).extend(ACKNOWLEDGING.intersection(labels(message)))
        return found


async def actions(tx: Transaction) -> list[Row]:
    """Read what was done, by the ids of the clicks."""
    return list(await tx.fetch("SELECT id, result FROM actions"))


async def looked_after(service: Service) -> dict[str, list[str]]:
    """Give the button that each open incident should have, by its id."""
    rows = (await service.store.read(queries.incidents.page, is_open=True, limit=1000)).rows
    return {
        row.incident.id: ["unacknowledge" if row.incident.acknowledged else "acknowledge"] for row in rows
    }


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
async def test_clicks_at_random(run: Run, workspace: Workspace) -> None:
    """One action each, the audit trail complete, and in the end the messages say what the store says."""
    async with run(RULES) as service, run(RULES) as second, run(RULES) as third:
        trial = Trial(workspace, service, second, third)
        await until(lambda: len(workspace.sockets) == 3)
        for number in range(INCIDENTS):
            await trial.post(trial.catalog.change(number, "Degraded"))
        await until(lambda: recorded(service))
        await trial.run()
        done = await service.store.read(actions)
        entries = (await service.store.read(queries.audit.entries, limit=10_000)).rows

        async def agree() -> bool:
            return trial.shown() == await looked_after(service)

        await until(agree, seconds=60)
    print(f"{len(done)} clicks, {trial.lost} lost, the longest answer after {max(trial.answers):.2f} s")
    assert {name for name, _ in done} == {f"slack:{name}" for name in trial.clicked}
    assert len(done) == PEOPLE * CLICKS
    assert len(entries) == sum('"came":"done"' in result for _, result in done)
