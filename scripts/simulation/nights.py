"""What disturbs the listener from time to time: kills, freezes, archived channels, the operator."""

import asyncio
from datetime import datetime, timedelta

from app.model.silence import Silence
from app.store import queries
from app.store.store import Store
from scripts.simulation.listener import Listener
from scripts.simulation.pager import Pager
from scripts.simulation.slack import Slack
from scripts.simulation.world import World

LOOK_SECONDS = 30.0


class Nights:
    """Disturbs.

    Args:
        world: Everything around the listeners.
        slack: Slack.
        pager: The receiver of jobs.
        listeners: The listeners.
    """

    def __init__(self, world: World, slack: Slack, pager: Pager, listeners: list[Listener]) -> None:
        self._world = world
        self._slack = slack
        self._pager = pager
        self._listeners = listeners

    async def pass_by(self) -> None:
        """Disturb until it is cancelled."""
        chance = self._world.chance
        while True:
            await asyncio.sleep(chance.between("night", 0.5, 1.5) * LOOK_SECONDS)
            self._disturb_world()
            for listener in self._listeners:
                self._disturb(listener)

    def _disturb_world(self) -> None:
        world, chance, loop = self._world, self._world.chance, self._world.loop
        for channel in self._slack.channels.values():
            if channel.name != "ops" and chance.strikes("archived") and not channel.archived:
                channel.archived = True
                world.say(f"Slack: somebody archives #{channel.name}")
                loop.call_later(chance.between("archived for", 20, 400), self.unarchive, channel.name)
        if chance.strikes("pager_down"):
            self._pager.down = True
            world.say("Pager: is down")
            loop.call_later(chance.between("pager down for", 10, 200), self.mend_pager)
        if chance.strikes("pager_expired"):
            self._pager.expired = True
            world.say("Pager: the token has expired")
            loop.call_later(chance.between("pager expired for", 10, 200), self.mend_pager)
        if chance.strikes("clock_jump"):
            seconds = chance.between("clock_jump by", -40, 40)
            world.clock_offset += seconds
            world.jumps.append(loop.time())
            world.say(f"the machine's clock jumps by {seconds:.3f} s")
            for listener in self._listeners:
                if listener.process:
                    listener.process.troubles.append(loop.time())

    def unarchive(self, name: str) -> None:
        """Take a channel out of the archive."""
        if self._slack.channels[name].archived:
            self._slack.channels[name].archived = False
            self._world.say(f"Slack: #{name} is back")

    def mend_pager(self) -> None:
        """Mend the receiver of jobs."""
        if self._pager.down or self._pager.expired:
            self._pager.down = self._pager.expired = False
            self._world.say("Pager: is back")

    def _disturb(self, listener: Listener) -> None:
        world, chance = self._world, self._world.chance
        process, now = listener.process, world.loop.time()
        if process is None or not process.alive:
            return
        if chance.strikes("kill"):
            world.say(f"{process.name} is killed")
            process.end(now)
            return
        if chance.strikes("restart"):
            world.say(f"{process.name} is asked to stop")
            listener.stop()
            return
        if chance.strikes("freeze"):
            process.frozen_until = now + chance.between("freeze for", 5, 60)
            process.troubles += [now, process.frozen_until]
            world.say(f"{process.name} is frozen for {process.frozen_until - now:.1f} s")
            return
        if (runtime := listener.runtime) is None:
            return
        if chance.strikes("reload"):
            world.say(f"{process.name} reloads its rules")
            process.start(runtime.rules.reload())
        if chance.strikes("release"):
            process.start(_release(runtime.store, listener.clock()))
        if chance.strikes("silence"):
            entity = f"service-{chance.stream('silence whom').randrange(6)}"
            minutes = chance.between("silence for", 0.3, 2)
            world.silenced.append((entity, now, now + 60 * minutes))
            world.say(f"somebody silences {entity} for {minutes:.1f} min")
            process.start(_silence(runtime.store, listener.clock(), entity, minutes))


async def _release(store: Store, now: datetime) -> None:
    for destination in ("rocket", "star", "nova", "pager"):
        await store.release_hold(destination, now)


async def _silence(store: Store, now: datetime, entity: str, minutes: float) -> None:
    until = now + timedelta(minutes=minutes)
    await store.write(queries.silences.add, Silence("*", "*", entity, "*", now, until, "operator", "test"))
