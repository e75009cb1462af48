"""What is measured, as the measurements see it."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from scripts.benchmark.load import Answer
from scripts.benchmark.processes import Running


class Subject(Protocol):
    """Something that takes POSTs.

    Attributes:
        name: What it is called in the table.
        answer: What it answers to what it has taken.
        warm_up: How many requests it gets before a round.
    """

    name: str
    answer: Answer
    warm_up: int

    def start(self, folder: Path) -> AbstractContextManager[Running]:
        """Run it, in a folder."""
        ...

    def requests(self, number: int) -> Iterator[bytes]:
        """Yield so many different requests."""
        ...

    def taken(self, running: Running) -> tuple[int, ...]:
        """Return what it has by its own account; each grows by one with each request. Empty: it has none."""
        ...
