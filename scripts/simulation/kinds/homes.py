"""What the catalog named at which time, which channel had the name, and whether the app could post to it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from scripts.simulation.history import History
from scripts.simulation.world import Change, Told, World

HOMES = {"home-a": "C000000HA", "home-b": "C000000HB", "home-c": "C000000HC", "home-spare": "C000000HS"}
LEADS: Mapping[Any, str] = {
    "#home-a": "home-a",
    "Home-B": "home-b",
    "https://acme.slack.com/archives/C000000HC": "C000000HC",
    "C000000HC": "C000000HC",
    None: "",
    "general": "",  # `allow` does not name it
    17: "",
    "no channel!": "",
}
"""What may stand in the catalog, and which channel it names, by its name or id; empty: it leads nowhere."""
KEPT_SECONDS = 600.0
"""How long what Port has answered is kept."""
AWAY_SECONDS = 40.0
"""How long Port is not asked after it gave no answer, or a late one, with the time that it took."""


@dataclass(slots=True)
class Homes:
    """The channels and what names them.

    Attributes:
        way: How the channel of an alert is found: by a ``property``, the ``team``, or a ``relation``.
        homes: By value of a change, what the entity itself says then.
        systems: By value of a change, what the entity belongs to then.
        named: By team and by system, what it says from when on.
        called: Which channel has which name, from when on.
        closed: From when to when the app could not post to which channel.
    """

    world: World
    way: str
    homes: dict[float, Any] = field(default_factory=dict)
    systems: dict[float, str] = field(default_factory=dict)
    named: dict[str, list[tuple[float, Any]]] = field(default_factory=dict)
    called: list[tuple[float, Mapping[str, str]]] = field(
        default_factory=lambda: [(0.0, {name: name for name in HOMES})]
    )
    closed: list[tuple[str, float, float]] = field(default_factory=list)

    def _said(self, since: float, until: float, change: Change) -> Iterator[str]:
        """Yield which channel the catalog named for a change, within a time; empty: none."""
        if self.way == "property":
            yield LEADS[self.homes[change.load]]
            return
        values = self.named[change.team if self.way == "team" else self.systems[change.load]]
        ends = [at for at, _ in values[1:]]
        for (begun, value), ended in zip(values, [*ends, float("inf")], strict=True):
            if begun <= until and ended >= since - KEPT_SECONDS:
                yield LEADS[value]

    def _identities(self, name: str, since: float, until: float) -> Iterator[str]:
        """Yield which channels had a name, or an id, within a time; empty: at some time none."""
        ids = {channel_id: home for home, channel_id in HOMES.items()}
        if name in ids:
            yield ids[name]
            return
        ends = [at for at, _ in self.called[1:]]
        for (begun, called), ended in zip(self.called, [*ends, float("inf")], strict=True):
            if begun <= until and ended >= since:
                yield called.get(name, "")

    def places(self, history: History, change: Change, until: float) -> set[str]:
        """List the channels that the catalog may have named for a change, until then."""
        since = history.known_from[change.load]
        said = {name for name in self._said(since, until, change) if name}
        return {home for name in said for home in self._identities(name, since, until) if home}

    def leads_nowhere(self, history: History, change: Change, told: Told) -> bool:
        """Tell whether the default may have been told: no channel was named, or none that can be reached."""
        since, until = history.known_from[change.load], told.at
        for name in self._said(since, until, change):
            if not name:
                return True
            for home in self._identities(name, since, until):
                if not home or self.is_closed(home, since, until):
                    return True
        return self.way != "property" and self._port_was_away(since - AWAY_SECONDS, until)

    def _port_was_away(self, since: float, until: float) -> bool:
        world = self.world
        troubles = [*world.port_away, *(at for at, host in world.loop.refused if host == "port.sim")]
        # Who stood still has had no answer in time.
        troubles += [at for process in world.processes for at in process.woken]
        return any(since <= at <= until for at in troubles)

    def is_closed(self, name: str, since: float, until: float) -> bool:
        """Tell whether the app could not post to a channel at some time."""
        return any(
            closed == name and begun <= until and ended >= since - 1 for closed, begun, ended in self.closed
        )
