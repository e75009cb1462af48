"""Copies a SQLite file while others write to it."""

import errno
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Literal

from app.errors import StoreUnavailable
from app.store.private_file import private_file

PAGES_AT_ONCE = 2000  # 8 MB: between two steps Ctrl-C is heard
BUSY_SECONDS = 5.0
MEGABYTE = 1_000_000


def copy_database(
    source: Path, target: Path, *, check: Literal["quick_check", "integrity_check"] = "integrity_check"
) -> None:
    """Copy a database as it is at this moment, into one file, and prove that the copy is sound.

    Whoever writes to the source goes on; what is committed after the start is not in the copy.

    Args:
        source: The database; it must exist.
        target: The copy, with mode 0600; a file of this name is replaced once the copy is whole.
        check: How to look at the copy. ``quick_check`` leaves out whether indexes agree with their tables.

    Raises:
        StoreUnavailable: There is no room, the source cannot be read, or the copy is damaged; there is no
            copy then, and what `target` was it still is.
    """
    try:
        with closing(connect_existing(source)) as live:
            _demand_room(live, target)
            with private_file(target) as part:
                _copy(live, part)
                if (found := _check(part, check)) != "ok":
                    raise StoreUnavailable(f"{source} is damaged, so that a copy is worth nothing: {found}")
    except (OSError, sqlite3.Error) as error:
        raise StoreUnavailable(f"cannot copy {source} to {target}: {_said(error)}") from None


def connect_existing(path: Path) -> sqlite3.Connection:
    """Open a connection to a file that is there; unlike sqlite3's own way this makes none.

    Raises:
        sqlite3.OperationalError: There is no such file.
    """
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY_SECONDS, isolation_level=None
    )


def keep_temporary_files_beside(db: sqlite3.Connection, path: Path) -> None:
    """Let SQLite put what it sorts and vacuums beside the database, where there is room, not into /var/tmp.

    That may be small, or not be writable, and SQLITE_TMPDIR is read once, at sqlite3's import.
    """
    folder = str(path.absolute().parent).replace("'", "''")
    db.execute(f"PRAGMA temp_store_directory = '{folder}'")


def _demand_room(live: sqlite3.Connection, target: Path) -> None:
    (pages,), (page_bytes,) = (
        live.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "page_size")
    )
    needed, free = pages * page_bytes, shutil.disk_usage(target.parent).free
    if free < needed:
        raise StoreUnavailable(
            f"no room for {target}: it takes {needed / MEGABYTE:.1f} MB, {free / MEGABYTE:.1f} MB are free"
        )


def _copy(live: sqlite3.Connection, part: Path) -> None:
    live.execute("PRAGMA query_only = ON")
    # One view of the source for the whole copy: without it each change by another process would make SQLite
    # begin anew, so that under load it would never end.
    live.execute("BEGIN")
    live.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    with closing(connect_existing(part)) as copy:
        copy.execute("PRAGMA journal_mode = OFF")  # a copy that fails is thrown away,
        copy.execute("PRAGMA synchronous = OFF")  # and `private_file` sees to the disk
        live.backup(copy, pages=PAGES_AT_ONCE, progress=lambda *_: None)
    live.execute("ROLLBACK")


def _check(part: Path, check: str) -> str:
    with closing(connect_existing(part)) as copy:
        copy.execute("PRAGMA journal_mode = DELETE")  # one file, without those that WAL puts beside it
        return "; ".join(row[0] for row in copy.execute(f"PRAGMA {check}(3)"))


def _said(error: Exception) -> str:
    if isinstance(error, OSError):
        return "the disk is full" if error.errno == errno.ENOSPC else error.strerror or str(error)
    return str(error)
