"""The token that all calls of a client share: fetched by one, and renewed before it ends."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

from app.errors import PortError

RENEWED_EARLY = timedelta(minutes=5)
"""So long before its end a token is renewed; not sooner, for until it ends Port gives the same one again."""
MIN_BETWEEN_RENEWALS = timedelta(seconds=30)
"""A token that is about to end must not be asked for with every call."""
VISIBLE_ASCII = re.compile(r"[!-~]+")
"""Anything but visible ASCII cannot go into a header, and the error of httpx would show it."""


def read_token(answer: dict[str, Any]) -> tuple[str, timedelta | None] | None:
    """Read the token of an answer to ``POST /v1/auth/access_token``, and how long it is good.

    None as its time: Port does not say. None in place of both: the answer has no usable token.
    """
    text, seconds = answer.get("accessToken"), answer.get("expiresIn")
    if not isinstance(text, str) or not VISIBLE_ASCII.fullmatch(text):
        return None
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 < seconds < 1e9:
        return text, None
    return text, timedelta(seconds=seconds)


class SharedToken:
    """One token for all calls at once.

    Args:
        fetch: Asks Port for a token, and how long it is good, as `read_token`; raises `PortError`.
        clock: Gives the time, UTC.
    """

    def __init__(
        self, fetch: Callable[[], Awaitable[tuple[str, timedelta | None]]], clock: Callable[[], datetime]
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()
        self._ends: datetime | None = None
        self._renew: datetime | None = None
        self.text = ""

    async def get(self, refused: str = "") -> str:
        """Give the token; fetch a new one if there is none, if it is about to end, or if Port has refused it.

        Args:
            refused: The token that Port has just answered 401 to. Of several calls that were refused, the
                first fetches a new one and the others get that.

        Raises:
            PortError: Port gives none.
        """
        if not self._is_good(refused):
            async with self._one_at_a_time:
                # Again: another call may have fetched it while this one waited for the lock.
                if not self._is_good(refused):
                    await self._fetch_new(refused)
        return self.text

    def _is_good(self, refused: str) -> bool:
        on_time = self._renew is None or self._clock() < self._renew
        return bool(self.text) and self.text != refused and on_time

    async def _fetch_new(self, refused: str) -> None:
        try:
            text, lasts = await self._fetch()
        except PortError:
            usable = self.text and self.text != refused and self._ends and self._clock() < self._ends
            if not usable:
                self.text = ""
                raise
            # It still is good: only the renewal has failed.
            self._renew = self._clock() + MIN_BETWEEN_RENEWALS
            return
        now = self._clock()
        self.text = text
        self._ends = None if lasts is None else now + lasts
        self._renew = None if lasts is None else now + max(MIN_BETWEEN_RENEWALS, lasts - RENEWED_EARLY)
