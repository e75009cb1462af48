"""What the commands share."""

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from typing import Annotated, Any, TypeVar

import typer
from pydantic import TypeAdapter, ValidationError
from rich.console import Console

from app.alerts.condition import Duration
from app.errors import ListenerError

T = TypeVar("T")

OUT = Console()

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's work, and return what it returns; Ctrl-C ends it with status 130."""
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def span(option: str, text: str) -> timedelta:
    """Return how long a time is that was given as 12h or 7d.

    Args:
        option: The option's name, for the error.
        text: What was given.

    Raises:
        ListenerError: It is no time.
    """
    try:
        return TypeAdapter[timedelta](Duration).validate_python(text)
    except ValidationError:
        raise ListenerError(f"{option} {text} is no time: write it as 12h or 7d") from None
