"""Processes that write to a SQLite file all the time."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WRITE = """
import asyncio, pathlib, sys
from app.store.sqlite.database import open_sqlite
from tests.store.helpers import incoming

async def work():
    store = open_sqlite(pathlib.Path(sys.argv[1]))
    number = 0
    while True:
        (accepted,) = await store.accept([incoming(entity=f"{sys.argv[2]}-{number}")])
        print(accepted.key, flush=True)
        number += 1
        await asyncio.sleep(0.002)

asyncio.run(work())
"""
"""A process that stores changes without end, and prints the key of each that is committed."""


@contextmanager
def writers(path: Path, folder: Path) -> Iterator[list[Path]]:
    """Let three processes write to a database, and give the files with the keys of what is committed."""
    files = [folder / f"writer-{number}" for number in range(3)]
    processes = []
    for file in files:
        with file.open("wb") as out:
            command = [sys.executable, "-c", WRITE, str(path), file.name]
            processes.append(subprocess.Popen(command, stdout=out))
    try:
        yield files
        assert [process.poll() for process in processes] == [None] * 3
    finally:
        for process in processes:
            process.kill()
            process.wait()


def keys(files: list[Path]) -> list[str]:
    """Return the keys of what is committed; a key that is being printed does not count."""
    return [line for file in files for line in file.read_text().split("\n")[:-1]]
