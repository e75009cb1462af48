"""The SQL that finds changes: fast with a million of them, whatever is asked for.

One filter leads: an index gives what fits it, newest first. The others are looked at row by row, and the
search stops after so many rows, so that no page takes long; the next page goes on from there.
"""

import heapq
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from app.model.delivery import State
from app.model.report import RUNS
from app.store.columns import to_micros
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


@dataclass(slots=True)
class _Search:
    """What of a filter leads, and what is looked at row by row: SQL, and its values."""

    leads: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    rest: list[str] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)

    def add(self, condition: str, leads: list[tuple[str, dict[str, Any]]], **values: Any) -> None:
        """Let a condition lead unless another does."""
        self.values |= values
        if self.leads:
            self.rest.append(condition)
        else:
            self.leads = leads


async def changes(session: Any, which: ChangeFilter, before: str | None, limit: int) -> Page[ChangeRow]:
    """Return changes, newest first, looking at a bounded number of those that may fit."""
    db = session.connection
    search = _plan(db, which)
    search.values |= {"before": number_of(before), "after": 0}
    _bound_by_time(db, which, search)
    walk = Walk(limit)
    for number, fits in _candidates(db, search):
        if not walk.takes(number, fits):
            break
    rows = [one for one in (_row(db, number) for number in walk.found) if one]
    received_at = None
    if walk.cut_short:
        (received_at,) = db.execute("SELECT received_at FROM changes WHERE id = ?", (walk.last,)).fetchone()
    return walk.page(rows, received_at)


def _plan(db: sqlite3.Connection, which: ChangeFilter) -> _Search:
    """Order a filter's conditions: the first, which fits fewest as a rule, leads."""
    search = _Search()
    if which.entity is not None:
        _by_entity(db, which.entity, which.blueprint, search)
    if which.text:
        _by_text(db, which.text, search)
    if which.rule is not None:
        lead = "deliveries INDEXED BY deliveries_by_rule CROSS JOIN changes ON changes.id = change_id WHERE"
        condition = "notification ->> 'rule' = :rule"
        search.add(_any_delivery(condition), [(f"{lead} {condition}", {})], rule=which.rule)
    if which.state is not None:
        _by_state(which.state, search)
    if which.team is not None:
        _by_team(db, which.team, search)
    if which.blueprint is not None:
        lead = "changes INDEXED BY changes_by_blueprint WHERE blueprint = :blueprint"
        search.add("blueprint = :blueprint", [(lead, {})], blueprint=which.blueprint)
    if not search.leads:
        search.leads = [("changes WHERE true", {})]
    return search


def _by_entity(db: sqlite3.Connection, entity: str, blueprint: str | None, search: _Search) -> None:
    names = db.execute(
        "SELECT blueprint, entity FROM entities WHERE entity = ? AND ? IN (blueprint, '')",
        (entity, blueprint or ""),
    ).fetchall()
    search.add("changes.entity = :entity", [_of_entity(*one) for one in names] or _nothing(), entity=entity)


def _by_text(db: sqlite3.Connection, text: str, search: _Search) -> None:
    """Search names first: a few lead to their changes, and many are soon met among all."""
    condition = "instr(lower(changes.entity), lower(:text)) > 0"
    names = db.execute(
        "SELECT blueprint, entity FROM entities WHERE instr(lower(entity), lower(?)) > 0 LIMIT ?",
        (text, MANY_NAMES + 1),
    ).fetchall()
    if len(names) > MANY_NAMES:
        search.rest.append(condition)
        search.values["text"] = text
    else:
        search.add(condition, [_of_entity(*one) for one in names] or _nothing(), text=text)


def _of_entity(blueprint: str, entity: str) -> tuple[str, dict[str, Any]]:
    lead = "changes INDEXED BY changes_by_entity WHERE blueprint = :lead_blueprint AND entity = :lead_entity"
    return lead, {"lead_blueprint": blueprint, "lead_entity": entity}


def _nothing() -> list[tuple[str, dict[str, Any]]]:
    return [("changes WHERE false", {})]


def _by_state(state: str, search: _Search) -> None:
    if state == QUIET:
        search.rest.append("alerts = 0")  # most are: they are soon met among all
        return
    kept = State.PENDING if state == State.ON_HOLD else State(state)
    condition = "deliveries.state = :state"
    on_hold = "(SELECT on_hold FROM queues WHERE name = deliveries.queue)"
    if state in (State.ON_HOLD, State.PENDING):
        condition += f" AND {on_hold} IS {'NOT NULL' if state == State.ON_HOLD else 'NULL'}"
    elif state == State.DELIVERED:
        condition += f" AND deliveries.destination <> '{RUNS}'"  # a report tells nobody of the change
    lead = "deliveries INDEXED BY deliveries_by_state CROSS JOIN changes ON changes.id = change_id WHERE"
    search.add(_any_delivery(condition), [(f"{lead} {condition}", {})], state=str(kept))


def _by_team(db: sqlite3.Connection, team: str, search: _Search) -> None:
    lists = [one for one in _teams(db) if team in json.loads(one)]
    lead = "changes INDEXED BY changes_by_teams WHERE teams = :lead_teams"
    search.add(
        "EXISTS (SELECT 1 FROM json_each(changes.teams) WHERE value = :team)",
        [(lead, {"lead_teams": one}) for one in lists] or _nothing(),
        team=team,
    )


def _any_delivery(condition: str) -> str:
    return f"EXISTS (SELECT 1 FROM deliveries WHERE change_id = changes.id AND {condition})"


def _bound_by_time(db: sqlite3.Connection, which: ChangeFilter, search: _Search) -> None:
    """Turn times into numbers, between which the search stays."""
    if which.since is not None:
        early = to_micros(which.since - PROCESSES_DIFFER)
        row = db.execute(
            "SELECT id FROM changes WHERE received_at >= ? ORDER BY received_at LIMIT 1", (early,)
        ).fetchone()
        search.values["after"] = row[0] - 1 if row else END
        search.rest.append("received_at >= :since")
        search.values["since"] = to_micros(which.since)
    if which.until is not None:
        late = to_micros(which.until + PROCESSES_DIFFER)
        row = db.execute(
            "SELECT id FROM changes WHERE received_at < ? ORDER BY received_at DESC LIMIT 1", (late,)
        ).fetchone()
        search.values["before"] = min(search.values["before"], row[0] + 1 if row else 0)
        search.rest.append("received_at < :until")
        search.values["until"] = to_micros(which.until)


def _candidates(db: sqlite3.Connection, search: _Search) -> Iterator[tuple[int, int]]:
    """Yield the numbers of changes that the leading condition fits, newest first, and whether all fit."""
    fits = " AND ".join(search.rest) or "1"
    parts = []
    for lead, values in search.leads:
        number = "change_id" if lead.startswith("deliveries") else "changes.id"
        parts.append(
            db.execute(
                f"SELECT {number}, {fits} FROM {lead} AND {number} < :before AND {number} > :after"
                f" ORDER BY {number} DESC",
                search.values | values,
            )
        )
    return iter(heapq.merge(*parts, reverse=True))


async def change(session: Any, number: int) -> ChangeRow | None:
    """Return one change whole."""
    return _row(session.connection, number, large=END)


def _row(db: sqlite3.Connection, number: int, large: int = LARGE_BODY) -> ChangeRow | None:
    row = db.execute(
        f"SELECT {CHANGE}, CASE WHEN length(body) <= ? THEN body END FROM changes WHERE id = ?",
        (large, number),
    ).fetchone()
    return change_row_of(*row) if row else None


async def choices(session: Any) -> Choices:
    """Return what there is to filter by; each value costs one step into an index."""
    db = session.connection
    teams = {team for one in _teams(db) for team in json.loads(one)}
    return Choices(
        [one for one in _distinct(db, "blueprint", "changes") if one],
        sorted(teams),
        [one for one in _distinct(db, "notification ->> 'rule'", "deliveries") if one],
    )


def _teams(db: sqlite3.Connection) -> list[str]:
    return _distinct(db, "teams", "changes")


def _distinct(db: sqlite3.Connection, value: str, table: str) -> list[str]:
    # SELECT DISTINCT would read the whole index.
    rows = db.execute(
        f"WITH RECURSIVE found (value) AS (SELECT min({value}) FROM {table} UNION ALL"
        f" SELECT (SELECT min({value}) FROM {table} WHERE {value} > found.value) FROM found"
        " WHERE found.value IS NOT NULL) SELECT value FROM found WHERE value IS NOT NULL LIMIT 1000"
    )
    return [value for (value,) in rows]
