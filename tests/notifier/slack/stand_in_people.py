"""The people and user groups of the stand-in Slack, and its direct messages.

Rules: https://docs.slack.dev/reference/methods/users.lookupByEmail, usergroups.list, conversations.open
"""

from collections.abc import Callable, Mapping
from typing import Any

from tests.notifier.slack.stand_in_channel import Channel, Refused

PEOPLE_SCOPES = frozenset({"users:read.email", "usergroups:read", "im:write", "im:history"})


class People:
    """Who is there.

    Attributes:
        users: The ID of each person, by the e-mail address.
        groups: The ID of each user group, by its handle.
        direct: The channel of the direct messages with each person, by ID.
    """

    def __init__(self, channels: dict[str, Channel], needs: Callable[[str], None]) -> None:
        self.users: dict[str, str] = {}
        self.groups: dict[str, str] = {}
        self.direct: dict[str, Channel] = {}
        self._channels, self._needs = channels, needs

    @property
    def methods(self) -> dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]]:
        """The methods of the API, by name."""
        return {
            "users.lookupByEmail": self._find,
            "usergroups.list": self._list,
            "conversations.open": self._open,
        }

    def _find(self, given: Mapping[str, Any]) -> dict[str, Any]:
        self._needs("users:read.email")
        found = self.users.get(given.get("email", ""))
        if found is None:
            raise Refused("users_not_found")
        return {"user": {"id": found, "deleted": False}}

    def _list(self, _: Mapping[str, Any]) -> dict[str, Any]:
        self._needs("usergroups:read")
        groups = ({"id": key, "handle": handle, "date_delete": 0} for handle, key in self.groups.items())
        return {"usergroups": [*groups, {"id": "S0GONE0001", "handle": "gone", "date_delete": 1_700_000_000}]}

    def _open(self, given: Mapping[str, Any]) -> dict[str, Any]:
        self._needs("im:write")
        user = given.get("users", "")
        if user not in self.users.values():
            raise Refused("user_not_found")
        if user not in self.direct:
            self.direct[user] = Channel(f"D{user[1:]}", user)
            self._channels[self.direct[user].id] = self.direct[user]
        return {"channel": {"id": self.direct[user].id}}
