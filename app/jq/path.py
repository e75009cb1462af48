"""Evaluates a path of names, ``.diff.after.title``, as most programs are, without jq."""

import re
from functools import lru_cache
from typing import Any

from app.jq.worker import MAX_COMPILED

EXACT_BELOW = 2**53
"""Up to here jq's numbers, which are doubles, hold every integer."""
MAX_SMALL = 500
"""How many values a small one has in it; an alert has fewer, and takes 0.1 ms at most."""

_NESTED = (list, dict)
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
    # No `match`, and few calls: an alert has a hundred texts.
    if isinstance(value, str):
        return value if value.isascii() else _plain_text(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, dict):
        return {
            key if isinstance(key, str) and key.isascii() else _plain_text(key): item
            if isinstance(item, str) and item.isascii()
            else plain(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, int | float) and -EXACT_BELOW < value < EXACT_BELOW:  # NaN and infinities are not
        return int(value) if value == int(value) else value
    raise NotPlain


def small(value: Any) -> Any:
    """Do the same as `plain`, but not for what is large, and would hold up the event loop."""
    nested, number = [value] if isinstance(value, _NESTED) else [], 0
    for part in nested:
        number += len(part)
        if number > MAX_SMALL:
            raise NotPlain
        nested += [
            item for item in (part.values() if isinstance(part, dict) else part) if isinstance(item, _NESTED)
        ]
    return plain(value)


def _plain_text(text: Any) -> str:
    if not isinstance(text, str):
        raise NotPlain
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        raise NotPlain from None
    return text
