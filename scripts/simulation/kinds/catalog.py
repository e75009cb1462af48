"""Channels that the catalog names: as properties of entities, of teams, or of what an entity belongs to."""

import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from scripts.simulation.history import OLD_RULES_SECONDS, History
from scripts.simulation.kinds.channels import Channels
from scripts.simulation.kinds.homes import HOMES, LEADS, Homes
from scripts.simulation.kinds.job import Heard, Job
from scripts.simulation.kinds.kind import Kind
from scripts.simulation.network import Reply, Serve
from scripts.simulation.world import Change, World

LOBBY, ATTIC = "lobby", "attic"
OF = {
    "property": '"{{ .diff.after.properties.home }}"',
    "team": "{port: {team: true, property: home}}",
    "relation": "{port: {relation: system, property: home}}",
}
RULE = """\
  - name: owned
    blueprint: service
    when: {property: load, above: 50}
    resolve: {property: load, below: 50}
    send: [owners, register]
"""
SAID_AFTER_SECONDS = 60.0


class Catalog(Kind):
    """The channels, what names them, and a program that is told of each step as they are.

    Attributes:
        register: The program.
        homes: The channels, and what names them.
        dead: What was given up.
    """

    name = "catalog"
    faults: ClassVar = {
        "home_moves": 0.15,  # with a change: the entity names another channel, or belongs to another system
        "home_changes": 0.6,  # a team, or a system, names another one
        "home_archived": 0.3,  # for some minutes
        "home_left": 0.2,  # the app is taken out of a channel, and comes back
        "home_renamed": 0.3,  # and another channel may get its name
        "lobby_archived": 0.1,
        "port_answers_late": 0.1,
        "port_answers_wrong": 0.06,
    }
    channels: ClassVar = {**HOMES, LOBBY: "C000000LB", ATTIC: "C000000AT"}
    by_token: frozenset[str] = frozenset(channels)
    destinations = (LOBBY,)

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._random = world.chance.stream("catalog")
        self.homes = Homes(world, self._random.choice([*OF]))
        self._taken_over = self._random.random() < 0.5
        if self._taken_over:
            # Whether something has arrived is asked where the last message went: that may be the old channel.
            self.by_token = frozenset({"home-c", LOBBY, ATTIC})
        self.register = Job(world, "Register")
        of = ("Rocket", "Star", "Nova") if self.homes.way == "team" else ("system-0", "system-1")
        self.homes.named |= {name: [(0.0, self._drawn())] for name in of}
        self.dead: list[str] = []

    def _drawn(self) -> Any:
        """Draw what the catalog says: mostly it names a channel."""
        values = [*LEADS]
        return self._random.choice(values[:4] if self._random.random() < 0.75 else values[4:])

    def hosts(self) -> Mapping[str, Serve]:
        """Serve the register."""
        return {"register.sim": self.register.serve}

    def rules(self) -> Mapping[str, str]:
        """Give the rule and its destinations."""
        allow = 'allow: ["home-*", "C000000H?"]'
        steps = "[opened, changed, resolved]"
        return {
            "destinations": f"""\
  owners: {{type: slack, channel: {OF[self.homes.way]}, {allow}, default: {LOBBY}, fallback: {ATTIC}}}
  {LOBBY}: {{type: slack, channel: {self.channels[LOBBY]}, fallback: {ATTIC}}}
  {ATTIC}: {{type: slack, channel: {self.channels[ATTIC]}}}
  register: {{type: http, url: "http://register.sim/", steps: {steps}}}
""",
            "rules": RULE,
        }

    def changed(self, before: Change | None, after: Change) -> None:
        """Let an entity name another channel, or belong to another system."""
        kept = before is not None and not self._world.chance.strikes("home_moves")
        home, system = self._drawn(), self._random.choice(["system-0", "system-1"])
        self.homes.homes[after.load] = self.homes.homes[before.load] if before and kept else home
        self.homes.systems[after.load] = self.homes.systems[before.load] if before and kept else system

    def snapshot(self, change: Change) -> Mapping[str, Any]:
        """Give what an entity says of its channel."""
        if self.homes.way == "team":
            return {}
        if self.homes.way == "relation":
            return {"relations": {"system": self.homes.systems[change.load]}}
        home = self.homes.homes[change.load]
        return {"properties": {"home": home}} if home is not None else {}

    def answer(self, path: list[str]) -> Reply | None:
        """Answer what Port is asked of teams, of systems, and of the relation to them."""
        match path:
            case ["blueprints", "service"] if self.homes.way == "relation":
                schema = {"properties": {"load": {"type": "number"}, "home": {"type": "string"}}}
                relations = {"system": {"target": "system", "many": False, "required": False}}
                blueprint = {"identifier": "service", "schema": schema, "relations": relations}
                reply = Reply(200, {"ok": True, "blueprint": blueprint})
            case ["blueprints", "_team" | "system" as blueprint, "entities", identifier]:
                home = self.homes.named[identifier][-1][1]
                properties = {"home": home} if home is not None else {}
                entity = {"identifier": identifier, "blueprint": blueprint, "properties": properties}
                reply = Reply(200, {"ok": True, "entity": entity})
            case _:
                return None
        chance, now = self._world.chance, self._world.loop.time()
        if chance.strikes("port_answers_late"):
            reply.after_seconds = chance.between("port_answers_late by", 0.5, 5)
            self._world.port_away.append(now)
        if chance.strikes("port_answers_wrong"):
            wrong: tuple[Any, ...] = (
                {"ok": True},
                {"ok": True, "entity": {"properties": []}},
                "<html>Sign in</html>",
                [],
            )
            reply.body = chance.stream("port_answers_wrong how").choice(wrong)
            self._world.port_away.append(now)
        return reply

    def disturb_world(self) -> None:
        """Let other channels be named, and channels be archived, left and renamed."""
        chance, random = self._world.chance, self._random
        # All is drawn before it is known whether it happens, so that muting one leaves the others.
        of, home, name = (
            random.choice([*self.homes.named]),
            self._drawn(),
            random.choice(["home-a", "home-b"]),
        )
        closed = random.choice(["home-a", "home-b", "home-c"])
        if chance.strikes("home_changes"):
            self.homes.named[of].append((self._world.loop.time(), home))
            self._world.say(f"Port: {of} names {home!r} as its channel")
        if chance.strikes("home_archived"):
            self._close(closed)
        if chance.strikes("home_left"):
            self._close(closed, left=True)
        if chance.strikes("lobby_archived"):
            self._close(LOBBY)
        if chance.strikes("home_renamed"):
            self._rename(name)

    def _close(self, name: str, *, left: bool = False) -> None:
        channel, loop = self._world.kind(Channels).slack.channels[name], self._world.loop
        if channel.archived or channel.left:
            return
        channel.archived, channel.left = not left, left
        self.homes.closed.append((name, loop.time(), float("inf")))
        self._world.say(f"Slack: somebody {'takes the app out of' if left else 'archives'} #{name}")
        loop.call_later(self._world.chance.between("closed for", 5, 120), self._open, name)

    def _open(self, name: str) -> None:
        channel = self._world.kind(Channels).slack.channels[name]
        if channel.archived or channel.left:
            channel.archived = channel.left = False
            since = max(since for closed, since, _ in self.homes.closed if closed == name)
            self.homes.closed.remove((name, since, float("inf")))
            self.homes.closed.append((name, since, self._world.loop.time()))
            self._world.say(f"Slack: #{name} is back")

    def _rename(self, name: str) -> None:
        """Give a channel another name, in some nights its own to another; or each its own again."""
        channels = self._world.kind(Channels).slack.channels
        renamed = any(channels[home].shown_as for home in HOMES)
        for home in HOMES:
            channels[home].shown_as = ""
        if not renamed:
            channels[name].shown_as = f"{name}-old"
            channels["home-spare"].shown_as = name if self._taken_over else ""
        called = {channels[home].shown_as or home: home for home in HOMES}
        self.homes.called.append((self._world.loop.time(), called))
        self._world.say(f"Slack: channels are called {called}")

    def mend(self) -> None:
        """Let the app post to all channels."""
        for name in self.channels:
            self._open(name)

    def look(self, store: sqlite3.Connection) -> None:
        """Note what was given up, though nothing was lost when it was to be updated."""
        rows = store.execute(
            "SELECT queue, step FROM deliveries"
            " WHERE state = 'dead' AND message_id IS NULL AND rule = 'owned'"
        )
        self.dead = [f"{step} for {queue} is given up" for queue, step in rows]

    def broken(self, history: History) -> Iterator[str]:
        """Judge where each alert was told."""
        yield from self.dead
        incidents: dict[str, list[Heard]] = {}
        for heard in self.register.once():
            if heard.load in self._world.changes:
                incidents.setdefault(heard.incident, []).append(heard)
        stories: dict[float, list[Change]] = {}
        for several in incidents.values():
            begun: list[Change] = []
            for place, heard in enumerate(several):
                change = self._world.changes[heard.load]
                stories[change.load] = [self._world.changes[one.load] for one in several[: place + 1]]
                begun.append(change)
                if heard.step == "opened":
                    yield from self._told_where_it_is_named(history, stories[change.load])
                elif heard.step == "resolved":  # it may open again, and be told elsewhere
                    yield from self._told_to_the_end(history, begun)
                    begun = []
        yield from self._nothing_elsewhere(history, stories)
        yield from self._holds()

    def _told_where_it_is_named(self, history: History, story: list[Change]) -> Iterator[str]:
        """What opens is told where the catalog says, where it was told before, or by default."""
        change = story[-1]
        if history.kept_back(change) or change.entity in history.unclear:
            return
        places = {place for one in story for place in self.homes.places(history, one, float("inf"))}
        if not history.has_heard({*places, LOBBY}, change):
            yield f"nobody of {sorted(places) or LOBBY} is told of {change.shown}, as the catalog names them"

    def _told_to_the_end(self, history: History, changes: list[Change]) -> Iterator[str]:
        """Each channel that was told of an incident is told its end, also after it was renamed."""
        end = changes[-1]
        if end.entity in history.unclear or history.kept_back(changes[0]):
            return
        values = {change.load for change in changes[:-1]}
        for place in (*HOMES, LOBBY):
            told = [one for load, one in history.heard[place, end.entity] if load in values]
            if not told:
                continue
            # It is not known that it was told there, and where it was may have another name by now.
            if len(self.homes.called) > 1 and all(history.may_be_repeated(one) for one in told):
                continue
            first = min(one.at for one in told)
            instead = {LOBBY} if self.homes.is_closed(place, first, float("inf")) else set[str]()
            if not history.has_heard({place, *instead}, end):
                yield f"#{place} was told of {changes[0].shown}, not of its end, {end.shown}"

    def _nothing_elsewhere(self, history: History, stories: Mapping[float, list[Change]]) -> Iterator[str]:
        """Only the channels are told that the catalog names; the default only if that leads nowhere."""
        for (place, entity), heard in history.heard.items():
            if place not in self.channels or place == ATTIC or entity in history.unclear:
                continue
            for load, told in heard:
                if (change := self._world.changes.get(load)) is None:
                    continue
                story = stories.get(load) or self._all_before(change)
                if place == LOBBY:
                    if not any(self.homes.leads_nowhere(history, one, told) for one in story):
                        yield f"#{LOBBY} is told of {change.shown}, which the catalog leads elsewhere"
                elif not any(place in self.homes.places(history, one, told.at) for one in story):
                    yield f"#{place} is told of {change.shown}, which the catalog leads elsewhere"

    def _all_before(self, change: Change) -> list[Change]:
        """List a change of which the register says nothing, and those before it."""
        return [
            one
            for one in self._world.changes.values()
            if one.entity == change.entity and one.serial <= change.serial
        ]

    def _holds(self) -> Iterator[str]:
        """No channel of the catalog is on hold; of the default, which can be, its fallback hears."""
        world = self._world
        said = [told.text for told in world.told if told.place == ATTIC]
        for text in said:
            if "Destination owners is on hold" in text:
                yield f"what the catalog names is on hold: {text[:150]}"
        is_said = any(f"Destination {LOBBY} is on hold" in text for text in said)
        for at, place, process in world.holds:
            troubled = any(at - OLD_RULES_SECONDS < one < at + SAID_AFTER_SECONDS for one in process.troubles)
            if place == LOBBY and not troubled and not is_said:
                yield f"#{ATTIC} never hears that {LOBBY} is on hold"
