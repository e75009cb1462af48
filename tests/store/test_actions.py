"""What people do to an incident: acknowledge it, silence it, close it; each once, and to all its ends."""

import asyncio
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from app.model.delivery import Outcome
from app.model.incident import EVERY_STEP, Person, Route, Step
from app.model.notification import Message
from app.model.report import RUNS
from app.model.silence import Silence, silence_of
from app.model.times import to_micros
from app.notifier.words import words_of
from app.rules.destination import ByCatalog
from app.rules.rulebook import Queues, Rulebook
from app.store import escalations, queries
from app.store.actions import Action, ActionResult, Verb, act
from app.store.columns import told_json
from app.store.follow import follow, follow_escalations
from app.store.rows import Aside, Claim, Incoming
from app.store.store import Store
from app.store.transaction import Transaction
from tests.store.helpers import LEASE, attempt, claim, claims, delivered, reported
from tests.store.lives import at, open_ones, ruled, tell, went

ANA, BEN = Person("ana", "slack", "U1"), Person("ben", "page")
REMINDING = ruled(again_after="60s", severity={"Degraded": "warning", "Crashed": "critical"})
BROKEN = ("Healthy", "Degraded")
CHOSEN = "UPDATE deliveries SET destination = $1, queue = $2 WHERE step = 'escalated' AND repeat_after = $3"
TOLD = "UPDATE incidents SET told = $1 WHERE id = $2"
BAD = {"property": "healthStatus", "to": {"not": "Healthy"}}
POSTED = Message("C0123456789", "1780000000.000100")


async def do(
    store: Store, verb: Verb, second: int, by: Person = ANA, *, id_: str = "", until: datetime | None = None
) -> ActionResult:
    """Do something to the one incident that is known, a number of seconds after NOW."""
    (row, *_) = (await store.read(queries.incidents.page, limit=9)).rows
    action = Action(id_ or f"{verb}-{second}-{by.name}", verb, row.incident.id, by, "known", until)
    return await store.write(act, action, at(second))


def opens(second: int = 0, **more: object) -> Incoming:
    """The change that opens the incident."""
    return went(*BROKEN, second, rules=REMINDING, **more)  # type: ignore[arg-type]


async def trail(store: Store) -> list[tuple[str, str]]:
    """Read the audit trail, oldest first: who did what."""
    rows = (await store.read(queries.audit.entries, limit=99)).rows
    return [(entry.who, entry.what) for entry in reversed(rows)]


async def test_an_acknowledgement_ends_reminders(store: Store) -> None:
    """Who and when is kept; nobody is reminded until it is taken back, and then as before."""
    await store.accept([opens()])
    assert await tell(store, 1) == [("default", Step.OPENED, "")]
    done = await do(store, "acknowledge", 5)
    assert (done.came, done.earlier, done.repeated) == ("done", None, False)
    assert "is acknowledged by ana: known" in done.text
    (incident,) = await open_ones(store)
    assert incident.acknowledged is not None
    assert (incident.acknowledged.at, incident.acknowledged.by, incident.version) == (at(5), ANA, 2)
    assert await tell(store, 500) == []
    second = await do(store, "acknowledge", 501, BEN)
    assert (second.came, second.earlier, second.audit) == ("already", incident.acknowledged, 0)
    assert "already acknowledged by ana" in second.text
    assert (await do(store, "unacknowledge", 600, BEN)).came == "done"
    assert (await do(store, "unacknowledge", 601, BEN)).came == "already"
    assert await tell(store, 659) == []
    assert await tell(store, 660) == [("default", Step.REMINDED, "")]
    assert await tell(store, 721) == [("default", Step.REMINDED, "")]
    assert await trail(store) == [
        ("ana (Slack U1)", "acknowledge incident"),
        ("ben", "unacknowledge incident"),
    ]


@pytest.mark.parametrize("taken_back", [None, 9, 99])
async def test_a_channel_that_cannot_be_updated(store: Store, taken_back: int | None) -> None:
    """One message says who looks after it, unless that was a slip; nothing is said when it is taken back."""
    await store.accept([opens(steps=EVERY_STEP)])
    await tell(store, 1)
    await do(store, "acknowledge", 5)
    assert await tell(store, 8) == []
    if taken_back == 9:
        await do(store, "unacknowledge", 9)
        assert await tell(store, 60) == []
        await do(store, "acknowledge", 61, BEN)
    second = 72 if taken_back == 9 else 16
    claimed = await claim(store, second=second)
    span, who = ("1 min", "ben") if taken_back == 9 else ("5 s", "ana")
    (alert,) = claimed.deliveries
    assert words_of(alert.notification).sentence() == (
        f"checkout: healthStatus still Degraded, open for {span}, acknowledged by {who}"
        " (warning, rule health)"
    )
    await store.record(claimed, delivered(second=second))
    if taken_back == 99:
        await do(store, "unacknowledge", taken_back)
        assert await tell(store, 158) == []


async def test_a_slip_keeps_no_run_waiting(store: Store) -> None:
    """A run whose change's last alert would have said so is told all the same, now that it is cancelled."""

    async def claimed(second: int) -> dict[str, Claim]:
        now = at(second)
        facts: dict[str, Any] = {"limit": 9, "batch_limits": {"default": 9, RUNS: 9}}
        found = await store.claim(token="a", now=now, lease_until=now + LEASE, **facts)
        return {one.destination: one for one in found}

    await store.accept([reported(opens(steps=EVERY_STEP))])
    both = await claimed(1)
    await do(store, "acknowledge", 5)
    for claim_ in both.values():
        await store.record(claim_, delivered(second=6))
    assert await claimed(8) == {}
    await do(store, "unacknowledge", 9)
    assert [*await claimed(9)] == [RUNS]


@pytest.mark.parametrize("together", [True, False])
async def test_the_same_action_twice(store: Store, together: bool) -> None:
    """It is done once, and answered alike: when it comes twice at once, and when its incident is over."""
    await store.accept([opens()])
    if together:
        results = list(
            await asyncio.gather(*(do(store, "acknowledge", second, id_="e1") for second in (5, 6)))
        )
    else:
        results = [await do(store, "acknowledge", 5, id_="e1")]
        await store.accept([went("Degraded", "Healthy", 9, rules=REMINDING)])
        results.append(await do(store, "acknowledge", 9, id_="e1"))
    assert sorted(result.repeated for result in results) == [False, True]
    assert len({replace(result, repeated=False) for result in results}) == 1
    assert len(await trail(store)) == 1


@pytest.mark.parametrize("worse", [True, False])
async def test_a_worse_severity_ends_it(store: Store, worse: bool) -> None:
    """It says so, and reminds again; a change to what is no worse does neither."""
    first, then = ("Degraded", "Crashed") if worse else ("Crashed", "Degraded")
    await store.accept([went("Healthy", first, 0, rules=REMINDING)])
    await tell(store, 1)
    await do(store, "acknowledge", 5)
    await store.accept([went(first, then, 9, rules=REMINDING)])
    (alert,) = (await claim(store, second=9)).deliveries
    (incident,) = await open_ones(store)
    if worse:
        assert (alert.notification.acknowledged, alert.notification.unacknowledged) == (None, "ana")
        assert incident.acknowledged is None
    else:
        assert alert.notification.acknowledged == incident.acknowledged
        assert alert.notification.unacknowledged == ""
    await store.record((await claims(store, second=99))[0], delivered(second=99))
    assert [step for _, step, _ in await tell(store, 159)] == ([Step.REMINDED] if worse else [])


async def test_the_end_ends_it(store: Store) -> None:
    """What is over is not acknowledged, nor what begins again; what nobody knows is said to be unknown."""
    await store.accept([opens()])
    await tell(store, 1)
    await do(store, "acknowledge", 5)
    await store.accept([went("Degraded", "Healthy", 10, rules=REMINDING)])
    assert (await do(store, "acknowledge", 11)).came == "over"
    (row,) = (await store.read(queries.incidents.page, limit=9)).rows
    assert row.incident.acknowledged is None
    await store.accept([opens(20)])
    (incident,) = await open_ones(store)
    assert (incident.id, incident.acknowledged) == (row.incident.id, None)
    assert incident.version > row.incident.version
    nobody = Action("e9", "acknowledge", "unknown", ANA)
    assert (await store.write(act, nobody, at(30))).came == "unknown"
    assert (await do(store, "close", 40, BEN)).came == "done"
    assert await open_ones(store) == []
    assert await tell(store, 41) == [
        ("default", Step.RESOLVED, ""),
        ("default", Step.OPENED, ""),
        ("default", Step.RESOLVED, "by ben: known"),
    ]


@pytest.mark.parametrize("when", ["before it is sent", "while it is sent", "later"])
async def test_the_message_shows_it(store: Store, when: str) -> None:
    """Whenever it is acknowledged, the message of the incident says so in the end; and what waits, too."""
    await store.accept([opens()])
    claimed = None if when == "before it is sent" else await claim(store)
    if when == "later" and claimed:
        await store.record(claimed, replace(delivered(), message=POSTED))
    await do(store, "acknowledge", 0)
    if claimed is None:
        claimed = await claim(store)
        assert claimed.deliveries[0].notification.acknowledged is not None
    if when != "later":
        await store.record(claimed, replace(delivered(), message=POSTED))
    (update,) = await claims(store, second=2)
    ((first, last, incident_id),) = update.stories
    (incident,) = await open_ones(store)
    assert (update.message, first, incident_id) == (POSTED, last, incident.id)
    assert (last.acknowledged, last.version) == (incident.acknowledged, 2)


async def test_who_asks_for_the_step_is_told(store: Store) -> None:
    """A destination that can acknowledge is alerted of that step; no other is."""
    steps = frozenset({Step.OPENED, Step.RESOLVED, Step.ACKNOWLEDGED})
    await store.accept([opens(queue="pager", steps=steps)])
    await tell(store, 1)
    await do(store, "acknowledge", 5)
    (alert,) = (await claim(store, second=6)).deliveries
    assert alert.notification.step is Step.ACKNOWLEDGED
    assert alert.notification.acknowledged is not None
    await store.record(await claim(store, second=99), delivered(second=99))
    await store.accept([went("Degraded", "Healthy", 100, queue="pager", steps=steps, rules=REMINDING)])
    assert await tell(store, 101) == [("pager", Step.RESOLVED, "")]


async def test_silenced_until_it_is_over(store: Store) -> None:
    """The silence covers this incident's entity and rule, and ends with it, so that the end is told."""
    await store.accept([went(*BROKEN, 0, rules=REMINDING, old="a[1]", new="a[1]")])
    await tell(store, 1)
    done = await do(store, "silence", 5)
    assert "until it is over" in done.text
    assert (await do(store, "silence", 6, BEN)).came == "already"
    assert (await do(store, "silence", 6, BEN, until=at(60))).came == "already"
    await store.accept([went(*BROKEN, 7, rules=REMINDING, old="a1", new="a1")])
    (silence,) = await store.read(queries.silences.active, at(8))
    claimed = await claim(store, second=61)
    covered = {one.id: silence_of(one.notification, claimed.silences) for one in claimed.deliveries}
    assert list(covered.values()) == [silence, None]
    asides = {number: Aside(Outcome.SILENCED, "", silence.id) for number, by in covered.items() if by}
    kept = replace(attempt(Outcome.SILENCED, second=61), delivery_ids=(), asides=asides)
    await store.record(claimed, kept)
    await store.accept([went("Degraded", "Healthy", 70, rules=REMINDING, old="a[1]", new="a[1]")])
    assert [step for _, step, _ in await tell(store, 71)] == [Step.OPENED, Step.REMINDED, Step.RESOLVED]
    assert await store.read(queries.silences.silences, active_at=at(72)) == []


@pytest.mark.parametrize("verbs", [("acknowledge", "unacknowledge"), ("close",)])
async def test_what_is_said_of_a_place_is_not_said_to_another(store: Store, verbs: tuple[Verb, ...]) -> None:
    """Why the last alert went elsewhere, and that no hours kept it back, are a matter of its place."""
    await store.accept([opens(steps=EVERY_STEP)])
    (incident,) = await open_ones(store)
    places = (replace(incident.told[0], at_any_time=True), Route("ops", "ops", EVERY_STEP))

    async def led_there(tx: Transaction) -> None:
        await tx.execute(TOLD, told_json(places), incident.id)
        await queries.deliveries.rewrite(
            tx, [incident.id], lambda _, said: said.but(instead="for payments", at_any_time=True)
        )

    await store.write(led_there)
    await tell(store, 1)
    for second, verb in enumerate(verbs, 2):
        await do(store, verb, second)
    rows = (await store.read(queries.page.deliveries, state=None, limit=9)).rows
    assert {(row.queue, row.notification.at_any_time) for row in rows} == {("default", True), ("ops", False)}
    assert {row.notification.instead for row in rows if row.queue == "ops"} == {""}


async def test_what_was_done_is_forgotten_in_time(store: Store) -> None:
    """Old actions are pruned."""
    await store.accept([opens()])
    await do(store, "close", 5)
    assert await store.prune(before=at(6), limit=100) > 0
    assert await store.read(lambda tx: tx.fetch("SELECT id FROM actions")) == []


async def test_a_reload_changes_what_escalates(store: Store) -> None:
    """Other times and destinations count at once; what is gone is cancelled; what stays goes on."""

    def book(*steps: tuple[str, str]) -> Rulebook:
        escalate = [{"after": after, "send": name} for after, name in steps]
        rules = ruled(**({"escalate": escalate} if escalate else {}))
        return Rulebook(rules, {name: Queues(name) for name in ("default", "pager", "boss")})

    async def coming() -> list[tuple[str, datetime]]:
        (row,) = await store.read(queries.incidents.worst, 9)
        return list(row.escalations)

    first = book(("60s", "pager"))
    await store.accept([opens()])
    assert await store.write(follow_escalations, first, at(10)) == 1
    assert await store.write(follow_escalations, first, at(11)) == 0
    assert await coming() == [("pager", at(70))]
    assert await store.write(follow_escalations, book(("40s", "boss"), ("90s", "pager")), at(20)) == 1
    assert await coming() == [("boss", at(50)), ("pager", at(100))]
    await do(store, "acknowledge", 30)
    assert await coming() == []
    await do(store, "unacknowledge", 40)
    assert await coming() == [("boss", at(80)), ("pager", at(130))]
    assert await store.write(follow_escalations, book(), at(50)) == 1
    assert await coming() == []


@pytest.mark.parametrize("target", ["boss", {"template": "{{ .to }}", "default": "default"}])
async def test_a_reload_leaves_what_the_catalog_chose(store: Store, target: object) -> None:
    """Where an escalation goes is not known without its change: at another time it goes there as well."""
    owners = Queues("owners", catalog=ByCatalog("{{ .owner }}", lambda text: f"#{text}", "default"))

    def book(after: str, *more: str) -> Rulebook:
        steps = [{"after": after, "send": ["owners", *more]}, {"after": "5m", "send": target}]
        names = ("default", "boss")
        return Rulebook(ruled(escalate=steps), {name: Queues(name) for name in names} | {"owners": owners})

    async def coming() -> list[tuple[str, int]]:
        rows = await store.read(
            lambda tx: tx.fetch(
                "SELECT queue, due_at FROM deliveries WHERE step = 'escalated' AND state = 'pending'"
                " ORDER BY due_at, queue"
            )
        )
        return [(queue, (due_at - to_micros(at(0))) // 1_000_000) for queue, due_at in rows]

    await store.accept([opens()])
    await store.write(follow_escalations, book("60s"), at(10))

    async def choose(tx: Transaction) -> None:
        await queries.deliveries.make_queues(tx, {"#rocket": "owners", "boss": "boss"})
        await tx.execute(CHOSEN, "owners", "#rocket", 60_000_000)
        await tx.execute(CHOSEN, "boss", "boss", 300_000_000)

    await store.write(choose)
    assert await store.write(follow_escalations, book("60s"), at(11)) == 0
    assert await coming() == [("#rocket", 70), ("boss", 310)]
    assert await store.write(follow_escalations, book("70s"), at(12)) == 1
    assert await coming() == [("#rocket", 80), ("boss", 310)]
    assert await store.write(follow_escalations, book("70s", "default"), at(13)) == 1
    assert await coming() == [("#rocket", 80), ("default", 80), ("boss", 310)]
    assert await store.write(follow_escalations, book("70s", "default"), at(14)) == 0


async def test_a_longer_wait_puts_escalations_off(store: Store) -> None:
    """They count from the first alert; the reload that moves it moves where they count from."""
    escalate = [{"after": "60s", "send": "default"}]
    first, second = (ruled(escalate=escalate, when=BAD | {"for": wait}) for wait in ("30s", "90s"))
    await store.accept([went(*BROKEN, 0, rules=first)])
    (before,) = await open_ones(store)
    await store.write(follow, second, at(1), limit=9)
    (after,) = await open_ones(store)
    assert (before.due_at, before.escalates_from) == (at(30), at(30))
    assert (after.due_at, after.escalates_from) == (at(90), at(90))


@pytest.mark.parametrize("acknowledged", [True, False])
async def test_an_escalation_at_the_last_moment(store: Store, acknowledged: bool) -> None:
    """Acknowledged after it was claimed, it is not sent, and its place hears no end; else both."""
    escalate = [{"after": "60s", "send": "pager"}]
    book = Rulebook(ruled(escalate=escalate), {name: Queues(name) for name in ("default", "pager")})
    await store.accept([opens()])
    await tell(store, 1)
    await store.write(follow_escalations, book, at(10))
    (claimed,) = [one for one in await claims(store, second=70) if one.queue == "pager"]
    (waits,) = claimed.deliveries
    assert (waits.notification.step, waits.incident_id is None) == (Step.ESCALATED, False)
    if acknowledged:
        await do(store, "acknowledge", 70)
    needless = await store.write(escalations.reach, {waits.id: waits.incident_id or ""}, at(70))
    assert needless == ({waits.id} if acknowledged else set())
    sent = replace(delivered(second=70), delivery_ids=[] if acknowledged else None)
    await store.record(claimed, sent)
    await store.accept([went("Degraded", "Healthy", 200, rules=REMINDING)])
    ends = [queue for queue, step, _ in await tell(store, 201) if step is Step.RESOLVED]
    assert ends == (["default"] if acknowledged else ["default", "pager"])


async def test_hours_that_are_others_now(store: Store) -> None:
    """What waits for hours is kept by no silence that anybody sees, and is looked at again after a reload."""
    await store.accept([opens()])
    claimed = await claim(store, second=1)
    begin = at(3600)
    asides = {one.id: Aside(Outcome.SILENCED, "held", hours=("office", begin)) for one in claimed.deliveries}
    await store.record(claimed, replace(attempt(Outcome.SILENCED, second=1), delivery_ids=(), asides=asides))
    assert await claims(store, second=50) == []
    assert await store.read(queries.silences.silences, active_at=None) == []
    await store.write(queries.silences.end_hours, at(55))
    assert await tell(store, 55) == [("default", Step.OPENED, "")]


@pytest.mark.parametrize("limited", [False, True])
async def test_a_silence_follows_a_rename(store: Store, limited: bool) -> None:
    """What is silenced, until it is over or for a time, stays so under the entity's new name."""
    await store.accept([opens()])
    await tell(store, 1)
    assert (await do(store, "silence", 5, until=at(500) if limited else None)).came == "done"
    await store.accept([went("Degraded", "Crashed", 20, rules=REMINDING, new="till")])
    (claimed, *_) = await claims(store, second=21)
    (alert, *_) = claimed.deliveries
    assert alert.notification.entity == "till"
    assert silence_of(alert.notification, claimed.silences)
    wide = Silence("*", "*", "*", "*", at(0), at(500), "ada", "all")
    await store.write(queries.silences.add, replace(wide, entity="ca*"))
    await store.accept([went("Degraded", "Degraded", 30, rules=REMINDING, old="cart", new="basket")])
    rest = await store.read(queries.silences.silences, active_at=at(31))
    assert [one.entity for one in rest] == ["ca*", "till"]


async def test_a_silence_of_every_blueprint_follows_a_rename(store: Store) -> None:
    """It stays for the others that have the former name, and another one is added for the new name."""
    wide = Silence("*", "*", "cart", "*", at(0), at(500), "ada", "all")
    await store.write(queries.silences.add, wide)
    await store.accept([went("Degraded", "Degraded", 30, rules=REMINDING, old="cart", new="basket")])
    await store.accept([went("Degraded", "Degraded", 40, rules=REMINDING, old="basket", new="bag")])
    rest = await store.read(queries.silences.silences, active_at=at(41))
    assert [(one.blueprint, one.entity) for one in rest] == [("service", "bag"), ("*", "cart")]
    assert {(one.rule, one.team, one.ends_at, one.comment) for one in rest} == {("*", "*", at(500), "all")}


async def test_a_message_that_is_found_shows_what_was_done_before(store: Store) -> None:
    """It arrived without an answer, and the incident was acknowledged before it was found: it is updated."""
    await store.accept([opens()])
    unsure = replace(attempt(Outcome.RETRY, second=1), unsure=True)
    await store.record(await claim(store, second=1), unsure)
    await do(store, "acknowledge", 30)
    await store.record(await claim(store, second=60), replace(delivered(second=60), message=POSTED))
    assert [one.queue for one in await claims(store, second=61)] == ["default/updates"]
