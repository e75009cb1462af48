"""A model of Slack: channels that take a message a second, by webhook and by token, and fail as it does."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scripts.simulation.chance import Chance
from scripts.simulation.network import Reply, Sending, Serve
from scripts.simulation.world import PAGER, Told, World

CHANNELS = {"rocket": "C0000000R", "star": "C0000000S", "nova": "C0000000N", "ops": "C0000000O"}
OWN = frozenset({*CHANNELS, PAGER})
"""The places that the rule of each world names; those of further kinds are theirs to judge."""
WORKSPACE = "T0000000T"
RATE_SECONDS = 0.9
"""Slack lets short bursts pass; what comes sooner than this is refused."""
BEGINS = re.compile(r"(?=<[^|>]*identifier=[^|>]+\|)")
LINE = re.compile(r"^[^\n]*?>(?:\*: [^\n]*\n[^:\n]*:|:) ([^\n]*)")
NEW_OR_GONE = re.compile(r"^[^\n]*?>(?:\*:| was) (?:created|deleted)")
PLAIN_LINE = re.compile(r"service-\d+[^:\n]*: ?([^\n]*)")
PLAIN_NEW_OR_GONE = re.compile(r"service-\d+\S* was (?:created|deleted)")
CHANGES = re.compile(r"(\d+) changes in ")
ENTITY = re.compile(r"service-\d+(x\d+)?")
LEFT_OUT = "…"
NUMBER = re.compile(r"\d+\.\d+|…")


@dataclass(slots=True)
class Channel:
    """A channel.

    Attributes:
        name: Its name.
        channel_id: Its id.
        archived: Whether it is archived.
        left: Whether the app is not in it.
        silent: Whether its webhook takes everything, and never answers.
        webhooks: How many addresses its webhook has had; only the last one works.
        noted: Which of them is in the rules file.
        shown_as: What somebody has renamed it to; empty: nothing.
        messages: All messages, by their timestamp; a deleted one is not among them.
        last_at: When the last message was taken; seconds of the loop.
    """

    name: str
    channel_id: str
    archived: bool = False
    left: bool = False
    silent: bool = False
    webhooks: int = 1
    noted: int = 1
    shown_as: str = ""
    messages: dict[str, dict[str, Any]] = field(default_factory=dict)
    last_at: float = -1e9


@dataclass(slots=True)
class Lines:
    """What a message says.

    Attributes:
        text: All of it.
        loads: The values of each entity, in their order; the first is that before.
        still: Those that it only repeats.
        over: The entities that are new, gone or closed.
        unnamed: How many further changes of each entity it counts, without their values.
    """

    text: str
    loads: dict[str, list[float]] = field(default_factory=dict)
    still: dict[str, float] = field(default_factory=dict)
    over: set[str] = field(default_factory=set)
    unnamed: Counter[str] = field(default_factory=Counter)

    def add(self, entity: str, numbers: list[float], changes: int, *, over: bool) -> None:
        """Add a line: its values, and how many changes it counts; 0: it counts none."""
        entity = entity.partition("x")[0]
        if over:
            self.over.add(entity)
        if len(numbers) == 1:
            self.still[entity] = numbers[0]
        elif numbers:  # a further line of an entity that was renamed begins with the value before, too
            self.loads[entity] = self.loads[entity] + numbers[1:] if entity in self.loads else numbers
        shown = sum(number > 0 for number in numbers[1:]) + over
        self.unnamed[entity] += max(0, changes - shown)


def read_lines(body: dict[str, Any]) -> Lines:
    """Read a message."""
    blocks = list(body.get("blocks") or [])
    for attachment in body.get("attachments") or []:
        blocks += attachment.get("blocks") or []
    texts = "\n".join(str((block.get("text") or {}).get("text") or "") or _rich(block) for block in blocks)
    lines = Lines(texts if blocks else str(body.get("text", "")))
    # Plain text, after Slack had refused the form of it, has a line for each entity, and no links.
    parts = re.split(BEGINS, texts)[1:] if blocks else lines.text.split("\n")
    named = [re.search(ENTITY, part) for part in parts]
    if not blocks and named[0] and named[0][0] in [name[0] for name in named[1:] if name]:
        named[0] = None  # the headline says what a line says, too
    for part, entity in zip(parts, named, strict=True):
        found = (LINE if blocks else PLAIN_LINE).search(part)
        new_or_gone = bool((NEW_OR_GONE if blocks else PLAIN_NEW_OR_GONE).search(part))
        if entity and (found or new_or_gone):
            numbers = _numbers(found[1].partition(",")[0]) if found and not new_or_gone else []
            changes = CHANGES.search(part)
            lines.add(entity[0], numbers, int(changes[1]) if changes else 0, over=not numbers)
    return lines


def _rich(block: dict[str, Any]) -> str:
    """Write rich text, which stands where Slack would take a name for a mention, as Slack's markup has it."""
    pieces = (piece for section in block.get("elements", ()) for piece in section.get("elements", ()))
    texts = []
    for piece in pieces:
        mark = "*" if (piece.get("style") or {}).get("bold") and piece["type"] == "link" else ""
        text = f"<{piece['url']}|{piece['text']}>" if piece["type"] == "link" else piece.get("text", "")
        texts.append(f"{mark}{text}{mark}")
    return "".join(texts)


def _numbers(text: str) -> list[float]:
    """Read values in their order, no thresholds; 0 stands for those left out for a person's sake."""
    values = re.sub(r"\([^)]*\)", "", text)
    return [0.0 if number == LEFT_OUT else float(number) for number in NUMBER.findall(values)]


class Slack:
    """Slack."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.channels: dict[str, Channel] = {}
        self.ids: dict[str, str] = {}
        # What kinds serve, by the method.
        self.methods: dict[str, Serve] = {}
        # What was said to somebody alone, by the address that Slack gave for it.
        self.alone: dict[str, list[str]] = defaultdict(list)

    def add(self, channels: Mapping[str, str]) -> None:
        """Add channels: their names, with their ids."""
        self.channels |= {name: Channel(name, channel_id) for name, channel_id in channels.items()}
        self.ids |= {channel_id: name for name, channel_id in channels.items()}

    def webhook(self, sending: Sending) -> Reply:
        """Answer a post to an incoming webhook."""
        name, _, number = sending.path.rpartition("/")[2].partition("-")
        channel, body = self.channels[name], sending.json()
        if int(number or 1) != channel.webhooks:
            if int(number or 1) == channel.noted:
                self._world.holds.append((self._world.loop.time(), name, sending.process))
            else:  # the last word there, or the new rules are not in force yet
                self._world.unknown.append((self._world.loop.time(), name))
            return Reply(404, "no_service")
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
        if (reply := self._of_no_channel(method, arguments, sending)) is not None:
            return reply
        wanted = str(arguments.get("channel", ""))
        channel = self.named(wanted)
        if channel is None:
            return Reply(200, {"ok": False, "error": "channel_not_found"})
        if method in ("conversations.history", "conversations.replies"):
            return self._history(channel, arguments, thread=arguments.get("ts"))
        if channel.archived:
            if method == "chat.postMessage":
                self._world.holds.append((self._world.loop.time(), channel.name, sending.process))
            return Reply(200, {"ok": False, "error": "is_archived"})
        if channel.left and method == "chat.postMessage":
            return Reply(200, {"ok": False, "error": "not_in_channel"})
        if method == "chat.update":
            return self._update(channel, arguments)
        if method == "chat.postMessage":
            return self._post_message(channel, arguments, sending)
        return self._info(channel)

    def _of_no_channel(self, method: str, arguments: dict[str, Any], sending: Sending) -> Reply | None:
        if method == "conversations.list":
            channels = [
                {"id": channel.channel_id, "name": channel.shown_as or channel.name}
                for channel in self.channels.values()
            ]
            return Reply(200, {"ok": True, "channels": channels})
        if serve := self.methods.get(method):
            return serve(sending)
        if "/response/" in sending.path:
            self.alone[method].append(str(arguments.get("text")))
            return Reply(200, "ok")
        if method == "auth.test":
            return Reply(200, {"ok": True, "team_id": WORKSPACE, "user_id": "UBOT", "bot_id": "B1"})
        return None

    def named(self, wanted: str) -> Channel | None:
        """Give the channel that is called so now, with or without its mark, or has this id."""
        if wanted in self.ids:
            return self.channels[self.ids[wanted]]
        name = wanted.removeprefix("#")
        called = (one for one in self.channels.values() if (one.shown_as or one.name) == name)
        return next(called, None)

    def _info(self, channel: Channel) -> Reply:
        shown = {"id": channel.channel_id, "name": channel.shown_as or channel.name}
        return Reply(200, {"ok": True, "channel": shown})

    def _post_message(self, channel: Channel, arguments: dict[str, Any], sending: Sending) -> Reply:
        if "blocks" in arguments and self._world.chance.strikes("blocks_refused"):
            return Reply(200, {"ok": False, "error": "invalid_blocks"})
        reply, done, ts = self._post(channel, arguments, sending, good="")
        if done and reply.status == 200:
            message = {"thread_ts": thread} if (thread := channel.messages[ts].get("thread_ts")) else {}
            reply.body = {"ok": True, "channel": channel.channel_id, "ts": ts, "message": message}
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
        failure = (Reply(None), True) if channel.silent and good else drawn_failure(chance)
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
        lines = read_lines(body)
        confirmed = failure is None
        world.told.append(
            Told(
                now,
                channel.name,
                sending,
                lines.loads,
                still=lines.still,
                text=lines.text,
                over=frozenset(lines.over),
                unnamed=lines.unnamed,
                confirmed=confirmed,
                silent=reply.status is None,
            )
        )
        values = {**lines.loads, **lines.still}
        shown = " ".join(f"{name}: {numbers}" for name, numbers in values.items()) or lines.text[:150]
        shown += f" over: {sorted(lines.over)}" if lines.over else ""
        shown += "".join(f" and {number} of {name}" for name, number in lines.unnamed.items() if number)
        world.say(f"Slack: #{channel.name} hears {shown}{'' if confirmed else ' (not confirmed)'}")
        if confirmed and chance.strikes("store_away"):
            world.lose_disk(chance.between("store_away for", 30, 60))
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
        channel.messages[ts] = channel.messages[ts] | {
            name: arguments[name] for name in ("text", "blocks", "attachments") if name in arguments
        }
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
