"""Copies of a SQLite file: whole, checked, or refused with a sentence, whatever else happens meanwhile."""

import json
import re
import signal
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from app.errors import StoreUnavailable
from app.model.delivery import State
from app.store import queries
from app.store.sqlite.copy import copy_database
from app.store.sqlite.database import open_sqlite
from app.store.sqlite.schema import prepare
from tests.acceptance.disks import MOUNT, can_mount
from tests.store.helpers import claim_one, incoming
from tests.store.writers import keys, writers
from tests.waiting import until

COPY = """
import pathlib, sys
from app.store.sqlite.copy import copy_database

try:
    copy_database(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
except Exception as error:
    print(error)
"""


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database with a megabyte in it."""
    path = tmp_path / "listener.db"
    prepare(path)
    with closing(sqlite3.connect(path)) as db:
        db.execute("INSERT INTO quarantine VALUES (1, randomblob(1000000), 'd', 0, 0, '', '')")
        db.commit()
    return path


def names(folder: Path, pattern: str) -> list[str]:
    """Return the names of a folder's files."""
    return sorted(file.name for file in folder.glob(pattern))


async def test_a_copy_while_processes_write(database: Path, tmp_path: Path) -> None:
    """What was committed before is in the copy, whole; the writers go on; the copy works as a store."""
    with closing(sqlite3.connect(database)) as db:
        db.execute("INSERT INTO quarantine VALUES (2, randomblob(40000000), 'e', 0, 0, '', '')")
        db.commit()
    with writers(database, tmp_path) as files:
        for number in range(3):
            copy = tmp_path / f"copy-{number}.db"
            reached = len(keys(files)) + 30
            await until(lambda reached=reached: len(keys(files)) > reached)  # type: ignore[misc]
            before = keys(files)
            copy_database(database, copy)
            assert len(keys(files)) > len(before)
            with closing(sqlite3.connect(copy)) as db:
                assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
                assert db.execute("PRAGMA journal_mode").fetchone() == ("delete",)
                stored = {key for (key,) in db.execute("SELECT key FROM changes")}
                assert set(before) <= stored
                (alerts,) = db.execute("SELECT count(DISTINCT change_id) FROM deliveries").fetchone()
                assert alerts == len(stored)
    assert names(tmp_path, "copy*") == ["copy-0.db", "copy-1.db", "copy-2.db"]
    store = open_sqlite(copy)
    assert (await store.read(queries.counts.by_state))[State.PENDING] == len(stored)
    await store.accept([incoming(entity="after")])
    claim = await claim_one(store)
    assert claim is not None
    assert claim.deliveries
    await store.close()


@pytest.mark.parametrize("kind", ["NONE", "INCREMENTAL"])
def test_a_copy_does_not_wait_for_the_writer(database: Path, tmp_path: Path, kind: str) -> None:
    """While a transaction is open the copy is made without it; it is compact, private and can shrink."""
    with closing(sqlite3.connect(database, isolation_level=None)) as db:
        db.execute(f"PRAGMA auto_vacuum = {kind}")
        db.execute("VACUUM")
        db.execute("INSERT INTO quarantine VALUES (2, zeroblob(3000000), 'e', 0, 0, '', '')")
        db.execute("DELETE FROM quarantine WHERE id = 2")
        db.execute("BEGIN IMMEDIATE")
        db.execute("DELETE FROM quarantine")
        copy = tmp_path / "a copy?#%.db"
        copy_database(database, copy)
        db.execute("ROLLBACK")
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert 1_000_000 < copy.stat().st_size < 1_500_000
    with closing(sqlite3.connect(copy)) as db:
        assert db.execute("SELECT count(*) FROM quarantine").fetchone() == (1,)
        assert db.execute("PRAGMA auto_vacuum").fetchone() == (2,)


def test_an_index_without_its_rows(database: Path, tmp_path: Path) -> None:
    """Damage that can be read, and so be copied, is found by the check; the older copy stays."""
    with closing(sqlite3.connect(database)) as db:
        db.execute("CREATE TABLE other (x TEXT UNIQUE) STRICT")
        db.execute("CREATE TABLE damaged (x TEXT UNIQUE) STRICT")
        db.execute("INSERT INTO damaged VALUES ('lost')")
        db.execute("PRAGMA writable_schema = ON")
        db.execute(
            "UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE name ="
            " 'sqlite_autoindex_other_1') WHERE name = 'sqlite_autoindex_damaged_1'"
        )
        db.execute("DELETE FROM sqlite_schema WHERE name LIKE '%other%'")
        db.commit()
    copy = tmp_path / "copy.db"
    copy.write_text("older")
    with pytest.raises(StoreUnavailable, match=r"is damaged, so no copy was made: .*index"):
        copy_database(database, copy)
    assert (copy.read_text(), names(tmp_path, "copy*")) == ("older", ["copy.db"])


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        ("listener.db", "nowhere/copy.db", "No such file or directory"),
        ("listener.db", "listener.db/copy.db", "Not a directory"),
        ("nothing.db", "copy.db", "unable to open database file"),
    ],
)
def test_a_missing_file_or_folder(tmp_path: Path, source: str, target: str, said: str) -> None:
    """One sentence says what was to be copied where, and why it is not; no file is made."""
    prepare(tmp_path / "listener.db")
    before = names(tmp_path, "**/*")
    with pytest.raises(StoreUnavailable) as refused:
        copy_database(tmp_path / source, tmp_path / target)
    assert str(refused.value) == f"cannot copy {tmp_path / source} to {tmp_path / target}: {said}"
    assert names(tmp_path, "**/*") == before


@pytest.mark.parametrize(
    ("spare", "said"),
    [
        (-4096, r"no room for \S+/copy\.db: it takes 1\.\d MB, 1\.\d MB are free\n"),
        (0, r"cannot copy \S+/listener\.db to \S+/copy\.db: database or disk is full\n"),
        (65536, ""),
    ],
)
def test_a_full_disk(database: Path, tmp_path: Path, spare: int, said: str) -> None:
    """Without room nothing is begun; if the room is gone in the middle, no part of the copy stays.

    Where just the copy's size is free, SQLite's own journal beside it is what fills the disk.
    """
    disk = tmp_path / "disk"
    disk.mkdir()
    if not can_mount(disk):
        pytest.skip("needs Linux that lets `unshare -rm` mount a tmpfs: the disk cannot be made full here")
    with closing(sqlite3.connect(database)) as db:
        (pages,) = db.execute("PRAGMA page_count").fetchone()
    program = (
        "import json, os, pathlib, shutil, sys\n"
        f"left = shutil.disk_usage(sys.argv[3]).free - {pages * 4096 + spare}\n"
        "pathlib.Path(sys.argv[3], 'ballast').write_bytes(b'x' * left)\n"
        f"{COPY}\n"
        "print(json.dumps(os.listdir(sys.argv[3])))\n"
    )
    mount = ["unshare", "-rm", "sh", "-c", MOUNT.replace("size=1m", "size=4m"), str(disk)]
    command = [sys.executable, "-c", program, str(database), str(disk / "copy.db"), str(disk)]
    output = subprocess.check_output([*mount, *command], text=True)
    left = ["ballast"] if said else ["ballast", "copy.db"]
    *sentences, listed = output.splitlines(keepends=True)
    assert re.fullmatch(said, "".join(sentences))
    assert sorted(json.loads(listed)) == left


async def test_ctrl_c(database: Path, tmp_path: Path) -> None:
    """Ctrl-C ends a copy soon, and nothing of it stays."""
    with closing(sqlite3.connect(database)) as db:
        db.execute("CREATE TABLE many (x INTEGER PRIMARY KEY, y TEXT) STRICT")
        db.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 3000000)"
            " INSERT INTO many SELECT i, 'some text' FROM n"
        )
        db.commit()
    command = [sys.executable, "-c", COPY, str(database), str(tmp_path / "copy.db")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        await until(lambda: bool(names(tmp_path, "copy.db.*.part-journal")))
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=20)
    assert said == f"cannot copy {database} to {tmp_path / 'copy.db'}: interrupted\n"
    assert names(tmp_path, "copy*") == []
