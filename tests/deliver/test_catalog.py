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
from app.web.metrics import read_store
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
async def test_forty_teams_whose_channels_stand_only_in_the_catalog(start: Start, database: str) -> None:
    """Each hears its own to the end; what leads nowhere is told the default, with the reason."""
    names = [f"team-{number}" for number in range(40 if database.startswith("sqlite") else 8)]
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
            "empty": "the catalog gave no value",
            "number": "5 is no text",
            "no-name": "Team Rocket is no channel's name",
            "nothing": "the catalog gave no value",
        }
        for entity, reason in reasons.items():
            assert reason in ops[entity][0], ops[entity][0]


ONCALL = {"user": "{{ .diff.after.properties.owner }}", "type": "slack", "default": "#ops"}


async def test_people_get_direct_messages(start: Start) -> None:
    """By their e-mail address, whatever its case, to the end; who is not known is told the default."""
    async with start(owners=ONCALL, rule={"send": "owners"}) as (listener, running):
        listener.api.people.users |= {"ada@example.com": "U0ADA00001", "bob@example.com": "U0BOB00001"}
        async with running() as runtime:
            several = ["mailto:bob@example.com", "U0ADA00001"]
            for status in ("Crashed", "Healthy"):
                await listener.change(runtime, "one", status, owner=" Ada@Example.com")
                await listener.change(runtime, "two", status, owner=several)
                await listener.change(runtime, "three", status, owner="eve@example.com")
                await listener.change(runtime, "four", status, owner="nobody")
                await listener.settled(runtime)
            assert await count(runtime.store, State.DEAD) == 0
            numbers = await read_store(runtime.store, datetime.now(UTC))
    labels = [sample.labels for family in numbers.collect() for sample in family.samples]
    assert any(one.get("queue") == "owners/people" for one in labels)
    assert "@" not in str(labels)  # no metric names a person
    said = listener.said()
    assert {name: len(texts) for name, texts in said.items()} == {"ops": 4, "U0ADA00001": 4, "U0BOB00001": 2}
    assert sum(method == "users.lookupByEmail" for method, _ in listener.api.calls) == 3  # they are kept
    ops = " ".join(said["ops"])
    assert "for @eve@example.com of owners: users_not_found" in ops
    assert "nobody is no e-mail address" in ops


MENTION = "<!subteam^S0FIXED001> {{ .diff.after.properties.onCall }}"


NO_GROUP = "(no user group of this handle)"
CALLED: dict[str, tuple[Any, str, str]] = {
    "address": ("ada@example.com", "<@U0ADA00001>", ""),
    "several": ("ADA@example.com, @Rocket-OnCall", "<@U0ADA00001> <!subteam^S0ROCKET01>", ""),
    "list": (["rocket-oncall", "<@U0ADA00001|ada>"], "<!subteam^S0ROCKET01> <@U0ADA00001>", ""),
    "everybody": ("<!channel>", "", f"&lt;!channel&gt; {NO_GROUP}"),
    "here": ("@here", "", f"@here {NO_GROUP}"),
    "disabled": ("gone", "", f"gone {NO_GROUP}"),
    "unknown": ("eve@example.com", "", "eve@example.com (users_not_found)"),
    "number": (7, "", f"7 {NO_GROUP}"),
    "nobody": (None, "", ""),
}


async def test_whom_the_catalog_names_is_called(start: Start) -> None:
    """By Slack's own ID, never as the catalog has it; who is not known is named in the message."""
    async with start("team-a", rule={"mention": MENTION}) as (listener, running):
        listener.api.people.users["ada@example.com"] = "U0ADA00001"
        listener.api.people.groups["rocket-oncall"] = "S0ROCKET01"
        posted = listener.api.channel("team-a").posted
        async with running() as runtime:
            for entity, (on_call, _, _) in CALLED.items():
                await listener.change(runtime, entity, "Crashed", slackChannel="team-a", onCall=on_call)
                await listener.settled(runtime)
            for (_, mention, named), message in zip(CALLED.values(), posted, strict=True):
                called = " ".join(filter(None, ("<!subteam^S0FIXED001>", mention)))
                assert message["text"].startswith(f"{called} 🚨")
                shown = json.dumps(message["blocks"] + message["attachments"])
                assert ("Not called: " + named in shown) is bool(named), shown
            await listener.change(
                runtime, "address", "Healthy", slackChannel="team-a", onCall="eve@example.com"
            )
            await listener.settled(runtime)
        assert "subteam" not in posted[-1]["text"]
        assert sum(method == "usergroups.list" for method, _ in listener.api.calls) == 1


async def test_one_channel_has_one_queue(start: Start) -> None:
    """However it was found and named; one that has a destination of its own is that one's."""
    other = {
        "type": "slack",
        "channel": "{{ .diff.after.properties.other }}",
        "allow": ["*"],
        "default": "teams-own",
    }
    own = {"type": "slack", "channel": "#team-own"}
    rule = {"send": ["teams", "others", "teams-own"]}
    async with start("team-a", "team-own", others=other, **{"teams-own": own}, rule=rule) as (
        listener,
        running,
    ):
        async with running() as runtime:
            listener.api.channel("team-a")
            key = next(iter(listener.api.channels.values())).id
            await listener.change(runtime, "same", "Crashed", slackChannel="#team-a", other="TEAM-A")
            await listener.change(runtime, "own", "Crashed", slackChannel="team-own", other=None)
            await listener.change(runtime, "moved", "Crashed", slackChannel="team-own", other="team-none")
            link = f"https://example.slack.com/archives/{key}?x=1"
            await listener.change(runtime, "linked", "Crashed", slackChannel=link, other=f"<#{key}|ops>")
            await listener.settled(runtime)
            rows = (await runtime.store.read(queries.page.deliveries, limit=100)).rows
        told = {
            (row.notification.entity, row.queue, row.destination)
            for row in rows
            if row.state is State.DELIVERED
        }
        # The default had it already.
        (cancelled,) = (row for row in rows if row.state is State.CANCELLED)
        assert (cancelled.notification.entity, cancelled.queue) == ("moved", "#team-none")
    assert told == {
        ("same", "#team-a", "teams"),
        ("same", "teams-own", "teams-own"),
        ("own", "teams-own", "teams-own"),
        ("moved", "teams-own", "teams-own"),
        ("linked", f"#{key}", "teams"),
        ("linked", "teams-own", "teams-own"),
    }


async def test_a_new_channel_of_an_old_name(start: Start) -> None:
    """What began in the old one ends there; what is new is told in the new one; also in one turn."""
    async with start("team-a") as (listener, running):
        async with running() as runtime:
            await listener.change(runtime, "old", "Crashed", slackChannel="team-a")
            await listener.settled(runtime)
        listener.api.channel("team-a").rename("team-b")
        async with running() as runtime:
            await listener.change(runtime, "old", "Crashed", slackChannel=None)  # told already, where it is
            await listener.change(runtime, "old", "Healthy", slackChannel=None)
            await listener.change(runtime, "lost", "Crashed", slackChannel="team-a")
            await listener.settled(runtime)
            listener.api.add("team-a")
            await listener.change(runtime, "new", "Crashed", slackChannel="team-a")
            await listener.settled(runtime)
        said = {name: [text for text in texts if "old" in text] for name, texts in listener.said().items()}
        assert {name: len(texts) for name, texts in said.items()} == {"team-b": 2, "ops": 0, "team-a": 0}
        assert "for #team-a of teams: channel_not_found" in listener.said()["ops"][0]
        assert len(listener.said()["team-a"]) == 1


async def test_a_default_that_cannot_be_reached_is_on_hold(start: Start) -> None:
    """Nothing is lost, and it is said."""
    async with start(teams=TEAMS | {"default": "#nowhere"}) as (listener, running), running() as runtime:
        await listener.change(runtime, "one", "Crashed", slackChannel="team-none")

        async def on_hold() -> bool:
            return await count(runtime.store, State.ON_HOLD) == 1

        await until(on_hold)
        rows = await runtime.store.read(queries.page.queues, datetime.now(UTC))
        assert [row.name for row in rows if row.on_hold] == ["#nowhere"]
        # A week later nobody is told of a channel that nothing was sent to.
        rows = await runtime.store.read(queries.page.queues, datetime.now(UTC) + timedelta(days=8))
        assert [row.name for row in rows] == ["#nowhere"]
