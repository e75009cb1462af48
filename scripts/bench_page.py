#!/usr/bin/env python3
"""Measures how long the page's server takes for each of its pages, with a million changes in the store.

The store is filled past `accept`, row by row in its own tables, because a million real requests take minutes.
The pages are then asked for over HTTP on loopback; the median and the slowest of several rounds are shown.
With PostgreSQL, the rows are moved to a server of its own first.
"""

import argparse
import asyncio
import json
import resource
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from app.alerts.incident import Step  # noqa: E402 - the root had to be found first
from app.alerts.notification import Notification, ValueChange  # noqa: E402
from app.demo import change_body, serving  # noqa: E402
from app.logs import configure_logging  # noqa: E402
from app.main import create_app  # noqa: E402
from app.settings import Settings  # noqa: E402
from app.store.columns import to_micros  # noqa: E402
from app.store.move import move  # noqa: E402
from app.store.schema import prepare  # noqa: E402
from tests.postgres import PostgresServer  # noqa: E402

TOKEN = "a-token-for-this-benchmark"  # noqa: S105 - of this benchmark's own listener
ENTITIES = 20_000
BLUEPRINTS = 20
TEAMS = 50
RULES = 30
ALERTS_EVERY = 4
BATCH = 20_000
SPACING = timedelta(seconds=2)


def fill(path: Path, number: int) -> None:
    """Write so many changes, of which each fourth has alerted, with deliveries, attempts and incidents."""
    prepare(path)
    start = datetime.now(UTC) - SPACING * number
    before, after = change_body(before="Healthy", after="Degraded", at=start, entity="ENTITY").split(
        b"ENTITY", 1
    )
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA synchronous = OFF")
        db.execute("INSERT INTO lanes (name, destination) VALUES ('default', 'default')")
        db.execute("INSERT INTO lanes (name, destination, held) VALUES ('held', 'held', '404 no_service')")
        for first in range(1, number + 1, BATCH):
            batch = range(first, min(first + BATCH, number + 1))
            db.executemany(
                "INSERT INTO changes (id, key, received_at, at, action, resource, blueprint, entity, teams,"
                " reason, alerts, body) VALUES (?, ?, ?, ?, 'UPDATE', 'entity', ?, ?, ?, ?, ?, ?)",
                (_change(one, start, before, after) for one in batch),
            )
            names = {_names(one)[1::-1] for one in batch}
            db.executemany("INSERT OR IGNORE INTO entities VALUES (?, ?)", names)
            alerting = [one for one in batch if one % ALERTS_EVERY == 0]
            db.executemany(
                "INSERT INTO deliveries (id, change_id, incident_id, lane, destination, notification, state,"
                " due_at, created_at, waiting_since, ended_at) VALUES (?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?)",
                (_delivery(one, start, number) for one in alerting),
            )
            db.executemany(
                "INSERT INTO attempts (delivery_id, outcome, detail, started_at, ended_at)"
                " VALUES (?, 'delivered', 'ok', ?, ?)",
                ((one, _micros(one, start), _micros(one, start) + 200_000) for one in alerting),
            )
            db.executemany(
                "INSERT INTO incidents VALUES (?,?,?,?,?,?,?,?,?,?,?,?)", _incidents(batch, start, number)
            )
            db.commit()


def _names(one: int) -> tuple[str, str, str]:
    entity = one * 7919 % ENTITIES
    return f"blueprint-{entity % BLUEPRINTS}", f"service-{entity:05}-prod", f"team-{entity % TEAMS}"


def _micros(one: int, start: datetime) -> int:
    return to_micros(start + SPACING * one)


def _change(one: int, start: datetime, before: bytes, after: bytes) -> tuple[Any, ...]:
    blueprint, entity, team = _names(one)
    at = _micros(one, start)
    alerts = int(one % ALERTS_EVERY == 0)
    reason = f"rule 'rule-{one % RULES}' matches" if alerts else "rule 'health': healthStatus did not change"
    body = before + entity.encode() + after.replace(b"ENTITY", entity.encode())
    return one, f"{one:064x}", at, at, blueprint, entity, json.dumps([team]), reason, alerts, body


def _delivery(one: int, start: datetime, number: int) -> tuple[Any, ...]:
    blueprint, entity, team = _names(one)
    said = Notification(
        step=Step.OPENED,
        rule=f"rule-{one % RULES}",
        blueprint=blueprint,
        entity=entity,
        title=f"Service {entity}",
        teams=(team,),
        change=ValueChange(name="healthStatus", before="Healthy", after="Degraded"),
        at=start + SPACING * one,
    )
    at = _micros(one, start)
    state = "dead" if one % 1000 == 0 else "pending" if one > number - 1000 else "delivered"
    lane = "held" if state == "pending" else "default"
    ended = None if state == "pending" else at
    return one, one, f"incident-{one}", lane, lane, said.model_dump_json(), state, at, at, ended


def _incidents(batch: range, start: datetime, number: int) -> Iterator[tuple[Any, ...]]:
    for one in batch:
        if one % ALERTS_EVERY == 0:
            blueprint, entity, _ = _names(one)
            ended = None if one > number - 2_000 else _micros(one + 5, start)
            at = _micros(one, start)
            rule = f"rule-{one % RULES}"
            row = (f"incident-{one}", rule, blueprint, entity, "Degraded", at, at, ended)
            yield *row, None, "critical" if one % 8 else "warning", "[]", 0


PAGES = (
    "/",
    "/timeline?hours=1",
    "/timeline/data?hours=72",
    "/changes",
    "/changes?before=500000",
    "/changes?blueprint=blueprint-3",
    "/changes?q=00042",
    "/changes?q=prod",
    "/changes?q=nothing-like-it",
    "/changes?entity=service-00042-prod",
    "/changes?team=team-7",
    "/changes?rule=rule-5",
    "/changes?rule=rule-4&team=team-7&blueprint=blueprint-3",
    "/changes?state=dead",
    "/changes?state=held",
    "/changes?state=silenced",
    "/changes?state=none&q=prod",
    "/changes?team=team-8&state=dead",
    "/changes?blueprint=blueprint-3&team=team-8",
    "/changes?since=2020-01-01T00:00&until=2026-01-01T00:00",
    "/changes/500000",
    "/entity?blueprint=blueprint-2&entity=service-00042-prod",
    "/silences",
    "/quarantine",
    "/audit",
    "/test",
    "/api/v1/changes?limit=50",
    "/api/v1/deliveries",
    "/api/v1/deliveries?state=dead",
    "/api/v1/deliveries?state=silenced",
    "/api/v1/deliveries?state=pending",
    "/api/v1/incidents",
    "/api/v1/incidents?state=open",
    "/api/v1/incidents?state=resolved",
    "/api/v1/lanes",
)


async def measure(database: str, rounds: int) -> float:
    """Ask for each page so often, print how long the server took, and return the slowest median in ms."""
    settings = Settings(_env_file=None, accept_unsigned=True, database_url=database, admin_token=TOKEN)
    slowest = 0.0
    async with serving(create_app(settings)) as url, httpx.AsyncClient(base_url=url, timeout=60) as client:
        await client.post("/sign-in", data={"name": "bench", "token": TOKEN})
        before = _memory()
        for page in PAGES:
            headers = {"Authorization": f"Bearer {TOKEN}"} if page.startswith("/api/") else {}
            took = []
            for _ in range(rounds):
                began = time.perf_counter()
                answer = await client.get(page, headers=headers)
                took.append((time.perf_counter() - began) * 1000)
                answer.raise_for_status()
            slowest = max(slowest, statistics.median(took))
            print(f"{statistics.median(took):8.1f} ms  {max(took):8.1f} ms at most  {page}")
        print(f"memory: {before} MiB before, {_memory()} MiB after")
    return slowest


async def moved(path: Path, server: PostgresServer) -> str:
    """Move a file's rows to a server, and return the database's URL."""
    url = await server.new_database()
    began = time.perf_counter()
    await move(path, url, say=lambda _: None)
    await server.execute("VACUUM ANALYZE", url)
    print(f"moved to PostgreSQL in {time.perf_counter() - began:.0f} s")
    return url


def _memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> None:
    """Fill a store, measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--changes", type=int, default=1_000_000, help="how many changes to store")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--postgres", action="store_true", help="measure with PostgreSQL")
    parser.add_argument("--keep", type=Path, help="fill this file, or use it if it is there, and leave it")
    options = parser.parse_args()
    configure_logging("ERROR", "text")
    with tempfile.TemporaryDirectory(prefix="port-listener-bench-") as folder:
        path = options.keep or Path(folder) / "million.db"
        if not path.exists():
            began = time.perf_counter()
            fill(path, options.changes)
            size = path.stat().st_size / 2**30
            print(f"{options.changes:,} changes in {time.perf_counter() - began:.0f} s, {size:.1f} GiB")
        if options.postgres:
            server = PostgresServer()
            try:
                server.make()
                url = asyncio.run(moved(path, server))
                slowest = asyncio.run(measure(url, options.rounds))
            finally:
                server.remove()
        else:
            slowest = asyncio.run(measure(f"sqlite:///{path}", options.rounds))
    print(f"the slowest: {slowest:.0f} ms")


if __name__ == "__main__":
    main()
