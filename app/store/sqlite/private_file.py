"""A new file that nobody else can read, and that is there whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def private_file(path: Path) -> Iterator[Path]:
    """Yield a new, empty file beside `path`; at the block's end it takes its place, else it is gone.

    Args:
        path: The file that is to be there in the end, on disk, with mode 0600; one that is there is replaced.

    Raises:
        OSError: The folder is not there, is full or cannot be written.
    """
    descriptor, name = tempfile.mkstemp(prefix=f"{path.name}.", suffix=".part", dir=path.parent)
    os.close(descriptor)
    part = Path(name)
    try:
        yield part
        _to_disk(part)
        part.replace(path)
        _to_disk(path.parent)
    finally:
        part.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
