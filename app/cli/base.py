"""What the commands share."""

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

T = TypeVar("T")

OUT = Console()

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


def span(option: str, text: str) -> timedelta:
    """Return the time that an option gives: 30m, 12h, 2d.

    Raises:
        ListenerError: It is none.
    """
    try:
        return TypeAdapter(Duration).validate_python(text)
    except ValidationError as error:
        wrong = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ListenerError(f"{option} {one_line(text, 40)} {wrong}") from None


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's work, and return what it returns; Ctrl-C ends it with status 130."""
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
