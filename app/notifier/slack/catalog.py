"""Slack channels and people that the catalog names, each with a queue of its own.

Rules: https://docs.slack.dev/reference/methods/chat.postMessage (a user's ID in the place of a channel's),
https://docs.slack.dev/reference/methods/users.lookupByEmail
"""

import re
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any, Self

from app.errors import DeliveryFailed, MessageGone, Scope
from app.model.notification import Message, one_line
from app.notifier.base import Parcel, Sent, Story, Tried
from app.notifier.slack.bot import OF_A_CHANNEL, SlackBot
from app.notifier.slack.people import EMAIL, MAX_KEPT, NO_PERSON, USER_ID
from app.notifier.slack.probe import probe_token

CHANNEL = re.compile(r"(?:[^\WA-Z]|-)[^\sA-Z#@,.:/!?'\"&<>|]{0,79}")
"""A channel's name, in lower case: letters of any script, digits, hyphens and underscores."""
LISTED_ID = re.compile(r"[CG](?=[A-Z]*[0-9])[A-Z0-9]{7,}")
"""Unlike a name in capitals, an ID has a digit."""
LINKED = re.compile(r"<#([CG][A-Z0-9]+)(?:\|[^>]*)?>|https://[a-z0-9.-]+/archives/([CG][A-Z0-9]+)(?:[/?].*)?")
"""A channel as Slack's own text, or as its link, has it."""
MAX_PLACE_CHARS = 60
NOWHERE = (
    *OF_A_CHANNEL,
    *NO_PERSON,
    *("channel_is_limited_access", "messages_tab_disabled", "method_not_supported_for_channel_type"),
    *("invalid_user_combination", "no_permission"),
)
"""What the reason of a failure begins with that concerns only the channel, or the person.

Sources: https://docs.slack.dev/reference/methods/conversations.open and chat.postMessage (errors), by which
`no_permission` asks whether the app is a member of the conversation.
"""


def channel_queue(value: str, allow: Sequence[str] | None) -> str:
    """Give the queue of a channel that the catalog names: by its name, its ID, or its link.

    Raises:
        ValueError: It is no channel's, or `allow` does not name it; the text says so.
    """
    linked = LINKED.fullmatch(value)
    name = (linked[1] or linked[2]) if linked else value.lstrip("#").strip()
    if not LISTED_ID.fullmatch(name):
        name = name.lower()
        if not CHANNEL.fullmatch(name):
            raise ValueError(f"{one_line(value, MAX_PLACE_CHARS)} is no channel's name")
    if not any(fnmatchcase(name, _pattern(pattern)) for pattern in allow or ()):
        raise ValueError(f"its `allow` does not name #{name}")
    return f"#{name}"


def person_queue(value: str, allow: Sequence[str] | None) -> str:
    """Give the queue of a person that the catalog names, by an e-mail address or an ID; raises as above."""
    person = value if USER_ID.fullmatch(value) else value.removeprefix("mailto:").lower()
    if not (USER_ID.fullmatch(person) or EMAIL.fullmatch(person)):
        raise ValueError(f"{one_line(value, MAX_PLACE_CHARS)} is no e-mail address")
    if allow is not None and not any(fnmatchcase(person, _pattern(pattern)) for pattern in allow):
        raise ValueError(f"its `allow` does not name {person}")
    return f"@{person}"


def _pattern(pattern: str) -> str:
    bare = pattern.strip().removeprefix("#")
    return bare if re.fullmatch(r"[CGUW][A-Z0-9*?\[\]]*", bare) else bare.lower()


class CatalogBot(SlackBot):
    """Posts to channels and people that the catalog names.

    Args:
        token: The app's bot token: a secret.
        channel: The default channel; empty: another destination is the default.
        to_people: It sends direct messages.
        options: Those of `SlackBot`.
    """

    def __init__(self, token: str, channel: str, app_url: str, *, to_people: bool, **options: Any) -> None:
        super().__init__(token, channel, app_url, **options)
        self._to_people = to_people
        self._person: str | None = None
        # By name, for all turns: where the last message went, to look there for what may have arrived.
        self._posted_to: dict[str, str] = {}

    def of_queue(self, queue: str) -> Self:
        """Give the notifier of the channel or the person whose queue it is; what is shared, it shares."""
        bot = copy(self)
        bot.turn_to(queue.removesuffix("/updates"))
        return bot

    def turn_to(self, queue: str) -> None:
        """Post to the channel or the person whose queue it is from now on."""
        self._name = name = queue[1:]
        self._id = name if LISTED_ID.fullmatch(name) else None
        self._named = self._id is None
        self._person = name if queue.startswith("@") else None

    async def send(self, parcel: Parcel) -> Sent:
        """Post a message, as `SlackBot` does.

        What the catalog names is looked up each time: a channel of this name may be another one by now.
        But an incident is told to its end where it began, also where that channel has another name.

        Raises:
            DeliveryFailed: `Scope.PLACE`: the channel or the person is not to be reached; else as `SlackBot`.
        """
        if not self._name:
            raise DeliveryFailed(
                "its channel comes from the catalog: there is none of its own", Scope.MESSAGE
            )
        try:
            return await self._send_there(parcel)
        except DeliveryFailed as failed:
            if not _is_nowhere(failed):
                raise
            parents = (item.parent.channel for item in parcel.items if item.parent)
            began = next((channel for channel in parents if channel != self._id), None)
            # A person has one channel at a time: looked up again, it would be the same.
            if self._person is not None or began is None:
                raise DeliveryFailed(failed.reason, Scope.PLACE) from None
        self._id, self._named = began, False
        return await self.send(_began_in(began, parcel))

    async def _send_there(self, parcel: Parcel) -> Sent:
        if self._person is not None:
            await self._look_up(parcel)
        if not self._named or self._person is not None:
            return await self._send(parcel)
        known, first = self._posted_to.get(self._name), parcel.items[0].parent
        parents = [item.parent.channel for item in parcel.items if item.parent]
        if len(parents) == len(parcel.items):
            self._id = parents[0]
            return await self._send(parcel if len({*parents}) == 1 else _began_in(parents[0], parcel))
        if first and known and first.channel != known:
            return await self._send_to_old(first.channel, parcel)
        if {*parents} - {known}:  # of what is only counted nobody could say later where it was told
            parcel = replace(parcel, more=0, counts={})
        sent = await self._send(parcel)
        if self._id:
            if len(self._posted_to) >= MAX_KEPT:
                self._posted_to.clear()
            self._posted_to[self._name] = self._id
        return _less_what_began_elsewhere(sent, parcel, self._id)

    async def _send_to_old(self, channel: str, parcel: Parcel) -> Sent:
        """Send what began in another channel, and waits longest; else each new alert would repeat it."""
        self._id = channel
        try:
            return await self._send(_began_in(channel, parcel))
        except DeliveryFailed as failed:
            if not _is_nowhere(failed):
                raise
        # What began there waits until it is alone: then the default is told.
        rest = tuple(item for item in parcel.items if not (item.parent and item.parent.channel == channel))
        self._id = None
        return await self._send_there(replace(parcel, items=rest, event={}, more=0, counts={}))

    async def _find(self, parcel: Parcel, since: datetime | None) -> Sent | None:
        found = await super()._find(parcel, since)
        if found is None or found.message is None or self._person is not None:
            return found
        told = _less_what_began_elsewhere(found, parcel, found.message.channel)
        return None if told.delivered == frozenset() else told

    async def _look_up(self, parcel: Parcel) -> str:
        if self._person is None:
            known = None if parcel.items[0].parent else self._posted_to.get(self._name)
            return known or await super()._look_up(parcel)
        self._id = await self._people.direct(self._person)
        return self._id

    async def update(self, message: Message, stories: Sequence[Story]) -> str:
        """Update a message; raises `MessageGone` where its channel can no longer be reached."""
        try:
            return await super().update(message, stories)
        except DeliveryFailed as failed:
            if failed.reason.startswith(NOWHERE):
                raise MessageGone(failed.reason) from None
            raise

    async def probe(self, message: str = "") -> Tried:
        """Try the token and its scopes, and the default channel if there is one."""
        await probe_token(self._api, *(("users:read.email", "im:write") if self._to_people else ()))
        if self._name:
            return await super().probe(message)
        return await self._with_people(Tried("the token is good; its channels come from the catalog"))


def _is_nowhere(failed: DeliveryFailed) -> bool:
    return failed.reason.startswith(NOWHERE) and not isinstance(failed, MessageGone)


def _less_what_began_elsewhere(sent: Sent, parcel: Parcel, channel: str | None) -> Sent:
    """Leave out what began in another channel than the message is in: it is still to be told there."""
    left = {item.delivery_id for item in parcel.items if item.parent and item.parent.channel != channel}
    if not left:
        return sent
    told = frozenset(item.delivery_id for item in parcel.items) if sent.delivered is None else sent.delivered
    return replace(sent, delivered=told - left)


def _began_in(channel: str, parcel: Parcel) -> Parcel:
    """Keep of a parcel what began in a channel.

    What waits beyond the parcel is not for it: the message stands for its items alone.
    """
    items = tuple(item for item in parcel.items if item.parent and item.parent.channel == channel)
    event = parcel.event if items[0] is parcel.items[0] else {}
    return replace(parcel, items=items, event=event, more=0, counts={})
