"""A file that one release has written becomes the next one's, and nothing of it is lost."""

import json
import re
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from app.model.delivery import Outcome, State
from app.model.incident import Step
from app.model.notification import Message
from app.model.times import to_micros
from app.store import queries
from app.store.rows import Attempt
from app.store.sqlite import schema
from app.store.sqlite.database import SQLiteDatabase
from app.store.store import Store
from tests.conftest import NOW
from tests.store.helpers import LEASE, SECOND, incoming

HOUR = timedelta(hours=1)
NUMBERS = {"pending": 1, "on_hold": 2, "dead": 3, "told": 4, "repeated": 5, "gone": 6, "settled": 7}
"""What stands in the old file: each entity with the number of its change and of its delivery."""


def said(entity: str, **facts: Any) -> str:
    """A notification as the first release writes it."""
    usual = {
        "step": "opened",
        "rule": "health",
        "severity": "warning",
        "action": "UPDATE",
        "blueprint": "deploymentConfig",
        "entity": entity,
        "title": entity.title(),
        "teams": ["Rocket"],
        "change": {"name": "healthStatus", "before": "Healthy", "after": "Degraded"},
        "timer": None,
        "others": [],
        "others_left_out": 0,
        "links": [{"name": "newRelicUrl", "url": "https://one.newrelic.com/1"}],
        "actor": "ada@example.com",
        "origin": "UI",
        "at": NOW.isoformat(),
        "opened_at": NOW.isoformat(),
        "late": False,
        "own_title": [],
        "message": [],
    }
    return json.dumps(usual | facts)


def fill(db: sqlite3.Connection) -> None:
    """Let a file hold what a listener has that was busy: see `NUMBERS`."""
    now = to_micros(NOW)
    later = to_micros(NOW + HOUR)
    queues = {"default": None, "broken": "404 no_active_hooks"}
    for name, on_hold in queues.items():
        db.execute("INSERT INTO queues (name, destination, on_hold) VALUES (?, ?, ?)", (name, name, on_hold))
    for entity, number in NUMBERS.items():
        ended_at = now + 5 if entity in ("told", "settled") else None
        db.execute(
            "INSERT INTO changes VALUES (?, ?, ?, ?, 'UPDATE', 'entity', 'deploymentConfig', ?, '[]', 'why',"
            " 1, ?, NULL)",
            (number, f"{number:064}", now, now, entity, b"{}"),
        )
        db.execute(
            "INSERT INTO incidents (id, rule, blueprint, entity, state, opened_at, changed_at,"
            " resolved_at, due_at, severity, moves, flapping, told, openings)"
            " VALUES (?, 'health', 'deploymentConfig', ?, 'Degraded', ?, ?, ?, NULL,"
            " 'warning', '[]', 0, '[]', '[]')",
            (f"health-{entity}", entity, now, now, ended_at if entity == "settled" else None),
        )
    rows = {
        "pending": ("default", "pending", 0, None, None),
        "on_hold": ("broken", "pending", 0, None, None),
        "dead": ("default", "dead", 0, None, now + 9),
        "told": ("default", "delivered", 0, None, now + 5),
        "repeated": ("default", "pending", later, 3_600_000_000, None),
        "gone": ("default", "cancelled", later, None, now + 7),
        "settled": ("default", "delivered", 0, None, now + 5),
    }
    for entity, (queue, state, due_at, repeat_after, ended_at) in rows.items():
        number = NUMBERS[entity]
        first = (number, number, f"health-{entity}", queue, queue)
        db.execute(
            "INSERT INTO deliveries (id, change_id, incident_id, queue, destination, notification, rule,"
            "  step, severity, kind, state, due_at, repeat_after, created_at, waiting_since, ended_at)"
            " VALUES (?, ?, ?, ?, ?, ?, 'health', 'opened', 'warning', 'alert', ?, ?, ?, ?, ?, ?)",
            (*first, said(entity), state, due_at, repeat_after, now, now, ended_at),
        )
    for number, outcome, detail in ((3, "retry", "503"), (3, "dead", "400"), (4, "delivered", "ok")):
        db.execute(
            "INSERT INTO attempts (delivery_id, outcome, detail, started_at, ended_at)"
            " VALUES (?, ?, ?, ?, ?)",
            (number, outcome, detail, now, now + 5),
        )
    db.execute("INSERT INTO quarantine VALUES (1, ?, 'digest', ?, ?, 'action', 'odd')", (b"{", now, now))


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A file with the first release's schema, and in it all that there can be."""
    path = tmp_path / "listener.db"
    schema.prepare(path)
    with closing(schema.connect(path)) as db:
        db.execute("BEGIN")
        fill(db)
        db.execute("COMMIT")
    return path


@pytest.fixture
def steps(tmp_path: Path) -> Path:
    """The steps of a release to come: a further state of a delivery, for which SQLite needs a new table."""
    folder = tmp_path / "steps"
    shutil.copytree(schema.STEPS, folder)
    first = (folder / "0001_first.sql").read_text()
    table = re.search(r"CREATE TABLE deliveries .*?\) STRICT;", first, re.DOTALL)
    indexes = re.findall(r"CREATE INDEX \w+ ON deliveries .*?;", first, re.DOTALL)
    assert table
    wider = table[0].replace("deliveries", "new_deliveries", 1)
    wider = wider.replace("state = 'silenced'", "state = 'silenced' OR state = 'quiet'")
    script = [
        wider,
        "INSERT INTO new_deliveries SELECT * FROM deliveries;",
        "DROP TABLE deliveries;",
        "ALTER TABLE new_deliveries RENAME TO deliveries;",
        *indexes,
        "ALTER TABLE queues ADD COLUMN colour TEXT;",
    ]
    (folder / "0002_more.sql").write_text("\n".join(script))
    return folder


@pytest.fixture
async def upgraded(old: Path, steps: Path) -> AsyncIterator[Store]:
    """The old file, upgraded and opened."""
    schema.prepare(old, steps=steps)
    store = Store(SQLiteDatabase(old))
    yield store
    await store.close()


def contents(path: Path, table: str, columns: str) -> list[Any]:
    """Return some columns of a table."""
    with closing(sqlite3.connect(path)) as db:
        return db.execute(f"SELECT {columns} FROM {table} ORDER BY 1").fetchall()  # noqa: S608 - our own


async def test_every_row_is_kept(old: Path, steps: Path) -> None:
    """Each table has the rows that it had, with the same values, and each reference still leads somewhere."""
    tables = ("changes", "incidents", "queues", "deliveries", "attempts", "quarantine")
    with closing(sqlite3.connect(old)) as db:
        columns = {
            table: ", ".join(column for _, column, *_ in db.execute(f"PRAGMA table_info({table})"))
            for table in tables
        }
    before = {table: contents(old, table, columns[table]) for table in tables}
    assert all(before.values())
    for _ in range(2):  # the second time there is nothing to do
        schema.prepare(old, steps=steps)
        assert {table: contents(old, table, columns[table]) for table in tables} == before
    with closing(sqlite3.connect(old)) as db:
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        references = db.execute("PRAGMA foreign_key_list(attempts)").fetchall()
        assert [parent for _, _, parent, *_ in references] == ["deliveries"]
    made = old.with_name("new.db")
    schema.prepare(made, steps=steps)
    assert contents(old, "sqlite_master", "name") == contents(made, "sqlite_master", "name")


async def test_what_stands_where(upgraded: Store) -> None:
    """Nothing has moved: what waited waits, what is on hold is on hold, what is dead has its history."""
    rows = {
        row.notification.entity: row
        for row in (await upgraded.read(queries.page.deliveries, state=None, limit=99)).rows
    }
    assert {entity: row.id for entity, row in rows.items()} == NUMBERS
    assert {entity: row.state for entity, row in rows.items()} == {
        "pending": State.PENDING,
        "on_hold": State.ON_HOLD,
        "dead": State.DEAD,
        "told": State.DELIVERED,
        "repeated": State.PENDING,
        "gone": State.CANCELLED,
        "settled": State.DELIVERED,
    }
    assert (rows["dead"].attempts, rows["dead"].detail) == (2, "400")
    assert rows["on_hold"].detail == "404 no_active_hooks"


async def test_it_goes_on(upgraded: Store) -> None:
    """What waited is told, reminders go on, incidents go on, and what has begun gets its message."""
    told: list[str] = []
    for at, number in ((NOW + SECOND, 1), (NOW + 2 * HOUR, 2)):
        claimed = await upgraded.claim(
            token=f"{number}",
            now=at,
            lease_until=at + LEASE,
            limit=9,
            batch_limits={"default": 9, "broken": 9},
        )
        for one in claimed:
            told += [each.notification.entity for each in one.deliveries]
            message = Message("C0123456789", f"{number}.000001")
            await upgraded.record(one, Attempt(Outcome.DELIVERED, "ok", at, at, at, message=message))
    assert sorted(told) == ["on_hold", "pending", "repeated"]
    again = NOW + 3 * HOUR + SECOND
    (reminder,) = await upgraded.claim(
        token="3", now=again, lease_until=again + LEASE, limit=9, batch_limits={"default": 9}
    )
    assert [one.notification.entity for one in reminder.deliveries] == ["repeated"]
    await upgraded.give_back(reminder)
    (resolved,) = await upgraded.accept([incoming("Degraded", "Healthy", entity="pending", second=9)])
    assert resolved.alerts == 1
    (rows,) = [
        row
        for row in (await upgraded.read(queries.page.deliveries, state=State.PENDING, limit=9)).rows
        if row.notification.entity == "pending"
    ]
    assert (rows.notification.step, rows.notification.opened_at) == (Step.RESOLVED, NOW)


async def test_a_dead_letter_is_retried(upgraded: Store) -> None:
    """With what it was tried before."""
    assert await upgraded.retry(now=NOW, rule="health") == 1
    rows = (await upgraded.read(queries.page.deliveries, state=State.PENDING, limit=9)).rows
    assert {row.id: row.attempts for row in rows}[NUMBERS["dead"]] == 2


async def test_it_can_be_pruned(upgraded: Store) -> None:
    """What is over goes, with its attempts; what waits or is open stays."""
    assert await upgraded.prune(before=NOW + HOUR, limit=99) == 3
    rows = (await upgraded.read(queries.page.deliveries, state=None, limit=99)).rows
    open_ones = {row.incident.entity for row in await upgraded.read(queries.incidents.worst, 99)}
    assert {row.notification.entity for row in rows} == {"pending", "on_hold", "repeated"} | open_ones
