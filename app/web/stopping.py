"""Notices that the process is told to stop, before whoever handles that closes the connections.

An answer that goes on for ever, such as the page's stream of news, has to end by itself: uvicorn waits for
open answers, and only then lets the application shut down.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def noticing_stop(notice: Callable[[], None]) -> Iterator[None]:
    """Call `notice` when SIGINT or SIGTERM arrives, and then who handled it before.

    Args:
        notice: Called inside a signal handler: it may set a flag, and no more.
    """
    if threading.current_thread() is not threading.main_thread():  # no others may set handlers
        yield
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    wrapped = {}
    for number, handler in handlers.items():
        if callable(handler):
            wrapped[number] = _both(notice, handler)
            signal.signal(number, wrapped[number])
    try:
        yield
    finally:
        for number, ours in wrapped.items():
            if signal.getsignal(number) is ours:
                signal.signal(number, handlers[number])


def _both(
    notice: Callable[[], None], handler: Callable[[int, FrameType | None], object]
) -> Callable[[int, FrameType | None], None]:
    def handle(number: int, frame: FrameType | None) -> None:
        notice()
        handler(number, frame)

    return handle
