"""Measures how long the page's server takes for each of its pages, with a million changes in the store.

The store is filled past `accept`, row by row in its own tables, because a million real requests take minutes.
The pages are then asked for over HTTP on loopback; the median and the slowest of several rounds are shown.
With PostgreSQL, the rows are moved to a server of its own first.
"""

import argparse
import asyncio
import resource
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import httpx

from app.demo.run import serving
from app.main import create_app
from app.observe.logs import configure_logging
from app.settings import Settings
from app.store.move import move
from scripts.benchmark.seed import Contents, fill
from tests.postgres import PostgresServer

TOKEN = "a-token-for-this-benchmark"  # noqa: S105 - of this benchmark's own listener


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
    "/changes?state=on_hold",
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
    "/api/v1/queues",
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


def main(arguments: Sequence[str]) -> None:
    """Fill a store, measure, and print a table."""
    parser = argparse.ArgumentParser(prog="scripts/bench page", description=__doc__)
    parser.add_argument("--changes", type=int, default=1_000_000, help="how many changes to store")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--postgres", action="store_true", help="measure with PostgreSQL")
    parser.add_argument("--keep", type=Path, help="fill this file, or use it if it is there, and leave it")
    options = parser.parse_args(arguments)
    configure_logging("ERROR", "text")
    with tempfile.TemporaryDirectory(prefix="port-listener-bench-") as folder:
        path = options.keep or Path(folder) / "million.db"
        if not path.exists():
            began = time.perf_counter()
            fill(path, Contents(options.changes))
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
