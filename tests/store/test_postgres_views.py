"""What only PostgreSQL has: other replicas that write while people look, and plans of its own."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from app.model.delivery import Outcome, State
from app.model.notification import Message
from app.model.times import to_micros
from app.store import queries
from app.store.opening import now
from app.store.postgres.database import open_postgres
from app.store.postgres.pool import Connection
from app.store.postgres.transaction import PostgresTransaction, lock_number
from app.store.store import Store
from app.store.views import ChangeFilter
from tests.conftest import NOW
from tests.postgres import PostgresServer
from tests.store.helpers import LEASE, SECOND, attempt, claim_one, incoming, resolve_all

FILL = """
INSERT INTO queues (name, destination) VALUES ('default', 'default');
INSERT INTO changes (key, received_at, at, action, resource, blueprint, entity, teams, reason, alerts, body)
SELECT n::text, {now} + n, n, 'UPDATE', 'entity', 'b' || n % 9, 'e' || n % 99, '["t' || n % 9 || '"]', '',
    n % 4, '{{}}' FROM generate_series(1, 20000) AS n;
INSERT INTO entities SELECT DISTINCT entity, blueprint FROM changes;
INSERT INTO deliveries (change_id, queue, destination, notification, rule, step, severity, kind, state,
    due_at, created_at, waiting_since, ended_at)
SELECT id, 'default', 'default', '{{}}', 'r' || id % 9, 'opened', 'warning', 'alert', 'delivered', 0,
    received_at, received_at, received_at FROM changes WHERE alerts > 0;
INSERT INTO attempts (delivery_id, outcome, detail, started_at, ended_at)
SELECT id, 'delivered', 'ok', 1, 1 FROM deliveries;
ANALYZE
"""
WHOLE_TABLE = re.compile(r"Seq Scan on (changes|deliveries|attempts)")


@pytest.fixture
async def url(postgres: PostgresServer) -> str:
    """An empty database."""
    return await postgres.new_database()


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    """Its store."""
    store = await open_postgres(url, clock=now)
    yield store
    await store.close()


@pytest.fixture
async def other(url: str, store: Store) -> AsyncIterator[Connection]:
    """A connection beside the store's, of another replica."""
    assert store
    connection = await asyncpg.connect(url)
    yield connection
    await connection.close()


class Listening:
    """A connection that remembers what was asked.

    Args:
        connection: Answers.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.asked: list[tuple[str, Sequence[Any]]] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._connection, name)

        def ask(query: str, *values: Any, **options: Any) -> Any:
            self.asked.append((query, values))
            return method(query, *values, **options)

        return ask


async def test_no_question_reads_a_large_table(other: Connection) -> None:
    """What people ask is answered from indexes, whatever they filter by."""
    await other.execute(FILL.format(now=to_micros(NOW)))
    heard = Listening(other)
    listening = PostgresTransaction(heard)
    for which in (
        ChangeFilter(),
        ChangeFilter(blueprint="b1"),
        ChangeFilter(entity="e5"),
        ChangeFilter(text="E9"),
        ChangeFilter(team="t1"),
        ChangeFilter(rule="r1"),
        ChangeFilter(rule="r1", team="t1", blueprint="b1"),
        ChangeFilter(state="delivered"),
        ChangeFilter(state="dead", team="t2"),
        ChangeFilter(state="on_hold"),
        ChangeFilter(state="none", text="e"),
        ChangeFilter(since=NOW + timedelta(milliseconds=15)),
        ChangeFilter(until=NOW + timedelta(milliseconds=5), blueprint="b1"),
    ):
        async with other.transaction():
            page = await queries.changes.changes(listening, which, limit=20)
            assert len(page.rows) == (0 if which.state in ("dead", "on_hold") else 20), which
            await queries.changes.changes(listening, which, before="9000", limit=20)
    for state in (None, State.DELIVERED, State.ON_HOLD, State.PENDING, State.DEAD):
        await queries.page.deliveries(listening, state=state, limit=20)
    await queries.page.deliveries_of(listening, [1, 2])
    await queries.page.attempts(listening, [1, 2])
    await queries.page.news(listening, NOW, 100)
    await queries.counts.overview(listening, NOW + timedelta(milliseconds=19))
    await queries.counts.newest(listening)
    await queries.changes.choices(listening)
    asked = dict(heard.asked)
    assert len(asked) > 30
    await other.execute("SET enable_seqscan = off")  # of few rows, to read all is the quickest
    for query, values in asked.items():
        plan = "\n".join(step for (step,) in await other.fetch(f"EXPLAIN {query}", *values))
        assert not WHOLE_TABLE.search(plan), (query, plan)


async def test_a_change_that_is_committed_late_is_seen(store: Store, other: Connection) -> None:
    """A number may be committed after a greater one: whoever looks is told of it all the same."""
    late = other.transaction()
    await late.start()
    await other.execute(
        "INSERT INTO changes (key, received_at, at, action, resource, blueprint, entity, teams, reason,"
        "  alerts, body) VALUES ('late', 1, 1, '', '', 'b', 'late', '[]', '', 0, '')"
    )
    await store.accept([incoming()])
    seen = await store.read(queries.counts.newest)
    await late.commit()
    assert await store.read(queries.counts.newest) > seen


async def test_the_name_of_what_is_being_stored_stays(store: Store, other: Connection) -> None:
    """While a replica stores a change of an entity, another that prunes its last one keeps the name."""
    await store.accept([incoming(entity="busy"), incoming(entity="idle")])
    for second in range(2):
        claim = await claim_one(store, second=second)
        assert claim is not None
        await store.record(claim, attempt(Outcome.DELIVERED, second=second))
    await resolve_all(store)
    storing = other.transaction()
    await storing.start()
    await other.execute("SELECT pg_advisory_xact_lock($1)", lock_number(("deploymentConfig", "busy")))
    assert await store.prune(before=NOW + SECOND, limit=9) == 2 + 2  # changes and incidents
    await storing.rollback()
    rows = await other.fetch("SELECT entity FROM entities")
    assert [name for (name,) in rows] == ["busy"]


async def test_an_update_that_is_claimed_at_the_same_moment(store: Store, other: Connection) -> None:
    """What is told while a replica takes the message's update waits for that, and makes one more."""
    await store.accept([incoming()])
    claim = await claim_one(store)
    assert claim is not None
    posted = replace(attempt(Outcome.DELIVERED), message=Message("C1", "1.1"))
    await store.record(claim, posted)
    for second, after in ((5, "Crashed"), (6, "Missing")):
        await store.accept([incoming("Degraded", after, second=second)])
    claim = await claim_one(store, second=7)
    assert claim is not None
    await store.record(claim, replace(attempt(Outcome.DELIVERED, second=7), message=Message("C1", "1.2")))
    at, updates = NOW + 9 * SECOND, "default/updates"
    claims = await store.claim(token="a", now=at, lease_until=at + LEASE, limit=2, batch_limits={})
    by_queue = {one.queue: one for one in claims}
    await store.give_back(by_queue[updates])
    claiming = other.transaction()
    await claiming.start()
    await other.execute("SELECT 1 FROM queues WHERE name = $1 FOR NO KEY UPDATE", updates)
    message = replace(attempt(Outcome.DELIVERED, second=9), message=Message("C1", "1.3"))
    recording = asyncio.create_task(store.record(by_queue["default"], message))
    await asyncio.sleep(0.3)
    assert not recording.done()
    lease = to_micros(at + LEASE)
    await other.execute("UPDATE queues SET holder = 'b', lease_until = $2 WHERE name = $1", updates, lease)
    await claiming.commit()
    assert await recording
    waiting = await other.fetchval("SELECT count(*) FROM deliveries WHERE queue = $1", updates)
    assert waiting == 2


async def test_a_storm_that_the_statistics_do_not_know(store: Store, other: Connection) -> None:
    """An incident that ends looks at its own deliveries, not at all that wait."""
    await other.execute(FILL.format(now=to_micros(NOW)))
    await store.accept([incoming()])
    await other.execute("UPDATE deliveries SET due_at = created_at + 1, state = 'pending' WHERE id < 9000")
    heard = Listening(other)
    listening = PostgresTransaction(heard)
    async with other.transaction():
        await queries.accept.accept(listening, [incoming("Degraded", "Healthy", second=9)])
    (later,) = [one for one in heard.asked if "repeat_after IS NOT NULL" in one[0]]
    plan = "\n".join(step for (step,) in await other.fetch(f"EXPLAIN {later[0]}", *later[1]))
    assert "deliveries_of_incident" in plan, plan


async def test_whether_runs_wait_is_known_without_statistics(other: Connection) -> None:
    """What is delivered looks for runs that wait for a report in an index, though there are no statistics."""
    await other.execute(FILL.format(now=to_micros(NOW)).replace("ANALYZE", ""))
    heard = Listening(other)
    await queries.reports.announce(PostgresTransaction(heard), [1], to_micros(NOW))
    ((statement, values),) = heard.asked
    plan = "\n".join(step for (step,) in await other.fetch(f"EXPLAIN {statement}", *values))
    assert "deliveries_of_run" in plan, plan
