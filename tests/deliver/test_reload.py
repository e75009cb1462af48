"""The rules are read again while alerts are on their way: what is replaced ends well, and soon."""

import asyncio
import errno
import gc
import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from starlette.responses import PlainTextResponse, Response
from structlog.testing import capture_logs

from app.demo.run import change_body, serving
from app.demo.stand_in_slack import StandInSlack
from app.errors import SettingsError
from app.model.delivery import State
from app.observe.watch import NOBODY, Watch
from app.receive.rules_source import reload_on_change
from app.runtime.listener import Runtime, open_runtime
from app.settings import Settings
from app.store import queries
from tests.conftest import DATABASES
from tests.notifier.slack.stand_in_api import TOKEN, StandInSlackApi
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


@asynccontextmanager
async def running(folder: Path, text: str, watch: Watch = NOBODY) -> AsyncIterator[Runtime]:
    """Run a listener whose rules file has this text."""
    file = folder / "rules.json"
    file.write_text(text)
    settings = Settings(
        _env_file=None,
        accept_unsigned=True,
        rules_file=file,
        database_url=f"sqlite:///{folder}/listener.db",
    )
    async with open_runtime(settings, watch=watch) as runtime:
        yield runtime


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
    before = open_sessions()
    async with running(tmp_path, rules(slack)) as runtime:
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


async def health(runtime: Runtime, before: str, after: str) -> None:
    """Take a change of the one entity's health."""
    body = change_body(before=before, after=after, at=datetime.now(UTC), entity="checkout")
    await runtime.receiver.accept(await runtime.receiver.verify(body, None))


@pytest.mark.parametrize("restart", [False, True])
async def test_a_webhook_that_becomes_another(tmp_path: Path, slack: StandInSlack, restart: bool) -> None:
    """The old channel cannot be told the end: it is told so, as are the log and the audit trail; once."""
    file, new = tmp_path / "rules.json", StandInSlack()

    def write(address: str) -> None:
        destinations = {"oncall": {"type": "slack", "webhook_url": f"{address}/services/x", "rate": 1000}}
        ends = {"property": "healthStatus", "to": "Healthy"}
        rule = {"name": "health", "when": {"property": "healthStatus"}, "resolve": ends, "send": "oncall"}
        # These say nothing yet, and are not to be counted.
        lasts = {"property": "healthStatus", "to": "Degraded", "for": "1h"}
        waits = {"name": "lasting", "when": lasts, "send": "oncall"}
        file.write_text(json.dumps({"version": 1, "destinations": destinations, "rules": [rule, waits]}))

    settings = Settings(
        _env_file=None,
        accept_unsigned=True,
        rules_file=file,
        database_url=f"sqlite:///{tmp_path}/listener.db",
    )
    write(slack.url.partition("/services")[0])
    with capture_logs() as logs:
        async with serving(new.app) as url:
            async with open_runtime(settings) as runtime:
                await runtime.rules.reload()
                await health(runtime, "Healthy", "Degraded")
                await until(lambda: len(slack.messages) == 1)
                write(url)
                if not restart:
                    await runtime.rules.reload()
                    await until(lambda: len(slack.messages) == 2)
            async with open_runtime(settings) as runtime:
                await until(lambda: len(slack.messages) == 2)
                await runtime.rules.reload()
                (entry,) = (await runtime.store.read(queries.audit.entries, limit=5)).rows
                await health(runtime, "Degraded", "Healthy")
                await until(lambda: len(new.messages) == 1)
    assert "go elsewhere from now on" in str(slack.messages[1])
    assert len(slack.messages) == 2
    assert entry.details == "oncall has another address: its old one is not told the end of 1 open incidents."
    moved = [one for one in logs if one["event"] == "destination_moved"]
    assert [(one["destination"], one["incidents"]) for one in moved] == [("oncall", 1)]


@DATABASES
async def test_a_destination_that_becomes_another_channel(tmp_path: Path, database: str) -> None:
    """What was told in the old channel is told to its end there: its message is changed, also again."""
    api = StandInSlackApi("old", "new")
    file = tmp_path / "rules.json"

    def write(channel: str, name: str = "health") -> None:
        destinations = {"oncall": {"type": "slack", "channel": channel, "rate": 1000}}
        ends = {"property": "healthStatus", "to": "Healthy"}
        rule = {"name": name, "when": {"property": "healthStatus"}, "resolve": ends, "send": "oncall"}
        file.write_text(json.dumps({"version": 1, "destinations": destinations, "rules": [rule]}))

    def shows(channel: str, text: str) -> bool:
        return text in str([one["text"] for one in api.messages(channel)])

    async with serving(api.app) as url:
        settings = Settings(
            _env_file=None,
            accept_unsigned=True,
            rules_file=file,
            database_url=database,
            slack_bot_token=TOKEN,
            slack_api_url=f"{url}/api/",
        )
        write("#old")
        async with open_runtime(settings) as runtime:
            await health(runtime, "Healthy", "Degraded")
            await until(lambda: shows("old", "Degraded"))
            write("#new")
            await runtime.rules.reload()
            await health(runtime, "Degraded", "Crashed")
            await until(lambda: shows("new", "Crashed") and shows("old", "Crashed"))
            await health(runtime, "Crashed", "Healthy")
            await until(lambda: shows("new", "Healthy") and shows("old", "Healthy"))
            assert [len(api.messages(name)) for name in ("old", "new")] == [1, 1]
            # While the store is away, what a reload ends stays open no longer than that.
            await health(runtime, "Healthy", "Degraded")
            runtime.rules.again_seconds = 0.05
            await runtime.store.write(lambda tx: tx.execute("ALTER TABLE audit RENAME TO away"))
            write("#new", "state")
            with capture_logs() as logs:
                await runtime.rules.reload()
                await until(lambda: [one["event"] for one in logs].count("rules_not_followed") >= 2)
            assert len(await runtime.store.read(queries.incidents.worst, 9)) == 1
            await runtime.store.write(lambda tx: tx.execute("ALTER TABLE away RENAME TO audit"))

            async def none_is_open() -> bool:
                return not await runtime.store.read(queries.incidents.worst, 9)

            await until(none_is_open)
            await until(lambda: shows("new", "incident closed, rule 'health'"))


@pytest.mark.parametrize(
    "fault",
    [
        OSError(errno.EMFILE, "Too many open files"),
        RecursionError("maximum recursion depth exceeded"),
        MemoryError(),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        SettingsError("the rules file cannot be read"),
    ],
    ids=lambda fault: type(fault).__name__,
)
async def test_a_reload_survives_whatever_happens(
    tmp_path: Path, slack: StandInSlack, fault: Exception
) -> None:
    """It says so, keeps the rules, and is tried again until the file is read."""
    async with running(tmp_path, rules(slack)) as runtime:
        faults, book = [fault, fault], runtime.intake.book

        def load() -> Any:
            if faults:
                raise faults.pop()
            return runtime.rules.load()

        in_force = replace(runtime.rules, load=load)
        with capture_logs() as logs:
            assert not await in_force.reload()
            assert not await in_force.reload()
        expected = "rules_not_read" if isinstance(fault, SettingsError) else "rules_fault"
        assert [line["event"] for line in logs] == [expected]
        assert in_force.warnings()[0].startswith("the rules file is refused: ")
        assert runtime.intake.book is book
        assert await in_force.reload()
        assert in_force.warnings() == []


async def test_of_two_reloads_the_newest_file_stays(tmp_path: Path, slack: StandInSlack) -> None:
    """The second begins when the first has ended."""
    async with running(tmp_path, rules(slack)) as runtime:
        read, go_on = threading.Event(), threading.Event()

        def slow() -> Any:
            loaded = runtime.rules.load()
            read.set()
            go_on.wait(10)
            return loaded

        in_force = replace(runtime.rules, load=slow)
        older = asyncio.create_task(in_force.reload())
        await asyncio.to_thread(read.wait, 10)
        (tmp_path / "rules.json").write_text(rules(slack).replace('"health"', '"newer"'))
        newer = asyncio.create_task(in_force.reload())
        await asyncio.sleep(0)
        go_on.set()
        await asyncio.gather(older, newer)
        assert [*runtime.intake.book.rules.by_name] == ["newer"]


async def test_a_file_that_changes_during_the_start_is_read(tmp_path: Path, slack: StandInSlack) -> None:
    """The start reads it, and has more to do before it looks whether it changes: seed 10011."""

    class Changing(Watch):
        def rules_taken(self, *_: object) -> None:
            (tmp_path / "rules.json").write_text(rules(slack).replace('"health"', '"newer"'))

    async with running(tmp_path, rules(slack), Changing()) as runtime:
        await until(lambda: [*runtime.intake.book.rules.by_name] == ["newer"])


async def test_a_file_that_could_not_be_read_is_read_later(tmp_path: Path) -> None:
    """Though it stays as it is; and one that is refused for what is in it is not."""
    file, answers, reloads = tmp_path / "rules.yaml", [False, False, True], list[str]()
    file.write_text("a")

    async def reload() -> bool:
        reloads.append(file.read_text())
        return answers[len(reloads) - 1]

    watching = asyncio.create_task(reload_on_change(file, b"a", reload, 0.001))
    await asyncio.sleep(0.01)
    file.write_text("b")
    await until(lambda: len(reloads) == 3)
    await asyncio.sleep(0.05)
    assert reloads == ["b"] * 3
    watching.cancel()
