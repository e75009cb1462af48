"""What a fallback gets of a destination on hold, on both databases."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from app.model.delivery import Outcome
from app.model.incident import Route, Step
from app.rules.decide import Decision
from app.store import queries
from app.store.rows import Attempt, Claim, Incoming
from app.store.store import Store
from tests.conftest import NOW
from tests.store.helpers import LEASE, SECOND, attempt, delivered, entities, incoming, sent_to

OPS = {"default": Route("ops", "ops")}
BOTH = OPS | {"ops": Route("default", "default")}


async def take(store: Store, second: int, fallbacks: Mapping[str, Route] = OPS) -> dict[str, Claim]:
    """Claim what is due, by queue; what is on hold goes to the fallbacks."""
    now = NOW + second * SECOND
    limits = {"default": 100, "ops": 100}
    claims = await store.claim(
        token="a", now=now, lease_until=now + LEASE, limit=9, batch_limits=limits, fallbacks=fallbacks
    )
    return {claim.queue: claim for claim in claims}


def on_hold(second: int = 0) -> Attempt:
    """An attempt that puts a queue on hold."""
    return attempt(Outcome.ON_HOLD, second=second, wait=600)


def for_ops(one: Incoming) -> Incoming:
    """A change whose alert is for ops."""
    return in_queue("ops", sent_to("ops", one))


def in_queue(queue: str, one: Incoming) -> Incoming:
    """A change whose alert waits in a queue."""

    def decide(state: object) -> object:
        decision = one.decide(state)  # type: ignore[arg-type]
        return replace(decision, alerts=(replace(decision.alerts[0], queue=queue),))

    return replace(one, decide=decide)  # type: ignore[arg-type]


async def test_the_alerts_themselves_once(store: Store) -> None:
    """The fallback gets what waits and what comes later, marked, each once; in the end the channel does."""
    await store.accept([incoming(entity="one")])
    await store.record((await take(store, 0))["default"], on_hold())
    told = (await take(store, 1))["ops"]
    assert entities(told) == ["one"]
    assert told.deliveries[0].notification.instead == "for default, which is on hold: said"
    await store.record(told, delivered(second=1))
    await store.accept([incoming(entity="two", second=2)])
    told = (await take(store, 3))["ops"]
    assert entities(told) == ["two"]
    (queue, _) = await store.read(queries.page.queues, NOW + 3 * SECOND)
    assert queue.trouble(NOW) == (
        "is on hold: said; ops got alerts that wait here; nobody was told of 1 alert that waits"
    )
    await store.record(told, delivered(second=3))
    assert await take(store, 5) == {}
    await store.release_hold("default", NOW + 6 * SECOND)
    released = (await take(store, 6))["default"]
    assert entities(released) == ["one", "two"]
    assert [one.notification.instead for one in released.deliveries] == ["", ""]
    await store.record(released, delivered(second=6))
    assert await take(store, 8) == {}


async def test_what_rests_in_another_queue_of_it(store: Store) -> None:
    """A destination is on hold, not one of its queues: what another one is to try later is told, too."""
    changes = [incoming(entity="one"), incoming(entity="two")]
    await store.accept([in_queue(f"default/{number}", one) for number, one in enumerate(changes)])
    claims = await take(store, 0)
    await store.record(claims["default/0"], on_hold())
    await store.record(claims["default/1"], attempt(Outcome.RETRY, wait=60))
    told = (await take(store, 1))["ops"]
    assert entities(told) == ["one", "two"]
    await store.record(told, delivered(second=1))
    await store.accept([in_queue("default/2", incoming(entity="three", second=2))])
    assert list(await take(store, 3)) == ["default/2"]  # it may be mended: this one tries it first


async def test_a_channel_of_the_catalog_that_rests(store: Store) -> None:
    """It is a place of its own: what it is to try later is not told to the fallback of a broken one."""
    changes = {"default": incoming(entity="one"), "#team-b": incoming(entity="two")}
    await store.accept([in_queue(queue, one) for queue, one in changes.items()])
    claims = await take(store, 0)
    await store.record(claims["default"], on_hold())
    await store.record(claims["#team-b"], attempt(Outcome.RETRY, wait=60))
    told = (await take(store, 1))["ops"]
    assert entities(told) == ["one"]
    await store.record(told, delivered(second=1))
    await store.record((await take(store, 61))["#team-b"], on_hold())
    (mine,) = (await take(store, 62))["ops"].deliveries
    assert mine.notification.instead == "for #team-b, which is on hold: said"


async def test_what_came_while_it_was_moved(store: Store) -> None:
    """The end of what goes elsewhere goes there, too, though it came after that was claimed."""
    await store.accept([incoming(entity="one"), incoming(entity="two")])
    claimed = (await take(store, 0))["default"]
    await store.accept([
        incoming("Degraded", "Healthy", entity="one", second=1),
        incoming(entity="three", second=1),
    ])  # fmt: skip
    moved = replace(attempt(Outcome.RETRY, second=2, wait=0), elsewhere=Route("ops", "ops", why="archived"))
    await store.record(claimed, moved)
    claims = await take(store, 3)
    assert entities(claims["ops"]) == ["one", "two", "one"]
    assert entities(claims["default"]) == ["three"]


@pytest.mark.parametrize("released", [True, False])
async def test_the_end_too(store: Store, released: bool) -> None:
    """Whoever heard of the beginning hears of the end, though the destination works again by then."""
    await store.accept([incoming(entity="one")])
    await store.record((await take(store, 0))["default"], on_hold())
    await store.record((await take(store, 1))["ops"], delivered(second=1))
    if released:
        await store.release_hold("default", NOW + 2 * SECOND)
        first = (await take(store, 2))["default"]
        await store.record(first, delivered(second=2))
    await store.accept([incoming("Degraded", "Healthy", entity="one", second=4)])
    claims = await take(store, 4)
    assert claims.keys() == ({"default", "ops"} if released else {"ops"})
    (ended,) = claims["ops"].deliveries
    assert ended.notification.step == "resolved"
    for claim in claims.values():
        await store.record(claim, delivered(second=5))
    assert await take(store, 7) == {}


async def test_no_fallback_in_a_circle(store: Store) -> None:
    """Two destinations that are each other's fallback, both on hold: each gets the other's alerts once."""
    await store.accept([incoming(entity="one"), for_ops(incoming(entity="two"))])
    for claim in (await take(store, 0, {})).values():
        await store.record(claim, on_hold())
    for second in range(1, 5):
        assert await take(store, second, BOTH) == {}
    for name in BOTH:
        await store.release_hold(name, NOW + 5 * SECOND)
    claims = await take(store, 5, BOTH)
    assert {name: sorted(entities(claim)) for name, claim in claims.items()} == {
        "default": ["one", "two"],
        "ops": ["one", "two"],
    }


async def test_what_the_fallback_gets_anyway(store: Store) -> None:
    """A rule that sends to both, and steps that the fallback does not take: nothing is copied."""
    one = incoming(entity="one")

    def decide(state: object) -> object:
        decision = one.decide(state)  # type: ignore[arg-type]
        (alert,) = decision.alerts
        return replace(decision, alerts=(alert, replace(alert, destination="ops", queue="ops")))

    await store.accept([replace(one, decide=decide)])  # type: ignore[arg-type]
    claims = await take(store, 0)
    await store.record(claims["default"], on_hold())
    await store.record(claims["ops"], delivered())
    await store.accept([incoming(entity="two", second=1)])
    assert await take(store, 2, {"default": Route("ops", "ops", frozenset())}) == {}


async def test_a_job_as_fallback(store: Store) -> None:
    """It gets how a flapping incident settled, as its end; and nothing twice, in another of its queues."""
    one = incoming("Degraded", "Healthy", entity="one")

    def settled(state: object) -> object:
        (alert,) = one.decide(state).alerts  # type: ignore[arg-type]
        over = alert.notification.but(step=Step.SETTLED, ended=True)
        return Decision("", (replace(alert, notification=over),))

    def both(state: object) -> object:
        (alert,) = incoming(entity="two").decide(state).alerts  # type: ignore[arg-type]
        return Decision("", (alert, replace(alert, destination="ops", queue="ops/5")))

    job = {"default": Route("ops", "ops/1", frozenset({Step.OPENED, Step.RESOLVED}))}
    await store.accept([replace(one, decide=settled)])  # type: ignore[arg-type]
    await store.record((await take(store, 0))["default"], on_hold())
    told = (await take(store, 1, job))["ops/1"]
    assert [delivery.notification.step for delivery in told.deliveries] == [Step.SETTLED]
    await store.record(told, delivered(second=1))
    await store.accept([replace(incoming(entity="two", second=2), decide=both)])  # type: ignore[arg-type]
    assert (await take(store, 3, job)).keys() == {"ops/5"}


@pytest.mark.parametrize("both", [True, False])
async def test_a_reminder_comes_once(store: Store, both: bool) -> None:
    """Whom the rule reminds itself gets no copy of another place's reminder; who is not reminded gets it."""
    one, again = incoming(entity="one"), 60 * SECOND

    def decide(state: object) -> object:
        decision = one.decide(state)  # type: ignore[arg-type]
        (alert,) = decision.alerts
        places = ("default", "ops") if both else ("default",)
        alerts = [replace(alert, destination=name, queue=name) for name in places]
        about = alert.notification.but(step=Step.REMINDED)
        later = [replace(each, notification=about, due_at=NOW + again, repeat=again) for each in alerts]
        return replace(decision, alerts=(*alerts, *later))

    await store.accept([replace(one, decide=decide)])  # type: ignore[arg-type]
    for at in (0, 60):  # ops is reminded a second later than the channel, each time
        claims = await take(store, at, {})
        for late, name in enumerate(claims):
            await store.record(claims[name], delivered(second=at + late))
    claimed = (await take(store, 120, {}))["default"]
    await store.record(claimed, on_hold(120))
    told = []
    for second in range(121, 126):
        for claimed in (await take(store, second)).values():
            told += [each.notification.step for each in claimed.deliveries]
            await store.record(claimed, delivered(second=second))
    assert told == [Step.REMINDED]
