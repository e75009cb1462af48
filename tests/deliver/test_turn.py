"""What is sent of that which waits, and what is recorded of it: over a real store."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.deliver.load import load_claim
from app.deliver.message import Messages
from app.deliver.retry import GIVE_UP_AFTER
from app.deliver.update import update_message
from app.errors import DeliveryFailed, MessageGone, Scope, StoreUnavailable
from app.jq.runner import Jq
from app.model.delivery import Outcome, State
from app.model.incident import Route, Step
from app.model.notification import Message
from app.model.silence import ANY, Silence
from app.model.times import Micros
from app.notifier.base import SEND_TIMEOUT, Parcel, Sent, Story
from app.rules.kin.affected import Affected
from app.rules.last_known import LastKnown
from app.rules.rule import BUILT_IN, Rule, RuleSet
from app.store import queries
from app.store.kin.shown import affected
from app.store.rows import MAX_SUMMED_UP, Claim, Waiting
from app.store.sqlite.database import open_sqlite
from app.store.store import Store
from tests.conftest import NOW
from tests.deliver.helpers import DEAD, ON_HOLD, PAUSE, TRANSIENT, Rig, ScriptedNotifier
from tests.notifier.helpers import notification
from tests.store.family import SERVICE, Catalog
from tests.store.helpers import LEASE, incoming, sent_to
from tests.waiting import until

POSTED = Message("C0123456789", "1780000000.000001")
SILENCE = Silence("*", "*", "quiet*", "*", NOW, NOW + timedelta(hours=1), "ada", "deploy")


class Channel(ScriptedNotifier):
    """Takes many alerts at once; its messages can be found and changed. It obeys its script, as any does."""

    batch_limit = 1000

    def __init__(self) -> None:
        super().__init__()
        self.parcels: list[Parcel] = []
        self.fits = 1000
        self.found: Sent | None = None
        self.asked: list[datetime] = []
        self.updates: list[tuple[Message, list[Story]]] = []
        self.update_script: list[Exception] = []
        self.gone = False
        self.posted = 0
        self.cannot = ""

    async def send(self, parcel: Parcel) -> Sent:
        if self.cannot in {item.notification.entity for item in parcel.items}:
            raise ValueError("a fault")
        self.parcels.append(parcel)
        await super().send(parcel)
        shown = frozenset(item.delivery_id for item in parcel.items[: self.fits])
        parent = parcel.items[0].parent
        self.posted += not parent
        message = replace(POSTED, ts=f"1780000000.{self.posted:06}")
        return Sent("ok", None if parcel.more else shown, None if parent else message)

    async def find(self, _: Parcel, since: datetime) -> Sent | None:
        self.asked.append(since)
        return self.found

    async def update(self, message: Message, stories: Sequence[Story]) -> str:
        if self.gone:
            raise MessageGone("message_not_found")
        if self.update_script:
            raise self.update_script.pop(0)
        self.updates.append((message, list(stories)))
        return "ok"

    async def permalink(self, _: Message) -> None:
        return None


class Jobs(ScriptedNotifier):
    """Takes many at once; its receiver knows them by what is in the request."""

    batch_limit, repeats_alike = 9, True

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[list[str]] = []
        self.together: list[tuple[str, ...]] = []

    async def send(self, parcel: Parcel) -> Sent:
        self.together.append(parcel.together)
        self.sent.append([item.notification.entity for item in parcel.items])
        return await super().send(parcel)


class ChannelRig(Rig):
    """A dispatcher for a channel, with a fallback for it."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.channel = Channel()
        self.ops = ScriptedNotifier()
        self.sender.replace({"default": self.channel, "ops": self.ops})
        self.sender.fallbacks = {"default": Route("ops", "ops")}

    def sizes(self) -> list[int]:
        """Return how many alerts each message told of."""
        return [len(parcel.items) for parcel in self.channel.parcels]

    async def states(self) -> dict[str, State]:
        """Return each entity's delivery's state."""
        rows = (await self.store.read(queries.page.deliveries, state=None, limit=5000)).rows
        return {row.notification.entity: row.state for row in rows}


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[ChannelRig]:
    """A dispatcher over an empty store; its loop does not run yet."""
    store = open_sqlite(tmp_path / "listener.db")
    yield ChannelRig(store)
    await store.close()


async def test_what_waits_goes_out_together(rig: ChannelRig) -> None:
    """The first alert leaves at once and alone; what came meanwhile is one message."""
    await rig.add("one")
    async with rig.running():
        await rig.attempts(1)
        await rig.add("two", "three", "four")
        await rig.nothing_more()
        rig.move(PAUSE)
        await rig.attempts(4)
    assert rig.sizes() == [1, 3]


async def test_what_does_not_fit_waits_for_the_next(rig: ChannelRig) -> None:
    """Nothing is counted as told that the message had no room for."""
    rig.channel.fits = 2
    await rig.add(*"abcde")
    async with rig.running():
        for number in (2, 4, 5):
            await rig.attempts(number)
            rig.move(PAUSE)
    assert rig.sizes() == [5, 3, 1]


async def test_a_refused_digest_goes_out_piece_by_piece(rig: ChannelRig) -> None:
    """When many together are refused the first goes alone: one at fault is dead, all others are told."""
    rig.channel.script = [DEAD, DEAD, DEAD]  # the three together, the first alone; then the two together
    await rig.add("bad", "good", "better")
    async with rig.running():
        await rig.attempts(1)
        rig.move(PAUSE)
        await rig.attempts(2)
        rig.move(PAUSE)
        await rig.attempts(3)
    assert rig.sizes() == [3, 1, 2, 1, 1]
    assert await rig.states() == {
        "bad": State.DEAD,
        "good": State.DELIVERED,
        "better": State.DELIVERED,
    }


async def test_what_may_have_arrived_is_repeated_alike(rig: ChannelRig) -> None:
    """Where the receiver knows a repeat by what is in it, nothing joins it, and nothing is left behind."""
    jobs = Jobs()
    rig.sender.replace({"default": jobs})
    jobs.script = [DeliveryFailed("no answer", Scope.TRANSIENT, unsure=True), TRANSIENT]
    await rig.add("one", "two")
    async with rig.running():
        await rig.attempts(1)
        await rig.add("three")
        for attempts, span in ((2, 2), (4, 5)):
            rig.move(timedelta(minutes=span))
            await rig.attempts(attempts)
        rig.move(PAUSE)
        await rig.attempts(5)
    assert jobs.sent == [["one", "two"]] * 3 + [["three"]]


async def test_after_a_kill_it_is_repeated_alike(rig: ChannelRig) -> None:
    """What goes out together is written down before it is sent; without a lease nothing is."""
    jobs = Jobs()
    rig.sender.replace({"default": jobs})
    await rig.add("one", "two")
    facts: dict[str, Any] = {"limit": 1, "batch_limits": {"default": 9}}
    (first,) = await rig.store.claim(token="dead", now=NOW, lease_until=NOW + LEASE, **facts)
    assert await rig.sender.attempt(first)  # and nobody could write down what came of it
    await rig.add("three")
    rig.clock.now += LEASE
    (again,) = await rig.store.claim(token="a", now=rig.clock.now, lease_until=rig.clock.now + LEASE, **facts)
    assert again.unsure_since
    assert await rig.sender.attempt(again)
    assert await rig.sender.attempt(replace(again, token="another")) is None
    assert jobs.sent == [["one", "two"]] * 2


async def test_what_is_repeated_without_what_is_silenced_since(rig: ChannelRig) -> None:
    """Its receiver knows the repeat by what it was first sent with."""
    jobs = Jobs()
    rig.sender.replace({"default": jobs})
    await rig.add("one", "two")
    facts: dict[str, Any] = {"limit": 1, "batch_limits": {"default": 9}}
    (first,) = await rig.store.claim(token="dead", now=NOW, lease_until=NOW + LEASE, **facts)
    assert await rig.sender.attempt(first)  # and nobody could write down what came of it
    rig.clock.now += LEASE
    silence = Silence(ANY, ANY, "two", ANY, NOW, rig.clock.now + LEASE, "A", "")
    await rig.store.write(queries.silences.add, silence)
    (again,) = await rig.store.claim(token="a", now=rig.clock.now, lease_until=rig.clock.now + LEASE, **facts)
    assert await rig.sender.attempt(again)
    assert jobs.sent == [["one", "two"], ["one"]]
    assert jobs.together == [tuple(one.key for one in first.deliveries)] * 2


async def test_what_may_have_arrived_and_is_silenced_since(rig: ChannelRig) -> None:
    """It is noted, of what was sent alone: what waits behind it was not."""
    job = ScriptedNotifier()
    job.script = [DeliveryFailed("no answer", Scope.TRANSIENT, unsure=True, known_again=True)]
    rig.sender.replace({"default": job})
    await rig.add("one", "two")
    facts: dict[str, Any] = {"token": "a", "limit": 1, "batch_limits": {"default": 1}}
    (first,) = await rig.store.claim(now=NOW, lease_until=NOW + LEASE, **facts)
    failed = await rig.sender.attempt(first)
    assert failed is not None
    assert (failed.unsure, failed.unsure_sends) == (True, 0)  # its receiver knows it again
    await rig.store.record(first, failed)
    await rig.store.write(queries.silences.add, replace(SILENCE, entity="*", starts_at=NOW + PAUSE))
    rig.clock.now += PAUSE
    noted = []
    for _ in range(2):
        (claim,) = await rig.store.claim(now=rig.clock.now, lease_until=rig.clock.now + LEASE, **facts)
        attempt = await rig.sender.attempt(claim)
        assert attempt is not None
        noted += [(aside.sent_at, "may have arrived" in aside.detail) for aside in attempt.asides.values()]
        await rig.store.record(claim, attempt)
    assert noted == [(NOW, True), (None, False)]
    assert job.taken == []


async def test_a_repeat_that_is_not_in_reach(rig: ChannelRig) -> None:
    """Its receiver takes one alert at a time since a reload, and another comes first: that one is sent."""
    jobs = Jobs()
    jobs.batch_limit, jobs.repeats_alike = 1, False
    rig.sender.replace({"default": jobs})
    await rig.add("one", "two")
    facts: dict[str, Any] = {"limit": 1, "batch_limits": {"default": 1}, "lease_until": NOW + LEASE}
    (claim,) = await rig.store.claim(token="a", now=NOW, **facts)
    behind = ("another-2",)
    attempt = await rig.sender.attempt(replace(claim, unsure_since=NOW, sent_together=behind))
    assert attempt is not None
    assert attempt.outcome is Outcome.DELIVERED
    assert jobs.sent == [["one"]]


async def test_a_fault_of_one_costs_no_other(rig: ChannelRig) -> None:
    """When many together cannot even be written down, the one at fault is dead, and all others are told."""
    rig.channel.cannot = "poisoned"
    await rig.add("good", "poisoned", "better")
    async with rig.running():

        async def done() -> bool:
            await rig.idle()
            rig.move(timedelta(seconds=30))
            return (await rig.store.read(queries.counts.by_state))[State.PENDING] == 0

        await until(done)
    assert await rig.states() == {
        "good": State.DELIVERED,
        "poisoned": State.DEAD,
        "better": State.DELIVERED,
    }


async def test_patience_ends_for_all_that_waited_so_long(rig: ChannelRig) -> None:
    """After 24 hours what is as old is dead; what came later is tried on."""
    rig.channel.script = [TRANSIENT, TRANSIENT]
    await rig.add("old", "older")
    async with rig.running():
        await rig.attempts(1)
        late = incoming(entity="late", second=3600)
        await rig.store.accept([late])
        rig.move(GIVE_UP_AFTER)
        await rig.attempts(3)
        rig.move(PAUSE)
        await rig.attempts(4)
    assert await rig.states() == {"old": State.DEAD, "older": State.DEAD, "late": State.DELIVERED}


async def test_silences_are_looked_at_when_it_is_sent(rig: ChannelRig) -> None:
    """One that came after the alert keeps it back; the others go out, and the queue loses no time."""
    await rig.add("quiet-1", "loud", "quiet-2")
    await rig.store.write(queries.silences.add, SILENCE)
    async with rig.running():
        await rig.attempts(3)
        rig.move(PAUSE)
        await rig.add("quiet-3")
        await until(lambda: rig.dispatcher.last_turn == rig.clock.now)
        await rig.attempts(4)
        await rig.add("loud-2")
        await rig.attempts(5)  # without a further pause: nothing was sent in between
        rig.move(timedelta(hours=1))
        await until(lambda: len(rig.channel.parcels) == 3)
        await rig.attempts(8)
    told = [[item.notification.entity for item in parcel.items] for parcel in rig.channel.parcels]
    assert told == [["loud"], ["loud-2"], ["quiet-1", "quiet-2", "quiet-3"]]
    assert {item.notification.step for item in rig.channel.parcels[2].items} == {Step.REMINDED}


async def test_an_alert_that_is_not_to_be_sent_any_more(rig: ChannelRig) -> None:
    """What the rules do not want told any more is dead, with the reason."""
    rig.sender._why_not = lambda one: "its rule is gone" if one.entity == "stale" else None  # noqa: SLF001
    await rig.add("stale", "fresh")
    async with rig.running():
        await rig.attempts(2)
    assert await rig.states() == {"stale": State.DEAD, "fresh": State.DELIVERED}


async def test_the_fallback_gets_a_notice_and_the_alerts_once(rig: ChannelRig) -> None:
    """That the destination is on hold, with the reason, and what waits; later probes say nothing more."""
    rig.channel.script = [ON_HOLD, ON_HOLD]
    await rig.add("one", "two")
    async with rig.running():
        for number in range(1, 4):
            await until(lambda number=number: len(rig.ops.taken) == number)  # type: ignore[misc]
            rig.move(PAUSE)
        rig.move(timedelta(minutes=10))
        await until(lambda: len(rig.channel.parcels) == 2)
        rig.move(PAUSE)
        await rig.nothing_more()
    rows = (await rig.store.read(queries.page.deliveries, state=None, limit=9)).rows
    notice, *alerts = (row.notification for row in sorted(rows, key=lambda row: row.id) if row.queue == "ops")
    assert notice.title == (
        "Destination default is on hold: 404 no_active_hooks; make a new webhook, and set its URL."
        " Until it works, its alerts come here too; nothing is lost."
    )
    assert [(alert.entity, alert.instead) for alert in alerts] == [
        (entity, "for default, which is on hold: 404 no_active_hooks") for entity in ("one", "two")
    ]


async def test_a_job_does_not_run_because_of_a_notice(rig: ChannelRig) -> None:
    """A fallback that takes certain steps only gets the alerts of those steps, and nothing else."""
    rig.sender.fallbacks = {"default": Route("ops", "ops", frozenset({Step.OPENED, Step.NOTICED}))}
    rig.channel.script = [ON_HOLD]
    await rig.add("one")
    async with rig.running():
        await rig.attempts(1)
        rig.move(PAUSE)
        await rig.attempts(2)
        rig.move(PAUSE)
        await rig.nothing_more()
    assert rig.ops.taken == ["one"]


async def test_an_update_on_hold_is_made_later(rig: ChannelRig) -> None:
    """A channel that is archived as a message is to be changed: the change waits, and is made in the end."""
    await rig.add("one")
    async with rig.running():
        await rig.attempts(1)
        rig.channel.update_script = [ON_HOLD]
        await rig.store.accept([incoming("Degraded", "Healthy", entity="one", second=5)])
        rig.move(PAUSE)
        await rig.attempts(2)

        async def waits() -> bool:
            await rig.idle()
            rig.move(PAUSE)
            queues = await rig.store.read(queries.page.queues, rig.clock.now)
            return any(queue.on_hold and queue.waiting for queue in queues)

        await until(waits)
        assert rig.ops.taken == []
        await rig.store.release_hold("default", rig.clock.now)
        rig.move(PAUSE)
        await until(lambda: len(rig.channel.updates) == 1)
    ((_, (story,)),) = rig.channel.updates
    assert story.last.step is Step.RESOLVED


async def test_too_many_are_summed_up(rig: ChannelRig) -> None:
    """Past a thousand the rest is a number; silenced ones are not in it, and nothing waits afterwards."""
    await rig.add(*(f"e{number}" for number in range(1200)))
    await rig.add(*(f"quiet-{number}" for number in range(50)), *(f"f{number}" for number in range(1000)))
    await rig.store.write(queries.silences.add, SILENCE)
    async with rig.running():
        await until(lambda: len(rig.channel.parcels) == 1)

        async def all_told() -> bool:
            counts = await rig.store.read(queries.counts.by_state)
            return (counts[State.DELIVERED], counts[State.SILENCED]) == (2200, 50)

        await until(all_told)
    (parcel,) = rig.channel.parcels
    assert (len(parcel.items), parcel.more, parcel.counts) == (1000, 1200, {"warning": 2200})
    attempts = await rig.store.read(lambda tx: tx.fetch_value("SELECT count(*) FROM attempts"))
    assert attempts == 2250  # though they are recorded in parts
    assert MAX_SUMMED_UP > 2250
    await rig.store.accept([incoming("Degraded", "Crashed", entity="e0", second=9)])
    rig.move(timedelta(minutes=1))
    (claim,) = await rig.store.claim(
        token="x", now=rig.clock.now, lease_until=rig.clock.now + PAUSE, limit=9, batch_limits={"default": 9}
    )
    assert claim.deliveries[0].parent is None  # what sums up thousands is no incident's own


async def test_what_is_silenced_takes_no_room(rig: ChannelRig) -> None:
    """A thousand silenced ones at the front do not make a mere number of the few behind them."""
    await rig.add(*(f"quiet-{number}" for number in range(990)), *(f"e{number}" for number in range(60)))
    await rig.store.write(queries.silences.add, SILENCE)
    async with rig.running():
        await until(lambda: len(rig.channel.parcels) == 1)
    (parcel,) = rig.channel.parcels
    assert (len(parcel.items), parcel.more) == (60, 0)


async def read_slowly(rig: ChannelRig, times: int, takes: timedelta) -> None:
    """Let the reading of so many pages of what waits take so long."""
    read, left = rig.store.waiting, itertools.repeat(takes, times)

    async def waiting(*arguments: Any, **options: Any) -> list[Waiting]:
        rig.clock.now += next(left, timedelta(0))
        return await read(*arguments, **options)

    # A disk that takes its time, which no real one does when it is asked to.
    rig.store.waiting = waiting  # type: ignore[method-assign]


async def test_frozen_while_it_reads(rig: ChannelRig) -> None:
    """By then another process may have sent it: the queue is given back, and nothing was sent."""
    await rig.add(*(f"e{number}" for number in range(120)))
    await read_slowly(rig, 1, timedelta(seconds=25))
    with capture_logs() as logs:
        async with rig.running():
            await until(lambda: len(rig.channel.parcels) == 1)
    assert "queue_given_back" in [one["event"] for one in logs]
    assert rig.sizes() == [120]


async def test_an_event_that_cannot_be_read(rig: ChannelRig) -> None:
    """The store's trouble is no fault of the message: the queue is given back, the alert goes out later."""
    prepare, answers = rig.sender._prepare, iter([StoreUnavailable("away")])  # noqa: SLF001

    async def prepare_later(claim: Claim, deliveries: Sequence[Waiting]) -> Parcel:
        if trouble := next(answers, None):
            raise trouble
        return await prepare(claim, deliveries)

    rig.sender._prepare = prepare_later  # noqa: SLF001
    await rig.add("one")
    with capture_logs() as logs:
        async with rig.running():
            await rig.attempts(1)
    assert {"queue_not_read"} == {line["event"] for line in logs if line["log_level"] == "error"}
    assert await rig.states() == {"one": State.DELIVERED}


async def test_a_store_that_reads_slowly(rig: ChannelRig) -> None:
    """What could be read in time goes out, and the rest with the next message."""
    await rig.add(*(f"e{number}" for number in range(900)))
    await read_slowly(rig, 1000, timedelta(seconds=4))
    async with rig.running():
        await until(lambda: len(rig.channel.parcels) == 1)
        await rig.idle()
        rig.move(PAUSE)
        await until(lambda: len(rig.channel.parcels) == 2)
    assert rig.sizes() == [350, 350]


async def test_a_message_follows_its_incident(rig: ChannelRig) -> None:
    """A change later answers to the message, and has it changed to what is so then."""
    await rig.add("one")
    async with rig.running():
        await rig.attempts(1)
        await rig.store.accept([incoming("Degraded", "Crashed", entity="one", second=5)])
        rig.move(PAUSE)
        await rig.attempts(2)
        rig.move(PAUSE)
        await until(lambda: len(rig.channel.updates) == 1)
    assert [parcel.items[0].parent for parcel in rig.channel.parcels] == [None, POSTED]
    ((message, stories),) = rig.channel.updates
    assert message == POSTED
    assert [(story.first.step, story.last.step) for story in stories] == [(Step.OPENED, Step.CHANGED)]


async def test_a_changed_message_names_who_is_affected(rig: ChannelRig) -> None:
    """As a new one does: by the last known states, while it is open, where the message has one incident."""
    asks = RuleSet([BUILT_IN.model_copy(update={"affected": Affected(relation=("needs",))})])
    states = {
        name: LastKnown({"relations.needs": "one"}, {}, True, Micros(0), whole=True)
        for name in ("shop", "api")
    }
    await rig.store.write(queries.last_known.record_states, "service", states)
    messages = Messages(rig.store.body, Jq(), asks, lambda *about: rig.store.read(affected, *about))
    for after, entities, text in (
        ("Degraded", ["one"], "affects 2: api, shop"),
        ("Healthy", ["one"], ""),
        ("Degraded", ["one", "two"], ""),
    ):
        last = notification(entity="one", rule=BUILT_IN.name, ended=after == "Healthy")
        claim = Claim(
            queue="default/updates",
            token="a",
            claimed_at=NOW,
            lease_until=NOW + LEASE,
            failures=0,
            on_hold=False,
            destination="default",
            deliveries=(),
            waiting=1,
            body=b"{}",
            message=POSTED,
            stories=tuple((last, last, entity) for entity in entities),
        )
        await update_message(rig.channel, claim, messages.with_affected)
        _, stories = rig.channel.updates[-1]
        assert [story.last.affected for story in stories] == [text] * len(entities)


async def test_a_message_that_is_gone_is_forgotten(rig: ChannelRig) -> None:
    """It is not changed for ever in vain: the next change is a new message."""
    rig.channel.gone = True
    await rig.add("one")
    async with rig.running():
        await rig.attempts(1)
        await rig.store.accept([incoming("Degraded", "Crashed", entity="one", second=5)])
        rig.move(PAUSE)
        await rig.attempts(2)

        async def forgotten() -> bool:
            await rig.idle()
            rig.move(PAUSE)
            claims = await rig.store.read(queries.page.queues, rig.clock.now)
            return all(queue.waiting == 0 for queue in claims if queue.name == "default/updates")

        await until(forgotten)
        await rig.store.accept([incoming("Crashed", "Degraded", entity="one", second=30)])
        rig.move(timedelta(minutes=1))
        await rig.attempts(3)
    assert [parcel.items[0].parent for parcel in rig.channel.parcels] == [None, POSTED, None]


async def test_in_doubt_the_channel_is_asked(rig: ChannelRig) -> None:
    """After a time-out it is not sent again if it stands there already, and it is the incident's message."""
    rig.channel.script = [DeliveryFailed("no answer in time", Scope.TRANSIENT, unsure=True)]
    await rig.add("one")
    async with rig.running():
        await rig.attempts(1)
        (key,) = (item.delivery_id for item in rig.channel.parcels[0].items)
        rig.channel.found = Sent("found in the channel", frozenset({key}), POSTED)
        rig.move(PAUSE)
        await rig.attempts(2)
        await rig.store.accept([incoming("Degraded", "Crashed", entity="one", second=9)])
        rig.channel.found = None
        rig.move(timedelta(seconds=10))
        await rig.attempts(3)
    assert rig.channel.asked == [NOW]
    assert [parcel.items[0].parent for parcel in rig.channel.parcels] == [None, POSTED]


@pytest.mark.parametrize("others", [(), ("loud",)])
@pytest.mark.parametrize("stands", [True, False])
async def test_in_doubt_what_is_silenced_meanwhile_is_looked_for(
    rig: ChannelRig, *, stands: bool, others: tuple[str, ...]
) -> None:
    """If it stands there it is delivered: it must not come again when the silence ends."""
    unsure = DeliveryFailed("no answer in time", Scope.TRANSIENT, unsure=True)
    rig.channel.script = [unsure]
    await rig.add("quiet", *others)
    async with rig.running():
        await rig.attempts(1)
        keys = frozenset(item.delivery_id for item in rig.channel.parcels[0].items)
        await rig.store.write(queries.silences.add, replace(SILENCE, entity="quiet"))
        failures = iter([DeliveryFailed("503", Scope.TRANSIENT)])

        async def find(*_: object) -> Sent | None:
            for failure in failures:
                raise failure
            return Sent("found in the channel", keys, POSTED) if stands else None

        rig.channel.find = find  # type: ignore[assignment]
        rig.move(PAUSE)
        await rig.attempts(2)
        rig.move(2 * PAUSE)
        await rig.attempts(3 + len(others))
    quiet = State.DELIVERED if stands else State.SILENCED
    assert await rig.states() == {"quiet": quiet, **dict.fromkeys(others, State.DELIVERED)}


async def test_what_does_not_stand_there_is_sent(rig: ChannelRig) -> None:
    """In doubt, and not found: once more."""
    rig.channel.script = [DeliveryFailed("no answer in time", Scope.TRANSIENT, unsure=True)]
    await rig.add("one")
    async with rig.running():
        await rig.attempts(1)
        rig.move(PAUSE)
        await rig.attempts(2)
    assert (rig.channel.asked, rig.channel.taken) == ([NOW], ["one"])


async def test_a_time_out_of_long_ago(rig: ChannelRig) -> None:
    """What counts is how often it may have arrived, not since when: refusals between are none of these."""
    unsure = DeliveryFailed("no answer in time", Scope.TRANSIENT, unsure=True)
    job = ScriptedNotifier()
    job.script = [unsure, TRANSIENT, TRANSIENT, unsure]
    rig.sender.replace({"default": job})
    rig.sender.fallbacks = {}
    await rig.add("one")
    async with rig.running():
        for number in range(1, 5):
            await rig.attempts(number)
            (queue,) = await rig.store.read(queries.page.queues, rig.clock())
            assert queue.on_hold is None
            rig.move(timedelta(hours=1) if number < 4 else timedelta(minutes=2))
        await rig.attempts(5)
    assert job.taken == ["one"]


async def test_a_name_of_the_channel_that_is_gone(rig: ChannelRig) -> None:
    """What waits for it is told all the same, by the name that is left: it must not hold the channel."""
    await rig.store.accept([sent_to("gone", incoming(entity="old"))])
    await rig.add("new")
    async with rig.running():
        await rig.attempts(1)
        rig.move(PAUSE)
        await rig.attempts(2)
    assert rig.channel.taken == ["new", "old"]


async def test_two_channels_one_held(rig: ChannelRig) -> None:
    """The other does not wait."""
    rig.channel.script = [ON_HOLD]
    one = incoming(entity="on_hold")
    other = incoming(entity="free")

    def elsewhere(state: object) -> object:
        decision = other.decide(state)  # type: ignore[arg-type]
        (alert,) = decision.alerts
        return replace(decision, alerts=(replace(alert, destination="ops", queue="ops"),))

    await rig.store.accept([one, replace(other, decide=elsewhere)])  # type: ignore[arg-type]
    async with rig.running():
        await until(lambda: "free" in rig.ops.taken)
        assert rig.channel.taken == []


async def test_templates_have_a_time_of_their_own(rig: ChannelRig) -> None:
    """What waits for users' programs was not sent: it is tried again, and cannot have arrived."""

    class Slow(ScriptedNotifier):
        async def prepare(self, parcel: Parcel) -> Parcel:
            await asyncio.Event().wait()
            return parcel

    slow = Slow()
    rig.sender.replace({"default": slow})
    await rig.add("one")
    (claim,) = await rig.store.claim(
        token="t",
        now=NOW,
        lease_until=NOW + SEND_TIMEOUT + timedelta(seconds=0.05),
        limit=1,
        batch_limits={"default": 1},
    )
    attempt = await rig.sender.attempt(claim)
    assert attempt is not None
    assert (attempt.outcome, attempt.unsure) == (Outcome.RETRY, False)
    assert attempt.detail == "its templates took too long; nothing was sent"
    assert slow.tried == []


async def test_an_escalation_that_nobody_needs_is_not_counted(tmp_path: Path) -> None:
    """What ended between the claim and the send is neither listed nor in the numbers of the headline."""
    rule = Rule.model_validate(SERVICE | {"escalate": {"after": "60s", "send": "pager"}})
    blueprints = dict.fromkeys(("a", "b"), "service")
    async with Catalog(f"sqlite:///{tmp_path}/escalated.db", [rule], blueprints) as catalog:
        for service in blueprints:
            await catalog.change(service, "Degraded")
        catalog.second = 60
        (claim,) = await catalog.claims()
        await catalog.store.accept([catalog.incoming("a", "Healthy")])
        load = await load_claim(
            catalog.store,
            claim,
            room=9,
            why_not=lambda _: None,
            held=lambda *_: None,
            clock=lambda: catalog.now,
        )
    assert ([one.notification.entity for one in load.listed], load.counts) == (["b"], {"warning": 1})
