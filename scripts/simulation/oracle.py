"""The oracle: what each place must have heard, in the README's words and without the code that it judges."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import permutations

from scripts.simulation.history import OLD_RULES_SECONDS, History
from scripts.simulation.slack import CHANNELS, OWN
from scripts.simulation.world import FALLBACK, PAGER, Change, Told, World

UNANSWERED_SECONDS = 59.0
"""How long a receiver that takes a message and does not answer is left alone, at least."""


class Oracle:
    """Judges what happened in a world.

    Args:
        world: The world, at its end.
        quiet_since: Since when nothing disturbed; seconds of the loop.
    """

    def __init__(self, world: World, quiet_since: float) -> None:
        self._world = world
        self._history = History(world, quiet_since)
        self._by_token = frozenset[str]().union(*(kind.by_token for kind in world.kinds))

    def broken(self) -> list[str]:
        """List the promises that were broken, in words."""
        return [
            *self._world.refused,
            *self._nothing_is_lost(),
            *self._what_was_told_is_told_to_its_end(),
            *self._each_change_alerts_once(),
            *self._who_does_not_answer_is_left_alone(),
            *self._nothing_is_made_up(),
            *self._order(),
            *(line for kind in self._world.kinds for line in kind.broken(self._history)),
        ]

    def _nothing_is_lost(self) -> Iterator[str]:
        """What was answered 202 is told; of what Port never sent, the comparison finds the latest."""
        latest = {change.entity: change for change in self._world.changes.values()}
        for change in self._world.changes.values():
            is_latest = change is latest[change.entity] and change.entity not in self._history.unclear
            if change.action != "UPDATE" or self._history.kept_back(change):
                continue
            if change.stored_at is not None and change.sent_at is not None:
                compared = (at for at, _ in self._world.listings if change.at < at <= change.stored_at + 1)
                if change.entity in self._history.unclear and any(compared):
                    continue  # that an entity is new, or gone, may have been told in its place
                tables = self._history.tables(change.sent_at, change.stored_at)
                newer, why = self._history.found_by_comparing(change), "which was answered 202"
            elif is_latest:
                tables = self._history.tables(change.at, self._history.quiet_since)
                newer, why = [], "the last of its entity"
            else:
                continue
            if not all(table.channels for table in tables):
                continue
            # The newest first: in an older one what a message counts may stand for another change.
            for places in ([*dict.fromkeys(table.channels[change.team] for table in tables[::-1])], [PAGER]):
                # First by its value: what a message counts can stand for one change only.
                named = any(self._history.is_named(place, change) for place in places) or self._told(newer)
                if not named and not self._history.has_heard(places, change):
                    yield f"#{' or #'.join(sorted(places))} is never told of {change.shown}, {why}"

    def _told(self, changes: list[Change]) -> bool:
        """Tell whether any of them was told where it belongs by then: the team may be another."""
        return any(
            self._history.is_named(place, change)
            for change in changes
            for place in self._history.places(change, self._history.quiet_since)
        )

    def _what_was_told_is_told_to_its_end(self) -> Iterator[str]:
        """Each place that was told of an incident is told its later steps, even if the entity has moved."""
        for load, story in self._history.story.items():
            change = self._world.changes[load]
            begins = self._world.changes[(story or [load])[0]]
            if change.entity in self._history.unclear or self._history.kept_back(begins):
                continue
            for place in CHANNELS:
                # What was told at an address that is not in the rules any more cannot be told its end there.
                left = max((at for at, name in self._world.moved if name == place), default=0.0)
                since = (
                    told.at
                    for value, told in self._history.heard[place, change.entity]
                    if value in story and (place != FALLBACK or told.at < change.at) and told.at > left
                )
                if (at := next(since, None)) is not None and not self._history.has_heard({place}, change):
                    yield f"#{place} was told of {change.entity} at {at - 1000:.0f} s, not of {change.shown}"

    def _each_change_alerts_once(self) -> Iterator[str]:
        """At least once by webhook: again only where its sender could not know. By token exactly once."""
        for (place, entity), heard in self._history.heard.items():
            before: dict[float, list[Told]] = defaultdict(list)
            for load, told in heard:
                earlier = before[load]
                if earlier and not self._may_be_said_again(place, load, told, earlier):
                    by_token = ", though a bot token was used" if place in self._by_token else ""
                    yield f"#{place} hears twice of {entity} {load:g}{by_token}"
                earlier.append(told)

    def _may_be_said_again(self, place: str, load: float, told: Told, earlier: list[Told]) -> bool:
        change = self._world.changes.get(load)
        if change is not None:  # it is another rule that says so, once for each
            rules = sum(change.at - OLD_RULES_SECONDS < at < told.at for at in self._history.renamed)
            if len(earlier) <= rules:
                return True
        if any(one.has_just_woken() for one in [told, *earlier]):
            return True
        return place not in self._by_token and any(self._history.may_be_repeated(one) for one in earlier)

    def _who_does_not_answer_is_left_alone(self) -> Iterator[str]:
        """What may have arrived is sent again after a minute at the soonest, unless its sender has died."""
        for (place, entity), heard in self._history.heard.items():
            before: dict[float, Told] = {}
            for load, told in heard:
                earlier = before.get(load)
                before[load] = told
                if earlier is None or not earlier.silent or self._history.was_cut_off(earlier):
                    continue
                # After a start of the machine nobody knows how long it stood still; and what is on hold is
                # tried again when somebody may have mended it.
                on_hold = any(name == place and at < told.at for at, name, _ in self._world.holds)
                others = [*self._world.boots, *(self._world.tries if on_hold else ())]
                others += self._read_late(told) if on_hold else ()
                asked = any(earlier.at < at < told.at for at in others)
                soon = told.at - earlier.at < UNANSWERED_SECONDS and not asked
                if soon and not told.has_just_woken():
                    after = told.at - earlier.at
                    yield f"#{place} hears again of {entity} {load:g} after {after:.0f} s, unanswered"

    def _read_late(self, told: Told) -> list[float]:
        """List when its sender woke, and found new rules: it tries then what is on hold."""
        written = [table.since for table in self._world.tables]
        return [
            woken
            for woken in told.sending.process.woken
            if any(woken - OLD_RULES_SECONDS < at < woken for at in written)
        ]

    def _nothing_is_made_up(self) -> Iterator[str]:
        listed = {load for _, values in self._world.listings for load in values.values()}
        for (place, entity), heard in self._history.heard.items():
            for load, told in heard:
                change = self._world.changes.get(load)
                if change is None or change.entity != entity:
                    yield f"#{place} hears {entity} {load:g}, which never was"
                elif place in OWN and not self._history.may_hear(place, change, told):
                    yield f"#{place} is told of {change.shown}, which is not its own"
                elif load not in listed and (change.sent_at is None or change.sent_at > told.at):
                    yield f"#{place} is told of {change.shown} before anybody said so"

    def _order(self) -> Iterator[str]:
        """What was answered before the next was sent is told before it; jobs are in order for each entity."""
        changes, known_from = self._world.changes, self._history.known_from
        renamed = {change.entity for change in changes.values() if change.renames}
        for place in [*CHANNELS.keys() - {FALLBACK}, PAGER]:
            first_told = self._first_told(place)
            for early, later in permutations(first_told, 2):
                earlier, after = changes[early], changes[later]
                if earlier.stored_at is None or earlier.stored_at >= known_from[later]:
                    continue
                if first_told[early] <= first_told[later] or self._history.kept_back(earlier):
                    continue
                # Of an entity with another name the jobs are in another queue.
                ordered = place != PAGER or (earlier.entity == after.entity and earlier.entity not in renamed)
                # A message before may have told of it, without its value.
                if ordered and self._history.first_counted(place, earlier) > first_told[later]:
                    yield f"#{place} is told of {after.shown} before {earlier.shown}"

    def _first_told(self, place: str) -> dict[float, float]:
        """Give the values that a place has heard, each with when it did first."""
        first: dict[float, float] = {}
        for (where, _), heard in self._history.heard.items():
            for load, told in heard if where == place else ():
                if load in self._world.changes:
                    first[load] = min(told.at, first.get(load, told.at))
        return first
