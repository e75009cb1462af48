"""How a message in Slack says which alerts it tells of, so that it can be found again: pure.

Rules: https://docs.slack.dev/messaging/message-metadata
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.model.notification import Message
from app.notifier.base import Item, Parcel, Sent
from app.notifier.slack.compose import Composed

EVENT_TYPE = "port_alert"  # Slack wants lower-case letters, numbers and underscores
MAX_IDS = 7_000  # bytes; from somewhere near 8,000 on Slack refuses metadata, and does not say where


def nameable(items: tuple[Item, ...]) -> tuple[Item, ...]:
    """Return as many of the first of `items` as the metadata of one message can name."""
    room = MAX_IDS
    for number, item in enumerate(items):
        room -= len(json.dumps(item.delivery_id)) + 1
        if room < 0:
            return items[:number]
    return items


def metadata(parcel: Parcel, composed: Composed) -> dict[str, Any]:
    """Return what goes with a message: the delivery ids of what it tells.

    One that sums up says of how many, and names as many as there is room for.
    """
    named = [item.delivery_id for item in nameable(composed.shown)]
    payload: dict[str, Any] = {"deliveries": named, "all": composed.summed_up}
    if composed.summed_up:
        payload["count"] = len(parcel.items) + parcel.more
    return {"event_type": EVENT_TYPE, "event_payload": payload}


@dataclass(slots=True)
class Found:
    """What the messages of a channel tell of a parcel.

    Attributes:
        parcel: The parcel.
        told: The delivery ids of its items that have been told.
        everything: All of it has been told, what is not among the items too.
        ts: The first message that stands in the channel itself; empty if there is none.
    """

    parcel: Parcel
    told: set[str] = field(default_factory=set)
    everything: bool = False
    ts: str = ""

    def look_at(self, message: Mapping[str, Any]) -> None:
        """Take in one message as Slack gives it."""
        meta = message.get("metadata") or {}
        payload = meta.get("event_payload") or {}
        if meta.get("event_type") != EVENT_TYPE or not isinstance(payload.get("deliveries"), list):
            return
        ids = [item.delivery_id for item in self.parcel.items]
        here = {one for one in ids if one in payload["deliveries"]}
        if not here:
            return
        count = payload.get("count")
        if payload.get("all") and isinstance(count, int):
            # It told of all that waited then, which is what waits first now. What came since it did not tell.
            here.update(ids[:count])
            self.everything |= len(ids) + self.parcel.more <= count
        self.told |= here
        ts = str(message["ts"])
        in_the_channel = message.get("thread_ts", ts) == ts
        if in_the_channel and (not self.ts or ts < self.ts):
            self.ts = ts

    def threads(self, at_most: int) -> list[Message]:
        """Return the messages in whose threads the rest may stand, `at_most` of them."""
        rest = [item for item in self.parcel.items if item.delivery_id not in self.told]
        return list(dict.fromkeys(item.parent for item in rest if item.parent))[:at_most]

    def sent(self, channel: str) -> Sent | None:
        """Return what has come of the parcel, in the channel of this ID; None: nothing yet."""
        if not self.told:
            return None
        return Sent(
            "found in the channel",
            told=None if self.everything else frozenset(self.told),
            message=Message(channel, self.ts) if self.ts else None,
        )
