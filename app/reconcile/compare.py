"""What Port's list of entities says against what is known of them: the pure part of the comparison."""

from collections.abc import Container
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from app.port.listing import Listed
from app.rules.last_known import MICRO, SKEW, Known, learned, micros
from app.rules.watched import Field, Watched, same_value

SETTLED = timedelta(seconds=1) // MICRO
"""What changed so shortly before Port was asked, by our clock, is not judged: the next run is soon enough."""


class Verdict(StrEnum):
    """What a comparison came to."""

    SAME = "same"
    LEARN = "learn"
    """Take note of it, and tell nobody."""
    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"
    TOUCHED = "touched"
    """A change came in between: what was read may be older than that. The next run looks again."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a comparison came to.

    Attributes:
        verdict: What.
        known: With `LEARN`, what is known from now on.
        fields: With `UPDATED`, the fields that differ.
    """

    verdict: Verdict
    known: Known | None = None
    fields: frozenset[Field] = frozenset()


SAME = Found(Verdict.SAME)
TOUCHED = Found(Verdict.TOUCHED)


def compare(
    known: Known | None,
    listed: Listed,
    watched: Watched,
    *,
    asked_at: datetime,
    first: bool,
    now: datetime,
    computed: Container[Field] = frozenset(),
) -> Found:
    """Compare an entity as Port lists it with what is known of it.

    Args:
        known: What is known.
        listed: What Port says.
        watched: What is watched.
        asked_at: When Port was asked, by our clock: it says how things were then, or later.
        first: Its blueprint has never been read to the end: everything is learned, nothing is news.
        now: The time, UTC.
        computed: The fields whose values come from other entities: of those the entity's time says nothing.
    """
    values = watched.values(listed.entity)
    at = micros(listed.updated_at or asked_at)
    if known is None:
        if not first:
            return Found(Verdict.CREATED)
        return Found(Verdict.LEARN, learned(values, at, watched, micros(now)))
    touched = known.moved_at >= micros(asked_at) - SETTLED
    if known.gone:
        if touched or at + SKEW < known.exists_at:
            return TOUCHED
        fresh = replace(learned(values, at, watched, micros(now)), version=known.version + 1)
        return Found(Verdict.LEARN, fresh) if first else Found(Verdict.CREATED)
    if known.exists is None and not first:
        return TOUCHED if touched else Found(Verdict.CREATED)
    # Port's search may be behind, and not have seen what is known.
    behind = {one for one, time in known.times.items() if one not in computed and at + SKEW < time}
    differing = frozenset(
        one
        for one in {*values, *known.values} - behind
        if one in watched
        and not known.lacks(one)
        and not same_value(one, known.values.get(one), values.get(one))
    )
    if differing and touched:
        return Found(Verdict.LEARN, _exists(known, now)) if first and known.exists is None else TOUCHED
    if differing and not first:
        return Found(Verdict.UPDATED, fields=differing)
    return _adopt(known, values, differing, at, watched, now)


def missing(known: Known, *, asked_at: datetime, first: bool) -> Found:
    """Judge an entity that is known, and that Port does not have.

    Args:
        known: What is known.
        asked_at: When Port was asked.
        first: See `compare`.
    """
    if known.gone:
        return SAME
    if known.moved_at >= micros(asked_at) - SETTLED:
        return TOUCHED
    if first:
        gone = Known({}, {}, False, micros(asked_at), version=known.version + 1, moved_at=micros(asked_at))
        return Found(Verdict.LEARN, gone)
    return Found(Verdict.DELETED)


def _adopt(
    known: Known,
    values: dict[Field, Any],
    differing: frozenset[Field],
    at: int,
    watched: Watched,
    now: datetime,
) -> Found:
    """Learn values that differ in a first run, and what has begun, or ceased, to be watched."""
    whole = watched.fields is None
    lacking = {one for one in values if known.lacks(one)}
    unread = {one for one in known.values if one not in watched}
    # What an entity lacks is null in one way of keeping it, and left out in the other.
    unsaid = set() if whole else values.keys() - known.values.keys()
    if not (differing or lacking or unread or unsaid or known.exists is None or known.whole is not whole):
        return SAME
    fresh = differing | lacking | unsaid
    kept = {one: value for one, value in known.values.items() if one not in fresh | unread}
    times = {one: time for one, time in known.times.items() if one in watched} | dict.fromkeys(fresh, at)
    after = {**kept, **{one: values[one] for one in fresh if one in values}}
    return Found(Verdict.LEARN, replace(_exists(known, now), values=after, times=times, whole=whole))


def _exists(known: Known, now: datetime) -> Known:
    return replace(known, exists=True, version=known.version + 1, moved_at=micros(now))


def of_others(fields: frozenset[Field], computed: Container[Field]) -> bool:
    """Tell whether all fields that differ are computed from other entities: Port calls nobody for those."""
    return all(one in computed for one in fields)
