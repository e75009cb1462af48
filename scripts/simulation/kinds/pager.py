"""A program that receives each alert as an HTTP request, and recognizes a repeat by its key."""

import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import ClassVar

from scripts.simulation.history import WELL_BELOW, History
from scripts.simulation.kinds.kind import Kind
from scripts.simulation.network import Reply, Sending, Serve
from scripts.simulation.slack import drawn_failure
from scripts.simulation.world import PAGER, Told, World


class Pager(Kind):
    """The receiver.

    Attributes:
        down: It answers 503 to everything.
        expired: It answers 401 to everything: the token has expired.
        silent: It takes everything, and never answers.
        open_here: The entities with an open incident in the end.
    """

    destinations = (PAGER,)
    faults: ClassVar = {
        "pager_down": 0.05,  # the receiver answers 503 for some minutes
        "pager_expired": 0.05,  # the receiver answers 401, for up to an hour
    }

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.down = False
        self.expired = False
        self.silent = False
        self.open_here: set[str] = set()
        self._expired_at: float | None = None

    def hosts(self) -> Mapping[str, Serve]:
        """Serve the receiver."""
        return {"pager.sim": self._serve}

    def rules(self) -> Mapping[str, str]:
        """Give the destination."""
        url, steps = "http://pager.sim/alerts", "[opened, changed, resolved]"
        return {"destinations": f'  pager: {{type: http, url: "{url}", steps: {steps}, fallback: ops}}\n'}

    def _serve(self, sending: Sending) -> Reply:
        world = self._world
        if self.down:
            return Reply(503, "down for maintenance")
        if self.expired:
            world.holds.append((world.loop.time(), PAGER, sending.process))
            return Reply(401, "the token has expired")
        failure = (Reply(None), True) if self.silent else drawn_failure(world.chance)
        if failure and not failure[1]:
            world.say(f"Pager: answers {failure[0].status}")
            return failure[0]
        alert = sending.json()
        entity = world.root(alert["entity"])
        values = [alert["change"]["before"], alert["change"]["after"]] if alert["change"] else []
        loads = {entity: values} if None not in values and values else {}
        key = sending.headers["idempotency-key"]
        world.told.append(
            Told(
                world.loop.time(),
                PAGER,
                sending,
                loads,
                key=key,
                confirmed=failure is None,
                silent=failure is not None and failure[0].status is None,
                text=alert["step"],
                over=frozenset() if loads else frozenset({entity}),
            )
        )
        world.say(
            f"Pager: hears {alert['step']} {entity} {values} as {key}{' (not confirmed)' if failure else ''}"
        )
        return failure[0] if failure else Reply(200, "taken")

    def disturb_world(self) -> None:
        """Let it be down, or the token expire."""
        world, chance, loop = self._world, self._world.chance, self._world.loop
        if chance.strikes("pager_down"):
            self.down = True
            world.say("Pager: is down")
            loop.call_later(chance.between("pager down for", 10, 200), self.mend)
        if chance.strikes("pager_expired") and not self.expired:
            self.expired = True
            self._expired_at = loop.time()
            world.say("Pager: the token has expired")
            loop.call_later(60 * 2 ** chance.between("pager expired for", -2, 6), self.mend)

    def mend(self) -> None:
        """Let it work again."""
        if self.down or self.expired:
            self.down = self.expired = False
            if self._expired_at is not None:
                self._world.broken.append((PAGER, self._expired_at, self._world.loop.time()))
                self._expired_at = None
            self._world.say("Pager: is back")

    def look(self, store: sqlite3.Connection) -> None:
        """Note which incidents are open."""
        rows = store.execute("SELECT entity FROM incidents WHERE resolved_at IS NULL AND rule GLOB 'load*'")
        self.open_here = {self._world.root(entity) for (entity,) in rows}

    def broken(self, history: History) -> Iterator[str]:
        """Judge the jobs."""
        yield from self._jobs_have_one_key(history)
        yield from self._jobs_follow_the_incident(history)
        yield from self._open_incidents_were_told(history)

    def _jobs_have_one_key(self, history: History) -> Iterator[str]:
        keys: dict[tuple[str, float], set[str]] = defaultdict(set)
        for (place, entity), heard in history.heard.items():
            if place == PAGER:
                for load, told in heard:
                    keys[entity, load].add(told.key)
        for (entity, load), several in keys.items():
            if len(several) > 1 and not history.renamed:
                yield f"the pager is told of {entity} {load:g} under {len(several)} keys"

    def _jobs_follow_the_incident(self, history: History) -> Iterator[str]:
        """A job is told of the beginning, each change and the end of an incident, in this order."""
        newest, opened, seen = defaultdict[str, int](int), set[str](), set[str]()
        for told in self._world.told:
            if told.place != PAGER or told.key in seen:
                continue
            seen.add(told.key)
            opened -= told.over
            for entity, (_, load) in told.loads.items():
                serial = self._world.changes[load].serial if load in self._world.changes else 0
                if serial < newest[entity]:
                    wanted = "noticed"  # it came late, and says nothing of the present
                elif load < WELL_BELOW:
                    wanted = "resolved" if entity in opened else "noticed"
                    opened.discard(entity)
                else:
                    wanted = "changed" if entity in opened else "opened"
                    opened.add(entity)
                newest[entity] = max(newest[entity], serial)
                if told.text != wanted and entity not in history.unclear and not history.renamed:
                    yield f"the pager hears {told.text} of {entity} {load:g}, not {wanted}"

    def _open_incidents_were_told(self, history: History) -> Iterator[str]:
        """The incidents that are open here are those that the pager was told of, without an end."""
        unclear = history.unclear if not history.renamed else {*history.open, *self.open_here}
        for entity in sorted((history.open.keys() ^ self.open_here) - unclear):
            here = "open" if entity in self.open_here else "not open"
            yield f"the incident of {entity} is {here} here, and the pager was told otherwise"
