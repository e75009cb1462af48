"""Waiting for what another task, thread or process does."""

import asyncio
from collections.abc import Awaitable, Callable


async def until(condition: Callable[[], bool | Awaitable[bool]], seconds: float = 60) -> None:
    """Return as soon as `condition` holds; fail if it does not within `seconds`: the machine may be busy."""
    async with asyncio.timeout(seconds):
        while True:
            result = condition()
            if result if isinstance(result, bool) else await result:
                return
            await asyncio.sleep(0.01)
