"""Slack, through a bot token: threads, and messages that can be updated and found again.

Rules: https://docs.slack.dev/reference/methods/chat.postMessage (threads, names of channels),
https://docs.slack.dev/apis/web-api/rate-limits
"""

import asyncio
import contextlib
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from app.errors import DeliveryFailed, MessageGone, Scope
from app.model.notification import Message
from app.network import DIRECT, Network
from app.notifier.base import SEND_TIMEOUT, Keeper, Parcel, Sent, Story, Tried
from app.notifier.slack.compose import NO_PREVIEWS, Composed, colored, forms, with_block
from app.notifier.slack.metadata import Arrivals, metadata, nameable
from app.notifier.slack.people import MAX_KEPT, People
from app.notifier.slack.probe import CHANNELS_PER_PAGE, MAX_CHANNEL_PAGES, probe_channel
from app.notifier.slack.session import SlackNotifier, SlackSession, in_simpler_forms
from app.notifier.slack.web_api import (
    API_UPDATE_ERRORS,
    CHANNEL_HISTORY,
    CHANNEL_INFO,
    GET_PERMALINK,
    LIST_CHANNELS,
    POST_MESSAGE,
    THREAD_REPLIES,
    UPDATE_MESSAGE,
    ApiAnswer,
    SlackApi,
)

log = structlog.get_logger(__name__)

CHANNEL_ID = re.compile(r"[CGD][A-Z0-9]{7,}")
OF_A_CHANNEL = ("channel_not_found", "not_in_channel", "is_archived", "is_inactive", "restricted_action")
CHANNEL_IS_ANOTHER = ("channel_not_found", "is_archived", "is_inactive")
MAX_CLOCK_SKEW = timedelta(seconds=60)
MAX_HISTORY_PAGES = 5
MESSAGES_PER_PAGE = 200
MAX_THREADS = 20


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

    _people: People

    def __init__(
        self,
        token: str,
        channel: str,
        app_url: str,
        *,
        api_url: str = "https://slack.com/api/",
        answer_within: timedelta = SEND_TIMEOUT,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        network: Network = DIRECT,
        **options: Any,
    ) -> None:
        session = SlackSession("slack_sdk.web", api_url, clock, network, answer_within, ApiAnswer)
        super().__init__(session, app_url, **options)
        self._api = SlackApi(token, api_url, self._session)
        self._people = People(self._api, clock)
        self._name = channel.strip().removeprefix("#")
        # None for a channel that is given by its name, until Slack has answered with its ID.
        self._id = self._name if CHANNEL_ID.fullmatch(self._name) else None
        self._named = self._id is None
        self._blind: set[str] = set()  # the names of channels that cannot be read
        self._puzzled: set[str] = set()  # those of which the last look met something that is not Slack's
        self._look_up_seconds = answer_within.total_seconds() / 2  # the rest is for sending

    async def send(self, parcel: Parcel) -> Sent:
        """Post a message; into a thread, if all its alerts have the same parent message.

        A message that Slack refuses for its form is tried in simpler ones. A channel that was renamed is
        found by the messages of its incidents.
        """
        known = self._id
        try:
            return await self._send(parcel)
        except DeliveryFailed as failed:
            missing = self._named and failed.reason.startswith(CHANNEL_IS_ANOTHER)
            if missing:  # where its ID was known, there may be another channel of the name by now
                self._id = await self._renamed(parcel) if known is None else None
            if not missing or self._id is None:
                raise
        return await self._send(parcel)

    async def _send(self, parcel: Parcel) -> Sent:
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
            sent = await self._post(parcel, composed, None)
            return replace(sent, gone=_gone(parent, sent.message))

    async def _post(self, parcel: Parcel, composed: Composed, parent: Message | None) -> Sent:
        body = {
            # The ID where it is known: a channel may be renamed.
            "channel": self._id or f"#{self._name}",
            "metadata": metadata(parcel, composed),
            **NO_PREVIEWS,
        }
        if parent is None:
            body |= colored(with_block(composed.message, composed.buttons), composed.color)
        else:
            body |= composed.message | {"thread_ts": parent.ts, "reply_broadcast": composed.broadcast}
        detail, answer = await in_simpler_forms(forms(body, composed.plain), self._post_message)
        if not isinstance(answer.get("channel"), str) or not isinstance(answer.get("ts"), str):
            raise DeliveryFailed("200: not an answer from Slack", Scope.STRANGE, unsure=True)
        message = Message(answer["channel"], answer["ts"])
        self._id = message.channel
        if parent is None:
            return Sent(detail, composed.delivered, message)
        if not (answer.get("message") or {"thread_ts": parent.ts}).get("thread_ts"):
            # Slack does not refuse a reply to a message that was deleted: it posts it to the channel.
            detail += ", in the channel: its thread is gone"
            return Sent(detail, composed.delivered, message, gone=_gone(parent, message))
        return Sent(f"{detail}, in the thread", composed.delivered)

    async def _post_message(self, body: dict[str, Any]) -> dict[str, Any]:
        return await self._api.call(POST_MESSAGE, body=body)

    async def _renamed(self, parcel: Parcel) -> str | None:
        """Find the ID of the channel that had the name before, among those of an incident's messages."""
        for channel in dict.fromkeys(item.parent.channel for item in parcel.items if item.parent):
            with contextlib.suppress(DeliveryFailed):  # asking is a help only
                info = (await self._api.call(CHANNEL_INFO, params={"channel": channel})).get("channel")
                if isinstance(info, dict) and self._name in (info.get("previous_names") or ()):
                    return channel
        return None

    async def find(self, parcel: Parcel, since: datetime) -> Sent | None:
        """Find the alerts of a parcel in the channel; None: none is there, or Slack does not say.

        Asking is a help only. Where the answer cannot be had, and not just for now, that is logged, and the
        alerts are sent.
        """
        try:
            found = await self._find(parcel, since)
        except DeliveryFailed as failed:
            if failed.scope is Scope.TRANSIENT:
                raise
            # A proxy's page, or half of an answer, says nothing: only what comes twice will not pass.
            passing = failed.scope is Scope.STRANGE and not failed.reason.isidentifier()
            if passing and self._name not in self._puzzled:
                if len(self._puzzled) >= MAX_KEPT:
                    self._puzzled.clear()
                self._puzzled.add(self._name)
                raise DeliveryFailed(failed.reason, Scope.TRANSIENT) from None
            if self._name not in self._blind:
                log.warning(
                    "channel_unreadable",
                    channel=self._name,
                    reason=failed.reason,
                    effect="an alert may be sent twice",
                )
            if len(self._blind) >= MAX_KEPT:
                self._blind.clear()
            self._blind.add(self._name)  # said once: it is so for every message
            return None
        self._puzzled.discard(self._name)
        return found

    async def _find(self, parcel: Parcel, since: datetime | None) -> Sent | None:
        arrivals, ahead = Arrivals(parcel), self._api.ahead
        channel = self._id or await self._look_up(parcel)
        options: dict[str, Any] = {
            "key": "messages",
            "at_most": MAX_HISTORY_PAGES,
            "oldest": since and f"{(since - ahead - MAX_CLOCK_SKEW).timestamp():.6f}",
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
        found = arrivals.sent(channel)
        if found is None and since is not None:
            if since > self._api.clock() + MAX_CLOCK_SKEW:  # the clock was set back meanwhile
                return await self._find(parcel, None)
            if abs(self._api.ahead - ahead) >= MAX_CLOCK_SKEW:
                return await self._find(parcel, since)  # by Slack's clock, which only its answers tell
        return found

    async def _look_up(self, parcel: Parcel) -> str:
        """Find the ID of the channel by its name: Slack wants it for everything but posting."""
        for item in parcel.items:
            if item.parent:
                return item.parent.channel  # not to be posted to: the destination may be another by now
        listed: set[str] = set()
        try:
            async with asyncio.timeout(self._look_up_seconds):
                return await self._list_channels(listed)
        except TimeoutError:
            if not listed:  # Slack or the way to it is slow, however many channels there are
                raise DeliveryFailed("no list of channels in time", Scope.TRANSIENT) from None
            # A workspace of thousands of channels: there it takes too long each time.
            raise DeliveryFailed("too many channels: give the channel by its ID", Scope.MESSAGE) from None

    async def _list_channels(self, listed: set[str]) -> str:
        """Find the channel among all; what kinds Slack has begun to list is added to `listed`."""
        refused: DeliveryFailed | None = None
        for kind in ("public_channel", "private_channel"):  # each wants a scope of its own
            options = {"types": kind, "exclude_archived": True, "limit": CHANNELS_PER_PAGE}
            pages = self._api.pages(LIST_CHANNELS, key="channels", at_most=MAX_CHANNEL_PAGES, **options)
            try:
                async for channels in pages:
                    listed.add(kind)
                    for channel in channels:
                        if channel.get("name") == self._name and isinstance(channel.get("id"), str):
                            self._id = str(channel["id"])
                            return self._id
            except DeliveryFailed as failed:
                if failed.scope is Scope.TRANSIENT:
                    raise
                refused = failed
        raise refused or DeliveryFailed("channel_not_found", Scope.DESTINATION)

    async def update(self, message: Message, stories: Sequence[Story]) -> str:
        """Update a message to its incidents as they are now; it may stand in a channel that was left."""
        new = self._recompose(stories)
        body = {"channel": message.channel, "ts": message.ts, **new}
        simpler = forms(body, {})  # its text stays
        try:
            detail, _ = await in_simpler_forms(simpler, self._update_message, API_UPDATE_ERRORS)
        except DeliveryFailed as failed:
            if self._id in {None, message.channel} or not failed.reason.startswith(OF_A_CHANNEL):
                raise
            # The destination is another channel by now: nothing else has to wait for the old one.
            raise DeliveryFailed(f"{failed.reason} (its old channel)", Scope.MESSAGE) from None
        return detail

    async def _update_message(self, body: dict[str, Any]) -> dict[str, Any]:
        # Attachments that are not given would stay as they were.
        return await self._api.call(UPDATE_MESSAGE, body={"attachments": [], **body})

    async def probe(self, message: str = "") -> Tried:
        """Try the token, its scopes and the channel; a text that is given is posted to it."""
        tried = await self._with_people(await probe_channel(self._api, self._name, self._id))
        if message:
            await self._api.call(
                POST_MESSAGE, body={"channel": self._id or f"#{self._name}", "text": message}
            )
            return Tried("it took the test message", note=tried.note)
        return tried

    async def permalink(self, message: Message) -> str | None:
        """Ask for a message's address, which needs no scope; None: there is none.

        Rules: https://docs.slack.dev/reference/methods/chat.getPermalink
        """
        where = {"channel": message.channel, "message_ts": message.ts}
        link = (await self._api.call(GET_PERMALINK, params=where)).get("permalink")
        return link if isinstance(link, str) and link.startswith("https://") else None


def _gone(parent: Message, posted: Message | None) -> Message | None:
    """Tell of a message that no reply could reach whether it is gone; else it stands in another channel."""
    return parent if posted and posted.channel == parent.channel else None
