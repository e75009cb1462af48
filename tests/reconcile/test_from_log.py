"""What was missed, out of Port's audit log: real HTTP, real stores."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.model.change import RECONCILE
from app.receive.signature import Signed
from app.reconcile.comparison import Comparison
from app.reconcile.from_log import AuditLog
from app.reconcile.schedule import Outcome, Reconciler
from app.store.reconciling import Progress
from app.store.views import ChangeFilter
from tests.conftest import DATABASES
from tests.port.stand_in_port import StandInPort, audit_entry, refusal
from tests.reconcile.watching import BLUEPRINT, RULES, SCHEMA, Watching, iso, watching

PATH = "/v1/audit-log"
STATES = ("Healthy", "Degraded", "Crashed", "Restarting")
JQ = """
version: 1
destinations: {console: {type: console}}
rules:
  - name: health
    blueprint: deploymentConfig
    when: {jq: '.diff.after.properties.healthStatus == "Degraded"'}
    send: console
"""


def change(one: Watching, entity: str, health: str | None, **more: Any) -> dict[str, Any]:
    """Let an entity change in Port without a word to the listener, and return the event of it."""
    before = one.port.entities.pop((BLUEPRINT, entity), None)
    if before is not None:
        one.port.entities[BLUEPRINT, entity] = before
    after = None if health is None else one.set(entity, health, **more)
    if after is None:
        del one.port.entities[BLUEPRINT, entity]
    return {
        "action": "CREATE" if before is None else "UPDATE" if after else "DELETE",
        "resourceType": "entity",
        "trigger": {"by": {"user": {"email": "ada@example.com"}}, "origin": "UI", "at": iso(one.clock())},
        "context": {"blueprintIdentifier": BLUEPRINT, "entityIdentifier": entity},
        "diff": {"before": before, "after": after},
    }


def happen(one: Watching, entity: str, health: str | None, **more: Any) -> dict[str, Any]:
    """The same, and the audit log has it."""
    event = change(one, entity, health, **more)
    one.port.audit.insert(0, audit_entry(event))
    return event


def in_other_words(event: dict[str, Any]) -> dict[str, Any]:
    """Return an event as the log may have it: other details, a time that is not quite the same."""
    at = datetime.fromisoformat(event["trigger"]["at"]) + timedelta(milliseconds=3)
    sides = {
        side: one and {**one, "icon": "Server", "properties": {**one["properties"], "cpuUtil": 7}}
        for side, one in event["diff"].items()
    }
    return {**event, "trigger": {**event["trigger"], "at": iso(at)}, "diff": sides}


async def post(one: Watching, event: dict[str, Any]) -> None:
    """Let an event's webhook come."""
    await one.listener.accept(Signed(json.dumps(event).encode(), one.clock()))


async def compare(one: Watching, reason: str = "start") -> Outcome:
    """Make a run, a minute later."""
    one.clock.pass_(minutes=1)
    reconciler = Reconciler(one.listener, one.client, timedelta(minutes=10), lambda: "a", share=1.0)
    outcome = await reconciler.compare(reason, since=None)
    assert outcome is not None
    assert outcome.error == ""
    return outcome


async def begun(one: Watching) -> None:
    """Let the listener have made a run before, and an hour pass."""
    await compare(one)
    one.clock.pass_(hours=1)


def asked(one: Watching) -> list[dict[str, str]]:
    """The requests to the audit log."""
    return [request.query for request in one.port.requests if request.path == PATH]


@DATABASES
async def test_an_hour_of_changes_without_the_listener(watched: Watching) -> None:
    """Each change alerts once, in order, with who and when; what flapped and is back is told, too."""
    random = Random(4711)
    names = [f"e{number:02}" for number in range(30)]
    for name in names:
        watched.set(name, "Healthy")
    await compare(watched)
    expected = []
    for _ in range(60):
        watched.clock.pass_(minutes=1)
        for name in random.sample(names, 4):
            before = watched.port.entities[BLUEPRINT, name]["properties"]["healthStatus"]
            after = random.choice([state for state in STATES if state != before])
            happen(watched, name, after)
            expected.append((name, before, after, watched.clock()))
    watched.clock.pass_(minutes=1)
    happen(watched, "e00", None)
    watched.clock.pass_(minutes=1)
    happen(watched, "new", "Degraded")
    outcome = await compare(watched)
    assert (outcome.from_log, outcome.differences) == (len(expected) + 2, ())
    assert (outcome.progress.differences, outcome.progress.missed) == (len(expected) + 2,) * 2
    told = [
        (one.notification.entity, said and said.before, said and said.after, one.notification.at)
        for one in await watched.alerts()
        for said in (one.notification.change,)
    ]
    assert [one for one in told if one[0] not in {"new", "e00"}] == [
        one for one in expected if one[0] != "e00"
    ]
    assert {(one.notification.actor, one.notification.origin) for one in await watched.alerts()} == {
        ("ada@example.com", "UI")
    }
    again = await compare(watched)
    assert (again.from_log, again.progress.differences) == (0, 0)
    assert len(await watched.alerts()) == len(told)


@DATABASES
async def test_what_the_log_does_not_tell(watched: Watching) -> None:
    """Is noticed by comparison in the same run; of one entity the log may have the beginning only."""
    watched.set("search", "Healthy")
    await begun(watched)
    happen(watched, "checkout", "Degraded")
    watched.clock.pass_(minutes=1)
    change(watched, "checkout", "Crashed")
    change(watched, "search", "Degraded")
    outcome = await compare(watched)
    assert outcome.from_log == 1
    assert sorted(await watched.told()) == [
        ("checkout", "Degraded", "Crashed"),
        ("checkout", "Healthy", "Degraded"),
        ("search", "Healthy", "Degraded"),
    ]
    origins = [one.notification.origin for one in await watched.alerts()]
    assert origins == ["UI", RECONCILE, RECONCILE]
    page = await watched.listener.store.views.changes(ChangeFilter(), before=None, limit=9)
    assert [one.reason.startswith("from Port's audit log; ") for one in page.rows].count(True) == 1


@DATABASES
async def test_without_a_log(watched: Watching) -> None:
    """One that refuses, or that nobody understands, leaves it to the comparison, and is said once."""
    await begun(watched)
    happen(watched, "checkout", "Degraded")
    watched.port.script("GET", PATH, refusal(403), refusal(403))
    reconciler = Reconciler(watched.listener, watched.client, timedelta(minutes=10), lambda: "a")
    with capture_logs() as logs:
        for _ in range(2):
            await reconciler.compare("start", since=None)
    assert await watched.told() == [("checkout", "Healthy", "Degraded")]
    said = [(one["log_level"], one["event"]) for one in logs if "audit log does not" in one["event"]]
    assert said == [("info", "Port's audit log does not tell what was missed: comparing does")]


async def test_history_is_no_news(database: str, port: StandInPort, tmp_path: Path) -> None:
    """What the log has from before a blueprint was read first is not told, in no run."""
    async with watching(database, port, tmp_path) as one:
        happen(one, "checkout", "Healthy")
        one.clock.pass_(minutes=2)
        happen(one, "checkout", "Degraded")
        assert (await compare(one)).from_log == 0
        assert asked(one) == []
        assert (await compare(one)).from_log == 0
        assert len(asked(one)) == 1
        assert await one.alerts() == []
        await learns_another(one)


async def learns_another(one: Watching) -> None:
    """A blueprint that a rule names later on is learned like the first, its history left alone."""
    watched = one.listener.book.watched
    one.listener.book = replace(one.listener.book, watched={**watched, "service": watched[BLUEPRINT]})
    one.port.blueprints["service"] = {**SCHEMA, "identifier": "service"}
    event = change(one, "billing", "Degraded")
    event["context"]["blueprintIdentifier"] = "service"
    one.port.entities["service", "billing"] = one.port.entities.pop((BLUEPRINT, "billing"))
    one.port.audit.insert(0, audit_entry(event))
    for _ in range(2):
        assert (await compare(one)).from_log == 0
    assert await one.alerts() == []


@DATABASES
@pytest.mark.parametrize("words", [dict, in_other_words])
async def test_the_webhook_came_before(watched: Watching, words: Any) -> None:
    """What the log has of it is the same, also in other words, and with another change since."""
    await begun(watched)
    for health in ("Degraded", "Healthy", "Crashed"):
        event = change(watched, "checkout", health)
        await post(watched, event)
        watched.port.audit.insert(0, audit_entry(words(event)))
        watched.clock.pass_(minutes=1)
    event = change(watched, "checkout", None)
    await post(watched, event)
    watched.port.audit.insert(0, audit_entry(words(event)))
    before = await watched.told()
    assert len(before) >= 3
    outcome = await compare(watched)
    assert (outcome.from_log, outcome.progress.differences) == (0, 0)
    assert await watched.told() == before


@DATABASES
@pytest.mark.parametrize("words", [dict, in_other_words])
async def test_the_webhook_comes_after_all(watched: Watching, words: Any) -> None:
    """It alerts nobody, also in other words, and whatever happened since."""
    await begun(watched)
    events = []
    for health in ("Degraded", "Healthy", "Crashed"):
        events.append(happen(watched, "checkout", health))
        watched.clock.pass_(minutes=1)
    assert (await compare(watched)).from_log == 3
    for event in events:
        await post(watched, words(event))
    assert len(await watched.told()) == 3
    outcome = await compare(watched)
    assert (outcome.from_log, outcome.progress.differences) == (0, 0)
    watched.clock.pass_(minutes=1)
    await post(watched, change(watched, "checkout", "Healthy"))
    assert len(await watched.told()) == 4, "what is news is told"


@DATABASES
async def test_the_webhook_comes_meanwhile(database: str, port: StandInPort, tmp_path: Path) -> None:
    """While the rules look at what the log has; and in other words: one alert."""
    async with watching(database, port, tmp_path, JQ) as one:
        one.set("checkout", "Healthy")
        await begun(one)
        event = happen(one, "checkout", "Degraded")
        one.clock.pass_(minutes=1)
        evaluate = one.listener.evaluate

        async def meanwhile(programs: Sequence[str], body: bytes) -> Mapping[str, Any]:
            await post(one, in_other_words(event))
            return await evaluate(programs, body)

        audit_log = AuditLog(replace(one.listener, evaluate=meanwhile), one.client)
        await compare_with(one, audit_log)
        assert len(await one.alerts()) == 1


async def compare_with(one: Watching, audit_log: AuditLog, **options: Any) -> Progress:
    """Compare now."""
    comparison = Comparison(one.listener, one.client, audit_log, **options)
    _ = [found async for found in comparison.differences()]
    return comparison.progress


@DATABASES
async def test_a_comparison_came_before(watched: Watching) -> None:
    """What it has told the log does not tell again, nor what led to it."""
    await begun(watched)
    for health in ("Degraded", "Crashed"):
        happen(watched, "checkout", health)
        watched.clock.pass_(minutes=1)
    audit, watched.port.audit = watched.port.audit, []
    assert len((await compare(watched)).differences) == 1
    watched.port.audit = audit
    outcome = await compare(watched)
    assert (outcome.from_log, outcome.progress.differences) == (0, 0)
    assert await watched.told() == [("checkout", "Healthy", "Crashed")]


async def test_one_of_two_was_missed(watched: Watching) -> None:
    """A change that is older than what has come since is told all the same, and moves nothing back."""
    await begun(watched)
    happen(watched, "checkout", "Degraded")
    watched.clock.pass_(minutes=1)
    await post(watched, happen(watched, "checkout", "Crashed"))
    assert (await compare(watched)).from_log == 1
    assert await watched.told() == [("checkout", "Degraded", "Crashed"), ("checkout", "Healthy", "Degraded")]
    assert (await compare(watched)).progress.differences == 0


@DATABASES
@pytest.mark.parametrize(
    ("minutes", "expected"),
    [
        ((1, 20), []),
        ((20, 1), [("Healthy", "Degraded"), ("Degraded", "Healthy")]),
        ((30,), [("Healthy", "Degraded")]),
        ((1,), [("Healthy", "Degraded")]),
    ],
)
async def test_what_has_to_last(
    database: str, port: StandInPort, tmp_path: Path, minutes: tuple[int, ...], expected: list[Any]
) -> None:
    """Goes by the times of the changes: trouble that ended before its time is told as little as ever."""
    rules = RULES.replace("when: {property: healthStatus}", "when: {property: healthStatus, for: 5m}")
    async with watching(database, port, tmp_path, rules) as one:
        one.set("checkout", "Healthy")
        await begun(one)
        for health, pause in zip(("Degraded", "Healthy"), minutes, strict=False):
            happen(one, "checkout", health)
            one.clock.pass_(minutes=pause)
        assert (await compare(one)).from_log == len(minutes)
        told = [
            (said.before, said.after, delivery.next_at and delivery.next_at <= one.clock())
            for delivery in await one.alerts()
            if (said := delivery.notification.change) and delivery.state != "cancelled"
        ]
        assert told == [(*values, minutes != (1,)) for values in expected], "what may last still waits"


async def test_in_between_it_is_asked_only_if_something_differs(watched: Watching) -> None:
    """And then it tells that, not the comparison."""
    await compare(watched)
    before = len(asked(watched))
    assert (await compare(watched, "interval")).from_log == 0
    assert len(asked(watched)) == before
    for health in ("Degraded", "Crashed"):
        watched.clock.pass_(minutes=1)
        happen(watched, "checkout", health)
    outcome = await compare(watched, "interval")
    assert (outcome.from_log, outcome.differences) == (2, ())
    assert len(asked(watched)) == before + 1
    assert await watched.told() == [("checkout", "Healthy", "Degraded"), ("checkout", "Degraded", "Crashed")]
    assert (await compare(watched, "interval")).progress.differences == 0


async def test_how_far_back_it_is_asked(watched: Watching) -> None:
    """From the last run that came to its end, and a little before; a day at the most."""
    last = watched.clock() + timedelta(minutes=1)
    await compare(watched)
    watched.port.script("POST", f"/v1/blueprints/{BLUEPRINT}/entities/search", refusal(403))
    reconciler = Reconciler(watched.listener, watched.client, timedelta(minutes=10), lambda: "a")
    watched.clock.pass_(hours=1)
    outcome = await reconciler.compare("gap", since=None)
    assert outcome
    assert outcome.error
    watched.clock.pass_(hours=1)
    await compare(watched)
    *_, failed, query = asked(watched)
    assert failed["from"] == query["from"] == iso(last - timedelta(minutes=5))
    watched.clock.pass_(days=9)
    await compare(watched)
    assert asked(watched)[-1]["from"] == iso(watched.clock() - timedelta(days=1))


async def test_a_dry_run(watched: Watching) -> None:
    """Counts what the log would tell, and stores nothing."""
    await begun(watched)
    for health in ("Degraded", "Healthy"):
        happen(watched, "checkout", health)
        watched.clock.pass_(minutes=1)
    audit_log = AuditLog(watched.listener, watched.client)
    comparison = Comparison(watched.listener, watched.client, audit_log, dry=True)
    assert [one async for one in comparison.differences()] == []
    assert comparison.from_log == 2
    assert await watched.alerts() == []
