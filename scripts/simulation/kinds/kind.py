"""What a kind of thing brings into the simulated world: its faults, its actions, its part of the oracle."""

import sqlite3
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from scripts.simulation.network import Reply, Serve

if TYPE_CHECKING:
    from scripts.simulation.clock import Process
    from scripts.simulation.history import History
    from scripts.simulation.listener import Listener
    from scripts.simulation.world import Change, World


class Kind:
    """A kind of thing. It brings what it needs; everything else is nothing.

    Args:
        world: Everything around it, with the kinds before it in the table.
    """

    name: ClassVar[str] = ""
    """Its name in `--kinds`; empty: it is part of each world."""
    faults: ClassVar[Mapping[str, float]] = {}
    """How likely each of its faults and actions is, each time that it could strike."""
    channels: ClassVar[Mapping[str, str]] = {}
    """Its channels in Slack, with their ids."""
    by_token: frozenset[str] = frozenset()
    """Those of its places that are reached with a bot token: nothing is repeated there."""
    destinations: ClassVar[tuple[str, ...]] = ()
    """Those of its destinations that can be on hold."""
    settings: ClassVar[Mapping[str, Any]] = {}
    """What it needs in the listener's settings."""

    def __init__(self, world: "World") -> None:
        self._world = world

    def hosts(self) -> Mapping[str, Serve]:
        """Give the hosts that it serves."""
        return {}

    def rules(self) -> Mapping[str, str]:
        """Give its lines of each section of the rules file: of ``destinations``, ``rules``, ``hours`` …"""
        return {}

    def snapshot(self, change: "Change") -> Mapping[str, Any]:
        """Give what Port says of an entity beside the rest: of its ``properties``, its ``relations`` …"""
        del change
        return {}

    def entities(self, blueprint: str) -> list[dict[str, Any]] | None:
        """List what Port has of a blueprint; None: it is not one of this kind."""
        del blueprint
        return None

    def answer(self, path: "list[str]") -> "Reply | None":
        """Answer a request to Port's API, by its path; None: it is none of this kind's."""
        del path
        return None

    def changed(self, before: "Change | None", after: "Change") -> None:
        """Note that an entity has just changed in Port; None as `before`: it is new."""

    def disturb_world(self) -> None:
        """Disturb, every half minute."""

    def disturb(self, listener: "Listener", process: "Process") -> bool:
        """Disturb a process that runs, every half minute; tell whether nothing more can be done with it."""
        del listener, process
        return False

    def mend(self) -> None:
        """Let everything work again, at the end of the night."""

    def settled_at(self) -> float:
        """Give until when something may still happen after the night; seconds of the loop."""
        return 0.0

    def look(self, store: sqlite3.Connection) -> None:
        """Note what the store says in the end."""

    def broken(self, history: "History") -> Iterator[str]:
        """List the promises that were broken, in words."""
        del history
        yield from ()
