"""LISTEN and NOTIFY: replicas tell each other at once that something new waits.

Nothing rests on it: a notification that is lost, or that a pgbouncer cannot pass on, is made up for by each
dispatcher's slow poll. The connection that listens also holds the lock by which others see that this process
lives.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from secrets import token_hex
from typing import Any

import asyncpg

from app.errors import StoreUnavailable
from app.store.database_url import for_asyncpg
from app.store.postgres.pool import CONNECT_SECONDS, DATABASE_ERRORS, Connection, Pool, is_the_servers_own
from app.store.postgres.transaction import owner_lock

NOTIFY_CHANNEL = "port_listener"
QUIET_SECONDS = 0.25
"""After one notification the next waits so long: in a storm all dispatchers are awake anyway."""
RECONNECT_SECONDS = 1.0
ALIVE_SECONDS = 15.0


class Notifications:
    """Notifies other processes that this one has stored something, and wakes this one when another has.

    Args:
        pool: Connections to notify by.
        url: Where to listen, on a connection of its own.

    Attributes:
        mark: The mark of this process, while a lock says that it lives; else None.
    """

    def __init__(self, pool: Pool, url: str) -> None:
        self._pool = pool
        self._url, self._driver = for_asyncpg(url)
        self._name = token_hex(8)
        self._notifying: asyncio.Task[None] | None = None
        self._again = False
        self._listening: asyncio.Task[None] | None = None
        self.mark: str | None = None

    def notify(self) -> None:
        """Wake the other replicas' dispatchers; returns at once."""
        self._again = True
        if self._notifying is None or self._notifying.done():
            self._notifying = asyncio.create_task(self._notify_soon())

    def listen(self, wake: Callable[[], None]) -> None:
        """Call `wake` when another process notifies, and when it may have done so while nobody listened."""
        if self._listening is None:
            self._listening = asyncio.create_task(self._listen(wake))

    async def close(self) -> None:
        """Notify no more, and listen no more."""
        for task in (self._notifying, self._listening):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _notify_soon(self) -> None:
        while self._again:
            self._again = False
            with suppress(StoreUnavailable):
                await self._pool.run(self._send)
            await asyncio.sleep(QUIET_SECONDS)

    async def _send(self, db: Connection) -> None:
        # In a transaction of its own, which need not wait for the disk: commits that notify happen one after
        # the other in the whole server.
        await db.execute("SET LOCAL synchronous_commit = off")
        await db.execute("SELECT pg_notify($1, $2)", NOTIFY_CHANNEL, self._name)

    async def _listen(self, wake: Callable[[], None]) -> None:
        def hear(_: Connection, __: int, ___: str, name: object) -> None:
            if name != self._name:
                wake()

        while True:
            connection: Any = None
            cut = asyncio.Event()
            try:
                connection = await asyncpg.connect(
                    self._url,
                    timeout=CONNECT_SECONDS,
                    command_timeout=CONNECT_SECONDS,
                    statement_cache_size=0,
                    server_settings={"application_name": "port-listener-notify"},
                    **self._driver,
                )
                await connection.add_listener(NOTIFY_CHANNEL, hear)
                connection.add_termination_listener(lambda _, cut=cut: cut.set())
                wake()  # what was notified while nobody listened
                # Whatever shares connections out would keep the lock, or drop it, without us.
                if await is_the_servers_own(connection):
                    # Waits, where the server does not know yet that our last connection was cut.
                    await connection.execute("SELECT pg_advisory_lock($1)", owner_lock(self._name))
                    self.mark = self._name
                while not cut.is_set():  # that the network was cut is noticed only when it is used
                    with suppress(TimeoutError):
                        await asyncio.wait_for(cut.wait(), ALIVE_SECONDS)
                    await connection.execute("SELECT 1")
            except (*DATABASE_ERRORS, ValueError):
                await asyncio.sleep(RECONNECT_SECONDS)
            finally:
                self.mark = None
                if connection is not None:
                    connection.terminate()
