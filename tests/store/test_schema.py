"""Upgrades of the schema: from every one that there was, whole or not at all, and after a copy."""

import shutil
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import structlog

from app.errors import StoreUnavailable
from app.store.sqlite.database import open_sqlite
from app.store.sqlite.schema import STEPS, prepare
from tests.acceptance.disks import MOUNT, can_mount
from tests.store.helpers import incoming

NUMBERS = sorted(int(file.name[:4]) for file in STEPS.glob("*.sql"))
NEWEST = NUMBERS[-1]
NEXT = NEWEST + 1


def steps(folder: Path, upto: int = NEWEST, **more: str) -> Path:
    """Return a folder with the first of the real steps, and with more of them, by name."""
    folder.mkdir()
    for file in STEPS.glob("*.sql"):
        if int(file.name[:4]) <= upto:
            shutil.copy(file, folder)
    for number, script in enumerate(more.values(), NEXT):
        (folder / f"{number:04}_more.sql").write_text(script)
    return folder


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    """Return what a query gives."""
    with closing(sqlite3.connect(path)) as db:
        return db.execute(query).fetchall()


def version(path: Path) -> object:
    """Return a file's schema."""
    return rows(path, "SELECT max(version) FROM schema_version")[0][0]


def test_every_step_has_a_number_of_its_own() -> None:
    """No two steps have the same number: one of them would never be taken."""
    assert len(set(NUMBERS)) == len(NUMBERS)


@pytest.mark.parametrize("old", NUMBERS)
def test_an_upgrade_comes_after_a_copy(tmp_path: Path, old: int) -> None:
    """From every schema there was: the file is upgraded, its rows stay; the log says where the copy is."""
    path = tmp_path / "listener.db"
    prepare(path, steps=steps(tmp_path / "old", old))
    with closing(sqlite3.connect(path)) as db:
        db.execute("INSERT INTO queues (name, destination) VALUES ('slack/x', 'default')")
        db.commit()
    new = steps(tmp_path / "new", more="ALTER TABLE queues ADD COLUMN colour TEXT DEFAULT 'red';\n")
    copy = tmp_path / f"listener.db.before-schema-{NEXT}"
    with structlog.testing.capture_logs() as logs:
        prepare(path, steps=new)
        made = copy.stat()
        prepare(path, steps=new)
    assert (version(path), version(copy)) == (NEXT, old)
    assert rows(path, "SELECT name, colour FROM queues") == [("slack/x", "red")]
    assert rows(copy, "SELECT name FROM queues") == [("slack/x",)]
    assert rows(copy, "PRAGMA integrity_check") == [("ok",)]
    assert stat.S_IMODE(made.st_mode) == 0o600
    assert copy.stat().st_mtime_ns == made.st_mtime_ns
    assert [one["event"] for one in logs] == ["database_copied", "database_upgraded"]
    assert (logs[0]["copy"], logs[0]["schema"]) == (str(copy), old)
    assert sorted(file.name for file in tmp_path.glob("listener.db*")) == ["listener.db", copy.name]


def test_a_new_file_needs_no_copy(tmp_path: Path) -> None:
    """Where there was nothing, nothing is copied."""
    prepare(tmp_path / "listener.db")
    assert [file.name for file in tmp_path.iterdir()] == ["listener.db"]


def test_a_step_that_comes_between(tmp_path: Path) -> None:
    """A step that was missing is taken, though a later one was already."""
    path = tmp_path / "listener.db"
    new = steps(tmp_path / "new", more="ALTER TABLE queues ADD COLUMN colour TEXT;\n")
    prepare(path, steps=new)
    with closing(sqlite3.connect(path)) as db:
        db.execute("DELETE FROM schema_version WHERE version = ?", (NEWEST,))
        db.commit()
    (new / next(STEPS.glob(f"{NEWEST:04}*")).name).write_text("CREATE TABLE late (x INTEGER);\n")
    prepare(path, steps=new)
    assert rows(path, "SELECT count(*) FROM late") == [(0,)]


async def test_all_steps_or_none(tmp_path: Path) -> None:
    """A step that fails undoes those before it, and the file works with the release that wrote it."""
    path = tmp_path / "listener.db"
    await open_sqlite(path).close()
    good, bad = (
        "ALTER TABLE queues ADD COLUMN colour TEXT;\n",
        "ALTER TABLE nowhere ADD COLUMN colour TEXT;\n",
    )
    new = steps(tmp_path / "new", good=good, bad=bad)
    with pytest.raises(StoreUnavailable, match=rf"step {NEXT + 1} .* as it was: no such table: nowhere"):
        prepare(path, steps=new)
    assert version(path) == NEWEST
    assert version(tmp_path / f"listener.db.before-schema-{NEXT + 1}") == NEWEST
    assert "colour" not in str(rows(path, "SELECT sql FROM sqlite_schema WHERE name = 'queues'"))
    store = open_sqlite(path)
    await store.accept([incoming()])
    await store.close()


async def test_a_step_that_makes_a_table_anew(tmp_path: Path) -> None:
    """Dropping a table's old form drops nothing that refers to it; what would refer to nothing is refused."""
    path = tmp_path / "listener.db"
    store = open_sqlite(path)
    await store.accept([incoming()])
    await store.close()
    anew = (
        "CREATE TABLE anew AS SELECT * FROM changes;\nDROP TABLE changes;\n"
        "CREATE TABLE changes (id INTEGER PRIMARY KEY, body BLOB);\n"
    )
    with pytest.raises(StoreUnavailable, match="would orphan a row of deliveries"):
        prepare(path, steps=steps(tmp_path / "bad", bad=anew))
    assert version(path) == NEWEST
    fill = "INSERT INTO changes SELECT id, body FROM anew;\n"
    prepare(path, steps=steps(tmp_path / "good", good=anew + fill))
    assert rows(path, "SELECT (SELECT count(*) FROM changes), (SELECT count(*) FROM deliveries)") == [(1, 1)]


async def test_only_a_start_upgrades(tmp_path: Path) -> None:
    """Another command refuses an older schema, with what to do, and leaves the file alone."""
    path = tmp_path / "listener.db"
    await open_sqlite(path).close()
    new = steps(tmp_path / "new", more="ALTER TABLE queues ADD COLUMN colour TEXT;\n")
    with pytest.raises(StoreUnavailable, match=f"has schema {NEWEST}, this release knows {NEXT}: start"):
        prepare(path, upgrade=False, steps=new)
    assert version(path) == NEWEST


def test_processes_that_upgrade_at_once(tmp_path: Path) -> None:
    """Of several processes that start at once one upgrades, and all go on."""
    path = tmp_path / "listener.db"
    prepare(path)
    new = steps(tmp_path / "new", more="ALTER TABLE queues ADD COLUMN colour TEXT;\n")
    program = (
        "import pathlib, sys; from app.store.sqlite.schema import prepare\n"
        "prepare(pathlib.Path(sys.argv[1]), steps=pathlib.Path(sys.argv[2]))"
    )
    command = [sys.executable, "-c", program, str(path), str(new)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    logs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    assert "".join(logs).count("database_upgraded") == 1
    assert version(path) == NEXT


def test_no_room_for_the_copy(tmp_path: Path) -> None:
    """On a full disk the upgrade is refused with a sentence, and the file is as it was."""
    if not can_mount(tmp_path):
        pytest.skip("needs Linux that lets `unshare -rm` mount a tmpfs: the disk cannot be made full here")
    prepare(tmp_path / "listener.db")
    with closing(sqlite3.connect(tmp_path / "listener.db")) as db:
        db.execute("INSERT INTO quarantine VALUES (1, zeroblob(600000), 'd', 0, 0, '', '')")
        db.commit()
    new = steps(tmp_path / "new", more="ALTER TABLE queues ADD COLUMN colour TEXT;\n")
    disk = tmp_path / "disk"
    disk.mkdir()
    program = (
        "import hashlib, os, pathlib, shutil, sys; from app.store.sqlite.schema import prepare\n"
        "path = pathlib.Path(shutil.copy(sys.argv[1], sys.argv[2]))\n"
        "before = hashlib.sha256(path.read_bytes()).digest()\n"
        "try: prepare(path, steps=pathlib.Path(sys.argv[3]))\n"
        "except Exception as error: print(error)\n"
        "print(hashlib.sha256(path.read_bytes()).digest() == before, os.listdir(sys.argv[2]))\n"
    )
    mount = ["unshare", "-rm", "sh", "-c", MOUNT, str(disk)]
    arguments = map(str, (tmp_path / "listener.db", disk, new))
    said = subprocess.check_output([*mount, sys.executable, "-c", program, *arguments], text=True)
    assert f"no upgrade from schema {NEWEST} to {NEXT}, nothing was changed: no room for" in said
    assert "True ['listener.db']" in said
