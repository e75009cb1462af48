"""The operator: silences, releases of what is on hold, retries of what was given up."""

from collections.abc import Iterator
from datetime import timedelta
from typing import ClassVar

from app.model.silence import Silence
from app.store import queries
from app.store.store import Store
from scripts.simulation.clock import Process
from scripts.simulation.history import History
from scripts.simulation.kinds.kind import Kind
from scripts.simulation.listener import Listener

SENT_WITHIN_SECONDS = 12.0


class Operator(Kind):
    """The operator."""

    faults: ClassVar = {
        "silence": 0.05,
        "release": 0.1,
        "silence_ends": 0.05,  # by hand
        "retry": 0.05,  # of what was given up
    }

    def disturb(self, listener: Listener, process: Process) -> bool:
        """Act, through a process."""
        world, chance, now = self._world, self._world.chance, self._world.loop.time()
        assert listener.runtime is not None  # noqa: S101 - else nothing more can be done with it
        store = listener.runtime.store
        if chance.strikes("release"):
            world.tries.append(now)
            process.start(_release(store))
        if chance.strikes("silence"):
            entity = f"service-{chance.stream('silence whom').randrange(6)}"
            minutes = chance.between("silence for", 0.3, 2)
            world.silenced.append((entity, now, now + 60 * minutes))
            world.say(f"somebody silences {entity} for {minutes:.1f} min")
            process.start(self._silence(store, entity, minutes))
        if chance.strikes("silence_ends"):
            process.start(self._end_silences(store))
        if chance.strikes("retry"):
            process.start(store.retry(now=store.clock()))
        return False

    async def _silence(self, store: Store, entity: str, minutes: float) -> None:
        now, loop = store.clock(), self._world.loop
        until = now + timedelta(minutes=minutes)
        silence = Silence("*", "*", entity, "*", now, until, "operator", "test")
        ends = loop.time() + 60 * minutes
        await store.write(queries.silences.add, silence)
        self._world.in_force.append((entity, loop.time(), ends))
        self._world.silenced.append((entity, loop.time(), ends))

    async def _end_silences(self, store: Store) -> None:
        now = store.clock()
        for silence in await store.read(queries.silences.silences, active_at=now):
            self._world.silence_ends.append(self._world.loop.time())
            await store.write(queries.silences.end, silence.id, now)

    def settled_at(self) -> float:
        """Give when the last silence ends."""
        return max((until for _, _, until in self._world.silenced), default=0.0) + 5

    def broken(self, history: History) -> Iterator[str]:
        """What is silenced is not told, but for what was on its way already."""
        del history
        boots = set(self._world.boots)
        for entity, since, until in self._world.in_force:
            if any(change.renames for change in self._world.changes.values() if change.entity == entity):
                continue  # another name is not silenced
            # A machine whose clock is ahead when it starts again may have been off for so long.
            ended = [
                *self._world.silence_ends,
                *(at for at, ahead in self._world.jumps if ahead > 0 and at in boots),
            ]
            ended = [at for at in ended if at > since - SENT_WITHIN_SECONDS]
            for told in self._world.told:
                in_force = since + SENT_WITHIN_SECONDS < told.at < min([until, *ended]) - 1
                if entity not in told.loads or not in_force or told.has_just_woken():
                    continue
                yield f"#{told.place} is told of {entity} at {told.at - 1000:.0f} s, though silenced"


async def _release(store: Store) -> None:
    for destination in ("rocket", "star", "nova", "pager"):
        await store.release_hold(destination, store.clock())
