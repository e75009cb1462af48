"""The dispatcher as a process of its own, which this one starts, keeps running, wakes and ends.

They talk over a pair of sockets, in lines of JSON. When one of them ends, however it does, the other sees it.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any

import orjson
import structlog

from app.deliver.dispatcher import STALE_AFTER, Dispatcher
from app.observe.together import ADDED_GAUGES, Key, by_key
from app.observe.watch import NOBODY, Watch
from app.receive.rules_source import Reload
from app.runtime.listener import STOP_SECONDS

log = structlog.get_logger(__name__)

SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
"""What a terminal or a service manager sends to the dispatcher's process too: this one passes it on."""
WAKE_PAUSE_SECONDS = 0.005  # at a thousand changes a second each would wake it
NUMBERS_SECONDS = 2.0
RELOAD_SECONDS = 10.0
SILENT_SECONDS = 5.0  # it says each second how it is
STEADY_SECONDS = 60.0  # who has run for so long has not ended at its start
LONGEST_PAUSE_SECONDS = 30.0
MAX_LINE_BYTES = 64 * 2**20
MAX_UNREAD_BYTES = 2**16
STARTING = "the dispatcher's process is starting"


class Apart:
    """Delivers in a process of its own.

    Args:
        watch: Counts how often it ended.
        pause_seconds: How long to wait before it is started again; twice as long each time.
        hung_seconds: How long it may say nothing, and eight times as long at its start, before it is killed.
    """

    def __init__(
        self,
        watch: Watch = NOBODY,
        pause_seconds: float = 0.5,
        hung_seconds: float = STALE_AFTER.total_seconds(),
    ) -> None:
        self._watch = watch
        self._pause_seconds = pause_seconds
        self._hung_seconds = hung_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._ending = asyncio.Event()
        self._trouble: str | None = STARTING
        self._well_at = time.monotonic()
        self._well, self._cannot_begin = asyncio.Event(), asyncio.Event()
        self._here: Dispatcher | None = None
        self._queues: set[str] = set()
        self._anywhere = self._told = False
        self._asked: dict[str, list[asyncio.Future[Any]]] = {}
        self._numbers: dict[Key, float] = {}
        self._of_ended: dict[Key, float] = {}

    @property
    def pid(self) -> int | None:
        """The number of the process that was started last."""
        return self._process.pid if self._process else None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep the process running as long as the context lasts; then let it end what it is sending."""
        keeping = asyncio.create_task(self._keep())
        try:
            yield
        finally:
            self._ending.set()
            self._end()
            await asyncio.wait([keeping], timeout=STOP_SECONDS + 0.5)
            if not keeping.done() and self._process is not None:
                self._process.kill()
            await keeping

    def wake(self, queues: Collection[str] = ()) -> None:
        """Let the dispatcher look for work, see `Dispatcher.wake`; what comes soon after goes together."""
        if self._here is not None:
            self._here.wake(queues)
        self._anywhere |= not queues
        self._queues.update(queues)
        if not self._told:
            self._tell()

    def reloading(self, reload: Reload) -> Reload:
        """Make a reload of the rules that is one in the dispatcher's process too.

        That one's comes first: it must know a destination before an alert for it is stored.
        """

        async def both() -> bool:
            # One that starts does it when it has begun.
            settled = await self._ask("reload", 0 if self._trouble else RELOAD_SECONDS)
            return await reload() and settled is not False

        return both

    async def stand_in(
        self, dispatcher: Dispatcher, delivering: Callable[[], AbstractAsyncContextManager[None]]
    ) -> None:
        """Deliver in this process while the other one cannot begin; until cancelled.

        It reads the configuration anew, which may be wrong since this one has read it; or there may be no
        memory. One that begins, and ends when it delivers, is not stood in for: this process would end, too.

        Args:
            dispatcher: Delivers here, by the rules in force.
            delivering: Lets it run as long as the context lasts.
        """
        while True:
            await self._cannot_begin.wait()
            log.error("delivering_here")
            async with delivering():
                self._here = dispatcher
                await self._well.wait()
                self._here = None

    def stale(self) -> str | None:
        """Say why deliveries cannot be relied on; None: the process was well a moment ago."""
        if time.monotonic() - self._well_at <= STALE_AFTER.total_seconds():
            return None
        return self._here.stale() if self._here else self._how()

    def warnings(self) -> list[str]:
        """Say what is wrong with the process, where that may pass."""
        how = None if self.stale() else self._how()
        return [how] if how else []

    async def numbers(self) -> dict[Key, float]:
        """Ask the process for its numbers; those of processes that have ended stay in them."""
        await self._ask("numbers", NUMBERS_SECONDS)
        keys = self._numbers.keys() | self._of_ended.keys()
        return {key: self._numbers.get(key, 0) + self._of_ended.get(key, 0) for key in keys}

    def _how(self) -> str | None:
        if self._trouble is None and time.monotonic() - self._well_at > SILENT_SECONDS:
            return "the dispatcher's process does not answer"
        return self._trouble

    async def _keep(self) -> None:
        pause = self._pause_seconds
        while not self._ending.is_set():
            began = time.monotonic()
            try:
                how = await self._run()
            except OSError as error:  # no memory for it, too many processes or files
                how = error.strerror or type(error).__name__
            if self._ending.is_set():
                return
            pause = self._pause_seconds if time.monotonic() - began > STEADY_SECONDS else pause
            self._trouble = f"the dispatcher's process has ended ({how}), and is started again"
            if not self._well.is_set():
                self._trouble += "; meanwhile this one delivers"
                self._cannot_begin.set()
            self._watch.dispatcher_ended()
            log.error("dispatcher_ended", how=how, again_in_seconds=pause)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    async def _run(self) -> str:
        """Run the process until it has ended; the result is how it ended.

        Raises:
            OSError: It cannot be started.
        """
        hung = ""
        self._well.clear()
        ours, theirs = socket.socketpair()
        reader, self._writer = await asyncio.open_connection(sock=ours, limit=MAX_LINE_BYTES)
        try:
            with theirs:
                self._process = process = _start(theirs)
            log.info("dispatcher_started", pid=process.pid)
            if self._ending.is_set():
                self._end()
            patience = self._hung_seconds * 8
            try:
                while line := await _next_line(reader, patience):
                    self._take(*orjson.loads(line))
                    patience = self._hung_seconds
            except TimeoutError:  # it may hold the store's lock, and nothing could be stored
                hung = f"it said nothing for {patience:.0f} s, and was killed"
                process.kill()
            except (OSError, ValueError):  # its last line may be cut off
                process.kill()
        finally:
            self._writer.close()
            self._writer = None
            for asked in chain.from_iterable(self._asked.values()):
                asked.cancel()
            self._asked.clear()
        for key, number in self._numbers.items():
            if key[0] not in ADDED_GAUGES:
                self._of_ended[key] = self._of_ended.get(key, 0) + number
        self._numbers = {}
        status = await asyncio.to_thread(process.wait)
        if hung:
            return hung
        return signal.Signals(-status).name if status < 0 else f"exit status {status}"

    def _take(self, what: str, about: Any) -> None:
        if what == "numbers":
            self._numbers = by_key(about)
        if what != "how":
            asked = self._asked[what].pop(0)
            if not asked.done():
                asked.set_result(about)
            return
        self._trouble = about  # why its loop is stale
        if about is None:
            self._well_at = time.monotonic()
            self._well.set()
            self._cannot_begin.clear()

    def _tell(self) -> None:
        self._told = False
        if not self._anywhere and not self._queues:
            return
        self._say("wake", [] if self._anywhere else [*self._queues])
        self._queues.clear()
        self._anywhere, self._told = False, True
        asyncio.get_running_loop().call_later(WAKE_PAUSE_SECONDS, self._tell)

    async def _ask(self, what: str, seconds: float) -> Any:
        """Say something that is answered, and give the answer; None: there is none in time."""
        if not self._say(what):
            return None
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._asked.setdefault(what, []).append(answer)  # answers come in the order of the questions
        await asyncio.wait([answer], timeout=seconds)
        return answer.result() if answer.done() and not answer.cancelled() else None

    def _say(self, what: str, about: Any = None) -> bool:
        # Of one that is frozen what waits must not grow; one that starts looks everywhere by itself.
        writer = None if self._ending.is_set() else self._writer
        # One that was killed just now: uvloop raises where a transport that has closed is asked for more.
        if writer is None or writer.is_closing():
            return False
        if writer.transport.get_write_buffer_size() >= MAX_UNREAD_BYTES:
            return False
        writer.write(orjson.dumps([what, about]) + b"\n")
        return True

    def _end(self) -> None:
        if self._trouble == STARTING and self._process is not None:  # it would begin first
            self._process.kill()
        elif self._writer is not None:
            with suppress(OSError):
                self._writer.write_eof()


async def _next_line(reader: asyncio.StreamReader, patience: float) -> bytes:
    """Read a line; empty: there is none any more.

    Raises:
        TimeoutError: None has come for so many seconds.
    """
    with suppress(TimeoutError):
        return await asyncio.wait_for(reader.readline(), patience * 2 / 3)
    # Once more: both may have been frozen, as by `docker pause`.
    return await asyncio.wait_for(reader.readline(), patience / 3)


def _start(end: socket.socket) -> subprocess.Popen[bytes]:
    # As of app.jq.runner: it must find what this process finds, and nothing else.
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    # Blocked until it can take them: Ctrl-C goes to both, and would end it with a traceback.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        return subprocess.Popen(  # noqa: S603 - it is our own module
            [sys.executable, "-P", "-m", "app.runtime.dispatching", str(end.fileno())],
            stdin=subprocess.DEVNULL,
            pass_fds=[end.fileno()],
            env=os.environ | {"PYTHONPATH": path},
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
