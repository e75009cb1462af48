"""A listener's database is copied, restored and upgraded as its operator does it, and shrinks by itself."""

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import httpx
import pytest

from app.demo.stand_in_slack import StandInSlack
from app.store.sqlite.schema import STEPS, prepare
from tests.acceptance.process import ROOT, Listener, listening, post_change
from tests.conftest import NO_TLS
from tests.waiting import until

pytestmark = pytest.mark.acceptance

NEXT = 1 + max(int(file.name[:4]) for file in STEPS.glob("*.sql"))


@asynccontextmanager
async def posting(listener: Listener) -> AsyncIterator[list[str]]:
    """Post changes, one after the other, and give the keys of those that were acknowledged."""
    keys: list[str] = []

    async def post() -> None:
        async with httpx.AsyncClient(base_url=listener.url, timeout=30, verify=NO_TLS) as client:
            while True:
                answer = await post_change(client, f"e{len(keys)}")
                assert answer.status_code == 202
                keys.append(answer.json()["change"])

    task = asyncio.create_task(post())
    try:
        await until(lambda: len(keys) > 20 or task.done())
        yield keys
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def fill(path: Path) -> None:
    """Make a store with 30 MB in it, so that what is done with it takes a while."""
    prepare(path)
    with closing(sqlite3.connect(path)) as db:
        db.executemany(
            "INSERT INTO quarantine VALUES (?, randomblob(3000000), ?, 0, 4000000000000000, '', '')",
            [(number, number) for number in range(10)],
        )
        db.commit()


def names(folder: Path) -> list[str]:
    """Return the names of a folder's files."""
    return sorted(file.name for file in folder.iterdir())


async def test_a_copy_of_a_live_database(tmp_path: Path, slack: StandInSlack) -> None:
    """`backup` while changes come in: all acknowledged before it are in the copy, which is sound."""
    (tmp_path / "data").mkdir()
    fill(tmp_path / "data" / "listener.db")
    async with listening(tmp_path, slack.url) as listener, posting(listener) as keys:
        before = list(keys)
        said = await listener.command_line("backup", "copy.db")
        assert "MB, checked, in" in said
        await until(lambda: len(keys) > len(before))
        with closing(sqlite3.connect(tmp_path / "copy.db")) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert set(before) <= {key for (key,) in db.execute("SELECT key FROM changes")}
            assert db.execute("SELECT count(*) FROM quarantine").fetchone() == (10,)


async def test_a_copy_is_restored(tmp_path: Path, slack: StandInSlack) -> None:
    """With a copy in the database's place the listener has what was there, and goes on."""
    path = tmp_path / "data" / "listener.db"
    async with listening(tmp_path, slack.url) as listener:
        async with posting(listener) as keys:
            await listener.command_line("backup", "copy.db")
        await listener.stop()
        kept = {row.notification.entity for row in await listener.deliveries()}
        assert {f"e{number}" for number in range(len(keys))} <= kept
        for file in path.parent.iterdir():
            file.unlink()
        (tmp_path / "copy.db").rename(path)
        restored = {row.notification.entity for row in await listener.deliveries()}
        assert len(restored) > 20
        assert restored < kept
        await listener.start()
        async with httpx.AsyncClient(base_url=listener.url, verify=NO_TLS) as client:
            assert (await post_change(client, "after")).status_code == 202

        async def delivered() -> bool:
            rows = await listener.deliveries()
            states = {row.notification.entity: row.state for row in rows}
            return states == dict.fromkeys({*restored, "after"}, "delivered")

        await until(delivered)


async def test_pruning_makes_a_live_database_smaller(tmp_path: Path, slack: StandInSlack) -> None:
    """What a start deletes goes back to the disk while changes come in."""
    path = tmp_path / "data" / "listener.db"
    path.parent.mkdir()
    fill(path)
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE quarantine SET received_at = 0")
        db.commit()
    assert path.stat().st_size > 30_000_000
    async with listening(tmp_path, slack.url) as listener, posting(listener):
        await until(lambda: path.stat().st_size < 5_000_000)


async def test_a_newer_release(tmp_path: Path, slack: StandInSlack) -> None:
    """Only the start of a newer release upgrades, after a copy that the log names; nothing is lost."""
    release = tmp_path / "release"
    shutil.copytree(ROOT / "app", release / "app", ignore=shutil.ignore_patterns("__pycache__"))
    step = release / (STEPS / f"{NEXT:04}_next.sql").relative_to(ROOT)
    step.write_text("ALTER TABLE queues ADD COLUMN colour TEXT;\n")
    async with listening(tmp_path, slack.url) as listener:
        async with posting(listener) as keys:
            pass
        old = listener.environment
        listener.environment = old | {"PYTHONPATH": str(release)}
        refused = await listener.command_line("deliveries")
        assert f"has schema {NEXT - 1}, this release knows {NEXT}: start this release's listener" in refused
        await listener.stop()
        await listener.start()
        assert f"listener.db.before-schema-{NEXT}" in listener.log.read_text()
        async with httpx.AsyncClient(base_url=listener.url, verify=NO_TLS) as client:
            assert (await post_change(client, "after")).status_code == 202
        with closing(sqlite3.connect(tmp_path / "data" / "listener.db")) as db:
            assert set(keys) < {key for (key,) in db.execute("SELECT key FROM changes")}
        listener.environment = old
        assert f"the database has schema {NEXT}" in await listener.command_line("deliveries")
    assert names(tmp_path / "data") == ["listener.db", f"listener.db.before-schema-{NEXT}"]
