"""Fixtures for the tests of commands."""

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from app.cli import main
from app.settings import Settings
from app.store.sqlite.database import open_sqlite
from app.store.store import Store
from tests.cli.helpers import Result, Run
from tests.conftest import SECRET
from tests.port.stand_in_port import CLIENT_ID, CLIENT_SECRET, StandInPort, standing_in


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The test's own settings and store, and no others."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("PORT_CLIENT_SECRET", SECRET)
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/listener.db")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run() -> Run:
    """Give a function that runs a command in a thread of this process."""

    def work(arguments: tuple[str, ...]) -> Result:
        with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
            try:
                main(list(arguments))
            except SystemExit as end:
                # The interpreter prints a text that a program ends with, and makes it status 1.
                said, status = (end.code, 1) if isinstance(end.code, str) else ("", int(end.code or 0))
        return Result(status, out.getvalue(), err.getvalue() + said)

    async def command(*arguments: str) -> Result:
        return await asyncio.to_thread(work, arguments)

    return command


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """The store that the commands look at."""
    store = open_sqlite(tmp_path / "listener.db")
    yield store
    await store.close()


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[StandInPort]:
    """A stand-in Port that the settings name."""
    async with standing_in() as stand_in:
        monkeypatch.setenv("PORT_API_URL", stand_in.url)
        monkeypatch.setenv("PORT_CLIENT_ID", CLIENT_ID)
        monkeypatch.setenv("PORT_CLIENT_SECRET", CLIENT_SECRET)
        monkeypatch.setenv("WEBHOOK_URL", "https://listener.example.com")
        yield stand_in
