"""A SQLite store's rows in PostgreSQL."""

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.cli import main
from app.errors import StoreUnavailable
from app.model.delivery import Outcome
from app.model.notification import Message
from app.model.silence import Silence
from app.model.times import to_micros
from app.rules.last_known import LastKnown, first_state
from app.rules.watched import Watched
from app.store import queries
from app.store.move import TABLE_KEYS, move
from app.store.opening import now
from app.store.postgres.database import open_postgres
from app.store.rows import Attempt
from app.store.sqlite.database import open_sqlite
from app.store.sqlite.schema import prepare
from app.store.store import Store
from tests.conftest import NOW
from tests.postgres import PostgresServer
from tests.store.helpers import SECOND, attempt, claim_one, incoming


async def fill(path: Path) -> None:
    """Make a store with something of everything."""
    store = open_sqlite(path)
    await store.accept([incoming(entity=f"e{number}", second=number) for number in range(20)])
    await store.accept([incoming("a\0", "b\0", entity="null\0")])
    claim = await claim_one(store, second=1)
    assert claim is not None
    told = Attempt(Outcome.DELIVERED, "ok", NOW, NOW, NOW, message=Message("C1", "17.1"))
    await store.record(claim, told)
    claim = await claim_one(store, second=2)
    assert claim is not None
    await store.record(claim, attempt(Outcome.DEAD, second=2))
    await store.accept([incoming("Degraded", "Crashed", entity="e0", second=30)])
    await store.quarantine(b"\xff{", signed_at=NOW, received_at=NOW, path="a.b", reason="odd")
    ends_at = NOW + 3600 * SECOND
    await store.write(queries.silences.add, Silence("*", "*", "e9", "*", NOW, ends_at, "ada", "maintenance"))
    at, reconciling = to_micros(NOW), store
    for name in ("e0", "é", "Z"):
        await reconciling.write(
            queries.last_known.record_states,
            "deploymentConfig",
            {name: first_state({"title": name}, at, Watched(None), at)},
        )
    gone = LastKnown({}, {}, exists=False, exists_at=at)
    await reconciling.write(queries.last_known.record_states, "deploymentConfig", {"gone": gone})
    await reconciling.write(queries.reconcile.mark_baseline, "deploymentConfig")
    assert await reconciling.write(
        queries.reconcile.begin, reason="start", token="a", now=NOW, lease_until=NOW + 60 * SECOND, since=None
    )
    await store.close()


async def everything(store: Store) -> list[object]:
    """Return what a store shows."""
    return [
        (await store.read(queries.page.deliveries, state=None, limit=1000)).rows,
        await store.read(queries.counts.by_state),
        await store.read(queries.page.queues, NOW),
        await store.read(queries.silences.silences, active_at=None),
        (await store.read(queries.quarantine.bodies, limit=100)).rows,
        await store.read(queries.counts.alerts, NOW),
        await store.read(queries.last_known.last_known, "deploymentConfig", ["e0", "é", "Z", "gone"]),
        await store.read(queries.last_known.last_known_after, "deploymentConfig", "", limit=9),
        await store.read(queries.reconcile.baselines),
        await store.read(queries.reconcile.runs, limit=9),
        [
            (change.id, change.body)
            for change in await store.read(queries.changes.history, since=NOW, after=None, limit=1000)
        ],
    ]


async def test_all_rows_arrive_as_they_are(tmp_path: Path, postgres: PostgresServer) -> None:
    """Both stores show the same; new rows get numbers behind the old ones', and the queues go on."""
    path, url = tmp_path / "listener.db", await postgres.new_database()
    await fill(path)
    said: list[str] = []
    await move(path, url, say=said.append)
    assert said == [line for line in said if "the same on both sides" in line]
    assert len(said) == len(TABLE_KEYS)
    old, new = open_sqlite(path), await open_postgres(url, clock=now)
    shown, expected = await everything(new), await everything(old)
    assert shown[1:] == expected[1:]
    assert str(shown[0]) == str(expected[0]).replace(r"\x00", "\N{REPLACEMENT CHARACTER}")
    for store in (old, new):
        await store.accept([incoming("Healthy", "Crashed", entity="new", second=40)])
    assert [
        ((await store.read(queries.page.deliveries, state=None, limit=1)).rows)[0].id for store in (old, new)
    ] == [23, 23]
    first, second = [await claim_one(store, second=60) for store in (old, new)]
    assert first is not None
    assert second is not None
    assert first == replace(second, token=first.token)
    await old.close()
    await new.close()


def test_every_table_is_moved(tmp_path: Path) -> None:
    """No table of the file's is forgotten."""
    path = tmp_path / "listener.db"
    prepare(path)
    with closing(sqlite3.connect(path)) as file:
        names = {name for (name,) in file.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    assert names == {*TABLE_KEYS, "schema_version", "clock"}


async def test_a_move_that_was_stopped_goes_on(tmp_path: Path, postgres: PostgresServer) -> None:
    """Until all is there no listener starts; the second run goes on, and the result is the same."""
    path, url = tmp_path / "listener.db", await postgres.new_database()
    await fill(path)
    often: dict[str, Any] = {"rows": 4, "progress_seconds": 0}

    def stop(line: str) -> None:
        if line == "deliveries: 8 of 22":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await move(path, url, say=stop, **often)
    with pytest.raises(StoreUnavailable, match="run `python -m app move` again"):
        await open_postgres(url, clock=now)
    said: list[str] = []
    await move(path, url, say=said.append, **often)
    assert "deliveries: 12 of 22" in said
    assert "deliveries: 8 of 22" not in said
    store = await open_postgres(url, clock=now)
    assert len((await store.read(queries.page.deliveries, state=None, limit=100)).rows) == 22
    await store.close()


async def test_what_is_in_use_is_not_moved(tmp_path: Path, postgres: PostgresServer) -> None:
    """A file that a listener has open, a database in which one runs, and one with rows: all are refused."""
    path, url = tmp_path / "listener.db", await postgres.new_database()
    await fill(path)
    running = open_sqlite(path)
    await running.check(NOW)
    with pytest.raises(StoreUnavailable, match="in use"):
        await move(path, url, say=print)
    await running.close()
    store = await open_postgres(url, clock=now)
    with pytest.raises(StoreUnavailable, match="listener runs"):
        await move(path, url, say=print)
    await store.accept([incoming()])
    await store.close()
    with pytest.raises(StoreUnavailable, match="has rows already"):
        await move(path, url, say=print)
    with pytest.raises(StoreUnavailable, match="no file"):
        await move(tmp_path / "other.db", url, say=print)


async def test_a_row_that_differs_is_found(tmp_path: Path, postgres: PostgresServer) -> None:
    """A move that finds other rows than it brought says which table, and lets no listener start."""
    path, url = tmp_path / "listener.db", await postgres.new_database()
    await fill(path)
    await move(path, url, say=print)
    await postgres.execute("UPDATE deliveries SET state = 'cancelled' WHERE id = 5", url)
    await postgres.execute("UPDATE moves SET ended_at = NULL", url)
    with pytest.raises(StoreUnavailable, match="deliveries: 22 rows in the file and 22 in the database"):
        await move(path, url, say=print)
    with pytest.raises(StoreUnavailable, match="not all of"):
        await open_postgres(url, clock=now)


def test_the_command(
    tmp_path: Path,
    postgres: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`move` takes the configured file to --to, or --from to the configured database."""
    path, url = tmp_path / "listener.db", asyncio.run(postgres.new_database())
    asyncio.run(fill(path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PORT_CLIENT_SECRET", "test-client-secret-4711")
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{path}")

    def run(*arguments: str) -> tuple[int | str | None, str]:
        with pytest.raises(SystemExit) as ended:
            main(["move", *arguments])
        said = capsys.readouterr()
        assert "very-secret-password" not in said.out + said.err
        return ended.value.code, said.out + said.err

    assert run()[0] == 2
    assert run("--to", "sqlite:///other.db")[0] == 1
    status, said = run("--to", url)
    assert (status, "deliveries: 22, the same on both sides" in said) == (0, True)
    assert "Every row was copied" in said
    monkeypatch.setenv("DATABASE_URL", url)
    assert "has rows already" in run("--from", f"sqlite:///{path}")[1]
    assert "give --from" in run("--to", url)[1]
