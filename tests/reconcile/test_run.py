"""Runs against the stand-in Port: real HTTP, real stores."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from starlette.responses import JSONResponse

from app.errors import PortError
from app.model.change import RECONCILE
from app.port.client import EntityPage, PortClient
from app.receive.payload import parse_event
from app.receive.signature import Signed
from app.reconcile.run import ReconcileRun
from app.store import queries
from app.store.views import ChangeFilter, ReconcileProgress
from tests.conftest import DATABASES
from tests.port.stand_in_port import CLIENT_ID, CLIENT_SECRET, StandInPort, refusal
from tests.reconcile.watching import BLUEPRINT, RULES, SEARCH, Watching, watching

STATES = ("Healthy", "Degraded", "Crashed", "Restarting")


@DATABASES
async def test_an_hour_of_changes_without_the_listener(watched: Watching) -> None:
    """Each entity whose state differs alerts once; those that flapped and are back do not."""
    random = Random(4711)
    names = [f"e{number:03}" for number in range(250)]
    for name in names:
        watched.set(name, "Healthy")
    created = await watched.compare()
    assert {one.action for one in created} == {"CREATE"}
    for _ in range(60):
        watched.clock.pass_(minutes=1)
        for name in random.sample(names, 20):
            watched.set(name, random.choice(STATES))
    now = {name: watched.port.entities[BLUEPRINT, name]["properties"]["healthStatus"] for name in names}
    differ = {name for name, health in now.items() if health != "Healthy"}
    assert 0 < len(differ) < len(names)
    await watched.compare()
    assert Counter(await watched.told()) == Counter((name, "Healthy", now[name]) for name in differ)
    assert await watched.compare() == []
    assert len(await watched.alerts()) == len(differ)


@DATABASES
async def test_the_first_run_only_learns(database: str, port: StandInPort, tmp_path: Path) -> None:
    """Whatever is wrong in Port then; what changes afterwards is told."""
    async with watching(database, port, tmp_path) as one:
        one.set("checkout", "Crashed")
        one.set("search", "Healthy")
        assert await one.compare() == []
        one.set("search", "Degraded")
        (difference,) = await one.compare()
        assert (difference.entity, difference.action, difference.missed) == ("search", "UPDATE", True)
        assert await one.told() == [("search", "Healthy", "Degraded")]
        assert await one.compare() == []


async def test_a_first_run_that_alerts(database: str, port: StandInPort, tmp_path: Path) -> None:
    """Tells what is wrong, and nothing of what is well; after that it is as any other."""
    async with watching(database, port, tmp_path) as one:
        one.set("checkout", "Crashed")
        one.set("search", "Healthy")
        assert len(await one.compare(alert=True)) == 2
        assert await one.told() == [("checkout", None, "Crashed")]
        assert await one.compare(alert=True) == []
        one.set("checkout", "Healthy")
        await one.compare(alert=True)
        assert (await one.told())[1:] == [("checkout", "Crashed", "Healthy")]


async def test_a_first_run_that_was_cut_off(database: str, port: StandInPort, tmp_path: Path) -> None:
    """The next one is a first run still: of what it did not reach nobody hears that it was created."""
    async with watching(database, port, tmp_path) as one:
        for number in range(1500):
            one.set(f"e{number:04}", "Healthy")
        pages = [refusal(403)]

        class CutOff(PortClient):
            async def search_entities(self, *args: Any, **options: Any) -> EntityPage:
                if options.get("after") and pages:
                    raise PortError("search", "away", "wait")
                return await super().search_entities(*args, **options)

        async with CutOff(port.url, CLIENT_ID, CLIENT_SECRET, clock=one.clock) as one.client:
            with pytest.raises(PortError):
                await one.compare()
            assert await one.intake.store.read(queries.reconcile.baselines) == frozenset()
            pages.clear()
            one.set("e0001", "Degraded")
            assert await one.compare() == []
            one.set("e0001", "Crashed")
            assert len(await one.compare()) == 1


@DATABASES
async def test_what_a_difference_looks_like(watched: Watching) -> None:
    """It is stored as a change like others, says that it was noticed, when, and since when it is so."""
    watched.clock.pass_(minutes=7)
    happened = watched.clock()
    watched.set("checkout", "Degraded", cpuUtil=95)
    watched.clock.pass_(minutes=3)
    await watched.compare()
    (alert,) = await watched.alerts()
    said = alert.notification
    assert (said.origin, said.actor, said.at) == (RECONCILE, "", watched.clock())
    assert (said.opened_at, said.title, said.teams) == (happened, "Checkout", ("Rocket",))
    assert [one.name for one in said.others] == []  # cpuUtil is not watched, and was not asked for
    rows = await watched.intake.store.read(queries.changes.history, since=happened, after=None, limit=9)
    body = rows[-1].body or b""
    change = parse_event(Signed(body, watched.clock()))
    assert (change.key, change.at, change.found_at) == (alert.change_key, happened, watched.clock())
    page = await watched.intake.store.read(queries.changes.changes, ChangeFilter(), before=None, limit=9)
    assert page.rows[0].alerts == 1


@DATABASES
async def test_a_search_that_leaves_entities_out(watched: Watching) -> None:
    """What the search does not have, and Port has, is not taken for deleted."""
    watched.set("checkout", "Healthy")
    await watched.compare()
    watched.set("checkout", "Crashed")
    await watched.compare()
    watched.clock.pass_(minutes=10)
    watched.port.script("POST", SEARCH, *[JSONResponse({"ok": True, "entities": []}) for _ in range(2)])
    with pytest.raises(PortError, match="leaves out checkout, which exists"):
        await watched.compare()
    assert len(await watched.alerts()) == 1
    assert await watched.compare() == []


@DATABASES
async def test_created_and_deleted(database: str, port: StandInPort, tmp_path: Path) -> None:
    """Both are told to the rules that are about them, once, and a deletion ends the incident."""
    rules = RULES + "  - {name: life, blueprint: deploymentConfig, on: [CREATE, DELETE], send: console}\n"
    async with watching(database, port, tmp_path, rules) as one:
        one.set("checkout", "Healthy")
        await one.compare()
        one.set("checkout", "Degraded")
        one.set("new", "Healthy")
        assert [(found.entity, found.action) for found in await one.compare()] == [
            ("checkout", "UPDATE"),
            ("new", "CREATE"),
        ]
        created_at = one.clock()
        del one.port.entities[BLUEPRINT, "checkout"], one.port.entities[BLUEPRINT, "new"]
        assert [(found.entity, found.action) for found in await one.compare()] == [
            ("checkout", "DELETE"),
            ("new", "DELETE"),
        ]
        rules_told = [(alert.notification.rule, alert.notification.step) for alert in await one.alerts()]
        assert sorted(rules_told) == [
            ("health", "opened"),
            ("health", "resolved"),
            *[("life", "noticed")] * 3,
        ]
        assert await one.compare() == []
        for before, after in (("Degraded", None), (None, "Healthy")):  # the webhooks, at last
            accepted = await one.post("new", before, after, created_at - timedelta(minutes=1, seconds=-1))
            assert (accepted.alerts, accepted.already_alerted) == (0, True)
        one.set("new", "Healthy")
        assert [found.action for found in await one.compare()] == ["CREATE"]


@DATABASES
async def test_a_rename_that_nobody_told(watched: Watching) -> None:
    """The incident ends with its old name, and what is wrong under the new one ends with the next change."""
    watched.set("checkout", "Healthy")
    await watched.compare()
    watched.clock.pass_(minutes=1)
    watched.set("checkout", "Degraded")
    await watched.post("checkout", "Healthy", "Degraded", watched.clock())
    del watched.port.entities[BLUEPRINT, "checkout"]
    watched.clock.pass_(minutes=1)
    watched.set("till", "Degraded")
    differences = await watched.compare()
    assert sorted((one.entity, one.action) for one in differences) == [
        ("checkout", "DELETE"),
        ("till", "CREATE"),
    ]
    steps = [(one.notification.entity, one.notification.step) for one in await watched.alerts()]
    assert steps == [("checkout", "opened"), ("checkout", "resolved")]
    assert await watched.intake.store.read(queries.incidents.worst, 9) == []
    assert await watched.compare() == []
    await watched.post("till", "Degraded", "Crashed", watched.clock())
    await watched.post("till", "Crashed", "Healthy", watched.clock())
    steps = [(one.notification.entity, one.notification.step) for one in await watched.alerts()]
    assert steps[2:] == [("till", "opened"), ("till", "resolved")]


async def test_the_webhook_comes_after_all(watched: Watching) -> None:
    """It alerts nobody, and the page says why."""
    watched.set("checkout", "Degraded")
    happened = watched.clock()
    await watched.compare()
    accepted = await watched.post("checkout", "Healthy", "Degraded", happened + timedelta(seconds=0.4))
    assert (accepted.alerts, accepted.already_alerted, accepted.duplicate) == (0, True, False)
    page = await watched.intake.store.read(queries.changes.changes, ChangeFilter(), before=None, limit=9)
    assert page.rows[0].reason.endswith("rule 'health': alerted by reconciling already")
    watched.clock.pass_(minutes=1)
    assert (await watched.post("checkout", "Degraded", "Healthy", watched.clock())).alerts == 1
    assert len(await watched.told()) == 2


@DATABASES
async def test_the_webhook_came_just_before(watched: Watching) -> None:
    """Then there is no difference."""
    watched.set("checkout", "Degraded")
    await watched.post("checkout", "Healthy", "Degraded", watched.clock())
    assert await watched.compare() == []
    assert len(await watched.alerts()) == 1


async def test_a_change_while_port_is_asked(watched: Watching) -> None:
    """What was read may be older than it: nothing is told, and the next run looks again."""
    watched.clock.pass_(minutes=1)
    watched.set("checkout", "Degraded")

    async def meanwhile() -> None:
        if watched.port.requests[-1].path == SEARCH:
            watched.port.before_answer = None
            await watched.post("checkout", "Healthy", "Crashed", watched.clock())

    watched.port.before_answer = meanwhile
    assert await watched.look() == []
    assert await watched.told() == [("checkout", "Healthy", "Crashed")]
    assert [found.action for found in await watched.compare()] == ["UPDATE"]


@DATABASES
async def test_a_change_while_rules_look_at_a_difference(
    database: str, port: StandInPort, tmp_path: Path
) -> None:
    """It came first: the difference is not stored, counted or told."""
    rules = RULES.replace("property: healthStatus}", "jq: '.diff.after.properties.healthStatus != null'}", 1)
    async with watching(database, port, tmp_path, rules) as one:
        one.set("checkout", "Healthy")
        await one.compare()
        one.set("checkout", "Degraded")
        evaluate = one.intake.evaluate

        async def meanwhile(programs: Sequence[str], event: Mapping[str, Any]) -> Mapping[str, Any]:
            await one.post("checkout", "Healthy", "Crashed", one.clock())
            return await evaluate(programs, event)

        one.clock.pass_(minutes=1)
        comparison = ReconcileRun(replace(one.intake, evaluate=meanwhile), one.client)
        assert [found async for found in comparison.differences()] == []
        assert comparison.progress == ReconcileProgress(entities=1)
        (alert,) = await one.alerts()
        assert alert.notification.origin == "UI"


async def test_a_value_from_another_entity(database: str, port: StandInPort, tmp_path: Path) -> None:
    """A mirror's change moves no time in Port, and is noticed all the same; Port had not to call us."""
    rules = RULES.replace("healthStatus}", "tier}").replace("healthStatus, to: Healthy", "tier, to: gold")
    async with watching(database, port, tmp_path, rules) as one:
        one.set("checkout", None, tier="gold")
        await one.compare()
        one.clock.pass_(hours=5)
        one.port.entities[BLUEPRINT, "checkout"]["properties"]["tier"] = "bronze"
        (difference,) = await one.compare()
        assert not difference.missed
        (alert,) = await one.alerts()
        assert alert.notification.opened_at == one.clock()
        one.port.entities[BLUEPRINT, "checkout"]["properties"]["tier"] = "gold"
        await one.compare()
        assert await one.told() == [("checkout", "gold", "bronze"), ("checkout", "bronze", "gold")]


async def test_only_what_is_needed_is_asked_for(watched: Watching) -> None:
    """The watched properties that the blueprint has, and a thousand entities a page."""
    asked = [one for one in watched.port.requests if one.path == SEARCH]
    assert [one.body for one in asked] == [
        {
            "query": {"combinator": "and", "rules": []},
            "limit": 1000,
            "include": ["$identifier", "$title", "$team", "$updatedAt", "healthStatus"],
        }
    ]


async def test_a_program_may_read_anything(database: str, port: StandInPort, tmp_path: Path) -> None:
    """So all is asked for, and compared."""
    rules = RULES.replace("when: {property: healthStatus}", "when: {jq: .diff.after.properties.cpuUtil > 80}")
    async with watching(database, port, tmp_path, rules) as one:
        one.set("checkout", "Healthy", cpuUtil=5)
        await one.compare()
        assert "include" not in next(asked for asked in port.requests if asked.path == SEARCH).body
        one.set("checkout", "Healthy", cpuUtil=95)
        (difference,) = await one.compare()
        assert [change.name for change in difference.changes] == ["cpuUtil"]
        assert len(await one.alerts()) == 1


async def test_scorecards_are_not_reconciled(database: str, port: StandInPort, tmp_path: Path) -> None:
    """A difference has none, which must not look as if they were gone."""
    jq = '.diff.after.scorecards.ready.level != "Gold"'
    async with watching(
        database, port, tmp_path, RULES.replace("{property: healthStatus}", f"{{jq: '{jq}'}}", 1)
    ) as one:
        one.set("checkout", "Healthy", cpuUtil=5)
        await one.compare()
        one.set("checkout", "Healthy", cpuUtil=95)
        assert await one.compare()
        assert await one.alerts() == []


@DATABASES
async def test_many_pages(watched: Watching) -> None:
    """All of them are read, and one that slips out of them while they are is not taken for deleted."""
    for number in range(1150):
        watched.set(f"e{number:04}", "Healthy")
    comparison = ReconcileRun(watched.intake, watched.client)
    watched.clock.pass_(minutes=1)
    assert len([one async for one in comparison.differences()]) == 1150
    assert comparison.progress == ReconcileProgress(entities=1151, differences=1150, missed=1150)
    moved = watched.port.entities.pop((BLUEPRINT, "e0007"))
    pages = len([one for one in watched.port.requests if one.path == SEARCH])
    comparison = ReconcileRun(watched.intake, watched.client)
    found = []
    watched.clock.pass_(minutes=1)
    watched.set("e0001", "Degraded")
    async for difference in comparison.differences():
        found.append((difference.entity, difference.action))
        watched.port.entities[BLUEPRINT, "e0007"] = moved  # behind our back: the page was read
    assert found == [("e0001", "UPDATE")]
    assert len([one for one in watched.port.requests if one.path == SEARCH]) == pages + 3


async def test_what_is_wrong_with_one_entity(watched: Watching) -> None:
    """Does not keep the others from being compared."""
    watched.set("search", "Healthy")
    await watched.compare()
    broken = {"identifier": "checkout", "properties": "nothing"}
    entities = [
        broken,
        {"identifier": 5},
        {"identifier": "x" * 2_049},
        "odd",
        watched.set("search", "Degraded"),
    ]
    for _ in range(2):  # the list, and what is asked for because it seems to be gone
        watched.port.script("POST", SEARCH, JSONResponse({"ok": True, "entities": entities}))
    assert [one.entity for one in await watched.compare()] == ["search"]


async def test_a_limited_rate(watched: Watching) -> None:
    """Is waited for."""
    watched.port.script("POST", SEARCH, refusal(429, **{"x-ratelimit-reset": "1"}))
    watched.set("checkout", "Degraded")
    assert len(await watched.compare()) == 1


@pytest.mark.parametrize("status", [401, 403, 500])
async def test_a_run_that_fails(watched: Watching, status: int) -> None:
    """Says why; nothing is taken for deleted, and the next run finds what this one would have."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    watched.client.sleep = sleep
    watched.set("checkout", "Degraded")
    watched.port.script("POST", SEARCH, *[refusal(status) for _ in range(3)])
    with pytest.raises(PortError, match=str(status)):
        await watched.compare()
    watched.port.scripted.clear()
    assert await watched.alerts() == []
    assert [one.action for one in await watched.compare()] == ["UPDATE"]


async def test_a_blueprint_that_port_does_not_have(watched: Watching) -> None:
    """Is left out: that is no deletion of all that it had."""
    described = watched.port.blueprints.pop(BLUEPRINT)
    assert await watched.compare() == []
    watched.port.blueprints[BLUEPRINT] = described
    watched.set("checkout", "Degraded")
    assert len(await watched.compare()) == 1


async def test_a_dry_run(database: str, port: StandInPort, tmp_path: Path) -> None:
    """Finds the same, stores nothing, and tells nobody."""
    async with watching(database, port, tmp_path) as one:
        one.set("checkout", "Healthy")
        assert await one.compare(dry=True) == []
        assert await one.intake.store.read(queries.reconcile.baselines) == frozenset()
        await one.compare()
        one.set("checkout", "Degraded")
        for _ in range(2):
            assert [found.entity for found in await one.compare(dry=True)] == ["checkout"]
        assert await one.alerts() == []
        assert len(await one.compare()) == 1


async def test_what_no_rule_names_any_more_is_forgotten(watched: Watching) -> None:
    """And learned anew when one does again."""
    book = watched.intake.book
    watched.intake.book = type(book)(book.rules, book.queues)
    assert await watched.compare() == []
    assert await watched.intake.store.read(queries.last_known.last_known, BLUEPRINT, ["checkout"]) == {}
    watched.intake.book = book
    watched.set("checkout", "Degraded")
    assert await watched.compare() == []
    assert await watched.alerts() == []


async def test_a_change_during_the_first_run(database: str, port: StandInPort, tmp_path: Path) -> None:
    """Webhooks that come before an entity is learned are told, and nothing of them again."""
    async with watching(database, port, tmp_path) as one:
        one.set("checkout", "Degraded")
        assert (await one.post("checkout", "Healthy", "Degraded", one.clock())).alerts == 1
        assert await one.compare() == []
        assert await one.compare() == []
        assert len(await one.alerts()) == 1


async def test_a_clock_that_is_behind_ports(watched: Watching) -> None:
    """A difference is as old as Port says, so that the late webhook before it is late (seed 1087)."""
    watched.clock.pass_(seconds=60)
    watched.set("checkout", "Crashed")
    changed_at = watched.clock()
    watched.clock.pass_(seconds=-30)
    await watched.look()
    watched.clock.pass_(seconds=40)
    await watched.post("checkout", "Healthy", "Degraded", changed_at - timedelta(seconds=5))
    before = len(await watched.alerts())
    await watched.compare()
    assert len(await watched.alerts()) == before
