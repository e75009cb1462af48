"""Copies a SQLite file while others write to it."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Literal

from app.errors import StoreUnavailable
from app.store.private_file import private_file

COPY_WAIT_SECONDS = 5.0
STEPS_BETWEEN_SIGNALS = 100_000  # of SQLite's virtual machine, some 0.2 s
MEGABYTE = 1_000_000


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
