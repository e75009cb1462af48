"""Gives the room that deleted rows leave in a SQLite file back to the disk."""

import shutil
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from app.errors import StoreUnavailable
from app.store.sqlite.copy import MEGABYTE, connect_existing, keep_temporary_files_beside

PAGES_AT_ONCE = 1000  # 4 MB, for which others wait 20 ms or so
PAUSE_SECONDS = 0.02
INCREMENTAL = 2  # as PRAGMA auto_vacuum names it


@dataclass(frozen=True, slots=True)
class Size:
    """How large a database is, and how much of it nothing uses, in bytes."""

    total: int
    free: int


def size(path: Path) -> Size:
    """Return a database's size.

    Raises:
        StoreUnavailable: It cannot be read.
    """
    try:
        with closing(connect_existing(path)) as db:
            return _size(db)
    except sqlite3.Error as error:
        raise StoreUnavailable(f"cannot read {path}: {error}") from None


def vacuum(path: Path, *, full: bool = False) -> None:
    """Give the disk back what nothing uses.

    In small steps, beside a running listener; but the whole file is written anew if `full`, or if the file
    was made without what the steps need, and for that nobody else may have it open.

    Args:
        path: The database; it must exist.
        full: Write the whole file anew: smaller by a little more, and its tables in one piece each.

    Raises:
        StoreUnavailable: Another process has it open, there is no room to write it anew, or it cannot be
            read.
    """
    try:
        with closing(connect_existing(path)) as db:
            (kind,) = db.execute("PRAGMA auto_vacuum").fetchone()
            if kind == INCREMENTAL and not full:
                _in_steps(db)
                return
        _anew(path)
    except sqlite3.Error as error:
        raise StoreUnavailable(f"cannot vacuum {path}: {error}") from None


def _size(db: sqlite3.Connection) -> Size:
    names = ("page_size", "page_count", "freelist_count")
    page, pages, free = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in names)
    return Size(page * pages, page * free)


def _in_steps(db: sqlite3.Connection) -> None:
    while free := _size(db).free:
        db.executescript(f"PRAGMA incremental_vacuum({PAGES_AT_ONCE})")  # `execute` would free one page only
        if _size(db).free >= free:  # a busy listener frees as much as we give back: enough for today
            break
        time.sleep(PAUSE_SECONDS)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _anew(path: Path) -> None:
    needed, room = 2 * _size_of(path), shutil.disk_usage(path.parent).free
    if room < needed:
        raise StoreUnavailable(
            f"no room to write {path} anew: it takes up to {needed / MEGABYTE:.1f} MB,"
            f" {room / MEGABYTE:.1f} MB are free"
        )
    with closing(connect_existing(path)) as db:
        db.execute("PRAGMA busy_timeout = 500")  # another command ends soon; the listener does not
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        try:
            db.execute("BEGIN IMMEDIATE")
            db.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            raise StoreUnavailable(
                f"another process has {path} open, the listener probably: stop it, run this again, start it"
            ) from None
        keep_temporary_files_beside(db, path)
        db.execute(f"PRAGMA auto_vacuum = {INCREMENTAL}")
        db.execute("VACUUM")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _size_of(path: Path) -> int:
    used = size(path)
    return used.total - used.free
