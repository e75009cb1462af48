"""Bounds what all senders together may cost while they have proven nothing: memory, and the loop's time."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from time import perf_counter

from app.errors import TooBusy

BODY_SECONDS = 15
"""So long a body may take to arrive: a sender that takes longer only holds memory."""
MOST_BYTES = 32 * 1024 * 1024
"""As much of unproven bodies is in memory at once."""
FREE_BYTES = 64 * 1024
BYTES_PER_SECOND = 32 * 1024 * 1024
"""So fast all bodies arrive together, each beyond its `FREE_BYTES`: faster would take the whole loop."""
TURN_SECONDS = 5
"""So long a body may wait for its turn to be encoded again."""
RESTS = 9
"""After a proof that failed come so many times as long without one."""
MOST_HEAD_BYTES = 16 * 1024 * 1024
"""As much of large heads is in memory at once."""
FREE_HEAD_BYTES = 4 * 1024
"""Those of a connection are large if they have more: Port's have a tenth of it."""


@dataclass(slots=True, eq=False)
class _Body:
    limit: asyncio.Timeout
    chunks: list[bytes] = field(default_factory=list)
    size: int = 0
    given_up: bool = False


class Heads:
    """The large heads of requests that are not answered, whole or in part."""

    def __init__(self) -> None:
        self._held: dict[object, int] = {}
        self._bytes = 0

    def hold(self, sender: object, size: int) -> bool:
        """Note how much a sender's heads have by now, and return whether there is room for them."""
        if size <= FREE_HEAD_BYTES:
            return True
        self._bytes += size - self._held.get(sender, 0)
        self._held[sender] = size
        return self._bytes <= MOST_HEAD_BYTES

    def release(self, sender: object) -> None:
        """Forget a sender's heads."""
        self._bytes -= self._held.pop(sender, 0)


class Unproven:
    """The bodies that have arrived and are not yet proven to come from Port.

    Args:
        body_bytes: The size of the largest body that is taken: two such always have room.
    """

    def __init__(self, body_bytes: int = 0) -> None:
        self.body_bytes = body_bytes
        self._most_bytes = max(MOST_BYTES, 2 * body_bytes)
        self._bodies: set[_Body] = set()
        self._bytes = 0
        self._turn = asyncio.Lock()
        self._free_at = (
            0.0  # by the loop's clock: when what has arrived beyond the first bytes is made up for
        )

    async def read(self, chunks: AsyncIterator[bytes]) -> bytes:
        """Read a body. If all that are read get too large together, the largest is given up.

        Raises:
            TooBusy: It was this one.
            TimeoutError: It took longer than `BODY_SECONDS`.
        """
        body = _Body(asyncio.timeout(BODY_SECONDS))
        self._bodies.add(body)
        try:
            async with body.limit:
                async for chunk in chunks:
                    body.chunks.append(chunk)
                    body.size += len(chunk)
                    self._bytes += len(chunk)
                    if self._bytes > self._most_bytes:
                        self._give_up_largest()
                    if body.size > FREE_BYTES:
                        await self._pace(len(chunk))
            return b"".join(body.chunks)
        except TimeoutError:
            if body.given_up:
                reason = f"bodies that nobody has signed take more than {self._most_bytes // 2**20} MiB"
                raise TooBusy(reason) from None
            raise
        finally:
            self._bodies.discard(body)
            self._bytes -= body.size

    async def _pace(self, size: int) -> None:
        # Meanwhile the server stops reading from the connection.
        now = asyncio.get_running_loop().time()
        self._free_at = max(self._free_at, now) + size / BYTES_PER_SECOND
        await asyncio.sleep(self._free_at - now)

    def _give_up_largest(self) -> None:
        # A change is small: who floods us is refused first.
        largest = max(self._bodies, key=lambda body: body.size)
        self._bytes -= largest.size
        largest.chunks, largest.size, largest.given_up = [], 0, True
        largest.limit.reschedule(0)  # now

    async def enter(self) -> float:
        """Wait for the turn to do what is costly; give when it came, for `leave`.

        One body has it at a time, since the work keeps the whole loop.

        Raises:
            TooBusy: Too many others wait.
        """
        try:
            async with asyncio.timeout(TURN_SECONDS):
                await self._turn.acquire()
        except TimeoutError:
            raise TooBusy(f"a signature waited {TURN_SECONDS} s to be verified") from None
        return perf_counter()

    def leave(self, began: float, *, proven: bool) -> None:
        """Give the turn to the next: at once after a proof, else after a rest, so that other work gets on."""
        if proven:
            self._turn.release()
        else:
            rest = RESTS * (perf_counter() - began)
            asyncio.get_running_loop().call_later(rest, self._turn.release)
