"""The SQL that finds changes: fast with a million of them, whatever is asked for.

One filter leads: an index gives what fits it, newest first. The others are looked at row by row, and the
search stops after so many rows, so that no page takes long; the next page goes on from there. Rows are taken
from the server as they are looked at, and none that is not.
"""

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.model.delivery import State
from app.model.report import RUNS
from app.store import view_rows
from app.store.columns import to_micros
from app.store.transaction import Session
from app.store.view_rows import (
    CHANGE,
    END,
    LARGE_BODY,
    MANY_NAMES,
    PROCESSES_DIFFER,
    Walk,
    change_row_of,
    number_of,
)
from app.store.views import QUIET, ChangeFilter, ChangeRow, Choices, Page

ROWS_AT_ONCE = 200
ON_HOLD = "(SELECT on_hold FROM queues WHERE name = deliveries.queue)"
DELIVERED = "deliveries JOIN changes ON changes.id = change_id WHERE"
RULE = "(notification::json ->> 'rule')"


@dataclass(slots=True)
class _Search:
    """What of a filter leads, each by an index, and what is looked at row by row; SQL, with its values.

    Attributes:
        leads: Each from FROM on to its condition; None: nothing leads yet.
        rest: The conditions that do not lead.
        values: The values of `$1`, `$2` and so on.
    """

    leads: list[str] | None = None
    rest: list[str] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)

    def value(self, value: Any) -> str:
        """Return the name by which a value is called in SQL."""
        self.values.append(value)
        return f"${len(self.values)}"

    def entities(self, names: Sequence[tuple[str, str]]) -> None:
        """Let the changes of entities lead."""
        self.leads = [
            f"changes WHERE blueprint = {self.value(blueprint)} AND entity = {self.value(entity)}"
            for blueprint, entity in names
        ]

    def deliveries(self, condition: str) -> None:
        """Let the changes lead that have a delivery of which a condition is true, or look for such."""
        if self.leads is None:
            self.leads = [f"{DELIVERED} {condition}"]
        else:
            self.rest.append(
                f"EXISTS (SELECT 1 FROM deliveries WHERE change_id = changes.id AND {condition})"
            )


async def changes(db: Session, which: ChangeFilter, before: str | None, limit: int) -> Page[ChangeRow]:
    """Return changes, newest first, looking at a bounded number of those that may fit."""
    start = number_of(before)
    search = await _plan(db, which)
    after, start = await _bound_by_time(db, which, search, start)
    walk = Walk(limit)
    async for number, fits in _candidates(db, search, after, start):
        if not walk.takes(number, fits):
            break
    rows = await db.fetch(_select("id = ANY($2) ORDER BY id DESC"), LARGE_BODY, walk.found)
    received_at = None
    if walk.cut_short:
        received_at = await db.fetchval("SELECT received_at FROM changes WHERE id = $1", walk.last)
    return walk.page([change_row_of(*row) for row in rows], received_at)


async def _plan(db: Session, which: ChangeFilter) -> _Search:
    """Order a filter's conditions: the first, which fits fewest as a rule, leads."""
    search = _Search()
    if which.entity is not None:
        search.entities(
            await db.fetch(
                "SELECT blueprint, entity FROM entities"
                " WHERE entity = $1 AND ($2::text IS NULL OR blueprint = $2)",
                which.entity,
                None if which.blueprint is None else which.blueprint,
            )
        )
    if which.text:
        await _by_text(db, which.text, search)
    if which.rule is not None:
        search.deliveries(f"{RULE} = {search.value(which.rule)}")
    if which.state is not None:
        _by_state(which.state, search)
    if which.team is not None:
        await _by_team(db, which.team, search)
    if which.blueprint is not None:
        condition = f"blueprint = {search.value(which.blueprint)}"
        if search.leads is None:
            search.leads = [f"changes WHERE {condition}"]
        else:
            search.rest.append(condition)
    return search


async def _by_text(db: Session, text: str, search: _Search) -> None:
    """Search names first: a few lead to their changes, and many are soon met among all."""
    if search.leads is None:
        names = await db.fetch(
            "SELECT blueprint, entity FROM entities WHERE strpos(lower(entity), lower($1)) > 0 LIMIT $2",
            text,
            MANY_NAMES + 1,
        )
        if len(names) <= MANY_NAMES:
            search.entities(names)
            return
    search.rest.append(f"strpos(lower(changes.entity), lower({search.value(text)})) > 0")


def _by_state(state: str, search: _Search) -> None:
    if state == QUIET:
        search.rest.append("alerts = 0")  # most are: they are soon met among all
        return
    kept = State.PENDING if state == State.ON_HOLD else State(state)
    condition = f"deliveries.state = {search.value(str(kept))}"
    if state in (State.ON_HOLD, State.PENDING):
        condition += f" AND {ON_HOLD} IS {'NOT NULL' if state == State.ON_HOLD else 'NULL'}"
    elif state == State.DELIVERED:
        condition += f" AND deliveries.destination <> '{RUNS}'"  # a report tells nobody of the change
    search.deliveries(condition)


async def _by_team(db: Session, team: str, search: _Search) -> None:
    lists = [one for one in await _teams(db) if team in json.loads(one)]
    if search.leads is None and len(lists) <= MANY_NAMES:
        search.leads = [f"changes WHERE teams = {search.value(one)}" for one in lists]
    else:
        search.rest.append(f"teams = ANY({search.value(lists)})")


async def _bound_by_time(db: Session, which: ChangeFilter, search: _Search, start: int) -> tuple[int, int]:
    """Turn times into numbers, between which the search stays: behind the first, and before the second."""
    after = 0
    if which.since is not None:
        first = await db.fetchval(
            "SELECT id FROM changes WHERE received_at >= $1 ORDER BY received_at, id LIMIT 1",
            to_micros(which.since - PROCESSES_DIFFER),
        )
        after = END if first is None else first - 1
        search.rest.append(f"received_at >= {search.value(to_micros(which.since))}")
    if which.until is not None:
        last = await db.fetchval(
            "SELECT id FROM changes WHERE received_at < $1 ORDER BY received_at DESC, id DESC LIMIT 1",
            to_micros(which.until + PROCESSES_DIFFER),
        )
        start = min(start, 0 if last is None else last + 1)
        search.rest.append(f"received_at < {search.value(to_micros(which.until))}")
    return after, start


async def _candidates(
    db: Session, search: _Search, after: int, start: int
) -> AsyncIterator[tuple[int, bool]]:
    """Yield the numbers of changes that the leading condition fits, newest first, and whether all fit."""
    leads = ["changes WHERE true"] if search.leads is None else search.leads
    if not leads:
        return
    fits = " AND ".join(search.rest) or "true"
    between = f"< {search.value(start)} AND {{}} > {search.value(after)}"
    # With a limit the server takes the index in whose order the rows are wanted.
    most = view_rows.LOOK_AT_MOST + 1
    parts = []
    for lead in leads:
        number, once = "changes.id", ""
        if lead.startswith(DELIVERED):  # a change may have several
            number, once = "change_id", "DISTINCT ON (change_id) "
        parts.append(
            f"(SELECT {once}{number} AS number, {fits} AS fits"
            f" FROM {lead} AND {number} {between.format(number)} ORDER BY number DESC LIMIT {most})"
        )
    # Parts that are in order are merged as they come.
    query = " UNION ALL ".join(parts) + (" ORDER BY number DESC" if len(parts) > 1 else "")
    async for number, fit in db.rows(query, *search.values):
        yield number, fit


async def change(db: Session, number: int) -> ChangeRow | None:
    """Return one change whole."""
    row = await db.fetchrow(_select("id = $2"), END, number)
    return change_row_of(*row) if row else None


def _select(condition: str) -> str:
    return (
        f"SELECT {CHANGE}, CASE WHEN length(body) <= $1::bigint THEN body END FROM changes WHERE {condition}"
    )


async def choices(db: Session) -> Choices:
    """Return what there is to filter by; each value costs one step into an index."""
    teams = {team for one in await _teams(db) for team in json.loads(one)}
    return Choices(
        sorted(one for one in await _distinct(db, "blueprint", "changes") if one),
        sorted(teams),
        sorted(one for one in await _distinct(db, RULE, "deliveries") if one),
    )


async def _teams(db: Session) -> list[str]:
    return await _distinct(db, "teams", "changes")


async def _distinct(db: Session, value: str, table: str) -> list[str]:
    # SELECT DISTINCT would read the whole index.
    first = f"SELECT {value} FROM {table} WHERE {value} {{}} ORDER BY {value} LIMIT 1"
    rows = await db.fetch(
        f"WITH RECURSIVE found (value) AS (({first.format('IS NOT NULL')}) UNION ALL"
        f" SELECT ({first.format('> found.value')}) FROM found WHERE found.value IS NOT NULL)"
        " SELECT value FROM found WHERE value IS NOT NULL LIMIT 1000"
    )
    return [value for (value,) in rows]
