"""Copies a SQLite file while others write to it, and puts a copy back in its place."""

import fcntl
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Literal

from app.errors import StoreUnavailable
from app.store.sqlite.mark import anybody_lives
from app.store.sqlite.private_file import private_file

COPY_WAIT_SECONDS = 5.0
STEPS_BETWEEN_SIGNALS = 100_000  # of SQLite's virtual machine, some 0.2 s
MEGABYTE = 1_000_000
SHARED_LOCK = (510, 0x40000002)
"""Length and start of the bytes of which SQLite locks some while a file is open: SHARED_FIRST in its os.h."""


def copy_database(
    source: Path, target: Path, *, check: Literal["quick_check", "integrity_check"] = "integrity_check"
) -> None:
    """Copy a database into one compact file, as it is at this moment, and check the copy.

    Others can go on writing to the source; what they commit after the start is not in the copy.

    Args:
        source: The database; it must exist.
        target: The copy, with mode 0600; a file of this name is replaced once the copy is whole.
        check: How to check the copy. ``quick_check`` does not compare indexes with their tables.

    Raises:
        StoreUnavailable: There is no room, the source cannot be read, the copy is damaged, or Ctrl-C stopped
            it. There is no copy then; a file that was at `target` is unchanged.
    """
    try:
        with closing(_connect(source)) as live:
            _demand_room(live, target)
            with private_file(target) as part:
                _vacuum_into(live, part)
                with closing(_connect(part)) as copy:
                    faults = "; ".join(row[0] for row in copy.execute(f"PRAGMA {check}(3)"))
                if faults != "ok":
                    raise StoreUnavailable(f"{source} is damaged, so no copy was made: {faults}")
    except (OSError, sqlite3.Error) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise StoreUnavailable(f"cannot copy {source} to {target}: {reason}") from None


def restore_database(copy: Path, database: Path, now: datetime) -> Path | None:
    """Put a copy in the place of the database, which is kept beside it, with what is not in its file yet.

    Args:
        copy: A database of the listener's, of any release; it stays as it is.
        database: The database, whole or damaged, or not there.
        now: The time, for the name of what is kept.

    Returns:
        The file that was the database; None: there was none.

    Raises:
        StoreUnavailable: Somebody has the database open; the copy is damaged, or none of the listener's; or
            the file system refuses. The database is as it was.
    """
    new = database.with_name(f"{database.name}.restored")
    kept = database.with_name(f"{database.name}.before-restore-{now:%Y%m%d-%H%M%S}")
    try:
        with _nobody_has_it_open(database):
            copy_database(copy, new)
            try:
                _demand_listeners_own(new, copy)
                _own_as(database if database.exists() else database.parent, new)
                wal, shm = (database.with_name(f"{database.name}{side}") for side in ("-wal", "-shm"))
                was_there = database.exists()
                if was_there:
                    os.link(database, kept)  # first: where this is refused, nothing was touched
                kept_wal = kept.with_name(f"{kept.name}-wal")
                # Before the copy comes: with the log of another file it would be damaged.
                if had_log := wal.exists():
                    wal.rename(kept_wal)
                shm.unlink(missing_ok=True)
                try:
                    new.replace(database)
                except OSError:
                    if had_log:
                        kept_wal.rename(wal)
                    raise
            finally:
                new.unlink(missing_ok=True)
    except OSError as error:
        raise StoreUnavailable(f"cannot restore {copy}: {error.strerror}: {error.filename}") from None
    return kept if was_there else None


@contextmanager
def _nobody_has_it_open(database: Path) -> Iterator[None]:
    running = f"a listener, or another command, has {database} open: stop it first"
    if anybody_lives(database):
        raise StoreUnavailable(running)
    if not database.exists():
        yield
        return
    with database.open("r+b") as file:  # closed at the end, with the lock: who comes now waits
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, *SHARED_LOCK)
        except BlockingIOError:
            raise StoreUnavailable(running) from None
        yield


def _demand_listeners_own(new: Path, copy: Path) -> None:
    with closing(_connect(new)) as restored:
        if not restored.execute("SELECT 1 FROM sqlite_schema WHERE name = 'schema_version'").fetchone():
            raise StoreUnavailable(f"{copy} is no database of the listener's")


def _own_as(model: Path, new: Path) -> None:
    # Who restores as root must not lock the listener out.
    with suppress(PermissionError):
        os.chown(new, model.stat().st_uid, model.stat().st_gid)


def _connect(path: Path) -> sqlite3.Connection:
    # As a URI with mode=rw: a plain path would create the file if it is missing.
    address = f"{path.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(address, uri=True, timeout=COPY_WAIT_SECONDS, isolation_level=None)
    connection.set_progress_handler(lambda: None, STEPS_BETWEEN_SIGNALS)  # only Python code hears Ctrl-C
    return connection


def _demand_room(live: sqlite3.Connection, target: Path) -> None:
    # A copy that fills the disk first and fails then would cost the listener on the same disk its changes.
    pages, unused, page_bytes = (
        live.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    needed, free = (pages - unused) * page_bytes, shutil.disk_usage(target.parent).free
    if free < needed:
        raise StoreUnavailable(
            f"no room for {target}: it takes {needed / MEGABYTE:.1f} MB, {free / MEGABYTE:.1f} MB are free"
        )


def _vacuum_into(live: sqlite3.Connection, part: Path) -> None:
    if live.execute("PRAGMA auto_vacuum").fetchone() == (0,):
        # It takes effect in the copy. On a file that has it already it would wait for the writer.
        live.execute("PRAGMA auto_vacuum = INCREMENTAL")
    live.execute("VACUUM INTO ?", (part.absolute().as_uri(),))
