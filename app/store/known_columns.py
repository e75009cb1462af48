"""How last known states stand in the columns of a table: the same in every store."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from app.model.times import MICRO
from app.rules.last_known import LastKnown, ReconcileAlert, canonical
from app.store.columns import CLOCKS_DIFFER, from_micros, time_or_none
from app.store.reconciling import Progress, Run

KNOWN = "at, moved_at, version, gone, state, marks"
THERE, WHOLE = '"exists":[true,', '"whole":true}'
"""How the marks of an entity begin that is known to exist, and end where all that it has is kept."""
ABSURD = CLOCKS_DIFFER // MICRO
"""A run that is so much ahead of us was begun before the clock was set back: it hinders nobody."""
RUN = "id, reason, started_at, lease_until, ended_at, entities, learned, differences, missed, error"


def known_values(known: LastKnown) -> tuple[Any, ...]:
    """Return the columns `KNOWN`."""
    at = known.at
    marks: dict[str, Any] = {"exists": [known.exists, known.exists_at]}
    if others := {name: time for name, time in known.times.items() if time != at}:
        marks["at"] = others
    if lacking := known.times.keys() - known.values.keys():
        marks["fields"] = sorted(lacking)
    if known.reconciled:
        marks["noticed"] = sorted(known.reconciled)
    if known.alerted:
        marks["told"] = {
            rule: [[one.since, one.until, one.nearly, one.digest] for one in some]
            for rule, some in known.alerted.items()
        }
    if known.whole:
        marks["whole"] = True
    return at, known.moved_at, known.version, known.gone, canonical(known.values), canonical(marks)


def known_of(row: Sequence[Any]) -> LastKnown:
    """Return what the columns `KNOWN` hold."""
    at, moved_at, version, _, state, marks_text = row
    values, marks = json.loads(state), json.loads(marks_text)
    times = dict.fromkeys(values, at)
    if "at" in marks or "fields" in marks:
        times |= dict.fromkeys(marks.get("fields", ()), at) | marks.get("at", {})
    exists, exists_at = marks["exists"]
    return LastKnown(
        values,
        times,
        exists,
        exists_at,
        whole=marks.get("whole", False),
        reconciled=frozenset(marks.get("noticed", ())),
        alerted={
            rule: tuple(ReconcileAlert(*one) for one in some) for rule, some in marks.get("told", {}).items()
        },
        version=version,
        moved_at=moved_at,
    )


def differing_of(
    rows: Iterable[Sequence[Any]], listed: Mapping[str, str], *, whole: bool
) -> dict[str, LastKnown | None]:
    """Return what is known of the entities that are not known to be as they are listed; None: nothing.

    Most are, so that what is known of those is not even read.

    Args:
        rows: The entity, and the columns `KNOWN`, of those that are known.
        listed: The `canonical` text of the values of each.
        whole: See `LastKnown.whole`.
    """
    found: dict[str, LastKnown | None] = dict.fromkeys(listed)
    for entity, *row in rows:
        if row[4] == listed[entity] and THERE in row[5] and (WHOLE in row[5]) is whole:
            del found[entity]
        else:
            found[entity] = known_of(row)
    return found


def run_of(row: Sequence[Any]) -> Run:
    """Return what the columns `RUN` hold."""
    id_, reason, started_at, lease_until, ended_at, *numbers, error = row
    return Run(
        id_,
        reason,
        from_micros(started_at),
        from_micros(lease_until),
        time_or_none(ended_at),
        Progress(*numbers),
        error,
    )
