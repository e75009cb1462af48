"""One suite for every store."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from app.model.delivery import Outcome, State
from app.model.incident import Incident
from app.rules.decide import Decision, EntityState
from app.store import queries
from app.store.rows import Incoming
from app.store.store import Store
from tests.conftest import NOW
from tests.store.helpers import (
    LEASE,
    SECOND,
    attempt,
    claim,
    claim_one,
    claims,
    delivered,
    entities,
    incoming,
    resolve_all,
)


async def test_accepts_a_change_with_its_alert(store: Store) -> None:
    """A change is stored with its alert, which waits."""
    (accepted,) = await store.accept([incoming()])
    assert (accepted.alerts, accepted.duplicate) == (1, False)
    (delivery,) = (await store.read(queries.page.deliveries, state=None, limit=10)).rows
    assert delivery.change_key == accepted.key
    assert delivery.state is State.PENDING
    assert delivery.notification.change is not None
    assert delivery.notification.change.after == "Degraded"


async def test_stores_a_duplicate_once(store: Store) -> None:
    """The same change again stores nothing, also in one batch, and says what the first led to."""
    first, again = await store.accept([incoming(), incoming()])
    (later,) = await store.accept([incoming()])
    assert [one.duplicate for one in (first, again, later)] == [False, True, True]
    assert [one.alerts for one in (first, again, later)] == [1, 1, 1]
    assert len((await store.read(queries.page.deliveries, state=None, limit=10)).rows) == 1


async def test_the_state_that_a_decision_rests_on(store: Store) -> None:
    """`decide` is given the entity's newest time and its incidents, those of the same batch too."""
    seen: list[EntityState] = []

    def spy(one: Incoming, state: EntityState) -> Decision:
        seen.append(state)
        return one.decide(state)

    batch = [
        incoming(),
        incoming("Degraded", "Crashed", second=2),
        incoming(second=9, entity="other"),
        incoming("Crashed", "Healthy", second=3),
        incoming("Healthy", "Degraded", second=4),
    ]
    await store.accept([Incoming(one.change, one.body, one.received_at, partial(spy, one)) for one in batch])
    assert [state.last_at for state in seen] == [
        None,
        NOW,
        None,
        NOW + 2 * SECOND,
        NOW + 3 * SECOND,
    ]
    assert [[one.state for one in state.incidents] for state in seen] == [
        [],
        ["Degraded"],
        [],
        ["Crashed"],
        ["Healthy"],
    ]
    assert seen[4].incidents[0].resolved_at == NOW + 3 * SECOND
    assert isinstance(seen[1].incidents[0], Incident)
    assert seen[3].incidents[0].opened_at == NOW


async def test_a_decision_that_raises_fails_alone(store: Store) -> None:
    """A fault in one decision reaches its caller; changes accepted at the same moment do not suffer."""

    def fault(_: EntityState) -> Decision:
        raise ZeroDivisionError

    bad = incoming(entity="bad")
    jobs = [store.accept([incoming(entity=f"good-{number}")]) for number in range(20)]
    jobs.insert(10, store.accept([Incoming(bad.change, bad.body, bad.received_at, fault)]))
    results = await asyncio.gather(*jobs, return_exceptions=True)
    assert isinstance(results.pop(10), ZeroDivisionError)
    assert all(isinstance(one, list) for one in results)
    assert (await store.read(queries.counts.by_state))[State.PENDING] == 20


async def test_a_queue_keeps_its_order(store: Store) -> None:
    """A queue gives its deliveries in the order in which they were accepted, one at a time."""
    await store.accept([incoming(second=number, entity=f"entity-{number}") for number in range(3)])
    for number in range(3):
        claim = await claim_one(store, second=number)
        assert claim is not None
        assert claim.deliveries[0].notification.entity == f"entity-{number}"
        assert await claim_one(store, second=number, token="b") is None
        assert await store.record(claim, attempt(Outcome.DELIVERED, second=number))
    assert await claim_one(store, second=9) is None
    assert (await store.read(queries.counts.by_state))[State.DELIVERED] == 3


async def test_a_queue_rests_until_its_time(store: Store) -> None:
    """After an attempt a queue cannot be claimed before its next time."""
    await store.accept([incoming(), incoming(entity="other")])
    claim = await claim_one(store)
    assert claim is not None
    await store.record(claim, attempt(Outcome.DELIVERED, wait=5))
    assert await claim_one(store, second=4) is None
    assert await claim_one(store, second=5) is not None


async def test_a_lease_of_a_moment_later_holds(store: Store) -> None:
    """Another process may have read the clock a little later: its lease is as good."""
    await store.accept([incoming()])
    assert await claim_one(store, second=3, token="later") is not None
    assert await claim_one(store, second=0, token="earlier") is None


async def test_a_lost_lease_cannot_record(store: Store) -> None:
    """When a lease has ended another takes the queue; the one before can neither record nor release."""
    await store.accept([incoming()])
    frozen = await claim_one(store, token="frozen")
    assert frozen is not None
    assert await claim_one(store, second=29, token="other") is None
    other = await claim_one(store, second=30, token="other")
    assert other is not None
    assert not await store.record(frozen, attempt(Outcome.DEAD, second=31))
    await store.give_back(frozen)
    assert await claim_one(store, second=32, token="third") is None
    assert await store.record(other, attempt(Outcome.DELIVERED, second=33))
    assert ((await store.read(queries.page.deliveries, state=None, limit=1)).rows)[0].attempts == 1


async def test_recorded_in_parts(store: Store) -> None:
    """The lease is kept until the last part; who lost it records none."""
    await store.accept([incoming()])
    await store.accept([incoming(entity="other")])
    held = await claim(store)
    numbers = [one.id for one in held.deliveries]
    first, last = (delivered(delivery_ids=[number]) for number in numbers)
    assert await store.record(held, first, goes_on=True)
    assert not await claims(store, second=29)
    (taken,) = await claims(store, second=30, token="b")
    assert entities(taken) == ["other"]
    assert not await store.record(held, last, goes_on=True)
    assert await store.record(taken, last)
    assert not await claims(store, second=35, token="c")


async def test_a_released_queue_can_be_claimed(store: Store) -> None:
    """A lease that is given back leaves no trace."""
    await store.accept([incoming()])
    claim = await claim_one(store, token="a")
    assert claim is not None
    await store.give_back(claim)
    assert await claim_one(store, token="b") is not None


async def test_a_retry_stays_at_the_head(store: Store) -> None:
    """A delivery that failed for now is the next one again, with the queue's failures."""
    await store.accept([incoming(), incoming(entity="other")])
    claim = await claim_one(store)
    assert claim is not None
    await store.record(claim, attempt(Outcome.RETRY, failures=1))
    again = await claim_one(store, second=1)
    assert again is not None
    assert (again.deliveries[0].id, again.failures, again.on_hold) == (claim.deliveries[0].id, 1, False)


async def test_a_dead_delivery_lets_the_queue_go_on(store: Store) -> None:
    """A dead delivery is kept with its reason, the next one goes out, and a retry brings it back first."""
    await store.accept([incoming(), incoming(entity="other")])
    claim = await claim_one(store)
    assert claim is not None
    await store.record(claim, attempt(Outcome.DEAD))
    following = await claim_one(store, second=1)
    assert following is not None
    assert following.deliveries[0].id != claim.deliveries[0].id
    await store.record(following, attempt(Outcome.DELIVERED, second=1))
    (dead,) = (await store.read(queries.page.deliveries, state=State.DEAD, limit=10)).rows
    assert (dead.id, dead.detail, dead.attempts) == (claim.deliveries[0].id, "said", 1)
    assert await store.retry(now=NOW + 2 * SECOND) == 1
    again = await claim_one(store, second=2)
    assert again is not None
    assert again.deliveries[0].id == claim.deliveries[0].id
    assert again.deliveries[0].waiting_since == NOW + 2 * SECOND


async def test_a_queue_on_hold(store: Store) -> None:
    """A queue on hold says why, its deliveries count as such, and a passed probe renews their patience."""
    await store.accept([incoming(), incoming(entity="other")])
    claim = await claim_one(store)
    assert claim is not None
    await store.record(claim, attempt(Outcome.ON_HOLD, wait=600))
    assert (await store.read(queries.counts.by_state))[State.ON_HOLD] == 2
    assert [
        one.detail for one in (await store.read(queries.page.deliveries, state=State.ON_HOLD, limit=10)).rows
    ] == ["said", "said"]
    assert (await store.read(queries.page.deliveries, state=State.PENDING, limit=10)).rows == []
    assert await claim_one(store, second=599) is None
    await store.write(queries.deliveries.probe_on_hold, NOW + 60 * SECOND)
    probe = await claim_one(store, second=60)
    assert probe is not None
    assert probe.on_hold
    await store.record(probe, attempt(Outcome.DELIVERED, second=61))
    following = await claim_one(store, second=62)
    assert following is not None
    assert (following.on_hold, following.deliveries[0].waiting_since) == (False, NOW + 61 * SECOND)


async def test_retry_by_number(store: Store) -> None:
    """A waiting delivery can be tried at once by its number; a delivered or unknown one cannot."""
    await store.accept([incoming()])
    claim = await claim_one(store)
    assert claim is not None
    await store.record(claim, attempt(Outcome.RETRY, wait=300))
    assert await claim_one(store, second=5) is None
    assert await store.retry(now=NOW + 5 * SECOND, ids=[claim.deliveries[0].id, 999]) == 1
    again = await claim_one(store, second=5)
    assert again is not None
    await store.record(again, attempt(Outcome.DELIVERED, second=5))
    assert await store.retry(now=NOW, ids=[claim.deliveries[0].id]) == 0


async def test_a_clock_that_is_set_back(store: Store) -> None:
    """A queue whose time or lease lies absurdly far ahead has seen the clock set back: it is due."""
    await store.accept([incoming()])
    claim = await claim_one(store, second=6 * 3600)
    assert claim is not None
    again = await claim_one(store, token="b")
    assert again is not None
    await store.record(again, attempt(Outcome.RETRY, second=6 * 3600))
    assert await claim_one(store, token="c") is not None


async def test_what_was_never_to_wait_is_not_cancelled(store: Store) -> None:
    """A change that arrived a moment before another, but is stored after it, cancels nothing of it."""
    first, second = incoming(), incoming("Degraded", "Crashed", second=2)
    await store.accept([replace(first, received_at=NOW + 9 * SECOND)])

    def cancelling(state: EntityState) -> Decision:
        decision = second.decide(state)
        return replace(decision, cancel=tuple(one.id for one in decision.incidents))

    await store.accept([replace(second, decide=cancelling)])
    assert (await store.read(queries.counts.by_state))[State.PENDING] == 2
    told = []
    for at in (20, 30):
        claim = await claim_one(store, second=at)
        assert claim is not None
        told.append(claim.deliveries[0].notification.change and claim.deliveries[0].notification.change.after)
        await store.record(claim, attempt(Outcome.DELIVERED, second=at))
    assert told == ["Degraded", "Crashed"]


async def test_quarantine(store: Store) -> None:
    """An unreadable body is kept whole, once, until it leaves."""
    for _ in range(2):
        await store.quarantine(b"\xff{", signed_at=NOW, received_at=NOW + SECOND, path="a.b", reason="odd")
    (row,) = (await store.read(queries.quarantine.bodies, limit=100)).rows
    assert (row.body, row.signed_at, row.received_at) == (b"\xff{", NOW, NOW + SECOND)
    assert (row.path, row.reason) == ("a.b", "odd")
    await store.write(queries.quarantine.leave, [row.id])
    assert (await store.read(queries.quarantine.bodies, limit=100)).rows == []


async def test_prune(store: Store) -> None:
    """What is old goes, in steps; what is pending and whose incident is open stays."""
    await store.accept([incoming(entity=f"e{number}", second=number) for number in range(5)])
    for second in range(4):
        claim = await claim_one(store, second=second)
        assert claim is not None
        await store.record(claim, attempt(Outcome.DELIVERED, second=second))
    assert await store.prune(before=NOW + 10 * SECOND, limit=3) == 0
    await resolve_all(store)
    before = NOW + 10 * SECOND
    assert await store.prune(before=before, limit=3) == 3 + 3
    while await store.prune(before=before, limit=3):
        pass
    (left,) = (await store.read(queries.page.deliveries, state=None, limit=10)).rows
    assert left.notification.entity == "e4"


async def test_prune_everything_in_steps(store: Store) -> None:
    """Resolved incidents and what is in quarantine go in steps as small as the changes'; the new stays."""
    for number in range(3):
        await store.accept([incoming(entity=f"e{number}", second=number)])
        await store.accept([incoming("Degraded", "Healthy", entity=f"e{number}", second=10 + number)])
    for number in range(5):
        at = NOW + number * SECOND
        await store.quarantine(b"%d" % number, signed_at=at, received_at=at, path="", reason="odd")
    before = NOW + 12 * SECOND  # the last incident is resolved then
    steps = [await store.prune(before=before, limit=2) for _ in range(4)]
    assert steps == [2 + 2, 2, 1, 0]  # incidents and bodies; every change has a pending alert
    assert (await store.read(queries.quarantine.bodies, limit=100)).rows == []


async def test_check(store: Store) -> None:
    """A store that works passes the check."""
    await store.check(NOW)


async def test_last_at(store: Store) -> None:
    """The newest time of an entity's changes is known, whichever order they came in; none without any."""
    await store.accept([incoming(second=5), incoming("Degraded", "Crashed", second=2)])
    assert await store.read(queries.changes.last_at, "deploymentConfig", "checkout-prod") == NOW + timedelta(
        seconds=5
    )
    assert await store.read(queries.changes.last_at, "deploymentConfig", "another") is None


async def test_changes(store: Store) -> None:
    """Changes come in the order of arrival, in pages, from a time on and of one blueprint."""
    seconds = (5, 0, 9, 0, 3)
    await store.accept([incoming(entity=f"e{n}", second=second) for n, second in enumerate(seconds)])
    pages: list[list[str]] = []
    last = None
    while page := await store.read(
        queries.changes.history, since=NOW, blueprint="deploymentConfig", after=last, limit=2
    ):
        pages.append([one.entity for one in page])
        last = page[-1]
    assert pages == [["e1", "e3"], ["e4", "e0"], ["e2"]]
    assert last is not None
    assert (last.received_at, last.at, last.alerts) == (NOW + 9 * SECOND, NOW + 9 * SECOND, 1)
    since = NOW + timedelta(seconds=5)
    assert (
        len(await store.read(queries.changes.history, since=since, blueprint=None, after=None, limit=9)) == 2
    )
    assert (
        await store.read(queries.changes.history, since=NOW, blueprint="service", after=None, limit=9) == []
    )


async def test_changes_with_long_bodies(store: Store) -> None:
    """A page of long bodies is shorter, so that a million changes can be read with little memory."""
    body = b"x" * 4 * 1024 * 1024
    await store.accept([replace(incoming(entity=f"e{number}"), body=body) for number in range(6)])
    page = await store.read(queries.changes.history, since=NOW, blueprint=None, after=None, limit=6)
    assert 0 < len(page) < 4


async def test_a_quiet_channels_queue_is_forgotten(store: Store) -> None:
    """One that the catalog names goes with the last of its history, and comes back with its next alert."""
    channel = replace(incoming(), decide=partial(in_queue, "#rocket", incoming()))
    await store.accept([channel, incoming(entity="other", second=1)])
    later = NOW + 100 * SECOND
    await prune_all(store, later)
    assert await names(store) == ["#rocket", "default"]  # it is open
    for claimed in await store.claim(
        token="a", now=NOW, lease_until=NOW + LEASE, limit=9, batch_limits={"default": 9}
    ):
        await store.record(claimed, attempt(Outcome.DELIVERED))
    await resolve_all(store)
    await prune_all(store, NOW + SECOND / 2)
    assert await names(store) == ["#rocket", "default"]  # a moment ago something was sent
    await prune_all(store, later)
    assert await names(store) == ["default"]
    again = incoming(second=200)
    await store.accept([replace(again, decide=partial(in_queue, "#rocket", again))])
    assert await names(store) == ["#rocket", "default"]


def in_queue(name: str, one: Incoming, state: EntityState) -> Decision:
    """Decide that the alerts of a change go into a queue."""
    decision = one.decide(state)
    return replace(decision, alerts=tuple(replace(alert, queue=name) for alert in decision.alerts))


async def prune_all(store: Store, before: datetime) -> None:
    """Delete all that is older than a time."""
    while await store.prune(before=before, limit=10):
        pass


async def names(store: Store) -> list[str]:
    """Return the names of the queues that there are."""
    rows = await store.read(lambda tx: tx.fetch("SELECT name FROM queues ORDER BY name"))
    return [name for (name,) in rows]
