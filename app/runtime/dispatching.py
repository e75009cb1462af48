"""The process of `serve --dispatch apart` that delivers; `app.runtime.apart` starts it, and nobody else."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import orjson
import structlog
import uvloop

from app.deliver.dispatcher import POLL_SECONDS, Dispatcher
from app.errors import ListenerError
from app.observe import otel
from app.observe.logs import configure_logging
from app.observe.metrics import Metrics
from app.observe.tracing import OFF
from app.runtime.apart import SIGNALS, STARTING
from app.runtime.listener import open_runtime
from app.runtime.process import settle_memory, start_up
from app.settings import Settings

log = structlog.get_logger(__name__)

NICENESS = 5
"""How far it steps back behind the process that answers Port."""


def main(end: socket.socket) -> None:
    """Deliver until the process that receives ends, or closes its end.

    Args:
        end: Ours of the sockets by which the two talk.
    """
    for number in SIGNALS:
        signal.signal(number, lambda *_: None)  # the other process says what is to be done
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    with suppress(OSError):
        os.nice(NICENESS)
    try:
        uvloop.run(_deliver(start_up(), end))
    except ListenerError as error:
        if not structlog.is_configured():
            configure_logging("INFO", "auto")
        log.error("dispatcher_refused", reason=str(error))
        raise SystemExit(1) from None


async def _deliver(settings: Settings, end: socket.socket) -> None:
    watch = Metrics()
    provider = otel.make_provider(os.environ)
    tracer = provider.get_tracer("app") if provider else OFF
    reader, writer = await asyncio.open_connection(sock=end)
    running: list[Dispatcher] = []
    saying = asyncio.create_task(_say_how_it_is(writer, running))
    opening = open_runtime(settings, receive=False, follow_file=False, watch=watch, tracer=tracer)
    try:
        async with opening as runtime:
            settle_memory()
            running.append(runtime.dispatcher)
            while line := await _next(reader):
                what, about = orjson.loads(line)
                if what == "wake":
                    runtime.dispatcher.wake(about)
                elif what == "reload":
                    answer = await runtime.rules.reload()
                    _tell(writer, what, answer)
                elif what == "numbers":
                    _tell(writer, what, watch.numbers())
    finally:
        saying.cancel()
        await otel.close(provider)


def _tell(writer: asyncio.StreamWriter, what: str, about: Any) -> None:
    if not writer.is_closing():  # the other process was killed just now
        writer.write(orjson.dumps([what, about]) + b"\n")


async def _next(reader: asyncio.StreamReader) -> bytes:
    """Read the next line; empty: the other process has ended, or wants this one to end."""
    try:
        return await reader.readline()
    except OSError:
        return b""


async def _say_how_it_is(writer: asyncio.StreamWriter, running: Sequence[Dispatcher]) -> None:
    while True:
        how = running[0].stale() if running else STARTING
        _tell(writer, "how", how)
        await asyncio.sleep(POLL_SECONDS if how is None else POLL_SECONDS / 20)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
