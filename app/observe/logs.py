"""Logs are events: an id, and fields beside it; as JSON, or as text on a terminal."""

import json
import logging
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Literal

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from app.observe.events import EVENTS

LEAST_SECRET_CHARS = 8
"""A shorter text may be any word: to hide it would hide what the log says."""
PLAIN = frozenset((str, int, bool, type(None)))
"""Types of values that JSON has."""
OURS = frozenset({"time", "level", "logger"})
"""Fields that hold nothing from elsewhere."""


class Hider:
    """Takes secrets out of values, however deep they stand, and leaves only what JSON has.

    Args:
        secrets: Texts that must never be shown; those of fewer than `LEAST_SECRET_CHARS` are left in.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        # The longest first: a secret may be a part of another.
        forms = {secret for secret in secrets if len(secret) >= LEAST_SECRET_CHARS}
        # A library may have quoted one.
        forms |= _written(forms) | {repr(secret)[1:-1] for secret in forms}
        self._secrets = sorted(forms, key=len, reverse=True)
        self._lines = forms | _written(forms)

    def __call__(self, value: Any) -> Any:
        """Return a value without the secrets: text, number, list or mapping; of anything else, its `repr`."""
        match value:
            case str():
                return self._hide(str(value))
            case None | bool() | int():
                return value
            case float():
                return value if math.isfinite(value) else repr(value)
            case list() | tuple() | set() | frozenset():
                return [self(item) for item in value]
            case Mapping():
                return {self._hide(str(key)): self(item) for key, item in value.items()}
        return self._hide(repr(value))

    def finds(self, text: str) -> bool:
        """Tell whether a text has a secret in it, as it is or, quoted or not, as JSON has it."""
        return any(map(text.__contains__, self._lines))

    def _hide(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "[hidden]")
        return text


def _written(texts: Iterable[str]) -> set[str]:
    """Give texts as JSON has them, with and without characters beyond ASCII."""
    return {json.dumps(text, ensure_ascii=plain)[1:-1] for text in texts for plain in (True, False)}


class _HideFields:
    """Hides secrets in an event's fields; not in what the listener's own source says."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._hide = Hider(secrets)

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> EventDict:
        first = {key: event.pop(key) for key in ("time", "level", "event") if key in event}
        if first.get("event") not in EVENTS:  # of a library
            first["event"] = self._hide(first.get("event"))
        return first | {key: value if key in OURS else self._hide(value) for key, value in event.items()}


class _Line:
    """Writes an event of the listener itself as a line of JSON, in one step: a change has a line."""

    def __init__(self, secrets: Iterable[str], traceback: Processor, encode: Callable[[Any], str]) -> None:
        self._hide, self._traceback, self._encode = Hider(secrets), traceback, encode

    def __call__(self, logger: WrappedLogger, level: str, event: EventDict) -> str:
        if "exc_info" in event:
            self._traceback(logger, level, event)
        hide, name = self._hide, event.pop("event", None)
        line = {
            "time": datetime.now(UTC),
            "level": level,
            "event": name if name in EVENTS else hide(name),
            **event,
            "logger": logger.name,
        }
        for key, value in event.items():
            if type(value) not in PLAIN and not (type(value) is list and PLAIN.issuperset(map(type, value))):
                line[key] = hide(value)
        written = self._encode(line)
        if hide.finds(written):  # hardly ever; to look into each field takes three times as long
            written = self._encode(line | {key: hide(line[key]) for key in event})
        return written


def _encoder(*, unicode: bool) -> Callable[[Any], str]:
    # Kept, because `json.dumps` would make one for each event. What the stream cannot write, it would escape
    # in Python's way, which is not JSON's.
    standard = json.JSONEncoder(ensure_ascii=not unicode, separators=(",", ":"), default=_time).encode

    def encode(event: Any) -> str:
        try:
            return orjson.dumps(event, option=orjson.OPT_UTC_Z).decode()
        except TypeError:  # half an emoji, a number of 65 bits
            return standard(event)

    return encode if unicode else standard


def _time(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")


class _Named(structlog.WriteLogger):
    """Writes to the current standard error, and has a name.

    The program's events do not go through the standard library's logging: it takes as long as a decision.
    """

    def __init__(self, name: str = "") -> None:
        super().__init__(sys.stderr)
        self.name = name

    def msg(self, message: str) -> None:
        """Write a line; if it cannot be written, as on a full disk, the work that it reports goes on."""
        with suppress(OSError, ValueError):  # ValueError: the stream is closed
            super().msg(message)

    log = debug = info = warn = warning = fatal = failure = err = error = critical = exception = msg


def configure_logging(
    level: str, style: Literal["auto", "json", "text"], secrets: Iterable[str] = ()
) -> None:
    """Send the logs of this program and of its libraries to standard error.

    Args:
        level: The lowest level to show.
        style: ``json``, ``text``, or ``auto``: text on a terminal.
        secrets: Texts that must never be shown, as `Hider` takes them.
    """
    terminal = sys.stderr.isatty()
    text = style == "text" or (style == "auto" and terminal)
    unicode = (getattr(sys.stderr, "encoding", None) or "").lower().replace("-", "") == "utf8"
    encode = _encoder(unicode=unicode)
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(colors=terminal, timestamp_key="time")
        if text
        else structlog.processors.JSONRenderer(lambda event, **_: encode(event))
    )
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]
    # Without the frames' local variables, which hold secrets and payloads.
    traceback = structlog.processors.ExceptionRenderer(
        structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    )
    render: list[Processor] = [
        structlog.processors.ExceptionRenderer() if text else traceback,
        _HideFields(secrets),
        renderer,
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder(allow=[])],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    _configure_libraries(handler, level)
    structlog.configure(
        processors=[*shared, *render]
        if text
        else [structlog.contextvars.merge_contextvars, _Line(secrets, traceback, encode)],
        logger_factory=_Named,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=False,
    )


def _configure_libraries(handler: logging.Handler, level: str) -> None:
    """Send what libraries log to a handler, but for what would show secrets or say things twice."""
    logging.root.handlers = [handler]
    logging.root.setLevel(level)
    # uvicorn brings handlers of its own; its access log has nothing that "change_accepted" does not.
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = name != "uvicorn.access"
    # Libraries log addresses and bodies at DEBUG, httpx each address at INFO.
    for name in ("slack_sdk", "aiohttp", "asyncio", "httpx", "httpcore", "urllib3"):
        logging.getLogger(name).setLevel(logging.WARNING)
