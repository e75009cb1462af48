"""Slack's Socket Mode: connections that are closed and cut, and envelopes that come over them."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar

from scripts.simulation.clock import Process
from scripts.simulation.history import History
from scripts.simulation.kinds.channels import Channels
from scripts.simulation.kinds.kind import Kind
from scripts.simulation.network import Reply, Sending, Serve
from scripts.simulation.websocket import Wire
from scripts.simulation.world import World

ANSWER_SECONDS = 3.0
"""Slack tells the person after so long that the click failed."""
STEADY_SECONDS = 11.0
"""After a connection that lasted so long the next one is opened at once."""
SOON_SECONDS, NOTICED_SECONDS = 5.0, 50.0
"""Within how long a connection is replaced that was closed, and one that is silent."""
FROZEN_SECONDS = 60.0
"""How long a process stands still at the most."""


class Sockets(Kind):
    """The connections.

    Attributes:
        open: Those over which Slack sends.
        answered: The envelopes that were answered, each with when it was first.
        opened: When each process has opened one.
        gaps: When a process had to open another, and until when.
        refused: When Slack gave no address.
    """

    name = "sockets"
    faults: ClassVar = {
        "socket_refused": 0.1,  # Slack gives no address
        "socket_renewed": 0.4,  # Slack asks for a new connection, and closes the old one some seconds later
        "socket_closed": 0.2,  # Slack closes it at once
        "socket_cut": 0.2,  # the connection ends without a word
        "socket_silent": 0.15,  # nothing goes over it any more
        "envelope_twice": 0.25,
        "kill_at_click": 0.15,  # when an envelope has arrived
    }
    settings: ClassVar = {"slack_app_token": "xapp-token"}

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.open: list[Wire] = []
        self.answered: dict[str, float] = {}
        self.opened: list[tuple[float, Process]] = []
        self.gaps: list[tuple[float, float, Process]] = []
        self.refused: list[float] = []
        self._waiting: dict[str, asyncio.Event] = {}
        self._since: dict[Wire, float] = {}
        world.kind(Channels).slack.methods["apps.connections.open"] = self._address

    def hosts(self) -> Mapping[str, Serve]:
        """Serve the connections."""
        return {"wss.slack.sim": lambda _: Reply(101, opens=self._greet)}

    def _address(self, sending: Sending) -> Reply:
        if self._world.chance.strikes("socket_refused"):
            self.refused.append(self._world.loop.time())
            self._world.say(f"Slack: gives {sending.process.name} no socket")
            drawn = self._world.chance.stream("socket_refused how")
            return drawn.choice((Reply(503, ""), Reply(429, "", {"Retry-After": "2"}), Reply(200, "<html>")))
        return Reply(200, {"ok": True, "url": "ws://wss.slack.sim/link"})

    def _greet(self, wire: Wire) -> None:
        now = self._world.loop.time()
        self._world.say(f"Slack: {wire.process.name} has a socket")
        self.opened.append((now, wire.process))
        wire.heard = self._heard
        wire.say({"type": "hello", "num_connections": 1, "connection_info": {"app_id": "A1"}})
        self.open.append(wire)
        self._since[wire] = now

    def _heard(self, message: Any) -> None:
        envelope = str(message["envelope_id"])
        self._world.say(f"Slack: {envelope} is answered")
        self.answered.setdefault(envelope, self._world.loop.time())
        self._waiting[envelope].set()

    def disturb_world(self) -> None:
        """Close connections, with and without a word."""
        chance, loop = self._world.chance, self._world.loop
        self.open = [wire for wire in self.open if wire.open]
        wires = [wire for wire in self.open if not wire.silent]
        if not wires:
            return
        wire = chance.stream("socket").choice(wires)
        if chance.strikes("socket_renewed"):
            self._part(wire, "asks for a new socket", SOON_SECONDS)
            wire.say({"type": "disconnect", "reason": "refresh_requested"})
            loop.call_later(chance.between("socket_renewed after", 1, 20), wire.end)
        elif chance.strikes("socket_closed"):
            self._part(wire, "closes the socket", SOON_SECONDS)
            wire.say({"type": "disconnect", "reason": "too_many_websockets"})
            wire.end()
        elif chance.strikes("socket_cut"):
            self._part(wire, "loses the socket", SOON_SECONDS)
            wire.end()
        elif chance.strikes("socket_silent"):
            wire.silent = True  # which Slack does not know: envelopes still go there
            self._part(wire, "says nothing any more over the socket", NOTICED_SECONDS)

    def _part(self, wire: Wire, what: str, within: float) -> None:
        """Send nothing over a connection any more; unless it was a short one, another must follow."""
        now = self._world.loop.time()
        self._world.say(f"Slack: {what} of {wire.process.name}")
        if not wire.silent:
            self.open.remove(wire)
        if now - self._since[wire] > STEADY_SECONDS:
            self.gaps.append((now, now + within, wire.process))

    async def click(self, envelope_id: str, payload: Mapping[str, Any]) -> bool:
        """Send a click over one of the connections; tell whether it was answered in time."""
        world, loop = self._world, self._world.loop
        again = world.chance.between("envelope again after", 0, 2)
        twice = world.chance.strikes("envelope_twice")
        self._waiting[envelope_id] = answered = asyncio.Event()
        self._send(envelope_id, payload)
        if twice:
            loop.call_later(again, partial(self._send, envelope_id, payload))
        with suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_SECONDS):
                await answered.wait()
        return answered.is_set()

    def _send(self, envelope_id: str, payload: Mapping[str, Any]) -> None:
        wires = [wire for wire in self.open if wire.open]
        if not wires:
            self._world.say(f"Slack: there is no socket for {envelope_id}")
            return
        wire = self._world.chance.stream("envelope").choice(wires)
        self._world.say(f"Slack: sends {envelope_id} to {wire.process.name}")
        wire.say({"type": "interactive", "envelope_id": envelope_id, "payload": payload})
        if wire.process.alive and self._world.chance.strikes("kill_at_click"):
            loop, after = self._world.loop, self._world.chance.between("kill_at_click after", 0.005, 0.15)
            loop.call_later(after, lambda: wire.process.end(loop.time()))

    def broken(self, history: History) -> Iterator[str]:
        """Judge whether a connection that ended was replaced."""
        for since, until, process in self.gaps:
            failed = [*self.refused, *(at for at, host in self._world.loop.refused if "slack.sim" in host)]
            excused = any(since - 1 <= at <= until for at in failed)
            excused |= history.is_disturbed(process, since - 1, until)
            excused |= any(since < woken < until + FROZEN_SECONDS for woken in process.woken)
            again = any(one is process and since <= at <= until for at, one in self.opened)
            if not excused and not again and until < history.quiet_since:
                yield f"{process.name} opens no socket after {since - 1000:.0f} s"
