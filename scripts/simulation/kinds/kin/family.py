"""What each place must hear of entities that depend on one another, in the words of docs/rules.md."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from scripts.simulation.kinds.job import Heard, Job
from scripts.simulation.world import World

WAIT_SECONDS = 30.0
UNSURE_SECONDS = 8.0
"""So shortly before or after its cause an alert that is due may have been on its way: a slow disk."""
SAME_SECONDS = 1.0
GROUP_OPENS, GROUP_ENDS = 4, 2


@dataclass(frozen=True, slots=True)
class Accepted:
    """A change as it was accepted: when it was received, and what it says. Times are seconds since 1970."""

    received_at: float
    at: float
    blueprint: str
    entity: str
    health: str
    relations: Mapping[str, str]
    found: bool
    moved: bool

    @classmethod
    def of(cls, received_at: int, body: bytes) -> Self:
        """Read it from what the store keeps; without `health` the entity is gone."""
        event = json.loads(body)
        event = event.get("event", event)
        before, after, context = event["diff"]["before"], event["diff"]["after"], event["context"]
        at = datetime.fromisoformat(event["trigger"]["at"].replace("Z", "+00:00")).timestamp()
        entity = context.get("entityIdentifier") or context.get("entity")
        blueprint = context.get("blueprintIdentifier") or context.get("blueprint")
        health = after["properties"].get("health", "") if after else ""
        relations = dict(after.get("relations") or {}) if after else {}
        # What changed in a webhook that was lost is not seen in the next one, but for what ends an incident.
        moved = health != (before["properties"].get("health") if before else None)
        return cls(received_at / 1e6, at, blueprint, entity, health, relations, "foundAt" in event, moved)


@dataclass(slots=True)
class Life:
    """An incident of a node, from its beginning to its end.

    Attributes:
        state: How the node is.
        due: When it is told, if nothing explains it.
        told: It was told, or is about to be since it is due.
        site: The site whose incident explains it; empty: none does.
        steps: What is told of it, with the time before which it is not.
        unsure: What explains it came when it was just due: it may have been told or not.
        zone: The group in which it counts.
        let_go: When nothing explained it any more.
    """

    state: str
    due: float
    told: bool = False
    site: str = ""
    steps: list[tuple[str, str, float]] = field(default_factory=list)
    unsure: bool = False
    zone: str = ""
    let_go: float = 0.0


class Family:
    """Replays what was accepted.

    Args:
        world: The world, at its end.
        jobs: Who hears, by the destination's name.
        accepted: What was accepted, in order.
        silenced: The sites that were silenced.
        quiet: Of what is open in the store in the end, by rule and entity, whether it is quiet.
    """

    def __init__(
        self,
        world: World,
        jobs: Mapping[str, Job],
        accepted: list[Accepted],
        silenced: set[str],
        quiet: Mapping[tuple[str, str], bool],
    ) -> None:
        self._world, self._accepted, self._silenced, self._quiet = world, accepted, silenced, quiet
        self._jobs = jobs
        self._heard: dict[tuple[str, str], list[Heard]] = defaultdict(list)
        for job in jobs.values():
            for heard in job.once():
                if not heard.alert["late"]:
                    self._heard[heard.alert["rule"], heard.alert["entity"]].append(heard)
        for told in self._heard.values():
            told.sort(key=lambda heard: heard.at)
        self._late = set[str]()
        """Entities of which a newer change was accepted first, so that one that says less may count."""
        last: dict[str, float] = {}
        for change in accepted:
            newest = last.get(change.entity, 0.0)
            if not change.found and change.at < newest:
                self._late.add(change.entity)
            last[change.entity] = max(change.at, newest)
        self._sites: dict[str, list[tuple[str, str, float]]] = defaultdict(list)
        self._open: dict[str, float] = {}
        self._lives: dict[str, list[Life]] = defaultdict(list)
        self._now: dict[str, Life] = {}
        self._on: dict[str, str] = {}
        self._groups: dict[str, list[str]] = defaultdict(list)
        self._counts: dict[str, int] = {}

    def ends(self, entities: Mapping[str, Any]) -> Iterator[str]:
        """What is well in the end was told to its end; what is not, and is explained by nothing, was told."""
        for name, entity in entities.items():
            rule = f"{entity.blueprint}-health"
            told = self._heard[rule, name]
            bad = not entity.gone and entity.health not in ("Up", "Healthy")
            is_open = bool(told) and told[-1].step != "resolved"
            if is_open and not bad and name not in self._silenced:
                yield f"{name} is well, and its end is never told"
            if not bad or (entity.blueprint == "site" and (name in self._silenced or rule != "node-health")):
                continue
            if name in self._late:
                continue
            if (rule, name) not in self._quiet:
                yield f"{name} is {entity.health}, and no incident is open"
                continue
            critical = entity.health == "Crashed" and entity.blueprint == "node"
            above = entity.relations.get("site") or entity.relations.get("needs")
            explained = (f"{'site' if 'site' in entity.relations else 'peer'}-health", above) in self._quiet
            if not is_open and (critical or not explained):
                yield f"{name} is {entity.health}, nothing explains it, and nobody is told"
            if is_open and told[-1].alert["state"] not in (entity.health, ""):
                yield f"{name} is {entity.health}, and the last told is {told[-1].alert['state']}"
        peers = [
            name for name, one in entities.items() if one.blueprint == "peer" and one.health != "Healthy"
        ]
        last = [told[-1].step for name in peers if (told := self._heard["peer-health", name])]
        if peers and all(step == "resolved" for step in last):
            yield f"of peers in a circle, {', '.join(peers)} fail, and nobody is told of any"

    def broken(self) -> Iterator[str]:
        """Judge all that was told, step by step."""
        if any(name.startswith("site") for name in self._late):
            return
        for change in self._accepted:
            if change.blueprint == "site":
                self._site(change)
            elif change.blueprint == "node":
                self._node(change)
        yield from self._nodes_are_told()
        yield from self._sites_are_told()
        if not self._late:
            yield from self._groups_are_told()

    def _site(self, change: Accepted) -> None:
        name, now = change.entity, change.received_at
        if change.health == "Down" and change.moved and name not in self._open:
            self._open[name] = now
            self._sites[name].append(("opened", "Down", now))
            for node, life in self._now.items():
                # Accepted together with the end of what explained it before, it stays quiet.
                life.unsure |= now - life.let_go < SAME_SECONDS
                if self._on[node] != name or life.told or life.site or life.state == "Crashed":
                    continue
                if abs(life.due - now) < self._margin(now):
                    life.unsure = True
                self._pass(life, now)
                life.site = "" if life.told else name
        elif change.health != "Down" and name in self._open:
            del self._open[name]
            self._sites[name].append(("resolved", change.health, now))
            for life in self._now.values():
                if life.site == name:
                    self._let_go(life, now)

    def _margin(self, now: float) -> float:
        wall = self._world.loop.wall().timestamp() - self._world.loop.time()
        away = any(since + wall - 10 < now < until + wall + 10 for since, until in self._world.away)
        return 65.0 if away else UNSURE_SECONDS

    def _pass(self, life: Life, now: float) -> None:
        """Let the time pass: what is due, and explained by nothing, is told."""
        if not life.told and not life.site and life.due <= now:
            life.told = True
            life.steps.append(("opened", life.state, life.due))

    def _let_go(self, life: Life, now: float) -> None:
        life.site, life.let_go = "", now
        life.due = max(life.due, now)
        self._pass(life, now)

    def _node(self, change: Accepted) -> None:
        name, now, life = change.entity, change.received_at, self._now.get(change.entity)
        if life is not None:
            if abs(life.due - now) < UNSURE_SECONDS and not life.told and change.health in ("", "Healthy"):
                life.unsure = True
            # Accepted together with the end of its cause, it is told as it is after both.
            life.unsure |= now - life.let_go < SAME_SECONDS
            self._pass(life, now)
        self._on[name] = change.relations.get("site", self._on.get(name, ""))
        zone = change.relations.get("zone", life.zone if life else "")
        if change.health in ("", "Healthy"):
            self._end(name, life, now)
            return
        if life is None:
            if not change.moved:
                return
            life = self._now[name] = Life(change.health, change.at + WAIT_SECONDS)
            self._lives[name].append(life)
            life.unsure = life.due <= now
        elif life.state != change.health and change.moved:
            life.state = change.health
            if life.told:
                life.steps.append(("changed", life.state, now))
        self._count(life, zone)
        if not life.told:
            self._explain(name, life, now)

    def _end(self, name: str, life: Life | None, now: float) -> None:
        if life is None:
            return
        if life.told:
            life.steps.append(("resolved", "", now))
        self._count(life, "")
        del self._now[name]

    def _explain(self, name: str, life: Life, now: float) -> None:
        """Let a life be told, or wait, or be quiet, by what is open above it."""
        if life.state == "Crashed":
            life.told, life.site = True, ""
            life.steps.append(("opened", life.state, 0.0))
            return
        site = self._on[name] if self._on[name] in self._open else ""
        if life.site and not site:
            self._let_go(life, now)
        life.site = site
        self._pass(life, now)

    def _count(self, life: Life, zone: str) -> None:
        for name, more in ((life.zone, -1), (zone, 1)):
            if not name:
                continue
            count = self._counts[name] = self._counts.get(name, 0) + more
            told = self._groups[name]
            is_open = bool(told) and told[-1] == "opened"
            if count >= GROUP_OPENS and not is_open:
                told.append("opened")
            elif count <= GROUP_ENDS and is_open:
                told.append("resolved")
        life.zone = zone

    def _nodes_are_told(self) -> Iterator[str]:
        end = self._world.loop.wall().timestamp()
        wall = end - self._world.loop.time()
        for name, lives in self._lives.items():
            for life in lives:
                self._pass(life, end) if self._now.get(name) is life else None
            heard = [
                (one.step, one.alert["state"] if one.step != "resolved" else "", one.at + wall)
                for one in self._heard["node-health", name]
            ]
            if name in self._late or any(life.unsure for life in lives):
                continue
            wanted = [
                (step, state if step != "resolved" else "", at)
                for life in lives
                for step, state, at in life.steps
            ]
            if [one[:2] for one in heard] != [one[:2] for one in wanted]:
                yield f"{name}: heard {_shown(heard, wall)}, not {_shown(wanted, wall)}"
                continue
            for (step, state, at), (_, _, soonest) in zip(heard, wanted, strict=True):
                if at < soonest - 0.1:
                    yield f"{name}: {step} {state} is told at {at - wall - 1000:.1f} s, too soon"

    def _sites_are_told(self) -> Iterator[str]:
        for name, wanted in self._sites.items():
            heard = [one.step for one in self._heard["site-health", name]]
            if name not in self._silenced and heard != [step for step, _, _ in wanted]:
                yield f"{name}: heard {heard}, not {[step for step, _, _ in wanted]}"

    def _groups_are_told(self) -> Iterator[str]:
        for name, count in self._counts.items():
            heard = [one.step for one in self._heard["zone-health", name] if one.step != "changed"]
            wanted = self._groups[name]
            alternates = all(step == ("opened", "resolved")[place % 2] for place, step in enumerate(heard))
            is_open = bool(heard) and heard[-1] == "opened"
            right = is_open if count >= GROUP_OPENS else not is_open if count <= GROUP_ENDS else True
            # Changes that are accepted together are counted together.
            if not alternates or not right or len(heard) > len(wanted):
                yield f"{name}: heard {heard}, not {wanted}; {count} are open"


def _shown(steps: list[tuple[str, str, float]], wall: float) -> str:
    return ", ".join(f"{step} {state} at {at - wall - 1000:.1f} s" for step, state, at in steps) or "nothing"
