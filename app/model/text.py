"""Text as people wrote it, in every script: what is taken out of it, and where it may be cut. Pure."""

import re
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from regex import Pattern

# What a terminal obeys, what ends a line, and halves of a surrogate pair, which no encoding takes.
_CONTROLS = re.compile(
    r"[ ]*[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff][ \x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]*"
)
_EMBEDDINGS, _OVERRIDES, _END = "\u202a\u202b", "\u202d\u202e", "\u202c"
_ISOLATES, _END_OF_ISOLATE = "\u2066\u2067\u2068", "\u2069"
_DIRECTIONS = re.compile(f"[{_EMBEDDINGS}{_OVERRIDES}{_END}{_ISOLATES}{_END_OF_ISOLATE}]")


def without_controls(text: str) -> str:
    """Put a space in the place of control characters, and take out what reorders the text beside it.

    Every script and emoji stays as it was written, joiners and invisible marks too.
    """
    if text.isascii() and text.isprintable():
        return text
    return _CONTROLS.sub(" ", _in_order(text))


def cut(text: str, limit: int) -> str:
    """Cut text that is longer than `limit` characters where a reader's character ends; then ``…`` follows."""
    return text if len(text) <= limit else f"{text[: boundary(text, limit - 1)]}…"


def boundary(text: str, at: int) -> int:
    """Find the last place in text, at `at` or before, that is not within what a reader sees as one character.

    It is `at` itself where the very first one is longer.
    Rules: https://www.unicode.org/reports/tr29/ (extended grapheme clusters)
    """
    if at >= len(text) or text[max(0, at - 1) : at + 1].isascii():
        return min(at, len(text))
    end = 0
    for cluster in _cluster().finditer(text):
        if cluster.end() > at:
            break
        end = cluster.end()
    return end or at


@cache
def _cluster() -> "Pattern[str]":
    import regex  # here: it takes 1.4 MB, and long text that is not ASCII is rare

    return regex.compile(r"\X")


def _in_order(text: str) -> str:
    """Take out overrides of the direction of writing, and embeddings and isolates without begin or end.

    Those would reorder the text beside them: https://www.unicode.org/reports/tr9/
    """
    if not _DIRECTIONS.search(text):
        return text
    opened: list[tuple[str, int]] = []
    isolates = 0
    paired: set[int] = set()
    for sign in _DIRECTIONS.finditer(text):
        char = sign[0]
        if char == _END:
            if opened and opened[-1][0] not in _ISOLATES:
                begin, start = opened.pop()
                paired |= {start, sign.start()} if begin in _EMBEDDINGS else set()
        elif char == _END_OF_ISOLATE:
            while isolates:
                begin, start = opened.pop()
                if begin in _ISOLATES:
                    isolates -= 1
                    paired |= {start, sign.start()}
                    break
        else:
            opened.append((char, sign.start()))
            isolates += char in _ISOLATES
    return _DIRECTIONS.sub(lambda sign: sign[0] if sign.start() in paired else "", text)
