"""The machine: its clock, which is set, and its starts."""

from typing import ClassVar

from scripts.simulation.kinds.kind import Kind

HOURS = 3600.0
STEPS = (-2 * HOURS, -10 * 60.0, 1 * HOURS, 25 * HOURS, 40 * 24 * HOURS)
"""By how much the clock is set, seconds."""


class Machine(Kind):
    """The machine."""

    faults: ClassVar = {
        "clock_jump": 0.01,  # the machine's clock is set by up to 40 s, every half minute
        "clock_set": 0.01,  # by -2 hours to 40 days, and right again after some minutes
        "clock_set_stopped": 0.005,  # the same, while no process runs
        "reboot": 0.005,  # the same, and the machine has been started again
    }

    def disturb_world(self) -> None:
        """Set the clock, with and without a start of the machine."""
        world, chance = self._world, self._world.chance
        if chance.strikes("clock_jump"):
            world.set_clock(world.clock_offset + chance.between("clock_jump by", -40, 40))
        # What a frozen process has in hand is dated by the clock as it was: docs/reliability.md says so.
        now = world.loop.time()
        frozen = any(one.process and one.process.frozen_until > now for one in world.listeners)
        for fault in ("clock_set", "clock_set_stopped", "reboot"):
            if not chance.strikes(fault) or frozen:
                continue
            if fault != "clock_set":
                for listener in world.listeners:
                    if listener.process:
                        listener.process.end(world.loop.time())
            if fault == "reboot":
                world.boots.append(world.loop.time())
                world.say("the machine is started again")
            world.set_clock(chance.stream("clock_set by").choice(STEPS))
            world.loop.call_later(chance.between("clock_set for", 5, 200), world.set_clock, 0.0)

    def mend(self) -> None:
        """Set the clock right."""
        self._world.set_clock(0.0)
