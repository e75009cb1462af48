"""Incidents are told to their end: after a silence, without their rule, under another name, by hand."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from app.model.delivery import Outcome, State
from app.model.incident import ALL_STEPS, Route, Step
from app.model.silence import ANY, Silence
from app.rules.decide import decide
from app.rules.match import match
from app.rules.rule import Rule, RuleSet
from app.store import queries
from app.store.follow import follow
from app.store.rows import Aside, Incoming
from app.store.store import Store
from tests.conftest import NOW
from tests.store.helpers import attempt, claim, claims, delivered
from tests.store.lives import HEALTH, at, open_ones, ruled, tell, went


async def test_the_end_of_what_was_told_is_told_after_a_silence(store: Store) -> None:
    """What was told as open, and ended while a silence lasted, is told as over once that ends; once."""
    await store.accept([went("Healthy", "Degraded", 0)])
    assert await tell(store, 1) == [("default", Step.OPENED, "")]
    silence = Silence(ANY, ANY, "checkout", ANY, NOW, at(100), "ada", "noise")
    number = await store.write(queries.silences.add, silence)
    await store.accept([went("Degraded", "Healthy", 5)])
    claimed = await claim(store, second=6)
    asides = {one.id: Aside(Outcome.SILENCED, "", number) for one in claimed.deliveries}
    kept = replace(attempt(Outcome.SILENCED, second=6), delivery_ids=(), asides=asides)
    assert await store.record(claimed, kept)
    assert await tell(store, 99) == []
    assert await tell(store, 100) == [("default", Step.RESOLVED, "")]
    assert await tell(store, 500) == []


async def test_what_another_release_has_written(store: Store) -> None:
    """It is given up, when a silence ends, say; but the incident's end is told, by what is known of it."""
    spoil = """UPDATE deliveries SET notification = '{"step": "escalated"}'"""
    for entity in ("checkout", "search"):
        await store.accept([went("Healthy", "Degraded", 0, old=entity, new=entity)])
    silence = Silence(ANY, ANY, "search", ANY, NOW, at(100), "ada", "noise")
    number = await store.write(queries.silences.add, silence)
    claimed = await claim(store, second=1)
    told, kept = claimed.deliveries
    sent = replace(
        delivered(second=1), delivery_ids=[told.id], asides={kept.id: Aside(Outcome.SILENCED, "", number)}
    )
    assert await store.record(claimed, sent)
    await store.write(lambda tx: tx.execute(spoil))
    names = [incident.id for incident in await open_ones(store)]
    assert await tell(store, 100) == []
    (row,) = (await store.read(queries.page.deliveries, state=State.DEAD, limit=9)).rows
    assert row.id == kept.id
    await store.write(queries.incidents.close, names, "by hand", at(101))
    assert {(step, closed) for _, step, closed in await tell(store, 102)} == {(Step.RESOLVED, "by hand")}


async def test_a_dead_end_that_is_retried_says_that_it_is_late(store: Store) -> None:
    """Where its queue was told of the next beginning meanwhile: a pager would close that page."""
    await store.accept([went("Healthy", "Degraded", 0)])
    await tell(store, 1)
    await store.accept([went("Degraded", "Healthy", 5)])
    assert await store.record(await claim(store, second=6), attempt(Outcome.DEAD, second=6))

    async def retried(second: int) -> tuple[Step, bool]:
        assert await store.retry(now=at(second)) == 1
        claimed = await claim(store, second=second)
        assert await store.record(claimed, attempt(Outcome.DEAD, second=second))
        (one,) = claimed.deliveries
        return one.notification.step, one.notification.late

    assert await retried(10) == (Step.RESOLVED, False)
    await store.accept([went("Healthy", "Degraded", 15)])
    await tell(store, 16)
    assert await retried(20) == (Step.RESOLVED, True)


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        (ALL_STEPS, Step.REMINDED),
        (frozenset({Step.OPENED, Step.RESOLVED}), Step.OPENED),
        (frozenset({Step.OPENED, Step.CHANGED, Step.RESOLVED}), Step.OPENED),
        (frozenset({Step.CHANGED}), Step.CHANGED),
    ],
)
async def test_what_opened_during_a_silence(store: Store, steps: frozenset[Step], said: Step) -> None:
    """Once that ends it is a reminder; to a job that takes none it begins."""
    silence = Silence(ANY, ANY, "checkout", ANY, NOW, at(100), "ada", "noise")
    number = await store.write(queries.silences.add, silence)
    await store.accept([went("Healthy", "Degraded", 0, steps=steps)])
    await store.accept([went("Degraded", "Crashed", 5, steps=steps)])
    claimed = await claim(store, second=6)
    asides = {one.id: Aside(Outcome.SILENCED, "", number) for one in claimed.deliveries}
    assert await store.record(
        claimed, replace(attempt(Outcome.SILENCED, second=6), delivery_ids=(), asides=asides)
    )
    assert await tell(store, 100) == [("default", said, "")]


async def test_an_end_that_is_overtaken_or_lost(store: Store) -> None:
    """A later change of another value shows that the entity is well: it ends; what comes late is old."""
    await store.accept([went("Healthy", "Degraded", 0)])
    assert await tell(store, 1) == [("default", Step.OPENED, "")]
    await store.accept([went("Degraded", "Degraded", 2)])
    await store.accept([went("Healthy", "Healthy", 6), went("Degraded", "Healthy", 5)])
    assert await tell(store, 7) == [("default", Step.RESOLVED, "")]
    await store.accept([went("Healthy", "Healthy", 8)])
    assert await tell(store, 9) == []
    assert await open_ones(store) == []


async def test_a_rule_that_goes_away_ends_its_incidents(store: Store) -> None:
    """Each place that was told hears why, and the audit trail says so; where only `send` moved it goes on."""
    await store.accept([went("Healthy", "Degraded", 0, queue="one")])
    await tell(store, 1)
    await store.accept([went("Degraded", "Crashed", 5, queue="two")])
    await tell(store, 6)
    for rules in (ruled(), ruled(send=["elsewhere"])):
        assert await store.write(follow, rules, at(7), limit=9) == []
    gone = "rule 'health' is no longer in the rules file"
    assert len(await store.write(follow, ruled(name="state"), at(10), limit=9)) == 1
    assert await store.write(follow, ruled(name="state"), at(10), limit=9) == []
    assert sorted(await tell(store, 11)) == [("one", Step.RESOLVED, gone), ("two", Step.RESOLVED, gone)]
    assert await open_ones(store) == []
    (entry,) = (await store.read(queries.audit.entries, limit=5)).rows
    assert (entry.who, entry.what) == ("rules file", "close incident")
    assert entry.details == f"Incident of service checkout: {gone}."


def test_when_a_rule_is_gone() -> None:
    """It must be there, be about the blueprint, and have incidents: else it never ends one."""
    assert ruled().why_gone("health", "service") is None
    assert "no longer in the rules file" in (ruled(name="state").why_gone("health", "service") or "")
    assert "no longer about blueprint" in (ruled(blueprint="other").why_gone("health", "service") or "")
    rule = Rule.model_validate({key: HEALTH[key] for key in ("name", "blueprint", "when")})
    assert "no longer has incidents" in (RuleSet([rule]).why_gone("health", "service") or "")


async def test_what_waits_follows_its_rule(store: Store) -> None:
    """`for` that is changed meanwhile counts: longer, shorter, none at all; what is gone alerts nobody."""

    def lasting(span: str) -> RuleSet:
        return ruled(when={**HEALTH["when"], "for": span}, again_after="1h")

    await store.accept([went("Healthy", "Degraded", 0, rules=lasting("60s"))])
    await store.write(follow, lasting("90s"), at(10), limit=9)
    assert await tell(store, 80) == []
    await store.write(follow, lasting("85s"), at(81), limit=9)
    assert (await open_ones(store))[0].due_at == at(85)
    assert await tell(store, 85) == [("default", Step.OPENED, "")]
    await store.write(follow, lasting("300s"), at(90), limit=9)
    assert await tell(store, 3684) == []
    assert await tell(store, 3685) == [("default", Step.REMINDED, "")]
    await store.accept([went("Healthy", "Degraded", 4000, rules=lasting("60s"), old="b", new="b")])
    await store.write(follow, ruled(), at(4010), limit=9)
    assert await tell(store, 4010) == [("default", Step.OPENED, "")]
    await store.accept([went("Healthy", "Degraded", 5000, rules=lasting("60s"), old="c", new="c")])
    assert len(await store.write(follow, ruled(name="state"), at(5010), limit=9)) == 3
    assert [step for _, step, _ in await tell(store, 9999)] == [Step.RESOLVED, Step.RESOLVED]


async def test_a_renamed_entity_keeps_its_incidents(store: Store) -> None:
    """They go on under the new name, with all that is known; the old name is known to be gone."""
    await store.accept([went("Healthy", "Degraded", 0)])
    (renamed,) = await store.accept([went("Degraded", "Degraded", 5, new="till")])
    assert renamed.alerts == 0
    assert [one.entity for one in await open_ones(store)] == ["till"]
    known = await store.read(queries.last_known.last_known, "service", ["checkout", "till"])
    assert [known[name].gone for name in ("checkout", "till")] == [True, False]
    assert known["till"].values["properties.healthStatus"] == "Degraded"
    await tell(store, 6)
    await store.accept([went("Degraded", "Healthy", 10, old="till", new="till", queue="elsewhere")])
    told = sorted((queue, step) for queue, step, _ in await tell(store, 11))
    assert told == [("default", Step.RESOLVED), ("elsewhere", Step.RESOLVED)]
    assert await open_ones(store) == []


@pytest.mark.parametrize("together", [True, False])
async def test_what_waits_has_the_new_name(store: Store, together: bool) -> None:
    """An incident whose entity is renamed before its first alert, or its reminder, says the new name."""
    when = {**HEALTH["when"], "for": "60s"}
    rules = ruled(when=when, again_after="1h")
    changes = [went("Healthy", "Degraded", 0, rules=rules), went("Degraded", "Degraded", 5, new="till")]
    for group in [changes] if together else [[change] for change in changes]:
        await store.accept(group)
    named = []
    for second in (60, 3660, 7300):
        for one in await claims(store, second=second):
            named += [(it.notification.step, it.notification.entity) for it in one.deliveries]
            await store.record(one, delivered(second=second))
    assert named == [(Step.OPENED, "till"), (Step.REMINDED, "till"), (Step.REMINDED, "till")]


@pytest.mark.parametrize("silenced", [True, False])
async def test_what_follows_a_rename_has_the_new_name(store: Store, silenced: bool) -> None:
    """Closed by hand, or reminded of after a silence: it says the name that the entity has by then."""
    await store.accept([went("Healthy", "Degraded", 0)])
    if silenced:
        silence = Silence(ANY, ANY, "checkout", ANY, NOW, at(100), "ada", "noise")
        number = await store.write(queries.silences.add, silence)
        claimed = await claim(store, second=1)
        asides = {one.id: Aside(Outcome.SILENCED, "", number) for one in claimed.deliveries}
        kept = replace(attempt(Outcome.SILENCED, second=1), delivery_ids=(), asides=asides)
        assert await store.record(claimed, kept)
    else:
        await tell(store, 1)
    await store.accept([went("Degraded", "Degraded", 5, new="till")])
    if not silenced:
        (incident,) = await open_ones(store)
        await store.write(queries.incidents.close, [incident.id], "by ada", at(6))
    (later,) = (await claim(store, second=100)).deliveries
    assert later.notification.step is (Step.REMINDED if silenced else Step.RESOLVED)
    assert (later.notification.entity, later.notification.title) == ("till", "till")


async def test_a_rename_that_comes_late(store: Store) -> None:
    """Both names have an incident: one is left, and no destination is told of it in two queues (seed 109)."""

    def job(queue: str, *went_: Any, **name: Any) -> Incoming:
        incoming = went(*went_, **name)
        change = incoming.change
        hits = (hit.but(routes=(Route("job", queue),)) for hit in match(ruled(), change, {}).hits)
        found = replace(match(ruled(), change, {}), hits=tuple(hits))
        return replace(incoming, decide=lambda state: decide(found, state, change.at), watched=False)

    await store.accept([job("job/1", "Healthy", "Degraded", 0)])
    await store.accept([job("job/2", "Degraded", "Crashed", 9, old="till", new="till")])
    opened = (await open_ones(store))[0].id
    await tell(store, 9)
    await store.accept([job("job/2", "Degraded", "Degraded", 5, new="till")])
    # A pager knows the one that ends by its own id: it must be closed there, too.
    (ended,) = [one for one in await claims(store, second=10) if one.queue == "job/1"]
    assert [(one.notification.step, one.incident_id) for one in ended.deliveries] == [(Step.RESOLVED, opened)]
    assert "another name" in ended.deliveries[0].notification.closed
    await store.record(ended, delivered(second=10))
    await tell(store, 11)
    await store.accept([job("job/2", "Crashed", "Healthy", 20, old="till", new="till")])
    assert await tell(store, 21) == [("job/2", Step.RESOLVED, "")]


async def test_two_that_wait_become_one(store: Store) -> None:
    """Of an entity that is renamed into one that is in trouble, too, it is told once."""
    rules = ruled(when={**HEALTH["when"], "for": "60s"}, again_after="1h")
    await store.accept([went("Healthy", "Degraded", 0, rules=rules)])
    await store.accept([went("Healthy", "Degraded", 1, rules=rules, old="till", new="till")])
    await store.accept([went("Degraded", "Degraded", 5, rules=rules, new="till")])
    assert await tell(store, 61) == [("default", Step.OPENED, "")]
    assert await tell(store, 3700) == [("default", Step.REMINDED, "")]


async def test_two_that_were_told_become_one_late(store: Store) -> None:
    """The change that renames one is older than its alert: the alert has gone out, so its end is told."""
    rules = ruled(when={**HEALTH["when"], "for": "60s"})
    await store.accept([went("Healthy", "Degraded", 0, rules=rules)])
    await store.accept([went("Healthy", "Degraded", 1, rules=rules, old="till", new="till")])
    assert [step for _, step, _ in await tell(store, 61)] == [Step.OPENED] * 2
    renamed = went("Degraded", "Degraded", 5, rules=rules, new="till")
    hits = tuple(
        hit.but(routes=(Route("default", "default"),)) for hit in match(rules, renamed.change, {}).hits
    )
    found = replace(match(rules, renamed.change, {}), hits=hits)
    late = replace(renamed, received_at=at(100), decide=lambda state: decide(found, state, at(100)))
    await store.accept([late])
    assert [step for _, step, _ in await tell(store, 101)] == [Step.RESOLVED]


async def test_renamed_and_resolved_at_once(store: Store) -> None:
    """A change that does both, in one group with the change before it, ends the incident."""
    await store.accept([went("Healthy", "Degraded", 0), went("Degraded", "Healthy", 5, new="till")])
    assert [step for _, step, _ in await tell(store, 6)] == [Step.OPENED, Step.RESOLVED]
    assert await open_ones(store) == []


async def test_closed_by_hand(store: Store) -> None:
    """Everybody who was told hears who closed it and why; a second time there is nothing to close."""
    await store.accept([went("Healthy", "Degraded", 0)])
    await tell(store, 1)
    (incident,) = await open_ones(store)
    assert await store.write(queries.incidents.close, ["unknown"], "by ada", at(2)) == []
    assert len(await store.write(queries.incidents.close, [incident.id], "by ada: sold", at(2))) == 1
    assert await store.write(queries.incidents.close, [incident.id], "by ada", at(2)) == []
    assert await tell(store, 3) == [("default", Step.RESOLVED, "by ada: sold")]
    await store.accept([went("Degraded", "Crashed", 60)])
    assert [step for _, step, _ in await tell(store, 61)] == [Step.OPENED]


async def test_what_is_open_is_not_pruned(store: Store) -> None:
    """The changes of an open incident stay: its end goes out in their words."""
    await store.accept([went("Healthy", "Degraded", 0)])
    await tell(store, 1)
    later = NOW + timedelta(days=99)
    assert await store.prune(before=later, limit=100) == 0
    (incident,) = await open_ones(store)
    await store.write(queries.incidents.close, [incident.id], "by ada", at(2))
    await tell(store, 3)
    assert await store.prune(before=later, limit=100) > 0
