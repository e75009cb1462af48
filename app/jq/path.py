"""Most programs are a path of names, ``.diff.after.title``: jq need not be asked what such a one comes to."""

import re
from functools import lru_cache
from typing import Any

from app.jq.worker import KEPT

EXACT = 2**53
"""Up to here jq's numbers, which are doubles, hold every integer."""

PATH = re.compile(r"[ \t\r\n]*(?:\.|((?:\.[A-Za-z_][A-Za-z0-9_]*)+))[ \t\r\n]*")


class NotPlain(Exception):
    """Only jq itself knows what comes of it."""


@lru_cache(maxsize=KEPT)
def path(program: str) -> tuple[str, ...] | None:
    """Return the names of a program that is only a path of names, ``.`` having none; None of any other."""
    found = PATH.fullmatch(program)
    if found is None:
        return None
    return tuple((found[1] or "").split(".")[1:])


def follow(program: str, event: Any) -> Any:
    """Return what a path of names leads to; whatever is not beyond doubt, an error too, is left to jq.

    Raises:
        NotPlain: By `follow`, `plain` and `scalar` alike: only jq itself knows.
    """
    names = path(program)
    if names is None:
        raise NotPlain
    value = event
    for name in names:
        if isinstance(value, dict):
            value = value.get(name)
        elif value is not None:
            raise NotPlain
    return value


def plain(value: Any) -> Any:
    """Return a value as it comes out of jq, which has doubles, and text without lone surrogates."""
    match value:
        case None | bool():
            return value
        case str():
            return _plain_text(value)
        case int() | float() if -EXACT < value < EXACT:  # neither NaN nor an infinity is
            return int(value) if value == int(value) else value
        case list():
            return [plain(one) for one in value]
        case dict():
            return {_plain_text(key): plain(one) for key, one in value.items()}
    raise NotPlain


def scalar(value: Any) -> Any:
    """Do what `plain` does, but leave what may be large, and would hold up the event loop."""
    if isinstance(value, list | dict):
        raise NotPlain
    return plain(value)


def _plain_text(text: Any) -> str:
    if not isinstance(text, str):
        raise NotPlain
    try:
        text.encode()
    except UnicodeEncodeError:
        raise NotPlain from None
    return text
