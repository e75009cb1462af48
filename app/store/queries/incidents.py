"""The incidents, as the page, the API and the commands show them."""

from datetime import datetime

from app.model.times import micros_or_none, to_micros
from app.store.queries.accept import INCIDENT, incident_of
from app.store.queries.cursor import LAST, number_of, page_of
from app.store.queries.page import readable
from app.store.transaction import Row, Transaction
from app.store.views import IncidentRow, Page

LAST_NOTIFICATION = (
    "(SELECT notification FROM deliveries WHERE incident_id = incidents.id"
    " ORDER BY deliveries.id DESC LIMIT 1)"
)
WORST_FIRST = "CASE severity WHEN 'critical' THEN 0 WHEN 'warning' THEN 1 ELSE 2 END, opened_at"


async def worst(tx: Transaction, limit: int) -> list[IncidentRow]:
    """Read open incidents: the worst first, of those the oldest."""
    rows = await tx.fetch(
        f"SELECT {INCIDENT}, {LAST_NOTIFICATION} FROM incidents WHERE resolved_at IS NULL"
        f" ORDER BY {WORST_FIRST} LIMIT $1",
        limit,
    )
    return [_incident_row_of(row) for row in rows]


async def incident(tx: Transaction, name: str) -> IncidentRow | None:
    """Read one incident."""
    row = await tx.fetch_row(f"SELECT {INCIDENT}, {LAST_NOTIFICATION} FROM incidents WHERE id = $1", name)
    return _incident_row_of(row) if row else None


async def page(
    tx: Transaction,
    *,
    is_open: bool | None = None,
    blueprint: str | None = None,
    entity: str | None = None,
    since: datetime | None = None,
    before: str | None = None,
    limit: int,
) -> Page[IncidentRow]:
    """Read incidents, those that opened last first.

    Args:
        tx: The transaction.
        is_open: Only those that are open, or only those that have ended.
        blueprint: With `entity`: only this entity's.
        entity: The entity's identifier.
        since: Only those that were open at or after this time, UTC.
        before: A page's `next`.
        limit: How many at most.

    Raises:
        ValueError: No page has given `before`.
    """
    opened_at, _, name = (before or f"{LAST}.").partition(".")
    values: list[object] = [LAST if before is None else number_of(opened_at), name, limit + 1]
    where = "(opened_at, id) < ($1, $2)"
    if is_open is not None:
        where += f" AND resolved_at IS {'NULL' if is_open else 'NOT NULL'}"
    if since is not None:
        values.append(micros_or_none(since))
        where += f" AND (resolved_at IS NULL OR resolved_at >= ${len(values)})"
    if blueprint is not None and entity is not None:
        values += (blueprint, entity)
        where += f" AND blueprint = ${len(values) - 1} AND entity = ${len(values)}"
    rows = await tx.fetch(
        f"SELECT {INCIDENT}, {LAST_NOTIFICATION} FROM incidents WHERE {where}"
        " ORDER BY opened_at DESC, id DESC LIMIT $3",
        *values,
    )
    return page_of(
        rows, limit, _incident_row_of, lambda last: f"{to_micros(last.incident.opened_at)}.{last.incident.id}"
    )


def _incident_row_of(row: Row) -> IncidentRow:
    *columns, text = row
    return IncidentRow(incident_of(columns), None if text is None else readable(text))
