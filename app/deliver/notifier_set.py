"""The notifiers in force, which are closed when nothing is sent through them any more."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from app.notifier.base import Notifier


class NotifierSet:
    """The notifiers of one reading of the rules file, by name; closed together: one may ask another."""

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
