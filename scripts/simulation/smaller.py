"""Makes a failing run smaller: a smaller world, a shorter night, fewer faults, as long as it fails."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from scripts.simulation.chance import Chance
from scripts.simulation.kinds import drawn
from scripts.simulation.run import Outcome, Plan, simulate

TRIES = 150
LEAST_MINUTES = 0.5


class _Smaller:
    """The smallest plan yet that fails."""

    def __init__(self, plan: Plan, failed: Outcome) -> None:
        self.plan = plan
        self.failed = failed
        self.tries = TRIES

    def fails(self, plan: Plan) -> bool:
        """Tell whether another plan fails too; then it is the smallest."""
        if self.tries <= 0:
            return False
        self.tries -= 1
        outcome = simulate(plan)
        if outcome.broken:
            self.plan, self.failed = plan, outcome
        return bool(outcome.broken)

    def leave_out(self, what: Literal["off", "muted"]) -> None:
        """Leave out kinds of faults, or single changes and faults: all at once, halves, quarters, …"""
        size = len(self._names(what))
        while self.tries > 0 and size:
            left = False
            for part in _parts(self._names(what), size):
                if not set(part).isdisjoint(self._names(what)):  # else nothing of it happens now
                    without = getattr(self.plan, what).union(part)
                    left |= self.fails(replace(self.plan, **{what: without}))
            if size == 1 and not left:
                return
            size = max(1, size // 2)

    def _names(self, what: Literal["off", "muted"]) -> list[str]:
        """List what happened and can be left out, in the order in which it happened first."""
        struck = self.failed.struck
        if what == "muted":
            return struck
        faults = dict.fromkeys(name.partition("#")[0] for name in struck)
        return [fault for fault in faults if fault != "change"]


def smallest(plan: Plan, failed: Outcome) -> tuple[Plan, Outcome]:
    """Give the smallest plan that still breaks a promise, and what comes of it.

    Args:
        plan: A plan that breaks one.
        failed: What came of it.
    """
    smaller = _Smaller(plan, failed)
    kinds = drawn(Chance(plan.seed)) if plan.kinds is None else plan.kinds
    # The world first: with less in it, each further try is quicker.
    if not (kinds and smaller.fails(replace(plan, kinds=frozenset()))):
        for kind in sorted(kinds):
            fewer = kinds - {kind}
            if smaller.fails(replace(smaller.plan, kinds=fewer)):
                kinds = fewer
    while smaller.plan.minutes > LEAST_MINUTES:
        if not smaller.fails(replace(smaller.plan, minutes=smaller.plan.minutes / 2)):
            break
    smaller.leave_out("off")
    smaller.leave_out("muted")
    return smaller.plan, smaller.failed


def _parts(names: Sequence[str], size: int) -> list[Sequence[str]]:
    # The last first: what comes after the failure can go at once.
    return [names[max(0, end - size) : end] for end in range(len(names), 0, -size)]
