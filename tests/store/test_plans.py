"""Nothing that is done for each change, each message or each second reads a whole table."""

import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import pytest

from app.model.delivery import Outcome
from app.model.notification import Message
from app.model.silence import Silence
from app.model.times import to_micros
from app.rules.decide import Decision
from app.rules.last_known import LastKnown
from app.store import queries
from app.store.rows import MAX_SUMMED_UP, Attempt, Claim, Incoming
from app.store.sqlite.schema import connect, prepare
from app.store.sqlite.transaction import run_at_once
from app.store.transaction import Transaction
from tests.conftest import NOW
from tests.store.helpers import incoming, reported

_P = ParamSpec("_P")
_T = TypeVar("_T")


def run(
    db: sqlite3.Connection,
    operation: Callable[Concatenate[Transaction, _P], Awaitable[_T]],
    *args: _P.args,
    **kwargs: _P.kwargs,
) -> _T:
    """Run an operation of the store on a connection."""
    return run_at_once(lambda tx: operation(tx, *args, **kwargs))(db)


SECOND = timedelta(seconds=1)
LARGE = ("last_known", "changes", "deliveries", "attempts", "incidents", "messages", "incident_messages")


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to an empty store."""
    prepare(tmp_path / "listener.db")
    with closing(connect(tmp_path / "listener.db")) as connection:
        yield connection


def claims(db: sqlite3.Connection, second: int) -> list[Claim]:
    """Claim what is due."""
    now = NOW + second * SECOND
    return run(
        db,
        queries.queues.claim,
        token=f"at-{second}",
        now=now,
        lease_until=now + 30 * SECOND,
        limit=64,
        batch_limits={"default": 2},
    )


def deliver(db: sqlite3.Connection, claim: Claim, *, message: Message | None = None) -> None:
    """Record that all that was claimed is delivered."""
    at = claim.claimed_at
    assert run(
        db, queries.queues.record, claim, Attempt(Outcome.DELIVERED, "ok", at, at, at, message=message)
    )


def remind(one: Incoming) -> Incoming:
    """Return a change whose alert is said again."""

    def decide(state: object) -> object:
        decision = one.decide(state)  # type: ignore[arg-type]
        alerts = tuple(replace(alert, repeat=60 * SECOND) for alert in decision.alerts)
        return replace(decision, alerts=alerts)

    return replace(one, decide=decide)  # type: ignore[arg-type]


def a_day(db: sqlite3.Connection) -> None:
    """Let all happen that happens often: alerts, messages that change, silences, reports, a queue on hold."""
    run(db, queries.accept.accept, [reported(remind(incoming(entity=f"e{number}"))) for number in range(4)])
    first, report = claims(db, 1)
    assert run(db, queries.reports.fate, "r_1") is not None
    deliver(db, report)
    assert run(db, queries.queues.waiting, first, after=first.deliveries[-1].id, limit=10)
    deliver(db, first, message=Message("C1", "1.1"))
    run(db, queries.accept.accept, [incoming("Degraded", "Crashed", entity="e0", second=2)])
    for second in (3, 5):
        for one in claims(db, second):
            deliver(db, one, message=Message("C1", f"{second}.1") if one.alerts else None)
    known = LastKnown({}, {}, exists=False, exists_at=to_micros(NOW))
    watched = replace(incoming(entity="known", second=3), watched=True)
    run(db, queries.accept.accept, [replace(watched, decide=lambda _: Decision("", known=known))])
    run(db, queries.prune.prune, before=NOW - SECOND, limit=10)
    silence = Silence("*", "*", "*", "*", NOW, NOW + 20 * SECOND, "ada", "deploy")
    run(db, queries.silences.add, silence)
    for one in claims(db, 100):
        at = one.claimed_at
        attempt = Attempt(Outcome.ON_HOLD, "404", at, at, at, delivery_ids=[one.deliveries[0].id])
        run(db, queries.queues.record, one, attempt)
    run(db, queries.deliveries.release_hold, "default", NOW + 101 * SECOND)


def test_no_statement_reads_a_large_table(db: sqlite3.Connection) -> None:
    """Each is answered from indexes, whatever the number of rows."""
    said: list[str] = []
    db.set_trace_callback(said.append)
    a_day(db)
    db.set_trace_callback(None)
    # Of an INSERT into queues that selects, the plan has a check of references that is skipped when it runs.
    often = [one for one in dict.fromkeys(said) if not one.startswith("INSERT INTO queues")]
    assert len(often) > 30
    for statement in often:
        for _, _, _, step in db.execute(f"EXPLAIN QUERY PLAN {statement}"):
            scanned = step.removeprefix("SCAN ") if step.startswith("SCAN ") else ""
            assert scanned.split(" ")[0] not in {*LARGE, "told", "kept", "later", "report", "posted"}, (
                step,
                statement,
            )
            # This one leads to all that is pending, of whatever queue and incident.
            assert "deliveries_by_state" not in step, (step, statement)


def test_what_is_deleted_is_not_looked_for_everywhere(db: sqlite3.Connection) -> None:
    """Each reference to a row that may be deleted has an index, which foreign keys need."""
    for table in LARGE:
        for _, _, parent, column, *_ in db.execute(f"PRAGMA foreign_key_list({table})").fetchall():
            if parent == "queues":  # none is ever deleted
                continue
            asked = f"EXPLAIN QUERY PLAN DELETE FROM {table} WHERE {column} = ?"  # noqa: S608 - our own names
            _, _, _, step = db.execute(asked, (1,)).fetchone()
            assert step.startswith("SEARCH"), (table, column)


def test_a_claim_counts_no_more_than_go_out_together(db: sqlite3.Connection) -> None:
    """However many wait: to count them all would keep those waiting who store a change."""
    run(db, queries.accept.accept, [incoming()])
    db.execute("CREATE TEMP TABLE copies AS SELECT * FROM deliveries")
    db.execute(
        "WITH RECURSIVE number (one) AS (SELECT 1 UNION ALL SELECT one + 1 FROM number LIMIT 10010)"
        " INSERT INTO copies SELECT copies.* FROM copies, number"
    )
    db.execute("UPDATE copies SET id = rowid")
    db.execute("INSERT INTO deliveries SELECT * FROM copies WHERE id > 1")
    (claimed,) = claims(db, 1)
    assert (len(claimed.deliveries), claimed.waiting) == (2, MAX_SUMMED_UP)
