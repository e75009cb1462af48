"""The store in SQL, whichever database it is in."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import ModuleType

from app.model.delivery import State
from app.model.report import Fate
from app.model.silence import Silence
from app.store.base import Store
from app.store.columns import micros_or_none, to_micros
from app.store.queries import attempts, silences
from app.store.queries import outbox as queries
from app.store.queries import queues as queues
from app.store.queries import reports as runs
from app.store.reconciling_sql import SQLReconciling
from app.store.rows import (
    Accepted,
    Attempt,
    Claim,
    Delivery,
    Incoming,
    Quarantined,
    QueueState,
    StoredChange,
    Tally,
    Waiting,
)
from app.store.transaction import Database, Session
from app.store.views_sql import SQLViews

PRUNE_SECONDS = 20.0


class SQLStore(Store):
    """A `Store` in a database.

    Args:
        database: The database.
        search: Finds changes, in this database's way.
    """

    def __init__(self, database: Database, search: ModuleType) -> None:
        self._database = database
        self._views = SQLViews(database, search)
        self._reconciling = SQLReconciling(database)

    @property
    def views(self) -> SQLViews:
        """See `Store.views`."""
        return self._views

    @property
    def reconciling(self) -> SQLReconciling:
        """See `Store.reconciling`."""
        return self._reconciling

    def time(self, own: datetime) -> datetime:
        """See `Store.time`."""
        return self._database.time(own)

    def on_new(self, wake: Callable[[], None]) -> None:
        """See `Store.on_new`."""
        self._database.listen(wake)

    async def accept(self, batch: Sequence[Incoming]) -> list[Accepted]:
        """See `Store.accept`."""
        accepted = await self._database.accept(batch)
        if any(one.alerts and not one.duplicate for one in accepted) or any(one.report for one in batch):
            self._database.ring()
        return accepted

    async def quarantine(
        self, body: bytes, *, signed_at: datetime, received_at: datetime, path: str, reason: str
    ) -> None:
        """See `Store.quarantine`."""
        await self._database.keep(
            lambda db: db.execute(
                "INSERT INTO quarantine (body, digest, signed_at, received_at, path, reason)"
                " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (digest) DO NOTHING",
                body,
                hashlib.sha256(body).hexdigest(),
                to_micros(signed_at),
                to_micros(received_at),
                path,
                reason,
            )
        )

    async def quarantined(self) -> list[Quarantined]:
        """See `Store.quarantined`."""
        return await self._database.read(queries.quarantined)

    async def leave_quarantine(self, ids: Sequence[int]) -> None:
        """See `Store.leave_quarantine`."""
        await self._database.write(lambda db: db.execute("DELETE FROM quarantine WHERE id = ANY($1)", ids))

    async def claim(
        self, *, token: str, now: datetime, lease_until: datetime, limit: int, at_once: Mapping[str, int]
    ) -> list[Claim]:
        """See `Store.claim`."""

        async def job(db: Session) -> list[Claim]:
            await self._database.measure(db)
            await silences.settle(db, now)
            return await queues.claim(db, token, now, lease_until, limit, at_once)

        return await self._database.write(job)

    async def waiting(self, claim: Claim, *, after: int, limit: int) -> list[Waiting]:
        """See `Store.waiting`."""
        now = claim.claimed_at
        return await self._database.read(lambda db: queues.more(db, claim, now, after, limit))

    async def body(self, change_key: str) -> bytes | None:
        """See `Store.body`."""
        return await self._database.read(
            lambda db: db.fetchval("SELECT body FROM changes WHERE key = $1", change_key)
        )

    async def record(self, claim: Claim, attempt: Attempt) -> bool:
        """See `Store.record`."""
        return await self._database.write(lambda db: queues.record(db, claim, attempt))

    async def fate(self, run: str) -> Fate | None:
        """See `Store.fate`."""
        return await self._database.read(lambda db: runs.fate(db, run))

    async def release(self, claim: Claim, *, unsure: bool = False) -> None:
        """See `Store.release`."""
        await self._database.write(lambda db: queues.release(db, claim, unsure=unsure))
        self._database.ring()  # whoever gives a queue back is perhaps about to end

    async def probe_on_hold(self, now: datetime) -> None:
        """See `Store.probe_held`."""
        await self._database.write(
            lambda db: db.execute(
                "UPDATE queues SET next_at = $1 WHERE on_hold IS NOT NULL AND next_at > $1", to_micros(now)
            )
        )

    async def queues(self, now: datetime) -> list[QueueState]:
        """See `Store.queues`."""
        return await self._database.read(lambda db: queries.queues(db, now))

    async def tally(self, now: datetime) -> Tally:
        """See `Store.tally`."""
        return await self._database.read(lambda db: queries.tally(db, now))

    async def release_hold(self, destination: str, now: datetime) -> int:
        """See `Store.unhold`."""
        number = await self._database.write(lambda db: attempts.release_hold(db, destination, now))
        self._database.ring()
        return number

    async def add_silence(self, silence: Silence) -> int:
        """See `Store.add_silence`."""
        return await self._database.write(lambda db: silences.add(db, silence))

    async def silences(self, *, active_at: datetime | None) -> list[Silence]:
        """See `Store.silences`."""
        return await self._database.read(lambda db: silences.listed(db, active_at))

    async def end_silence(self, number: int, now: datetime) -> bool:
        """See `Store.end_silence`."""
        return await self._database.write(lambda db: silences.end(db, number, now))

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
        number = await self._database.write(lambda db: attempts.retry(db, now, ids, rule, destination, start))
        self._database.ring()
        return number

    async def deliveries(self, *, state: State | None, limit: int) -> list[Delivery]:
        """See `Store.deliveries`."""
        return await self._database.read(lambda db: queries.deliveries(db, state, limit))

    async def count(self) -> dict[State, int]:
        """See `Store.count`."""
        return await self._database.read(queries.count)

    async def last_at(self, blueprint: str, entity: str) -> datetime | None:
        """See `Store.last_at`."""
        return await self._database.read(lambda db: queries.last_at(db, blueprint, entity))

    async def history(self, *, since: datetime, after: int, limit: int) -> list[tuple[int, datetime, bytes]]:
        """See `Store.history`."""
        return await self._database.read(lambda db: queries.history(db, since, after, limit))

    async def told(self, since: datetime) -> dict[tuple[str, str], int]:
        """See `Store.told`."""
        return await self._database.read(lambda db: queries.told(db, since))

    async def prune(self, *, before: datetime, limit: int) -> int:
        """See `Store.prune`."""
        return await self._database.write(
            lambda db: attempts.prune(db, to_micros(before), limit), seconds=PRUNE_SECONDS
        )

    async def changes(
        self, *, since: datetime, blueprint: str | None, after: StoredChange | None, limit: int
    ) -> list[StoredChange]:
        """See `Store.changes`."""
        return await self._database.read(lambda db: queries.changes(db, since, blueprint, after, limit))

    async def check(self, now: datetime) -> None:
        """See `Store.check`."""
        await self._database.check(now)

    async def close(self) -> None:
        """See `Store.close`."""
        await self._database.close()
