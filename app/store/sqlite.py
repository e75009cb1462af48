"""The embedded store: one SQLite file in WAL mode, for one machine and as many processes as it has."""

import asyncio
import hashlib
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from app.alerts.report import Fate
from app.alerts.silence import Silence
from app.errors import StoreUnavailable
from app.store import sqlite_accept
from app.store import sqlite_lanes as lanes
from app.store import sqlite_queries as queries
from app.store import sqlite_runs as runs
from app.store import sqlite_silences as silences
from app.store import sqlite_statements as statements
from app.store.base import Store
from app.store.columns import from_micros, quarantined_of, to_micros
from app.store.group_commit import GroupCommit
from app.store.rows import (
    Accepted,
    Attempt,
    Claim,
    Delivery,
    Incoming,
    LaneState,
    Quarantined,
    State,
    StoredChange,
    Tally,
    Waiting,
)
from app.store.schema import connect, prepare
from app.store.sqlite_known import SQLiteReconciling
from app.store.sqlite_views import SQLiteViews
from app.watch import NOBODY, Watch

T = TypeVar("T")

READERS = 2


class SQLiteStore(Store):
    """A `Store` in one file. The file and its folder are created if they do not exist.

    Args:
        path: The file.
        watch: Hears of each transaction.
        upgrade: Whether a file of an older schema may be upgraded.

    Raises:
        SchemaTooNew: A newer release has written the file.
        StoreUnavailable: The file cannot be created, opened, written or upgraded.
    """

    def __init__(self, path: Path, watch: Watch = NOBODY, *, upgrade: bool = True) -> None:
        prepare(path, upgrade=upgrade)
        self._path = path
        self._inode = path.stat().st_ino
        self._writer = GroupCommit(connect(path), watch)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="store-reader")
        self._local = threading.local()
        self._read_connections: list[sqlite3.Connection] = []
        self._views = SQLiteViews(self._read, self._writer)
        self._reconciling = SQLiteReconciling(self._read, self._writer)

    @property
    def views(self) -> SQLiteViews:
        """See `Store.views`."""
        return self._views

    @property
    def reconciling(self) -> SQLiteReconciling:
        """See `Store.reconciling`."""
        return self._reconciling

    def time(self, own: datetime) -> datetime:
        """See `Store.time`: one machine has one clock."""
        return own

    def on_new(self, wake: Callable[[], None]) -> None:
        """See `Store.on_new`: a file tells nobody, so that the dispatcher's poll notices."""

    async def accept(self, batch: Sequence[Incoming]) -> list[Accepted]:
        """See `Store.accept`."""
        return await self._writer.run_together(_accept, batch)

    async def quarantine(
        self, body: bytes, *, signed_at: datetime, received_at: datetime, path: str, reason: str
    ) -> None:
        """See `Store.quarantine`."""
        values = (
            body,
            hashlib.sha256(body).hexdigest(),
            to_micros(signed_at),
            to_micros(received_at),
            path,
            reason,
        )
        await self._writer.run(
            lambda db: db.execute(
                "INSERT OR IGNORE INTO quarantine (body, digest, signed_at, received_at, path, reason)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                values,
            )
        )

    async def quarantined(self) -> list[Quarantined]:
        """See `Store.quarantined`."""
        rows = await self._read(
            lambda db: db.execute(
                "SELECT id, body, signed_at, received_at, path, reason FROM quarantine ORDER BY id"
            ).fetchall()
        )
        return [quarantined_of(*row) for row in rows]

    async def leave_quarantine(self, ids: Sequence[int]) -> None:
        """See `Store.leave_quarantine`."""
        await self._writer.run(
            lambda db: db.executemany("DELETE FROM quarantine WHERE id = ?", [(one,) for one in ids])
        )

    async def claim(
        self, *, token: str, now: datetime, lease_until: datetime, limit: int, at_once: Mapping[str, int]
    ) -> list[Claim]:
        """See `Store.claim`."""
        return await self._writer.run(lambda db: lanes.claim(db, token, now, lease_until, limit, at_once))

    async def waiting(self, claim: Claim, *, after: int, limit: int) -> list[Waiting]:
        """See `Store.waiting`."""
        now = claim.claimed_at
        return await self._read(lambda db: lanes.more(db, claim, now, after, limit))

    async def body(self, change_key: str) -> bytes | None:
        """See `Store.body`."""
        row = await self._read(
            lambda db: db.execute("SELECT body FROM changes WHERE key = ?", (change_key,)).fetchone()
        )
        return None if row is None else bytes(row[0])

    async def record(self, claim: Claim, attempt: Attempt) -> bool:
        """See `Store.record`."""
        return await self._writer.run(lambda db: lanes.record(db, claim, attempt))

    async def fate(self, run: str) -> Fate | None:
        """See `Store.fate`."""
        return await self._read(lambda db: runs.fate(db, run))

    async def release(self, claim: Claim, *, unsure: bool = False) -> None:
        """See `Store.release`."""
        await self._writer.run(lambda db: lanes.release(db, claim, unsure=unsure))

    async def probe_held(self, now: datetime) -> None:
        """See `Store.probe_held`."""
        await self._writer.run(
            lambda db: db.execute(
                "UPDATE lanes SET next_at = ? WHERE held IS NOT NULL AND next_at > ?",
                (to_micros(now), to_micros(now)),
            )
        )

    async def lanes(self, now: datetime) -> list[LaneState]:
        """See `Store.lanes`."""
        return await self._read(lambda db: queries.lanes(db, now))

    async def tally(self, now: datetime) -> Tally:
        """See `Store.tally`."""
        return await self._read(lambda db: queries.tally(db, now))

    async def unhold(self, destination: str, now: datetime) -> int:
        """See `Store.unhold`."""
        return await self._writer.run(lambda db: statements.unhold(db, destination, now))

    async def add_silence(self, silence: Silence) -> int:
        """See `Store.add_silence`."""
        return await self._writer.run(lambda db: silences.add(db, silence))

    async def silences(self, *, active_at: datetime | None) -> list[Silence]:
        """See `Store.silences`."""
        return await self._read(lambda db: silences.listed(db, active_at))

    async def end_silence(self, number: int, now: datetime) -> bool:
        """See `Store.end_silence`."""
        return await self._writer.run(lambda db: silences.end(db, number, now))

    async def retry(
        self,
        *,
        now: datetime,
        ids: Sequence[int] | None = None,
        rule: str | None = None,
        destination: str | None = None,
        since: datetime | None = None,
    ) -> int:
        """See `Store.retry`."""
        return await self._writer.run(lambda db: statements.retry(db, now, ids, rule, destination, since))

    async def deliveries(self, *, state: State | None, limit: int) -> list[Delivery]:
        """See `Store.deliveries`."""
        return await self._read(lambda db: queries.deliveries(db, state, limit))

    async def count(self) -> dict[State, int]:
        """See `Store.count`."""
        rows = await self._read(
            lambda db: db.execute(
                "SELECT CASE WHEN state = 'pending' AND held IS NOT NULL THEN 'held' ELSE state END, count(*)"
                " FROM deliveries JOIN lanes ON lanes.name = lane WHERE message_id IS NULL GROUP BY 1"
            ).fetchall()
        )
        return dict.fromkeys(State, 0) | {State(state): number for state, number in rows}

    async def last_at(self, blueprint: str, entity: str) -> datetime | None:
        """See `Store.last_at`."""
        return await self._read(lambda db: statements.last_at(db, blueprint, entity))

    async def history(self, *, since: datetime, after: int, limit: int) -> list[tuple[int, datetime, bytes]]:
        """See `Store.history`."""
        rows = await self._read(
            lambda db: db.execute(
                "SELECT id, received_at, body FROM changes WHERE id > ? AND received_at >= ?"
                " ORDER BY id LIMIT ?",
                (after, to_micros(since), limit),
            ).fetchall()
        )
        return [(id_, from_micros(received_at), body) for id_, received_at, body in rows]

    async def told(self, since: datetime) -> dict[tuple[str, str], int]:
        """See `Store.told`."""
        rows = await self._read(
            lambda db: db.execute(
                "SELECT notification ->> 'rule', destination, count(*) FROM deliveries"
                " WHERE created_at >= ? AND state <> 'cancelled' AND repeat_after IS NULL"
                " AND message_id IS NULL AND notification ->> 'rule' <> '' GROUP BY 1, 2",
                (to_micros(since),),
            ).fetchall()
        )
        return {(rule, destination): number for rule, destination, number in rows}

    async def prune(self, *, before: datetime, limit: int) -> int:
        """See `Store.prune`."""
        return await self._writer.run(lambda db: statements.prune(db, to_micros(before), limit))

    async def changes(
        self, *, since: datetime, blueprint: str | None, after: StoredChange | None, limit: int
    ) -> list[StoredChange]:
        """See `Store.changes`."""
        return await self._read(lambda db: queries.changes(db, since, blueprint, after, limit))

    async def check(self, now: datetime) -> None:
        """See `Store.check`. A file that was moved away would be written on, and be lost at the end."""
        if not self._path.exists() or self._path.stat().st_ino != self._inode:
            raise StoreUnavailable(f"the file {self._path} was moved, replaced or deleted while it was open")
        await self._writer.run(
            lambda db: db.execute("UPDATE schema_version SET checked_at = ?", (to_micros(now),))
        )

    async def close(self) -> None:
        """See `Store.close`."""
        await self._writer.close()
        self._readers.shutdown()
        for connection in self._read_connections:
            connection.close()

    async def _read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        def run() -> T:
            if not hasattr(self._local, "connection"):
                self._local.connection = connect(self._path, query_only=True)
                self._read_connections.append(self._local.connection)
            return query(self._local.connection)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, run)
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the database says: {error}") from None


def _accept(db: sqlite3.Connection, batches: Sequence[Sequence[Incoming]]) -> list[list[Accepted]]:
    accepted = iter(sqlite_accept.accept(db, [one for batch in batches for one in batch]))
    return [[next(accepted) for _ in batch] for batch in batches]
