"""Channels, people and groups that stand in the catalog: by a real listener, with a stand-in for Slack."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from app.demo.run import serving
from app.model.change import UPDATE, EntitySnapshot
from app.model.delivery import State
from app.receive.event import build_event, encode
from app.runtime.listener import Runtime, open_runtime
from app.settings import Settings
from app.store import queries
from tests.conftest import DATABASES, count
from tests.notifier.slack.stand_in_api import TOKEN, StandInSlackApi
from tests.waiting import until

CHANNEL = "{{ .diff.after.properties.slackChannel }}"
TEAMS = {"type": "slack", "channel": CHANNEL, "allow": ["team-*", "C*", "gone", "private"], "default": "#ops"}
CRASH = {
    "name": "crash",
    "when": {"property": "healthStatus", "to": "Crashed"},
    "resolve": {"property": "healthStatus", "to": "Healthy"},
    "send": "teams",
    "severity": "critical",
}
Said = dict[str, list[str]]


class Listener:
    """A listener whose channels stand in the catalog, and its Slack."""

    def __init__(self, settings: Settings, api: StandInSlackApi) -> None:
        self.settings, self.api = settings, api
        self.at = datetime.now(UTC) - timedelta(hours=1)

    async def change(self, runtime: Runtime, entity: str, status: str, **facts: Any) -> None:
        """Let an entity change, as after its signature was verified."""
        self.at += timedelta(milliseconds=10)
        relations = facts.pop("relations", {})
        before, after = (
            EntitySnapshot(entity, "service", None, None, (), {"healthStatus": value, **facts}, relations)
            for value in ("Up", status)
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
        await runtime.receiver.accept(await runtime.receiver.verify(encode(event), None))

    async def settled(self, runtime: Runtime) -> None:
        """Wait until nothing waits any more."""

        async def nothing_waits() -> bool:
            runtime.dispatcher.wake()
            return not await count(runtime.store, State.PENDING)

        await until(nothing_waits)

    def said(self) -> Said:
        """Return the texts of each channel, threads too."""
        return {one.name: [str(text["text"]) for text in one.posted] for one in self.api.channels.values()}


Start = Callable[..., Any]


@pytest.fixture
def start(tmp_path: Path, database: str) -> Start:
    """Give a function that runs a listener with destinations and a rule."""

    @asynccontextmanager
    async def started(
        *channels: str, rule: dict[str, Any] | None = None, **destinations: Any
    ) -> AsyncIterator[tuple[Listener, Callable[[], Any]]]:
        named = {"teams": TEAMS} | destinations
        quick = {"rate": 1000, "digest_after": 1000}  # what comes together is one alert each all the same
        named = {name: one | quick if one["type"] == "slack" else one for name, one in named.items()}
        file = {"version": 1, "destinations": named, "rules": [CRASH | (rule or {})]}
        (tmp_path / "rules.json").write_text(json.dumps(file))
        api = StandInSlackApi("ops", *channels)
        async with AsyncExitStack() as stack:
            api.url = f"{await stack.enter_async_context(serving(api.app))}/api/"
            settings = Settings(
                _env_file=None,
                accept_unsigned=True,
                rules_file=tmp_path / "rules.json",
                database_url=database,
                slack_bot_token=TOKEN,
                slack_api_url=api.url,
            )
            yield Listener(settings, api), lambda: open_runtime(settings)
        assert api.faults == []

    return started


@DATABASES
async def test_forty_teams_whose_channels_stand_only_in_the_catalog(start: Start) -> None:
    """Each hears its own to the end; what leads nowhere is told the default, with the reason."""
    names = [f"team-{number}" for number in range(40)]
    async with start(*names) as (listener, running):
        listener.api.add("private", private=True, member=False)
        odd = {
            "not-allowed": "#random",
            "not-existing": "#team-none",
            "not-invited": "private",
            "empty": "  ",
            "number": 5,
            "no-name": "Team Rocket",
            "nothing": None,
        }
        async with running() as runtime:
            for name in names:
                await listener.change(runtime, f"of-{name}", "Crashed", slackChannel=f" #{name.upper()} ")
            for entity, channel in odd.items():
                await listener.change(runtime, entity, "Crashed", slackChannel=channel)
            await listener.settled(runtime)
            listener.api.channel("team-7").rename("team-seven")
        async with running() as runtime:  # what it knew of channels is forgotten
            for name in names:
                await listener.change(runtime, f"of-{name}", "Healthy", slackChannel=name)
            for entity, channel in odd.items():
                await listener.change(runtime, entity, "Healthy", slackChannel=channel)
            await listener.settled(runtime)
            assert await runtime.store.read(queries.incidents.worst, 10) == []
            assert await count(runtime.store, State.DEAD) == 0
        said = listener.said()
        names[7] = "team-seven"
        assert {
            name: [f"of-{name}" in text for text in said[name]] for name in names if name != "team-seven"
        } == {name: [True, True] for name in names if name != "team-seven"}
        assert len(said["team-seven"]) == 2
        assert "resolved" in said["team-seven"][1]
        ops = {entity: [text for text in said["ops"] if entity in text] for entity in odd}
        assert {entity: len(texts) for entity, texts in ops.items()} == dict.fromkeys(odd, 2)
        reasons = {
            "not-allowed": "its `allow` does not name #random",
            "not-existing": "for #team-none of teams: channel_not_found",
            "not-invited": "for #private of teams: channel_not_found",
            "empty": "the catalog has no value",
            "number": "5 is no text",
            "no-name": "Team Rocket is no channel's name",
            "nothing": "the catalog has no value",
        }
        for entity, reason in reasons.items():
            assert reason in ops[entity][0], ops[entity][0]
