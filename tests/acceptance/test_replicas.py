"""Three replicas on one PostgreSQL, as real processes: one order, nothing lost, nothing told twice."""

import asyncio
import json
import os
import random
import re
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.demo.run import change_body, serving, signed_headers
from app.demo.stand_in_slack import StandInSlack
from app.model.delivery import State
from tests.acceptance.process import APP, Listener, listening
from tests.conftest import KEPT, NO_TLS, SECRET
from tests.postgres import PostgresServer
from tests.told import entities
from tests.waiting import until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(900)]

CHANGES = int(os.environ.get("CHANGES", "150"))
ENTITIES = 50
KILLS = int(os.environ.get("REPLICA_KILLS", "2"))
STOPS = int(os.environ.get("DATABASE_STOPS", "1"))
LEASE_AND_MORE = 60
MOST_WAITING = 500  # a thousand would go out as one message, which sums them up


@asynccontextmanager
async def replicas(
    folder: Path, slack_url: str, database: str, number: int = 3, **options: Any
) -> AsyncIterator[list[Listener]]:
    """Run replicas, and make sure that the database's password is in no log."""
    running: list[Listener] = []
    async with AsyncExitStack() as stack:
        for one in range(number):
            (folder / str(one)).mkdir()
            started = listening(folder / str(one), slack_url, DATABASE_URL=database, **options)
            running.append(await stack.enter_async_context(started))
        yield running
    for listener in running:
        assert "very-secret-password" not in listener.log.read_text()


class Poster:
    """Posts changes to replicas at random; each entity's next one when the one before is stored.

    Attributes:
        stored: What was answered 202, in that order, for each entity.
        duplicates: How many answers said that the change was there.
    """

    def __init__(self, listeners: list[Listener], seed: int) -> None:
        self.stored: dict[str, list[str]] = {}
        self.duplicates = 0
        self._listeners = listeners
        self._random = random.Random(seed)
        self._client = httpx.AsyncClient(timeout=30, limits=KEPT, verify=NO_TLS)

    async def post(self, body: bytes) -> httpx.Response:
        """Post a change to any replica."""
        url = f"{self._random.choice(self._listeners).url}/api/slack"
        return await self._client.post(
            url, content=body, headers=signed_headers(body, SECRET, datetime.now(UTC))
        )

    async def follow(self, entity: str, changes: int, slack: StandInSlack) -> None:
        """Post so many changes of an entity, one after the other, each twice."""
        before = "Healthy"
        for number in range(changes):
            stored = sum(map(len, self.stored.values()))
            await until(lambda stored=stored: stored - len(slack.received) < MOST_WAITING, 120)  # type: ignore[misc]
            after = f"S{number}-"
            body = change_body(before=before, after=after, at=datetime.now(UTC), entity=entity)
            answers = await asyncio.gather(self.post(body), self.post(body))
            assert [answer.status_code for answer in answers] == [202, 202]
            self.duplicates += sum(answer.json()["duplicate"] for answer in answers)
            self.stored.setdefault(entity, []).append(after)
            before = after

    async def insist(self, entity: str, after: str) -> None:
        """Post a change until it is answered 202, as Port or a person would."""
        body = change_body(before="Healthy", after=after, at=datetime.now(UTC), entity=entity)
        while True:
            try:
                answer = await self.post(body)
            except httpx.TransportError:
                await asyncio.sleep(0.05)
                continue
            if answer.status_code == 202:
                self.stored.setdefault(entity, []).append(after)
                return
            assert answer.status_code == 503
            await asyncio.sleep(0.1)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def each_in_its_own_message(folder: Path, slack: StandInSlack) -> str:
    """Write rules by which there are no digests, so that each alert can be seen, and return the file."""
    destination = {"type": "slack", "webhook_url": slack.url, "digest_after": 1000, "rate": 1000}
    rules = folder / "rules.json"
    rules.write_text(json.dumps({"version": 1, "destinations": {"default": destination}}))
    return str(rules)


async def test_one_order_over_three_replicas(
    tmp_path: Path, slack: StandInSlack, postgres: PostgresServer
) -> None:
    """Changes of 50 entities, each twice, to any of three: told once each, in order for each entity."""
    rules, database = each_in_its_own_message(tmp_path, slack), await postgres.new_database()
    async with replicas(tmp_path, slack.url, database, RULES_FILE=rules) as listeners:
        poster = Poster(listeners, 1)
        names = [f"e{number}" for number in range(ENTITIES)]
        await asyncio.gather(*(poster.follow(name, CHANGES // ENTITIES, slack) for name in names))
        await poster.close()
        assert poster.duplicates == CHANGES
        await until(lambda: len(slack.messages) >= CHANGES, 30 + CHANGES / 10)
        await asyncio.sleep(0.5)  # nothing comes after it
    told: dict[str, list[str]] = {}
    for message in slack.messages:
        (entity,) = entities([message])
        (after,) = re.findall(r"→ (S\d+-)", message["text"])
        told.setdefault(entity, []).append(after)
    assert told == poster.stored


async def test_one_rate_over_three_replicas(tmp_path: Path, postgres: PostgresServer) -> None:
    """A channel takes one message a second from all of them together, one that only listens among them."""
    slack = StandInSlack(one_a_second=True)
    async with serving(slack.app) as address:
        url, database = f"{address}/services/very-secret-token", await postgres.new_database()
        options: dict[str, Any] = {"database": database, "number": 1, "rate": 1}
        for name in ("both", "listening", "delivering"):
            (tmp_path / name).mkdir()
        only_listen, only_deliver = (*APP, "serve", "--no-dispatch"), (*APP, "dispatch")
        async with (
            replicas(tmp_path / "both", url, **options) as both,
            replicas(tmp_path / "listening", url, command=only_listen, **options) as listens,
            replicas(tmp_path / "delivering", url, command=only_deliver, **options) as delivers,
        ):
            poster = Poster([*both, *listens], 2)
            for number in range(CHANGES):
                await poster.insist(f"e{number}", "Degraded")
                if number % 100 == 0:
                    await until(lambda: len(poster.stored) - len(entities(slack.messages)) < MOST_WAITING, 60)
            async with httpx.AsyncClient(verify=NO_TLS) as client:
                assert (await client.get(f"{delivers[0].url}/healthz")).status_code == 200
                assert (await client.post(f"{delivers[0].url}/api/slack")).status_code == 404
            await until(lambda: len(entities(slack.messages)) >= CHANGES, 60)
            await poster.close()

            async def recorded() -> bool:
                return await listens[0].count(State.DELIVERED) == CHANGES

            await until(recorded)
    assert sorted(entities(slack.messages)) == sorted(poster.stored)
    assert slack.refused <= 1
    times = [at for at, _ in slack.received]
    assert min(later - earlier for earlier, later in pairwise(times)) > 0.99


async def test_kill_9_and_a_database_that_crashes(tmp_path: Path, slack: StandInSlack) -> None:
    """Replicas are killed and the database stops at random moments: all that was answered 202 is told."""
    server, randomness = PostgresServer(fsync=True), random.Random(4711)
    server.make()
    rules = each_in_its_own_message(tmp_path, slack)
    try:
        database = await server.new_database()
        async with replicas(tmp_path, slack.url, database, RULES_FILE=rules) as listeners:
            poster = Poster(listeners, 3)
            stopping = asyncio.Event()

            async def load(sender: int) -> None:
                number = 0
                while not stopping.is_set():
                    await poster.insist(f"sender{sender}-{number}", "Degraded")
                    number += 1
                    await asyncio.sleep(0.5)

            loads = [asyncio.create_task(load(sender)) for sender in range(8)]
            events = ["kill"] * KILLS + ["stop"] * STOPS
            randomness.shuffle(events)
            for event in events:
                await asyncio.sleep(randomness.uniform(0.2, 1.5))
                if event == "kill":
                    victim = randomness.choice(listeners)
                    await victim.stop(signal.SIGKILL)
                    await victim.start()
                else:
                    await asyncio.to_thread(server.stop, "immediate")
                    await asyncio.sleep(randomness.uniform(0, 1))
                    await asyncio.to_thread(server.start)
                enough = len(poster.stored) + 20
                await until(lambda enough=enough: len(poster.stored) >= enough, 30)  # type: ignore[misc]
            stopping.set()
            await asyncio.gather(*loads)
            await poster.close()
            patience = LEASE_AND_MORE + len(poster.stored) / 20
            await until(lambda: set(poster.stored) <= set(entities(slack.messages)), patience)
    finally:
        server.remove()
    # A crash between Slack's ok and our record repeats that one message: one for each at the most.
    told = entities(slack.messages)
    print(f"{len(poster.stored)} stored, {len(told) - len(set(told))} told twice")
    assert len(told) - len(set(told)) <= KILLS + STOPS
