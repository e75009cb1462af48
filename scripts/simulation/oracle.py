"""The oracle: what each place must have heard, in the README's words and without the code that it judges."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import permutations

from scripts.simulation.pager import PAGER
from scripts.simulation.slack import CHANNELS
from scripts.simulation.world import Change, Told, World

TEAM_CHANNELS = {"Rocket": "rocket", "Star": "star", "Nova": "nova"}
BY_TOKEN = frozenset({"star", "nova"})
"""The channels that are reached with a bot token: nothing is repeated there."""
FALLBACK = "ops"
"""Who hears of what is on hold, and gets its alerts."""
WELL_BELOW = 50
APART_SECONDS = 0.99
SAID_AFTER_SECONDS = 60.0


class Oracle:
    """Judges what happened in a world.

    Args:
        world: The world, at its end.
        quiet_since: Since when nothing disturbed; seconds of the loop.
    """

    def __init__(self, world: World, quiet_since: float) -> None:
        self._world = world
        self._quiet_since = quiet_since
        # By place and entity: each value in the order in which it was told, with the message.
        self._heard: dict[tuple[str, str], list[tuple[float, Told]]] = defaultdict(list)
        for told in world.told:
            for entity in told.loads:
                heard = self._heard[told.place, entity]
                heard += [(load, told) for load in self._filled(told, entity)]

    def broken(self) -> list[str]:
        """List the promises that were broken, in words."""
        return [
            *self._world.refused,
            *self._nothing_is_lost(),
            *self._each_change_alerts_once(),
            *self._nothing_is_made_up(),
            *self._order(),
            *self._rate(),
            *self._holds_are_said(),
            *self._jobs_have_one_key(),
            *self._jobs_follow_the_incident(),
        ]

    def _filled(self, told: Told, entity: str) -> list[float]:
        """Leave out the value before, and put in what a long line has left out for a person's sake."""
        loads = told.loads[entity]
        if 0.0 not in loads:
            return loads[1:]
        gap = loads.index(0.0)
        first, last = (self._world.changes[loads[place]].serial for place in (gap - 1, gap + 1))
        middle = [
            change.load
            for change in self._world.changes.values()
            if change.entity == entity
            and first < change.serial < last
            and change.stored_at is not None
            and change.stored_at < told.at
            and all(load != change.load for load, _ in self._heard[told.place, entity])
        ]
        return [*loads[1:gap], *middle, *loads[gap + 1 :]]

    def _places(self, change: Change) -> list[str]:
        return [TEAM_CHANNELS[change.team], PAGER]

    def _stood_in(self, place: str, change: Change, at: float) -> bool:
        """Tell whether a place may hear of a change since it stands in for one that was on hold."""
        on_hold = {name for since, name, _ in self._world.holds if since <= at}
        return place == FALLBACK and not on_hold.isdisjoint(self._places(change))

    def _silenced(self, change: Change) -> bool:
        """Tell whether the operator may have silenced its alerts while they waited."""
        assert change.sent_at is not None  # noqa: S101 - the caller has looked
        return any(
            entity == change.entity and until > change.sent_at and since - 1 < self._quiet_since
            for entity, since, until in self._world.silenced
        )

    def _nothing_is_lost(self) -> Iterator[str]:
        """What was answered 202 is told; of what Port never sent, the comparison finds the latest."""
        latest = {change.entity: change for change in self._world.changes.values()}
        for change in self._world.changes.values():
            for place in self._places(change):
                heard = [load for load, _ in self._heard[place, change.entity]]
                if change.stored_at is not None and change.load not in heard:
                    newer = self._found_by_comparing(change)
                    if not self._silenced(change) and not newer.intersection(heard):
                        yield f"#{place} never hears of {_name(change)}, which was answered 202"
                elif (
                    change is latest[change.entity]
                    and change.serial > len(latest)
                    and change.load not in heard
                    and not any(name == change.entity for name, _, _ in self._world.silenced)
                ):
                    yield f"#{place} never hears of {_name(change)}, the last of its entity"

    def _found_by_comparing(self, change: Change) -> set[float]:
        """List the values of its entity that the comparison may have told before the webhook came."""
        assert change.stored_at is not None  # noqa: S101 - the caller has looked
        values = (listed[change.entity] for at, listed in self._world.listings if at <= change.stored_at + 1)
        return {load for load in values if self._world.changes[load].serial >= change.serial}

    def _each_change_alerts_once(self) -> Iterator[str]:
        for (place, entity), heard in self._heard.items():
            before: dict[float, Told] = {}
            for load, told in heard:
                last = before.get(load)
                before[load] = told
                if last is None or (place == PAGER and last.key == told.key and last.may_be_repeated()):
                    continue
                if place in BY_TOKEN and not _was_frozen(last):
                    yield f"#{place} hears twice of {entity} {load:g}, though a bot token was used"
                elif not last.may_be_repeated():
                    yield f"#{place} hears twice of {entity} {load:g}"

    def _nothing_is_made_up(self) -> Iterator[str]:
        listed = {load for _, values in self._world.listings for load in values.values()}
        for (place, entity), heard in self._heard.items():
            for load, told in heard:
                change = self._world.changes.get(load)
                if change is None or change.entity != entity:
                    yield f"#{place} hears {entity} {load:g}, which never was"
                elif place not in self._places(change) and not self._stood_in(place, change, told.at):
                    yield f"#{place} hears of {_name(change)}, which is not its own"
                elif load not in listed and (change.sent_at is None or change.sent_at > told.at):
                    yield f"#{place} hears of {_name(change)} before anybody said so"

    def _order(self) -> Iterator[str]:
        """What was answered before the next was sent is told before it; jobs are in order for each entity."""
        changes = self._world.changes
        known_from = {load: change.sent_at or 1e9 for load, change in changes.items()}
        for at, listed in self._world.listings:
            for load in listed.values():
                known_from[load] = min(at, known_from[load])
        for place in [*CHANNELS.keys() - {FALLBACK}, PAGER]:
            first_told = self._first_told(place)
            for early, later in permutations(first_told, 2):
                earlier, after = changes[early], changes[later]
                if earlier.stored_at is None or earlier.stored_at >= known_from[later]:
                    continue
                if first_told[early] <= first_told[later] or self._silenced(earlier):
                    continue
                if place != PAGER or earlier.entity == after.entity:
                    yield f"#{place} hears of {_name(after)} before {_name(earlier)}"

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
            if before is None or told.place == PAGER or before.may_be_repeated() or told.may_be_repeated():
                continue
            if told.at - before.at < APART_SECONDS:
                yield f"#{told.place} gets two messages within {told.at - before.at:.3f} s"

    def _holds_are_said(self) -> Iterator[str]:
        """Of each place on hold its fallback hears."""
        said = [(told.at, told.text) for told in self._world.told if told.place == FALLBACK]
        for at, place, process in self._world.holds:
            if any(at - 45 < trouble < at + SAID_AFTER_SECONDS for trouble in process.troubles):
                continue
            # One notice for each time that it goes on hold, at the beginning.
            if not any(f"Destination {place} is on hold" in text for when, text in said):
                yield f"#ops never hears that {place} is on hold"

    def _jobs_have_one_key(self) -> Iterator[str]:
        keys: dict[tuple[str, float], set[str]] = defaultdict(set)
        for (place, entity), heard in self._heard.items():
            if place == PAGER:
                for load, told in heard:
                    keys[entity, load].add(told.key)
        for (entity, load), several in keys.items():
            if len(several) > 1:
                yield f"the pager hears of {entity} {load:g} under {len(several)} keys"

    def _jobs_follow_the_incident(self) -> Iterator[str]:
        """A job is told of the beginning, each change and the end of an incident, in this order."""
        silenced = {entity for entity, _, _ in self._world.silenced}
        for (place, entity), heard in self._heard.items():
            if place != PAGER or entity in silenced:
                continue
            is_open, newest, seen = False, 0, set[str]()
            for load, told in heard:
                serial = self._world.changes[load].serial if load in self._world.changes else 0
                if told.key in seen:
                    continue
                seen.add(told.key)
                if serial < newest:
                    wanted = "noticed"  # it came late, and says nothing of the present
                elif load < WELL_BELOW:
                    wanted, is_open = ("resolved" if is_open else "noticed"), False
                else:
                    wanted, is_open = ("changed" if is_open else "opened"), True
                newest = max(newest, serial)
                if told.text != wanted:
                    yield f"the pager hears {told.text} of {entity} {load:g}, not {wanted}"


def _name(change: Change) -> str:
    return f"{change.entity} {change.load:g}"


def _was_frozen(told: Told) -> bool:
    # One that wakes in the middle of a request cannot know how long it slept.
    return any(told.at - 70 < trouble < told.at + 70 for trouble in told.sending.process.troubles) and (
        told.sending.process.frozen_until > 0
    )
