"""The commands that keep the database, as a person runs them."""

import asyncio
import json
import re
import sqlite3
import stat
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn

import pytest

from app.errors import StoreUnavailable
from app.store import queries
from app.store.opening import now
from app.store.postgres.database import open_postgres
from app.store.rows import Incoming
from app.store.sqlite.database import open_sqlite
from app.store.store import Store
from tests.cli.helpers import Run, run_process
from tests.postgres import PostgresServer
from tests.store.helpers import incoming

EPOCH = datetime.fromtimestamp(0, UTC)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """The store that the commands look at."""
    store = open_sqlite(tmp_path / "listener.db")
    yield store
    await store.close()


def arriving(entity: str, at: datetime, body: bytes | None = None) -> Incoming:
    """A change that arrives at a time."""
    one = incoming(entity=entity)
    return replace(one, received_at=at, body=one.body if body is None else body)


def names(folder: Path, pattern: str) -> list[str]:
    """Return the names of a folder's files."""
    return sorted(file.name for file in folder.glob(pattern))


def lines(text: str) -> list[dict[str, object]]:
    """Read JSON lines, as strictly as JSON is."""

    def refuse(name: str) -> NoReturn:
        raise AssertionError(name)

    return [json.loads(line, parse_constant=refuse) for line in text.split("\n") if line]


async def test_backup(store: Store, run: Run, tmp_path: Path) -> None:
    """The copy has what is committed, is one private file, and is a database like the other."""
    await store.accept([incoming()])
    result = await run("backup", "copy.db")
    assert result.status == 0, result.err
    assert re.match(r"copy\.db: 0\.\d MB, checked, in \d\.\d s", result.out)
    assert names(tmp_path, "copy*") == ["copy.db"]
    assert stat.S_IMODE((tmp_path / "copy.db").stat().st_mode) == 0o600
    copy = open_sqlite(tmp_path / "copy.db")
    assert len((await copy.read(queries.page.deliveries, limit=10)).rows) == 1
    await copy.close()


async def test_backup_replaces_only_by_force(store: Store, run: Run, tmp_path: Path) -> None:
    """A file that is there is replaced only on demand, and then at once."""
    copy = tmp_path / "copy.db"
    copy.write_text("precious")
    result = await run("backup", "copy.db")
    assert (result.status, copy.read_text()) == (1, "precious")
    assert "copy.db exists: name another file, or replace it with --force" in result.err
    await store.accept([incoming()])
    assert (await run("backup", "--force", "copy.db")).status == 0
    with closing(sqlite3.connect(copy)) as db:
        assert db.execute("SELECT count(*) FROM changes").fetchone() == (1,)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("listener.db", "is the database itself"),
        (".", "is not a file"),
        ("nowhere/copy.db", "there is no folder nowhere: make it first"),
        ("open.db", "open.db-wal is there: a program has open.db open"),
    ],
)
async def test_backup_refused(store: Store, run: Run, tmp_path: Path, file: str, said: str) -> None:
    """Where a copy would do harm, or cannot be, a sentence says so."""
    (tmp_path / "open.db").touch()
    (tmp_path / "open.db-wal").touch()
    await store.accept([incoming()])
    result = await run("backup", "--force", file)
    assert result.status == 1
    assert said in result.err
    assert names(tmp_path, "*.part") == []


async def test_backup_of_a_damaged_database(run: Run, tmp_path: Path) -> None:
    """What is damaged is said, and no copy pretends to be one."""
    store = open_sqlite(tmp_path / "listener.db")
    await store.accept([incoming(entity=f"e{number}") for number in range(200)])
    await store.close()
    with (tmp_path / "listener.db").open("r+b") as file:
        file.seek(30 * 4096)
        file.write(b"\xff" * 4096 * 4)
    result = await run("backup", "copy.db")
    assert result.status == 1
    assert "copy" in result.err
    assert names(tmp_path, "copy*") == []


def damage(database: Path) -> None:
    """Overwrite the beginning of a database."""
    with database.open("r+b") as file:
        file.write(b"\xff" * 4096)


@pytest.mark.parametrize("state", ["whole", "killed", "damaged", "deleted"])
async def test_restore(run: Run, tmp_path: Path, state: str) -> None:
    """The copy takes the database's place, whatever that has become, and what was there is kept."""
    database = tmp_path / "listener.db"
    store = open_sqlite(database)
    await store.accept([incoming(entity="before")])
    assert (await run("backup", "copy.db")).status == 0
    await store.accept([incoming(entity="after")])
    copies = {file: file.read_bytes() for file in (database, database.with_name("listener.db-wal"))}
    await store.close()
    match state:
        case "killed":  # its newest changes are in the log
            for file, content in copies.items():
                file.write_bytes(content)
        case "damaged":
            damage(database)
        case "deleted":
            database.unlink()
    result = await run("restore", "copy.db")
    assert result.status == 0, result.err
    assert entities(database) == ["before"]
    assert stat.S_IMODE(database.stat().st_mode) == 0o600
    kept = [name for name in names(tmp_path, "listener.db.before-restore-*") if not name.endswith("-wal")]
    assert len(kept) == (state != "deleted")
    if state in ("whole", "killed"):
        assert kept[0] in result.out
        assert entities(tmp_path / kept[0]) == ["before", "after"]
    assert names(tmp_path, "*.restored*") == []


def entities(database: Path) -> list[str]:
    """Return the entities of a database's changes."""
    with closing(sqlite3.connect(database)) as db:
        return [entity for (entity,) in db.execute("SELECT entity FROM changes ORDER BY id")]


async def test_restore_refused(run: Run, tmp_path: Path) -> None:
    """While a listener or anybody else has the database open, or without a good copy, nothing is touched."""
    database = tmp_path / "listener.db"
    store = open_sqlite(database)
    assert (await run("backup", "copy.db")).status == 0
    store.own("")  # as a listener does when it starts
    result = await run("restore", "copy.db")
    assert (result.status, "listener.db open: stop it first" in result.err) == (1, True)
    await store.close()
    opened = "import sqlite3, sys; d = sqlite3.connect('listener.db'); d.execute('SELECT * FROM changes'); "
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-c", opened + "print(flush=True); sys.stdin.read()", stdin=PIPE, stdout=PIPE
    )
    assert other.stdout is not None
    await other.stdout.readline()
    result = await run("restore", "copy.db")
    await other.communicate(b"")
    assert (result.status, "listener.db open: stop it first" in result.err) == (1, True)
    with closing(sqlite3.connect(tmp_path / "other.db")) as db:
        db.execute("CREATE TABLE t (x)")
    (tmp_path / "text.db").write_text("no database" * 1000)
    before = database.read_bytes()
    for file, said in {
        "listener.db": "is the database itself",
        "nowhere.db": "there is no file nowhere.db",
        "other.db": "is no database of the listener's",
        "text.db": "file is not a database",
    }.items():
        result = await run("restore", file)
        assert (result.status, said in result.err) == (1, True), result.err
    assert database.read_bytes() == before
    assert names(tmp_path, "*before*") == names(tmp_path, "*.restored*") == []


async def test_a_damaged_database_says_what_to_do(tmp_path: Path) -> None:
    """At the start and while it runs: restore, and where copies are."""
    database = tmp_path / "listener.db"
    store = open_sqlite(database)
    await store.accept([incoming(entity=f"e{number}") for number in range(200)])
    await store.close()
    copy = tmp_path / "listener.db.before-schema-2"
    copy.touch()
    store = open_sqlite(database)
    with database.open("r+b") as file:
        file.seek(5 * 4096)
        file.write(b"\xff" * 4096 * 100)
    with pytest.raises(
        StoreUnavailable, match=f"damaged.*`python -m app restore FILE` .beside it are {copy}"
    ):
        await store.read(queries.changes.history, since=EPOCH, after=None, limit=200)
    with pytest.raises(StoreUnavailable, match=r"damaged.*restore"):
        await store.accept([incoming(entity=f"f{number}") for number in range(200)])
    with suppress(StoreUnavailable):
        await store.close()
    damage(database)
    copy.unlink()
    with pytest.raises(StoreUnavailable, match=r"damaged.*restore.*none is beside it"):
        open_sqlite(database)


@pytest.mark.parametrize("command", [("backup", "copy.db"), ("export",)])
async def test_no_database(run: Run, tmp_path: Path, command: tuple[str, ...]) -> None:
    """Where there is no database a sentence says what to do, and none is made."""
    result = await run(*command)
    assert (result.status, names(tmp_path, "*")) == (1, [])
    assert "there is no database" in result.err
    assert "DATABASE_URL" in result.err


async def test_export_many(store: Store, run: Run, tmp_path: Path) -> None:
    """Every change is a line, oldest first, with all that is known of it and its body to the letter."""
    now = datetime.now(UTC)
    sent = [arriving(f"e{number}", now - timedelta(minutes=1500 - number)) for number in range(1200)]
    await store.accept(sent)
    result = await run("export", "changes.jsonl")
    assert (result.status, result.err) == (0, "1200 changes\n")
    file = tmp_path / "changes.jsonl"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    rows = lines(file.read_text())
    assert [row["entity"] for row in rows] == [f"e{number}" for number in range(1200)]
    assert rows[0]["body"] == json.loads(sent[0].body)
    assert sent[0].body in file.read_bytes()
    assert rows[0] | {"body": None} == {
        "key": sent[0].change.key,
        "received_at": f"{sent[0].received_at:%Y-%m-%dT%H:%M:%S.%fZ}",
        "at": f"{sent[0].change.at:%Y-%m-%dT%H:%M:%S.%fZ}",
        "action": "UPDATE",
        "resource": "entity",
        "blueprint": "deploymentConfig",
        "entity": "e0",
        "reason": rows[0]["reason"],
        "alerts": 1,
        "body": None,
    }
    assert "exists" in (await run("export", "changes.jsonl")).err


async def test_export_of_a_part(store: Store, run: Run) -> None:
    """--since and --blueprint choose."""
    now = datetime.now(UTC)
    other = arriving("other", now)
    other = replace(other, change=replace(other.change, blueprint="service", key="other"))
    await store.accept([arriving("old", now - timedelta(days=2)), arriving("new", now), other])
    for arguments, expected in (
        ((), ["old", "new", "other"]),
        (("--since", "1d"), ["new", "other"]),
        (("--blueprint", "service"), ["other"]),
        (("--since", "3d", "--blueprint", "deploymentConfig"), ["old", "new"]),
        (("--blueprint", "nothing"), []),
    ):
        result = run_process("export", *arguments)
        assert [row["entity"] for row in lines(result.out)] == expected
    result = await run("export", "--since", "3")
    assert result.status == 1
    assert "--since 3 must be a time such as" in result.err


async def test_export_is_json_whatever_was_sent(store: Store, run: Run, tmp_path: Path) -> None:
    """Line ends in a body make no lines, and what only Python reads as a number is null."""
    now = datetime.now(UTC)
    bodies = [
        b'{\r\n "a": "\xc3\xa9\\n",\n"b": 1e-7}',
        b'{"a": Infinity, "b": [-Infinity, NaN]}',
        b'"Infinity"',
        '"\x7f\x9b31m \u202eé"'.encode(),
        b'{"a": "NaN \\u009b31m"}',
    ]
    await store.accept([arriving(f"e{number}", now, body) for number, body in enumerate(bodies)])
    assert (await run("export", "out")).status == 0
    rows = lines((tmp_path / "out").read_text())
    assert [row["body"] for row in rows] == [
        {"a": "é\n", "b": 1e-7},
        {"a": None, "b": [None, None]},
        "Infinity",
        "\x7f\x9b31m \u202eé",
        {"a": "NaN \x9b31m"},
    ]
    assert "\x9b" not in (tmp_path / "out").read_text()
    assert r'"\u007f\u009b31m \u202eé"' in (tmp_path / "out").read_text()  # what a terminal obeys
    assert b"1e-7" in (tmp_path / "out").read_bytes()


async def test_with_postgresql(
    postgres: PostgresServer, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Changes are exported from there too; `backup` says in a sentence what to use instead."""
    url = await postgres.new_database()
    store = await open_postgres(url, clock=now)
    await store.accept([arriving(f"e{number}", datetime.now(UTC)) for number in range(600)])
    await store.close()
    monkeypatch.setenv("DATABASE_URL", url)
    result = await run("export", "--since", "1d", "changes.jsonl")
    assert (result.status, result.err) == (0, "600 changes\n")
    rows = lines((tmp_path / "changes.jsonl").read_text())
    assert [row["entity"] for row in rows] == [f"e{number}" for number in range(600)]
    result = await run("backup", "copy.db")
    assert (result.status, result.out) == (1, "")
    assert result.err == "backup is for a SQLite file: on PostgreSQL use pg_dump\n"
