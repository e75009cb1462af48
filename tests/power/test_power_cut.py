"""A power cut: what was answered 202 is there, the file opens, and a copy is whole or not there."""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from app.store.sqlite.schema import prepare
from tests.power.disk import Disk, Event, read_trace

ROOT = Path(__file__).parents[2]
ALERTS = "SELECT count(*) FROM deliveries WHERE change_id = changes.id"
TORN = f"SELECT count(*) FROM changes WHERE alerts <> ({ALERTS})"  # noqa: S608 - of constants


def record(folder: Path, synchronous: str) -> list[Event]:
    """Let a real process load the store; give what it did to the disk."""
    library, trace, disk = folder / "trace.so", folder / "trace", folder / "disk"
    disk.mkdir()
    source = Path(__file__).with_name("trace.c")
    compiler = shutil.which("cc")
    assert compiler is not None, "the test compiles a library: install gcc or clang"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    preload = {"LD_PRELOAD": str(library), "POWER_FOLDER": str(disk), "POWER_TRACE": str(trace)}
    command = [sys.executable, "-m", "tests.power.load", str(disk), synchronous]
    subprocess.run(command, cwd=ROOT, env=os.environ | preload, check=True, timeout=60)
    return list(read_trace(trace, disk))


def stored(file: Path) -> set[str]:
    """Open a database as a listener does; give the keys of the changes in it, which have their alerts."""
    prepare(file)
    with closing(sqlite3.connect(file)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert database.execute(TORN).fetchone() == (0,)
        return {key for (key,) in database.execute("SELECT key FROM changes")}


def lost_after(cuts: int, events: list[Event], folder: Path, random: Random) -> int:
    """Cut the power at random moments; count those after which something was lost that had been promised."""
    moments = set(random.sample(range(len(events)), cuts))
    disk, lost, copied = Disk(), 0, set[str]()
    for number, event in enumerate(events):
        disk.do(event)
        if number not in moments:
            continue
        after = folder / str(number)
        after.mkdir()
        disk.after_cut(after, random)
        promised = set(disk.promises.split())
        lost += not promised - {"copied"} <= stored(after / "listener.db")
        # Whether or not it was said to be there: a copy that is there is whole.
        copy = after / "copy.db"
        if "copied" in promised or copy.exists():
            copied = copied or stored(copy)
            assert stored(copy) == copied
        for file in after.iterdir():
            file.unlink()
    assert copied
    return lost


@pytest.mark.parametrize(("synchronous", "cuts"), [("configured", 200), ("NORMAL", 40)])
def test_power_cut(tmp_path: Path, synchronous: str, cuts: int) -> None:
    """As the store is configured, nothing is lost; a weaker setting is seen to lose."""
    events = record(tmp_path, synchronous)
    lost = lost_after(cuts, events, tmp_path, Random(4711))
    assert bool(lost) is (synchronous == "NORMAL")
