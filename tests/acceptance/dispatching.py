"""A dispatcher as a process of its own, which is quick to start and to kill."""

import asyncio
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from multiprocessing.process import BaseProcess
from pathlib import Path
from secrets import token_hex

from app.deliver.dispatcher import Dispatcher
from app.deliver.turn import Sender
from app.notifier.base import Item, Notifier, Parcel, Sent
from app.receive.payload import bare_event
from app.store.rows import Claim, Waiting
from app.store.sqlite.database import open_sqlite
from tests.forking import CONTEXT

SEND_SECONDS = 0.02


class FileNotifier(Notifier):
    """Appends the entities that a message names to a file, one to a line."""

    batch_limit = 1000

    def __init__(self, file: Path, seconds: float) -> None:
        self._file = os.open(file, os.O_APPEND | os.O_CREAT | os.O_WRONLY)
        self._seconds = seconds

    async def send(self, parcel: Parcel) -> Sent:
        os.write(self._file, "".join(f"{item.notification.entity}\n" for item in parcel.items).encode())
        await asyncio.sleep(self._seconds)
        return Sent("ok")


async def _prepare(claim: Claim, deliveries: Sequence[Waiting]) -> Parcel:
    items = (Item(one.key, one.notification, one.parent) for one in deliveries)
    return Parcel(tuple(items), bare_event(claim.body))


def _dispatch(database: Path, file: Path, seconds: float) -> None:
    def clock() -> datetime:
        return datetime.now(UTC)

    async def run() -> None:
        store = open_sqlite(database)
        notifiers = {"default": FileNotifier(file, seconds)}
        sender = Sender(store, notifiers, prepare=_prepare, clock=clock, jitter=lambda: 0.0)
        await Dispatcher(store, sender, clock=clock, new_token=lambda: token_hex(8)).run()

    asyncio.run(run())


def start_dispatcher(database: Path, file: Path, seconds: float = SEND_SECONDS) -> BaseProcess:
    """Start a process that delivers what a database holds.

    Args:
        database: A SQLite file of this release's schema.
        file: What is sent is appended here, an entity to a line.
        seconds: How long a send takes.
    """
    process = CONTEXT.Process(target=_dispatch, args=(database, file, seconds), daemon=True)
    process.start()
    return process
