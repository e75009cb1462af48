"""Evaluates a path of names, ``.diff.after.title``, as most programs are, without jq."""

import re
from functools import lru_cache
from typing import Any

from app.jq.worker import MAX_COMPILED

EXACT_BELOW = 2**53
"""Up to here jq's numbers, which are doubles, hold every integer."""
MAX_SMALL = 500
"""How many values a small one has in it; an alert has fewer, and takes 0.1 ms at most."""

# Names as in jq's own syntax; keywords too, which jq takes after a dot.
PLAIN_PATH = re.compile(r"[ \t\r\n]*(?:\.|((?:\.[A-Za-z_][A-Za-z0-9_]*)+))[ \t\r\n]*")


class NotPlain(Exception):
    """Only jq itself can evaluate it."""


@lru_cache(maxsize=MAX_COMPILED)
def path(program: str) -> tuple[str, ...] | None:
    """Parse a program that is only a path of names, ``.`` having none; None: it is another."""
    match = PLAIN_PATH.fullmatch(program)
    if match is None:
        return None
    return tuple((match[1] or "").split(".")[1:])


def follow(program: str, event: Any) -> Any:
    """Follow a path of names; what is not beyond doubt, an error too, is left to jq.

    Raises:
        NotPlain: By `follow`, `plain` and `small` alike: ask jq.
    """
    names = path(program)
    if names is None:
        raise NotPlain
    value = event
    for name in names:
        if isinstance(value, dict):
            value = value.get(name)
        elif value is not None:  # jq's error names the type: let jq say it
            raise NotPlain
    return value


def plain(value: Any) -> Any:
    """Convert a value as jq would, which has doubles, and text without lone surrogates."""
    match value:
        case None | bool():
            return value
        case str():
            return _plain_text(value)
        case int() | float() if -EXACT_BELOW < value < EXACT_BELOW:  # neither NaN nor an infinity is
            return int(value) if value == int(value) else value
        case list():
            return [plain(item) for item in value]
        case dict():
            return {_plain_text(key): plain(item) for key, item in value.items()}
    raise NotPlain


def small(value: Any) -> Any:
    """Do the same as `plain`, but not for what is large, and would hold up the event loop."""
    values, number = [value], 0
    for part in values:
        if isinstance(part, list | dict):
            number += len(part)
            if number > MAX_SMALL:
                raise NotPlain
            values += part if isinstance(part, list) else part.values()
    return plain(value)


def _plain_text(text: Any) -> str:
    if not isinstance(text, str):
        raise NotPlain
    try:
        text.encode()
    except UnicodeEncodeError:
        raise NotPlain from None
    return text
