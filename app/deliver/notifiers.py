"""The notifiers of one reading of the rules file, in use until the next reading replaces them."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from app.notifier.base import Notifier


class NotifierSet:
    """Notifiers that are closed together, because one may ask another.

    Args:
        by_name: The notifier of each destination, by the destination's name.
    """

    def __init__(self, by_name: Mapping[str, Notifier]) -> None:
        self.by_name = by_name
        self._users = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Delay `close` as long as the context lasts."""
        self._users += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                self._idle.set()

    async def close(self) -> None:
        """Wait until none is in use, and close their connections."""
        # A connection that is closed while a message is on its way would cost that delivery an attempt.
        await self._idle.wait()
        for notifier in self.by_name.values():
            await notifier.close()
