"""What a check found: of each step whether it is well, and how to fix what is not."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from app.errors import ListenerError
from app.model.notification import one_line
from app.notifier.base import Notifier

_T = TypeVar("_T")

MAX_LINE_CHARACTERS = 1_000
PROBE_SECONDS = 20.0


class CheckStatus(StrEnum):
    """The outcome of a step's check."""

    OK = "ok"
    NOTE = "note"
    """It works, but not all that could: or a part of it cannot be tried."""
    WRONG = "wrong"
    NOT_LOOKED_AT = "not looked at"


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of a step: `text` has what is wrong and how to fix it, or why it was not looked at."""

    step: str
    status: CheckStatus
    text: str = ""


Remark = tuple[CheckStatus, str]
"""A part of a finding."""


INCOMPLETE = 3
"""The exit status where nothing is wrong, but something was not looked at. (2 is that of a wrong option.)"""


def render_finding(finding: Finding) -> list[str]:
    """Format a finding as lines for a terminal."""
    width = max(map(len, CheckStatus)) + 1
    first, *more = finding.text.splitlines() or [""]
    head = one_line(f"{finding.step}{': ' if first else ''}{first}", MAX_LINE_CHARACTERS)
    return [
        f"{finding.status:<{width}}{head}",
        *(f"{'':<{width}}{one_line(line, MAX_LINE_CHARACTERS)}" for line in more),
    ]


def summary(counted: Mapping[CheckStatus, int]) -> str:
    """Sum up how many findings there are of each status, in a sentence."""
    wrong, unseen = counted[CheckStatus.WRONG], counted[CheckStatus.NOT_LOOKED_AT]
    if wrong or unseen:
        return f"Wrong: {wrong}. Not looked at: {unseen}."
    return "Nothing is wrong, and nothing was left out."


def exit_status(counted: Mapping[CheckStatus, int]) -> int:
    """Choose the exit status: 1 where something is wrong, 3 where something was not looked at, else 0."""
    if counted[CheckStatus.WRONG]:
        return 1
    return INCOMPLETE if counted[CheckStatus.NOT_LOOKED_AT] else 0


async def try_destination(notifier: Notifier, message: str) -> Remark:
    """Try a destination by the client that delivers; a `message` that is not empty is posted.

    Raises:
        ListenerError: Alerts would not arrive.
    """
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            tried = await notifier.probe(message)
    except TimeoutError:
        raise ListenerError(f"no answer within {PROBE_SECONDS:g} s") from None
    said = "; ".join(filter(None, (tried.detail, tried.note, tried.unseen)))
    if tried.unseen:
        return CheckStatus.NOT_LOOKED_AT, said
    return CheckStatus.NOTE if tried.note else CheckStatus.OK, said


def present(value: _T | None) -> _T:
    """Give a value that the checks before this step have made sure of."""
    assert value is not None  # noqa: S101 - tells mypy
    return value
