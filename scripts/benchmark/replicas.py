"""Measures what one, two and four replicas on one PostgreSQL accept and deliver a second.

First replicas that only listen are given signed changes of different entities, over 32 connections; then as
many that only deliver take them, each alert in a message of its own, to a stand-in Slack with 64 channels
that takes whatever comes. The server is PostgreSQL as it comes, with fsync, in a temporary folder. All of it,
the load too, shares this machine. A round ends after a minute at the latest.
"""

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import psutil

from app.demo.run import change_body, serving, signed_headers
from app.demo.stand_in_slack import StandInSlack
from app.store.opening import now
from app.store.postgres.database import open_postgres
from app.store.prune import PRUNED_ROWS
from scripts.benchmark.changes import SECRET
from scripts.benchmark.load import CONNECTIONS
from scripts.benchmark.processes import ROOT
from tests.postgres import PostgresServer

CHANNELS = 64
LONGEST = 60.0
Request = tuple[bytes, dict[str, str]]

# One change each of many entities, a tenth of which have an open incident.
ENTITIES = """
INSERT INTO changes (key, received_at, at, action, resource, blueprint, entity, teams, reason, alerts, body)
SELECT 'filler-' || n, 1, 1, 'UPDATE', 'entity', 'deploymentConfig', 'entity-' || n, '[]', '', 0,
    decode(repeat(md5(n::text), 40), 'hex') FROM generate_series(1, {0}) AS n;
INSERT INTO incidents (id, rule, blueprint, entity, state, opened_at, changed_at, severity, moves,
    flapping, told, openings)
SELECT 'filler-' || n, 'another', 'deploymentConfig', 'entity-' || n, 'Degraded', 1, 1, 'warning', '[]',
    false, '[]', '[]'
FROM generate_series(1, {0}, 10) AS n;
VACUUM ANALYZE
"""
TABLES = ("changes", "incidents", "deliveries", "attempts")


@dataclass(frozen=True)
class Load:
    """What a number of changes has cost the database."""

    cpu: float
    transactions: int
    wal: int

    @classmethod
    async def now(cls, server: PostgresServer, url: str) -> "Load":
        """Return what it has cost so far."""
        (row,) = await server.execute(
            "SELECT xact_commit, pg_current_wal_lsn() - '0/0' FROM pg_stat_database"
            " WHERE datname = current_database()",
            url,
        )
        main = psutil.Process(int((server.data / "postmaster.pid").read_text().split()[0]))
        cpu = 0.0
        for child in main.children():
            with contextlib.suppress(psutil.NoSuchProcess):  # it has ended, and its parent has its times
                spent = child.cpu_times()
                cpu += spent.user + spent.system
        spent = main.cpu_times()
        cpu += spent.user + spent.system + spent.children_user + spent.children_system
        return cls(cpu, row[0], int(row[1]))

    def since(self, before: "Load", number: int) -> str:
        """Return what each of so many took since then."""
        milliseconds = (self.cpu - before.cpu) * 1000 / number
        kilobytes = (self.wal - before.wal) / number / 1024
        transactions = (self.transactions - before.transactions) / number
        return f"{milliseconds:.2f} ms CPU, {kilobytes:.1f} KiB WAL, {transactions:.2f} transactions"


def rules(slack: str) -> str:
    """Return a rules file by which each team has a channel."""
    destinations = {
        f"team{one}": {
            "type": "slack",
            "webhook_url": f"{slack}/services/{one}",
            "digest_after": 1000,
            "rate": 1000,
        }
        for one in range(CHANNELS)
    }
    send = {"by_team": {name: name for name in destinations}, "default": "team0"}
    rule = {
        "name": "health",
        "blueprint": "deploymentConfig",
        "when": {"property": "healthStatus"},
        "send": send,
    }
    return json.dumps({"version": 1, "destinations": destinations, "rules": [rule]})


def sign(number: int) -> list[Request]:
    """Return changes of so many entities, with their headers."""
    signed = []
    start = datetime.now(UTC)
    for one in range(number):
        body = change_body(
            before="Healthy",
            after="Degraded",
            at=start + timedelta(milliseconds=one),
            entity=f"entity-{one}",
            team=f"team{one % CHANNELS}",
        )
        signed.append((body, signed_headers(body, SECRET, start)))
    return signed


@contextmanager
def processes(folder: Path, url: str, port: int, number: int, *command: str) -> Iterator[list[str]]:
    """Run so many replicas, and give their addresses."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "PORT_CLIENT_SECRET": SECRET,
        "DATABASE_URL": url,
        "RULES_FILE": "rules.json",
        "LOG_LEVEL": "ERROR",
    }
    arguments = [sys.executable, "-m", "app", *command, "--port"]
    ports = range(port, port + number)
    running = []
    for one in ports:
        running.append(subprocess.Popen([*arguments, str(one)], cwd=folder, env=environment))  # noqa: PERF401
    try:
        yield [f"http://127.0.0.1:{one}" for one in ports]
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()


async def ready(urls: list[str]) -> None:
    """Wait until all replicas answer."""
    async with asyncio.timeout(30), aiohttp.ClientSession() as session:
        for url in urls:
            while True:
                try:
                    async with session.get(f"{url}/readyz") as answer:
                        if answer.status == 200:
                            break
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.05)


async def post_all(urls: list[str], requests: list[Request]) -> float:
    """Post all to the replicas in turns, and return how many were accepted a second."""
    waiting = iter(enumerate(requests))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS)) as session:

        async def send() -> None:
            for number, (body, headers) in waiting:
                url = f"{urls[number % len(urls)]}/api/slack"
                async with session.post(url, data=body, headers=headers) as answer:
                    if answer.status != 202:
                        raise RuntimeError(f"{answer.status} {await answer.text()}")

        began = time.perf_counter()
        await asyncio.gather(*(send() for _ in range(CONNECTIONS)))
        return len(requests) / (time.perf_counter() - began)


async def delivered(slack: StandInSlack, number: int) -> tuple[int, float]:
    """Wait until so many messages have come, or the time is up; return how many came, and their rate."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LONGEST):
            while len(slack.received) < number:  # noqa: ASYNC110 - it is asked seldom enough
                await asyncio.sleep(0.05)
    seconds = slack.received[-1][0] - slack.received[0][0]
    return len(slack.received), len(slack.received) / seconds


async def sizes(server: PostgresServer, url: str) -> dict[str, int]:
    """Return how large each table is with its indexes, bytes."""
    columns = ", ".join(f"pg_total_relation_size('{one}')" for one in TABLES)
    (row,) = await server.execute(f"SELECT {columns}", url)
    return dict(zip(TABLES, row, strict=True))


async def prune(url: str) -> float:
    """Delete changes as the listener does, for a few seconds, and return how many a second went."""
    store = await open_postgres(url, clock=now)
    deleted, began = 0, time.perf_counter()
    while time.perf_counter() - began < 5:
        some = await store.prune(before=now(), limit=PRUNED_ROWS)
        if not some:
            break
        deleted += some
    await store.close()
    return deleted / (time.perf_counter() - began)


async def fill(server: PostgresServer, url: str, entities: int) -> None:
    """Make the tables, with so many entities in them."""
    await (await open_postgres(url, clock=now)).close()
    for statement in ENTITIES.format(entities).split(";"):
        await server.execute(statement, url)


async def measure(server: PostgresServer, replicas: int, changes: int, port: int, entities: int) -> None:
    """Measure one number of replicas, and print a line for each figure."""
    slack, url = StandInSlack(), await server.new_database()
    await fill(server, url, entities)
    empty = await sizes(server, url)
    with tempfile.TemporaryDirectory(prefix="port-listener-bench-") as name:
        async with serving(slack.app) as address:
            folder = Path(name)
            (folder / "rules.json").write_text(rules(address))
            with processes(folder, url, port, replicas, "serve", "--no-dispatch") as urls:
                await ready(urls)
                requests = sign(changes)
                before = await Load.now(server, url)
                accepted = await post_all(urls, requests)
                load = (await Load.now(server, url)).since(before, changes)
            print(f"{replicas} accepting:  {accepted:6.0f} changes a second; each {load}", flush=True)
            before = await Load.now(server, url)
            with processes(folder, url, port, replicas, "dispatch"):
                number, rate = await delivered(slack, changes)
                load = (await Load.now(server, url)).since(before, number)
            print(f"{replicas} delivering: {rate:6.0f} messages a second; each {load}", flush=True)
    grown = ((name, size - empty[name]) for name, size in (await sizes(server, url)).items())
    print("  bytes a change:", ", ".join(f"{name} {size / changes:.0f}" for name, size in grown))
    print(f"  pruned a second: {await prune(url):.0f}", flush=True)


def main(arguments: Sequence[str]) -> None:
    """Measure one, two and four replicas."""
    parser = argparse.ArgumentParser(prog="scripts/bench replicas", description=__doc__)
    parser.add_argument("--changes", type=int, default=3000, help="how many changes a round")
    parser.add_argument("--entities", type=int, default=1000, help="how many entities there are already")
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--port", type=int, default=18081)
    options = parser.parse_args(arguments)
    server = PostgresServer(fsync=True)
    server.make()
    try:
        for replicas in options.replicas:
            asyncio.run(measure(server, replicas, options.changes, options.port, options.entities))
    finally:
        server.remove()
