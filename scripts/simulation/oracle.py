"""The oracle: what each place must have heard, in the README's words and without the code that it judges."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise, permutations

from scripts.simulation.clock import Process
from scripts.simulation.port import ENTITIES
from scripts.simulation.slack import CHANNELS
from scripts.simulation.world import FALLBACK, PAGER, Change, Table, Told, World

BY_TOKEN = frozenset({"star", "nova"})
"""The channels that are reached with a bot token: nothing is repeated there."""
WELL_BELOW = 50
APART_SECONDS = 0.99
SAID_AFTER_SECONDS = 60.0
OLD_RULES_SECONDS = 70.0
"""How long a process may go by the rules file before: it was frozen, or has just read it."""
SENT_WITHIN_SECONDS = 12.0
UNANSWERED_SECONDS = 59.0
"""How long a receiver that takes a message and does not answer is left alone, at least."""
NOTED_SECONDS = 20.0
"""How long it may take to note that a message has arrived: a slow answer, and a slow disk."""
COPIED_WITHIN_SECONDS = 15.0
"""How long a process takes at the most to copy what waits for its fallback."""


class Oracle:
    """Judges what happened in a world.

    Args:
        world: The world, at its end.
        quiet_since: Since when nothing disturbed; seconds of the loop.
    """

    def __init__(self, world: World, quiet_since: float) -> None:
        self._world = world
        self._quiet_since = quiet_since
        # When Port has said first that a value is so.
        self._known_from = {load: change.sent_at or 1e9 for load, change in world.changes.items()}
        for at, listed in world.listings:
            for load in listed.values():
                self._known_from[load] = min(at, self._known_from[load])
        # By place and entity: each value in the order in which it was told, with the message.
        self._heard: dict[tuple[str, str], list[tuple[float, Told]]] = defaultdict(list)
        for told in world.told:
            for entity in told.loads:
                heard = self._heard[told.place, entity]
                # The first value is that before; 0 stands for those that a long line leaves out.
                heard += [(load, told) for load in told.loads[entity][1:] if load]
        # How many changes that nothing names a message of a place has counted, by the message and the entity.
        self._counted = [(told, Counter(told.unnamed)) for told in world.told if told.unnamed]
        self._unnamed = set[tuple[str, int]]()
        # When the rule was renamed or removed: what waited under its name is not sent any more.
        self._renamed = [
            after.since
            for before, after in pairwise(world.tables)
            if before.rule != after.rule or not after.channels
        ]
        # Of these the operator, or Port, has made it impossible to say in which step their incident is.
        self._unclear = {entity for entity, _, _ in world.silenced} | {
            change.entity
            for change in [*world.changes.values()][ENTITIES:]
            if change.renames or change.action != "UPDATE"
        }
        # By value: the values before it that were told of the same incident, as the pager has heard it.
        self._story: dict[float, list[float]] = {}
        self._open: dict[str, list[float]] = {}
        self._follow_the_pager()

    def broken(self) -> list[str]:
        """List the promises that were broken, in words."""
        return [
            *self._world.refused,
            *self._nothing_is_lost(),
            *self._what_was_told_is_told_to_its_end(),
            *self._each_change_alerts_once(),
            *self._who_does_not_answer_is_left_alone(),
            *self._nothing_is_made_up(),
            *self._silences_hold(),
            *self._order(),
            *self._rate(),
            *self._holds_are_said(),
            *self._fallbacks_stand_in(),
            *self._jobs_have_one_key(),
            *self._jobs_follow_the_incident(),
            *self._open_incidents_were_told(),
        ]

    def _follow_the_pager(self) -> None:
        seen = set[str]()
        for told in self._world.told:
            if told.place != PAGER or told.key in seen:
                continue
            seen.add(told.key)
            for entity in told.over:
                self._open.pop(entity, None)
            for entity, (_, load) in told.loads.items():
                values = self._open.get(entity, [])
                self._story[load] = [] if told.text in ("opened", "noticed") else [*values]
                if told.text == "opened":
                    self._open[entity] = [load]
                elif told.text == "changed":
                    self._open[entity] = [*values, load]
                elif told.text == "resolved":
                    self._open.pop(entity, None)

    def _is_named(self, place: str, change: Change) -> bool:
        return any(load == change.load for load, _ in self._heard[place, change.entity])

    def _has_heard(self, place: str, change: Change) -> bool:
        """Tell whether a place was told of a change: by its value, or as one of those that a message counts.

        A line has no room for the values of all changes, but a person can see how many there were: so each
        that is counted stands for one change that was known by then.
        """
        if self._is_named(place, change) or (place, change.serial) in self._unnamed:
            return True
        for told, counted in self._counted:
            known = self._known_from[change.load] <= told.at
            if told.place == place and known and counted[change.entity] > 0:
                counted[change.entity] -= 1
                self._unnamed.add((place, change.serial))
                return True
        return False

    def _tables(self, since: float, until: float) -> list[Table]:
        """List the versions of the rules file that may have been in force within a time."""
        tables = self._world.tables
        ends = [following.since + OLD_RULES_SECONDS for following in tables[1:]]
        return [
            table
            for table, end in zip(tables, [*ends, float("inf")], strict=True)
            if table.since <= until and end >= since
        ]

    def _places(self, change: Change, until: float) -> set[str]:
        """List where a change may be told by the rules, if it is at all until then."""
        tables = self._tables(change.at, until)
        return {PAGER, *(table.channels[change.team] for table in tables if table.channels)}

    def _may_hear(self, place: str, change: Change, told: Told) -> bool:
        """Tell whether a place is one of the change's, of its incident's, or stands in for one on hold."""
        places = self._places(change, told.at)
        story = (self._world.changes[load] for load in self._story.get(change.load, ()))
        # A fallback hears on, of an incident that opens again too.
        if change.entity in self._unclear or self._renamed or place == FALLBACK:
            story = (
                earlier
                for earlier in self._world.changes.values()
                if earlier.entity == change.entity and earlier.serial < change.serial
            )
        for earlier in story:
            places |= self._places(earlier, told.at)
            if self._is_named(place, earlier):
                return True
        on_hold = {name for since, name, _ in self._world.holds if since <= told.at}
        on_hold |= {name for since, name in self._world.unknown if since <= told.at}
        return place in places or (place == FALLBACK and not on_hold.isdisjoint(places))

    def _kept_back(self, change: Change) -> bool:
        """Tell whether the operator may have taken its alerts back while they waited."""
        since = change.at
        return any(at > since - OLD_RULES_SECONDS for at in self._renamed) or any(
            entity == change.entity and until > since and begins - 1 < self._quiet_since
            for entity, begins, until in self._world.silenced
        )

    def _nothing_is_lost(self) -> Iterator[str]:
        """What was answered 202 is told; of what Port never sent, the comparison finds the latest."""
        latest = {change.entity: change for change in self._world.changes.values()}
        for change in self._world.changes.values():
            is_latest = change is latest[change.entity] and change.entity not in self._unclear
            if change.action != "UPDATE" or self._kept_back(change):
                continue
            if change.stored_at is not None and change.sent_at is not None:
                compared = (at for at, _ in self._world.listings if change.at < at <= change.stored_at + 1)
                if change.entity in self._unclear and any(compared):
                    continue  # that an entity is new, or gone, may have been told in its place
                tables = self._tables(change.sent_at, change.stored_at)
                newer, why = self._found_by_comparing(change), "which was answered 202"
            elif is_latest:
                tables = self._tables(change.at, self._quiet_since)
                newer, why = [], "the last of its entity"
            else:
                continue
            if not all(table.channels for table in tables):
                continue
            for places in ({table.channels[change.team] for table in tables}, {PAGER}):
                # First by its value: what a message counts can stand for one change only.
                named = any(self._is_named(place, change) for place in places) or self._told(newer)
                if not named and not any(self._has_heard(place, change) for place in sorted(places)):
                    yield f"#{' or #'.join(sorted(places))} is never told of {_name(change)}, {why}"

    def _told(self, changes: list[Change]) -> bool:
        """Tell whether any of them was told where it belongs by then: the team may be another."""
        return any(
            self._is_named(place, change)
            for change in changes
            for place in self._places(change, self._quiet_since)
        )

    def _found_by_comparing(self, change: Change) -> list[Change]:
        """List the changes of its entity that the comparison may have told before the webhook came."""
        assert change.stored_at is not None  # noqa: S101 - the caller has looked
        values = {
            listed[change.entity]
            for at, listed in self._world.listings
            if at <= change.stored_at + 1 and change.entity in listed
        }
        changes = (self._world.changes[load] for load in sorted(values))
        return [listed for listed in changes if listed.serial > change.serial]

    def _what_was_told_is_told_to_its_end(self) -> Iterator[str]:
        """Each place that was told of an incident is told its later steps, even if the entity has moved."""
        for load, story in self._story.items():
            change = self._world.changes[load]
            if change.entity in self._unclear or self._kept_back(self._world.changes[(story or [load])[0]]):
                continue
            for place in CHANNELS:
                # What was told at an address that is not in the rules any more cannot be told its end there.
                left = max((at for at, name in self._world.moved if name == place), default=0.0)
                since = (
                    told.at
                    for value, told in self._heard[place, change.entity]
                    if value in story and (place != FALLBACK or told.at < change.at) and told.at > left
                )
                if (at := next(since, None)) is not None and not self._has_heard(place, change):
                    yield f"#{place} was told of {change.entity} at {at - 1000:.0f} s, not of {_name(change)}"

    def _each_change_alerts_once(self) -> Iterator[str]:
        """At least once by webhook: again only where its sender could not know. By token exactly once."""
        for (place, entity), heard in self._heard.items():
            before: dict[float, list[Told]] = defaultdict(list)
            for load, told in heard:
                earlier = before[load]
                if earlier and not self._may_be_said_again(place, load, told, earlier):
                    by_token = ", though a bot token was used" if place in BY_TOKEN else ""
                    yield f"#{place} hears twice of {entity} {load:g}{by_token}"
                earlier.append(told)

    def _may_be_said_again(self, place: str, load: float, told: Told, earlier: list[Told]) -> bool:
        change = self._world.changes.get(load)
        if change is not None:  # it is another rule that says so, once for each
            rules = sum(change.at - OLD_RULES_SECONDS < at < told.at for at in self._renamed)
            if len(earlier) <= rules:
                return True
        if any(one.has_just_woken() for one in [told, *earlier]):
            return True
        return place not in BY_TOKEN and any(self._may_be_repeated(one) for one in earlier)

    def _may_be_repeated(self, told: Told) -> bool:
        """Tell whether its sender could not know, or not write down, that it had arrived."""
        return not (told.confirmed and told.sending.answered) or self._was_cut_off(told)

    def _was_cut_off(self, told: Told) -> bool:
        """Tell whether its sender was killed or frozen before it could write down what came of it."""
        noted = told.at + NOTED_SECONDS
        for since, until in self._world.away:
            if since < noted:
                noted = max(noted, until + NOTED_SECONDS)
        return any(told.at - 1 < trouble < noted for trouble in told.sending.process.troubles)

    def _who_does_not_answer_is_left_alone(self) -> Iterator[str]:
        """What may have arrived is sent again after a minute at the soonest, unless its sender has died."""
        for (place, entity), heard in self._heard.items():
            before: dict[float, Told] = {}
            for load, told in heard:
                earlier = before.get(load)
                before[load] = told
                if earlier is None or not earlier.silent or self._was_cut_off(earlier):
                    continue
                # After a start of the machine nobody knows how long it stood still; and what is on hold is
                # tried again when somebody may have mended it.
                on_hold = any(name == place and at < told.at for at, name, _ in self._world.holds)
                others = [*self._world.boots, *(self._world.tries if on_hold else ())]
                asked = any(earlier.at < at < told.at for at in others)
                soon = told.at - earlier.at < UNANSWERED_SECONDS and not asked
                if soon and not told.has_just_woken():
                    after = told.at - earlier.at
                    yield f"#{place} hears again of {entity} {load:g} after {after:.0f} s, unanswered"

    def _nothing_is_made_up(self) -> Iterator[str]:
        listed = {load for _, values in self._world.listings for load in values.values()}
        for (place, entity), heard in self._heard.items():
            for load, told in heard:
                change = self._world.changes.get(load)
                if change is None or change.entity != entity:
                    yield f"#{place} hears {entity} {load:g}, which never was"
                elif not self._may_hear(place, change, told):
                    yield f"#{place} is told of {_name(change)}, which is not its own"
                elif load not in listed and (change.sent_at is None or change.sent_at > told.at):
                    yield f"#{place} is told of {_name(change)} before anybody said so"

    def _silences_hold(self) -> Iterator[str]:
        """What is silenced is not told, but for what was on its way already."""
        for entity, since, until in self._world.in_force:
            if any(change.renames for change in self._world.changes.values() if change.entity == entity):
                continue  # another name is not silenced
            ended = [at for at in self._world.silence_ends if at > since - SENT_WITHIN_SECONDS]
            for told in self._world.told:
                in_force = since + SENT_WITHIN_SECONDS < told.at < min([until, *ended]) - 1
                if entity not in told.loads or not in_force or told.has_just_woken():
                    continue
                yield f"#{told.place} is told of {entity} at {told.at - 1000:.0f} s, though silenced"

    def _order(self) -> Iterator[str]:
        """What was answered before the next was sent is told before it; jobs are in order for each entity."""
        changes, known_from = self._world.changes, self._known_from
        renamed = {change.entity for change in changes.values() if change.renames}
        for place in [*CHANNELS.keys() - {FALLBACK}, PAGER]:
            first_told = self._first_told(place)
            for early, later in permutations(first_told, 2):
                earlier, after = changes[early], changes[later]
                if earlier.stored_at is None or earlier.stored_at >= known_from[later]:
                    continue
                if first_told[early] <= first_told[later] or self._kept_back(earlier):
                    continue
                # Of an entity with another name the jobs are in another queue.
                if place != PAGER or (earlier.entity == after.entity and earlier.entity not in renamed):
                    yield f"#{place} is told of {_name(after)} before {_name(earlier)}"

    def _first_told(self, place: str) -> dict[float, float]:
        """Give the values that a place has heard, each with when it did first."""
        first: dict[float, float] = {}
        for (where, _), heard in self._heard.items():
            for load, told in heard if where == place else ():
                if load in self._world.changes:
                    first[load] = min(told.at, first.get(load, told.at))
        return first

    def _rate(self) -> Iterator[str]:
        """A channel gets a message a second at most."""
        last: dict[str, Told] = {}
        for told in self._world.told:
            before = last.get(told.place)
            last[told.place] = told
            if before is None or told.place == PAGER or told.has_just_woken():
                continue
            if told.at - before.at < APART_SECONDS and not self._may_be_repeated(before):
                yield f"#{told.place} gets two messages within {told.at - before.at:.3f} s"

    def _holds_are_said(self) -> Iterator[str]:
        """Of each place on hold its fallback hears."""
        said = [told.text for told in self._world.told if told.place == FALLBACK]
        for at, place, process in self._world.holds:
            if self._is_disturbed(process, at - 45, at + SAID_AFTER_SECONDS):
                continue
            # One notice for each time that it goes on hold, at the beginning.
            if not any(f"Destination {place} is on hold" in text for text in said):
                yield f"#{FALLBACK} never hears that {place} is on hold"

    def _is_disturbed(self, process: Process, since: float, until: float) -> bool:
        """Tell whether a process was killed or frozen, or could not write, within a time."""
        return any(since < trouble < until for trouble in process.troubles) or any(
            began < until and ended > since for began, ended in self._world.away
        )

    def _fallbacks_stand_in(self) -> Iterator[str]:
        """While a place is on hold, its fallback gets the alerts themselves."""
        for place, since, until in self._world.broken:
            on_hold = [
                at
                for at, name, process in self._world.holds
                if name == place
                and since <= at <= until
                and not self._is_disturbed(process, at - 1, at + SAID_AFTER_SECONDS)
            ]
            for change in self._world.changes.values() if on_hold else ():
                stored = change.stored_at
                if stored is None or on_hold[0] + 5 > stored or not self._is_served(stored, until):
                    continue
                tables = self._tables(change.at, stored)
                own = place == PAGER or all(table.channels.get(change.team) == place for table in tables)
                if change.action != "UPDATE" or not own or self._kept_back(change):
                    continue
                if not any(
                    self._has_heard(FALLBACK, told) for told in [change, *self._found_by_comparing(change)]
                ):
                    yield f"#{FALLBACK} is never told of {_name(change)}, though {place} was on hold"

    def _is_served(self, since: float, until: float) -> bool:
        """Tell whether a process has sent something all the time, and so could copy."""
        first: dict[Process, float] = {}
        for told in self._world.told:
            process = told.sending.process
            if since <= told.at <= until:
                began = first.setdefault(process, told.at)
                troubled = self._is_disturbed(process, began - 1, told.at + 1)
                if not troubled and told.at - began > COPIED_WITHIN_SECONDS:
                    return True
        return False

    def _jobs_have_one_key(self) -> Iterator[str]:
        keys: dict[tuple[str, float], set[str]] = defaultdict(set)
        for (place, entity), heard in self._heard.items():
            if place == PAGER:
                for load, told in heard:
                    keys[entity, load].add(told.key)
        for (entity, load), several in keys.items():
            if len(several) > 1 and not self._renamed:
                yield f"the pager is told of {entity} {load:g} under {len(several)} keys"

    def _jobs_follow_the_incident(self) -> Iterator[str]:
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
                if told.text != wanted and entity not in self._unclear and not self._renamed:
                    yield f"the pager hears {told.text} of {entity} {load:g}, not {wanted}"

    def _open_incidents_were_told(self) -> Iterator[str]:
        """The incidents that are open here are those that the pager was told of, without an end."""
        unclear = self._unclear if not self._renamed else {*self._open, *self._world.open_here}
        for entity in sorted(self._open.keys() ^ self._world.open_here - unclear):
            if entity not in unclear:
                here = "open" if entity in self._world.open_here else "not open"
                yield f"the incident of {entity} is {here} here, and the pager was told otherwise"


def _name(change: Change) -> str:
    return f"{change.entity} {change.load:g}"
