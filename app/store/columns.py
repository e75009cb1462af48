"""How columns that have several facts, or a special value, are written and read."""

import json
from functools import lru_cache

from app.model.incident import ALL_STEPS, Acknowledgement, Person, Route, Step
from app.model.times import Micros, from_micros, to_micros
from app.rules.kin.quiet import UNTIL_TOLD

UNTIL_RELEASED = to_micros(UNTIL_TOLD)
"""When a delivery is due of which the incident is quiet."""
_LATER, _ANY_TIME = "later", "any time"
"""What follows the steps of a place that only an escalation would reach, or that no hours keep quiet."""


@lru_cache(maxsize=1024)
def told_json(told: tuple[Route, ...]) -> str:
    """Write where an incident was told as the column ``told`` has it."""
    return json.dumps(
        [
            (
                place.destination,
                place.queue,
                *(() if place.steps == ALL_STEPS else sorted(place.steps)),
                *(mark for mark, is_so in ((_LATER, place.later), (_ANY_TIME, place.at_any_time)) if is_so),
            )
            for place in told
        ]
    )


@lru_cache(maxsize=1024)
def told_of(text: str) -> tuple[Route, ...]:
    """Read the column ``told``."""
    return tuple(
        Route(
            destination,
            queue,
            frozenset(Step(step) for step in steps if step not in (_LATER, _ANY_TIME)) or ALL_STEPS,
            later=_LATER in steps,
            at_any_time=_ANY_TIME in steps,
        )
        for destination, queue, *steps in json.loads(text)
    )


def acknowledgement_columns(acknowledged: Acknowledgement | None) -> tuple[Micros | None, str]:
    """Write the columns ``acknowledged_at`` and ``acknowledged_by``."""
    if acknowledged is None:
        return None, ""
    by = acknowledged.by
    return to_micros(acknowledged.at), json.dumps([by.name, by.way, by.id])


def acknowledgement_of(at: Micros | None, by: str) -> Acknowledgement | None:
    """Read an incident's columns ``acknowledged_at`` and ``acknowledged_by``."""
    return None if at is None else Acknowledgement(from_micros(at), Person(*json.loads(by)))
