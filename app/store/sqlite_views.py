"""`Views` on SQLite: everything that people look at, on the store's connections for reading."""

import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from app.alerts.notification import Notification
from app.store import sqlite_search as search
from app.store import sqlite_sights as sights
from app.store.columns import to_micros
from app.store.group_commit import GroupCommit
from app.store.rows import State
from app.store.view_rows import AUDIT, SEEN, audit_page, audit_row_of, number_of
from app.store.views import (
    AttemptRow,
    AuditRow,
    ChangeFilter,
    ChangeRow,
    Choices,
    Counts,
    DeliveryRow,
    IncidentRow,
    Page,
    QuarantineRow,
    Views,
)

T = TypeVar("T")

Read = Callable[[Callable[[sqlite3.Connection], Any]], Awaitable[Any]]


class SQLiteViews(Views):
    """See `Views`.

    Args:
        read: Runs a query on a connection for reading.
        writer: Writes the trail.
    """

    def __init__(self, read: Read, writer: GroupCommit) -> None:
        self._any_read = read
        self._writer = writer

    async def _read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        found: T = await self._any_read(query)
        return found

    async def changes(self, which: ChangeFilter, *, before: str | None, limit: int) -> Page[ChangeRow]:
        """See `Views.changes`."""
        return await self._read(lambda db: search.changes(db, which, before, limit))

    async def change(self, number: int) -> ChangeRow | None:
        """See `Views.change`."""
        return await self._read(lambda db: search.change(db, number))

    async def deliveries(
        self, *, state: State | None = None, before: str | None, limit: int
    ) -> Page[DeliveryRow]:
        """See `Views.deliveries`."""
        return await self._read(lambda db: sights.deliveries(db, state, before, limit))

    async def deliveries_of(self, changes: Sequence[int]) -> list[DeliveryRow]:
        """See `Views.deliveries_of`."""
        return await self._read(lambda db: sights.deliveries_of(db, changes))

    async def delivery(self, number: int) -> DeliveryRow | None:
        """See `Views.delivery`."""
        return await self._read(lambda db: sights.delivery(db, number))

    async def attempts(self, deliveries: Sequence[int]) -> list[AttemptRow]:
        """See `Views.attempts`."""
        return await self._read(lambda db: sights.attempts(db, deliveries))

    async def worst(self, limit: int) -> list[IncidentRow]:
        """See `Views.worst`."""
        return await self._read(lambda db: sights.worst(db, limit))

    async def incident(self, name: str) -> IncidentRow | None:
        """See `Views.incident`."""
        return await self._read(lambda db: sights.incident(db, name))

    async def incidents(
        self,
        *,
        is_open: bool | None = None,
        blueprint: str | None = None,
        entity: str | None = None,
        since: datetime | None = None,
        before: str | None,
        limit: int,
    ) -> Page[IncidentRow]:
        """See `Views.incidents`."""
        of = None if blueprint is None or entity is None else (blueprint, entity)
        return await self._read(lambda db: sights.incidents(db, is_open, of, since, before, limit))

    async def told_since(self, since: datetime, limit: int) -> list[Notification]:
        """See `Views.told_since`."""
        return await self._read(lambda db: sights.told_since(db, to_micros(since), limit))

    async def counts(self, since: datetime) -> Counts:
        """See `Views.counts`."""
        return await self._read(lambda db: sights.counts(db, to_micros(since)))

    async def choices(self) -> Choices:
        """See `Views.choices`."""
        return await self._read(search.choices)

    async def newest(self) -> tuple[int, ...]:
        """See `Views.newest`."""
        return await self._read(
            lambda db: tuple(
                db.execute(
                    "SELECT " + ", ".join(f"(SELECT coalesce(max(id), 0) FROM {table})" for table in SEEN)
                ).fetchone()
            )
        )

    async def quarantine(self, *, before: str | None, limit: int) -> Page[QuarantineRow]:
        """See `Views.quarantine`."""
        return await self._read(lambda db: sights.quarantine(db, before, limit))

    async def quarantined(self, number: int) -> QuarantineRow | None:
        """See `Views.quarantined`."""
        return await self._read(lambda db: sights.quarantined(db, number))

    async def note(self, entry: AuditRow) -> int:
        """See `Views.note`."""
        values = (to_micros(entry.at), entry.who, entry.what, entry.details)
        number = await self._writer.run(
            lambda db: (
                db.execute("INSERT INTO audit (at, who, what, details) VALUES (?, ?, ?, ?)", values).lastrowid
            )
        )
        return number or 0

    async def noted(self, number: int) -> AuditRow | None:
        """See `Views.noted`."""
        row = await self._read(
            lambda db: db.execute(f"{AUDIT} WHERE id = ?", (number,)).fetchone(),
        )
        return audit_row_of(*row) if row else None

    async def audit(self, *, before: str | None, limit: int) -> Page[AuditRow]:
        """See `Views.audit`."""
        start = number_of(before)
        rows = await self._read(
            lambda db: db.execute(
                f"{AUDIT} WHERE id < ? ORDER BY id DESC LIMIT ?", (start, limit + 1)
            ).fetchall()
        )
        return audit_page(rows, limit)
