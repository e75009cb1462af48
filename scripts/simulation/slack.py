"""A model of Slack: channels that take a message a second, by webhook and by token, and fail as it does."""

import re
from dataclasses import dataclass, field
from typing import Any

from scripts.simulation.chance import Chance
from scripts.simulation.network import Reply, Sending
from scripts.simulation.world import Told, World

CHANNELS = {"rocket": "C0000000R", "star": "C0000000S", "nova": "C0000000N", "ops": "C0000000O"}
RATE_SECONDS = 0.9
"""Slack lets short bursts pass; what comes sooner than this is refused."""
LINE = re.compile(r"identifier=([^|>]+)\|[^\n]*?>(?:\*: [^\n]*\n[^:\n]*:|:) ([^\n]*)")
NEW_OR_GONE = re.compile(r"identifier=([^|>]+)\|[^\n]*?>(?:\*:| was) (?:created|deleted)")
LEFT_OUT = "…"
NUMBER = re.compile(r"\d+\.\d+|…")


@dataclass(slots=True)
class Channel:
    """A channel.

    Attributes:
        name: Its name.
        archived: Whether it is archived.
        shown_as: What somebody has renamed it to; empty: nothing.
        messages: All messages, by their timestamp; a deleted one is not among them.
        last_at: When the last message was taken; seconds of the loop.
    """

    name: str
    archived: bool = False
    shown_as: str = ""
    messages: dict[str, dict[str, Any]] = field(default_factory=dict)
    last_at: float = -1e9


Lines = tuple[dict[str, list[float]], dict[str, float], frozenset[str], str]


def read_lines(body: dict[str, Any]) -> Lines:
    """Read a message: the values of each entity, those that it only repeats, what is over, and the text."""
    blocks = list(body.get("blocks") or [])
    for attachment in body.get("attachments") or []:
        blocks += attachment.get("blocks") or []
    texts = [str((block.get("text") or {}).get("text") or "") for block in blocks]
    loads: dict[str, list[float]] = {}
    still: dict[str, float] = {}
    over: set[str] = set()
    whole = "\n".join(texts) if blocks else str(body.get("text", ""))
    for entity, rest in LINE.findall("\n".join(texts)):
        entity, numbers = entity.partition("x")[0], _numbers(rest.partition(",")[0])  # noqa: PLW2901
        if not numbers:
            over.add(entity)
        elif len(numbers) == 1:
            still[entity] = numbers[0]
        else:  # a further line of an entity that was renamed begins with the value before, too
            loads[entity] = loads[entity] + numbers[1:] if entity in loads else numbers
    over.update(entity.partition("x")[0] for entity in NEW_OR_GONE.findall("\n".join(texts)))
    if not blocks:  # plain text, after Slack had refused the form of it
        for entity, rest in re.findall(r"(service-\d)[^:\n]*: ?([^\n]*)", whole):
            if numbers := _numbers(rest):
                loads[entity] = loads[entity] + numbers[1:] if entity in loads else numbers
            else:
                over.add(entity)
    return loads, still, frozenset(over), whole


def _numbers(text: str) -> list[float]:
    """Read values in their order, no thresholds; 0 stands for those left out for a person's sake."""
    values = re.sub(r"\([^)]*\)", "", text)
    return [0.0 if number == LEFT_OUT else float(number) for number in NUMBER.findall(values)]


class Slack:
    """Slack."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.channels = {name: Channel(name) for name in CHANNELS}
        self._ids = {channel_id: name for name, channel_id in CHANNELS.items()}

    def webhook(self, sending: Sending) -> Reply:
        """Answer a post to an incoming webhook."""
        channel, body = self.channels[sending.path.rpartition("/")[2]], sending.json()
        if channel.archived:
            self._world.holds.append((self._world.loop.time(), channel.name, sending.process))
            return Reply(410, "channel_is_archived")
        if "blocks" in body and self._world.chance.strikes("blocks_refused"):
            return Reply(400, "invalid_blocks")
        reply, done, _ = self._post(channel, body, sending, good="ok")
        if done:
            reply.body = reply.body or "ok"
        return reply

    def api(self, sending: Sending) -> Reply:
        """Answer a call of the Web API."""
        method = sending.path.rpartition("/")[2]
        arguments = sending.query or (sending.json() if sending.body else {})
        if method == "conversations.list":
            shown = {channel.name: channel.shown_as or channel.name for channel in self.channels.values()}
            channels = [{"id": channel_id, "name": shown[name]} for name, channel_id in CHANNELS.items()]
            return Reply(200, {"ok": True, "channels": channels})
        wanted = str(arguments.get("channel", ""))
        name = self._ids.get(wanted, wanted.removeprefix("#"))
        if wanted not in self._ids and self.channels[name].shown_as:
            return Reply(200, {"ok": False, "error": "channel_not_found"})
        channel = self.channels.get(name)
        if channel is None:
            return Reply(200, {"ok": False, "error": "channel_not_found"})
        if method in ("conversations.history", "conversations.replies"):
            return self._history(channel, arguments, thread=arguments.get("ts"))
        if channel.archived:
            if method == "chat.postMessage":
                self._world.holds.append((self._world.loop.time(), channel.name, sending.process))
            return Reply(200, {"ok": False, "error": "is_archived"})
        if method == "chat.update":
            return self._update(channel, arguments)
        if method == "chat.postMessage":
            return self._post_message(channel, arguments, sending)
        return self._info(channel)

    def _info(self, channel: Channel) -> Reply:
        shown = {"id": CHANNELS[channel.name], "name": channel.shown_as or channel.name}
        return Reply(200, {"ok": True, "channel": shown})

    def _post_message(self, channel: Channel, arguments: dict[str, Any], sending: Sending) -> Reply:
        if "blocks" in arguments and self._world.chance.strikes("blocks_refused"):
            return Reply(200, {"ok": False, "error": "invalid_blocks"})
        reply, done, ts = self._post(channel, arguments, sending, good="")
        if done and reply.status == 200:
            message = {"thread_ts": thread} if (thread := channel.messages[ts].get("thread_ts")) else {}
            reply.body = {"ok": True, "channel": CHANNELS[channel.name], "ts": ts, "message": message}
        return reply

    def _post(
        self, channel: Channel, body: dict[str, Any], sending: Sending, *, good: str
    ) -> tuple[Reply, bool, str]:
        """Take a message, or fail, or both; give the answer, whether it was posted, and its timestamp."""
        world, chance = self._world, self._world.chance
        now = world.loop.time()
        if now - channel.last_at < RATE_SECONDS and not chance.quiet:
            world.say(f"Slack: #{channel.name} is posted to too fast")
            return Reply(429, "", {"Retry-After": "1"}), False, ""
        failure = drawn_failure(chance)
        reply, posted = failure or (Reply(200, good), True)
        if chance.strikes("slow_answer"):
            reply.after_seconds += chance.between("slow_answer for", 0.5, 7)
        if not posted:
            world.say(f"Slack: #{channel.name} answers {reply.status}")
            return reply, False, ""
        channel.last_at = now
        ts = f"{world.loop.wall().timestamp():.6f}"
        while ts in channel.messages:
            ts = f"{float(ts) + 0.000001:.6f}"
        root = str(body.get("thread_ts", ""))
        channel.messages[ts] = body | {"ts": ts, "thread_ts": root if root in channel.messages else None}
        loads, still, over, text = read_lines(body)
        confirmed = failure is None
        world.told.append(Told(now, channel.name, sending, loads, still, text, over, confirmed=confirmed))
        shown = " ".join(f"{name}: {numbers}" for name, numbers in {**loads, **still}.items()) or text[:150]
        shown += f" over: {sorted(over)}" if over else ""
        world.say(f"Slack: #{channel.name} hears {shown}{'' if confirmed else ' (not confirmed)'}")
        if chance.strikes("message_deleted"):
            deleted = chance.stream("message_deleted which").choice(list(channel.messages))
            world.say(f"Slack: somebody deletes a message of #{channel.name}")
            if deleted != ts:
                del channel.messages[deleted]
        return reply, True, ts

    def _update(self, channel: Channel, arguments: dict[str, Any]) -> Reply:
        failure = drawn_failure(self._world.chance)
        if failure and not failure[1]:
            return failure[0]
        ts = str(arguments["ts"])
        if ts not in channel.messages:
            return Reply(200, {"ok": False, "error": "message_not_found"})
        channel.messages[ts] = channel.messages[ts] | {"updated": read_lines(arguments)[0]}
        return failure[0] if failure else Reply(200, {"ok": True, "channel": channel.name, "ts": ts})

    def _history(self, channel: Channel, arguments: dict[str, Any], *, thread: str | None) -> Reply:
        if (failure := drawn_failure(self._world.chance)) and not failure[1]:
            return failure[0]
        threads = {message["thread_ts"] for message in channel.messages.values()}
        if thread is not None and thread not in channel.messages and thread not in threads:
            return Reply(200, {"ok": False, "error": "thread_not_found"})
        messages = [
            _shown(message)
            for ts, message in sorted(channel.messages.items(), reverse=True)
            if float(ts) >= float(arguments.get("oldest", 0))
            and (message["thread_ts"] == thread or (thread is None and message.get("reply_broadcast")))
        ]
        limit = int(arguments.get("limit", 100))
        start = int(arguments.get("cursor") or 0)
        more = {"next_cursor": str(start + limit)} if len(messages) > start + limit else {}
        page = messages[start : start + limit]
        return Reply(200, {"ok": True, "messages": page, "response_metadata": more})


def _shown(message: dict[str, Any]) -> dict[str, Any]:
    shown = {"ts": message["ts"], "text": message.get("text", "")}
    if message["thread_ts"]:
        shown["thread_ts"] = message["thread_ts"]
    return shown | ({"metadata": message["metadata"]} if "metadata" in message else {})


def drawn_failure(chance: Chance) -> tuple[Reply, bool] | None:
    """Draw a failure: the answer, and whether the request was done all the same."""
    failures = {
        "rate_limited": (Reply(429, "", {"Retry-After": "3"}), False),
        "rate_limited_bare": (Reply(429, ""), False),
        "answer_503": (Reply(503, "upstream connect error"), False),
        "answer_503_posted": (Reply(503, "rollup_error"), True),
        "answer_lost": (Reply(None, ends=True), True),
        "hang": (Reply(None), False),
        "hang_posted": (Reply(None), True),
    }
    drawn = [name for name in failures if chance.strikes(name)]
    return failures[drawn[0]] if drawn else None
