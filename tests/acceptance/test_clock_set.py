"""The machine's clock is set under the real listener, and while it is stopped: by libfaketime."""

import asyncio
import os
import random
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from starlette.responses import PlainTextResponse, Response

from app.demo.run import change_body, signed_headers
from app.demo.stand_in_slack import StandInSlack
from app.store import queries
from app.store.opening import open_store
from tests.acceptance.process import Listener, listening
from tests.conftest import DATABASES, NO_TLS, SECRET
from tests.told import entities
from tests.waiting import until

FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.skipif(FAKETIME is None, reason="libfaketime is not installed: see scripts/_faketime"),
]

HOURS = 3600
UNDER_WAY = [-2 * HOURS, 25 * HOURS]
STEPS = [0, -1, -30, 1 * HOURS, 40 * 24 * HOURS, *UNDER_WAY]
KILLS = int(os.environ.get("KILLS", "1"))


class Clock:
    """The clock of a listener's machine, which can be set.

    Attributes:
        settings: What a process's environment needs to go by it.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set(0)
        self.settings = {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, seconds: int) -> None:
        """Set it so many seconds ahead of the right time."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}")
        new.rename(self._file)  # a process may read it at any moment
        self.ahead = timedelta(seconds=seconds)


async def post(client: httpx.AsyncClient, entity: str, at: datetime) -> bool:
    """Post a change that Port signs at a time; whether it was answered 202.

    Until the listener has seen that its clock was set, for a second, the signature is of another time to it.
    """
    body = change_body(before="Healthy", after="Degraded", at=at, entity=entity, title=f"Title of {entity}")
    answer = await client.post("/api/slack", content=body, headers=signed_headers(body, SECRET, at))
    if answer.status_code == 202:
        return True
    await asyncio.sleep(0.25)
    return False


@DATABASES
@pytest.mark.timeout(120 + 20 * KILLS)
async def test_nothing_dies_and_nothing_waits(tmp_path: Path, slack: StandInSlack, database: str) -> None:
    """Set back and forward while Slack is away, and while it is killed, it tells all, and keeps all.

    On PostgreSQL the server's clock is that of all: what a replica's own says changes nothing.
    """
    clock, randomness, accepted = Clock(tmp_path / "clock"), random.Random(4711), list[str]()
    own = database.startswith("sqlite")

    async def away() -> Response:
        return PlainTextResponse("", 503)

    async def tell(listener: Listener) -> None:
        async with httpx.AsyncClient(base_url=listener.url, verify=NO_TLS, timeout=30) as client:
            accepted.append(f"e{len(accepted)}")
            ahead = clock.ahead if own else timedelta(0)
            await until(lambda: post(client, accepted[-1], datetime.now(UTC) + ahead))

    async def all_told() -> None:
        await until(lambda: set(accepted) <= set(entities(slack.messages)))

    async with listening(tmp_path, slack.url, DATABASE_URL=database, **clock.settings) as listener:
        for seconds in UNDER_WAY:
            slack.answers.append(away)
            await tell(listener)
            clock.set(seconds)
            await tell(listener)
            await all_told()
        for kill in range(KILLS):
            await tell(listener)
            await listener.stop(signal.SIGKILL)
            clock.set(randomness.choice(STEPS) if kill else 40 * 24 * HOURS)
            await listener.start()
            await tell(listener)
        await all_told()
    if KILLS == 1:
        lines = [line for line in listener.log.read_text().splitlines() if '"clock_set"' in line]
        assert len(lines) == (len(UNDER_WAY) + 1 if own else 0)
    async with open_store(database) as store:
        counts = await store.read(queries.counts.overview, datetime(2020, 1, 1, tzinfo=UTC))
    assert (counts.changes, counts.pending, counts.dead) == (len(accepted), 0, 0)
