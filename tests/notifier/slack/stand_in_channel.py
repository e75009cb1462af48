"""The channels of the stand-in Slack: what they hold, what may be posted, and what of it is seen.

Rules: https://docs.slack.dev/reference/methods (arguments, errors)
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.notifier.slack.limits import assert_within_slacks_limits

MAX_METADATA = 8_000  # an assumption: Slack does not say

Message = dict[str, Any]


@dataclass
class Channel:
    """A channel, and all messages that were posted to it and to its threads, in order."""

    id: str
    name: str
    private: bool = False
    member: bool = True
    archived: bool = False
    previous_names: list[str] = field(default_factory=list)
    posted: list[Message] = field(default_factory=list)
    last_at: float = float("-inf")

    def rename(self, name: str) -> None:
        """Give it another name."""
        self.previous_names.append(self.name)
        self.name = name

    def of(self, ts: str) -> Message | None:
        """Return the message of this name that has not been deleted."""
        return next((message for message in self.posted if message["ts"] == ts), None)

    def scope(self, of: str) -> str:
        """Return the scope that is needed: `of` is ``history`` or ``read``."""
        return f"{'groups' if self.private else 'channels'}:{of}"


class Refused(Exception):
    """What is answered as ``ok: false``."""

    def __init__(self, error: str, **more: Any) -> None:
        super().__init__(error)
        self.answer = {"ok": False, "error": error, **more}


def checked(given: Mapping[str, Any]) -> Message:
    """Return the part of what is given that makes a message; fail where Slack would refuse or cut it."""
    message = {
        key: given[key] for key in ("text", "mrkdwn", "blocks", "attachments", "metadata") if key in given
    }
    if not any(message.get(key) for key in ("text", "blocks", "attachments")):
        raise Refused("no_text")
    assert_within_slacks_limits({key: value for key, value in message.items() if key != "metadata"})
    if metadata := message.get("metadata"):
        if not re.fullmatch(r"[a-z][a-z0-9_]*", metadata["event_type"]):
            raise Refused("invalid_metadata_format")
        if len(json.dumps(metadata["event_payload"])) > MAX_METADATA:
            raise Refused("metadata_too_large")
    return message


def is_true(value: object) -> bool:
    """Read a truth value, of JSON or of a form."""
    return value is True or value in ("1", "true")


def in_channel(message: Message) -> bool:
    """Tell whether a message stands in the channel itself."""
    is_reply = message.get("thread_ts", message["ts"]) != message["ts"]
    return not is_reply or message["subtype"] == "thread_broadcast"


def in_time(message: Message, given: Mapping[str, Any]) -> bool:
    """Tell whether a message is of the time that was asked for, the limits themselves left out."""
    ts = float(message["ts"])
    return float(given.get("oldest", 0)) < ts < float(given.get("latest", "inf"))


def seen(message: Message, given: Mapping[str, Any]) -> Message:
    """Return a message as it is shown: of its metadata only the type unless all was asked for."""
    if "metadata" not in message or is_true(given.get("include_all_metadata")):
        return message
    return message | {"metadata": {"event_type": message["metadata"]["event_type"]}}


def page(items: list[Any], given: Mapping[str, Any], *, default: int, most: int) -> tuple[list[Any], Message]:
    """Return the page of `items` that was asked for, and what the answer says of the next one."""
    cursor = str(given.get("cursor") or "from:0")
    if not re.fullmatch(r"from:\d+", cursor):
        raise Refused("invalid_cursor")
    start = int(cursor.removeprefix("from:"))
    end = start + min(int(given.get("limit") or default), most)
    following = f"from:{end}" if end < len(items) else ""
    return items[start:end], {
        "has_more": bool(following),
        "response_metadata": {"next_cursor": following},
    }
