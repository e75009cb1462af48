"""PagerDuty: what is open there, by the dedup key of an incident."""

import sqlite3
from collections.abc import Iterator, Mapping
from typing import ClassVar

from scripts.simulation.history import History
from scripts.simulation.kinds.kind import Kind
from scripts.simulation.network import Reply, Sending, Serve
from scripts.simulation.slack import drawn_failure
from scripts.simulation.world import World

RULE = """\
  - name: paged
    blueprint: service
    when: {property: load, above: 50}
    resolve: {property: load, below: 50}
    send: pages
"""
LIMIT_PER_MINUTE = 120


class Pages(Kind):
    """PagerDuty.

    Attributes:
        open: The dedup keys of what is open there.
        closed: How often each was resolved.
        reopened: Those that were triggered again after their end, and whether they are open here.
        open_here: The ids of the incidents that are open in the end, with their entities.
    """

    name = "pages"
    faults: ClassVar = {
        "pages_down": 0.06,  # it answers 500 for some minutes
        "pages_full": 0.05,  # it takes no more for a while: 429
    }

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.open: dict[str, str] = {}
        self.told: dict[str, list[str]] = {}
        self.open_here: dict[str, str] = {}
        self.all_here: dict[str, str] = {}
        self._status = 0
        self._last: list[float] = []
        self.too_fast = 0

    def hosts(self) -> Mapping[str, Serve]:
        """Serve the Events API."""
        return {"events.pages.sim": self._serve}

    def rules(self) -> Mapping[str, str]:
        """Give the rule and its destination."""
        key, url = "0123456789abcdef" * 2, "http://events.pages.sim/v2/enqueue"
        return {
            "destinations": f'  pages: {{type: pagerduty, routing_key: {key}, url: "{url}"}}\n',
            "rules": RULE,
        }

    def disturb_world(self) -> None:
        """Let it be down, or refuse more."""
        world, chance = self._world, self._world.chance
        for fault, status in (("pages_down", 500), ("pages_full", 429)):
            if chance.strikes(fault):
                self._status = status
                world.say(f"PagerDuty: answers {status}")
                world.loop.call_later(chance.between(f"{fault} for", 10, 90), self.mend)

    def mend(self) -> None:
        """Let it work again."""
        self._status = 0

    def _serve(self, sending: Sending) -> Reply:
        world = self._world
        if self._status:
            return Reply(self._status, {"status": "throttle exceeded"})
        failure = drawn_failure(world.chance)
        if failure and not failure[1]:
            return failure[0]
        event = sending.json()
        key, action = event["dedup_key"], event["event_action"]
        self.told.setdefault(key, []).append(action)
        if action == "trigger":
            self.open[key] = event["payload"]["summary"]
        elif action == "resolve":
            self.open.pop(key, None)
        world.say(f"PagerDuty: {action} {key}{' (not confirmed)' if failure else ''}")
        return failure[0] if failure else Reply(202, {"status": "success", "message": "", "dedup_key": key})

    def look(self, store: sqlite3.Connection) -> None:
        """Note which incidents there are here."""
        rows = store.execute("SELECT id, entity, resolved_at IS NULL FROM incidents WHERE rule = 'paged'")
        for name, entity, is_open in rows:
            self.all_here[name] = self._world.root(entity)
            if is_open:
                self.open_here[name] = self._world.root(entity)

    def broken(self, history: History) -> Iterator[str]:
        """What is open there is open here, and what is open here is open there."""
        for key in self.open:
            if key not in self.open_here:
                yield f"PagerDuty has {key} open, which is over here"
        for key, entity in self.open_here.items():
            if key not in self.open and entity not in history.unclear:
                yield f"PagerDuty does not have {key} of {entity} open"
