"""Makes a failing run smaller: fewer kinds of faults, then fewer occurrences, as long as it fails."""

from collections.abc import Sequence
from dataclasses import replace

from scripts.simulation.chance import UNPROVEN
from scripts.simulation.kinds import ALL_FAULTS
from scripts.simulation.run import Outcome, Plan, simulate

TRIES = 150


def smallest(plan: Plan, failed: Outcome) -> tuple[Plan, Outcome]:
    """Give the smallest plan that still breaks a promise, and what comes of it.

    Args:
        plan: A plan that breaks one.
        failed: What came of it.
    """
    tries = TRIES
    for fault in [*ALL_FAULTS, *UNPROVEN]:
        if not any(name.startswith(f"{fault}#") for name in failed.struck):
            continue
        without = replace(plan, off=plan.off | {fault})
        tries -= 1
        if (outcome := simulate(without)).broken:
            plan, failed = without, outcome
    size = max(1, len(failed.struck) // 2)
    while tries > 0:
        left = False
        for part in _parts(failed.struck, size):
            without = replace(plan, muted=plan.muted.union(part))
            tries -= 1
            if tries > 0 and (outcome := simulate(without)).broken:
                plan, failed, left = without, outcome, True
        if size == 1 and not left:
            break
        size = max(1, size // 2)
    return plan, failed


def _parts(names: Sequence[str], size: int) -> list[Sequence[str]]:
    # The last first: what comes after the failure can go at once.
    return [names[max(0, end - size) : end] for end in range(len(names), 0, -size)]
