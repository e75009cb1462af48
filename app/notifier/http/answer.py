"""What the answer of an HTTP destination means for the delivery.

Rules: https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3 (Retry-After)
"""

import asyncio
import contextlib
import math
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import aiohttp

from app.errors import DeliveryFailed, Scope

MAX_ANSWER_BYTES = 64_000
SERVER_MAY_RECOVER = frozenset({408, 425, 429})
MAX_RETRY_AFTER_SECONDS = 1e9  # what is longer is nonsense, and would overflow a timedelta


def raise_for_status(status: int, text: str, retry_after: timedelta | None) -> None:
    """Raise unless an answer is a success, 2xx.

    Args:
        status: The HTTP status.
        text: The start of the answer's text, one line, without secrets.
        retry_after: How long the server asks to wait; None: it does not ask.

    Raises:
        DeliveryFailed: 408, 425, 429, 5xx and 1xx are transient; 3xx and other 4xx are of the message.
    """
    if 200 <= status < 300:
        return
    if 300 <= status < 400:
        raise DeliveryFailed(f"{status}: a redirect, which is not followed", Scope.MESSAGE)
    reason = f"{status}: {text}" if text else str(status)
    if 400 <= status < 500 and status not in SERVER_MAY_RECOVER:
        raise DeliveryFailed(reason, Scope.MESSAGE)
    raise DeliveryFailed(reason, Scope.TRANSIENT, retry_after)


def parse_retry_after(text: str | None, now: datetime) -> timedelta | None:
    """Parse a ``Retry-After`` header, seconds or an HTTP date, into a time to wait; None if it is neither."""
    try:
        seconds = float(text or "")
    except ValueError:
        try:
            date = parsedate_to_datetime(text or "")
        except (ValueError, OverflowError):
            return None
        return max(timedelta(0), (date if date.tzinfo else date.replace(tzinfo=UTC)) - now)
    usable = math.isfinite(seconds) and 0 <= seconds < MAX_RETRY_AFTER_SECONDS
    return timedelta(seconds=seconds) if usable else None


async def read_start(answer: aiohttp.ClientResponse, seconds: float) -> str:
    """Read the first `MAX_ANSWER_BYTES` of an answer, or those that came within some seconds; close it."""
    # The status has decided already; the text is for people, and must not undo a success by coming late.
    start = bytearray()
    with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
        async with asyncio.timeout(seconds):
            while len(start) < MAX_ANSWER_BYTES and (
                piece := await answer.content.read(MAX_ANSWER_BYTES - len(start))
            ):
                start += piece
    answer.close()
    return start.decode(errors="replace")
