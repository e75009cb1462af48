"""The audit trail: what people did, by whom and when."""

from app.model.times import from_micros, to_micros
from app.store.cursor import number_of, page_of
from app.store.transaction import Row, Transaction
from app.store.views import AuditEntry, Page


async def write(tx: Transaction, entry: AuditEntry) -> int:
    """Write down what somebody did, and give the entry's number."""
    number: int = await tx.fetch_value(
        "INSERT INTO audit (at, who, what, details) VALUES ($1, $2, $3, $4) RETURNING id",
        to_micros(entry.at),
        entry.who,
        entry.what,
        entry.details,
    )
    return number


async def entries(tx: Transaction, *, before: str | None = None, limit: int) -> Page[AuditEntry]:
    """Read what people did, newest first; `before` is a page's `next`.

    Raises:
        ValueError: No page has given `before`.
    """
    rows = await tx.fetch(
        "SELECT at, who, what, details, id FROM audit WHERE id < $1 ORDER BY id DESC LIMIT $2",
        number_of(before),
        limit + 1,
    )
    return page_of(rows, limit, _audit_entry_of, lambda last: str(last.id))


async def entry(tx: Transaction, number: int) -> AuditEntry | None:
    """Read one entry."""
    row = await tx.fetch_row("SELECT at, who, what, details, id FROM audit WHERE id = $1", number)
    return _audit_entry_of(row) if row else None


def _audit_entry_of(row: Row) -> AuditEntry:
    at, who, action, details, id_ = row
    return AuditEntry(from_micros(at), who, action, details, id_)
