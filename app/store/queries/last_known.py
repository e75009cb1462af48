"""The statements about last known states that are a part of storing changes.

Who stores a change of an entity holds its lock, and so does who takes note of its state.
"""

from collections.abc import Collection, Mapping

from app.rules.last_known import LastKnown
from app.store.group import Entity
from app.store.known_columns import KNOWN, known_of, known_values
from app.store.transaction import Session

PUT = (
    f"INSERT INTO known (blueprint, entity, {KNOWN}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
    " ON CONFLICT (blueprint, entity) DO UPDATE SET at = excluded.at, moved_at = excluded.moved_at,"
    "  version = excluded.version, gone = excluded.gone, state = excluded.state, marks = excluded.marks"
)


async def find_known(db: Session, entities: Collection[Entity]) -> dict[Entity, LastKnown]:
    """Return what is known of entities."""
    rows = await db.for_each(
        f"SELECT blueprint, entity, {KNOWN} FROM known WHERE blueprint = $1 AND entity = $2",
        "text, text",
        list(entities),
    )
    return {(blueprint, entity): known_of(row) for blueprint, entity, *row in rows}


async def put_known(db: Session, known: Mapping[Entity, LastKnown]) -> None:
    """Write what is known of entities."""
    await db.execute_many(PUT, [(*entity, *known_values(one)) for entity, one in known.items()])


async def prune_known(db: Session, before: int, limit: int) -> None:
    """Forget entities that were deleted, and runs, before a time, in micros."""
    await db.execute(
        "DELETE FROM known WHERE (blueprint, entity) IN (SELECT blueprint, entity FROM known"
        " WHERE gone AND moved_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)",
        before,
        limit,
    )
    await db.execute(
        "DELETE FROM reconciles WHERE id IN (SELECT id FROM reconciles WHERE started_at < $1 LIMIT $2"
        " FOR UPDATE SKIP LOCKED)",
        before,
        limit,
    )
