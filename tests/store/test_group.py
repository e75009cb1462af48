"""Changes that are stored together lead to what they would have led to one after the other."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from app.rules.decide import Decision, EntityState, decide
from app.rules.match import Match
from app.rules.rule import RuleSet
from app.rules.watched import watched_by
from app.store.queries import accept as accepting
from app.store.rows import Accepted, Incoming
from app.store.sqlite.schema import connect, prepare
from app.store.sqlite.transaction import run_at_once
from tests.rules.changes import NOW, change, entity, rule
from tests.rules.life import matched

SECOND = timedelta(seconds=1)
HEALTH = {"property": "health"}
RULES = [
    rule(name="health", blueprint="database", when=HEALTH, resolve=HEALTH | {"to": "up"}),
    rule(
        name="lasting",
        blueprint="database",
        when={"property": "cpu", "above": 80, "for": "2m"},
        again_after="5m",
    ),
    rule(
        name="restless",
        blueprint="database",
        when=HEALTH | {"to": "down"},
        resolve=HEALTH | {"to": "up"},
        flap={"changes": 3, "within": "10m"},
        again_after="1h",
    ),
    rule(name="seen", blueprint="database", when={"property": "cpu", "below": 20}),
]
WATCHED = watched_by(RuleSet(RULES))["database"]
TABLES = ("changes", "incidents", "deliveries", "last_known", "entities", "queues")

Life = list[tuple[str, str, int, int, bool]]

steps = st.tuples(
    st.sampled_from(["a", "b"]),
    st.sampled_from(["up", "slow", "down"]),
    st.sampled_from([10, 50, 90]),
    st.integers(-40, 200),  # seconds since the one before; below 0: it comes late
    st.booleans(),  # whether what is stored together ends with it
)


def changes(life: Life) -> Iterator[Incoming]:
    """Yield the changes of some entities' lives as they arrive."""
    state: dict[str, dict[str, Any]] = {}
    now = NOW
    for number, (name, health, cpu, seconds, _) in enumerate(life):
        now += max(1, seconds) * SECOND
        before, state[name] = state.get(name), {"health": health, "cpu": cpu}
        what = change(
            None if before is None else entity(before),
            entity(state[name]),
            # Now and then one that was there.
            key=f"{number % 7 if seconds == 0 else number:016}" * 4,
            action="UPDATE" if before else "CREATE",
            entity=name,
            at=now + min(0, seconds) * SECOND,
        )
        found = replace(matched(RULES, what), watched=WATCHED)
        yield Incoming(what, b"{}", now, partial(_decided, found, now), watched=True)


def _decided(found: Match, now: datetime, state: EntityState) -> Decision:
    return decide(found, state, now)


def stored(batches: list[list[Incoming]]) -> tuple[list[Accepted], dict[str, list[Any]]]:
    """Store changes, batch by batch, and return what was answered and what each table has then."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "listener.db"
        prepare(file)
        with closing(connect(file)) as db:
            answers = [
                answer
                for batch in batches
                for answer in run_at_once(partial(accepting.accept, batch=batch))(db)
            ]
            return answers, {table: rows(db, table) for table in TABLES}


def rows(db: sqlite3.Connection, table: str) -> list[Any]:
    """Return all that a table has."""
    return db.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()  # noqa: S608 - our own names


@settings(max_examples=30, deadline=None)
@given(st.lists(steps, min_size=2, max_size=14))
def test_together_as_one_after_the_other(life: Life) -> None:
    """Of one entity or another, late, there already, cancelling what is to be told later: all the same."""
    alone = [[one] for one in changes(life)]
    together: list[list[Incoming]] = [[]]
    for (one,), (*_, ends) in zip(alone, life, strict=True):
        together[-1].append(one)
        if ends:
            together.append([])
    assert stored(together) == stored(alone)
