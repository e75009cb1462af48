"""What a store keeps of digests, messages in channels, and queues on hold: one suite for both databases."""

from dataclasses import replace
from datetime import timedelta

from app.model.delivery import Alert, Outcome, State
from app.model.incident import Step
from app.model.notification import Message, Notification
from app.store import queries
from app.store.queue_state import QueueState
from app.store.rows import Aside, Incoming
from app.store.store import Store
from tests.conftest import NOW
from tests.store.helpers import LEASE, SECOND, attempt, claim, claims, delivered, entities, incoming, sent_to

POSTED = Message("C0123456789", "1780000000.000100")
LATER = Message("C0123456789", "1780000060.000200")


async def test_as_many_as_the_destination_takes(store: Store) -> None:
    """A claim has what waits, in order, as many as it takes at once, and says how many there are."""
    await store.accept([incoming(entity=f"e{number}") for number in range(5)])
    claimed = await claim(store, at_once=3)
    assert (entities(claimed), claimed.waiting) == (["e0", "e1", "e2"], 5)
    rest = await store.waiting(claimed, after=claimed.deliveries[-1].id, limit=1)
    assert [one.notification.entity for one in rest] == ["e3"]
    last = await store.waiting(claimed, after=rest[-1].id, limit=9)
    assert [one.notification.entity for one in last] == ["e4"]
    await store.record(claimed, delivered())
    assert entities(await claim(store, second=2)) == ["e3", "e4"]


async def test_only_what_was_told_is_delivered(store: Store) -> None:
    """What had no room in the message waits for the next; each that was told has its attempt."""
    await store.accept([incoming(entity=f"e{number}") for number in range(3)])
    claimed = await claim(store)
    told = [claimed.deliveries[0].id, claimed.deliveries[2].id]
    await store.record(claimed, delivered(delivery_ids=told))
    assert entities(await claim(store, second=2)) == ["e1"]
    rows = {
        row.notification.entity: row
        for row in (await store.read(queries.page.deliveries, state=None, limit=9)).rows
    }
    assert [rows[f"e{number}"].attempts for number in range(3)] == [1, 0, 1]


async def test_the_body_of_a_change(store: Store) -> None:
    """A claim has the first one's; each other can be had by the change's key."""
    first, second = incoming(entity="e0"), incoming(entity="e1")
    await store.accept([first, second])
    claimed = await claim(store)
    assert claimed.body == first.body
    assert await store.body(claimed.deliveries[1].change_key) == second.body
    assert await store.body("unknown") is None


async def test_a_lapsed_lease_leaves_doubt(store: Store) -> None:
    """Whoever held the queue may have sent: the next is told since when, until an attempt is sure."""
    await store.accept([incoming()])
    assert (await claim(store)).unsure_since is None
    after = int(LEASE.total_seconds()) + 1
    again = await claim(store, second=after)
    assert again.unsure_since == NOW
    await store.record(again, replace(attempt(Outcome.RETRY, second=after), unsure=True))
    third = await claim(store, second=after + 2)
    assert third.unsure_since == NOW
    await store.record(third, attempt(Outcome.RETRY, second=after + 2))
    assert (await claim(store, second=after + 4)).unsure_since is None


async def test_a_lease_that_is_given_back(store: Store) -> None:
    """It leaves no doubt, unless something was being sent."""
    await store.accept([incoming()])
    await store.give_back(await claim(store))
    again = await claim(store, second=1)
    assert again.unsure_since is None
    await store.give_back(again, unsure=True)
    assert (await claim(store, second=2)).unsure_since == NOW + SECOND


async def test_an_incident_has_one_message_in_a_channel(store: Store) -> None:
    """The first message is the incident's; what changes later answers to it, and has it changed, once."""
    await store.accept([incoming()])
    first = await claim(store)
    assert first.deliveries[0].parent is None
    await store.record(first, replace(delivered(), message=POSTED))
    await store.accept([incoming("Degraded", "Crashed", second=5), incoming("Crashed", "Degraded", second=6)])
    reply = await claim(store, second=7)
    assert [one.parent for one in reply.deliveries] == [POSTED, POSTED]
    await store.record(reply, delivered(second=7))
    update = await claim(store, second=9)
    assert (update.queue, update.message) == ("default/updates", POSTED)
    (story,) = update.stories
    assert [one.change and one.change.after for one in story[:2]] == ["Degraded", "Degraded"]
    assert story[1].at == NOW + 6 * SECOND
    await store.record(update, delivered(second=9))
    assert await claims(store, second=60) == []
    assert (
        len((await store.read(queries.page.deliveries, state=None, limit=9)).rows) == 3
    )  # the update is no alert
    assert (await store.read(queries.counts.by_state))[State.DELIVERED] == 3


async def test_a_change_while_the_message_is_being_changed(store: Store) -> None:
    """What was told while an update was on its way is not in it: the message is changed once more."""
    await store.accept([incoming()])
    await store.record(await claim(store), replace(delivered(), message=POSTED))
    await store.accept([incoming("Degraded", "Crashed", second=5)])
    await store.record(await claim(store, second=6), delivered(second=6))
    on_its_way = await claim(store, second=8)
    for second, before, after in ((9, "Crashed", "Degraded"), (11, "Degraded", "Healthy")):
        await store.accept([incoming(before, after, second=second)])
        await store.record(await claim(store, second=second), delivered(second=second))
    await store.record(on_its_way, delivered(second=12))
    update = await claim(store, second=13)
    assert (update.message, [last.step for _, last, _ in update.stories]) == (POSTED, [Step.RESOLVED])
    await store.record(update, delivered(second=13))
    assert await claims(store, second=60) == []


async def test_a_digest_is_the_message_of_all_its_incidents(store: Store) -> None:
    """Whichever of them changes, the digest is changed; one that had a message keeps it."""
    await store.accept([incoming(entity="old")])
    first = await claim(store)
    await store.record(first, replace(delivered(), message=POSTED))
    await store.accept([
        incoming(entity="new", second=5),
        incoming("Degraded", "Crashed", entity="old", second=5),
    ])  # fmt: skip
    digest = await claim(store, second=6)
    await store.record(digest, replace(delivered(second=6), message=LATER))
    update = await claim(store, second=8)
    assert (update.message, len(update.stories)) == (POSTED, 1)
    await store.record(update, delivered(second=8))
    await store.accept([incoming("Degraded", "Healthy", entity="new", second=10)])
    resolved = await claim(store, second=11)
    assert resolved.deliveries[0].parent == LATER
    await store.record(resolved, delivered(second=11))
    update = await claim(store, second=13)
    assert (update.message, [last.step for _, last, _ in update.stories]) == (LATER, [Step.RESOLVED])


async def test_a_message_that_is_gone(store: Store) -> None:
    """Nobody answers to it or changes it any more, and the next alert may be the incident's message."""
    await store.accept([incoming()])
    first = await claim(store)
    await store.record(first, replace(delivered(), message=POSTED))
    await store.accept([incoming("Degraded", "Crashed", second=5)])
    second = await claim(store, second=6)
    await store.record(second, replace(delivered(second=6), message=LATER, gone=POSTED))
    assert await claims(store, second=60) == []
    await store.accept([incoming("Crashed", "Degraded", second=65)])
    third = await claim(store, second=66)
    assert third.deliveries[0].parent == LATER
    await store.record(third, delivered(second=66))
    update = await claim(store, second=68)
    await store.record(update, replace(delivered(second=68), gone=LATER))
    await store.accept([incoming("Degraded", "Crashed", second=70)])
    assert (await claim(store, second=71)).deliveries[0].parent is None


async def test_a_message_in_another_channel(store: Store) -> None:
    """When the destination's channel was changed, it goes on in the new one; both messages show it."""
    await store.accept([incoming()])
    await store.record(await claim(store), replace(delivered(), message=POSTED))
    moved = Message("C9999999999", "1780000060.000200")
    await store.accept([incoming("Degraded", "Crashed", second=5)])
    await store.record(await claim(store, second=6), replace(delivered(second=6), message=moved))
    await store.accept([incoming("Crashed", "Degraded", second=9)])
    left, reply = sorted(await claims(store, second=10), key=lambda one: one.queue, reverse=True)
    assert left.message == POSTED
    assert [one.parent for one in reply.deliveries] == [moved]
    await store.record(left, delivered(second=10))
    await store.record(reply, delivered(second=10))
    updated = []
    for second in (12, 14):
        update = await claim(store, second=second)
        updated.append((update.message, update.stories[0][1].at))
        await store.record(update, delivered(second=second))
    assert updated == [(POSTED, NOW + 9 * SECOND), (moved, NOW + 9 * SECOND)]


def reminding(number: int) -> Incoming:
    """Return a change of which so many reminders are due after a minute, and after each further one."""
    one = incoming()

    def decide(state: object) -> object:
        decision = one.decide(state)  # type: ignore[arg-type]
        due_at, alert = NOW + 60 * SECOND, decision.alerts[0]
        alerts = (replace(alert, due_at=due_at, repeat=timedelta(minutes=1)),) * number
        return replace(decision, alerts=alerts)

    return replace(one, decide=decide)  # type: ignore[arg-type]


async def test_a_reminder_that_is_given_up(store: Store) -> None:
    """It is not the last one: the incident is open, and Slack may be back by then."""
    await store.accept([reminding(1)])
    await store.record(await claim(store, second=60), attempt(Outcome.DEAD, second=60))
    assert await claims(store, second=119) == []
    assert entities(await claim(store, second=120)) == ["checkout-prod"]


async def test_a_reminder_goes_on_once(store: Store) -> None:
    """When a reminder was told, one more is due after its time, however often it is recorded."""
    await store.accept([reminding(2)])
    claimed = await claim(store, second=60)
    assert len(claimed.deliveries) == 2
    await store.record(claimed, delivered(second=60))
    assert len((await claim(store, second=120)).deliveries) == 1


async def test_what_is_not_sent(store: Store) -> None:
    """It is recorded with its reason, and the queue goes on; a queue of nothing else stays as it is."""
    await store.accept([incoming(entity="quiet"), incoming(entity="stale"), incoming(entity="loud")])
    claimed = await claim(store)
    quiet, stale, loud = (one.id for one in claimed.deliveries)
    asides = {
        quiet: Aside(Outcome.SILENCED, "silence 1, by ada", 1),
        stale: Aside(Outcome.DEAD, "its rule is no longer there"),
    }
    await store.record(
        claimed, replace(attempt(Outcome.ON_HOLD, wait=60), delivery_ids=[loud], asides=asides)
    )
    rows = (await store.read(queries.page.deliveries, state=None, limit=9)).rows
    assert [(row.state, row.detail) for row in rows] == [
        (State.ON_HOLD, "said"),
        (State.DEAD, "its rule is no longer there"),
        (State.SILENCED, "silence 1, by ada"),
    ]
    probe = await claim(store, second=60)
    asides = {loud: Aside(Outcome.SILENCED, "silence 1, by ada", 1)}
    await store.record(probe, replace(attempt(Outcome.SILENCED, second=60), delivery_ids=(), asides=asides))
    (queue,) = await store.read(queries.page.queues, NOW + 60 * SECOND)
    assert (queue.on_hold, queue.waiting) == ("said", 0)


async def test_the_fallback_hears_once(store: Store) -> None:
    """Of a destination with several queues the fallback is alerted once, and once more each time."""
    one = incoming()

    def twice(state: object) -> object:
        decision = one.decide(state)  # type: ignore[arg-type]
        queues = (replace(decision.alerts[0], queue=f"default/{number}") for number in range(2))
        return replace(decision, alerts=tuple(queues))

    notice = Alert("ops", "ops", Notification.notice("Destination default is on hold", NOW))
    await store.accept([replace(one, decide=twice)])  # type: ignore[arg-type]
    for claimed in await claims(store):
        await store.record(claimed, replace(attempt(Outcome.ON_HOLD, wait=600), notice=notice))
    (heard,) = await claims(store, second=1)
    assert (heard.destination, heard.deliveries[0].notification.title) == (
        "ops",
        "Destination default is on hold",
    )
    await store.record(heard, attempt(Outcome.DELIVERED, second=1))
    assert await store.release_hold("default", NOW + 2 * SECOND) == 2
    assert await store.release_hold("default", NOW + 2 * SECOND) == 0
    again, other = await claims(store, second=2)
    assert not again.on_hold
    assert again.deliveries[0].waiting_since == NOW + 2 * SECOND
    await store.record(other, attempt(Outcome.DELIVERED, second=2))
    await store.record(again, replace(attempt(Outcome.ON_HOLD, second=2, wait=600), notice=notice))
    (heard,) = await claims(store, second=3)
    assert heard.destination == "ops"


async def test_a_destination_that_is_gone_blocks_no_other(store: Store) -> None:
    """What waits for another name of the channel goes out before what waits for one that is not there."""
    await store.accept([sent_to("gone", incoming(entity="first")), incoming(entity="second")])
    claimed = await claim(store)
    assert (claimed.destination, entities(claimed)) == ("default", ["second"])
    await store.record(claimed, delivered())
    claimed = await claim(store, second=2)
    assert (claimed.destination, entities(claimed)) == ("gone", ["first"])


async def test_queues(store: Store) -> None:
    """Each queue says how many wait since when, and when something was delivered last."""
    await store.accept([incoming(), incoming(entity="other", second=5)])
    (queue,) = await store.read(queries.page.queues, NOW + 6 * SECOND)
    assert queue == QueueState("default", "default", 2, NOW, None, 0, queue.next_at, None)
    claimed = await claim(store, at_once=1)
    await store.record(claimed, attempt(Outcome.DELIVERED, second=7))
    (queue,) = await store.read(queries.page.queues, NOW + 8 * SECOND)
    assert (queue.waiting, queue.oldest_at, queue.delivered_at) == (1, NOW + 5 * SECOND, NOW + 7 * SECOND)


async def test_dead_letters_are_chosen(store: Store) -> None:
    """By rule, destination and time; what is retried keeps its history."""
    await store.accept([incoming(entity="early"), incoming(entity="late", second=50)])
    for second in (0, 60):
        claimed = await claim(store, second=second, at_once=1)
        await store.record(claimed, attempt(Outcome.DEAD, second=second))
    now = NOW + 100 * SECOND
    assert await store.retry(now=now, rule="another") == 0
    assert await store.retry(now=now, destination="another") == 0
    assert await store.retry(now=now, rule="health", destination="default", since=NOW + 30 * SECOND) == 1
    claimed = await claim(store, second=100)
    assert entities(claimed) == ["late"]
    await store.record(claimed, delivered(second=100))
    rows = (await store.read(queries.page.deliveries, state=State.DELIVERED, limit=9)).rows
    assert [(row.notification.entity, row.attempts) for row in rows] == [("late", 2)]
