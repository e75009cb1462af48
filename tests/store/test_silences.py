"""Silences, and what is told when they end: one suite for every store."""

from dataclasses import replace
from datetime import datetime

import pytest

from app.model.delivery import Alert, Outcome, State
from app.model.incident import Step
from app.model.notification import Notification
from app.model.silence import Silence, silence_of
from app.store import queries
from app.store.rows import Aside
from app.store.store import Store
from tests.conftest import NOW
from tests.store.helpers import SECOND, attempt, claim, claims, delivered, entities, incoming

SILENCE = Silence("*", "*", "e*", "*", NOW, NOW + 100 * SECOND, "ada", "deploy")


async def keep_back(store: Store, *, second: int) -> None:
    """Let what is due and silenced be kept back."""
    for claimed in await claims(store, second=second):
        covered = {
            delivery.id: silence_of(delivery.notification, claimed.silences)
            for delivery in claimed.deliveries
        }
        assert all(covered.values())
        asides = {
            number: Aside(Outcome.SILENCED, "silenced", one.id) for number, one in covered.items() if one
        }
        await store.record(
            claimed, replace(attempt(Outcome.SILENCED, second=second), delivery_ids=(), asides=asides)
        )


async def test_added_listed_ended(store: Store) -> None:
    """A silence has a number, is listed until it ends, and can be ended before, once."""
    number = await store.write(queries.silences.add, SILENCE)
    later = await store.write(queries.silences.add, replace(SILENCE, starts_at=NOW + 50 * SECOND))
    assert await store.read(queries.silences.silences, active_at=NOW + SECOND) == [
        replace(SILENCE, id=later, starts_at=NOW + 50 * SECOND),
        replace(SILENCE, id=number),
    ]
    assert await store.write(queries.silences.end, number, NOW + 10 * SECOND)
    assert not await store.write(queries.silences.end, number, NOW + 11 * SECOND)
    assert not await store.write(queries.silences.end, 999, NOW)
    assert [one.id for one in await store.read(queries.silences.silences, active_at=NOW + 10 * SECOND)] == [
        later
    ]
    assert len(await store.read(queries.silences.silences, active_at=None)) == 2


async def test_a_claim_has_the_silences_of_its_moment(store: Store) -> None:
    """Those that have begun and not ended."""
    await store.accept([incoming()])
    number = await store.write(
        queries.silences.add, replace(SILENCE, starts_at=NOW + 5 * SECOND, ends_at=NOW + 50 * SECOND)
    )
    for second, silenced in ((4, []), (5, [number]), (49, [number]), (50, [])):
        claimed = await claim(store, second=second)
        assert [one.id for one in claimed.silences] == silenced
        await store.give_back(claimed)


async def test_what_is_still_open_is_told_once(store: Store) -> None:
    """When it ends, each incident that is open is told as a reminder of its last state; what ended is not."""
    number = await store.write(queries.silences.add, SILENCE)
    await store.accept([
        incoming(entity="e-open"),
        incoming("Degraded", "Crashed", entity="e-open", second=5),
        incoming(entity="e-over"),
        incoming("Degraded", "Healthy", entity="e-over", second=5),
    ])  # fmt: skip
    await keep_back(store, second=6)
    assert (await store.read(queries.counts.by_state))[State.SILENCED] == 4
    assert [one.silenced for one in await store.read(queries.silences.silences, active_at=NOW)] == [4]
    assert await claims(store, second=99) == []
    told = await claim(store, second=100)
    (one,) = told.deliveries
    assert (one.notification.entity, one.notification.step) == ("e-open", Step.REMINDED)
    assert one.notification.change is not None
    assert one.notification.change.after == "Crashed"
    assert one.notification.at == NOW + 100 * SECOND
    assert one.notification.opened_at == NOW
    await store.record(told, delivered(second=100))
    assert await claims(store, second=500) == []
    assert number not in {
        silence.id for silence in await store.read(queries.silences.silences, active_at=NOW + 100 * SECOND)
    }


async def test_what_was_told_meanwhile_is_not_told_again(store: Store) -> None:
    """An alert after the silenced one that went out has said how it is."""
    number = await store.write(queries.silences.add, SILENCE)
    await store.accept([incoming(entity="e1")])
    await keep_back(store, second=1)
    await store.accept([incoming("Degraded", "Crashed", entity="e1", second=5)])
    claimed = await claim(store, second=6)
    await store.record(claimed, delivered(second=6))
    await store.write(queries.silences.end, number, NOW + 10 * SECOND)
    assert await claims(store, second=11) == []


@pytest.mark.parametrize("hours", [None, ("office", NOW + 100 * SECOND)])
async def test_an_end_just_after_the_silence(store: Store, hours: tuple[str, datetime] | None) -> None:
    """Before what was silenced, or held, is looked at again: who was told of no trouble is told of no end."""
    await store.write(queries.silences.add, SILENCE)
    await store.accept([incoming(entity="e-told")])
    await store.record(await claim(store, second=-1), delivered(second=-1))
    await store.accept([incoming(entity="e1"), incoming("Degraded", "Crashed", entity="e-told", second=1)])
    claimed = await claim(store, second=2)
    number = None if hours else claimed.silences[0].id
    asides = {one.id: Aside(Outcome.SILENCED, "kept", number, hours=hours) for one in claimed.deliveries}
    assert len(asides) == 2
    await store.record(claimed, replace(attempt(Outcome.SILENCED, second=2), delivery_ids=(), asides=asides))
    await store.accept([
        incoming("Degraded", "Healthy", entity="e1", second=101),
        incoming("Crashed", "Healthy", entity="e-told", second=101),
    ])  # fmt: skip
    told = await claim(store, second=102)
    assert entities(told) == ["e-told"]
    await store.record(told, delivered(second=102))
    assert await claims(store, second=999) == []
    assert (await store.read(queries.counts.by_state))[State.SILENCED] == 3


@pytest.mark.parametrize("ends_at", [5, 101])
@pytest.mark.parametrize("sent_at", [None, NOW])
async def test_the_end_of_what_may_have_arrived(
    store: Store, sent_at: datetime | None, *, ends_at: int
) -> None:
    """Who may have been told of the trouble, before it was silenced, is told its end."""
    await store.write(queries.silences.add, SILENCE)
    await store.accept([incoming(entity="e1")])
    claimed = await claim(store, second=1)
    aside = Aside(Outcome.SILENCED, "kept", claimed.silences[0].id, sent_at=sent_at)
    asides = {claimed.deliveries[0].id: aside}
    await store.record(claimed, replace(attempt(Outcome.SILENCED, second=2), delivery_ids=(), asides=asides))
    await store.accept([incoming("Degraded", "Healthy", entity="e1", second=ends_at)])
    if ends_at < 100:
        await keep_back(store, second=6)
    told = [one.notification.step for taken in await claims(store, second=102) for one in taken.deliveries]
    assert told == ([Step.RESOLVED] if sent_at else [])


@pytest.mark.parametrize("again", [False, True])
async def test_an_end_that_may_have_arrived(store: Store, *, again: bool) -> None:
    """Nobody knows whether it did: who was told of the trouble is told its end once more, and not never."""
    await store.accept([incoming(entity="e1")])
    await store.record(await claim(store, second=1), delivered(second=1))
    await store.write(queries.silences.add, SILENCE)
    await store.accept([incoming("Degraded", "Healthy", entity="e1", second=2)])
    claimed = await claim(store, second=3)
    aside = Aside(Outcome.SILENCED, "kept", claimed.silences[0].id, sent_at=NOW)
    asides = {claimed.deliveries[0].id: aside}
    await store.record(claimed, replace(attempt(Outcome.SILENCED, second=3), delivery_ids=(), asides=asides))
    if again:
        await store.accept([
            incoming(entity="e1", second=4),
            incoming("Degraded", "Healthy", entity="e1", second=5),
        ])  # fmt: skip
        await keep_back(store, second=6)
    told = [one.notification.step for taken in await claims(store, second=102) for one in taken.deliveries]
    assert told == [Step.RESOLVED]


async def test_an_end_and_a_new_beginning_just_after_the_silence(store: Store) -> None:
    """The first end is that of no trouble that was told; what came after it is told whole."""
    await store.write(queries.silences.add, SILENCE)
    await store.accept([incoming(entity="e1")])
    await keep_back(store, second=1)
    loads = [("Degraded", "Healthy"), ("Healthy", "Crashed"), ("Crashed", "Healthy")]
    await store.accept([incoming(*load, entity="e1", second=101 + at) for at, load in enumerate(loads)])
    told = [one.notification for one in (await claim(store, second=105)).deliveries]
    assert [(alert.step, alert.change.after if alert.change else None) for alert in told] == [
        (Step.OPENED, "Crashed"),
        (Step.RESOLVED, "Healthy"),
    ]


async def test_a_silence_after_a_silence(store: Store) -> None:
    """What a second silence covers waits for that one's end."""
    first = await store.write(queries.silences.add, SILENCE)
    await store.accept([incoming(entity="e1")])
    await keep_back(store, second=1)
    await store.write(queries.silences.add, replace(SILENCE, ends_at=NOW + 300 * SECOND))
    await store.write(queries.silences.end, first, NOW + 50 * SECOND)
    await keep_back(store, second=50)
    assert await claims(store, second=299) == []
    assert entities(await claim(store, second=300)) == ["e1"]


async def test_a_silence_that_ends_while_its_alerts_are_looked_at(store: Store) -> None:
    """What it would have kept back when it had ended and was settled already is told: nobody would later."""
    await store.write(queries.silences.add, replace(SILENCE, ends_at=NOW + 20 * SECOND))
    await store.accept([incoming(entity="e1")])
    claimed = await claim(store, second=19)
    assert await claims(store, second=20, token="another") == []
    asides = {claimed.deliveries[0].id: Aside(Outcome.SILENCED, "silenced", claimed.silences[0].id)}
    await store.record(claimed, replace(attempt(Outcome.SILENCED, second=21), delivery_ids=(), asides=asides))
    told = await claim(store, second=22)
    assert entities(told) == ["e1"]
    await store.record(told, delivered(second=22))
    assert [one.silenced for one in await store.read(queries.silences.silences, active_at=None)] == [0]


async def test_what_is_silenced_is_not_pruned(store: Store) -> None:
    """As long as it may have to be told."""
    await store.write(queries.silences.add, SILENCE)
    await store.accept([incoming(entity="e1")])
    await keep_back(store, second=1)
    assert await store.prune(before=NOW + 50 * SECOND, limit=9) == 0
    told = await claim(store, second=100)
    await store.record(told, delivered(second=100))
    assert await store.prune(before=NOW + 150 * SECOND, limit=9) == 0  # it is still open
    await store.accept([incoming("Degraded", "Healthy", entity="e1", second=101)])
    await store.record(await claim(store, second=102), delivered(second=102))
    assert await store.prune(before=NOW + 150 * SECOND, limit=9) == 3


async def test_when_something_is_due_next(store: Store) -> None:
    """Once a queue may send again, or a silence ends, what is first; not what is due now."""
    assert await store.read(queries.queues.next_due, NOW) is None
    await store.write(queries.silences.add, SILENCE)
    await store.accept([incoming()])
    assert await store.read(queries.queues.next_due, NOW + SECOND) == SILENCE.ends_at
    claimed = await claim(store, second=1)
    await store.record(claimed, attempt(Outcome.RETRY, second=2))
    due = await store.read(queries.queues.next_due, NOW + SECOND)
    assert due is not None
    assert NOW + SECOND < due < SILENCE.ends_at


async def test_what_is_told_once(store: Store) -> None:
    """A notice about a rule is written once, and again only when some time has passed."""
    await store.accept([incoming()])
    key = (await store.read(queries.changes.history, since=NOW, after=None, limit=1))[0].key

    async def tell(text: str, *, second: int) -> bool:
        at = NOW + second * SECOND
        notice = Alert("ops", "ops", Notification.notice(text, at, rule="cpu"))
        times = {"since": at - 100 * SECOND, "now": at}
        return await store.write(
            queries.deliveries.tell_once, [notice], change_key=key, begins=text[:4], **times
        )

    told = [await tell(text, second=second) for text, second in (("it x", 1), ("it x", 2), ("so x", 3))]
    assert told == [True, False, True]
    assert not await tell("it x", second=100)
