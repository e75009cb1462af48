"""Last known states of entities: what reconciling compares Port with, and a part of storing changes."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from app.rules.last_known import LastKnown, ReconcileAlert, canonical
from app.store.transaction import EntityKey, Row, Transaction

LAST_KNOWN = "at, moved_at, version, gone, state, marks"
EXISTS, WHOLE = '"exists":[true,', '"whole":true}'
"""How the marks of an entity begin that is known to exist, and end where all that it has is kept."""
PUT = (
    f"INSERT INTO last_known (blueprint, entity, {LAST_KNOWN}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
    " ON CONFLICT (blueprint, entity) DO UPDATE SET at = excluded.at, moved_at = excluded.moved_at,"
    "  version = excluded.version, gone = excluded.gone, state = excluded.state, marks = excluded.marks"
)


async def find_last_known(tx: Transaction, entities: Collection[EntityKey]) -> dict[EntityKey, LastKnown]:
    """Read the last known states of entities; those of which nothing is known are missing."""
    rows = await tx.fetch_each(
        f"SELECT blueprint, entity, {LAST_KNOWN} FROM last_known WHERE blueprint = $1 AND entity = $2",
        ("text", "text"),
        list(entities),
    )
    return {(blueprint, entity): known_of(row) for blueprint, entity, *row in rows}


async def put_last_known(tx: Transaction, states: Mapping[EntityKey, LastKnown]) -> None:
    """Write the last known states of entities."""
    await tx.execute_many(PUT, [(*entity, *_row_of(known)) for entity, known in states.items()])


async def last_known(tx: Transaction, blueprint: str, entities: Sequence[str]) -> dict[str, LastKnown]:
    """Read the last known states of entities of a blueprint; those of which nothing is known are missing."""
    rows = await _rows(tx, blueprint, entities)
    return {entity: known_of(row) for entity, *row in rows}


async def differing(
    tx: Transaction, blueprint: str, listed: Mapping[str, str], *, whole: bool
) -> dict[str, LastKnown | None]:
    """Read the last known states of those entities that are not known to be as Port lists them.

    Most are, so that what is known of those is not even parsed.

    Args:
        tx: The transaction.
        blueprint: Their blueprint.
        listed: The `canonical` text of the values of each entity.
        whole: Whether all that an entity has is to be known (`LastKnown.whole`).

    Returns:
        By entity; None: nothing is known of it.
    """
    states: dict[str, LastKnown | None] = dict.fromkeys(listed)
    for entity, *row in await _rows(tx, blueprint, list(listed)):
        *_, state, marks = row
        if state == listed[entity] and EXISTS in marks and (WHOLE in marks) is whole:
            del states[entity]
        else:
            states[entity] = known_of(row)
    return states


async def last_known_after(
    tx: Transaction, blueprint: str, entity: str, *, limit: int
) -> list[tuple[str, LastKnown]]:
    """Read the next entities of a blueprint that are known and not deleted, by identifier.

    Args:
        tx: The transaction.
        blueprint: The blueprint.
        entity: Those behind this one; empty: from the first.
        limit: How many at most.
    """
    rows = await tx.fetch(
        f"SELECT entity, {LAST_KNOWN} FROM last_known WHERE blueprint = $1 AND entity > $2 AND NOT gone"
        " ORDER BY entity LIMIT $3",
        blueprint,
        entity,
        limit,
    )
    return [(name, known_of(row)) for name, *row in rows]


async def record_states(tx: Transaction, blueprint: str, states: Mapping[str, LastKnown]) -> list[str]:
    """Write states that alert nobody; give the entities of which another change came before.

    A state replaces the version before it, or, the first version, nothing.
    """
    wanted = {(blueprint, entity): known for entity, known in states.items()}
    if not wanted:
        return []
    await tx.lock(wanted.keys())
    rows = await tx.fetch(
        "SELECT entity, version FROM last_known WHERE blueprint = $1 AND entity = ANY($2)",
        blueprint,
        list(states),
    )
    versions: dict[str, int] = {row[0]: row[1] for row in rows}
    current = {key: known for key, known in wanted.items() if versions.get(key[1], 0) == known.version - 1}
    if current:
        await put_last_known(tx, current)
    return [entity for _, entity in wanted if (blueprint, entity) not in current]


async def forget_others(tx: Transaction, kept: Collection[str], *, limit: int) -> int:
    """Forget entities of blueprints that are not among `kept`; give how many, until there are none."""
    await tx.execute("DELETE FROM baselines WHERE NOT blueprint = ANY($1)", list(kept))
    # From one blueprint to the next, and not through all their entities.
    following, name = "SELECT min(blueprint) FROM last_known WHERE blueprint > $1", ""
    while (name := await tx.fetch_value(following, name)) is not None:
        if name not in kept:
            rows = await tx.fetch(
                "WITH old AS MATERIALIZED (SELECT entity FROM last_known"
                "  WHERE blueprint = $1 LIMIT $2 FOR UPDATE SKIP LOCKED)"
                " DELETE FROM last_known WHERE blueprint = $1 AND entity IN (SELECT entity FROM old)"
                " RETURNING 1",
                name,
                limit,
            )
            return len(rows)
    return 0


async def _rows(tx: Transaction, blueprint: str, entities: Sequence[str]) -> Sequence[Row]:
    return await tx.fetch(
        f"SELECT entity, {LAST_KNOWN} FROM last_known WHERE blueprint = $1 AND entity = ANY($2)",
        blueprint,
        list(entities),
    )


def _row_of(known: LastKnown) -> Row:
    """Write a state as the columns `LAST_KNOWN`."""
    at = known.at
    marks: dict[str, Any] = {"exists": [known.exists, known.exists_at]}
    # A field's time is kept only where it differs from the state's: most change together.
    if others := {name: time for name, time in known.times.items() if time != at}:
        marks["at"] = others
    if lacking := known.times.keys() - known.values.keys():
        marks["fields"] = sorted(lacking)
    if known.reconciled:
        marks["reconciled"] = sorted(known.reconciled)
    if known.alerted:
        marks["alerted"] = {
            rule: [[alerted.since, alerted.until, alerted.nearly, alerted.digest] for alerted in alerts]
            for rule, alerts in known.alerted.items()
        }
    if known.whole:
        marks["whole"] = True
    return at, known.moved_at, known.version, known.gone, canonical(known.values), canonical(marks)


def known_of(row: Sequence[Any]) -> LastKnown:
    """Read a state from the columns `LAST_KNOWN`."""
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
        reconciled=frozenset(marks.get("reconciled", ())),
        alerted={
            rule: tuple(ReconcileAlert(*alerted) for alerted in alerts)
            for rule, alerts in marks.get("alerted", {}).items()
        },
        version=version,
        moved_at=moved_at,
    )
