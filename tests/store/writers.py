"""Processes that write to a SQLite file."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.store.sqlite.database import open_sqlite
from tests.forking import CONTEXT
from tests.store.helpers import incoming


def _write(path: Path, file: Path) -> None:
    """Store changes without end, and write the key of each that is committed to a file."""

    async def work() -> None:
        store = open_sqlite(path)
        number = 0
        with file.open("w", buffering=1) as out:
            while True:
                (accepted,) = await store.accept([incoming(entity=f"{file.name}-{number}")])
                print(accepted.key, file=out)
                number += 1
                await asyncio.sleep(0.002)

    asyncio.run(work())


def store_fifty(path: Path, file: Path) -> None:
    """Store 50 changes at once, and write how many of them nobody else had stored to a file."""

    async def work() -> int:
        store = open_sqlite(path)
        batches = (store.accept([incoming(entity=f"e{number}")]) for number in range(50))
        new = sum(not one.duplicate for (one,) in await asyncio.gather(*batches))
        await store.close()
        return new

    file.write_text(str(asyncio.run(work())))


@contextmanager
def writers(path: Path, folder: Path) -> Iterator[list[Path]]:
    """Let three processes write to a database, and give the files with the keys of what is committed."""
    files = [folder / f"writer-{number}" for number in range(3)]
    processes = []
    for file in files:
        file.touch()
        processes.append(CONTEXT.Process(target=_write, args=(path, file), daemon=True))
        processes[-1].start()
    try:
        yield files
        assert [process.exitcode for process in processes] == [None] * 3
    finally:
        for process in processes:
            process.kill()
            process.join()


def keys(files: list[Path]) -> list[str]:
    """Return the keys of what is committed; a key that is being printed does not count."""
    return [line for file in files for line in file.read_text().split("\n")[:-1]]
