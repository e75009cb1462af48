"""The quarantine: signed bodies that could not be read as changes."""

from collections.abc import Sequence

from app.model.times import from_micros
from app.store.cursor import number_of, page_of
from app.store.transaction import Row, Transaction
from app.store.views import Page, Quarantined

QUARANTINE = "length(body), signed_at, received_at, path, reason FROM quarantine"
FIRST_BYTES = 2_000
"""How much of a quarantined body a list shows."""


async def bodies(tx: Transaction, *, before: str | None = None, limit: int) -> Page[Quarantined]:
    """Read what is in quarantine, newest first, each body cut; `before` is a page's `next`.

    Raises:
        ValueError: No page has given `before`.
    """
    rows = await tx.fetch(
        f"SELECT id, substr(body, 1, {FIRST_BYTES}), {QUARANTINE} WHERE id < $1 ORDER BY id DESC LIMIT $2",
        number_of(before),
        limit + 1,
    )
    return page_of(rows, limit, _quarantined_of, lambda last: str(last.id))


async def body(tx: Transaction, number: int) -> Quarantined | None:
    """Read one body that is in quarantine, whole."""
    row = await tx.fetch_row(f"SELECT id, body, {QUARANTINE} WHERE id = $1", number)
    return _quarantined_of(row) if row else None


async def leave(tx: Transaction, ids: Sequence[int]) -> None:
    """Delete from the quarantine what has been replayed."""
    await tx.execute("DELETE FROM quarantine WHERE id = ANY($1)", list(ids))


def _quarantined_of(row: Row) -> Quarantined:
    id_, body, size, signed_at, received_at, path, reason = row
    body = bytes(body or b"")
    return Quarantined(id_, body, size, from_micros(signed_at), from_micros(received_at), path, reason)
