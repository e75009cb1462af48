"""How a filter of changes is searched: which condition leads, and the statement that follows from it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from app.model.delivery import State
from app.model.times import to_micros
from app.store.cursor import LAST
from app.store.transaction import Row, Transaction
from app.store.views import QUIET, ChangeFilter

MANY_NAMES = 100
"""With more entities or teams than this none leads: one of them is soon met among all changes."""
PROCESSES_DIFFER = timedelta(seconds=30)
"""Numbers follow the time of arrival, but not to the second where several processes store."""


@dataclass(slots=True)
class ChangeSearch:
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


async def plan(tx: Transaction, which: ChangeFilter) -> ChangeSearch:
    """Order a filter's conditions: the first, which fits fewest as a rule, leads."""
    search = ChangeSearch()
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


async def _by_text(tx: Transaction, text: str, search: ChangeSearch) -> None:
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


def _by_state(state: str, search: ChangeSearch) -> None:
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


async def _by_team(tx: Transaction, team: str, search: ChangeSearch) -> None:
    lists = [teams for teams in await distinct(tx, "teams", "changes") if team in json.loads(teams)]
    if search.leads is None and len(lists) <= MANY_NAMES:
        search.leads = [("id", f"changes WHERE teams = {search.value(teams)}") for teams in lists]
    else:
        search.rest.append(f"teams = ANY({search.value(lists)})")


async def bound_by_time(
    tx: Transaction, which: ChangeFilter, search: ChangeSearch, start: int
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


async def distinct(tx: Transaction, column: str, table: str) -> list[str]:
    """Read the different values of an indexed column, in order, the first thousand."""
    # SELECT DISTINCT would read the whole index.
    rows = await tx.fetch(
        f"WITH RECURSIVE steps (value) AS (SELECT min({column}) FROM {table} UNION ALL"
        f" SELECT (SELECT min({column}) FROM {table} WHERE {column} > steps.value) FROM steps"
        " WHERE steps.value IS NOT NULL) SELECT value FROM steps WHERE value IS NOT NULL LIMIT 1000"
    )
    return [value for (value,) in rows]
