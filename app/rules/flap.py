"""Flapping: an entity that changes too often to alert each time."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Annotated

from pydantic import AfterValidator, Field

from app.model.incident import Incident
from app.rules.condition import Duration
from app.rules.values import Strict

MAX_WINDOW = timedelta(hours=24)
"""As long as the store keeps an incident that has ended: longer, and its earlier moves would be forgotten."""


def _at_most_a_day(window: timedelta) -> timedelta:
    if window > MAX_WINDOW:
        raise ValueError("must be 24h at the most")
    return window


class Flap(Strict):
    """How often is too often.

    Attributes:
        changes: From so many changes on an entity flaps.
        within: That is, so many within this time; and stable is what has not changed for as long.
    """

    changes: Annotated[int, Field(ge=2, le=100)]
    within: Annotated[Duration, AfterValidator(_at_most_a_day)]


def moved(incident: Incident, flap: Flap, at: datetime) -> Incident:
    """Note that an incident opens, changes or ends at a time, and whether it flaps from then on."""
    # Stable for a whole window starts the count afresh, however many moves came before.
    stable = bool(incident.moves) and at - incident.moves[-1] >= flap.within
    recent = () if stable else tuple(move for move in incident.moves if at - move < flap.within)
    moves = (*recent, at)[-flap.changes :]  # older ones cannot make the number full again
    flapping = (incident.flapping and not stable) or len(moves) >= flap.changes
    return replace(incident, moves=moves, flapping=flapping)
