"""A morning of 200 incidents: whatever moves meanwhile, each channel that heard a beginning hears its end."""

import json
import random
import re
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from app.demo.run import serving
from app.demo.stand_in_slack import StandInSlack
from app.errors import StoreUnavailable
from app.model.change import UPDATE, EntitySnapshot
from app.model.delivery import State
from app.model.silence import ANY, Silence
from app.receive.event import build_event, encode
from app.runtime.listener import Runtime, open_runtime
from app.settings import Settings
from app.store import queries
from tests.conftest import DATABASES, count
from tests.notifier.slack.stand_in_api import TOKEN, StandInSlackApi
from tests.waiting import until

INCIDENTS = 200
WEBHOOKS, BOTS = ("rocket", "star"), ("moon", "sun")
TEAMS = ("Rocket", "Star", "Moon", "Sun", "Nobody")
ENDED = re.compile(r"resolved|closed, ")
NAMED = re.compile(r"entity-\d+")


class Morning:
    """The catalog, the rules and the silences, as a seed moves them."""

    def __init__(self, file: Path, bases: dict[str, str], seed: int) -> None:
        self.file, self.bases, self.chance = file, bases, random.Random(seed)
        self.entities = {
            f"entity-{number}": ("Healthy", self.chance.choice(TEAMS)) for number in range(INCIDENTS)
        }
        self.at = datetime.now(UTC) - timedelta(hours=1)

    def write_rules(self, name: str = "health") -> None:
        """Write rules whose teams have other channels than before."""
        destinations: dict[str, Any] = {
            name: {"type": "slack", "webhook_url": f"{base}/services/{name}"}
            for name, base in self.bases.items()
        }
        destinations |= {name: {"type": "slack", "channel": f"#{name}"} for name in BOTS}
        for settings in destinations.values():
            settings |= {"rate": 1000, "digest_after": 1000}
        channels = [*destinations]
        table = {team: self.chance.choice(channels) for team in TEAMS[:-1]}
        rule = {
            "name": name,
            "when": {"property": "healthStatus", "to": {"not": "Healthy"}},
            "resolve": {"property": "healthStatus", "to": "Healthy"},
            "send": [{"by_team": table, "default": self.chance.choice(channels)}],
        }
        self.file.write_text(json.dumps({"version": 1, "destinations": destinations, "rules": [rule]}))

    async def change(self, runtime: Runtime, entity: str, status: str, team: str) -> None:
        """Let an entity change, as after its signature was verified."""
        self.at += timedelta(milliseconds=10)
        before, after = (
            EntitySnapshot(entity, "service", None, None, (owner,), {"healthStatus": value})
            for value, owner in (self.entities[entity], (status, team))
        )
        event = build_event(
            action=UPDATE,
            blueprint="service",
            entity=entity,
            at=self.at,
            origin="UI",
            by={},
            before=before,
            after=after,
        )
        self.entities[entity] = status, team
        signed = await runtime.receiver.verify(encode(event), None)
        for _ in range(20):  # a busy machine may be too slow for the store, which then answers 503
            with suppress(StoreUnavailable):
                await runtime.receiver.accept(signed)
                return
        raise AssertionError("the store took nothing")

    async def move(self, runtime: Runtime) -> None:
        """Move something."""
        chance, now = self.chance, datetime.now(UTC)
        entity = chance.choice([*self.entities])
        status, team = self.entities[entity]
        what = chance.random()
        if what < 0.4:
            await self.change(runtime, entity, chance.choice(("Healthy", "Degraded", "Crashed")), team)
        elif what < 0.6:  # who owns it, and perhaps how it is at once
            status = chance.choice((status, "Healthy", "Crashed"))
            await self.change(runtime, entity, status, chance.choice(TEAMS))
        elif what < 0.75:
            about = (ANY, ANY, f"entity-{chance.randrange(20)}*", ANY)
            about = chance.choice((about, (ANY, ANY, ANY, chance.choice(TEAMS))))
            silence = Silence(*about, now, now + timedelta(days=1), "ada", "noise")
            await runtime.store.write(queries.silences.add, silence)
        elif what < 0.97:
            await self.end_silences(runtime, 1)
        else:
            self.write_rules(chance.choice(("health", "health", "health", "state")))
            await runtime.rules.reload()

    async def end_silences(self, runtime: Runtime, most: int) -> None:
        """End some of the silences."""
        now = datetime.now(UTC)
        silences = await runtime.store.read(queries.silences.silences, active_at=now)
        for silence in self.chance.sample(silences, min(most, len(silences))):
            await runtime.store.write(queries.silences.end, silence.id, now)
        runtime.dispatcher.wake()


def last_heard(texts: list[str]) -> dict[str, str]:
    """Return what a channel has heard last of each entity."""
    return {NAMED.findall(text)[0]: text for text in texts}


@DATABASES
async def test_what_was_told_is_told_to_its_end(tmp_path: Path, database: str) -> None:
    """Teams, rules, channels and silences move at random; in the end all is well, and everybody knows."""
    api = StandInSlackApi(*BOTS)
    webhooks = {name: StandInSlack() for name in WEBHOOKS}
    async with AsyncExitStack() as stack:
        api.url = f"{await stack.enter_async_context(serving(api.app))}/api/"
        bases = {
            name: await stack.enter_async_context(serving(slack.app)) for name, slack in webhooks.items()
        }
        morning = Morning(tmp_path / "rules.json", bases, seed=15)
        morning.write_rules()
        settings = Settings(
            _env_file=None,
            accept_unsigned=True,
            rules_file=morning.file,
            database_url=database,
            slack_bot_token=TOKEN,
            slack_api_url=api.url,
        )
        runtime = await stack.enter_async_context(open_runtime(settings))
        for entity, (_, team) in [*morning.entities.items()]:
            await morning.change(runtime, entity, "Degraded", team)
        for _ in range(2 * INCIDENTS):
            await morning.move(runtime)
        for entity in morning.entities:
            await morning.change(runtime, entity, "Healthy", morning.chance.choice(TEAMS))
        await morning.end_silences(runtime, 1_000)

        async def nothing_waits() -> bool:
            runtime.dispatcher.wake()
            waiting = [await count(runtime.store, state) for state in (State.PENDING, State.ON_HOLD)]
            return not any(waiting) and not await runtime.store.read(queries.silences.active, now())

        def now() -> datetime:
            return datetime.now(UTC)

        await until(nothing_waits, 60)
        assert await runtime.store.read(queries.incidents.worst, 10) == []
        heard = {name: [str(one["text"]) for one in slack.messages] for name, slack in webhooks.items()}
        heard |= {name: [str(one["text"]) for one in api.channel(name).posted] for name in BOTS}
        assert api.faults == []
    assert all(len(texts) > INCIDENTS // 10 for texts in heard.values())
    for channel, texts in heard.items():
        assert {e: t for e, t in last_heard(texts).items() if not ENDED.search(t)} == {}, channel
