"""Working hours: what is held until they begin, and what another destination is told outside of them."""

import sqlite3
from collections.abc import Iterator, Mapping

from scripts.simulation.history import History
from scripts.simulation.kinds.job import Heard, Job
from scripts.simulation.kinds.kind import Kind
from scripts.simulation.network import Serve
from scripts.simulation.world import World

RULE = """\
  - name: office-%s
    blueprint: service
    when: {property: load, above: 50}
    resolve: {property: load, below: 50}
    send: {to: %s, when: office, else: %s}
"""
TOLD_WITHIN_SECONDS = 30.0


class Office(Kind):
    """An office that opens some minutes after the beginning, and is open from then on."""

    name = "office"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.clerk, self.porter, self.guard = (Job(world, name) for name in ("Clerk", "Porter", "Guard"))
        # By the minute, as hours are; they last until after the end.
        self._minutes = world.chance.stream("office opens").choice((1, 2, 3))
        self._open_here: dict[str, str] = {}

    def hosts(self) -> Mapping[str, Serve]:
        """Serve the receivers."""
        return {"clerk.sim": self.clerk.serve, "porter.sim": self.porter.serve, "guard.sim": self.guard.serve}

    def rules(self) -> Mapping[str, str]:
        """Give the hours, the rules and their destinations."""
        begin = self._world.loop.wall().replace(hour=8, minute=self._minutes, second=0)
        hours = f'{{days: mon-sun, from: "{begin:%H:%M}", to: "07:00", tz: UTC}}'
        steps = "[opened, changed, resolved]"
        jobs = (
            f'  {name}: {{type: http, url: "http://{name}.sim/", steps: {steps}}}\n'
            for name in ("clerk", "porter", "guard")
        )
        return {
            "hours": f"  office: {hours}\n",
            "destinations": "".join(jobs),
            "rules": RULE % ("held", "clerk", "hold") + RULE % ("else", "porter", "guard"),
        }

    @property
    def opens_at(self) -> float:
        """When the hours begin; seconds of the loop, by a clock that is right."""
        return 1_000.0 + 60 * self._minutes

    def settled_at(self) -> float:
        """Give when what was held has been told."""
        return self.opens_at + TOLD_WITHIN_SECONDS

    def look(self, store: sqlite3.Connection) -> None:
        """Note which incidents are open."""
        rows = store.execute(
            "SELECT id, entity FROM incidents WHERE rule GLOB 'office-*' AND resolved_at IS NULL"
        )
        self._open_here = {name: self._world.root(entity) for name, entity in rows}

    def broken(self, history: History) -> Iterator[str]:
        """Judge who was told at which time."""
        right = not any(abs(by) > 1 for _, by in self._world.jumps) and len(self._world.boots) == 1
        for heard in self.clerk.once() if right else ():
            if heard.at < self.opens_at and not heard.has_just_woken():
                yield f"the clerk hears {heard.step} of {heard.incident} before the hours begin"
        yield from self._what_is_open_is_told(history)
        yield from self._what_is_over_is_not(history)

    def _what_is_open_is_told(self, history: History) -> Iterator[str]:
        """When the hours have begun, what was held and is open still is told."""
        told = {job: {heard.incident for heard in job.heard} for job in (self.clerk, self.porter, self.guard)}
        for name, entity in self._open_here.items():
            if entity in history.unclear:
                continue
            held = name.startswith("office-held")
            if not (name in told[self.clerk] if held else name in told[self.porter] | told[self.guard]):
                yield f"nobody is told of {name} of {entity}, which is open, when the hours have begun"

    def _what_is_over_is_not(self, history: History) -> Iterator[str]:
        """What began and ended while it was held is not told; what was told is told to its end."""
        for job in (self.clerk, self.porter, self.guard):
            heard_of: dict[str, list[Heard]] = {}
            for heard in job.once():
                if heard.step != "noticed" and self._world.root(heard.alert["entity"]) not in history.unclear:
                    heard_of.setdefault(heard.incident, []).append(heard)
            for name, told in heard_of.items():
                # Where `else` names a destination, the end goes where the hours say when it comes, too.
                alone = told[0].step == "resolved" and name not in job.tried
                if job is self.clerk and alone:
                    yield f"{job.name} hears only the end of {name}"
                is_open = name in self._open_here
                # The clerk may be told, without an answer, and then the clock is set to before the hours.
                held_since = job is self.clerk and any(by < -3600 for _, by in self._world.jumps)
                if not is_open and told[-1].step != "resolved" and not held_since:
                    yield f"{job.name} hears {told[-1].step} last of {name}, which is over"
                if is_open and job is self.clerk and told[-1].step == "resolved":
                    yield f"{job.name} hears that {name} is over, which is open"
