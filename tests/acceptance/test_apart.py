"""`serve --dispatch apart`: a process that receives, and one that delivers for it."""

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import uvloop
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.parser import text_string_to_metric_families

from app.cli import main
from app.demo.run import serving
from app.demo.stand_in_slack import StandInSlack
from app.main import create_app
from app.observe.together import Together, by_key, numbers_of
from app.runtime.apart import Apart
from app.runtime.dispatching import NICENESS
from app.settings import Settings
from app.store.opening import open_store, prepare_store
from tests.acceptance.process import APP, Listener, listening, post_change
from tests.waiting import until

COMMAND = (*APP, "serve", "--dispatch", "apart")
DELIVERED = 'port_listener_deliveries_total{destination="default",outcome="delivered"}'


def dispatcher_of(listener: Listener) -> psutil.Process:
    """Return the process that delivers."""
    assert listener.process is not None
    (process,) = psutil.Process(listener.process.pid).children()
    return process


def lines(listener: Listener, event: str) -> int:
    """Count the lines of an event in the log."""
    return listener.log.read_text().count(f'"event":"{event}"')


async def numbers(client: httpx.AsyncClient) -> dict[str, float]:
    """Collect the metrics, each once, by their series."""
    text = (await client.get("/metrics")).text
    list(text_string_to_metric_families(text))
    pairs = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    assert len({series for series, _, _ in pairs}) == len(pairs)
    return {series: float(value) for series, _, value in pairs}


async def warnings(client: httpx.AsyncClient) -> list[str]:
    """Return the warnings of /readyz."""
    answer: dict[str, Any] = (await client.get("/readyz")).json()
    return list(answer["warnings"])


@pytest.mark.acceptance
async def test_a_process_apart(tmp_path: Path, slack: StandInSlack) -> None:
    """It delivers at once, is started again after a kill, reloads, counts on, and ends with its parent."""
    async with (
        listening(tmp_path, slack.url, command=COMMAND, METRICS_PUBLIC="true") as listener,
        httpx.AsyncClient(base_url=listener.url) as client,
    ):
        assert (await post_change(client, "one")).status_code == 202
        await until(lambda: len(slack.messages) == 1)
        first = dispatcher_of(listener)
        parent = first.parent()
        assert parent is not None
        assert first.nice() == min(parent.nice() + NICENESS, 19)

        async def counted() -> bool:
            return (await numbers(client))[DELIVERED] == 1

        await until(counted)

        first.kill()
        await until(lambda: lines(listener, "dispatcher_ended") == 1)
        assert any("SIGKILL" in text for text in await warnings(client))
        assert (await post_change(client, "two")).status_code == 202
        await until(lambda: len(slack.messages) == 2)

        async def goes_on() -> bool:
            after = await numbers(client)
            ups = after["port_listener_dispatcher_restarts_total"], after["port_listener_dispatcher_up"]
            return (after[DELIVERED], *ups) == (2, 1, 1) and not await warnings(client)

        await until(goes_on)

        listener.send_signal(signal.SIGHUP)
        await until(lambda: lines(listener, "rules_loaded") == 2)

        second = dispatcher_of(listener)
        assert listener.process is not None
        listener.process.kill()
        await asyncio.to_thread(listener.process.wait)
        await until(lambda: not second.is_running())

        await listener.start()
        third = dispatcher_of(listener)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # of a terminal, while it starts
            os.kill(third.pid, number)
        assert (await post_change(client, "three")).status_code == 202
        await until(lambda: len(slack.messages) == 3)
        with suppress(ProcessLookupError):
            os.kill(third.pid, signal.SIGINT)
        assert await listener.stop(signal.SIGINT) == 0
        assert not third.is_running()
        assert lines(listener, "dispatcher_ended") == 1
        assert "Traceback" not in listener.log.read_text()


@pytest.mark.acceptance
async def test_one_that_cannot_begin(tmp_path: Path, slack: StandInSlack) -> None:
    """The rules file is wrong by now: who receives delivers too, by the rules in force, until it is right."""
    rules = tmp_path / "rules.yaml"
    rules.write_text("version: 1")
    settings = {"RULES_FILE": str(rules), "METRICS_PUBLIC": "true"}
    async with (
        listening(tmp_path, slack.url, command=COMMAND, **settings) as listener,
        httpx.AsyncClient(base_url=listener.url) as client,
    ):
        assert (await post_change(client, "one")).status_code == 202
        await until(lambda: len(slack.messages) == 1)
        rules.write_text("version: 1\nruels: []")
        await until(lambda: lines(listener, "rules_refused") == 2)
        dispatcher_of(listener).kill()
        await until(lambda: lines(listener, "delivering_here") == 1)
        assert (await post_change(client, "two")).status_code == 202
        await until(lambda: len(slack.messages) == 2)
        refused, ended = await warnings(client)
        assert ":2: 'ruels'" in refused
        assert ended.endswith("(exit status 1), and is started again; meanwhile this one delivers")
        assert (await numbers(client))[DELIVERED] == 1

        rules.write_text("version: 1")

        async def mended() -> bool:
            return not await warnings(client)

        await until(mended)
        assert (await post_change(client, "three")).status_code == 202
        await until(lambda: len(slack.messages) == 3)
        assert await listener.stop(signal.SIGINT) == 0
        assert "Traceback" not in listener.log.read_text()


def test_numbers_of_two_processes() -> None:
    """Counts are added, a series that only one has too; a gauge stays, but for what each takes itself."""
    registries = CollectorRegistry(), CollectorRegistry()
    for registry, names in zip(registries, ("ab", "bc"), strict=True):
        counter = Counter("sent", "Sent.", ["to"], registry=registry)
        for name in names:
            counter.labels(name).inc(2)
        for name in ("rules_refused", "process_open_fds"):
            Gauge(name, "One.", registry=registry).set(1)
    both = Together(registries[0], by_key(numbers_of(registries[1])))
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for one in both.collect()
        for sample in one.samples
    }
    sums = {("sent_total", "a"): 2, ("sent_total", "b"): 4, ("sent_total", "c"): 2}
    assert {key: value for key, value in found.items() if "created" not in key[0]} == sums | {
        ("rules_refused",): 1,
        ("process_open_fds",): 2,
    }


async def test_one_that_hangs() -> None:
    """It may hold the store's lock: it is killed, and started again."""
    apart = Apart(pause_seconds=0.01, hung_seconds=0.02)
    async with apart.running():
        await until(lambda: apart.pid is not None)
        first = psutil.Process(apart.pid)
        first.suspend()
        await until(lambda: apart.pid != first.pid)
        assert "said nothing" in str(apart.warnings())
    assert not first.is_running()


def test_one_that_dies_just_now() -> None:
    """Whoever wakes or asks it then, who has stored a change, gets no error."""

    async def ask(apart: Apart, turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        await apart.numbers()

    async def run() -> None:
        apart = Apart(pause_seconds=60)
        async with apart.running():
            await until(lambda: apart.pid is not None)
            process = psutil.Process(apart.pid)
            process.kill()
            process.wait()
            await asyncio.gather(*(ask(apart, turns) for turns in range(6)))

    uvloop.run(run())  # the loop of a listener: asyncio's own raises nothing


async def test_what_is_open_follows_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a change comes: the process that delivers may take seconds to begin."""
    database = f"sqlite:///{tmp_path}/listener.db"
    monkeypatch.setenv("DATABASE_URL", f"{database}.other")
    settings = Settings(_env_file=None, accept_unsigned=True, database_url=database)
    prepare_store(database)
    async with serving(create_app(settings, apart=True)), open_store(database) as store:
        assert await store.read(lambda tx: tx.fetch_value("SELECT count(*) FROM addresses"))


async def test_which_rules_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """If it refuses them, the log says why; a reload is its first, so that it knows each destination."""
    rules = tmp_path / "rules.yaml"
    rules.write_text("version: 2")
    monkeypatch.setenv("RULES_FILE", str(rules))
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/listener.db")
    monkeypatch.setenv("ACCEPT_UNSIGNED", "true")
    errors, order = "", []

    def logged(event: str) -> bool:
        nonlocal errors
        errors += capfd.readouterr().err
        return f'"event":"{event}"' in errors

    async def reload() -> bool:
        order.append(logged("rules_loaded"))
        return True

    apart = Apart(pause_seconds=0.01)
    async with apart.running():
        await until(lambda: logged("dispatcher_refused"))
        rules.write_text("version: 1")
        await until(lambda: not (apart.warnings() or apart.stale()))
        assert await apart.reloading(reload)()
    assert order == [True]


def test_either(capsys: pytest.CaptureFixture[str]) -> None:
    """Somewhere, or nowhere."""
    with pytest.raises(SystemExit):
        main(["serve", "--dispatch", "apart", "--no-dispatch"])
    assert "either --dispatch or --no-dispatch" in capsys.readouterr().err
