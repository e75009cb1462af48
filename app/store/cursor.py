"""Pages of a list: each has a cursor, `next`, with which the one behind it is asked for."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from app.store.transaction import Row
from app.store.views import Page

_T = TypeVar("_T")

LAST = 2**63 - 1
"""Greater than every number and time of a row."""


def number_of(cursor: str | None) -> int:
    """Read a page's `next` as a number; without one, a number beyond all.

    Raises:
        ValueError: No page has given it.
    """
    if cursor is None:
        return LAST
    if not cursor.isascii() or not cursor.isdigit() or len(cursor) > 18:
        raise ValueError("no page has given this cursor")
    return int(cursor)


def page_of(
    rows: Sequence[Row], limit: int, read: Callable[[Row], _T], cursor: Callable[[_T], str]
) -> Page[_T]:
    """Make a page of rows, of which one more than `limit` was asked for.

    Args:
        rows: What was fetched.
        limit: How many rows a page has.
        read: Makes an object of a row.
        cursor: Makes the page's `next` of its last object.
    """
    readable = [read(row) for row in rows[:limit]]
    return Page(readable, cursor(readable[-1]) if len(rows) > limit else None)
