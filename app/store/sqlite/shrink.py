"""Gives the pages that deleted rows leave in a SQLite file back to the disk, in short steps."""

import sqlite3
import time

STEP_PAGES = 500  # 2 MB to commit
STEP_SECONDS = 0.02  # a page takes 3 ms where hundreds of thousands are free
PAUSE_SECONDS = 0.05
KEPT_SHARE = 20  # one page in so many stays free, for the changes to come


def shrink(db: sqlite3.Connection) -> bool:
    """Take some unused pages off the file's end; give True if there are more to take.

    The file itself gets shorter when SQLite next moves its log into it (a checkpoint). A file without
    ``auto_vacuum = INCREMENTAL`` keeps its size.

    Args:
        db: A connection in a transaction, which takes some 20 ms longer by this.
    """
    began, pages = time.monotonic(), _count(db, "page_count")
    if (spare := _spare(db)) <= 0:
        return False
    for _ in range(min(spare, STEP_PAGES)):
        # One at a time: `execute` takes only the first step of this statement, a page, whatever the number.
        db.execute("PRAGMA incremental_vacuum(1)")
        if time.monotonic() - began > STEP_SECONDS:
            break
    return _count(db, "page_count") < pages and _spare(db) > 0


def _spare(db: sqlite3.Connection) -> int:
    return _count(db, "freelist_count") - _count(db, "page_count") // KEPT_SHARE


def _count(db: sqlite3.Connection, pragma: str) -> int:
    number: int = db.execute(f"PRAGMA {pragma}").fetchone()[0]
    return number
