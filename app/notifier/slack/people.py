"""People and user groups that the catalog names, found in Slack: none is ever written as the catalog has it.

Rules: https://docs.slack.dev/reference/methods/users.lookupByEmail,
https://docs.slack.dev/reference/methods/usergroups.list,
https://docs.slack.dev/reference/methods/conversations.open,
https://docs.slack.dev/messaging/formatting-message-text (mentions)
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from app.errors import DeliveryFailed, Scope
from app.model.notification import Notification, Part
from app.notifier.base import SEND_TIMEOUT, Parcel
from app.notifier.slack.web_api import TEST_TOKEN, SlackApi

log = structlog.get_logger(__name__)

FIND_USER, LIST_GROUPS, OPEN_DIRECT = "users.lookupByEmail", "usergroups.list", "conversations.open"
EMAIL = re.compile(r"[^\s@<>|,;]+@[^\s@<>|,;]+\.[^\s@<>|,;.]+")
USER_ID = re.compile(r"[UW](?=[A-Z]*[0-9])[A-Z0-9]{7,}")
GROUP_ID = re.compile(r"S(?=[A-Z]*[0-9])[A-Z0-9]{7,}")
IN_SLACKS_NOTATION = re.compile(r"<@([UW][A-Z0-9]+)(?:\|[^>]*)?>|<!subteam\^(S[A-Z0-9]+)(?:\|[^>]*)?>")
PEOPLE_SCOPES = frozenset({"users:read.email", "usergroups:read"})
KEPT = timedelta(minutes=10)
MAX_KEPT = 10_000
FINDING_SECONDS = SEND_TIMEOUT.total_seconds() / 3  # the rest is for sending
NO_GROUP, NO_USER = "no user group of this handle", "users_not_found"
NO_PERSON = (NO_USER, "user_not_found", "user_not_visible", "user_disabled", "cannot_dm_bot")
"""What Slack says of a person who is not there, or is not to be reached."""
GROUPS = "usergroups"
"""The name under which their handles are kept; no person's."""


class People:
    """Finds people and user groups, and keeps the answers for 10 minutes.

    Args:
        api: Slack's Web API.
        clock: Gives the time, UTC.
    """

    def __init__(self, api: SlackApi, clock: Callable[[], datetime]) -> None:
        self._api, self._clock = api, clock
        self._kept: dict[str, tuple[datetime, str | Mapping[str, str] | DeliveryFailed]] = {}
        self._late: set[str] = set()

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()

    async def note(self) -> str:
        """Say which scopes are missing to find people and groups; empty: none is, or Slack does not say."""
        await self._api.call(TEST_TOKEN, params={})
        missing = PEOPLE_SCOPES - self._api.scopes if self._api.scopes is not None else set[str]()
        if not missing:
            return ""
        return f"without {' and '.join(sorted(missing))} the app cannot find whom alerts call"

    async def direct(self, person: str) -> str:
        """Give the ID of the direct messages with a person, by the e-mail address or the ID.

        Raises:
            DeliveryFailed: Slack knows nobody of it, or does not say.
        """

        async def ask() -> str:
            answer = await self._api.call(OPEN_DIRECT, body={"users": await self._user(person)})
            return _id_of(answer.get("channel"))

        return str(await self._keep(f"direct {person}", ask))

    async def mention(self, person: str) -> str:
        """Write a person or a user group in Slack's notation; raises `DeliveryFailed` as above."""
        written = IN_SLACKS_NOTATION.fullmatch(person)
        name = (written[1] or written[2]) if written else person.lstrip("@")
        if USER_ID.fullmatch(name) or EMAIL.fullmatch(name):
            return f"<@{await self._user(name)}>"
        return f"<!subteam^{await self.group(name)}>"

    async def group(self, name: str) -> str:
        """Give the ID of a user group, by its handle or its ID; raises `DeliveryFailed` as above."""
        if GROUP_ID.fullmatch(name):
            return name
        groups = await self._keep(GROUPS, self._groups)
        if not isinstance(groups, Mapping) or name.lower() not in groups:
            raise DeliveryFailed(NO_GROUP, Scope.MESSAGE)
        return groups[name.lower()]

    async def call(self, parcel: Parcel) -> Parcel:
        """Put the people whom alerts call into Slack's notation; whom Slack does not know is named.

        Raises:
            DeliveryFailed: Slack does not say now who somebody is: the second time the alert goes without.
        """
        if not any(item.notification.people for item in parcel.items):
            return parcel
        people = {person for item in parcel.items for person in item.notification.people}
        late = self._late & people  # in each alert of the parcel: asked once more, it would wait again
        self._late -= late
        try:
            async with asyncio.timeout(FINDING_SECONDS):
                items = [
                    replace(item, notification=await self._called(item.notification, late))
                    for item in parcel.items
                ]
        except TimeoutError:
            reason = "Slack did not say in time whom the alert calls; nothing was sent"
            self._late |= people
            raise DeliveryFailed(reason, Scope.TRANSIENT) from None
        return replace(parcel, items=tuple(items))

    async def _called(self, alert: Notification, late: Collection[str]) -> Notification:
        mentions, unknown = [alert.mention] if alert.mention else [], list[Part]()
        for person in alert.people:
            try:
                if person in late:  # an alert without a mention is better than none
                    raise DeliveryFailed("Slack did not say who that is", Scope.MESSAGE)  # noqa: TRY301
                mentions.append(await self.mention(person))
            except DeliveryFailed as failed:
                if failed.scope is Scope.TRANSIENT:
                    self._late.add(person)
                    raise
                log.warning("person_unknown", reason=failed.reason)
                unknown += [Part(", " if unknown else "Not called: ", literal=True)]
                unknown += [Part(person, literal=False), Part(f" ({failed.reason})", literal=True)]
        message = (
            *alert.message,
            *([Part("\n", literal=True)] if alert.message and unknown else []),
            *unknown,
        )
        facts = {"mention": " ".join(dict.fromkeys(mentions)), "people": (), "message": message}
        return alert.but(**facts)

    async def _user(self, person: str) -> str:
        if USER_ID.fullmatch(person):
            return person

        async def ask() -> str:
            return _id_of((await self._api.call(FIND_USER, params={"email": person.lower()})).get("user"))

        return str(await self._keep(person.lower(), ask))

    async def _groups(self) -> Mapping[str, str]:
        groups = (await self._api.call(LIST_GROUPS, params={})).get("usergroups")
        found = [group for group in (groups if isinstance(groups, list) else []) if isinstance(group, dict)]
        return {
            str(group.get("handle")).lower(): _id_of(group) for group in found if not group.get("date_delete")
        }

    async def _keep(
        self, name: str, ask: Callable[[], Awaitable[str | Mapping[str, str]]]
    ) -> str | Mapping[str, str]:
        """Ask, unless the answer is kept; that there is no such person is an answer."""
        kept_at, answer = self._kept.get(name, (self._clock(), None))
        if answer is None or abs(self._clock() - kept_at) >= KEPT:  # abs: the clock may have been set back
            try:
                answer = await ask()
            except DeliveryFailed as failed:
                # A proxy's page, or a scope that is missing, may be gone at the next try.
                if failed.scope is Scope.TRANSIENT or not failed.reason.startswith(NO_PERSON):
                    raise
                answer = failed
            if len(self._kept) >= MAX_KEPT:
                self._kept.clear()
            self._kept[name] = (self._clock(), answer)
        if isinstance(answer, DeliveryFailed):
            raise DeliveryFailed(answer.reason, answer.scope)
        return answer


def _id_of(thing: object) -> str:
    """Take the ID of what Slack answered; raises `DeliveryFailed` where it has none."""
    found = thing.get("id") if isinstance(thing, dict) and not thing.get("deleted") else None
    if not isinstance(found, str) or not re.fullmatch(r"[A-Z0-9]+", found):
        raise DeliveryFailed(NO_USER, Scope.MESSAGE)
    return found
