"""Virtual time: an event loop that never sleeps, and the clock of a test."""

import asyncio
import selectors
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from typing_extensions import override

from app.model.times import to_micros
from app.store.clock import ClockState, StoreClock
from app.store.rows import Accepted, Incoming
from app.store.sqlite.database import SQLiteDatabase
from app.store.transaction import Operation, Transaction

_T = TypeVar("_T")

TEST_START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
"""When every test begins; a Monday."""


class SuiteClock:
    """The time of a test; `since` is how long ago it began. It stands still unless it is set."""

    def __init__(self) -> None:
        self.since = timedelta(0)

    def now(self) -> datetime:
        """Give the time, UTC."""
        return TEST_START + self.since


class SuiteStoreClock(StoreClock):
    """A test's time: nobody sets it, and its jumps are no time in which nothing was delivered."""

    def __init__(self, clock: SuiteClock) -> None:
        super().__init__(clock.now, lambda: to_micros(clock.now()), "")

    @override
    async def follow(self, _: Transaction, *, delivers: bool = False) -> ClockState:
        return ClockState(0, 0)


class _Selector(selectors.DefaultSelector):
    """Waits for other threads only; instead of waiting for a timer it moves the loop's time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.threads = 0

    def select(self, timeout: float | None = None) -> Any:
        if self.threads and timeout != 0:
            return super().select(None)
        ready = super().select(0 if timeout else timeout)
        if not ready and timeout:
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next timer when nothing else is left to do."""

    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)

    def time(self) -> float:
        """Give the virtual time in seconds."""
        return self._clock.now

    @contextmanager
    def elsewhere(self) -> Iterator[None]:
        """Let time stand still as long as the context lasts: a thread is at work."""
        self._clock.threads += 1
        try:
            yield
        finally:
            self._clock.threads -= 1

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> "asyncio.Future[Any]":
        """Run a function in a thread; time stands still until it has ended."""
        future = super().run_in_executor(executor, func, *args)
        self._clock.threads += 1
        future.add_done_callback(self._back)
        return future

    def _back(self, _: object) -> None:
        self._clock.threads -= 1


class SuiteDatabase(SQLiteDatabase):
    """The SQLite store, for whose writer the loop's time stands still.

    Args:
        path: The file, of this release's schema.
        loop: Runs the test.
    """

    def __init__(self, path: Path, loop: VirtualLoop) -> None:
        super().__init__(path)
        self._loop = loop

    @override
    async def write(self, operation: Operation[_T], *, seconds: float | None = None) -> _T:
        with self._loop.elsewhere():
            return await super().write(operation, seconds=seconds)

    @override
    async def write_first(self, operation: Operation[_T]) -> _T:
        with self._loop.elsewhere():
            return await super().write_first(operation)

    @override
    async def accept(self, batch: Sequence[Incoming]) -> list[Accepted]:
        with self._loop.elsewhere():
            return await super().accept(batch)


def offset(since: timedelta) -> str:
    """Write how long a test has lasted: ``+4m``, ``+1h30m``; parts of a second are left out."""
    seconds = int(since.total_seconds())
    sign, seconds = ("-", -seconds) if seconds < 0 else ("+", seconds)
    parts = {"d": seconds // 86400, "h": seconds // 3600 % 24, "m": seconds // 60 % 60, "s": seconds % 60}
    return sign + ("".join(f"{number}{unit}" for unit, number in parts.items() if number) or "0s")
