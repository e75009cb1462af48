"""The store for many replicas: PostgreSQL, through asyncpg."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Self, TypeVar

from app.observe.watch import NOBODY, Watch
from app.store.columns import to_micros
from app.store.postgres import search as postgres_search
from app.store.postgres.bell import Bell
from app.store.postgres.pool import Database, ServerClock
from app.store.postgres.schema import prepare
from app.store.postgres.writer import GroupCommit
from app.store.queries import accept
from app.store.rows import Accepted, Incoming
from app.store.store import SQLStore
from app.store.transaction import Job, PostgresSession

T = TypeVar("T")

WRITE_SECONDS = 4.0


class PostgresStore(SQLStore):
    """A `Store` in a PostgreSQL database, which any number of processes share. Made by `open`."""

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        clock: Callable[[], datetime],
        listen_url: str | None = None,
        must_exist: bool = False,
        upgrade: bool = True,
        watch: Watch = NOBODY,
    ) -> Self:
        """Open a database, and bring it to this release's schema.

        Args:
            url: `postgresql://…`, as libpq has it; may lead to pgbouncer.
            clock: Gives this machine's time, UTC.
            listen_url: The same database for LISTEN, without pgbouncer; None: `url` does.
            must_exist: Whether the tables must be there; if not, they are made.
            upgrade: Whether tables of an older schema may be upgraded; if not, they are refused.
            watch: Hears of each transaction that stores changes.

        Raises:
            SchemaTooNew: A newer release has written it.
            StoreUnavailable: It cannot be opened.
        """
        pool = Database(url)
        await pool.open()
        try:
            await prepare(pool, must_exist=must_exist, upgrade=upgrade)
            await pool.prepare_statements()
            server = _Server(pool, Bell(pool, listen_url or url), clock, watch)
            await pool.run(server.measure, read_only=True)
        except BaseException:
            await pool.close()
            raise
        return cls(server, postgres_search)


class _Server:
    """See `Database`."""

    def __init__(self, pool: Database, bell: Bell, clock: Callable[[], datetime], watch: Watch) -> None:
        self._pool = pool
        self._bell = bell
        self._own_clock = clock
        self._clock = ServerClock()
        self._writer = GroupCommit(self._accept, watch)
        self.time, self.listen, self.ring = self._clock.correct, bell.listen, bell.ring

    async def accept(self, batch: Sequence[Incoming]) -> list[Accepted]:
        """See `Store.accept`."""
        return await self._writer.run(batch)

    async def keep(self, job: Job[T]) -> T:
        """Run a job for which Port waits, as a transaction that is on disk at the end."""
        return await self._pool.accept(lambda db: job(PostgresSession(db)))

    async def write(self, job: Job[T], *, seconds: float = WRITE_SECONDS) -> T:
        """See `Database.write`."""
        return await self._pool.run(lambda db: job(PostgresSession(db)), seconds=seconds)

    async def read(self, job: Job[T]) -> T:
        """See `Database.read`."""
        return await self._pool.run(lambda db: job(PostgresSession(db)), read_only=True)

    async def measure(self, db: Any) -> None:
        """Compare the server's clock with this machine's."""
        before = self._own_clock()
        server = await db.fetchval("SELECT clock_timestamp()")
        self._clock.measure(before, server, self._own_clock())

    async def check(self, now: datetime) -> None:
        """See `Store.check`."""
        await self.write(
            lambda db: db.execute(
                "UPDATE schema_version SET checked_at = $1"
                " WHERE version = (SELECT max(version) FROM schema_version)",
                to_micros(now),
            )
        )

    async def close(self) -> None:
        """See `Store.close`."""
        await self._writer.close()
        await self._bell.close()
        await self._pool.close()

    async def _accept(self, batch: Sequence[Incoming]) -> list[Accepted]:
        return await self._pool.accept(lambda db: accept.accept(PostgresSession(db), batch))
