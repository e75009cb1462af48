"""A process that stores changes, delivers some and makes a copy, and says what it has promised.

usage: python -m tests.power.load FOLDER SYNCHRONOUS
"""

import asyncio
import os
import sys
from pathlib import Path

from app.model.delivery import Outcome
from app.store.sqlite.copy import copy_database
from app.store.sqlite.database import SQLiteDatabase, open_sqlite
from tests.store.helpers import attempt, claim_one, incoming

ROUNDS, AT_ONCE = 45, 3


async def main(folder: Path, synchronous: str) -> None:
    """Load the store; each promise is a line that is written to ``promises``, as soon as it holds."""
    promises = os.open(folder / "promises", os.O_WRONLY | os.O_CREAT)
    said = 0

    def promise(text: str) -> None:
        nonlocal said
        said += os.pwrite(promises, f"{text}\n".encode(), said)

    store = open_sqlite(folder / "listener.db")
    database = store._database  # noqa: SLF001 - its setting is changed
    assert isinstance(database, SQLiteDatabase)
    if synchronous != "configured":
        database.writer._connection.execute(f"PRAGMA synchronous = {synchronous}")  # noqa: SLF001

    async def accept(number: int) -> None:
        change = incoming(entity=f"entity-{number}", second=number)
        await store.accept([change])
        promise(change.change.key)

    for number in range(ROUNDS):
        await asyncio.gather(*(accept(number * AT_ONCE + one) for one in range(AT_ONCE)))
        if claim := await claim_one(store, second=number * 10):
            await store.record(claim, attempt(Outcome.DELIVERED, second=number * 10))
        if number == ROUNDS // 2:
            copy_database(folder / "listener.db", folder / "copy.db")
            promise("copied")
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
