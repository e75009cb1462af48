"""The statements about last known states that are a part of storing changes.

Who stores a change of an entity holds its advisory lock, and so does who takes note of its state.
"""

from collections.abc import Collection, Mapping

from app.alerts.known import Known
from app.store.group import Entity
from app.store.known_columns import KNOWN, known_of, known_values
from app.store.postgres_pool import Connection

PUT = (
    f"INSERT INTO known (blueprint, entity, {KNOWN})"
    " SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::boolean[],"
    "  $7::text[], $8::text[])"
    " ON CONFLICT (blueprint, entity) DO UPDATE SET at = excluded.at, moved_at = excluded.moved_at,"
    "  version = excluded.version, gone = excluded.gone, state = excluded.state, marks = excluded.marks"
)


async def find_known(db: Connection, entities: Collection[Entity]) -> dict[Entity, Known]:
    """Return what is known of entities; there must be one at least."""
    rows = await db.fetch(
        f"SELECT known.blueprint, known.entity, {KNOWN} FROM known"
        " JOIN unnest($1::text[], $2::text[]) AS one (blueprint, entity)"
        "  ON known.blueprint = one.blueprint AND known.entity = one.entity",
        *map(list, zip(*entities, strict=True)),
    )
    return {(blueprint, entity): known_of(row) for blueprint, entity, *row in rows}


async def put_known(db: Connection, known: Mapping[Entity, Known]) -> None:
    """Write what is known of entities; there must be one at least."""
    rows = [(*entity, *known_values(one)) for entity, one in known.items()]
    await db.execute(PUT, *map(list, zip(*rows, strict=True)))


async def prune_known(db: Connection, before: int, limit: int) -> None:
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
