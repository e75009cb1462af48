"""Waiting for what another task, thread or process does."""

import asyncio
from collections.abc import Awaitable, Callable


async def until(condition: Callable[[], bool | Awaitable[bool]], seconds: float = 60) -> None:
    """Return as soon as `condition` holds; fail if it does not within `seconds`: the machine may be busy."""
    pause = 0.01
    async with asyncio.timeout(seconds):
        while True:
            result = condition()
            if result if isinstance(result, bool) else await result:
                return
            await asyncio.sleep(pause)
            pause = min(pause * 1.25, 0.1)  # looking costs what another test or process could use
