"""Measures the comparison with Port of 100,000 entities: time, requests, memory, and what it costs accepting.

A stand-in answers searches with pages that were made beforehand. The listener learns all entities at its
start, compares them in a run of its own, and then is given load while a run is under way, in turns with one
that has the same store and rules and does not compare.
"""

import argparse
import asyncio
import json
import shutil
import sqlite3
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.demo.run import serving
from scripts.benchmark.accepting import accept
from scripts.benchmark.changes import SECRET
from scripts.benchmark.listeners import Listener
from scripts.benchmark.machine import take_load_core
from scripts.benchmark.processes import Running, temporary_folder
from scripts.benchmark.slack import stand_in

BLUEPRINT = "deploymentConfig"
PATIENCE = 600.0


class Catalog:
    """A stand-in for Port's API with so many entities, all of them healthy.

    Attributes:
        url: The API's address.
        requests: How many pages were asked for.
        sent: How many bytes they had.
    """

    def __init__(self, entities: int) -> None:
        self.url = ""
        self.requests = self.sent = 0
        self._pages = list(_pages(entities))
        self.app = Starlette(
            routes=[
                Route("/v1/auth/access_token", self._token, methods=["POST"]),
                Route(f"/v1/blueprints/{BLUEPRINT}", self._blueprint),
                Route(f"/v1/blueprints/{BLUEPRINT}/entities/search", self._search, methods=["POST"]),
            ]
        )

    async def _token(self, _: Request) -> Response:
        return _json({"ok": True, "accessToken": "token", "expiresIn": 10800, "tokenType": "Bearer"})

    async def _blueprint(self, _: Request) -> Response:
        schema = {"properties": {"healthStatus": {"type": "string"}, "cpuUtil": {"type": "number"}}}
        return _json({"ok": True, "blueprint": {"identifier": BLUEPRINT, "schema": schema}})

    async def _search(self, request: Request) -> Response:
        asked = await request.json()
        if asked["query"]["rules"]:  # those that the load has made are not here
            return _json({"ok": True, "entities": []})
        page = self._pages[int(asked.get("from", 0))]
        self.requests, self.sent = self.requests + 1, self.sent + len(page)
        return Response(page, media_type="application/json")


def _json(value: object) -> Response:
    return Response(json.dumps(value), media_type="application/json")


def _pages(entities: int) -> Iterator[bytes]:
    updated_at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    for first in range(0, entities, 1000):
        found = [
            {
                "identifier": f"entity-{number:06}",
                "title": f"Entity {number}",
                "team": ["Rocket"],
                "updatedAt": updated_at,
                "properties": {"healthStatus": "Healthy"},
                "relations": {},
            }
            for number in range(first, min(first + 1000, entities))
        ]
        page: dict[str, object] = {"ok": True, "entities": found}
        if first + 1000 < entities:
            page["next"] = str(first // 1000 + 1)
        yield json.dumps(page, separators=(",", ":")).encode()


@contextmanager
def catalog(entities: int) -> Iterator[Catalog]:
    """Serve a catalog from a thread of its own."""
    standing, started, ending = Catalog(entities), threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with serving(standing.app) as standing.url:
            started.set()
            await ending.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    started.wait()
    try:
        yield standing
    finally:
        loop.call_soon_threadsafe(ending.set)
        thread.join()
        loop.close()


@dataclass
class Comparing(Listener):
    """The listener, with a rule that names a blueprint, and with Port's API; `every` in minutes, 0: never."""

    port_url: str = ""
    every: float = 0.0

    def start(self, folder: Path) -> AbstractContextManager[Running]:
        """Run it, in a folder."""
        self.environment = {
            "PORT_CLIENT_ID": "bench",
            "PORT_CLIENT_SECRET": SECRET,
            "PORT_API_URL": self.port_url,
            "RECONCILE_MINUTES": str(self.every),
        }
        return super().start(folder)


def run_of(database: Path, number: int) -> float | None:
    """Return how many seconds a run took, from the store; None: it has not ended."""
    with closing(sqlite3.connect(database)) as db:
        row = db.execute(
            "SELECT ended_at - started_at, error FROM reconcile_runs WHERE id = ?", (number,)
        ).fetchone()
    if row and row[1]:
        raise RuntimeError(f"the run failed: {row[1]}")
    return row[0] / 1e6 if row and row[0] is not None else None


def wait_for(database: Path, number: int, running: Running) -> tuple[float, int]:
    """Return how many seconds a run took, and how much memory there was at the most."""
    end, most = time.monotonic() + PATIENCE, 0
    while (seconds := run_of(database, number)) is None:
        if time.monotonic() > end:
            raise RuntimeError("the run does not end")
        most = max(most, running.resident_bytes())
        time.sleep(0.2)
    return seconds, most


def main(arguments: Sequence[str]) -> None:
    """Measure, and print a line for each figure."""
    parser = argparse.ArgumentParser(prog="scripts/bench reconcile", description=__doc__)
    parser.add_argument("--entities", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="how long a round of accepting is, about")
    options = parser.parse_args(arguments)
    take_load_core()
    with stand_in() as slack, catalog(options.entities) as port, temporary_folder() as folder:
        comparing = Comparing(slack.url, every=1440, port_url=port.url)
        for number, what in ((1, "learning"), (2, "comparing")):
            database, asked, sent = folder / "listener.db", port.requests, port.sent
            with comparing.start(folder) as running:
                before, spent = running.resident_bytes(), running.cpu_seconds()
                seconds, most = wait_for(database, number, running)
                used = running.cpu_seconds() - spent
            print(
                f"{what} {options.entities:,} entities: {seconds:.1f} s, {used:.1f} s of CPU,"
                f" {port.requests - asked} requests, {(port.sent - sent) / 1e6:.1f} MB;"
                f" {before / 1e6:.0f} MB of memory before it, {most / 1e6:.0f} MB at the most"
            )
            with closing(sqlite3.connect(database)) as db:  # so that the next start has a run to make
                db.execute("UPDATE reconcile_runs SET started_at = started_at - 7200000000")
                db.commit()
        rates: dict[str, list[float]] = {"without": [], "meanwhile": []}
        for _ in range(options.rounds):
            for name, every in (("without", 0.0), ("meanwhile", 1440.0)):
                with temporary_folder() as own:
                    shutil.copy(folder / "listener.db", own / "listener.db")
                    subject = Comparing(slack.url, every=every, port_url=port.url)
                    with subject.start(own) as running:
                        rate, _ = accept(subject, running, options.seconds)
                        if every and run_of(own / "listener.db", 3) is not None:
                            raise RuntimeError("the run had ended before the load had: take more entities")
                rates[name].append(rate)
    ratios = [one / other for one, other in zip(rates["meanwhile"], rates["without"], strict=True)]
    for name, found in rates.items():
        low, high = min(found), max(found)
        print(f"accepted {name}: {statistics.median(found):,.0f} a second ({low:,.0f} to {high:,.0f})")
    print(f"meanwhile, of without: {statistics.median(ratios):.0%} ({min(ratios):.0%} to {max(ratios):.0%})")
