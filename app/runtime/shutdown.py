"""Sees a stop signal before the server does.

An answer without an end, such as the page's event stream, has to end by itself: uvicorn waits for open
answers, and only then shuts the application down.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def on_stop_signal(notice: Callable[[], None]) -> Iterator[None]:
    """Call `notice` when SIGINT or SIGTERM arrives, before the handler that is there already.

    Args:
        notice: Called inside a signal handler: it may only set a flag.
    """
    if threading.current_thread() is not threading.main_thread():  # Python lets no other thread set handlers
        yield
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    wrapped = {number: _both(notice, handler) for number, handler in handlers.items() if callable(handler)}
    for number, ours in wrapped.items():
        signal.signal(number, ours)
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
