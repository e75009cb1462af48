"""Slack, through a bot token: threads, messages that change, and messages that can be found again.

Rules: https://docs.slack.dev/reference/methods/chat.postMessage (threads, names of channels),
https://docs.slack.dev/apis/web-api/rate-limits
"""

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog

from app.errors import DeliveryFailed, MessageGone, Scope
from app.model.digest import BY_RULE_AND_TRANSITION, GroupBy
from app.model.notification import Message
from app.notifier.base import SEND_TIMEOUT, Parcel, Sent, Story
from app.notifier.slack.api import HISTORY, LIST, PERMALINK, POST, REPLIES, UPDATE, SlackApi
from app.notifier.slack.compose import Composed, colored, compose, recompose
from app.notifier.slack.find import Found, metadata, nameable
from app.notifier.slack.transport import compose_apart

log = structlog.get_logger(__name__)

CHANNEL_ID = re.compile(r"[CGD][A-Z0-9]{7,}")
CLOCKS_DIFFER = timedelta(seconds=60)
PAGES = 5
MESSAGES_A_PAGE = 200
THREADS = 20
PAGES_OF_CHANNELS = 10
CHANNELS_A_PAGE = 1_000


class SlackBot:
    """Posts to one channel as a Slack app, and keeps what it has posted up to date.

    The app needs the scope ``chat:write``, and ``chat:write.public`` for public channels that it is not in.
    To find what it has posted it has to be in the channel and needs ``channels:history``, in a private one
    ``groups:history``; where the channel is given by its name, ``channels:read`` or ``groups:read`` too.

    Args:
        token: The app's bot token: a secret.
        channel: The channel's ID, or its name with or without ``#``.
        app_url: The address of Port's app.
        api_url: The address of Slack's Web API.
        pause: How long to rest after each message; Slack takes one a second in each channel.
        group_by: What the lines under one heading of a digest have in common.
        digest_after: How many alerts may wait before they are told together.
        page_url: Where all can be read that a digest has no room for.
        answer_within: How long a call may take.
    """

    at_once = 1000

    def __init__(
        self,
        token: str,
        channel: str,
        app_url: str,
        *,
        api_url: str = "https://slack.com/api/",
        pause: timedelta = timedelta(seconds=1),
        group_by: tuple[GroupBy, ...] = BY_RULE_AND_TRANSITION,
        digest_after: int = 1,
        page_url: str | None = None,
        answer_within: timedelta = SEND_TIMEOUT,
    ) -> None:
        self.pause = pause
        self._api = SlackApi(token, api_url, answer_within)
        self._name = channel.strip().removeprefix("#")
        # Of a channel that is given by its name, once Slack has told it.
        self._id = self._name if CHANNEL_ID.fullmatch(self._name) else None
        self._channel = self._id or f"#{self._name}"
        self._compose = partial(
            compose, app_url=app_url, group_by=group_by, digest_after=digest_after, page_url=page_url
        )
        self._recompose = partial(recompose, app_url=app_url, group_by=group_by)
        self._blind = False

    async def send(self, parcel: Parcel) -> Sent:
        """See `Notifier.send`.

        What all that it tells of has a message in common goes into that message's thread. A message that
        Slack refuses for its form is tried once more as plain text.
        """
        composed = await compose_apart(self._compose, parcel)
        named = nameable(composed.shown)
        if named != composed.shown and not composed.summed_up:
            # What a message does not name could not be found again: it is for the next one.
            composed = await compose_apart(self._compose, replace(parcel, items=named))
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
            body |= composed.message
            body |= {"thread_ts": parent.ts, "reply_broadcast": composed.broadcast}
        detail = "ok"
        try:
            answer = await self._api.call(POST, body=body)
        except MessageGone:
            raise
        except DeliveryFailed as refused:
            if refused.scope is not Scope.MESSAGE:
                raise
            how, simpler = _simpler(body, composed, refused.reason)
            answer = await self._api.call(POST, body=simpler)
            detail = f"ok, {how}, because Slack answered {refused.reason}"
        message = Message(str(answer["channel"]), str(answer["ts"]))
        self._id = message.channel
        if parent is None:
            return Sent(detail, composed.told, message)
        if not (answer.get("message") or {"thread_ts": parent.ts}).get("thread_ts"):
            # Slack does not refuse a reply to a message that was deleted: it posts it to the channel.
            return Sent(f"{detail}, in the channel: its thread is gone", composed.told, message, gone=parent)
        return Sent(f"{detail}, in the thread", composed.told)

    async def find(self, parcel: Parcel, since: datetime) -> Sent | None:
        """See `Keeper.find`. Where the app may not read the channel, nothing is ever found."""
        try:
            return await self._find(parcel, since)
        except DeliveryFailed as failed:
            if failed.scope is Scope.TRANSIENT:
                raise
            if not self._blind:
                log.warning("cannot read the channel: an alert may be told twice", reason=failed.reason)
            self._blind = True
            return None

    async def _find(self, parcel: Parcel, since: datetime) -> Sent | None:
        found = Found(parcel)
        channel = self._id or await self._look_up(parcel)
        what = {
            "oldest": f"{(since - CLOCKS_DIFFER).timestamp():.6f}",
            "limit": MESSAGES_A_PAGE,
            "include_all_metadata": True,
        }
        async for page in self._api.pages(HISTORY, at_most=PAGES, channel=channel, **what):
            for message in page["messages"]:
                found.look_at(message)
        for parent in found.threads(THREADS):
            where = {"channel": parent.channel, "ts": parent.ts}
            with contextlib.suppress(MessageGone):
                async for page in self._api.pages(REPLIES, at_most=PAGES, **where, **what):
                    for message in page["messages"]:
                        found.look_at(message)
        return found.sent(channel)

    async def _look_up(self, parcel: Parcel) -> str:
        """Return the ID of the channel, which Slack wants for everything but posting."""
        for item in parcel.items:
            if item.parent:
                return item.parent.channel  # not to be posted to: the destination may be another by now
        refused: DeliveryFailed | None = None
        for kind in ("public_channel", "private_channel"):  # each wants a scope of its own
            what = {"types": kind, "exclude_archived": True, "limit": CHANNELS_A_PAGE}
            try:
                async for page in self._api.pages(LIST, at_most=PAGES_OF_CHANNELS, **what):
                    for channel in page["channels"]:
                        if channel["name"] == self._name:
                            self._id = str(channel["id"])
                            return self._id
            except DeliveryFailed as failed:
                if failed.scope is Scope.TRANSIENT:
                    raise
                refused = failed
        raise refused or DeliveryFailed("channel_not_found", Scope.DESTINATION)

    async def update(self, message: Message, stories: Sequence[Story]) -> str:
        """See `Keeper.update`."""
        body = {"channel": message.channel, "ts": message.ts, **self._recompose(stories)}
        await self._api.call(UPDATE, body=body)
        return "ok"

    async def permalink(self, message: Message) -> str | None:
        """See `Linker.permalink`. It needs no scope: https://docs.slack.dev/reference/methods/chat.getPermalink"""
        where = {"channel": message.channel, "message_ts": message.ts}
        link = (await self._api.call(PERMALINK, params=where)).get("permalink")
        return link if isinstance(link, str) and link.startswith("https://") else None

    async def close(self) -> None:
        """See `Notifier.close`."""
        await self._api.close()


def _simpler(body: Mapping[str, Any], composed: Composed, refused: str) -> tuple[str, dict[str, Any]]:
    """Return a message without what Slack refused, its metadata or its form, and how that is called."""
    if "metadata" in refused:
        return "without metadata", {key: value for key, value in body.items() if key != "metadata"}
    kept = {key: value for key, value in body.items() if key not in {"blocks", "attachments"}}
    return "as plain text", kept | {"text": composed.plain}
