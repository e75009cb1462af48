"""What Port's list of entities says against what is known of them: the pure part of the comparison."""

from collections.abc import Container
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from app.alerts.change import EntitySnapshot
from app.alerts.known import MICRO, SKEW, Known, canonical, learned, micros
from app.alerts.watched import Field, Watched, same_value

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
class Listed:
    """An entity as Port lists it.

    Attributes:
        entity: The entity, as far as was asked.
        updated_at: When it changed last, by Port; None: it does not say.
    """

    entity: EntitySnapshot
    updated_at: datetime | None = None


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
    known: Known | None, listed: Listed, watched: Watched, *, asked_at: datetime, first: bool, now: datetime
) -> Found:
    """Compare an entity as Port lists it with what is known of it.

    Args:
        known: What is known.
        listed: What Port says.
        watched: What is watched.
        asked_at: When Port was asked, by our clock: it says how things were then, or later.
        first: Its blueprint has never been read to the end: everything is learned, nothing is news.
        now: The time, UTC.
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
    return _compare_values(known, values, at, watched, touched=touched, first=first, now=now)


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


def unchanged(known: Known, text: str) -> bool:
    """Tell at a glance whether an entity is as it is known; False: look closer.

    Args:
        known: What is known.
        text: The `canonical` text of the watched values that Port lists.
    """
    return known.exists is True and canonical(known.values) == text


def _compare_values(
    known: Known,
    values: dict[Field, object],
    at: int,
    watched: Watched,
    *,
    touched: bool,
    first: bool,
    now: datetime,
) -> Found:
    names = [one for one in {*values, *known.values} if one in watched]
    lacking = {one for one in names if known.lacks(one)}
    differing = frozenset(
        one
        for one in names
        if one not in lacking
        and not same_value(one, known.values.get(one), values.get(one))
        and at + SKEW >= known.times.get(one, 0)
    )
    if differing and touched:
        return Found(Verdict.LEARN, _exists(known, now)) if first and known.exists is None else TOUCHED
    if differing and not first:
        return Found(Verdict.UPDATED, fields=differing)
    unread = known.values.keys() - set(names)
    whole = watched.fields is None
    if not (differing or lacking or unread or known.exists is None or known.whole is not whole):
        return SAME
    kept = {one: value for one, value in known.values.items() if one in watched}
    fresh = {one: values.get(one) for one in differing | lacking if one in values}
    if not whole:  # what the entity lacks is null from now on, and no longer only missing
        fresh |= {one: values.get(one) for one in values.keys() - kept.keys()}
    kept = {one: value for one, value in kept.items() if one not in differing} | fresh
    times = {one: value for one, value in known.times.items() if one in watched}
    times |= dict.fromkeys(fresh.keys() | differing, at)
    after = replace(_exists(known, now), values=kept, times=times, whole=whole)
    return Found(Verdict.LEARN, after)


def _exists(known: Known, now: datetime) -> Known:
    return replace(known, exists=True, version=known.version + 1, moved_at=micros(now))


def of_others(fields: frozenset[Field], computed: Container[Field]) -> bool:
    """Tell whether all fields that differ are computed from other entities: Port calls nobody for those."""
    return all(one in computed for one in fields)
