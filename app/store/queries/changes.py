"""Finding changes: fast with a million of them, whatever is asked for.

One condition leads: an index gives the changes that it fits, newest first. The other conditions are looked at
change by change, and the search stops after so many, so that no page takes long; the next page goes on there.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from app.model.delivery import State
from app.model.times import from_micros, time_or_none, to_micros
from app.store.queries.page import LAST, number_of
from app.store.transaction import Row, Transaction
from app.store.views import QUIET, ChangeFilter, Choices, Page, StoredChange

LONGEST_SEARCH = 10_000
"""How many changes that may fit are looked at for one page."""
FIRST_STEP, LONGEST_STEP = 200, 2_000
"""How many changes are looked at in one statement: few at first, since the first often fill the page."""
MANY_NAMES = 100
"""With more entities or teams than this none leads: one of them is soon met among all changes."""
LARGE_BODY_BYTES = 64 * 1024
"""A longer body is not read for a list."""
READ_BYTES = 8 * 1024 * 1024
"""How much of bodies is read in one go, so that memory stays small."""
PROCESSES_DIFFER = timedelta(seconds=30)
"""Numbers follow the time of arrival, but not to the second where several processes store."""
CHANGE = "id, key, received_at, at, action, resource, blueprint, entity, teams, reason, alerts"


@dataclass(slots=True)
class _Search:
    """A filter in SQL.

    Attributes:
        leads: What follows SELECT and FROM, each giving numbers of changes by an index; None: nothing leads
            yet.
        rest: The conditions on `changes` that do not lead.
        values: The values of `$1`, `$2` and so on.
    """

    leads: list[tuple[str, str]] | None = None
    rest: list[str] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)

    def value(self, value: Any) -> str:
        """Give the placeholder of a value."""
        self.values.append(value)
        return f"${len(self.values)}"

    def by_entities(self, names: Sequence[Row]) -> None:
        """Let the changes of entities lead."""
        self.leads = [
            ("id", f"changes WHERE blueprint = {self.value(blueprint)} AND entity = {self.value(entity)}")
            for blueprint, entity in names
        ]

    def by_delivery(self, condition: str) -> None:
        """Let the changes lead that have a delivery of which a condition is true, or look for one."""
        if self.leads is None:
            self.leads = [("change_id", f"deliveries WHERE {condition}")]
        else:
            self.rest.append(
                f"EXISTS (SELECT 1 FROM deliveries WHERE change_id = changes.id AND {condition})"
            )

    def statement(self) -> str:
        """Write the statement that gives the next numbers, and of each whether the rest fits.

        Its values are those of the search, then: above which number, below which number, and how many.
        """
        # A value, not EXISTS: for that PostgreSQL would plan to read all changes at once.
        fits = f"(SELECT {' AND '.join(self.rest)} FROM changes WHERE changes.id = number)"
        leads = [("id", "changes WHERE true")] if self.leads is None else self.leads
        above, below, limit = (f"${len(self.values) + place}" for place in (1, 2, 3))
        # With a limit of its own each part is read by the index in whose order it is wanted.
        parts = " UNION ALL ".join(
            f"SELECT * FROM (SELECT {number} AS number FROM {lead}"
            f" AND {number} > {above} AND {number} < {below} ORDER BY {number} DESC LIMIT {limit})"
            f" AS part{place}"
            for place, (number, lead) in enumerate(leads)
        )
        return (
            f"SELECT number, {fits if self.rest else 'true'} FROM ({parts}) AS parts"
            f" ORDER BY number DESC LIMIT {limit}"
        )


async def changes(
    tx: Transaction, which: ChangeFilter, *, before: str | None = None, limit: int
) -> Page[StoredChange]:
    """Read changes, newest first. Where few fit, a page may have fewer than `limit` and a `next`.

    Args:
        tx: The transaction.
        which: Which changes.
        before: A page's `next`.
        limit: How many at most.
    """
    start = number_of(before)
    search = await _plan(tx, which)
    after, start = await _bound_by_time(tx, which, search, start)
    matching, last, stopped = await _walk(tx, search, after, start, limit)
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
    tx: Transaction, search: _Search, after: int, before: int, limit: int
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
            if len(matching) == limit or looked_at == LONGEST_SEARCH:
                return matching, last, True
            last, looked_at = number, looked_at + 1
            if fits:
                matching.append(number)
        if len(rows) < step:
            break
        step = min(step * 2, LONGEST_STEP)
    return matching, last, False


async def _plan(tx: Transaction, which: ChangeFilter) -> _Search:
    """Order a filter's conditions: the first, which fits fewest as a rule, leads."""
    search = _Search()
    if which.entity is not None:
        blueprint = "" if which.blueprint is None else " AND blueprint = $2"
        values = [which.entity, *([which.blueprint] if blueprint else [])]
        names = await tx.fetch(
            f"SELECT blueprint, entity FROM entities WHERE entity = $1{blueprint}", *values
        )
        search.by_entities(names)
    if which.text:
        await _by_text(tx, which.text, search)
    if which.rule is not None:
        search.by_delivery(f"rule = {search.value(which.rule)}")
    if which.state is not None:
        _by_state(which.state, search)
    if which.team is not None:
        await _by_team(tx, which.team, search)
    if which.blueprint is not None:
        condition = f"blueprint = {search.value(which.blueprint)}"
        if search.leads is None:
            search.leads = [("id", f"changes WHERE {condition}")]
        else:
            search.rest.append(condition)
    return search


async def _by_text(tx: Transaction, text: str, search: _Search) -> None:
    """Search names first: a few lead to their changes, and many are soon met among all changes."""
    pattern = "".join(f"\\{character}" if character in "\\%_" else character for character in text)
    if search.leads is None:
        names = await tx.fetch(
            r"SELECT blueprint, entity FROM entities WHERE lower(entity) LIKE lower($1) ESCAPE '\' LIMIT $2",
            f"%{pattern}%",
            MANY_NAMES + 1,
        )
        if len(names) <= MANY_NAMES:
            search.by_entities(names)
            return
    value = search.value(f"%{pattern}%")
    search.rest.append(rf"lower(changes.entity) LIKE lower({value}) ESCAPE '\'")


def _by_state(state: str, search: _Search) -> None:
    if state == QUIET:
        search.rest.append("alerts = 0")  # most are: they are soon met among all
        return
    stored = State.PENDING if state == State.ON_HOLD else State(state)
    condition = f"deliveries.state = {search.value(str(stored))}"
    if state in (State.ON_HOLD, State.PENDING):
        condition += (
            " AND (SELECT on_hold FROM queues WHERE name = deliveries.queue)"
            f" IS {'NOT NULL' if state == State.ON_HOLD else 'NULL'}"
        )
    elif state == State.DELIVERED:
        condition += " AND kind <> 'report'"  # a report alerts nobody to the change
    search.by_delivery(condition)


async def _by_team(tx: Transaction, team: str, search: _Search) -> None:
    lists = [teams for teams in await _distinct(tx, "teams", "changes") if team in json.loads(teams)]
    if search.leads is None and len(lists) <= MANY_NAMES:
        search.leads = [("id", f"changes WHERE teams = {search.value(teams)}") for teams in lists]
    else:
        search.rest.append(f"teams = ANY({search.value(lists)})")


async def _bound_by_time(
    tx: Transaction, which: ChangeFilter, search: _Search, start: int
) -> tuple[int, int]:
    """Turn a filter's times into the numbers between which the search stays."""
    after = 0
    if which.since is not None:
        first = await tx.fetch_value(
            "SELECT id FROM changes WHERE received_at >= $1 ORDER BY received_at, id LIMIT 1",
            to_micros(which.since - PROCESSES_DIFFER),
        )
        after = LAST if first is None else first - 1
        search.rest.append(f"received_at >= {search.value(to_micros(which.since))}")
    if which.until is not None:
        last = await tx.fetch_value(
            "SELECT id FROM changes WHERE received_at < $1 ORDER BY received_at DESC, id DESC LIMIT 1",
            to_micros(which.until + PROCESSES_DIFFER),
        )
        start = min(start, 0 if last is None else last + 1)
        search.rest.append(f"received_at < {search.value(to_micros(which.until))}")
    return after, start


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
    teams = {team for teams in await _distinct(tx, "teams", "changes") for team in json.loads(teams)}
    return Choices(
        sorted(name for name in await _distinct(tx, "blueprint", "changes") if name),
        sorted(teams),
        sorted(name for name in await _distinct(tx, "rule", "deliveries") if name),
    )


async def _distinct(tx: Transaction, column: str, table: str) -> list[str]:
    # SELECT DISTINCT would read the whole index.
    rows = await tx.fetch(
        f"WITH RECURSIVE steps (value) AS (SELECT min({column}) FROM {table} UNION ALL"
        f" SELECT (SELECT min({column}) FROM {table} WHERE {column} > steps.value) FROM steps"
        " WHERE steps.value IS NOT NULL) SELECT value FROM steps WHERE value IS NOT NULL LIMIT 1000"
    )
    return [value for (value,) in rows]


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
