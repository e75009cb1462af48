"""Group commit: what comes in while one transaction runs is the next one."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from app.errors import StoreUnavailable
from app.observe.watch import NOBODY, Watch
from app.store.rows import Accepted, Incoming

LARGEST_GROUP = 256
"""Changes in a transaction. Each may lock an entity; a server's table of locks usually has 6,400 places."""
ENOUGH_CHANGES = 64  # that need not wait for more: a larger transaction is hardly any cheaper
LARGEST_GROUP_BYTES = 8 * 1024 * 1024
MOST_WAITING = 10_000  # beyond it the database is not keeping up: better an honest 503 than an endless wait
LONGEST_WAIT_SECONDS = 4.5

Accept = Callable[[Sequence[Incoming]], Awaitable[list[Accepted]]]


@dataclass(frozen=True, slots=True, eq=False)
class _WaitingBatch:
    batch: Sequence[Incoming]
    future: "asyncio.Future[list[Accepted]]"

    @property
    def bytes(self) -> int:
        return sum(len(incoming.body) for incoming in self.batch)


class GroupCommit:
    """Stores changes, as many as wait in one transaction.

    Args:
        accept: Stores changes in one transaction.
        watch: Is called after each transaction.
    """

    def __init__(self, accept: Accept, watch: Watch = NOBODY) -> None:
        self._accept = accept
        self._watch = watch
        self._queue: deque[_WaitingBatch] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._closed = False

    async def run(self, batch: Sequence[Incoming]) -> list[Accepted]:
        """Store changes, and give what became of each once all are on disk.

        Raises:
            StoreUnavailable: They could not be stored in time; or nobody knows whether they were.
        """
        if self._closed:
            raise StoreUnavailable("the store is closed")
        if len(self._queue) >= MOST_WAITING:
            raise StoreUnavailable("too many writes are waiting for the database")
        waiting = _WaitingBatch(batch, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        try:
            async with asyncio.timeout(LONGEST_WAIT_SECONDS):
                return await waiting.future  # a timeout cancels it, and then it is not begun any more
        except TimeoutError:
            raise StoreUnavailable("the database does not answer in time") from None

    async def close(self) -> None:
        """Commit what waits."""
        self._closed = True
        if self._worker is not None:
            await self._worker

    async def _work(self) -> None:
        while self._queue:
            number = 0
            while (
                number < len(self._queue) < ENOUGH_CHANGES
            ):  # a turn of the loop that brings one may bring more
                number = len(self._queue)
                await asyncio.sleep(0)
            if group := self._take():
                await self._commit(group)

    def _take(self) -> list[_WaitingBatch]:
        group: list[_WaitingBatch] = []
        changes = size = 0
        while self._queue:
            following = self._queue[0]
            changes, size = changes + len(following.batch), size + following.bytes
            if group and (changes > LARGEST_GROUP or size > LARGEST_GROUP_BYTES):
                break
            self._queue.popleft()
            if not following.future.done():
                group.append(following)
        return group

    async def _commit(self, group: list[_WaitingBatch]) -> None:
        began = time.perf_counter()
        try:
            accepted = await self._accept([incoming for waiting in group for incoming in waiting.batch])
        except StoreUnavailable as error:
            self._watch.committed(time.perf_counter() - began, len(group), well=False)
            _refuse(group, error)
        except Exception as error:  # noqa: BLE001 - a decision's own fault is its caller's only
            if len(group) == 1:
                _refuse(group, error)
            else:  # which one it was shows when each runs alone; the others must not suffer for it
                for waiting in group:
                    await self._commit([waiting])
        else:
            self._watch.committed(time.perf_counter() - began, len(group), well=True)
            results = iter(accepted)
            for waiting in group:
                result = [next(results) for _ in waiting.batch]
                if not waiting.future.done():
                    waiting.future.set_result(result)


def _refuse(group: list[_WaitingBatch], error: Exception) -> None:
    for waiting in group:
        if not waiting.future.done():
            waiting.future.set_exception(error)
