#!/usr/bin/env python3
"""Measures how many changes a second the real listener accepts, with 10 and with 1,000 rules.

Each change has a key of its own and is signed beforehand; the listener runs on one core, the load on another;
the variants take turns, and the medians of their rounds are shown. All is on loopback and ends by itself.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from app.demo import change_body, signed_headers  # noqa: E402 - the root had to be found first

SECRET = "bench-secret"  # noqa: S105 - of this benchmark's own listener
CONNECTIONS = 32
BLUEPRINTS = 50
Request = tuple[bytes, dict[str, str]]


def rules(number: int) -> str:
    """Return a rules file of so many rules over 50 blueprints, of which one is about the changes."""
    listed = [{"name": "health", "blueprint": "deploymentConfig", "when": {"property": "healthStatus"}}]
    listed += [
        {
            "name": f"rule-{one}",
            "blueprint": f"blueprint{one % (BLUEPRINTS - 1)}" if one % BLUEPRINTS else "deploymentConfig",
            "when": {"property": f"property{one}", "above": one},
        }
        for one in range(number - 1)
    ]
    return json.dumps({"version": 1, "destinations": {"default": {"type": "console"}}, "rules": listed})


def sign(number: int, start: datetime) -> list[Request]:
    """Return so many different changes with their headers."""
    signed = []
    for one in range(number):
        at = start + timedelta(milliseconds=one)
        body = change_body(before="Healthy", after="Degraded", at=at, entity=f"entity-{one % 1000}")
        signed.append((body, signed_headers(body, SECRET, datetime.now(UTC))))
    return signed


async def post_all(url: str, requests: list[Request]) -> float:
    """Post all over 32 connections, and return how many were accepted a second."""
    waiting = iter(requests)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS)) as session:

        async def send() -> None:
            for body, headers in waiting:
                async with session.post(url, data=body, headers=headers) as answer:
                    if answer.status != 202:
                        raise RuntimeError(f"{answer.status} {await answer.text()}")

        began = time.perf_counter()
        await asyncio.gather(*(send() for _ in range(CONNECTIONS)))
        return len(requests) / (time.perf_counter() - began)


async def measure(number_of_rules: int, changes: int, port: int) -> float:
    """Start a listener with so many rules and an empty store, and return changes accepted a second."""
    with tempfile.TemporaryDirectory(prefix="port-listener-bench-") as folder:
        (Path(folder) / "rules.yaml").write_text(rules(number_of_rules))
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "PORT_CLIENT_SECRET": SECRET,
            "RULES_FILE": "rules.yaml",
            "LOG_LEVEL": "WARNING",
        }
        command = [sys.executable, "-m", "app", "serve", "--port", str(port)]
        process = subprocess.Popen(  # noqa: ASYNC220, S603 - starting it takes no time worth a thread
            command, cwd=folder, env=environment, stdout=subprocess.DEVNULL
        )
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(process.pid, {0})
        try:
            await ready(port)
            requests = sign(changes, datetime.now(UTC))
            return await post_all(f"http://127.0.0.1:{port}/api/slack", requests)
        finally:
            process.terminate()
            process.wait()


async def ready(port: int) -> None:
    """Wait until the listener answers."""
    async with asyncio.timeout(20), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(f"http://127.0.0.1:{port}/readyz") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.05)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--changes", type=int, default=5000, help="how many changes a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--port", type=int, default=18081)
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {1})
    figures: dict[int, list[float]] = {10: [], 1000: []}
    for _ in range(options.rounds):
        for number, found in figures.items():
            found.append(asyncio.run(measure(number, options.changes, options.port)))
    medians = {number: statistics.median(found) for number, found in figures.items()}
    print(f"changes accepted a second, signed, all alerting, {CONNECTIONS} connections")
    for number, found in figures.items():
        spread = f"{min(found):.0f} to {max(found):.0f}"
        print(f"{number:6} rules: {medians[number]:6.0f}   ({spread} in {options.rounds} rounds)")
    print(f"ratio: {medians[1000] / medians[10]:.0%}")


if __name__ == "__main__":
    main()
