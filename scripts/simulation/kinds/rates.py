"""A receiver of jobs with a rate: over all its queues, and all processes, it gets no more than it takes."""

import sqlite3
from collections.abc import Iterator, Mapping
from typing import ClassVar

from scripts.simulation.history import History
from scripts.simulation.kinds.job import Job
from scripts.simulation.kinds.kind import Kind
from scripts.simulation.network import Reply, Sending, Serve
from scripts.simulation.world import World

RULE = """\
  - name: metered
    blueprint: service
    when: {property: load, above: 50}
    resolve: {property: load, below: 50}
    send: meter
"""
PER_MINUTE, SPACING_SECONDS = 20, 3.0
MOST, DELAYED_SECONDS = 8, 7.0
"""So many messages in a row keep the time between them; the first one may be late by a slow disk."""


class Rates(Kind):
    """The receiver.

    Attributes:
        tried: Each request that arrived.
        open_here: The ids of the incidents that are open in the end, with their entities.
    """

    name = "rates"
    faults: ClassVar = {"meter_down": 0.05}  # it answers 503 for some time

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.meter = Job(world, "Meter")
        self.tried: list[Sending] = []
        self.open_here: dict[str, str] = {}
        self._is_down = False

    def hosts(self) -> Mapping[str, Serve]:
        """Serve the receiver."""
        return {"meter.sim": self._serve}

    def _serve(self, sending: Sending) -> Reply:
        self.tried.append(sending)
        return Reply(503, "down") if self._is_down else self.meter.serve(sending)

    def rules(self) -> Mapping[str, str]:
        """Give the rule and its destination."""
        facts = f"rate: {PER_MINUTE}/min, queues: 4, steps: [opened, changed, resolved]"
        return {
            "destinations": f'  meter: {{type: http, url: "http://meter.sim/", {facts}}}\n',
            "rules": RULE,
        }

    def disturb_world(self) -> None:
        """Let it be down: what waits then must not come at once."""
        if self._world.chance.strikes("meter_down"):
            self._is_down = True
            self._world.say("Meter: is down")
            self._world.loop.call_later(self._world.chance.between("meter down for", 5, 60), self.mend)

    def mend(self) -> None:
        """Let it work again."""
        self._is_down = False

    def look(self, store: sqlite3.Connection) -> None:
        """Note which incidents are open."""
        rows = store.execute(
            "SELECT id, entity FROM incidents WHERE rule = 'metered' AND resolved_at IS NULL"
        )
        self.open_here = {name: self._world.root(entity) for name, entity in rows}

    def broken(self, history: History) -> Iterator[str]:
        """Judge the rate, and whether what waited for it was told."""
        yield from self._the_rate_is_kept()
        heard = self.meter.once()
        told = {one.incident for one in heard if one.step in ("opened", "changed")}
        for name, entity in self.open_here.items():
            if name not in told and entity not in history.unclear:
                yield f"the meter is never told of {name} of {entity}, which is open"

    def _the_rate_is_kept(self) -> Iterator[str]:
        """No minute has more than the rate says, whoever sends."""
        world = self._world
        # A process that stood still between its right to send and the message cannot know how long; who has
        # set the clock, has set it for the rate, too.
        others = [woken for process in world.processes for woken in process.woken]
        others += [*world.boots, *(at for at, _ in world.jumps)]
        sent = sorted(sending.begun_at for sending in self.tried)
        for first, last in zip(sent, sent[MOST - 1 :], strict=False):
            disturbed = any(first - SPACING_SECONDS * MOST < at <= last for at in others)
            if last - first < (MOST - 1) * SPACING_SECONDS - DELAYED_SECONDS and not disturbed:
                yield f"the meter gets {MOST} messages within {last - first:.1f} s, at {first - 1000:.0f} s"
                return
