"""The metadata by which a message in Slack names its deliveries, so that they can be found again: pure.

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
MAX_IDS_BYTES = 7_000  # bytes; from somewhere near 8,000 on Slack refuses metadata, and does not say where


def nameable(items: tuple[Item, ...]) -> tuple[Item, ...]:
    """Take as many items from the front as the metadata of one message can name."""
    room = MAX_IDS_BYTES
    for number, item in enumerate(items):
        room -= len(json.dumps(item.delivery_id)) + 1
        if room < 0:
            return items[:number]
    return items


def metadata(parcel: Parcel, composed: Composed) -> dict[str, Any]:
    """Make the metadata of a message: the delivery ids of its alerts.

    A message that sums up gives their number, and names as many as there is room for. The ids are one text,
    with spaces between: Slack's own types allow no list of texts there
    (https://github.com/slackapi/node-slack-sdk, `@slack/types`, `MessageMetadata`).
    """
    named = [item.delivery_id for item in nameable(composed.shown)]
    payload: dict[str, Any] = {"deliveries": " ".join(named), "all": composed.summed_up}
    if composed.summed_up:
        payload["count"] = len(parcel.items) + parcel.more
    return {"event_type": EVENT_TYPE, "event_payload": payload}


@dataclass(slots=True)
class Arrivals:
    """The alerts of a parcel that have arrived, by the messages of the channel.

    Attributes:
        parcel: The parcel.
        delivered: The delivery ids of its items that have arrived.
        everything: Whether all of it has arrived, the alerts not among the items too.
        ts: The timestamp of the first message in the channel itself; empty if there is none.
    """

    parcel: Parcel
    delivered: set[str] = field(default_factory=set)
    everything: bool = False
    ts: str = ""

    def look_at(self, message: Mapping[str, Any]) -> None:
        """Note the deliveries that a message, as Slack gives it, names."""
        meta = message.get("metadata") or {}
        payload = meta.get("event_payload") or {}
        if meta.get("event_type") != EVENT_TYPE or not isinstance(payload.get("deliveries"), str):
            return
        ids = [item.delivery_id for item in self.parcel.items]
        named = set(payload["deliveries"].split())
        here = {delivery_id for delivery_id in ids if delivery_id in named}
        if not here:
            return
        count = payload.get("count")
        if payload.get("all") and isinstance(count, int):
            # It stood for all that waited then, which is what waits first now; not for what has come since.
            here.update(ids[:count])
            self.everything |= len(ids) + self.parcel.more <= count
        self.delivered |= here
        ts = str(message["ts"])
        in_the_channel = message.get("thread_ts", ts) == ts
        if in_the_channel and (not self.ts or ts < self.ts):
            self.ts = ts

    def threads(self, at_most: int) -> list[Message]:
        """List the messages in whose threads the other items may be, `at_most` of them."""
        rest = [item for item in self.parcel.items if item.delivery_id not in self.delivered]
        return list(dict.fromkeys(item.parent for item in rest if item.parent))[:at_most]

    def sent(self, channel: str) -> Sent | None:
        """Say what has arrived in the channel of this ID; None: nothing."""
        if not self.delivered:
            return None
        return Sent(
            "found in the channel",
            delivered=None if self.everything else frozenset(self.delivered),
            message=Message(channel, self.ts) if self.ts else None,
        )
