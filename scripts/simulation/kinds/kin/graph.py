"""Entities that depend on one another: sites with nodes on them, zones of nodes, peers in a circle."""

import asyncio
import base64
import hmac
import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar

from app.model.silence import Silence
from app.store import queries
from app.store.store import Store
from scripts.simulation.clock import Process
from scripts.simulation.history import History
from scripts.simulation.kinds.job import Job
from scripts.simulation.kinds.kin.family import Accepted, Family
from scripts.simulation.kinds.kin.racks import RULES as RACK_RULES
from scripts.simulation.kinds.kin.racks import Racks
from scripts.simulation.kinds.kind import Kind
from scripts.simulation.listener import Listener
from scripts.simulation.network import Serve
from scripts.simulation.port import SECRET, iso
from scripts.simulation.world import World

SITES, NODES, TEAMS, ZONES, PEERS = 3, 12, 4, 2, 4
LARGE = 0.03
"""How many nights have one site with 300 nodes, of 40 teams."""
FAILS_WITHIN_SECONDS = 20.0
WELL = {"site": "Up", "node": "Healthy", "peer": "Healthy", "feed": "Up", "pod": "Healthy"}
RULES = """\
  - name: node-health
    blueprint: node
    on: [CREATE, UPDATE]
    when: {property: health, to: {not: Healthy}}
    resolve: {property: health, to: Healthy}
    severity: {Crashed: critical}
    send: {by_team: {%s}, default: platform}
  - name: zone-health
    of: node-health
    by: {relation: zone}
    at_least: 4
    until: 2
    send: zones
  - name: peer-health
    blueprint: peer
    on: [CREATE, UPDATE]
    when: {property: health, to: {not: Healthy}}
    resolve: {property: health, to: Healthy}
    quiet_while: {relation: needs, rule: peer-health%s}
    send: peers
"""
QUIET = "    quiet_while: {relation: site, rule: site-health, wait: 30s}\n"
SITE_RULE = """\
  - name: site-health
    blueprint: site
    on: [CREATE, UPDATE]
    when: {property: health, to: Down}
    resolve: {property: health, to: Up}
    send: platform
"""


@dataclass(slots=True)
class Entity:
    """An entity as it is in Port: what it is, how it is, whom it depends on, and since when."""

    name: str
    blueprint: str
    health: str
    relations: dict[str, Any]
    at: float
    team: str = ""
    gone: bool = False


class Graph(Kind):
    """The entities, those who hear of them, and what happens to them.

    Attributes:
        all: The entities, by name.
        jobs: Who hears of them, by the destination's name.
        accepted: The changes in the order in which they were accepted, as the store has them.
        quiet: Of the incidents that are open in the end, by rule and entity, whether they are quiet.
        written: When the rules about sites were removed, and when they came back; seconds of the loop.
        silenced: The sites that were silenced, ever.
    """

    name = "graph"
    faults: ClassVar = {
        "site_fails": 0.5,  # every half minute: a site, and most of its nodes
        "node_fails": 0.5,
        "graph_lost": 0.03,  # a webhook that is not sent
        "graph_twice": 0.05,
        "node_moves": 0.3,  # to another site, or another zone
        "node_deleted": 0.05,
        "site_deleted": 0.05,
        "site_silenced": 0.05,
        "site_rule_removed": 0.02,  # for some seconds
        "rack_fails": 0.5,  # some of its pods, and perhaps their feeds
        "cause_acknowledged": 0.2,
        "member_closed": 0.1,  # by hand
        "sites_heal": 0.5,  # in the end, all of them
        "peers_fail": 0.4,  # in the end, all that are well
    }

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.large = world.chance.stream("graph size").random() < LARGE
        sites, nodes, self.teams = (1, 300, 40) if self.large else (SITES, NODES, TEAMS)
        self.jobs = {name: Job(world, name.title()) for name in ("platform", "zones", "peers")}
        self.jobs |= {f"team-{number}": Job(world, f"Team-{number}") for number in range(self.teams)}
        self.racks = Racks(world)
        digests = world.chance.stream("graph digests")
        self._summed_up = {name: digests.random() < 0.5 for name in self.jobs | self.racks.jobs}
        self.accepted: list[Accepted] = []
        self.quiet: dict[tuple[str, str], bool] = {}
        self.written: list[float] = []
        self.silenced: set[str] = set()
        self.all: dict[str, Entity] = {}
        self._has_rule, self._works = True, list[asyncio.Task[None]]()
        self._peers_wait = ", wait: 20s" if world.chance.stream("circle waits").random() > 0.5 else ""
        at = world.loop.time()
        for number in range(sites):
            self._add(Entity(f"site-{number}", "site", "Up", {}, at))
        for number in range(nodes):
            relations = {"site": f"site-{number % sites}", "zone": f"zone-{number % ZONES}"}
            team = f"T{number % self.teams}"
            self._add(Entity(f"node-{number}", "node", "Healthy", relations, at, team))
        for number in range(PEERS):
            self._add(
                Entity(f"peer-{number}", "peer", "Healthy", {"needs": f"peer-{(number + 1) % PEERS}"}, at)
            )
        for name, blueprint, health, of in self.racks.entities():
            self._add(Entity(name, blueprint, health, of, at))

    def _add(self, entity: Entity) -> None:
        self.all[entity.name] = entity

    def hosts(self) -> Mapping[str, Serve]:
        """Serve those who hear."""
        return {f"{name}.sim": job.serve for name, job in (self.jobs | self.racks.jobs).items()}

    def rules(self) -> Mapping[str, str]:
        """Give the rules and their destinations."""
        steps = "steps: [opened, changed, resolved]"
        facts = (steps, f"{steps}, digest: true, queues: 1")
        jobs = [
            f'  {name}: {{type: http, url: "http://{name}.sim/", {facts[summed_up]}}}\n'
            for name, summed_up in self._summed_up.items()
        ]
        teams = ", ".join(f"T{number}: team-{number}" for number in range(self.teams))
        rules = RULES % (teams, self._peers_wait)
        if self._has_rule:
            place = rules.index("    send:")
            rules = SITE_RULE + rules[:place] + QUIET + rules[place:]
        return {"destinations": "".join(jobs), "rules": rules + RACK_RULES}

    def entities(self, blueprint: str) -> list[dict[str, Any]] | None:
        """List what there is of a blueprint."""
        if blueprint not in WELL:
            return None
        return [
            self._snapshot(entity) | {"updatedAt": iso(self._world, entity.at)}
            for entity in self.all.values()
            if entity.blueprint == blueprint and not entity.gone
        ]

    def _snapshot(self, entity: Entity) -> dict[str, Any]:
        return {
            "identifier": entity.name,
            "title": entity.name,
            "blueprint": entity.blueprint,
            "team": [entity.team] if entity.team else [],
            "properties": {"health": entity.health},
            "relations": {**entity.relations},
        }

    def disturb_world(self) -> None:
        """Let sites and nodes fail and heal, relations move, and the operator do what he does."""
        chance = self._world.chance
        random = chance.stream("graph")
        # All is drawn before it is known whether it happens, so that muting one leaves the others.
        site = random.choice([one for one in self.all.values() if one.blueprint == "site"])
        alone = random.choice([one for one in self.all.values() if one.blueprint in ("node", "peer")])
        if chance.strikes("site_fails") and site.health == "Up" and not site.gone:
            self._start(self._fail(site))
        if chance.strikes("node_fails"):
            self._start(self._fail_alone(alone))
        if chance.strikes("site_rule_removed") and self._has_rule:
            self._start(self._without_rule())
        if chance.strikes("rack_fails"):
            self._start(self._let_happen([(*event, {}) for event in self.racks.events(self.all)]))
        self.racks.people()

    def _start(self, work: Any) -> None:
        self._works.append(asyncio.ensure_future(work))

    async def _fail(self, site: Entity) -> None:
        """Let a site and most of its nodes fail, in any order, and heal so."""
        chance, random = self._world.chance, self._world.chance.stream("site")
        nodes = [one for one in self.all.values() if one.relations.get("site") == site.name]
        lasts = random.uniform(25, 90)
        events: list[tuple[float, Entity, str, dict[str, str]]] = []
        events.append((random.uniform(0, FAILS_WITHIN_SECONDS), site, "Down", {}))
        ends = "gone" if chance.strikes("site_deleted") else "Up"
        events.append((lasts + random.uniform(0, FAILS_WITHIN_SECONDS), site, ends, {}))
        for node in nodes:
            if random.random() > 0.8:
                continue
            state = random.choice(["Degraded", "Degraded", "Slow", "Crashed"])
            events.append((random.uniform(0, FAILS_WITHIN_SECONDS), node, state, {}))
            if random.random() < 0.2:
                later = random.uniform(FAILS_WITHIN_SECONDS, lasts)
                events.append((later, node, random.choice(["Degraded", "Slow", "Crashed"]), {}))
            if chance.strikes("node_moves"):
                at = random.uniform(0, lasts)
                events.append((at, node, "", self._other(random.choice(["site", "zone"]), random)))
            if random.random() < 0.85:
                ends = "gone" if chance.strikes("node_deleted") else "Healthy"
                events.append((lasts + random.uniform(0, FAILS_WITHIN_SECONDS), node, ends, {}))
        if chance.strikes("site_silenced"):
            self._silence(site)
        await self._let_happen(events)

    async def _let_happen(self, events: list[tuple[float, Entity, str, dict[str, str]]]) -> None:
        began = self._world.loop.time()
        for after, entity, health, relations in sorted(events, key=lambda event: event[:1]):
            await asyncio.sleep(max(0.0, began + after - self._world.loop.time()))
            self._happen(entity, health, relations)

    def _other(self, relation: str, random: Any) -> dict[str, str]:
        number = SITES if relation == "site" and not self.large else 1 if relation == "site" else ZONES
        return {relation: f"{relation}-{random.randrange(number)}"}

    async def _fail_alone(self, entity: Entity) -> None:
        """Let an entity fail and heal; of peers, which depend on each other in a circle, all."""
        random = self._world.chance.stream("alone")
        entities = [entity]
        if entity.blueprint == "peer":
            entities = random.sample([one for one in self.all.values() if one.blueprint == "peer"], PEERS)
        for one in entities:
            self._happen(one, random.choice(["Degraded", "Slow", "Crashed"]), {})
            await asyncio.sleep(random.uniform(0.1, 5))
        await asyncio.sleep(random.uniform(5, 80))
        for one in entities[random.choice([0, 0, 1]) :]:
            self._happen(one, "Healthy", {})

    async def _without_rule(self) -> None:
        for self._has_rule in (False, True):
            self.written.append(self._world.loop.time())
            self._world.write_rules()
            await asyncio.sleep(self._world.chance.between("without site rule", 10, 60))

    def _silence(self, site: Entity) -> None:
        ready = [listener for listener in self._world.listeners if listener.runtime is not None]
        for listener in ready[:1]:
            if listener.process is not None and listener.runtime is not None:
                self.silenced.add(site.name)
                self._world.say(f"somebody silences {site.name}")
                listener.process.start(_silence(listener.runtime.store, site.name))

    def _happen(self, entity: Entity, health: str, relations: Mapping[str, str]) -> None:
        """Let an entity change, unless it is so already; one that is gone is created again."""
        before = None if entity.gone else self._snapshot(entity)
        if entity.gone:
            health = "" if health == "gone" else WELL[entity.blueprint]
        now = self._world.loop.time()
        if (health or entity.health) == entity.health and not entity.gone:
            relations = {key: value for key, value in relations.items() if entity.relations[key] != value}
            if not relations:
                return
        elif entity.gone and not health:
            return
        entity.gone, entity.at = health == "gone", max(now, entity.at + 0.002)
        entity.health = WELL[entity.blueprint] if entity.gone else health or entity.health
        entity.relations |= relations
        after = None if entity.gone else self._snapshot(entity)
        action = "DELETE" if after is None else "UPDATE" if before else "CREATE"
        said = f"{entity.health} {entity.relations}" if after else ""
        self._world.say(f"Port: {action} {entity.name} {said}")
        chance = self._world.chance
        if chance.strikes("graph_lost"):
            self._world.say(f"Port: sends no webhook of {entity.name}")
            return
        event = {
            "action": action,
            "resourceType": "entity",
            "trigger": {"by": {"userId": "u1"}, "origin": "UI", "at": iso(self._world, entity.at)},
            "context": {"blueprintIdentifier": entity.blueprint, "entityIdentifier": entity.name},
            "diff": {"before": before, "after": after},
        }
        body = json.dumps({"event": event}).encode()
        for _ in range(2 if chance.strikes("graph_twice") else 1):
            self._start(self._send(body, chance.between("graph webhook", 0.01, 0.3)))

    async def _send(self, body: bytes, delay: float) -> None:
        await asyncio.sleep(delay)
        stamp = str(int(self._world.loop.wall().timestamp()))
        signature = hmac.digest(SECRET.encode(), stamp.encode() + b"." + body, "sha256")
        headers = {"x-port-timestamp": stamp}
        headers["x-port-signature"] = "v1," + base64.b64encode(signature).decode()
        listeners = self._world.listeners
        ready = [listener for listener in listeners if listener.runtime is not None]
        listener = self._world.chance.stream("graph balance").choice(ready or listeners)
        status = await listener.post(body, headers)
        if status not in (202, 503, None) and not (status == 401 and self._world.clock_was_off()):
            self._world.refused.append(f"a webhook of {body[:80]!r} was answered {status}")

    def disturb(self, listener: Listener, process: Process) -> bool:
        """Disturb no process."""
        del listener, process
        return False

    def mend(self) -> None:
        """Let what happens come to an end; in some nights all heals, in others much stays as it is."""
        for work in self._works:
            work.cancel()
        chance = self._world.chance
        if not self._has_rule:
            self._has_rule = True
            self.written.append(self._world.loop.time())
            self._world.write_rules()
        if chance.stream("sites heal").random() < self.faults["sites_heal"]:
            for entity in self.all.values():
                if entity.blueprint in ("site", "feed"):
                    self._happen(entity, "Up", {})
        if chance.stream("peers fail").random() < self.faults["peers_fail"]:
            for entity in self.all.values():
                if entity.blueprint == "peer":
                    self._happen(entity, "Slow" if entity.health == "Healthy" else "", {})

    def settled_at(self) -> float:
        """Give when what waits has been told."""
        return max(entity.at for entity in self.all.values()) + 60

    def look(self, store: sqlite3.Connection) -> None:
        """Note which changes were accepted, and what is open in the end."""
        rows = store.execute("SELECT received_at, body FROM changes WHERE blueprint <> 'service' ORDER BY id")
        self.accepted = [Accepted.of(received_at, body) for received_at, body in rows]
        rows = store.execute(
            "SELECT rule, entity, quiet IS NOT NULL FROM incidents WHERE resolved_at IS NULL"
            " AND rule IN ('site-health', 'node-health', 'zone-health', 'peer-health')"
        )
        self.quiet = {(rule, entity): bool(quiet) for rule, entity, quiet in rows}
        self.racks.look(store)

    def broken(self, history: History) -> Iterator[str]:
        """Judge what was told of them."""
        del history
        family = Family(self._world, self.jobs, self.accepted, self.silenced, self.quiet)
        others = [one for one in self.all.values() if one.blueprint in ("feed", "pod")]
        for job in (self.jobs | self.racks.jobs).values():
            yield from job.digests()
        yield from self.racks.broken(others, self.accepted)
        yield from family.ends({name: entity for name, entity in self.all.items() if entity not in others})
        if not self._world.jumps and not self.written:
            yield from family.broken()


async def _silence(store: Store, site: str) -> None:
    now = store.clock()
    silence = Silence("*", "site", site, "*", now, now + timedelta(minutes=2), "operator", "test")
    await store.write(queries.silences.add, silence)
