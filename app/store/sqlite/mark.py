"""Which processes live, as their locks on files beside the database say.

The kernel drops a lock however its process ends; a frozen process keeps it. Containers that share the volume
see each other's.
"""

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

FOLDER = ".owners"
"""What is added to the database's name for the folder of the files."""


def owners_folder(database: Path) -> Path:
    """Name the folder of the files; the same for every link by which a process opens the database."""
    path = database.resolve()
    return path.with_name(path.name + FOLDER)


def is_gone(folder: Path, mark: str) -> bool:
    """Tell whether the process of a mark has ended: nobody holds its file, or it is not there any more."""
    try:
        file = os.open(folder / mark, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    except OSError:  # another user's: nobody knows
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two may look at once
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(file)


def anybody_lives(database: Path) -> bool:
    """Tell whether a process of which nobody knows that it has ended has a mark beside a database."""
    folder = owners_folder(database)
    try:
        return any(not is_gone(folder, mark.name) for mark in folder.iterdir())
    except FileNotFoundError:
        return False


class ProcessMark:
    """The mark of this process: a file that it holds locked as long as it lives, made when first needed.

    Args:
        database: The database's file.
    """

    def __init__(self, database: Path) -> None:
        self._folder = owners_folder(database)
        self._file: int | None = None
        self._name = ""

    def name(self) -> str | None:
        """Give the mark; None: this file system has no locks, or no room, and a lease just ends by time."""
        if self._file is None or not self._is_ours():
            self.drop()
            with suppress(OSError):
                self._make()
        return self._name if self._file is not None else None

    def drop(self) -> None:
        """Have no mark any more: nothing is leased."""
        if self._file is not None:
            if self._is_ours():
                (self._folder / self._name).unlink(missing_ok=True)
            os.close(self._file)
            self._file = None
            with suppress(OSError):  # others have files there
                self._folder.rmdir()

    def _is_ours(self) -> bool:
        # Somebody may have cleaned up: a file that is not there would say that we are dead.
        try:
            return self._file is not None and os.path.samestat(
                os.fstat(self._file), (self._folder / self._name).stat()
            )
        except OSError:
            return False

    def _make(self) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        for left in self._folder.iterdir():  # by those that were killed
            if is_gone(self._folder, left.name):
                left.unlink(missing_ok=True)
        self._name = token_hex(8)
        file = os.open(self._folder / self._name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            raise
        self._file = file
        if not self._is_ours():  # another process has just cleaned up, before we had the lock
            self.drop()
