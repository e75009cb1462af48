"""Compares an entity as Port lists it with its last known state; a difference becomes a change. Pure."""

from collections.abc import Container
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from app.model.change import CREATE, DELETE, RECONCILE, UPDATE, EntitySnapshot
from app.model.diff import Field, PropertyChange, diff, same_field
from app.model.times import MICRO, Micros, to_micros
from app.port.listing import ListedEntity, is_level
from app.receive.event import build_event, encode
from app.rules.last_known import SKEW_MICROS, LastKnown, first_state
from app.rules.watched import Watched, snapshot_of

SETTLED_MICROS = timedelta(seconds=1) // MICRO
"""What changed so shortly before Port was asked, by our clock, is not judged: the next run is soon enough."""


@dataclass(frozen=True, slots=True)
class EntityDifference:
    """An entity that is not as its last known state says.

    Attributes:
        blueprint: Its blueprint.
        entity: Its identifier.
        action: ``CREATE``, ``UPDATE`` or ``DELETE``.
        before: By its last known state, as far as it is watched; None: there is none.
        after: As Port lists it; None: it does not.
        at: When it changed, as far as anybody knows, UTC.
        missed: Port should have sent a webhook: the difference is not only in computed values.
        version: The version of the last known state.
    """

    blueprint: str
    entity: str
    action: str
    before: EntitySnapshot | None
    after: EntitySnapshot | None
    at: datetime
    missed: bool
    version: int

    @property
    def changes(self) -> tuple[PropertyChange, ...]:
        """What differs, value by value."""
        return diff(self.before, self.after)

    def body(self, found_at: datetime) -> bytes:
        """Build the body of the one change that the difference stands for, in the form of Port's event."""
        event = build_event(
            action=self.action,
            blueprint=self.blueprint,
            entity=self.entity,
            at=self.at,
            origin=RECONCILE,
            by={},
            before=self.before,
            after=self.after,
        )
        return encode(event | {"foundAt": found_at.isoformat()})


def compare(
    known: LastKnown | None,
    listed: ListedEntity,
    watched: Watched,
    *,
    asked_at: datetime,
    first: bool,
    now: datetime,
    ahead: timedelta = timedelta(0),
    alert: bool = False,
    computed: Container[Field] = frozenset(),
) -> LastKnown | EntityDifference | None:
    """Compare an entity as Port lists it with its last known state.

    The result is a state to record, of which nobody is alerted, or the difference that is news. None: it is
    the same, or a change came in between, and what was read may be older than that: the next run looks again.

    Args:
        known: The state; None: there is none.
        listed: The entity.
        watched: The fields to compare.
        asked_at: When Port was asked, by our clock: the answer is of that time or later.
        first: Its blueprint has never been read to the end: everything is recorded, nothing is news.
        now: The time, UTC.
        ahead: By how much our clock is ahead of Port's: what happened is dated by Port's.
        alert: With `first`, what is wrong is news all the same: as a change from nothing.
        computed: The fields whose values come from other entities: the entity's time says nothing of those.
    """
    values = watched.values(listed.entity)
    if not listed.levels:
        values = {name: value for name, value in values.items() if not is_level(name)}
    # Of a scorecard that is not named nothing has changed.
    seen = known.values if known else {}
    values |= {name: seen[name] for name in seen if is_level(name) and values.get(name) is None}
    at = to_micros(listed.updated_at or asked_at - ahead)
    touched = known is not None and _touched(known, asked_at, now)
    record_only = first and not alert
    differing: frozenset[Field] = frozenset()
    if known is None or known.gone or (known.exists is None and not record_only):
        # What is listed may also be from before the deletion, of which the webhook was faster.
        if touched or (known and known.gone and at + SKEW_MICROS < known.exists_at):
            return None
        if record_only:
            fresh = first_state(values, at, watched, to_micros(now))
            return replace(fresh, version=known.version + 1) if known else fresh
    else:
        differing = _differing(known, values, at, watched, computed)
        if differing and touched:
            return _existing(known, now) if record_only and known.exists is None else None
        if not differing or record_only:
            return _adopt(known, values, differing, at, watched, now)
    entity = listed.entity
    only_computed = bool(differing) and all(name in computed or is_level(name) for name in differing)
    before = None
    if known is not None and differing:
        before = _before(known, entity, values, differing)
    elif first:
        before = EntitySnapshot(entity.identifier, entity.blueprint, entity.title, None, entity.teams)
    return EntityDifference(
        entity.blueprint,
        entity.identifier,
        CREATE if before is None else UPDATE,
        before,
        replace(snapshot_of(entity.identifier, entity.blueprint, values), teams=entity.teams),
        # A computed value may change without moving the entity's own time.
        (None if only_computed else listed.updated_at) or asked_at - ahead,
        missed=not first and not only_computed,
        version=known.version if known else 0,
    )


def compare_absent(
    blueprint: str,
    entity: str,
    known: LastKnown,
    *,
    asked_at: datetime,
    now: datetime,
    record_only: bool,
    ahead: timedelta = timedelta(0),
) -> LastKnown | EntityDifference | None:
    """Judge an entity that has a state, and that Port did not have at `asked_at`, as `compare` does.

    With `record_only` nothing is news.
    """
    at = asked_at - ahead
    if known.gone or _touched(known, asked_at, now):
        return None
    if record_only:
        version = known.version + 1
        return LastKnown({}, {}, False, to_micros(at), version=version, moved_at=to_micros(asked_at))
    before = snapshot_of(entity, blueprint, known.values)
    return EntityDifference(blueprint, entity, DELETE, before, None, at, True, known.version)


def _touched(known: LastKnown, asked_at: datetime, now: datetime) -> bool:
    """Tell whether a change may have come since Port was asked."""
    # One from the future has come while the clock was ahead: that was before.
    return to_micros(asked_at) - SETTLED_MICROS <= known.moved_at <= to_micros(now) + SETTLED_MICROS


def _differing(
    known: LastKnown, values: dict[Field, Any], at: Micros, watched: Watched, computed: Container[Field]
) -> frozenset[Field]:
    # Port's search index may be behind, and not have a change of which the webhook is here already.
    behind = {
        name
        for name, time in known.times.items()
        if at + SKEW_MICROS < time and not (name in computed or is_level(name))
    }
    return frozenset(
        name
        for name in {*values, *known.values} - behind
        if name in watched
        and not known.lacks(name)
        and not same_field(name, known.values.get(name), values.get(name))
    )


def _adopt(
    known: LastKnown,
    values: dict[Field, Any],
    differing: frozenset[Field],
    at: Micros,
    watched: Watched,
    now: datetime,
) -> LastKnown | None:
    """Record values that differ in a first reading, and fields that are newly watched, or no longer."""
    whole = watched.fields is None
    lacking = {name for name in values if known.lacks(name)}
    unwatched = {name for name in known.values if name not in watched}
    # What an entity lacks is null where certain fields are kept, and left out where all are.
    nulls = set() if whole else values.keys() - known.values.keys()
    if not (differing or lacking or unwatched or nulls or known.exists is None or known.whole is not whole):
        return None
    fresh = differing | lacking | nulls
    kept = {name: value for name, value in known.values.items() if name not in fresh | unwatched}
    times = {name: time for name, time in known.times.items() if name in watched} | dict.fromkeys(fresh, at)
    after = {**kept, **{name: values[name] for name in fresh if name in values}}
    return replace(_existing(known, now), values=after, times=times, whole=whole)


def _existing(known: LastKnown, now: datetime) -> LastKnown:
    return replace(known, exists=True, version=known.version + 1, moved_at=to_micros(now))


def _before(
    known: LastKnown, entity: EntitySnapshot, values: dict[Field, Any], fields: frozenset[Field]
) -> EntitySnapshot:
    # Only the fields that differ are taken from the state: of the others it may lack some.
    old = values | {name: known.values.get(name) for name in fields}
    before = snapshot_of(entity.identifier, entity.blueprint, old)
    same_teams = same_field("team", old.get("team"), values.get("team"))
    return replace(before, teams=entity.teams) if same_teams else before  # their order is no change
