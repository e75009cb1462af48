"""`Reconciling` on SQLite, and the statements about last known states that are a part of storing a change."""

import json
import sqlite3
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from app.alerts.known import Known
from app.store.columns import from_micros, micros_or_none, to_micros
from app.store.group_commit import GroupCommit
from app.store.known_columns import ABSURD, KNOWN, RUN, differing_of, known_of, known_values, run_of
from app.store.reconciling import Progress, Reconciling, Run

Read = Callable[[Callable[[sqlite3.Connection], Any]], Awaitable[Any]]

PUT = (
    f"INSERT INTO known (blueprint, entity, {KNOWN}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (blueprint, entity) DO UPDATE SET at = excluded.at, moved_at = excluded.moved_at,"
    "  version = excluded.version, gone = excluded.gone, state = excluded.state, marks = excluded.marks"
)


def find_known(db: sqlite3.Connection, blueprint: str, entity: str) -> Known | None:
    """Return what is known of an entity."""
    row = db.execute(
        f"SELECT {KNOWN} FROM known WHERE blueprint = ? AND entity = ?", (blueprint, entity)
    ).fetchone()
    return known_of(row) if row else None


def put_known(db: sqlite3.Connection, blueprint: str, entity: str, known: Known) -> None:
    """Write what is known of an entity."""
    db.execute(PUT, (blueprint, entity, *known_values(known)))


def prune_known(db: sqlite3.Connection, before: int, limit: int) -> None:
    """Forget entities that were deleted, and runs, before a time, in micros."""
    db.execute(
        "DELETE FROM known WHERE (blueprint, entity) IN"
        " (SELECT blueprint, entity FROM known WHERE gone AND moved_at < ? LIMIT ?)",
        (before, limit),
    )
    db.execute(
        "DELETE FROM reconciles WHERE id IN (SELECT id FROM reconciles WHERE started_at < ? LIMIT ?)",
        (before, limit),
    )


class SQLiteReconciling(Reconciling):
    """See `Reconciling`.

    Args:
        read: Runs a query on a connection for reading.
        writer: Writes.
    """

    def __init__(self, read: Read, writer: GroupCommit) -> None:
        self._read = read
        self._writer = writer

    async def begin(
        self, *, reason: str, token: str, now: datetime, lease_until: datetime, since: datetime | None
    ) -> int | None:
        """See `Reconciling.begin`."""

        def job(db: sqlite3.Connection) -> int | None:
            values = {
                "reason": reason,
                "token": token,
                "now": to_micros(now),
                "lease": to_micros(lease_until),
                "since": micros_or_none(since),
            }
            row = db.execute(
                "INSERT INTO reconciles (reason, token, started_at, lease_until)"
                " SELECT :reason, :token, :now, :lease WHERE NOT EXISTS ("
                "   SELECT 1 FROM reconciles WHERE ended_at IS NULL AND lease_until > :now"
                f"   AND lease_until <= :lease + {ABSURD})"
                " AND NOT EXISTS ("
                f"   SELECT 1 FROM reconciles WHERE started_at > :since AND started_at <= :now + {ABSURD}"
                "   AND ended_at NOTNULL AND error = '')"
                " RETURNING id",
                values,
            ).fetchone()
            return row[0] if row else None

        return await self._writer.run(job)

    async def keep(self, run: int, *, token: str, lease_until: datetime, progress: Progress) -> bool:
        """See `Reconciling.keep`."""
        values = (to_micros(lease_until), *_numbers(progress), run, token)
        return await self._writer.run(
            lambda db: (
                db.execute(
                    "UPDATE reconciles SET lease_until = ?, entities = ?, learned = ?, differences = ?,"
                    " missed = ? WHERE id = ? AND token = ? AND ended_at IS NULL AND NOT EXISTS ("
                    "   SELECT 1 FROM reconciles AS later WHERE later.id > reconciles.id)",
                    values,
                ).rowcount
                == 1
            )
        )

    async def end(self, run: int, *, token: str, now: datetime, progress: Progress, error: str = "") -> None:
        """See `Reconciling.end`."""
        values = (to_micros(now), error, *_numbers(progress), run, token)
        await self._writer.run(
            lambda db: db.execute(
                "UPDATE reconciles SET ended_at = ?, error = ?, entities = ?, learned = ?, differences = ?,"
                " missed = ? WHERE id = ? AND token = ?",
                values,
            )
        )

    async def runs(self, *, limit: int) -> list[Run]:
        """See `Reconciling.runs`."""
        rows = await self._read(
            lambda db: db.execute(
                f"SELECT {RUN} FROM reconciles ORDER BY id DESC LIMIT ?", (limit,)
            ).fetchall()
        )
        return [run_of(row) for row in rows]

    async def learned(self) -> dict[str, datetime]:
        """See `Reconciling.learned`."""
        rows = await self._read(lambda db: db.execute("SELECT blueprint, at FROM learned").fetchall())
        return {name: from_micros(at) for name, at in rows}

    async def mark_learned(self, blueprint: str, now: datetime) -> None:
        """See `Reconciling.mark_learned`."""
        values = (blueprint, to_micros(now))
        await self._writer.run(lambda db: db.execute("INSERT OR IGNORE INTO learned VALUES (?, ?)", values))

    async def stored(
        self, blueprint: str, entity: str, *, since: datetime, until: datetime
    ) -> dict[str, bytes]:
        """See `Reconciling.stored`."""
        rows = await self._read(
            lambda db: db.execute(
                "SELECT key, body FROM changes WHERE blueprint = ? AND entity = ? AND at BETWEEN ? AND ?",
                (blueprint, entity, to_micros(since), to_micros(until)),
            ).fetchall()
        )
        return {key: bytes(body) for key, body in rows}

    async def known(self, blueprint: str, entities: Sequence[str]) -> dict[str, Known]:
        """See `Reconciling.known`."""
        rows = await self._read(
            lambda db: db.execute(
                f"SELECT entity, {KNOWN} FROM known WHERE blueprint = ?"
                " AND entity IN (SELECT value FROM json_each(?))",
                (blueprint, json.dumps(entities)),
            ).fetchall()
        )
        return {entity: known_of(row) for entity, *row in rows}

    async def differing(
        self, blueprint: str, listed: Mapping[str, str], *, whole: bool
    ) -> dict[str, Known | None]:
        """See `Reconciling.differing`."""

        def query(db: sqlite3.Connection) -> dict[str, Known | None]:
            rows = db.execute(
                f"SELECT entity, {KNOWN} FROM known WHERE blueprint = ?"
                " AND entity IN (SELECT value FROM json_each(?))",
                (blueprint, json.dumps(list(listed))),
            )
            return differing_of(rows, listed, whole=whole)

        found: dict[str, Known | None] = await self._read(query)
        return found

    async def known_after(self, blueprint: str, entity: str, *, limit: int) -> list[tuple[str, Known]]:
        """See `Reconciling.known_after`."""
        rows = await self._read(
            lambda db: db.execute(
                f"SELECT entity, {KNOWN} FROM known WHERE blueprint = ? AND entity > ? AND NOT gone"
                " ORDER BY entity LIMIT ?",
                (blueprint, entity, limit),
            ).fetchall()
        )
        return [(name, known_of(row)) for name, *row in rows]

    async def learn(self, blueprint: str, known: Mapping[str, Known]) -> list[str]:
        """See `Reconciling.learn`."""
        rows = [(blueprint, entity, one.version - 1, known_values(one)) for entity, one in known.items()]

        def job(db: sqlite3.Connection) -> list[str]:
            late = []
            for name, entity, version, values in rows:
                key = (name, entity)
                now = db.execute("SELECT version FROM known WHERE blueprint = ? AND entity = ?", key)
                if (now.fetchone() or (0,))[0] == version:
                    db.execute(PUT, (*key, *values))
                else:
                    late.append(entity)
            return late

        return await self._writer.run(job)

    async def forget(self, kept: Collection[str], *, limit: int) -> int:
        """See `Reconciling.forget`."""

        def job(db: sqlite3.Connection) -> int:
            db.execute(
                "DELETE FROM learned WHERE blueprint NOT IN (SELECT value FROM json_each(?))",
                (json.dumps(sorted(kept)),),
            )
            # From one blueprint to the next, and not through all their entities.
            following, name = "SELECT min(blueprint) FROM known WHERE blueprint > ?", ""
            while (name := db.execute(following, (name,)).fetchone()[0]) is not None:
                if name not in kept:
                    return db.execute(
                        "DELETE FROM known WHERE blueprint = ? AND entity IN"
                        " (SELECT entity FROM known WHERE blueprint = ? LIMIT ?)",
                        (name, name, limit),
                    ).rowcount
            return 0

        return await self._writer.run(job)


def _numbers(progress: Progress) -> tuple[int, int, int, int]:
    return progress.entities, progress.learned, progress.differences, progress.missed
