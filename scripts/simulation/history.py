"""What the oracle knows: what was told where, in which order, and what the rules said at a time."""

from collections import Counter, defaultdict
from collections.abc import Collection
from itertools import pairwise

from scripts.simulation.clock import Process
from scripts.simulation.port import ENTITIES
from scripts.simulation.world import FALLBACK, PAGER, Change, Table, Told, World

WELL_BELOW = 50
NOTICED_SECONDS = 45.0
"""How long before a refusal a trouble of its process may have been the reason that nobody hears of it."""
OLD_RULES_SECONDS = 70.0
"""How long a process may go by the rules file before: it was frozen, or has just read it."""
NOTED_SECONDS = 20.0
"""How long it may take to note that a message has arrived: a slow answer, and a slow disk."""
COPIED_WITHIN_SECONDS = 15.0
"""How long a process takes at the most to copy what waits for its fallback."""


class History:
    """What happened in a world, seen from its end. Nothing of the code that is judged is asked.

    Args:
        world: The world, at its end.
        quiet_since: Since when nothing disturbed; seconds of the loop.

    Attributes:
        heard: By place and entity, each value in the order in which it was told, with the message.
        known_from: By value, when Port has said first that it is so.
        renamed: When the rule was renamed or removed: what waited under its name is not sent any more.
        unclear: Entities of which it is impossible to say in which step their incident is.
        story: By value, the values before it that were told of the same incident, as the pager has heard it.
        open: The entities whose incident the pager believes to be open, with their values.
    """

    def __init__(self, world: World, quiet_since: float) -> None:
        self.world = world
        self.quiet_since = quiet_since
        # When Port has said first that a value is so.
        self.known_from = {load: change.sent_at or 1e9 for load, change in world.changes.items()}
        for at, listed in world.listings:
            for load in listed.values():
                self.known_from[load] = min(at, self.known_from[load])
        # By place and entity: each value in the order in which it was told, with the message.
        self.heard: dict[tuple[str, str], list[tuple[float, Told]]] = defaultdict(list)
        for told in world.told:
            for entity in told.loads:
                heard = self.heard[told.place, entity]
                # The first value is that before; 0 stands for those that a long line leaves out.
                heard += [(load, told) for load in told.loads[entity][1:] if load]
        # How many changes that nothing names a message of a place has counted, by the message and the entity.
        self._counted = [(told, Counter(told.unnamed)) for told in world.told if told.unnamed]
        self._unnamed = set[tuple[str, int]]()
        # When the rule was renamed or removed: what waited under its name is not sent any more.
        self.renamed = [
            after.since
            for before, after in pairwise(world.tables)
            if before.rule != after.rule or not after.channels
        ]
        # Of these the operator, or Port, has made it impossible to say in which step their incident is.
        self.unclear = {entity for entity, _, _ in world.silenced} | {
            change.entity
            for change in [*world.changes.values()][ENTITIES:]
            if change.renames or change.action != "UPDATE"
        }
        # By value: the values before it that were told of the same incident, as the pager has heard it.
        self.story: dict[float, list[float]] = {}
        self.open: dict[str, list[float]] = {}
        self._follow_the_pager()

    def _follow_the_pager(self) -> None:
        seen = set[str]()
        for told in self.world.told:
            if told.place != PAGER or told.key in seen:
                continue
            seen.add(told.key)
            for entity in told.over:
                self.open.pop(entity, None)
            for entity, (_, load) in told.loads.items():
                values = self.open.get(entity, [])
                self.story[load] = [] if told.text in ("opened", "noticed") else [*values]
                if told.text == "opened":
                    self.open[entity] = [load]
                elif told.text == "changed":
                    self.open[entity] = [*values, load]
                elif told.text == "resolved":
                    self.open.pop(entity, None)

    def is_named(self, place: str, change: Change) -> bool:
        """Tell whether a place was told of a change by its value."""
        return any(load == change.load for load, _ in self.heard[place, change.entity])

    def first_named(self, place: str, change: Change) -> float:
        """Give when a place was first told of a change by its value; for ever later: it never was."""
        heard = self.heard[place, change.entity]
        return min((told.at for load, told in heard if load == change.load), default=float("inf"))

    def first_counted(self, place: str, change: Change) -> float:
        """Give when a message of a place may first have counted a change, without its value."""
        return min(
            (
                told.at
                for told, _ in self._counted
                if told.place == place
                and told.unnamed.get(change.entity, 0)
                and self.known_from[change.load] <= told.at
            ),
            default=float("inf"),
        )

    def has_heard(self, places: Collection[str], change: Change) -> bool:
        """Tell whether a place of some was told of a change: by its value, or as one that a message counts.

        A line has no room for the values of all changes, but a person can see how many there were: so each
        that is counted stands for one change that was known by then, in the first message that can mean it.
        """
        if any(self.is_named(place, change) or (place, change.serial) in self._unnamed for place in places):
            return True
        for told, counted in self._counted:
            known = self.known_from[change.load] <= told.at
            if told.place in places and known and counted[change.entity] > 0:
                counted[change.entity] -= 1
                self._unnamed.add((told.place, change.serial))
                return True
        # What ends where its entity got another name, or is gone, is one line, which names no values.
        ends = change.load < WELL_BELOW and change.entity in self.unclear
        return ends and any(
            told.place in places and change.entity in told.over and self.known_from[change.load] <= told.at
            for told in self.world.told
        )

    def tables(self, since: float, until: float) -> list[Table]:
        """List the versions of the rules file that may have been in force within a time."""
        tables = self.world.tables
        ends = [following.since + OLD_RULES_SECONDS for following in tables[1:]]
        return [
            table
            for table, end in zip(tables, [*ends, float("inf")], strict=True)
            if table.since <= until and end >= since
        ]

    def places(self, change: Change, until: float) -> set[str]:
        """List where a change may be told by the rules, if it is at all until then."""
        tables = self.tables(change.at, until)
        return {PAGER, *(table.channels[change.team] for table in tables if table.channels)}

    def may_hear(self, place: str, change: Change, told: Told) -> bool:
        """Tell whether a place is one of the change's, of its incident's, or stands in for one on hold."""
        places = self.places(change, told.at)
        story = (self.world.changes[load] for load in self.story.get(change.load, ()))
        # A fallback hears on, of an incident that opens again too.
        if change.entity in self.unclear or self.renamed or place == FALLBACK:
            story = (
                earlier
                for earlier in self.world.changes.values()
                if earlier.entity == change.entity and earlier.serial < change.serial
            )
        for earlier in story:
            places |= self.places(earlier, told.at)
            if self.is_named(place, earlier):
                return True
        on_hold = {name for since, name, _ in self.world.holds if since <= told.at}
        on_hold |= {name for since, name in self.world.unknown if since <= told.at}
        return place in places or (place == FALLBACK and not on_hold.isdisjoint(places))

    def kept_back(self, change: Change) -> bool:
        """Tell whether the operator may have taken its alerts back while they waited."""
        since = change.at
        return any(at > since - OLD_RULES_SECONDS for at in self.renamed) or any(
            entity == change.entity and until > since and begins - 1 < self.quiet_since
            for entity, begins, until in self.world.silenced
        )

    def found_by_comparing(self, change: Change) -> list[Change]:
        """List the changes of its entity that the comparison may have told before the webhook came."""
        assert change.stored_at is not None  # noqa: S101 - the caller has looked
        values = {
            listed[change.entity]
            for at, listed in self.world.listings
            if at <= change.stored_at + 1 and change.entity in listed
        }
        changes = (self.world.changes[load] for load in sorted(values))
        return [listed for listed in changes if listed.serial > change.serial]

    def may_be_repeated(self, told: Told) -> bool:
        """Tell whether its sender could not know, or not write down, that it had arrived."""
        return not (told.confirmed and told.sending.answered) or self.was_cut_off(told)

    def was_cut_off(self, told: Told) -> bool:
        """Tell whether its sender was killed or frozen before it could write down what came of it."""
        noted = told.at + NOTED_SECONDS
        for since, until in self.world.away:
            if since < noted:
                noted = max(noted, until + NOTED_SECONDS)
        return any(told.at - 1 < trouble < noted for trouble in told.sending.process.troubles)

    def is_disturbed(self, process: Process, since: float, until: float) -> bool:
        """Tell whether a process was killed or frozen, or could not write, within a time."""
        return any(since < trouble < until for trouble in process.troubles) or any(
            began < until and ended > since for began, ended in self.world.away
        )

    def is_served(self, since: float, until: float) -> bool:
        """Tell whether a process has sent something all the time, and so could copy."""
        first: dict[Process, float] = {}
        for told in self.world.told:
            process = told.sending.process
            if since <= told.at <= until:
                began = first.setdefault(process, told.at)
                troubled = self.is_disturbed(process, began - 1, told.at + 1)
                if not troubled and told.at - began > COPIED_WITHIN_SECONDS:
                    return True
        return False
