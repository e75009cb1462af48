"""Slack, through a bot token: threads, and messages that can be updated and found again.

Rules: https://docs.slack.dev/reference/methods/chat.postMessage (threads, names of channels),
https://docs.slack.dev/apis/web-api/rate-limits
"""

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import structlog

from app.errors import DeliveryFailed, MessageGone, Scope
from app.model.notification import Message
from app.network import DIRECT, Network
from app.notifier.base import SEND_TIMEOUT, Keeper, Parcel, Sent, Story
from app.notifier.slack.compose import Composed, colored
from app.notifier.slack.metadata import Arrivals, metadata, nameable
from app.notifier.slack.session import SlackNotifier, SlackSession
from app.notifier.slack.web_api import (
    CHANNEL_HISTORY,
    GET_PERMALINK,
    LIST_CHANNELS,
    POST_MESSAGE,
    THREAD_REPLIES,
    UPDATE_MESSAGE,
    SlackApi,
)

log = structlog.get_logger(__name__)

CHANNEL_ID = re.compile(r"[CGD][A-Z0-9]{7,}")
MAX_CLOCK_SKEW = timedelta(seconds=60)
MAX_HISTORY_PAGES = 5
MESSAGES_PER_PAGE = 200
MAX_THREADS = 20
MAX_CHANNEL_PAGES = 10
CHANNELS_PER_PAGE = 1_000


class SlackBot(SlackNotifier, Keeper):
    """Posts to one channel as a Slack app, and updates what it has posted.

    The app needs the scope ``chat:write``, and ``chat:write.public`` for public channels that it is not in.
    To find what it has posted it has to be in the channel and needs ``channels:history``, in a private one
    ``groups:history``; where the channel is given by its name, ``channels:read`` or ``groups:read`` too.

    Args:
        token: The app's bot token: a secret.
        channel: The channel's ID, or its name with or without ``#``.
        answer_within: The time that a call may take.
        options: Those of `SlackNotifier`.
    """

    def __init__(
        self,
        token: str,
        channel: str,
        app_url: str,
        *,
        api_url: str = "https://slack.com/api/",
        answer_within: timedelta = SEND_TIMEOUT,
        network: Network = DIRECT,
        **options: Any,
    ) -> None:
        super().__init__(SlackSession("slack_sdk.web", api_url, network, answer_within), app_url, **options)
        self._api = SlackApi(token, api_url, self._session)
        self._name = channel.strip().removeprefix("#")
        # None for a channel that is given by its name, until Slack has answered with its ID.
        self._id = self._name if CHANNEL_ID.fullmatch(self._name) else None
        self._channel = self._id or f"#{self._name}"
        self._blind = False

    async def send(self, parcel: Parcel) -> Sent:
        """Post a message; into a thread, if all its alerts have the same parent message.

        A message that Slack refuses for its form is tried once more as plain text.
        """
        composed = await self._compose(parcel)
        items = nameable(composed.shown)
        if items != composed.shown and not composed.summed_up:
            # A delivery that the metadata does not name could not be found again: it is for the next message.
            composed = await self._compose(replace(parcel, items=items))
        parent = composed.parent
        if parent is None or self._id not in {None, parent.channel}:
            return await self._post(parcel, composed, None)
        try:
            return await self._post(parcel, composed, parent)
        except MessageGone:
            return replace(await self._post(parcel, composed, None), gone=parent)

    async def _post(self, parcel: Parcel, composed: Composed, parent: Message | None) -> Sent:
        body = {
            "channel": self._channel,
            "unfurl_links": False,
            "unfurl_media": False,
            "metadata": metadata(parcel, composed),
        }
        if parent is None:
            body |= colored(composed.message, composed.color)
        else:
            body |= composed.message | {"thread_ts": parent.ts, "reply_broadcast": composed.broadcast}
        detail = "ok"
        try:
            answer = await self._api.call(POST_MESSAGE, body=body)
        except DeliveryFailed as refused:
            if refused.scope is not Scope.MESSAGE or isinstance(refused, MessageGone):
                raise
            how, simpler = _simpler(body, composed, refused.reason)
            answer = await self._api.call(POST_MESSAGE, body=simpler)
            detail = f"ok, {how}, because Slack answered {refused.reason}"
        message = Message(str(answer["channel"]), str(answer["ts"]))
        self._id = message.channel
        if parent is None:
            return Sent(detail, composed.delivered, message)
        if not (answer.get("message") or {"thread_ts": parent.ts}).get("thread_ts"):
            # Slack does not refuse a reply to a message that was deleted: it posts it to the channel.
            return Sent(
                f"{detail}, in the channel: its thread is gone", composed.delivered, message, gone=parent
            )
        return Sent(f"{detail}, in the thread", composed.delivered)

    async def find(self, parcel: Parcel, since: datetime) -> Sent | None:
        """Find the alerts of a parcel in the channel; None: none is there, or the app may not read it."""
        try:
            return await self._find(parcel, since)
        except DeliveryFailed as failed:
            if failed.scope is Scope.TRANSIENT:
                raise
            if not self._blind:
                log.warning("channel_unreadable", reason=failed.reason, effect="an alert may be sent twice")
            self._blind = True  # said once: it is so for every message
            return None

    async def _find(self, parcel: Parcel, since: datetime) -> Sent | None:
        arrivals = Arrivals(parcel)
        channel = self._id or await self._look_up(parcel)
        options: dict[str, Any] = {
            "key": "messages",
            "at_most": MAX_HISTORY_PAGES,
            "oldest": f"{(since - MAX_CLOCK_SKEW).timestamp():.6f}",
            "limit": MESSAGES_PER_PAGE,
            "include_all_metadata": True,
        }
        async for message in self._api.items(CHANNEL_HISTORY, channel=channel, **options):
            arrivals.look_at(message)
        for parent in arrivals.threads(MAX_THREADS):
            replies = self._api.items(THREAD_REPLIES, channel=parent.channel, ts=parent.ts, **options)
            with contextlib.suppress(MessageGone):
                async for message in replies:
                    arrivals.look_at(message)
        return arrivals.sent(channel)

    async def _look_up(self, parcel: Parcel) -> str:
        """Find the ID of the channel by its name: Slack wants it for everything but posting."""
        for item in parcel.items:
            if item.parent:
                return item.parent.channel  # not to be posted to: the destination may be another by now
        refused: DeliveryFailed | None = None
        for kind in ("public_channel", "private_channel"):  # each wants a scope of its own
            options = {"types": kind, "exclude_archived": True, "limit": CHANNELS_PER_PAGE}
            channels = self._api.items(LIST_CHANNELS, key="channels", at_most=MAX_CHANNEL_PAGES, **options)
            try:
                async for channel in channels:
                    if channel["name"] == self._name:
                        self._id = str(channel["id"])
                        return self._id
            except DeliveryFailed as failed:
                if failed.scope is Scope.TRANSIENT:
                    raise
                refused = failed
        raise refused or DeliveryFailed("channel_not_found", Scope.DESTINATION)

    async def update(self, message: Message, stories: Sequence[Story]) -> str:
        """Update a message to its incidents as they are now."""
        body = {"channel": message.channel, "ts": message.ts, **self._recompose(stories)}
        await self._api.call(UPDATE_MESSAGE, body=body)
        return "ok"

    async def permalink(self, message: Message) -> str | None:
        """Ask for a message's address, which needs no scope; None: there is none.

        Rules: https://docs.slack.dev/reference/methods/chat.getPermalink
        """
        where = {"channel": message.channel, "message_ts": message.ts}
        link = (await self._api.call(GET_PERMALINK, params=where)).get("permalink")
        return link if isinstance(link, str) and link.startswith("https://") else None


def _simpler(body: Mapping[str, Any], composed: Composed, refused: str) -> tuple[str, dict[str, Any]]:
    """Leave out of a message what Slack refused, its metadata or its form; first in the result: in words."""
    if "metadata" in refused:
        return "without metadata", {key: value for key, value in body.items() if key != "metadata"}
    kept = {key: value for key, value in body.items() if key not in {"blocks", "attachments"}}
    return "as plain text", kept | composed.plain
