"""Finding changes: fast with a million of them, whatever is asked for.

One condition leads: an index gives the changes that it fits, newest first. The other conditions are looked at
change by change, and the search stops after so many, so that no page takes long; the next page goes on there.
"""

import json
from datetime import datetime

from app.model.times import from_micros, time_or_none, to_micros
from app.store.cursor import number_of
from app.store.queries.change_search import ChangeSearch, bound_by_time, distinct, plan
from app.store.transaction import Row, Transaction
from app.store.views import ChangeFilter, Choices, Page, StoredChange

LONGEST_SEARCH = 10_000
"""How many changes that may fit are looked at for one page."""
FIRST_STEP, LONGEST_STEP = 200, 2_000
"""How many changes are looked at in one statement: few at first, since the first often fill the page."""
LARGE_BODY_BYTES = 64 * 1024
"""A longer body is not read for a list."""
READ_BYTES = 8 * 1024 * 1024
"""How much of bodies is read in one go, so that memory stays small."""
CHANGE = "id, key, received_at, at, action, resource, blueprint, entity, teams, reason, alerts"


async def changes(
    tx: Transaction,
    which: ChangeFilter,
    *,
    before: str | None = None,
    limit: int,
    longest: int = LONGEST_SEARCH,
) -> Page[StoredChange]:
    """Read changes, newest first. Where few fit, a page may have fewer than `limit` and a `next`.

    Args:
        tx: The transaction.
        which: Which changes.
        before: A page's `next`.
        limit: How many at most.
        longest: How many are looked at.
    """
    start = number_of(before)
    search = await plan(tx, which)
    after, start = await bound_by_time(tx, which, search, start)
    matching, last, stopped = await _walk(tx, search, after, start, limit, longest)
    rows = await tx.fetch(
        f"SELECT {CHANGE}, CASE WHEN length(body) <= $1 THEN body END FROM changes WHERE id = ANY($2)"
        " ORDER BY id DESC",
        LARGE_BODY_BYTES,
        matching,
    )
    searched_to = None
    if stopped and len(matching) < limit:
        searched_to = await tx.fetch_value("SELECT received_at FROM changes WHERE id = $1", last)
    page = [_change_of(row) for row in rows]
    return Page(page, str(last) if stopped else None, time_or_none(searched_to))


async def _walk(
    tx: Transaction, search: ChangeSearch, after: int, before: int, limit: int, longest: int
) -> tuple[list[int], int, bool]:
    """Look at changes that may fit, newest first, until a page is full or enough have been looked at.

    Returns:
        The numbers of those that fit, the last number that was looked at, and whether more may follow it.
    """
    matching: list[int] = []
    looked_at, last, step = 0, before, FIRST_STEP
    statement = search.statement() if search.leads != [] else ""
    while statement:
        rows = await tx.fetch(statement, *search.values, after, last, step)
        for number, fits in rows:
            if number == last:  # one of several deliveries of the same change
                continue
            if len(matching) == limit or looked_at == longest:
                return matching, last, True
            last, looked_at = number, looked_at + 1
            if fits:
                matching.append(number)
        if len(rows) < step:
            break
        step = min(step * 2, LONGEST_STEP)
    return matching, last, False


async def change(tx: Transaction, number: int) -> StoredChange | None:
    """Read one change whole."""
    row = await tx.fetch_row(f"SELECT {CHANGE}, body FROM changes WHERE id = $1", number)
    return _change_of(row) if row else None


async def body(tx: Transaction, key: str) -> bytes | None:
    """Read the signed bytes of a change, by its key; None: it is not there any more."""
    value = await tx.fetch_value("SELECT body FROM changes WHERE key = $1", key)
    return None if value is None else bytes(value)


async def last_at(tx: Transaction, blueprint: str, entity: str) -> datetime | None:
    """Read when the newest change of an entity that was seen so far happened, UTC; None: none was seen."""
    at = await tx.fetch_value(
        "SELECT max(at) FROM changes WHERE blueprint = $1 AND entity = $2", blueprint, entity
    )
    return time_or_none(at)


async def history(
    tx: Transaction, *, since: datetime, blueprint: str | None = None, after: StoredChange | None, limit: int
) -> list[StoredChange]:
    """Read changes in the order of their arrival; none if there are no more.

    Args:
        tx: The transaction.
        since: Those that arrived from this time on, UTC.
        blueprint: Only of this blueprint; None: all.
        after: Those behind this one, to go on where the last call ended.
        limit: How many at most; fewer where their bodies are long, so that memory stays small.
    """
    start = (to_micros(since), 0) if after is None else (to_micros(after.received_at), after.id)
    only = "" if blueprint is None else " AND blueprint = $4"
    rows = tx.stream(
        f"SELECT {CHANGE}, body FROM changes WHERE (received_at, id) > ($1, $2){only}"
        " ORDER BY received_at, id LIMIT $3",
        *start,
        limit,
        *([] if blueprint is None else [blueprint]),
    )
    read: list[StoredChange] = []
    size = 0
    async for row in rows:
        read.append(_change_of(row))
        size += len(row[-1])
        if size > READ_BYTES:
            break
    return read


async def choices(tx: Transaction) -> Choices:
    """Read the values that changes can be filtered by; each costs one step into an index."""
    teams = {team for teams in await distinct(tx, "teams", "changes") for team in json.loads(teams)}
    return Choices(
        sorted(name for name in await distinct(tx, "blueprint", "changes") if name),
        sorted(teams),
        sorted(name for name in await distinct(tx, "rule", "deliveries") if name),
    )


def _change_of(row: Row) -> StoredChange:
    id_, key, received_at, at, action, resource, blueprint, entity, teams, reason, alerts, body_ = row
    times = from_micros(received_at), from_micros(at)
    return StoredChange(
        id_,
        key,
        *times,
        action,
        resource,
        blueprint,
        entity,
        tuple(json.loads(teams)),
        reason,
        alerts,
        None if body_ is None else bytes(body_),
    )
