"""Virtual time: a loop whose clock jumps to the next timer, and processes that can be killed and frozen."""

import asyncio
import heapq
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from datetime import UTC, datetime, timedelta
from itertools import count
from random import Random
from typing import Any

EPOCH = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)


class Process:
    """A simulated process: everything that the loop runs in its context.

    Attributes:
        name: Its name, for the trace.
        alive: False once it was killed: nothing of it runs any more, not even a ``finally``.
        frozen_until: Until this time of the loop nothing of it runs.
        troubles: When it was killed or frozen, in seconds of the loop.
        woken: When it went on after it was frozen.
        at_death: Called when it ends: what the kernel does.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.frozen_until = 0.0
        self.troubles: list[float] = []
        self.woken: list[float] = []
        self.at_death: list[Callable[[], None]] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self.context = copy_context()
        self.context.run(RUNNING.set, self)

    def start(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Run a coroutine in this process."""
        loop = asyncio.get_running_loop()
        return loop.create_task(work, context=self.context.copy())

    def freeze(self, now: float, seconds: float) -> None:
        """Let nothing of it run for some time, as SIGSTOP does."""
        self.frozen_until = now + seconds
        self.troubles.append(now)
        self.woken.append(self.frozen_until)

    def end(self, now: float) -> None:
        """Kill it, as ``kill -9`` does."""
        if self.alive:
            self.alive = False
            self.troubles.append(now)
            for call in self.at_death:
                call()


RUNNING: ContextVar[Process | None] = ContextVar("RUNNING", default=None)
"""The process that runs now; None: it is the world."""


class _Task(asyncio.Task[Any]):
    """A task whose place in a set does not depend on its address."""

    _numbers = count()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._number = next(self._numbers)
        super().__init__(*args, **kwargs)

    def __hash__(self) -> int:
        return self._number


def _make_task(loop: asyncio.AbstractEventLoop, work: Any, context: Context | None = None) -> _Task:
    task = _Task(work, loop=loop, context=context)
    process = (context or copy_context()).get(RUNNING)
    if process is not None:
        process.tasks.append(task)  # kept: one that is collected would run its `finally`
    return task


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop without waiting, without threads, and with a seeded choice among what is ready.

    Args:
        choose: The random numbers of the choice.
    """

    _ready: Any
    _scheduled: Any

    def __init__(self, choose: Random) -> None:
        self._now = 1_000.0
        self._choose = choose
        self._frozen: list[tuple[float, int, Any]] = []
        self._order = count()
        self.steps = 0
        self.fault: BaseException | None = None
        self._running: Process | None = None
        super().__init__()
        self.set_task_factory(_make_task)
        self.set_exception_handler(self._failed)

    def time(self) -> float:
        """Give the virtual time in seconds."""
        return self._now

    def wall(self) -> datetime:
        """Give the virtual time as a date, UTC."""
        return EPOCH + timedelta(seconds=round(self._now - 1_000.0, 6))

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.Handle:
        """Run a callback soon: there is no other thread."""
        return self.call_soon(callback, *args, context=context)

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> "asyncio.Future[Any]":  # type: ignore[override]
        """Run a function here and now instead of in a thread, and give its result a little later."""
        del executor
        future = self.create_future()

        def run() -> None:
            if future.cancelled():
                return
            try:
                future.set_result(func(*args))
            except Exception as error:  # noqa: BLE001 - it is the caller's
                future.set_exception(error)

        self.call_soon(run)
        return future

    def add_signal_handler(  # type: ignore[override]
        self, sig: int, callback: Callable[..., object], *args: Any
    ) -> None:
        """Refuse: a simulated process gets no signals."""
        raise NotImplementedError

    def _failed(self, _: object, context: dict[str, Any]) -> None:
        # A process may fail in any way; the world itself must not.
        if self._running is None and (error := context.get("exception")):
            self.break_off(error)

    def break_off(self, fault: BaseException | None) -> None:
        """End the simulation: it is at fault itself."""
        self.fault = fault
        self.stop()

    def _run_once(self) -> None:
        """Run one step: of all that is ready, the one that the seed says."""
        if not self._ready:
            self._wait()
        ready = self._ready
        place = self._choose.randrange(len(ready)) if len(ready) > 1 else 0
        handle = ready[place]
        del ready[place]
        if handle._cancelled:  # noqa: SLF001 - as the loop that it replaces does
            return
        process = handle._context.get(RUNNING)  # noqa: SLF001
        if process is not None:
            if not process.alive:
                return
            if process.frozen_until > self._now:
                heapq.heappush(self._frozen, (process.frozen_until, next(self._order), handle))
                return
        self.steps += 1
        self._running = process
        handle._run()  # noqa: SLF001
        handle = None

    def _wait(self) -> None:
        while self._scheduled and self._scheduled[0]._cancelled:  # noqa: SLF001
            heapq.heappop(self._scheduled)._scheduled = False  # noqa: SLF001
            self._timer_cancelled_count -= 1
        times = [self._scheduled[0]._when] if self._scheduled else []  # noqa: SLF001
        times += [self._frozen[0][0]] if self._frozen else []
        if not times:
            raise RuntimeError("nothing will ever happen again")
        self._now = max(self._now, min(times))
        while self._frozen and self._frozen[0][0] <= self._now:
            self._ready.append(heapq.heappop(self._frozen)[2])
        while self._scheduled and self._scheduled[0]._when <= self._now:  # noqa: SLF001
            handle = heapq.heappop(self._scheduled)
            handle._scheduled = False  # noqa: SLF001
            if handle._cancelled:  # noqa: SLF001
                self._timer_cancelled_count -= 1
            self._ready.append(handle)

    _timer_cancelled_count: int
