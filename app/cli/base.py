"""The parts that commands share: output, options, and the event loop."""

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from typing import Annotated, Any, TypeVar

import typer
from pydantic import TypeAdapter, ValidationError
from rich.console import Console

from app.errors import ListenerError
from app.model.notification import one_line
from app.rules.condition import Duration

_T = TypeVar("_T")

OUT = Console()
MAX_NUMBER = 2**63 - 1
"""The largest number that the databases can hold."""

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]


def span(option: str, text: str) -> timedelta:
    """Parse an option's duration: ``30m``, ``12h``, ``2d``.

    Raises:
        ListenerError: It is not one; the text names the option.
    """
    try:
        return TypeAdapter(Duration).validate_python(text)
    except ValidationError as error:
        wrong = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ListenerError(f"{option} {one_line(text, 40)} {wrong}") from None


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a command's coroutine and return its result; Ctrl-C ends the process with status 130."""
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
