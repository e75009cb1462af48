"""The rules file: the rule that all of this is about, which the operator moves, renames and removes."""

from collections.abc import Mapping
from typing import ClassVar

from scripts.simulation.kinds.kind import Kind

RULE = """\
  - name: %s
    blueprint: service
    when: {property: load}
    resolve: {property: load, below: 50}
    send: [{by_team: {%s}, default: ops}, pager]
"""


class RulesFile(Kind):
    """The rule."""

    faults: ClassVar = {
        "rules_moved": 0.04,  # another channel for each team
        "rule_renamed": 0.015,
        "rule_removed": 0.01,  # for some seconds
    }

    def rules(self) -> Mapping[str, str]:
        """Give the rule, if it is in the file."""
        table = self._world.tables[-1]
        return {"rules": RULE % (table.rule, table.by_team) if table.channels else ""}

    def disturb_world(self) -> None:
        """Edit it."""
        chance, now = self._world.chance, self._world.tables[-1]
        channels, rule = now.channels, now.rule
        if not channels:
            return  # it will be back
        if chance.strikes("rules_moved"):
            moved = [*channels.values()]
            channels = dict(zip(channels, moved[1:] + moved[:1], strict=True))
        if chance.strikes("rule_renamed"):
            rule = f"load-{len(self._world.tables)}"
        if chance.strikes("rule_removed"):
            seconds = chance.between("rule_removed for", 5, 60)
            self._world.loop.call_later(seconds, self._world.write_rules, channels, rule)
            channels = {}
        if (channels, rule) != (now.channels, now.rule):
            self._world.write_rules(channels, rule)

    def mend(self) -> None:
        """Put it back."""
        tables = self._world.tables
        if not tables[-1].channels:
            before = next(table for table in reversed(tables) if table.channels)
            self._world.write_rules(before.channels, before.rule)
