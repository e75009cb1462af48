"""Brings a SQLite file to this release's schema: numbered files, all that are missing in one transaction."""

import re
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import structlog

from app.errors import SchemaTooNew, StoreUnavailable
from app.model.incident import Step
from app.store.sqlite.copy import copy_database

log = structlog.get_logger(__name__)

STEPS = Path(__file__).parent / "sql"
BUSY_SECONDS = 5.0
WAL_BYTES = 16_000_000
"""What the write-ahead log may keep on disk; SQLite moves its pages into the file from 4 MB on."""
LONG_LOG_BYTES = 4 * WAL_BYTES
"""A longer log needs attention: only a read that does not end keeps it from being cut."""
LEAST_SQLITE = (3, 40)
"""What the SQL needs: 3.38 for `->>`, 3.39 for IS NOT DISTINCT FROM, and 3.40 is what is tested."""
UPGRADE_SECONDS = 600.0  # how long another process's upgrade, with its copy of a large file, may take


# Until it is told, the module looks for long how to write a value of these types; a change has fifteen.
_AS_THEY_ARE: dict[type, Any] = {type(None): {}.get, bool: int, bytes: bytes, Step: str}
for _type, _same in _AS_THEY_ARE.items():
    sqlite3.register_adapter(_type, _same)


def demand_version(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> None:
    """Refuse a SQLite, by its version, that lacks a part of the SQL.

    Raises:
        StoreUnavailable: It is too old.
    """
    if version < LEAST_SQLITE:
        has, needed = (".".join(map(str, numbers)) for numbers in (version, LEAST_SQLITE))
        raise StoreUnavailable(
            f"this Python has SQLite {has}, and the listener needs {needed} or newer: use a Python with a"
            " newer one (python.org's, uv's, the image's), or PostgreSQL (DATABASE_URL)"
        )


def connect(path: Path, *, query_only: bool = False) -> sqlite3.Connection:
    """Open a connection with the durability that this project promises; it may pass between threads."""
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
    connection.execute("PRAGMA foreign_keys = ON")
    if query_only:
        connection.execute("PRAGMA query_only = ON")
    return connection


def in_memory() -> sqlite3.Connection:
    """Make an empty database of the newest schema that is nowhere on disk."""
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    for step in sorted(STEPS.glob("*.sql")):
        connection.executescript(step.read_text(encoding="utf-8"))
    return connection


def prepare(path: Path, *, upgrade: bool = True, steps: Path = STEPS) -> None:
    """Create the file if there is none, and bring it to the newest schema; several processes may at once.

    A file of an older schema is copied first, to ``NAME.before-schema-N`` beside it, which is kept.

    Args:
        path: The file.
        upgrade: Whether a file of an older schema may be upgraded; if not, it is refused.
        steps: The folder of the numbered steps.

    Raises:
        SchemaTooNew: A newer release has written the file.
        StoreUnavailable: The file cannot be created, opened, written, copied or upgraded; it is as it was.
    """
    demand_version()
    if path.is_dir():
        raise StoreUnavailable(f"cannot open the database {path}: it is a folder; name a file in it")
    files = {int(re.match(r"\d+", file.name)[0]): file for file in sorted(steps.glob("*.sql"))}  # type: ignore[index]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)  # it holds the catalog's contents; SQLite gives its side files the same mode
        with closing(connect(path)) as connection:
            missing, version = _missing(connection, files)
            if missing and version and not upgrade:
                raise StoreUnavailable(
                    f"{path} has schema {version}, this release knows {max(files)}: start this release's"
                    " listener, which upgrades it"
                )
            if not version:  # before all else, or it has no effect; pruning needs it to shrink the file
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            _use_wal(connection)
            if missing:
                _migrate(connection, path, files)
    except (OSError, sqlite3.Error) as error:
        raise StoreUnavailable(f"cannot open the database {path}: {error}{advice(error, path)}") from None


def advice(error: Exception, path: Path) -> str:
    """Say what to do about a damaged file, to be added to the error's words; empty: it is not damaged."""
    if getattr(error, "sqlite_errorcode", 0) & 0xFF not in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return ""
    copies = sorted(str(file) for file in path.parent.glob(f"{path.name}.before-*") if file.suffix != "-wal")
    beside = f"beside it are {', '.join(copies)}" if copies else "`backup` makes them; none is beside it"
    return (
        f". The file is damaged: stop the listener, and put a copy in its place with `python -m app restore"
        f" FILE` ({beside}). Without one, move the file away and start with an empty database"
    )


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


def _seen(connection: sqlite3.Connection) -> set[int]:
    """Return the numbers of the steps that made the database what it is."""
    if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'schema_version'").fetchone():
        return set()
    return {number for (number,) in connection.execute("SELECT version FROM schema_version")}


def _missing(connection: sqlite3.Connection, files: Mapping[int, Path]) -> tuple[list[int], int]:
    """Return the numbers of the steps that the database has not seen, and its schema; 0: it is new."""
    seen = _seen(connection)
    version, newest = max(seen, default=0), max(files)
    if version > newest:
        raise SchemaTooNew(
            f"the database has schema {version}, this release knows {newest}:"
            " start the newer release again, or give this one a database of its own (DATABASE_URL)"
        )
    return [number for number in files if number not in seen], version


def _migrate(connection: sqlite3.Connection, path: Path, files: Mapping[int, Path]) -> None:
    # Where a step makes a table again, dropping the old one must not drop what refers to it.
    connection.execute("PRAGMA foreign_keys = OFF")
    _keep_temporary_files_beside(connection, path)  # of the indexes that a step makes
    _begin(connection)
    try:
        missing, version = _missing(connection, files)
        if version and missing:
            _copy_first(path, version, max(missing))
        for number in missing:
            try:
                _apply(connection, number, files[number])
            except sqlite3.Error as error:
                raise StoreUnavailable(
                    f"step {number} of the schema failed, and {path} is as it was: {error}"
                ) from None
        if missing and (orphan := connection.execute("PRAGMA foreign_key_check").fetchone()):
            raise StoreUnavailable(
                f"the upgrade of {path} would orphan a row of {orphan[0]}; nothing was changed"
            )
        connection.execute("COMMIT")
        if version and missing:
            log.info("database_upgraded", schema=max(missing))
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _keep_temporary_files_beside(connection: sqlite3.Connection, path: Path) -> None:
    # There is room there; /var/tmp, SQLite's choice, may be small or read-only. SQLITE_TMPDIR would come too
    # late: it is read once, when sqlite3 is imported.
    folder = str(path.absolute().parent).replace("'", "''")
    connection.execute(f"PRAGMA temp_store_directory = '{folder}'")


def _copy_first(path: Path, version: int, newest: int) -> None:
    # The caller's transaction lets nobody write, so that the copy is what the upgrade begins with.
    copy = path.with_name(f"{path.name}.before-schema-{newest}")
    try:
        copy_database(path, copy, check="quick_check")
    except StoreUnavailable as error:
        raise StoreUnavailable(
            f"no upgrade from schema {version} to {newest}, nothing was changed: {error}"
        ) from None
    log.info("database_copied", copy=str(copy), schema=version)


def _begin(connection: sqlite3.Connection) -> None:
    deadline = time.monotonic() + UPGRADE_SECONDS
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > deadline:
                raise
            log.warning("database_busy")
        else:
            return


def _apply(connection: sqlite3.Connection, number: int, file: Path) -> None:
    connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_version"
        " (version INTEGER PRIMARY KEY, applied_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,"
        " checked_at INTEGER)"
    )
    for statement in _statements(file.read_text()):
        connection.execute(statement)
    connection.execute("INSERT INTO schema_version (version) VALUES (?)", (number,))


def _statements(script: str) -> Iterator[str]:
    # Not executescript: it commits the open transaction before it begins.
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
