"""Who has clicked: whether a person belongs to our workspace, and to a user group.

Rules: https://docs.slack.dev/reference/methods/auth.test, https://docs.slack.dev/reference/methods/usergroups.list
and usergroups.users.list; https://docs.slack.dev/apis/slack-connect (people of other workspaces)
"""

import asyncio
from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from typing import Any

from app.errors import DeliveryFailed
from app.notifier.slack.people import NO_GROUP, People
from app.notifier.slack.web_api import TEST_TOKEN, SlackApi

GROUP_MEMBERS = "usergroups.users.list"
MEMBERSHIP_SECONDS = 1.5  # a click is answered within 3 s
MEMBERS_KEPT_FOR = timedelta(minutes=5)


class Membership:
    """Looks people up by Slack's API, and keeps what it found for some minutes.

    Args:
        api: Slack's API by the bot token.
        clock: Gives the time, UTC.
    """

    def __init__(self, api: SlackApi, clock: Callable[[], datetime]) -> None:
        self._api, self._clock = api, clock
        self._ours: frozenset[str] = frozenset()
        self._members: dict[str, tuple[datetime, frozenset[str]]] = {}
        self._people = People(api, clock)

    async def is_ours(self, team: str) -> bool:
        """Tell whether a workspace or organization, by its id, is the one that the bot token is of.

        Raises:
            DeliveryFailed: Slack does not say now.
            TimeoutError: It takes too long.
        """
        if not self._ours:
            answer = await self._ask(TEST_TOKEN)
            # On an Enterprise Grid a person's team is the organization.
            ids = (answer.get("team_id"), answer.get("enterprise_id"))
            self._ours = frozenset(name for name in ids if isinstance(name, str) and name)
        return team in self._ours

    async def is_in(self, person: str, groups: Collection[str]) -> bool:
        """Tell whether a person, by id, is a member of one of some user groups, given by handle or ID.

        Raises:
            DeliveryFailed: Slack does not say, because a scope or the group is missing, say.
            TimeoutError: It takes too long.
        """
        for group in groups:
            if person in await self._members_of(group):
                return True
        return False

    async def check(self, groups: Collection[str]) -> None:
        """Make sure that the token may read the members of user groups.

        Raises:
            DeliveryFailed: It may not, or there is no such group.
        """
        for group in groups:
            await self._members_of(group)

    async def _members_of(self, group: str) -> frozenset[str]:
        read_at, members = self._members.get(group, (None, frozenset[str]()))
        # abs: the clock may have been set back, and who left a group must not stay in it.
        if read_at is None or abs(self._clock() - read_at) > MEMBERS_KEPT_FOR:
            try:
                async with asyncio.timeout(MEMBERSHIP_SECONDS):
                    name = await self._people.group(group)
            except DeliveryFailed as failed:
                if failed.reason == NO_GROUP:
                    raise DeliveryFailed(f"there is no user group @{group} in Slack", failed.scope) from None
                raise
            answer = await self._ask(GROUP_MEMBERS, usergroup=name)
            members = frozenset(name for name in answer.get("users") or () if isinstance(name, str))
            self._members[group] = (self._clock(), members)
        return members

    async def _ask(self, method: str, **params: Any) -> dict[str, Any]:
        async with asyncio.timeout(MEMBERSHIP_SECONDS):
            return await self._api.call(method, params=params)
