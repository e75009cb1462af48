"""A PostgreSQL that is away, read-only or slow; and a replica that freezes while it holds a queue."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import httpx
import pytest

from app.demo.stand_in_slack import StandInSlack
from tests.acceptance.process import APP, Listener, listening, post_change
from tests.conftest import NO_TLS
from tests.postgres import PostgresServer
from tests.store.proxies import HoldingProxy
from tests.told import entities
from tests.waiting import until

pytestmark = pytest.mark.acceptance

NEVER_LONGER = 5.0
DISPATCH = (*APP, "dispatch")


async def timed_post(listener: Listener, entity: str) -> tuple[int, float]:
    """Post a change, and return the status and how many seconds the answer took."""
    async with httpx.AsyncClient(base_url=listener.url, timeout=30, verify=NO_TLS) as client:
        began = time.monotonic()
        return (await post_change(client, entity)).status_code, time.monotonic() - began


async def is_ready(listener: Listener) -> bool:
    """Tell whether a listener says that all is well."""
    async with httpx.AsyncClient(base_url=listener.url, timeout=30, verify=NO_TLS) as client:
        return (await client.get("/readyz")).status_code == 200


async def test_away_read_only_and_slow(tmp_path: Path, slack: StandInSlack) -> None:
    """Each is a 503 within 5 s, and well again by itself; what was answered 202 is told."""
    server = PostgresServer()
    server.make()
    stored = []
    try:
        url = await server.new_database()
        async with listening(tmp_path, slack.url, DATABASE_URL=url) as listener:

            async def refused(entity: str) -> None:
                status, seconds = await timed_post(listener, entity)
                assert (status, seconds < NEVER_LONGER) == (503, True), seconds

            async def well_again(entity: str) -> None:
                await until(lambda: is_ready(listener))
                assert (await timed_post(listener, entity))[0] == 202
                stored.append(entity)
                await until(lambda: entity in entities(slack.messages))

            await well_again("first")
            await asyncio.to_thread(server.stop)
            await asyncio.gather(*(refused(f"away-{number}") for number in range(20)))
            assert not await is_ready(listener)
            await asyncio.to_thread(server.start)
            await well_again("back")

            await server.execute("ALTER SYSTEM SET default_transaction_read_only = on")
            await server.execute("SELECT pg_reload_conf()")
            await until(lambda: _read_only(server, "on"))
            await refused("read-only")
            assert not await is_ready(listener)
            async with _session(url, "SET default_transaction_read_only = off") as session:
                await session.execute("ALTER SYSTEM RESET default_transaction_read_only")
                await session.execute("SELECT pg_reload_conf()")
            await until(lambda: _read_only(server, "off"))
            await well_again("writable")

            async with _session(url, "BEGIN; LOCK TABLE changes") as session:
                asleep = asyncio.create_task(session.execute("SELECT pg_sleep(2)"))
                await refused("slow")
                await asleep
            await well_again("quick")
        assert "very-secret-password" not in listener.log.read_text()
    finally:
        server.remove()
    assert sorted(entities(slack.messages)) == sorted(stored)


async def _read_only(server: PostgresServer, value: str) -> bool:
    return bool((await server.execute("SHOW default_transaction_read_only"))[0][0] == value)


@asynccontextmanager
async def _session(url: str, first: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(first)
        yield connection
    finally:
        await connection.close()


def has_claimed(said: bytes) -> bool:
    """Tell whether somebody commits that it holds a queue."""
    return b"COMMIT" in said.rpartition(b"UPDATE queues SET holder = $1")[2] and b"SET holder = $1" in said


async def test_a_frozen_replica_does_not_send(
    tmp_path: Path, slack: StandInSlack, postgres: PostgresServer
) -> None:
    """A replica freezes with a queue in its hands; another takes over; the first wakes, and does not send."""
    url = await postgres.new_database()
    folders = [tmp_path / name for name in ("proxy", "listens", "freezes", "takes-over")]
    for folder in folders:
        folder.mkdir()
    proxy = HoldingProxy(folders[0], postgres.folder, has_claimed)
    through = url.replace(str(postgres.folder), str(folders[0]))
    async with (
        proxy.serving(),
        listening(
            folders[1], slack.url, command=(*APP, "serve", "--no-dispatch"), DATABASE_URL=url
        ) as listener,
        listening(folders[2], slack.url, command=DISPATCH, DATABASE_URL=through) as frozen,
    ):
        assert (await timed_post(listener, "one"))[0] == 202
        await asyncio.wait_for(proxy.holding.wait(), 10)  # it has the queue, and does not know it yet
        frozen.send_signal(signal.SIGSTOP)
        proxy.open.set()
        async with listening(folders[3], slack.url, command=DISPATCH, DATABASE_URL=url):
            await until(lambda: len(slack.messages) == 1, 45)
            frozen.send_signal(signal.SIGCONT)
            lines = ("queue_given_back", "queues_not_claimed")
            await until(lambda: any(line in frozen.log.read_text() for line in lines))
            assert (await timed_post(listener, "two"))[0] == 202
            await until(lambda: len(slack.messages) == 2)
            await until(lambda: is_ready(frozen))
    assert entities(slack.messages) == ["one", "two"]
