"""`Reconciling` in SQL."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from app.rules.last_known import LastKnown
from app.store.columns import from_micros, micros_or_none, to_micros
from app.store.known_columns import ABSURD, KNOWN, RUN, differing_of, known_of, run_of
from app.store.locks import lock_of
from app.store.queries.last_known import put_known
from app.store.reconciling import Progress, Reconciling, Run
from app.store.transaction import Database, Session

BEGIN_LOCK = 0x7265636F6E63696C  # "reconcil"


class SQLReconciling(Reconciling):
    """See `Reconciling`.

    Args:
        database: Where it is.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(
        self, *, reason: str, token: str, now: datetime, lease_until: datetime, since: datetime | None
    ) -> int | None:
        """See `Reconciling.begin`."""

        async def job(db: Session) -> int | None:
            await db.lock([BEGIN_LOCK])
            number: int | None = await db.fetchval(
                "INSERT INTO reconciles (reason, token, started_at, lease_until)"
                " SELECT $1::text, $2::text, $3::bigint, $4::bigint WHERE NOT EXISTS ("
                "   SELECT 1 FROM reconciles WHERE ended_at IS NULL AND lease_until > $3"
                f"   AND lease_until <= $4 + {ABSURD})"
                " AND NOT EXISTS ("
                f"   SELECT 1 FROM reconciles WHERE started_at > $5 AND started_at <= $3 + {ABSURD}"
                "   AND ended_at IS NOT NULL AND error = '')"
                " RETURNING id",
                reason,
                token,
                to_micros(now),
                to_micros(lease_until),
                micros_or_none(since),
            )
            return number

        return await self._database.write(job)

    async def keep(self, run: int, *, token: str, lease_until: datetime, progress: Progress) -> bool:
        """See `Reconciling.keep`."""
        found = await self._database.write(
            lambda db: db.fetchval(
                "UPDATE reconciles SET lease_until = $1, entities = $2, learned = $3, differences = $4,"
                " missed = $5 WHERE id = $6 AND token = $7 AND ended_at IS NULL AND NOT EXISTS ("
                "   SELECT 1 FROM reconciles AS later WHERE later.id > reconciles.id) RETURNING id",
                to_micros(lease_until),
                *_numbers(progress),
                run,
                token,
            )
        )
        return found is not None

    async def end(self, run: int, *, token: str, now: datetime, progress: Progress, error: str = "") -> None:
        """See `Reconciling.end`."""
        await self._database.write(
            lambda db: db.execute(
                "UPDATE reconciles SET ended_at = $1, error = $2, entities = $3, learned = $4,"
                " differences = $5, missed = $6 WHERE id = $7 AND token = $8",
                to_micros(now),
                error,
                *_numbers(progress),
                run,
                token,
            )
        )

    async def runs(self, *, limit: int) -> list[Run]:
        """See `Reconciling.runs`."""
        rows = await self._database.read(
            lambda db: db.fetch(f"SELECT {RUN} FROM reconciles ORDER BY id DESC LIMIT $1", limit)
        )
        return [run_of(row) for row in rows]

    async def learned(self) -> dict[str, datetime]:
        """See `Reconciling.learned`."""
        rows = await self._database.read(lambda db: db.fetch("SELECT blueprint, at FROM learned"))
        return {name: from_micros(at) for name, at in rows}

    async def mark_learned(self, blueprint: str, now: datetime) -> None:
        """See `Reconciling.mark_learned`."""
        await self._database.write(
            lambda db: db.execute(
                "INSERT INTO learned VALUES ($1, $2) ON CONFLICT DO NOTHING",
                blueprint,
                to_micros(now),
            )
        )

    async def stored(
        self, blueprint: str, entity: str, *, since: datetime, until: datetime
    ) -> dict[str, bytes]:
        """See `Reconciling.stored`."""
        rows = await self._database.read(
            lambda db: db.fetch(
                "SELECT key, body FROM changes WHERE blueprint = $1 AND entity = $2 AND at BETWEEN $3 AND $4",
                blueprint,
                entity,
                to_micros(since),
                to_micros(until),
            )
        )
        return {key: bytes(body) for key, body in rows}

    async def known(self, blueprint: str, entities: Sequence[str]) -> dict[str, LastKnown]:
        """See `Reconciling.known`."""
        rows = await self._database.read(
            lambda db: db.fetch(
                f"SELECT entity, {KNOWN} FROM known WHERE blueprint = $1 AND entity = ANY($2)",
                blueprint,
                list(entities),
            )
        )
        return {entity: known_of(row) for entity, *row in rows}

    async def differing(
        self, blueprint: str, listed: Mapping[str, str], *, whole: bool
    ) -> dict[str, LastKnown | None]:
        """See `Reconciling.differing`."""
        texts = {entity: text for entity, text in listed.items()}
        rows = await self._database.read(
            lambda db: db.fetch(
                f"SELECT entity, {KNOWN} FROM known WHERE blueprint = $1 AND entity = ANY($2)",
                blueprint,
                list(texts),
            )
        )
        return differing_of(rows, texts, whole=whole)

    async def known_after(self, blueprint: str, entity: str, *, limit: int) -> list[tuple[str, LastKnown]]:
        """See `Reconciling.known_after`."""
        rows = await self._database.read(
            lambda db: db.fetch(
                f"SELECT entity, {KNOWN} FROM known WHERE blueprint = $1 AND entity > $2 AND NOT gone"
                " ORDER BY entity LIMIT $3",
                blueprint,
                entity,
                limit,
            )
        )
        return [(name, known_of(row)) for name, *row in rows]

    async def learn(self, blueprint: str, known: Mapping[str, LastKnown]) -> list[str]:
        """See `Reconciling.learn`."""
        wanted = {(blueprint, entity): one for entity, one in known.items()}

        async def job(db: Session) -> list[str]:
            await db.lock(sorted({lock_of(entity) for entity in wanted}))
            rows = await db.fetch(
                "SELECT entity, version FROM known WHERE blueprint = $1 AND entity = ANY($2)",
                blueprint,
                [entity for _, entity in wanted],
            )
            versions = {row[0]: row[1] for row in rows}
            ours = {key: one for key, one in wanted.items() if versions.get(key[1], 0) == one.version - 1}
            if ours:
                await put_known(db, ours)
            return [key[1] for key in wanted if key not in ours]

        return await self._database.write(job) if wanted else []

    async def forget(self, kept: Collection[str], *, limit: int) -> int:
        """See `Reconciling.forget`."""

        async def job(db: Session) -> int:
            names = list(kept)
            await db.execute("DELETE FROM learned WHERE NOT blueprint = ANY($1)", names)
            # From one blueprint to the next, and not through all their entities.
            following, name = "SELECT min(blueprint) FROM known WHERE blueprint > $1", ""
            while (name := await db.fetchval(following, name)) is not None:
                if name not in names:
                    rows = await db.fetch(
                        "DELETE FROM known WHERE blueprint = $1 AND entity IN (SELECT entity FROM known"
                        " WHERE blueprint = $1 LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING 1",
                        name,
                        limit,
                    )
                    return len(rows)
            return 0

        return await self._database.write(job)


def _numbers(progress: Progress) -> tuple[int, int, int, int]:
    return progress.entities, progress.learned, progress.differences, progress.missed
