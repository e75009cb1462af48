"""The database for many replicas: PostgreSQL, through asyncpg."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar

from typing_extensions import override

from app.model.times import Micros
from app.observe.watch import NOBODY, Watch
from app.store.clock import StoreClock
from app.store.postgres.notifications import Notifications
from app.store.postgres.pool import STATEMENT_SECONDS, Pool
from app.store.postgres.schema import prepare
from app.store.postgres.transaction import Absences, PostgresTransaction
from app.store.postgres.writer import GroupCommit
from app.store.queries.accept import accept
from app.store.rows import Accepted, Incoming
from app.store.store import Store
from app.store.transaction import Database, Operation

_T = TypeVar("_T")


async def open_postgres(
    url: str,
    *,
    clock: Callable[[], datetime],
    listen_url: str | None = None,
    must_exist: bool = False,
    upgrade: bool = True,
    watch: Watch = NOBODY,
) -> Store:
    """Open a store in a database that any number of processes share, and bring it to this release's schema.

    Args:
        url: ``postgresql://…``, as libpq has it; may lead to pgbouncer.
        clock: Gives this machine's time, UTC.
        listen_url: The same database for LISTEN, without pgbouncer; None: `url`.
        must_exist: Whether the tables must be there; if not, they are made.
        upgrade: Whether tables of an older schema may be upgraded; if not, they are refused.
        watch: Is called after each transaction that stores changes.

    Raises:
        SchemaTooNew: A newer release has written it.
        StoreUnavailable: It cannot be opened.
    """
    pool = Pool(url)
    await pool.open()
    try:
        await prepare(pool, must_exist=must_exist, upgrade=upgrade)
        await pool.prepare_statements()
        database = PostgresDatabase(pool, Notifications(pool, listen_url or url), watch)
        store = Store(database, StoreClock(clock))
        await store.read(store.clock.compare)
    except BaseException:
        await pool.close()
        raise
    return store


class PostgresDatabase(Database):
    """A PostgreSQL database.

    Args:
        pool: The connections.
        notifications: Wakes other processes, and is woken by them.
        watch: Is called after each transaction that stores changes.
    """

    def __init__(self, pool: Pool, notifications: Notifications, watch: Watch) -> None:
        self._pool = pool
        self._notifications = notifications
        self._absences = Absences()
        self._writer = GroupCommit(self._accept_group, watch)

    @override
    async def read(self, operation: Operation[_T]) -> _T:
        return await self._pool.run(lambda db: operation(PostgresTransaction(db)), read_only=True)

    @override
    async def write(self, operation: Operation[_T], *, seconds: float | None = None) -> _T:
        return await self._pool.run(
            lambda db: operation(PostgresTransaction(db, self._absences)),
            seconds=seconds or STATEMENT_SECONDS,
        )

    @override
    async def write_first(self, operation: Operation[_T]) -> _T:
        return await self._pool.accept(lambda db: operation(PostgresTransaction(db)))

    @override
    async def accept(self, batch: Sequence[Incoming]) -> list[Accepted]:
        return await self._writer.run(batch)

    @override
    def own(self, token: str) -> str:
        mark = self._notifications.mark
        return token if mark is None else f"{mark}.{token}"

    @override
    def listen(self, wake: Callable[[], None]) -> None:
        self._notifications.listen(wake)

    @override
    def notify(self) -> None:
        self._notifications.notify()

    @override
    async def check(self, now: Micros) -> str:
        await self.write(
            lambda tx: tx.execute(
                "UPDATE schema_version SET checked_at = $1"
                " WHERE version = (SELECT max(version) FROM schema_version)",
                now,
            )
        )
        return ""

    @override
    async def shrink(self) -> None:
        pass  # the server's autovacuum does

    @override
    async def close(self) -> None:
        await self._writer.close()
        await self._notifications.close()
        await self._pool.close()

    async def _accept_group(self, changes: Sequence[Incoming]) -> list[Accepted]:
        return await self._pool.accept(lambda db: accept(PostgresTransaction(db), changes))
