"""Logs are events: a constant message, fields beside it; JSON unless somebody watches in a terminal."""

import json
import logging
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

_ENCODER = json.JSONEncoder(ensure_ascii=False, default=repr)


class _Hide:
    """Renders an event, and takes secrets out of what was rendered, wherever they came from."""

    def __init__(self, renderer: Processor, secrets: Iterable[str]) -> None:
        self._renderer = renderer
        # As they are, and as JSON writes them.
        shown = {form for secret in secrets if secret for form in (secret, json.dumps(secret)[1:-1])}
        self._secrets = sorted(shown, key=len, reverse=True)

    def __call__(self, logger: WrappedLogger, name: str, event: EventDict) -> str:
        first = {key: event.pop(key) for key in ("time", "level", "event") if key in event}
        line = str(self._renderer(logger, name, {**first, **event}))
        for secret in self._secrets:
            line = line.replace(secret, "[hidden]")
        return line


class _Named(structlog.WriteLogger):
    """Writes to standard error as it is now, and has a name.

    Our own events do not go through the standard library's logging: it takes as long as a decision.
    """

    def __init__(self, name: str = "") -> None:
        super().__init__(sys.stderr)
        self.name = name

    def msg(self, message: str) -> None:
        """Write a line; one that cannot be written, as on a full disk, must not stop what it tells of."""
        with suppress(OSError, ValueError):  # ValueError: the stream is closed
            super().msg(message)

    log = debug = info = warn = warning = fatal = failure = err = error = critical = exception = msg


def configure_logging(
    level: str, style: Literal["auto", "json", "text"], secrets: Iterable[str] = ()
) -> None:
    """Send the logs of this program and of its libraries to standard error.

    Args:
        level: The least level to show.
        style: ``json``, ``text``, or ``auto``: text on a terminal.
        secrets: Texts that must never be shown.
    """
    terminal = sys.stderr.isatty()
    text = style == "text" or (style == "auto" and terminal)
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(colors=terminal, timestamp_key="time")
        if text
        # An encoder that is kept: `json.dumps` would make one for each event.
        else structlog.processors.JSONRenderer(lambda event, **_: _ENCODER.encode(event))
    )
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]
    # Without the frames' local variables: secrets and payloads are among them.
    traceback = structlog.processors.ExceptionRenderer(
        structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    )
    render: list[Processor] = [
        structlog.processors.ExceptionRenderer() if text else traceback,
        _Hide(renderer, secrets),
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder(allow=[])],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    logging.root.handlers = [handler]
    logging.root.setLevel(level)
    # uvicorn brings handlers of its own; its access log says nothing that "change_accepted" does not.
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = name != "uvicorn.access"
    # Libraries log addresses and bodies at DEBUG, httpx each address at INFO.
    for name in ("slack_sdk", "aiohttp", "asyncio", "httpx", "httpcore", "urllib3"):
        logging.getLogger(name).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*shared, *render],
        logger_factory=_Named,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=False,
    )
