"""``scripts/bench soak``: one listener, rates and failures that change; in the end nothing may be lost.

Publisher and receivers are this process; the listener is a process of its own, with a SQLite file. Each phase
has a rate of changes, and something that fails. After the last one all works, and nothing may be left: each
change that was answered 202 has run a job, and stands in its team's channel, or is one of those that a digest
counts. Memory, open files and the write-ahead log are read all the time; they must not grow.
"""

import argparse
import asyncio
import random
import sqlite3
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack, closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import cycle
from json import dumps, loads
from math import inf

import httpx

from app.demo.run import signed_headers
from scripts.benchmark.changes import PATH, SECRET
from scripts.benchmark.listeners import Listener
from scripts.benchmark.processes import Running, temporary_folder
from scripts.benchmark.slack import StandIn, stand_in
from scripts.simulation.port import event_body
from scripts.simulation.slack import read_lines
from scripts.simulation.world import Change

TOKEN = "soak-admin-token"  # noqa: S105 - of this listener only
TEAMS = ("red", "green", "blue", "white")
ENTITIES = 160
STEPS = ("opened", "changed", "resolved")
PHASE_SECONDS = 30.0
SAMPLE_SECONDS = 2.0
ENDS_WITHIN_SECONDS = 120.0
MEGA = 1_000_000
ENOUGH_SAMPLES = 120
"""Fewer are of a start, in which memory still grows."""
FLAT = 1.15
"""What the last quarter may have of memory, for each that the second quarter has."""
MOST_WAL_MEGABYTES = 64.0
OK = "200 OK"
COUNT = "SELECT state, count(*) FROM deliveries WHERE kind = 'alert' GROUP BY state"


@dataclass(frozen=True, slots=True)
class Phase:
    """Some seconds of the soak.

    Attributes:
        name: What happens.
        rate: Changes a second.
        jobs: What the receiver of jobs answers.
        channel: What one of the channels answers.
        delay: How long all receivers take to answer; seconds.
        twice: Whether Port sends each webhook twice.
    """

    name: str
    rate: float
    jobs: str = OK
    channel: str = OK
    delay: float = 0.0
    twice: bool = False


PHASES = (
    Phase("all is well", 5),
    Phase("many changes", 40),
    Phase("the jobs' receiver is down", 10, jobs="503 Service Unavailable"),
    Phase("a channel is limited", 10, channel="429 Too Many Requests\r\nRetry-After: 3"),
    Phase("nothing happens", 0),
    Phase("everything comes twice", 10, twice=True),
    Phase("the jobs' token has expired", 10, jobs="401 Unauthorized"),
    Phase("slow receivers", 10, delay=1.5),
    Phase("a webhook is gone", 10, channel="404 Not Found"),
    Phase("very many changes", 80),
)


@dataclass(slots=True)
class Sample:
    """What the listener holds at a moment: seconds since the start, megabytes, and numbers."""

    at: float
    memory: float
    files: int
    threads: int
    database: float
    wal: float


@dataclass(slots=True)
class Soak:
    """A soak.

    Attributes:
        running: The listener.
        jobs: The receiver of jobs.
        channels: The channel of each team.
        accepted: The changes that were answered 202, by entity.
        refused: How many were answered otherwise, by the answer.
        samples: What was read of the listener.
    """

    running: Running
    jobs: StandIn
    channels: dict[str, StandIn]
    accepted: dict[str, list[Change]] = field(default_factory=lambda: defaultdict(list))
    refused: Counter[str] = field(default_factory=Counter)
    samples: list[Sample] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    _last: dict[str, Change] = field(default_factory=dict)
    _serial: int = 0
    _random: random.Random = field(default_factory=lambda: random.Random(17))  # noqa: S311 - no secret

    async def run(self, minutes: float) -> list[str]:
        """Go through the phases, again and again; say in words what is wrong in the end."""
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(
                httpx.AsyncClient(
                    base_url=f"http://127.0.0.1:{self.running.port}", timeout=httpx.Timeout(30, pool=None)
                )
            )
            self.samples.append(self._look())
            watching = asyncio.create_task(self._watch())
            stack.callback(watching.cancel)
            seconds, end = min(PHASE_SECONDS, minutes * 60 / len(PHASES)), self.began + minutes * 60
            for phase in cycle(PHASES):
                await self._pass(phase, client, seconds)
                if time.monotonic() > end:
                    break
            self._answer(Phase("all is well", 0))
            await self._settle(client)
        return [*self._lost(), *self._grown()]

    async def _pass(self, phase: Phase, client: httpx.AsyncClient, seconds: float) -> None:
        self._answer(phase)
        began, sent, posts = time.monotonic(), 0, set[asyncio.Task[None]]()
        while (gone := time.monotonic() - began) < seconds:
            while sent < gone * phase.rate:
                sent += 1
                posts.add(task := asyncio.create_task(self._change(client, twice=phase.twice)))
                task.add_done_callback(posts.discard)
            await asyncio.sleep(0.05)
        await asyncio.gather(*posts)
        await self._release(client)
        newest = self.samples[-1]
        print(
            f"{time.monotonic() - self.began:6.0f} s  {phase.name:28} {phase.rate:4.0f}/s"
            f"  {self._serial:8,} changes  {newest.memory:6.1f} MB  {newest.files:3} files"
            f"  {newest.threads:2} threads  database {newest.database:6.1f} MB, wal {newest.wal:5.1f} MB",
            flush=True,
        )

    def _answer(self, phase: Phase) -> None:
        self.jobs.status, self.channels["red"].status = phase.jobs, phase.channel
        for receiver in (self.jobs, *self.channels.values()):
            receiver.delay = phase.delay

    async def _change(self, client: httpx.AsyncClient, *, twice: bool) -> None:
        self._serial += 1
        number = self._random.randrange(ENTITIES)
        name, team = f"service-{number}", TEAMS[number % len(TEAMS)]
        # One in a million: each value is one change's alone.
        load = self._random.choice((10, 60)) + self._serial / MEGA
        at = time.time()
        change = Change(self._serial, name, name, team, load, at)
        before = self._last.get(name, Change(0, name, name, team, 10.5, at))
        self._last[name] = change
        iso = datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        body = event_body(before, change, iso)
        for _ in range(1 + twice):
            headers = signed_headers(body, SECRET, datetime.now(UTC))
            with suppress(httpx.HTTPError):
                answer = await client.post(PATH, content=body, headers=headers)
                if answer.status_code == 202 and not answer.json()["duplicate"]:
                    self.accepted[name].append(change)
                elif answer.status_code != 202:
                    self.refused[str(answer.status_code)] += 1

    async def _release(self, client: httpx.AsyncClient) -> None:
        """Do what an operator does: release what is on hold."""
        headers = {"Authorization": f"Bearer {TOKEN}"}
        for queue in (await client.get("/api/v1/queues", headers=headers)).json():
            if queue["on_hold"]:
                await client.post(f"/api/v1/queues/{queue['name']}/release", headers=headers)

    async def _settle(self, client: httpx.AsyncClient) -> None:
        end = time.monotonic() + ENDS_WITHIN_SECONDS
        while self._waiting() and time.monotonic() < end:
            await self._release(client)
            await asyncio.sleep(1)

    def _waiting(self) -> str:
        with closing(sqlite3.connect(self.running.folder / "listener.db")) as database:
            counted = dict(database.execute(COUNT).fetchall())
        return ", ".join(f"{counted[state]:,} {state}" for state in ("pending", "dead") if state in counted)

    def _lost(self) -> list[str]:
        wrong = (
            [f"after {ENDS_WITHIN_SECONDS:.0f} s there are left: {left}"] if (left := self._waiting()) else []
        )
        for status, number in self.refused.items():  # not taken: the sender knows
            print(f"{number:,} webhooks were answered {status}")
        ran = Counter[str]()
        for body in self.jobs.taken:
            alert = loads(body)
            if alert["change"] is not None:
                ran[f"{alert['change']['after']:.6f}"] += 1
        wanted = {f"{change.load:.6f}" for changes in self.accepted.values() for change in changes}
        if lost := wanted - ran.keys():
            wrong.append(f"{len(lost):,} changes ran no job, {min(lost)} among them")
        if repeated := sum(ran.values()) - len(ran):
            wrong.append(f"{repeated:,} jobs ran twice, though each was answered")
        for team, channel in self.channels.items():
            wrong += self._untold(team, channel)
        told = sum(len(channel.taken) for channel in self.channels.values())
        print(f"{len(wanted):,} changes accepted; {sum(ran.values()):,} jobs, {told:,} messages")
        return wrong

    def _untold(self, team: str, channel: StandIn) -> list[str]:
        values, counted = defaultdict[str, Counter[str]](Counter), Counter[str]()
        for body in channel.taken:
            lines = read_lines(loads(body))
            counted.update(lines.unnamed)
            for entity, named in lines.loads.items():
                values[entity].update(f"{load:.6f}" for load in named[1:] if load)
        wrong = []
        for entity, changes in self.accepted.items():
            if changes[0].team != team:
                continue
            unnamed = len({f"{change.load:.6f}" for change in changes} - values[entity].keys())
            if unnamed > counted[entity]:
                wrong.append(f"#{team} was not told of {unnamed - counted[entity]} changes of {entity}")
            if repeated := values[entity].total() - len(values[entity]):
                wrong.append(f"#{team} was told of {repeated} changes of {entity} twice")
        return wrong

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(SAMPLE_SECONDS)
            self.samples.append(await asyncio.to_thread(self._look))

    def _look(self) -> Sample:
        process, file = self.running.process, self.running.folder / "listener.db"
        wal = file.with_name("listener.db-wal")
        return Sample(
            time.monotonic() - self.began,
            self.running.resident_bytes() / MEGA,
            process.num_fds(),
            process.num_threads(),
            file.stat().st_size / MEGA,
            (wal.stat().st_size if wal.exists() else 0) / MEGA,
        )

    def _grown(self) -> list[str]:
        """Compare the last quarter of the samples with the second: the first one is for warming up."""
        quarter = max(1, len(self.samples) // 4)
        early, late = self.samples[quarter : 2 * quarter] or self.samples, self.samples[-quarter:]
        wrong = []
        # What is open follows the rate: the least of it is what stays open.
        for name, least in (("memory", statistics.median), ("files", min), ("threads", min)):
            before, after = (least(getattr(one, name) for one in part) for part in (early, late))
            print(f"{name}: {before:,.1f} in the second quarter, {after:,.1f} in the last")
            if after > before * FLAT and len(self.samples) >= ENOUGH_SAMPLES:
                wrong.append(f"{name} grew from {before:,.1f} to {after:,.1f}")
        wal, newest = max(one.wal for one in self.samples), self.samples[-1]
        print(f"the write-ahead log: {wal:.1f} MB at most, {newest.wal:.1f} MB at the end")
        accepted = sum(map(len, self.accepted.values()))
        print(f"the database: {newest.database * 1000 / max(1, accepted):.1f} kB for each change")
        return wrong + ([f"the write-ahead log took {wal:.1f} MB"] if wal > MOST_WAL_MEGABYTES else [])


def rules(jobs: StandIn, channels: dict[str, StandIn]) -> str:
    """Make a rules file: a channel for each team, and a job for each change."""
    destinations: dict[str, object] = {
        team: {"type": "slack", "webhook_url": channel.url} for team, channel in channels.items()
    }
    destinations["jobs"] = {"type": "http", "url": jobs.url, "allow_private": True, "steps": STEPS}
    rule = {
        "name": "load",
        "blueprint": "service",
        "when": {"property": "load"},
        "resolve": {"property": "load", "below": 50},
        "send": [{"by_team": {team: team for team in channels}, "default": TEAMS[0]}, "jobs"],
    }
    return dumps({"version": 1, "destinations": destinations, "rules": [rule]})


def main(arguments: Sequence[str]) -> None:
    """Soak, and end with status 1 if anything was lost or has grown."""
    parser = argparse.ArgumentParser(prog="scripts/bench soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (default 10)")
    options = parser.parse_args(arguments)
    if not 0 < options.minutes < inf:
        parser.error("--minutes must be a number above 0")
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_folder())
        jobs = stack.enter_context(stand_in())
        channels = {team: stack.enter_context(stand_in()) for team in TEAMS}
        listener = Listener(
            channels[TEAMS[0]].url,
            rules=rules(jobs, channels),
            environment={"ADMIN_TOKEN": TOKEN, "LOG_LEVEL": "ERROR"},
        )
        running = stack.enter_context(listener.start(folder))
        wrong = asyncio.run(Soak(running, jobs, channels).run(options.minutes))
    if wrong:
        raise SystemExit("\n".join(wrong))
    print("every change is accounted for, and nothing has grown")
