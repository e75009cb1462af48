"""Processes of the listener that are killed, stopped and frozen."""

from typing import ClassVar

from scripts.simulation.clock import Process
from scripts.simulation.kinds.kind import Kind
from scripts.simulation.listener import Listener


class Processes(Kind):
    """The processes."""

    faults: ClassVar = {
        "kill": 0.05,  # every half minute, at any moment
        "restart": 0.05,  # it is asked to stop, and starts again
        "freeze": 0.05,  # it stands still for 5 to 60 s, every half minute
    }

    def disturb(self, listener: Listener, process: Process) -> bool:
        """Kill, stop or freeze it."""
        world, chance, now = self._world, self._world.chance, self._world.loop.time()
        if chance.strikes("kill"):
            world.say(f"{process.name} is killed")
            process.end(now)
            return True
        if chance.strikes("restart"):
            world.say(f"{process.name} is asked to stop")
            listener.stop()
            return True
        if chance.strikes("freeze"):
            process.freeze(now, chance.between("freeze for", 5, 60))
            world.say(f"{process.name} is frozen for {process.frozen_until - now:.1f} s")
            return True
        return listener.runtime is None
