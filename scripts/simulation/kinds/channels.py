"""Channels of Slack that are archived and renamed, and what their fallback must hear."""

from collections.abc import Iterator, Mapping
from typing import ClassVar

from scripts.simulation.history import NOTICED_SECONDS, History
from scripts.simulation.kinds.kind import Kind
from scripts.simulation.network import Serve
from scripts.simulation.slack import CHANNELS, OWN, Slack
from scripts.simulation.world import FALLBACK, PAGER, Told, World

APART_SECONDS = 0.99
SAID_AFTER_SECONDS = 60.0


class Channels(Kind):
    """The channels."""

    faults: ClassVar = {
        "archived": 0.03,  # a channel is archived for some minutes
        "channel_renamed": 0.02,  # the one that is known by its name, and back
    }
    channels = CHANNELS
    by_token = frozenset({"star", "nova"})
    destinations = tuple(CHANNELS)

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.slack = Slack(world)
        self._archived_at: dict[str, float] = {}

    def hosts(self) -> Mapping[str, Serve]:
        """Serve webhooks and the Web API."""
        return {"hooks.slack.sim": self.slack.webhook, "slack.sim": self.slack.api}

    def rules(self) -> Mapping[str, str]:
        """Give the destinations."""
        webhook = self.slack.channels["rocket"]
        webhook.noted = webhook.webhooks
        hooks = "http://hooks.slack.sim/services"
        return {
            "destinations": f"""\
  rocket: {{type: slack, webhook_url: "{hooks}/rocket-{webhook.noted}", fallback: ops}}
  star: {{type: slack, channel: {CHANNELS["star"]}, fallback: ops}}
  nova: {{type: slack, channel: "#nova", fallback: ops}}
  ops: {{type: slack, webhook_url: "{hooks}/ops"}}
"""
        }

    def disturb_world(self) -> None:
        """Archive and rename."""
        world, chance, loop = self._world, self._world.chance, self._world.loop
        for channel in [self.slack.channels[name] for name in CHANNELS]:
            if channel.name != FALLBACK and chance.strikes("archived") and not channel.archived:
                channel.archived = True
                self._archived_at[channel.name] = loop.time()
                world.say(f"Slack: somebody archives #{channel.name}")
                loop.call_later(chance.between("archived for", 20, 400), self._unarchive, channel.name)
        if chance.strikes("channel_renamed"):
            nova = self.slack.channels["nova"]
            world.unknown.append((loop.time(), "nova"))
            nova.shown_as = "" if nova.shown_as else "nova-now"
            world.say(f"Slack: #nova is now called #{nova.shown_as or 'nova'}")

    def mend(self) -> None:
        """Take all channels out of the archive, and give them their names."""
        for name in CHANNELS:
            self._unarchive(name)
        self.slack.channels["nova"].shown_as = ""

    def _unarchive(self, name: str) -> None:
        if self.slack.channels[name].archived:
            self.slack.channels[name].archived = False
            self._world.broken.append((name, self._archived_at.pop(name), self._world.loop.time()))
            self._world.say(f"Slack: #{name} is back")

    def broken(self, history: History) -> Iterator[str]:
        """Judge the rate, and what is on hold."""
        yield from self._rate(history)
        yield from self._holds_are_said(history)
        yield from self._fallbacks_stand_in(history)

    def _rate(self, history: History) -> Iterator[str]:
        """A channel gets a message a second at most."""
        last: dict[str, Told] = {}
        for told in self._world.told:
            before = last.get(told.place)
            last[told.place] = told
            if before is None or told.place not in self.slack.channels or told.has_just_woken():
                continue
            if told.at - before.at >= APART_SECONDS or history.may_be_repeated(before):
                continue
            if not any(before.at < at <= told.at for at, _ in self._world.jumps):  # by up to 2 s all stays
                yield f"#{told.place} gets two messages within {told.at - before.at:.3f} s"

    def _holds_are_said(self, history: History) -> Iterator[str]:
        """Of each place on hold its fallback hears."""
        said = [told.text for told in self._world.told if told.place == FALLBACK]
        for at, place, process in self._world.holds:
            if place not in OWN or history.is_disturbed(
                process, at - NOTICED_SECONDS, at + SAID_AFTER_SECONDS
            ):
                continue
            # One notice for each time that it goes on hold, at the beginning.
            if not any(f"Destination {place} is on hold" in text for text in said):
                yield f"#{FALLBACK} never hears that {place} is on hold"

    def _fallbacks_stand_in(self, history: History) -> Iterator[str]:
        """While a place is on hold, its fallback gets the alerts themselves."""
        for place, since, until in self._world.broken:
            on_hold = [
                at
                for at, name, process in self._world.holds
                if name == place
                and since <= at <= until
                and not history.is_disturbed(process, at - 1, at + SAID_AFTER_SECONDS)
            ]
            for change in self._world.changes.values() if on_hold else ():
                stored = change.stored_at
                if stored is None or on_hold[0] + 5 > stored or not history.is_served(stored, until):
                    continue
                tables = history.tables(change.at, stored)
                own = place == PAGER or all(table.channels.get(change.team) == place for table in tables)
                if change.action != "UPDATE" or not own or history.kept_back(change):
                    continue
                same = [change, *history.found_by_comparing(change)]
                before = (history.first_named(place, one) < on_hold[0] for one in same)
                if not any(before) and not any(history.has_heard({FALLBACK}, one) for one in same):
                    yield f"#{FALLBACK} is never told of {change.shown}, though {place} was on hold"
