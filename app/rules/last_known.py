"""The last known state of an entity: what the rules have been told of it, field by field.

It is not simply the newest entity that was seen. A change moves only the fields that it changed; so when the
webhook of one change was lost, the next one, of another field, does not hide it, and a comparison with Port
still finds the difference. Times are micros since 1970, as the store has them; everything here is pure.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from app.model.change import CatalogChange
from app.model.diff import PropertyChange, same
from app.rules.rule import Rule
from app.rules.watched import Field, Watched, condition_fields, fields_of

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICRO = timedelta(microseconds=1)
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"))  # one for all: to make it takes longest
SKEW = timedelta(seconds=5) // MICRO
"""How far the time of an event and the entity's own `updatedAt` may lie apart, and be of one change."""
MOST_TOLD = 8
"""What a rule was told of an entity by this many comparisons is remembered."""
EXISTENCE = ""
"""Among the fields that a comparison moved: whether the entity exists at all."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a comparison has told for a rule, so that a webhook which comes later does not tell it again.

    Attributes:
        since: Changes after this time are in it.
        until: Up to this time.
        nearly: Up to this time too, where they lead to the same values.
        digest: Of these values.
    """

    since: int
    until: int
    nearly: int
    digest: str


@dataclass(frozen=True, slots=True)
class Known:
    """The last known state of an entity.

    Attributes:
        values: The watched values that the rules have been told, or that were learned silently.
        times: When each of them last changed.
        exists: Whether the entity exists; None: changes of it came, but nobody was told of its creation.
        exists_at: Since when.
        whole: It has all that the entity has, and what it lacks is null; else only certain fields.
        noticed: The fields that a comparison moved last.
        told: What comparisons told, by rule, oldest first.
        version: Counts its changes.
        moved_at: When we last changed it, by our clock.
    """

    values: Mapping[Field, Any]
    times: Mapping[Field, int]
    exists: bool | None
    exists_at: int
    whole: bool = False
    noticed: frozenset[Field] = frozenset()
    told: Mapping[str, tuple[Told, ...]] = field(default_factory=dict)
    version: int = 1
    moved_at: int = 0

    @property
    def gone(self) -> bool:
        """Whether the entity was deleted."""
        return self.exists is False

    @property
    def at(self) -> int:
        """The time of the last change."""
        return max(self.times.values(), default=self.exists_at)

    def lacks(self, name: Field) -> bool:
        """Tell whether nothing is known of a field: it was not watched when the entity was learned."""
        return not self.whole and name not in self.values

    def late(self, name: Field, at: int) -> bool:
        """Tell whether a change of a field happened before what is known of it."""
        known_at = self.exists_at if name == EXISTENCE else self.times.get(name, 0)
        return at < known_at or (at == known_at and name in self.noticed)


def micros(time: datetime) -> int:
    """Return a time as whole microseconds since 1970."""
    return (time - EPOCH) // MICRO


def canonical(values: Mapping[Field, Any]) -> str:
    """Return values as text that is the same for the same values; without what PostgreSQL cannot store."""
    text = _ENCODER.encode(values)
    return text.replace(r"\u0000", r"\ufffd") if r"\u0000" in text else text


def learned(
    values: Mapping[Field, Any], at: int, watched: Watched, now: int, *, exists: bool | None = True
) -> Known:
    """Return what is known of an entity that was seen for the first time."""
    times = dict.fromkeys(values, at)
    return Known(values, times, exists, at, whole=watched.fields is None, moved_at=now)


def follow(
    known: Known | None,
    change: CatalogChange,
    changes: Iterable[PropertyChange],
    watched: Watched,
    now: datetime,
) -> Known | None:
    """Return what is known of an entity after a change that came from Port; None: as before.

    Args:
        known: What was known.
        change: The change.
        changes: What changed in it.
        watched: What is watched.
        now: The time, UTC.
    """
    at, here = micros(change.at), micros(now)
    if change.after is None:
        if change.before is None or (known and known.late(EXISTENCE, at)):
            return None
        return _gone(known, at, here)
    if known is None or known.gone:
        if known and known.late(EXISTENCE, at):
            return None
        created = True if change.before is None else None
        fresh = learned(watched.values(change.after), at, watched, here, exists=created)
        return replace(fresh, version=known.version + 1, told=known.told) if known else fresh
    moved = {name for name in fields_of(changes) if name in watched and not known.late(name, at)}
    created = change.before is None and known.exists is None
    if not moved and not created:
        return None
    after = _moved(known, moved, watched.values(change.after), at, here)
    if created:
        after = replace(after, exists=True, exists_at=at)
    return _capped(known, after, at)


def covered(known: Known | None, rule: Rule, change: CatalogChange) -> bool:
    """Tell whether a comparison has told for a rule already what a change would."""
    at = micros(change.at)
    told = known.told.get(rule.name, ()) if known else ()
    return any(
        one.since < at <= one.nearly and (at <= one.until or _digest(rule, change) == one.digest)
        for one in told
    )


def notice(
    known: Known | None,
    change: CatalogChange,
    changes: Iterable[PropertyChange],
    watched: Watched,
    rules: Iterable[Rule],
    now: datetime,
) -> Known:
    """Return what is known of an entity after a change that a comparison has found.

    Args:
        known: What was known.
        change: The change that the difference stands for.
        changes: What changed in it.
        watched: What is watched.
        rules: The rules for which it told something.
        now: The time, UTC.
    """
    at, here = micros(change.at), micros(now)
    moved = frozenset(name for name in fields_of(changes) if name in watched)
    if change.after is None:
        after = replace(_gone(known, at, here), noticed=frozenset({EXISTENCE}))
    elif known is None or known.gone:
        after = learned(watched.values(change.after), at, watched, here)
        after = replace(after, noticed=frozenset({EXISTENCE, *after.values}))
        after = replace(after, version=known.version + 1, told=known.told) if known else after
    else:
        values = watched.values(change.after)
        lacking = {name for name in values if known.lacks(name)}
        # An entity of which changes came before its creation was noticed: what they told stays told.
        after = _moved(known, lacking if change.before is None else moved | lacking, values, at, here)
        noticed = known.noticed | (after.noticed if change.before is None else moved)
        after = replace(after, noticed=noticed, whole=known.whole or watched.fields is None)
        if known.exists is None:
            after = replace(after, exists=True, exists_at=at, noticed=noticed | {EXISTENCE})
    told = {rule.name: _told(known, rule, change, moved, at) for rule in rules}
    return replace(after, told={**after.told, **told}) if told else after


def _told(
    known: Known | None, rule: Rule, change: CatalogChange, moved: frozenset[Field], at: int
) -> tuple[Told, ...]:
    since = 0
    if known is not None:
        read = condition_fields(rule)
        names = moved if read is None else moved & read
        if change.before is None or change.after is None or not names:
            since = known.exists_at if known.exists is not None else 0
        else:
            since = min(known.times.get(name, 0) for name in names)
    before = known.told.get(rule.name, ()) if known else ()
    return (*before, Told(min(since, at - 1), at, at + SKEW, _digest(rule, change)))[-MOST_TOLD:]


def _digest(rule: Rule, change: CatalogChange) -> str:
    """Return what stands for the values that a rule reads, after a change."""
    if change.after is None:
        return "gone"
    values = Watched(condition_fields(rule)).values(change.after)
    return sha256(canonical(values).encode()).hexdigest()[:16]


def _gone(known: Known | None, at: int, now: int) -> Known:
    version = known.version + 1 if known else 1
    return Known({}, {}, False, at, told=known.told if known else {}, version=version, moved_at=now)


def _moved(known: Known, names: Iterable[Field], values: Mapping[Field, Any], at: int, now: int) -> Known:
    new, times = dict(known.values), dict(known.times)
    for name in names:
        times[name] = at
        if known.whole and values.get(name) is None:
            new.pop(name, None)
        else:
            new[name] = values.get(name)
    noticed = known.noticed - set(names)
    return replace(known, values=new, times=times, noticed=noticed, version=known.version + 1, moved_at=now)


def _capped(known: Known, after: Known, at: int) -> Known:
    """Take away from what comparisons told what can only be news: what is later than a change of values."""
    names = {*known.values, *after.values}
    if not known.told or all(same(known.values.get(one), after.values.get(one)) for one in names):
        return after
    told = {
        rule: tuple(replace(one, nearly=at - 1) if one.until < at <= one.nearly else one for one in some)
        for rule, some in after.told.items()
    }
    return replace(after, told=told)
