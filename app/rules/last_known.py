"""The last known state of an entity: what the rules have seen of it, field by field.

It is not simply the newest entity that was seen. A change moves only the fields that it changed; so when the
webhook of one change was lost, the next one, of another field, does not hide it, and reconciling still finds
the difference. Everything here is pure.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

import orjson

from app.model.change import DELETE, CatalogChange
from app.model.diff import Field, PropertyChange, fields_of, same_field
from app.model.immutable import immutable
from app.model.times import MICRO, Micros, to_micros
from app.rules.rule import Rule
from app.rules.watched import Watched

# Kept: making one takes longer than its use.
_VALUES_JSON = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
SKEW_MICROS = timedelta(seconds=5) // MICRO
"""How far the time of an event and the entity's own `updatedAt` may lie apart, and be of one change."""
MAX_ALERTED = 8
"""How many alerts by reconciling are remembered for an entity and a rule."""
BEFORE_ALL = Micros(0)
EXISTENCE = ""
"""The field that stands for whether the entity exists at all."""


@dataclass(frozen=True, slots=True)
class ReconcileAlert:
    """An alert by reconciling, kept so that a webhook which comes later does not repeat it.

    Attributes:
        since: It covers changes after this time
        until: up to this time,
        nearly: and up to this time too, where they lead to the same values.
        digest: A hash of these values.
    """

    since: Micros
    until: Micros
    nearly: Micros
    digest: str


@immutable(frozen=True, slots=True)
class LastKnown:
    """The last known state of an entity.

    Attributes:
        values: The watched values that the rules have seen, or that a first reading recorded.
        times: When each of them last changed.
        exists: Whether the entity exists; None: changes of it came, but its creation alerted nobody.
        exists_at: Since when.
        whole: All values of the entity are kept, and what it lacks is null; else only certain fields are.
        reconciled: The fields that reconciling moved last.
        alerted: The alerts by reconciling, by rule, oldest first.
        version: Counts its changes.
        moved_at: When it was last changed here, by our clock.
    """

    values: Mapping[Field, Any]
    times: Mapping[Field, Micros]
    exists: bool | None
    exists_at: Micros
    whole: bool = False
    reconciled: frozenset[Field] = frozenset()
    alerted: Mapping[str, tuple[ReconcileAlert, ...]] = field(default_factory=dict)
    version: int = 1
    moved_at: Micros = BEFORE_ALL

    @property
    def gone(self) -> bool:
        """Whether the entity was deleted."""
        return self.exists is False

    @property
    def at(self) -> Micros:
        """The time of the last change."""
        return max(self.times.values(), default=self.exists_at)

    def lacks(self, name: Field) -> bool:
        """Tell whether a field was never seen: it was not watched when the entity was first read."""
        return not self.whole and name not in self.values

    def is_late(self, name: Field, at: Micros) -> bool:
        """Tell whether a change of a field happened before the one that is kept."""
        known_at = self.exists_at if name == EXISTENCE else self.times.get(name, 0)
        # At the very time of a difference that reconciling found, the change is that difference.
        return at < known_at or (at == known_at and name in self.reconciled)


def canonical(values: Mapping[Field, Any]) -> str:
    """Encode values as JSON that is the same for the same values; without NUL, for PostgreSQL's sake."""
    try:
        text = orjson.dumps(values, option=orjson.OPT_SORT_KEYS).decode()
    except TypeError:  # a number of more than 64 bits, or too deep
        text = _VALUES_JSON.encode(values)
    return text.replace(r"\u0000", r"\ufffd") if r"\u0000" in text else text


def first_state(
    values: Mapping[Field, Any], at: Micros, watched: Watched, now: Micros, *, exists: bool | None = True
) -> LastKnown:
    """Make the state of an entity that is seen for the first time, and last changed `at` a time."""
    times = dict.fromkeys(values, at)
    return LastKnown(values, times, exists, at, whole=watched.fields is None, moved_at=now)


def after_change(
    known: LastKnown | None,
    change: CatalogChange,
    changes: Iterable[PropertyChange],
    watched: Watched,
    now: datetime,
) -> LastKnown | None:
    """Move the state of an entity, None if it is new, by a change that came from Port; None: it stays."""
    at, here = to_micros(change.at), to_micros(now)
    if change.action == DELETE:
        # One that comes after a newer change is late, too: the entity was created again since.
        late = known and (known.is_late(EXISTENCE, at) or any(seen > at for seen in known.times.values()))
        return None if late else gone(known, at, here)
    # What one side says no rule was asked about: recorded, it would hide a change whose webhook was lost.
    if change.after is None or not change.is_whole:
        return None
    if known is None or known.gone:
        if known and known.is_late(EXISTENCE, at):
            return None
        # Not created by this change: of its creation the rules have seen nothing yet.
        created = True if change.before is None else None
        return _next(known, first_state(watched.values(change.after), at, watched, here, exists=created))
    # Field by field: a change that is late for one field may be the newest of another.
    moved = {name for name in fields_of(changes) if name in watched and not known.is_late(name, at)}
    created = change.before is None and known.exists is None
    if not moved and not created:
        return None
    after = _moved(known, moved, watched.values(change.after), at, here)
    if created:
        after = replace(after, exists=True, exists_at=at)
    return _capped(known, after, at)


def was_alerted(
    known: LastKnown | None, rule: Rule, change: CatalogChange, *, reconciled: bool = False
) -> bool:
    """Tell whether reconciling has already sent the alert that a change would lead to under a rule.

    A difference that is `reconciled` itself is the same only with the same values: an entity that was found
    to be new may have alerted of them before.
    """
    at = to_micros(change.at)
    alerts = known.alerted.get(rule.name, ()) if known else ()
    return any(
        alert.since < at <= alert.nearly
        and ((at <= alert.until and not reconciled) or _digest(rule, change) == alert.digest)
        for alert in alerts
    )


def after_reconciling(
    known: LastKnown | None,
    change: CatalogChange,
    changes: Iterable[PropertyChange],
    watched: Watched,
    rules: Iterable[Rule],
    now: datetime,
) -> LastKnown:
    """Move the state of an entity, None if it is new, by a difference, which alerted under some rules."""
    at, here = to_micros(change.at), to_micros(now)
    moved = frozenset(name for name in fields_of(changes) if name in watched)
    if change.after is None:
        after = replace(gone(known, at, here), reconciled=frozenset({EXISTENCE}))
    elif known is None or known.gone:
        after = _next(known, first_state(watched.values(change.after), at, watched, here))
        after = replace(after, reconciled=frozenset({EXISTENCE, *after.values}))
    else:
        values = watched.values(change.after)
        lacking = {name for name in values if known.lacks(name)}
        # Changes of the entity came before its creation was found: their alerts are not repeated.
        after = _moved(known, lacking if change.before is None else moved | lacking, values, at, here)
        reconciled = known.reconciled | (after.reconciled if change.before is None else moved)
        after = replace(after, reconciled=reconciled, whole=known.whole or watched.fields is None)
        if known.exists is None:
            after = replace(after, exists=True, exists_at=at, reconciled=reconciled | {EXISTENCE})
    alerted = {rule.name: _alerted(known, rule, change, moved, at) for rule in rules}
    return replace(after, alerted={**after.alerted, **alerted}) if alerted else after


def _alerted(
    known: LastKnown | None, rule: Rule, change: CatalogChange, moved: frozenset[Field], at: Micros
) -> tuple[ReconcileAlert, ...]:
    """Add the alert of a difference, with the time from which on a webhook would repeat it."""
    since = BEFORE_ALL
    if known is not None:
        # Only the fields that the rule reads: since the oldest of them its webhook may have been missing.
        names = moved if rule.fields is None else moved & rule.fields
        if change.before is None or change.after is None or not names:
            since = known.exists_at if known.exists is not None else BEFORE_ALL
        else:
            since = min(known.times.get(name, BEFORE_ALL) for name in names)
    before = known.alerted.get(rule.name, ()) if known else ()
    since = min(since, Micros(at - 1))  # the change itself is always covered
    alert = ReconcileAlert(since, at, Micros(at + SKEW_MICROS), _digest(rule, change))
    return (*before, alert)[-MAX_ALERTED:]


def _digest(rule: Rule, change: CatalogChange) -> str:
    """Hash the values that a rule reads, as they are after a change."""
    if change.after is None:
        return "gone"
    values = Watched(rule.fields).values(change.after)
    return sha256(canonical(values).encode()).hexdigest()[:16]


def gone(known: LastKnown | None, at: Micros, now: Micros) -> LastKnown:
    """Make the state of an entity that is not there any more `at` a time."""
    return _next(known, LastKnown({}, {}, False, at, moved_at=now))


def _next(known: LastKnown | None, after: LastKnown) -> LastKnown:
    return replace(after, version=known.version + 1, alerted=known.alerted) if known else after


def _moved(
    known: LastKnown, names: Iterable[Field], values: Mapping[Field, Any], at: Micros, now: Micros
) -> LastKnown:
    new, times = dict(known.values), dict(known.times)
    for name in names:
        times[name] = at
        # Where all values are kept, a null is left out; else null says that the field was seen.
        if known.whole and values.get(name) is None:
            new.pop(name, None)
        else:
            new[name] = values.get(name)
    reconciled = known.reconciled - set(names)
    return replace(
        known, values=new, times=times, reconciled=reconciled, version=known.version + 1, moved_at=now
    )


def _capped(known: LastKnown, after: LastKnown, at: Micros) -> LastKnown:
    """End what alerts by reconciling cover at a change of values: what comes after it can only be news."""
    names = {*known.values, *after.values}
    if not known.alerted or all(
        same_field(name, known.values.get(name), after.values.get(name)) for name in names
    ):
        return after
    before = Micros(at - 1)
    alerted = {
        rule: tuple(
            replace(alert, nearly=before) if alert.until < at <= alert.nearly else alert for alert in alerts
        )
        for rule, alerts in after.alerted.items()
    }
    return replace(after, alerted=alerted)
