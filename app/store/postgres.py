"""The store for many replicas: PostgreSQL, through asyncpg."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Self

from app.alerts.report import Fate
from app.alerts.silence import Silence
from app.store import postgres_accept as changes
from app.store import postgres_attempts as attempts
from app.store import postgres_lanes as lanes
from app.store import postgres_queries as queries
from app.store import postgres_runs as runs
from app.store import postgres_silences as silences
from app.store.base import Store
from app.store.columns import micros_or_none, to_micros
from app.store.postgres_bell import Bell
from app.store.postgres_group import GroupCommit
from app.store.postgres_pool import Connection, Database, ServerClock
from app.store.postgres_reconciling import PostgresReconciling
from app.store.postgres_schema import prepare
from app.store.postgres_views import PostgresViews
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
from app.watch import NOBODY, Watch

PRUNE_SECONDS = 20.0


class PostgresStore(Store):
    """A `Store` in a PostgreSQL database, which any number of processes share. Made by `open`.

    Args:
        database: Where it is.
        bell: Wakes the other replicas.
        clock: Gives this machine's time, UTC, so that it can be compared with the server's.
        watch: Hears of each transaction that stores changes.
    """

    def __init__(
        self, database: Database, bell: Bell, clock: Callable[[], datetime], watch: Watch = NOBODY
    ) -> None:
        self._database = database
        self._bell = bell
        self._own_clock = clock
        self._server_clock = ServerClock()
        self._writer = GroupCommit(self._accept, watch)
        self._views = PostgresViews(database)
        self._reconciling = PostgresReconciling(database)

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        clock: Callable[[], datetime],
        listen_url: str | None = None,
        must_exist: bool = False,
        upgrade: bool = True,
        watch: Watch = NOBODY,
    ) -> Self:
        """Open a database, and bring it to this release's schema.

        Args:
            url: `postgresql://…`, as libpq has it; may lead to pgbouncer.
            clock: Gives this machine's time, UTC.
            listen_url: The same database for LISTEN, without pgbouncer; None: `url` does.
            must_exist: Whether the tables must be there; if not, they are made.
            upgrade: Whether tables of an older schema may be upgraded; if not, they are refused.
            watch: Hears of each transaction that stores changes.

        Raises:
            SchemaTooNew: A newer release has written it.
            StoreUnavailable: It cannot be opened.
        """
        database = Database(url)
        await database.open()
        try:
            await prepare(database, must_exist=must_exist, upgrade=upgrade)
            await database.prepare_statements()
            store = cls(database, Bell(database, listen_url or url), clock, watch)
            await database.run(store._measure, read_only=True)
        except BaseException:
            await database.close()
            raise
        return store

    @property
    def views(self) -> PostgresViews:
        """See `Store.views`."""
        return self._views

    @property
    def reconciling(self) -> PostgresReconciling:
        """See `Store.reconciling`."""
        return self._reconciling

    def time(self, own: datetime) -> datetime:
        """See `Store.time`: the database's clock is the one that all replicas share."""
        return self._server_clock.correct(own)

    def on_new(self, wake: Callable[[], None]) -> None:
        """See `Store.on_new`."""
        self._bell.listen(wake)

    async def accept(self, batch: Sequence[Incoming]) -> list[Accepted]:
        """See `Store.accept`."""
        accepted = await self._writer.run(batch)
        new = any(one.alerts and not one.duplicate for one in accepted)
        if new or any(one.report for one in batch):
            self._bell.ring()
        return accepted

    async def quarantine(
        self, body: bytes, *, signed_at: datetime, received_at: datetime, path: str, reason: str
    ) -> None:
        """See `Store.quarantine`."""
        await self._database.accept(
            lambda db: db.execute(
                "INSERT INTO quarantine (body, digest, signed_at, received_at, path, reason)"
                " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (digest) DO NOTHING",
                body,
                hashlib.sha256(body).hexdigest(),
                to_micros(signed_at),
                to_micros(received_at),
                changes.storable(path),
                changes.storable(reason),
            )
        )

    async def quarantined(self) -> list[Quarantined]:
        """See `Store.quarantined`."""
        return await self._database.run(queries.quarantined, read_only=True)

    async def leave_quarantine(self, ids: Sequence[int]) -> None:
        """See `Store.leave_quarantine`."""
        await self._database.run(lambda db: db.execute("DELETE FROM quarantine WHERE id = ANY($1)", ids))

    async def claim(
        self, *, token: str, now: datetime, lease_until: datetime, limit: int, at_once: Mapping[str, int]
    ) -> list[Claim]:
        """See `Store.claim`."""

        async def job(db: Connection) -> list[Claim]:
            await self._measure(db)
            await silences.settle(db, now)
            return await lanes.claim(db, token, now, lease_until, limit, at_once)

        return await self._database.run(job)

    async def waiting(self, claim: Claim, *, after: int, limit: int) -> list[Waiting]:
        """See `Store.waiting`."""
        now = claim.claimed_at
        return await self._database.run(lambda db: lanes.more(db, claim, now, after, limit), read_only=True)

    async def body(self, change_key: str) -> bytes | None:
        """See `Store.body`."""
        return await self._database.run(
            lambda db: db.fetchval("SELECT body FROM changes WHERE key = $1", change_key), read_only=True
        )

    async def record(self, claim: Claim, attempt: Attempt) -> bool:
        """See `Store.record`."""
        return await self._database.run(lambda db: lanes.record(db, claim, attempt))

    async def fate(self, run: str) -> Fate | None:
        """See `Store.fate`."""
        return await self._database.run(lambda db: runs.fate(db, run), read_only=True)

    async def release(self, claim: Claim, *, unsure: bool = False) -> None:
        """See `Store.release`."""
        await self._database.run(lambda db: lanes.release(db, claim, unsure=unsure))
        self._bell.ring()  # whoever gives a lane back is perhaps about to end

    async def probe_held(self, now: datetime) -> None:
        """See `Store.probe_held`."""
        await self._database.run(
            lambda db: db.execute(
                "UPDATE lanes SET next_at = $1 WHERE held IS NOT NULL AND next_at > $1", to_micros(now)
            )
        )

    async def lanes(self, now: datetime) -> list[LaneState]:
        """See `Store.lanes`."""
        return await self._database.run(lambda db: queries.lanes(db, now), read_only=True)

    async def tally(self, now: datetime) -> Tally:
        """See `Store.tally`."""
        return await self._database.run(lambda db: queries.tally(db, now), read_only=True)

    async def unhold(self, destination: str, now: datetime) -> int:
        """See `Store.unhold`."""
        number = await self._database.run(lambda db: attempts.unhold(db, destination, now))
        self._bell.ring()
        return number

    async def add_silence(self, silence: Silence) -> int:
        """See `Store.add_silence`."""
        return await self._database.run(lambda db: silences.add(db, silence))

    async def silences(self, *, active_at: datetime | None) -> list[Silence]:
        """See `Store.silences`."""
        return await self._database.run(lambda db: silences.listed(db, active_at), read_only=True)

    async def end_silence(self, number: int, now: datetime) -> bool:
        """See `Store.end_silence`."""
        return await self._database.run(lambda db: silences.end(db, number, now))

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
        start = micros_or_none(since)
        number = await self._database.run(lambda db: attempts.retry(db, now, ids, rule, destination, start))
        self._bell.ring()
        return number

    async def deliveries(self, *, state: State | None, limit: int) -> list[Delivery]:
        """See `Store.deliveries`."""
        return await self._database.run(lambda db: queries.deliveries(db, state, limit), read_only=True)

    async def count(self) -> dict[State, int]:
        """See `Store.count`."""
        return await self._database.run(queries.count, read_only=True)

    async def last_at(self, blueprint: str, entity: str) -> datetime | None:
        """See `Store.last_at`."""
        return await self._database.run(lambda db: queries.last_at(db, blueprint, entity), read_only=True)

    async def history(self, *, since: datetime, after: int, limit: int) -> list[tuple[int, datetime, bytes]]:
        """See `Store.history`."""
        return await self._database.run(lambda db: queries.history(db, since, after, limit), read_only=True)

    async def told(self, since: datetime) -> dict[tuple[str, str], int]:
        """See `Store.told`."""
        return await self._database.run(lambda db: queries.told(db, since), read_only=True)

    async def prune(self, *, before: datetime, limit: int) -> int:
        """See `Store.prune`."""
        return await self._database.run(
            lambda db: attempts.prune(db, to_micros(before), limit), seconds=PRUNE_SECONDS
        )

    async def changes(
        self, *, since: datetime, blueprint: str | None, after: StoredChange | None, limit: int
    ) -> list[StoredChange]:
        """See `Store.changes`."""
        return await self._database.run(
            lambda db: queries.changes(db, since, blueprint, after, limit), read_only=True
        )

    async def check(self, now: datetime) -> None:
        """See `Store.check`."""
        await self._database.run(
            lambda db: db.execute(
                "UPDATE schema_version SET checked_at = $1"
                " WHERE version = (SELECT max(version) FROM schema_version)",
                to_micros(now),
            )
        )

    async def close(self) -> None:
        """See `Store.close`."""
        await self._writer.close()
        await self._bell.close()
        await self._database.close()

    async def _accept(self, batch: Sequence[Incoming]) -> list[Accepted]:
        return await self._database.accept(lambda db: changes.accept(db, batch))

    async def _measure(self, db: Connection) -> None:
        before = self._own_clock()
        server = await db.fetchval("SELECT clock_timestamp()")
        self._server_clock.measure(before, server, self._own_clock())
