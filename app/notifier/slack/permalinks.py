"""The addresses of messages in Slack, for people who follow a link to one.

Rules: https://docs.slack.dev/reference/methods/chat.getPermalink
"""

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

import structlog

from app.errors import DeliveryFailed
from app.model.notification import Message
from app.notifier.slack.people import MAX_KEPT
from app.notifier.slack.web_api import GET_PERMALINK, SlackApi

log = structlog.get_logger(__name__)

ASKING_SECONDS = 2.0
"""So long a page waits for Slack; then it has no links."""
ASK_AGAIN_AFTER = timedelta(minutes=5)
MAX_ASKED = 20
"""Of so many channels at once; of the others the next time."""


class Permalinks:
    """Finds messages' addresses, and keeps them by channel: those of one channel differ in their end only.

    Args:
        api: Slack's Web API.
        clock: Gives the time, UTC.
    """

    def __init__(self, api: SlackApi, clock: Callable[[], datetime]) -> None:
        self._api, self._clock = api, clock
        self._begins: dict[str, str] = {}
        self._failed: dict[str, datetime] = {}

    async def of(self, messages: Iterable[Message]) -> dict[Message, str]:
        """Give the addresses of messages; one that Slack does not give now is left out."""
        wanted = list(messages)
        now = self._clock()
        unknown = {
            message.channel: message
            for message in wanted
            if message.channel not in self._begins
            # abs: the clock may have been set back
            and abs(now - self._failed.get(message.channel, now - ASK_AGAIN_AFTER)) >= ASK_AGAIN_AFTER
        }
        await asyncio.gather(*map(self._ask, list(unknown.values())[:MAX_ASKED]))
        return {
            message: self._begins[message.channel] + _end(message)
            for message in wanted
            if message.channel in self._begins
        }

    async def _ask(self, message: Message) -> None:
        if len(self._begins) + len(self._failed) >= MAX_KEPT:
            self._begins.clear()
            self._failed.clear()
        where = {"channel": message.channel, "message_ts": message.ts}
        try:
            async with asyncio.timeout(ASKING_SECONDS):
                link = (await self._api.call(GET_PERMALINK, params=where)).get("permalink")
        except (DeliveryFailed, TimeoutError) as error:
            log.info("permalink_unavailable", channel=message.channel, reason=str(error))
            link = None
        begin, end, _ = link.partition(_end(message)) if isinstance(link, str) else ("", "", "")
        if end and begin.startswith(("https://", "http://")):
            self._begins[message.channel] = begin
        else:
            self._failed[message.channel] = self._clock()


def _end(message: Message) -> str:
    return f"/p{message.ts.replace('.', '')}"
