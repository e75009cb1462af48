"""Taking a change in."""

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from app.deliver.load import Load
from app.demo.run import change_body
from app.jq.runner import Jq
from app.model.hours import Week
from app.model.incident import Step
from app.model.times import from_micros
from app.receive.intake import Intake
from app.receive.routing import match_and_route
from app.receive.signature import Signed
from app.rules.decide import EntityState, decide
from app.rules.destination import ByCatalog
from app.rules.rule import Rule, RuleSet
from app.rules.rulebook import Queues, Rulebook
from app.store import queries
from app.store.clock import StoreClock
from app.store.columns import told_json, told_of
from app.store.rows import Claim, Waiting
from app.store.sqlite.database import open_sqlite
from tests.conftest import NOW
from tests.rules.changes import cpu

PORT = {"port": {"relation": "system", "property": "channel"}, "default": "alerts"}
TEAMS = {"by_team": {"Rocket": "rocket"}, "default": "alerts"}


async def test_each_destination_once_and_in_order() -> None:
    """However it was found."""
    facts = {"name": "cpu", "on": "UPDATE", "send": ["pay", "alerts", "pay", TEAMS, PORT]}
    queues = {name: Queues(name) for name in ("pay", "alerts", "rocket")}

    async def evaluate(*_: object) -> dict[str, object]:
        return {}

    async def look_up(*_: object) -> tuple[str, ...]:
        return ("rocket",)

    book = Rulebook(RuleSet([Rule.model_validate(facts)]), queues)
    matched = await match_and_route(cpu(1, 2, teams=("Rocket",)), b"{}", book, evaluate, look_up)
    assert [route.destination for hit in matched.hits for route in hit.routes] == ["pay", "alerts", "rocket"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["rocket", ["pay", "rocket"], None], ["rocket", "pay", "alerts"]),
        ([5], ["alerts"]),
        ([], ["alerts"]),
    ],
)
async def test_each_of_a_look_up(values: list[object], expected: list[str]) -> None:
    """A destination for each value, of lists too; the default for what is none."""
    lookup = {"relation": "system", "property": "channel", "each": True}
    facts = {"name": "cpu", "on": "UPDATE", "send": {"port": lookup, "default": "alerts"}}
    queues = {name: Queues(name) for name in ("pay", "alerts", "rocket")}

    async def evaluate(*_: object) -> dict[str, object]:
        return {}

    async def look_up(*_: object) -> list[object]:
        return values

    book = Rulebook(RuleSet([Rule.model_validate(facts)]), queues)
    matched = await match_and_route(cpu(1, 2), b"{}", book, evaluate, look_up)
    assert [route.destination for hit in matched.hits for route in hit.routes] == expected


@pytest.mark.parametrize("by", [["jobs"], ["jobs", PORT]])
async def test_a_group_s_jobs_are_in_one_queue(by: list[object]) -> None:
    """Whichever of its members opens it: the end of one incident must not come after the next one opens."""
    rules = [
        {"name": "cpu", "when": {"property": "cpu", "above": 1}, "again_after": "1h", "send": "jobs"},
        {"name": "many", "of": "cpu", "by": {"team": True}, "at_least": 2, "send": by},
    ]
    queues = {"jobs": Queues("jobs", 8), "alerts": Queues("alerts")}

    async def evaluate(*_: object) -> dict[str, object]:
        return {}

    async def look_up(*_: object) -> tuple[str, ...]:
        return ()

    book = Rulebook(RuleSet([Rule.model_validate(rule) for rule in rules]), queues)
    jobs, groups = set[str](), set[str]()
    for number in range(5):
        matched = await match_and_route(cpu(1, 2, entity=f"vm-{number}"), b"{}", book, evaluate, look_up)
        (hit,) = matched.hits
        assert hit.kin is not None
        jobs |= {route.queue for route in hit.routes}
        groups |= {route.queue for route in hit.kin.asked["many"].routes if route.destination == "jobs"}
    assert (len(jobs), len(groups)) == (5, 1)


OFFICE = Week(frozenset(range(5)), time(9), time(18), ZoneInfo("UTC"))
HELD = {"to": "own", "when": "office", "else": "hold"}


@pytest.mark.parametrize(
    ("send", "at_any_time"),
    [
        ([HELD, "owners"], True),
        (["owners", HELD], True),
        ([HELD, {**HELD, "to": "owners"}], False),
        ([HELD], False),
    ],
)
async def test_what_leads_there_at_any_time_is_not_kept_back(send: list[object], at_any_time: bool) -> None:
    """By the catalog, where another target of the rule keeps the same destination quiet: to the end."""
    owners = ByCatalog("#{{ .channel }}", lambda _: "#own", "#ops")
    queues = {"own": Queues("own"), "owners": Queues("owners", catalog=owners)}
    facts = {"name": "cpu", "when": {"property": "cpu", "above": 1}, "again_after": "1h", "send": send}
    rules = RuleSet([Rule.model_validate(facts)])
    book = Rulebook(rules, queues, channels={"#own": "own"}, hours={"office": OFFICE})

    async def evaluate(programs: Sequence[str], _: object) -> dict[str, object]:
        return dict.fromkeys(programs, "own")

    async def look_up(*_: object) -> tuple[str, ...]:
        return ()

    night = NOW.replace(hour=22)
    matched = await match_and_route(cpu(1, 2), b"{}", book, evaluate, look_up)
    decision = decide(matched, EntityState(), night)
    for alert in decision.alerts:
        claim = Claim("own", "t", night, night, 0, False, alert.destination, (), 1, b"")
        waiting = Waiting(1, "k", alert.notification, night)
        assert Load().add(claim, waiting, lambda _: None, book.held) is at_any_time
    assert {alert.queue for alert in decision.alerts} == {"own"}
    (incident,) = decision.incidents
    assert told_of(told_json(incident.told)) == incident.told
    told_so = [place.at_any_time for place in incident.told]
    assert told_so == [at_any_time]


FLAKY = 'if .diff.after.properties.healthStatus == "Crashed" then error("too hot") else true end'


async def test_a_program_that_fails_is_said_until_it_works(tmp_path: Path) -> None:
    """In the reason of each change, and to the rule's destination once; a job is not run for it."""
    rules = [
        {"name": "hot", "when": {"jq": FLAKY}, "resolve": {"jq": "false"}, "send": ["job", "ops"]},
        # Whether its jq fails does not matter here.
        {"name": "idle", "when": {"all": [{"property": "ram"}, {"jq": "error(1)"}]}, "send": "ops"},
    ]
    jq = Jq()

    async def nobody(*_: object) -> tuple[object, ...]:
        return ()

    queues = {name: Queues(name) for name in ("ops", "default")}
    queues["job"] = Queues("job", steps=frozenset({Step.OPENED}))
    store = open_sqlite(tmp_path / "listener.db")
    book = Rulebook(RuleSet([Rule.model_validate(rule) for rule in rules]), queues)
    intake = Intake(store, book, lambda: NOW, jq.evaluate, nobody, wake=lambda _=(): None)
    for number, status in enumerate(("Crashed", "Crashed", "Degraded", "Crashed"), 1):
        body = change_body(before="Healthy", after=status, at=NOW + timedelta(seconds=number - 9))
        await intake.accept(Signed(body, NOW))
        change = await store.read(queries.changes.change, number)
        assert change is not None
        if status == "Degraded":
            assert (intake.failing, change.reason) == (set(), "rule 'hot' matches")
        else:
            assert intake.failing == {("hot", FLAKY)}
            assert change.reason == (
                "rule 'hot': its jq failed, which counts as no match: too hot;"
                " rule 'idle': ram did not change"
            )
    rows = (await store.read(queries.page.deliveries, state=None, limit=10)).rows
    assert [(row.destination, row.notification.step) for row in reversed(rows)] == [
        ("ops", Step.NOTICE),
        ("job", Step.OPENED),
        ("ops", Step.OPENED),
    ]
    await jq.close()
    await store.close()


async def test_the_clock_is_set_while_port_is_asked(tmp_path: Path) -> None:
    """What waits is moved with the clock, and so is what is on its way into the store."""
    ahead, jq, store = timedelta(0), Jq(), open_sqlite(tmp_path / "listener.db")
    store.clock = StoreClock(lambda: datetime.now(UTC) + ahead, boot="this start")
    await store.follow_clock()

    async def look_up(*_: object) -> tuple[object, ...]:
        nonlocal ahead
        ahead = timedelta(days=40)
        await store.follow_clock()
        return ("alerts",)

    lookup = {"relation": "system", "property": "channel"}
    rule = {
        "name": "cpu",
        "when": {"property": "healthStatus"},
        "send": {"port": lookup, "default": "alerts"},
    }
    book = Rulebook(RuleSet([Rule.model_validate(rule)]), {"alerts": Queues("alerts")})
    intake = Intake(store, book, store.clock, jq.evaluate, look_up, wake=lambda _=(): None)
    await intake.accept(
        Signed(change_body(before="Healthy", after="Crashed", at=store.clock()), store.clock())
    )
    (row,) = await store.read(
        lambda tx: tx.fetch("SELECT waiting_since, received_at FROM deliveries, changes")
    )
    for at in row:
        assert abs(from_micros(at) - store.clock()) < timedelta(days=1)
    await jq.close()
    await store.close()
