"""Racks of pods: groups by a share whose members are quiet, of incidents that must last; feeds above them."""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from app.model.incident import Person
from app.store.actions import Action, Verb, act
from app.store.store import Store
from scripts.simulation.kinds.job import Heard, Job
from scripts.simulation.kinds.kin.family import Accepted
from scripts.simulation.world import World

if TYPE_CHECKING:
    from scripts.simulation.kinds.kin.graph import Entity

RACKS, PODS_OF_A_RACK, FEEDS = 2, 4, 2
OPENS, ENDS, LASTS_SECONDS = 2, 1, 10.0
SURE_SECONDS = 8.0
"""So long before and after its cause opened or ended an alert may have been on its way: a slow disk."""
RULES = """\
  - name: feed-health
    blueprint: feed
    on: [CREATE, UPDATE]
    when: {property: health, to: Down}
    resolve: {property: health, to: Up}
    send: feeds
  - name: pod-health
    blueprint: pod
    on: [CREATE, UPDATE]
    when: {property: health, to: {not: Healthy}, for: 10s}
    resolve: {property: health, to: Healthy}
    severity: {Crashed: critical}
    quiet_while: {relation: feeds, rule: feed-health}
    send: pods
  - name: rack-health
    of: pod-health
    by: {relation: rack}
    share: 50%
    until: 1
    members: quiet
    send: racks
"""
AMISS = {
    "ended incidents count": (
        "SELECT incident_id FROM incident_ties JOIN incidents ON id = incident_id"
        " WHERE resolved_at IS NOT NULL"
    ),
    "incidents are quiet under what has ended": (
        "SELECT below.id FROM incidents AS below LEFT JOIN incidents AS cause ON cause.id = below.quiet"
        " WHERE below.resolved_at IS NULL AND below.quiet IS NOT NULL"
        " AND (cause.id IS NULL OR cause.resolved_at IS NOT NULL)"
    ),
    "what alerts is not due": (
        "SELECT deliveries.id FROM deliveries JOIN incidents ON incidents.id = incident_id"
        " WHERE quiet IS NULL AND resolved_at IS NULL AND deliveries.state = 'pending'"
        " AND deliveries.due_at >= 9e16"
    ),
}
"""What must never be in the store."""


class Racks:
    """The racks, the feeds, and those who hear of them.

    Attributes:
        jobs: Who hears of them, by the destination's name.
        closed: The pods whose incident somebody closed by hand.
        open: How each incident is that is open in the end, by rule and entity: whether it is quiet.
        amiss: What is wrong in the store in the end.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.jobs = {name: Job(world, name.title()) for name in ("feeds", "pods", "racks")}
        self.closed: set[str] = set()
        self.open: dict[tuple[str, str], bool] = {}
        self.amiss: list[str] = []

    def entities(self) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
        """Yield the name, the blueprint, the health and the relations of each."""
        for number in range(FEEDS):
            yield f"feed-{number}", "feed", "Up", {}
        for number in range(RACKS * PODS_OF_A_RACK):
            feeds = [f"feed-{feed}" for feed in range(FEEDS) if feed <= number % FEEDS]
            yield f"pod-{number}", "pod", "Healthy", {"rack": f"rack-{number % RACKS}", "feeds": feeds}

    def events(self, entities: Mapping[str, "Entity"]) -> Iterator[tuple[float, "Entity", str]]:
        """Draw what happens to a rack: after how many seconds what becomes how."""
        random = self._world.chance.stream("rack")
        rack, lasts = f"rack-{random.randrange(RACKS)}", random.uniform(12, 60)
        pods = [one for one in entities.values() if one.relations.get("rack") == rack]
        for feed in range(FEEDS):
            if random.random() < 0.4:
                yield random.uniform(0, 15), entities[f"feed-{feed}"], "Down"
                yield lasts + random.uniform(-8, 15), entities[f"feed-{feed}"], "Up"
        for pod in random.sample(pods, random.randint(1, len(pods))):
            yield random.uniform(0, 12), pod, random.choice(["Degraded", "Slow", "Crashed"])
            if random.random() < 0.3:
                yield random.uniform(5, lasts), pod, random.choice(["Degraded", "Healthy", "Crashed"])
            if random.random() < 0.85:
                yield lasts + random.uniform(0, 12), pod, "Healthy"

    def people(self) -> None:
        """Let somebody acknowledge what explains others, or close what is counted."""
        chance = self._world.chance
        wishes: list[tuple[Verb, str, str]] = []
        if chance.strikes("cause_acknowledged"):
            cause = chance.stream("cause").choice(["site-0", "feed-0", "feed-1", "rack-0"])
            wishes.append(("acknowledge", f"{cause.partition('-')[0]}-health", cause))
        if chance.strikes("member_closed"):
            pod = f"pod-{chance.stream('member').randrange(RACKS * PODS_OF_A_RACK)}"
            wishes.append(("close", "pod-health", pod))
        ready = [listener for listener in self._world.listeners if listener.runtime is not None]
        for verb, rule, entity in wishes if ready else ():
            process, runtime = ready[0].process, ready[0].runtime
            if process is not None and runtime is not None:
                self.closed |= {entity} if verb == "close" else set()
                self._world.say(f"somebody wants to {verb} {rule} of {entity}")
                wish = Action(f"{verb} {entity} {self._world.loop.time()}", verb, "", Person("ada", "page"))
                process.start(_do(runtime.store, wish, rule, entity))

    def look(self, store: sqlite3.Connection) -> None:
        """Note what is open in the end, and what is wrong in the store."""
        rows = store.execute(
            "SELECT rule, entity, quiet IS NOT NULL FROM incidents WHERE resolved_at IS NULL"
        )
        self.open = {(rule, entity): bool(quiet) for rule, entity, quiet in rows}
        self.amiss = [
            f"{what}: {[name for (name,) in wrong]}"
            for what, query in AMISS.items()
            if (wrong := store.execute(query).fetchall())
        ]

    def broken(self, entities: Iterable["Entity"], accepted: Sequence[Accepted]) -> Iterator[str]:
        """Judge what was told of them."""
        yield from self.amiss
        heard: dict[tuple[str, str], list[Heard]] = {}
        for told in (one for job in self.jobs.values() for one in job.once() if not one.alert["late"]):
            heard.setdefault((told.alert["rule"], told.alert["entity"]), []).append(told)
        yield from self._told_as_stored(heard)
        yield from self._stored_as_it_is(entities)
        if not self._world.jumps:
            yield from self._told_though_explained(heard, accepted)

    def _told_as_stored(self, heard: Mapping[tuple[str, str], Sequence[Heard]]) -> Iterator[str]:
        """What is open and not quiet was told, and all else that was told was told to its end."""
        for key, several in heard.items():
            steps = [one.step for one in several if one.step != "changed"]
            if any(step != ("opened", "resolved")[place % 2] for place, step in enumerate(steps)):
                yield f"{key[1]}: heard {steps}"
            if (steps[-1:] == ["opened"]) != (key in self.open and not self.open[key]):
                yield f"{key[1]}: heard {steps}; open is {key in self.open}, quiet {self.open.get(key)}"
        for key, quiet in self.open.items():
            if key[0] in ("pod-health", "rack-health", "feed-health") and not quiet and key not in heard:
                yield f"{key[1]} is open, and nobody is told"

    def _stored_as_it_is(self, entities: Iterable["Entity"]) -> Iterator[str]:
        """What is not well is open, and a group is if so many are."""
        counts: dict[str, int] = {}
        for one in entities:
            is_open = (f"{one.blueprint}-health", one.name) in self.open
            bad = one.health not in ("Up", "Healthy")
            if bad != is_open and not (bad and one.name in self.closed):
                yield f"{one.name} is {one.health}, and {'an' if is_open else 'no'} incident is open"
            if rack := one.relations.get("rack"):
                counts[rack] = counts.get(rack, 0) + is_open
        for rack, count in counts.items():
            is_open = ("rack-health", rack) in self.open
            if (is_open and count <= ENDS) or (not is_open and count >= OPENS):
                yield f"{rack}: {count} are open, and {'an' if is_open else 'no'} incident of it"

    def _told_though_explained(
        self, heard: Mapping[tuple[str, str], Sequence[Heard]], accepted: Sequence[Accepted]
    ) -> Iterator[str]:
        """Nobody was alerted of a pod that is not critical while a feed of it was down, or its rack open."""
        spans = self._feeds_down(accepted) | self._racks_open(heard)
        wall = self._world.loop.wall().timestamp() - self._world.loop.time()
        for (rule, pod), told in heard.items():
            if rule != "pod-health":
                continue
            number = int(pod.partition("-")[2])
            above = [f"feed-{feed}" for feed in range(FEEDS) if feed <= number % FEEDS]
            for one in told:
                opened_at = datetime.fromisoformat(one.alert["opened_at"]).timestamp() - wall
                if one.step != "opened" or one.alert["severity"] == "critical":
                    continue
                for name in (*above, f"rack-{number % RACKS}"):
                    if any(since < opened_at and one.at < until for since, until in spans.get(name, ())):
                        yield f"{pod} is told at {one.at - 1000:.1f} s, though {name} has an incident"

    def _feeds_down(self, accepted: Sequence[Accepted]) -> dict[str, list[tuple[float, float]]]:
        """List from when to when each feed was certainly down."""
        wall = self._world.loop.wall().timestamp() - self._world.loop.time()
        down: dict[str, list[tuple[float, float]]] = {}
        newest: dict[str, float] = {}
        for change in accepted:
            if change.at < newest.get(change.entity, change.at):
                continue  # it came late: it is news of how it was
            newest[change.entity] = change.at
            spans, at = down.setdefault(change.entity, []), change.received_at - wall
            is_down = bool(spans) and spans[-1][1] == float("inf")
            if change.health == "Down" and not is_down:
                spans.append((at + SURE_SECONDS, float("inf")))
            elif change.health != "Down" and is_down:
                spans[-1] = spans[-1][0], at - SURE_SECONDS
        return down

    def _racks_open(
        self, heard: Mapping[tuple[str, str], Sequence[Heard]]
    ) -> dict[str, list[tuple[float, float]]]:
        """List from when to when what opened in each rack was certainly quiet, as what opened it was."""
        wall = self._world.loop.wall().timestamp() - self._world.loop.time()
        open_: dict[str, list[tuple[float, float]]] = {}
        for (rule, rack), told in heard.items():
            for one in told if rule == "rack-health" else ():
                spans = open_.setdefault(rack, [])
                if one.step == "opened":
                    spans.append((one.at - LASTS_SECONDS + 1, float("inf")))
                elif one.step == "resolved" and spans:
                    ended_at = datetime.fromisoformat(one.alert["at"]).timestamp() - wall
                    spans[-1] = spans[-1][0], ended_at - SURE_SECONDS
        return open_


async def _do(store: Store, wish: Action, rule: str, entity: str) -> None:
    rows = await store.read(_open_ones)
    for name, about, whose in rows:
        if (about, whose) == (rule, entity):
            await store.write(act, Action(wish.id, wish.verb, name, wish.by), store.clock())


async def _open_ones(tx: Any) -> Any:
    return await tx.fetch("SELECT id, rule, entity FROM incidents WHERE resolved_at IS NULL")
