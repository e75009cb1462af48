"""Brings a SQLite file to this release's schema: numbered files, one transaction a step."""

import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from app.errors import SchemaTooNew, StoreUnavailable

STEPS = Path(__file__).parent / "sql" / "sqlite"
BUSY_SECONDS = 5.0


def connect(path: Path, *, query_only: bool = False) -> sqlite3.Connection:
    """Open a connection with the durability that this project promises; it may pass between threads."""
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    if query_only:
        connection.execute("PRAGMA query_only = ON")
    return connection


def prepare(path: Path) -> None:
    """Create the file if there is none, and bring it to the newest schema; several processes may at once.

    Raises:
        SchemaTooNew: A newer release has written the file.
        StoreUnavailable: The file cannot be created, opened or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)  # it holds the catalog's contents; SQLite gives its side files the same mode
        with closing(connect(path)) as connection:
            _use_wal(connection)
            # Or to drop a table that is made anew would delete what refers to it.
            connection.execute("PRAGMA foreign_keys = OFF")
            _migrate(connection)
    except (OSError, sqlite3.Error) as error:
        raise StoreUnavailable(f"cannot open the database {path}: {error}") from None


def _use_wal(connection: sqlite3.Connection) -> None:
    # Two processes that switch a new file to WAL at the same moment: SQLite answers "locked" without waiting.
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _migrate(connection: sqlite3.Connection) -> None:
    connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_version"
        " (version INTEGER PRIMARY KEY, applied_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,"
        " checked_at INTEGER)"
    )
    steps = {int(re.match(r"\d+", file.name)[0]): file for file in sorted(STEPS.glob("*.sql"))}  # type: ignore[index]
    newest = max(steps)
    for number, file in steps.items():
        connection.execute("BEGIN IMMEDIATE")
        try:
            version = connection.execute("SELECT coalesce(max(version), 0) FROM schema_version").fetchone()[0]
            if version > newest:
                raise SchemaTooNew(
                    f"the database has schema {version}, this release knows {newest}:"
                    " start the newer release again, or give this one a database of its own (DATABASE_URL)"
                )
            if version < number:
                for statement in _statements(file.read_text()):
                    connection.execute(statement)
                connection.execute("INSERT INTO schema_version (version) VALUES (?)", (number,))
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")


def _statements(script: str) -> Iterator[str]:
    # Not executescript: it commits the open transaction before it begins.
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
