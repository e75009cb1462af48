"""A disk that is rebuilt from what a process did to it, as it may be after the power has failed."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

HEAD = struct.Struct("=4q")
SECTOR_BYTES = 512
"""What a disk writes whole or not at all."""


@dataclass(frozen=True, slots=True)
class Event:
    """What a process did.

    Attributes:
        operation: w: it wrote; t: truncated; s: synced; u: unlinked; r: renamed.
        name: The file's name; of the folder itself it is empty.
        offset: Where it wrote, or the length that it truncated to.
        data: What it wrote, or the new name.
    """

    operation: str
    name: str
    offset: int
    data: bytes


def read_trace(trace: Path, folder: Path) -> Iterator[Event]:
    """Read what ``trace.c`` has written down about a folder; shared memory is no matter of the disk."""
    content, at = trace.read_bytes(), 0
    while at < len(content):
        operation, path_length, offset, length = HEAD.unpack_from(content, at)
        at += HEAD.size
        name = content[at : at + path_length].decode().removeprefix(str(folder)).lstrip("/")
        at += path_length
        has_data = chr(operation) in "wr"
        data = content[at : at + length] if has_data else b""
        at += length if has_data else 0
        if not name.endswith("-shm"):
            yield Event(chr(operation), name, offset, data)


@dataclass(slots=True)
class _Content:
    """A file: what is safe of it, and what was done since."""

    safe: bytearray = field(default_factory=bytearray)
    unsafe: list[Event] = field(default_factory=list)

    def sync(self) -> None:
        for event in self.unsafe:
            _apply(self.safe, event)
        self.unsafe.clear()

    def after_cut(self, random: Random) -> bytes:
        content = bytearray(self.safe)
        for event in self.unsafe:
            if event.operation == "t":
                if random.random() < 0.5:
                    _apply(content, event)
                continue
            fate = random.random()
            for start in range(0, len(event.data), SECTOR_BYTES):
                # All of it, none of it, or any of its sectors.
                if fate < 1 / 3 or (fate < 2 / 3 and random.random() < 0.5):
                    piece = event.data[start : start + SECTOR_BYTES]
                    _apply(content, Event("w", event.name, event.offset + start, piece))
        return bytes(content)


def _apply(content: bytearray, event: Event) -> None:
    if event.operation == "t":
        del content[event.offset :]
    else:
        content.extend(bytes(max(0, event.offset - len(content))))
        content[event.offset : event.offset + len(event.data)] = event.data


class Disk:
    """The folder.

    A write is safe once its file was synced. A new name is safe once its file or the folder was; another
    name, or that it is gone, once the folder was; before that as many of these as the file system's journal
    had time for.
    """

    def __init__(self) -> None:
        self._names: dict[str, _Content] = {}
        self._safe_names: dict[str, _Content] = {}
        self._renamings: list[dict[str, _Content]] = []
        self.promises = ""

    def do(self, event: Event) -> None:
        """Do what the process did."""
        if event.name == "promises":
            self.promises += event.data.decode()
        elif event.operation == "s":
            self._sync(event.name)
        elif event.operation in "wt":
            if event.name not in self._names:
                self._names[event.name] = _Content()
                self._renamings.append(dict(self._names))
            self._names[event.name].unsafe.append(event)
        elif event.name in self._names:
            content = self._names.pop(event.name)
            if event.operation == "r":
                self._names[Path(event.data.decode()).name] = content
            self._renamings.append(dict(self._names))

    def _sync(self, name: str) -> None:
        if not name:
            self._safe_names, self._renamings = dict(self._names), []
        elif content := self._names.get(name):
            content.sync()
            # The journal is in order: with this name, what happened to names before it is safe, too.
            if name not in self._safe_names:
                self._safe_names, self._renamings = dict(self._names), []

    def after_cut(self, folder: Path, random: Random) -> None:
        """Write the files as they may be after a power cut now."""
        names = random.choice([self._safe_names, *self._renamings])
        for name, content in names.items():
            (folder / name).write_bytes(content.after_cut(random))
