"""Connections to PostgreSQL, and transactions with limits: nothing here waits for ever.

It works through pgbouncer in transaction mode: nothing is set for a session, and everything happens inside
explicit transactions, so that the limits are set again in each. Statements are prepared by name, which halves
the server's work, only where a connection is seen to be the server's own: through a pool another process's
statement may have the same name.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import asyncpg

from app.errors import StoreRefuses, StoreUnavailable
from app.store.database_url import for_asyncpg

_T = TypeVar("_T")
Connection = Any  # asyncpg.Connection, or the pool's proxy of one; asyncpg has no types
Job = Callable[[Connection], Awaitable[_T]]

CONNECTIONS = 5
"""How many a process has at the most, but for the one that listens. One is left for what comes in."""
PREPARED_STATEMENTS = 100
CONNECT_SECONDS = 2.0
IDLE_SECONDS = 2
"""How long a transaction may do nothing: a frozen process must not keep the others waiting."""
ACCEPT_SECONDS = 1.5
"""How long one statement may take while Port waits for an answer, waits for locks included."""
STATEMENT_SECONDS = 4.0
TRANSACTION_TRIES = 3

CONNECTION_ERRORS = (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
DATABASE_ERRORS = (*CONNECTION_ERRORS, asyncpg.PostgresError, TimeoutError)
CONFLICTS = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.InvalidCachedStatementError,
)
FAILOVER_ERRORS = (
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.AdminShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.CrashShutdownError,
    asyncpg.PostgresConnectionError,
)
"""Errors after which the other connections are not worth keeping: there may have been a failover."""


class Pool:
    """A pool of connections, on which jobs run as transactions.

    Args:
        url: `postgresql://…`, as libpq has it.
        name: What the server calls these connections (`pg_stat_activity`).
    """

    def __init__(self, url: str, *, name: str = "port-listener") -> None:
        self._url, self._driver = for_asyncpg(url)
        self._name = name
        self._pool: Any = None
        self._others = asyncio.Semaphore(CONNECTIONS - 1)

    async def open(self) -> None:
        """Make the pool; a connection is made when it is needed."""
        self._pool = await asyncpg.create_pool(
            self._url, min_size=0, max_size=CONNECTIONS, reset=_leave_as_it_is, **self._options(0)
        )

    async def prepare_statements(self) -> None:
        """Prepare statements from now on, if nothing stands between us and the server.

        Raises:
            StoreUnavailable: It could not be asked.
        """
        # Whatever shares connections out tells its clients another number than the server's.
        if await self.run(is_the_servers_own, read_only=True):
            self._pool.set_connect_args(self._url, **self._options(PREPARED_STATEMENTS))
            await self._pool.expire_connections()

    def _options(self, statements: int) -> dict[str, Any]:
        return self._driver | {
            "timeout": CONNECT_SECONDS,
            "statement_cache_size": statements,
            "server_settings": {"application_name": self._name},
        }

    async def close(self) -> None:
        """Close all connections, those that are in use too after a moment."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._pool.close()
        except DATABASE_ERRORS:
            self._pool.terminate()

    async def accept(self, job: Job[_T]) -> _T:
        """Run a job for which Port waits, as a transaction that is on disk at the end.

        Raises:
            StoreUnavailable: It was not committed, or nobody knows whether it was.
        """
        async with _errors_named(), asyncio.timeout(ACCEPT_SECONDS * TRANSACTION_TRIES):
            return await self._repeat(job, _begin(ACCEPT_SECONDS))

    async def run(self, job: Job[_T], *, seconds: float = STATEMENT_SECONDS, read_only: bool = False) -> _T:
        """Run a job as a transaction.

        Args:
            job: What to do on a connection. It may run again: the last run counts.
            seconds: How long a statement may take.
            read_only: It changes nothing.

        Raises:
            StoreUnavailable: It was not committed, or nobody knows whether it was.
        """
        async with _errors_named(), asyncio.timeout(seconds * TRANSACTION_TRIES), self._others:
            return await self._repeat(job, _begin(seconds, read_only=read_only))

    async def _repeat(self, job: Job[_T], begin: str) -> _T:
        for _ in range(TRANSACTION_TRIES - 1):
            try:
                return await self._once(job, begin)
            except CONFLICTS:  # two transactions were in each other's way: one of them is to try again
                continue
        return await self._once(job, begin)

    async def _once(self, job: Job[_T], begin: str) -> _T:
        try:
            connection = await self._pool.acquire(timeout=CONNECT_SECONDS)
        except (ValueError, KeyError):  # KeyError: no user is named, and this one has no name
            # Not what it says: that may be a part of the URL, and so of the password.
            raise StoreUnavailable(
                "DATABASE_URL cannot be used: look at its user, host, port and options"
            ) from None
        except DATABASE_ERRORS:
            raise
        except Exception as error:  # noqa: BLE001 - asyncpg trips in many ways over a server that ends a greeting
            raise StoreUnavailable(
                f"no connection to the database: it hung up, or is no PostgreSQL ({type(error).__name__})"
            ) from None
        try:
            await connection.execute(begin)
            result = await job(connection)
            await connection.execute("COMMIT")
        except BaseException as error:
            await _leave(connection, error)
            if isinstance(error, FAILOVER_ERRORS):
                await self._pool.expire_connections()
            raise
        else:
            return result
        finally:
            await self._pool.release(connection)


async def _leave(connection: Connection, error: BaseException) -> None:
    """End a transaction that an error has ended."""
    if not isinstance(error, (TimeoutError, asyncio.CancelledError, *CONNECTION_ERRORS)):
        with suppress(*DATABASE_ERRORS):
            await connection.execute("ROLLBACK")
            return
    # In the midst of something: to end that politely could take for ever.
    with suppress(asyncpg.InterfaceError):  # it has ended by itself
        connection.terminate()


async def is_the_servers_own(connection: Connection) -> bool:
    """Tell whether nothing that shares connections out stands between us and the server."""
    return bool(await connection.fetchval("SELECT pg_backend_pid()") == connection.get_server_pid())


async def _leave_as_it_is(_: Connection) -> None:
    """Nothing was set for the session, so that there is nothing to reset."""


def _begin(seconds: float, *, read_only: bool = False) -> str:
    begin = (
        f"BEGIN{' READ ONLY' if read_only else ''}; SET LOCAL statement_timeout = {seconds * 1000:.0f};"
        f" SET LOCAL idle_in_transaction_session_timeout = {IDLE_SECONDS * 1000}"
    )
    if read_only:
        return begin
    # If it were off for the whole server, what was answered 202 could be lost.
    return (
        f"{begin}; SELECT set_config('synchronous_commit', 'on', true)"
        " WHERE current_setting('synchronous_commit') = 'off'"
    )


@asynccontextmanager
async def _errors_named() -> AsyncIterator[None]:
    """Turn what asyncpg raises into `StoreUnavailable`."""
    try:
        yield
    except TimeoutError:
        raise StoreUnavailable("the database does not answer in time") from None
    except asyncpg.PostgresError as error:
        said, *_ = str(error).split("\n")  # without its details, which may show a row
        refused = isinstance(error, asyncpg.IntegrityConstraintViolationError | asyncpg.DataError)
        raise (StoreRefuses if refused else StoreUnavailable)(f"the database says: {said}") from None
    except CONNECTION_ERRORS as error:
        raise StoreUnavailable(f"no connection to the database: {error}") from None
