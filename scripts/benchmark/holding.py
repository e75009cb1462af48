"""Memory, and the time from the start to the first good answer, with an empty store and with a full one."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from scripts.benchmark.accepting import accept
from scripts.benchmark.listeners import Listener
from scripts.benchmark.processes import temporary_folder
from scripts.benchmark.table import Figure

MB = 1_000_000
IDLE_SECONDS = 2.0
WAITING = """
UPDATE deliveries SET state = 'pending', queue = 'default', destination = 'default', ended_at = NULL
WHERE id IN (SELECT id FROM deliveries ORDER BY id DESC LIMIT ?)
"""

LIBRARIES = (
    "it is the libraries: pydantic and FastAPI take 23 MB, aiohttp and slack_sdk 10; our own modules 8."
)


def let_wait(database: Path, number: int) -> None:
    """Let the newest alerts, so many, wait again."""
    with closing(sqlite3.connect(database)) as db:
        changed = db.execute(WAITING, [number]).rowcount
        db.commit()
    if changed != number:
        raise RuntimeError(f"{number} alerts are to wait, but there are only {changed}")


def starts(listener: Listener, name: str, rounds: int) -> tuple[Figure, list[float]]:
    """Return how long it takes to be ready, and how much memory it then has, for each round."""
    took, memory = [], []
    for _ in range(rounds):
        with temporary_folder() as folder, listener.start(folder) as running:
            took.append(running.started)
            if listener.database is None:
                time.sleep(IDLE_SECONDS)
            memory.append(running.resident_bytes() / MB)
    return Figure(f"from start to ready, {name}", "s", took, below=0.8), memory


def busy(listener: Listener, rounds: int, seconds: float) -> list[float]:
    """Return how much memory it has after so many seconds of load, for each round."""
    memory = []
    for _ in range(rounds):
        with temporary_folder() as folder, listener.start(folder) as running:
            accept(listener, running, seconds)
            memory.append(running.resident_bytes() / MB)
    return memory


def holding(empty: Listener, full: Listener, rounds: int, seconds: float) -> list[Figure]:
    """Return the time of starts, and memory.

    Args:
        empty: A listener with a new store.
        full: One with a million changes, and many that wait.
        rounds: How many rounds.
        seconds: How long the load on the full one lasts.
    """
    first, memory = starts(empty, "new store", rounds)
    second, _ = starts(full, "a million changes stored", rounds)
    return [
        Figure("memory after the start", "MB", memory, below=80, why=LIBRARIES),
        Figure(
            "memory after load, a million changes stored and 100,000 alerts waiting",
            "MB",
            busy(full, rounds, seconds),
            below=90,
            why=LIBRARIES,
        ),
        first,
        second,
    ]
