"""Changes, claims and attempts for tests of the store."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from app.demo.run import change_body
from app.model.delivery import Outcome
from app.model.incident import Route
from app.model.report import RUNS, Report
from app.model.times import to_micros
from app.receive.payload import parse_event
from app.receive.signature import Signed
from app.rules.decide import decide
from app.rules.match import match
from app.rules.rule import BUILT_IN, RuleSet
from app.store.rows import Attempt, Claim, Incoming
from app.store.sqlite.database import SQLiteDatabase
from app.store.sqlite.writer import WriterThread
from app.store.store import Store
from tests.conftest import NOW

LEASE = timedelta(seconds=30)
SECOND = timedelta(seconds=1)


def incoming(
    before: str = "Healthy", after: str = "Degraded", *, second: int = 0, entity: str = "checkout-prod"
) -> Incoming:
    """A change of `entity`'s health, `second` seconds after NOW, with the built-in rule's decision."""
    at = NOW + timedelta(seconds=second)
    body = change_body(before=before, after=after, at=at, entity=entity)
    change = parse_event(Signed(body, at))
    matched = match(RuleSet([BUILT_IN]), change, {})
    hits = tuple(replace(hit, routes=(Route("default", "default"),)) for hit in matched.hits)
    return Incoming(change, body, at, lambda state: decide(replace(matched, hits=hits), state, at))


async def claim_one(store: Store, *, second: int = 0, token: str = "a") -> Claim | None:
    """Claim a queue `second` seconds after NOW."""
    now = NOW + timedelta(seconds=second)
    claims = await store.claim(token=token, now=now, lease_until=now + LEASE, limit=10, batch_limits={})
    assert len(claims) <= 1
    return claims[0] if claims else None


def attempt(outcome: Outcome, *, second: int = 0, wait: int = 1, failures: int = 0) -> Attempt:
    """An attempt `second` seconds after NOW, after which the queue waits."""
    at = NOW + timedelta(seconds=second)
    return Attempt(outcome, "said", at, at, at + timedelta(seconds=wait), failures)


async def claims(store: Store, *, second: int = 0, token: str = "a", at_once: int = 100) -> list[Claim]:
    """Claim what is due `second` seconds after NOW."""
    now = NOW + second * SECOND
    return await store.claim(
        token=token, now=now, lease_until=now + LEASE, limit=10, batch_limits={"default": at_once}
    )


async def claim(store: Store, *, second: int = 0, at_once: int = 100) -> Claim:
    """Claim the one queue that is due."""
    (only,) = await claims(store, second=second, at_once=at_once)
    return only


def entities(claimed: Claim) -> list[str]:
    """Return the entities that a claim tells of."""
    return [one.notification.entity for one in claimed.deliveries]


def sent_to(destination: str, one: Incoming) -> Incoming:
    """Return a change whose alert is for a destination that has the same channel."""

    def decide(state: object) -> object:
        decision = one.decide(state)  # type: ignore[arg-type]
        return replace(decision, alerts=(replace(decision.alerts[0], destination=destination),))

    return replace(one, decide=decide)  # type: ignore[arg-type]


def delivered(*, second: int = 0, delivery_ids: Sequence[int] | None = None) -> Attempt:
    """Return an attempt that delivers all that was claimed, or some of it."""
    return replace(attempt(Outcome.DELIVERED, second=second), delivery_ids=delivery_ids)


def reported(one: Incoming, run: str = "r_1") -> Incoming:
    """Return a change whose run waits to be told."""
    return replace(one, report=Report.of(replace(one.change, report_to=run), f"{RUNS}/0"))


def writer_of(store: Store) -> WriterThread:
    """Give the thread that writes a SQLite store."""
    database = store._database  # noqa: SLF001 - what a test does to the file, nobody else does
    assert isinstance(database, SQLiteDatabase)
    return database.writer


async def resolve_all(store: Store) -> None:
    """End all incidents, so that their changes can be pruned."""
    await store.write(lambda tx: tx.execute("UPDATE incidents SET resolved_at = $1", to_micros(NOW)))
