"""`Views` in SQL: everything that people look at."""

from collections.abc import Sequence
from datetime import datetime
from types import ModuleType

from app.model.delivery import State
from app.model.notification import Notification
from app.store.columns import to_micros
from app.store.queries import page as sights
from app.store.transaction import Database, Session
from app.store.view_rows import AUDIT, audit_row_of
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


class SQLViews(Views):
    """See `Views`.

    Args:
        database: Where it is.
        search: Finds changes, in this database's way.
    """

    def __init__(self, database: Database, search: ModuleType) -> None:
        self._database = database
        self._search = search

    async def changes(self, which: ChangeFilter, *, before: str | None, limit: int) -> Page[ChangeRow]:
        """See `Views.changes`."""
        return await self._database.read(lambda db: self._search.changes(db, which, before, limit))

    async def change(self, number: int) -> ChangeRow | None:
        """See `Views.change`."""
        return await self._database.read(lambda db: self._search.change(db, number))

    async def deliveries(
        self, *, state: State | None = None, before: str | None, limit: int
    ) -> Page[DeliveryRow]:
        """See `Views.deliveries`."""
        return await self._database.read(lambda db: sights.deliveries(db, state, before, limit))

    async def deliveries_of(self, changes: Sequence[int]) -> list[DeliveryRow]:
        """See `Views.deliveries_of`."""
        return await self._database.read(lambda db: sights.deliveries_of(db, changes))

    async def delivery(self, number: int) -> DeliveryRow | None:
        """See `Views.delivery`."""
        return await self._database.read(lambda db: sights.delivery(db, number))

    async def attempts(self, deliveries: Sequence[int]) -> list[AttemptRow]:
        """See `Views.attempts`."""
        return await self._database.read(lambda db: sights.attempts(db, deliveries))

    async def worst(self, limit: int) -> list[IncidentRow]:
        """See `Views.worst`."""
        return await self._database.read(lambda db: sights.worst(db, limit))

    async def incident(self, name: str) -> IncidentRow | None:
        """See `Views.incident`."""
        return await self._database.read(lambda db: sights.incident(db, name))

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
        return await self._database.read(lambda db: sights.incidents(db, is_open, of, since, before, limit))

    async def told_since(self, since: datetime, limit: int) -> list[Notification]:
        """See `Views.told_since`."""
        return await self._database.read(lambda db: sights.told_since(db, to_micros(since), limit))

    async def counts(self, since: datetime) -> Counts:
        """See `Views.counts`."""
        return await self._database.read(lambda db: sights.counts(db, to_micros(since)))

    async def choices(self) -> Choices:
        """See `Views.choices`."""
        return await self._database.read(self._search.choices)

    async def newest(self) -> tuple[int, ...]:
        """See `Views.newest`."""
        return await self._database.read(sights.newest)

    async def quarantine(self, *, before: str | None, limit: int) -> Page[QuarantineRow]:
        """See `Views.quarantine`."""
        return await self._database.read(lambda db: sights.quarantine(db, before, limit))

    async def quarantined(self, number: int) -> QuarantineRow | None:
        """See `Views.quarantined`."""
        return await self._database.read(lambda db: sights.quarantined(db, number))

    async def note(self, entry: AuditRow) -> int:
        """See `Views.note`."""

        async def job(db: Session) -> int:
            number: int = await db.fetchval(
                "INSERT INTO audit (at, who, what, details) VALUES ($1, $2, $3, $4) RETURNING id",
                to_micros(entry.at),
                entry.who,
                entry.what,
                entry.details,
            )
            return number

        return await self._database.write(job)

    async def noted(self, number: int) -> AuditRow | None:
        """See `Views.noted`."""
        row = await self._database.read(lambda db: db.fetchrow(f"{AUDIT} WHERE id = $1", number))
        return audit_row_of(*row) if row else None

    async def audit(self, *, before: str | None, limit: int) -> Page[AuditRow]:
        """See `Views.audit`."""
        return await self._database.read(lambda db: sights.audit(db, before, limit))
