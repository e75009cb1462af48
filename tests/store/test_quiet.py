"""Incidents that another one explains: each channel hears exactly what an oracle says."""

import asyncio
import random
from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from app.model.delivery import Outcome
from app.model.incident import Person
from app.model.times import to_micros
from app.rules.rule import Rule, RuleSet
from app.rules.rulebook import Queues, Rulebook
from app.store import queries
from app.store.actions import Action, Verb, act
from app.store.clock import MOVES
from app.store.follow import follow, follow_escalations
from app.store.kin import members
from app.store.opening import open_store
from app.store.rows import Attempt
from app.store.transaction import Transaction
from tests.conftest import DATABASES, NOW
from tests.store.family import CLUSTER, SERVICE, Catalog, Heard

WAIT = 30.0
QUIET = {"quiet_while": {"relation": "cluster", "rule": "cluster-health", "wait": "30s"}}


def rules(**more: object) -> list[Rule]:
    """Make the rules, with `more` for the services."""
    return [Rule.model_validate(CLUSTER), Rule.model_validate({**SERVICE, **more})]


@dataclass
class Oracle:
    """What each channel must hear, told by the rules' own words."""

    quiet: bool
    heard: dict[str, list[Heard]] = field(default_factory=lambda: defaultdict(list))
    down: bool = False
    state: dict[str, str] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)
    due: dict[str, float] = field(default_factory=dict)

    def pass_to(self, second: float) -> None:
        """Tell what was held long enough, and is explained by nothing."""
        for entity, due in sorted(self.due.items(), key=lambda item: item[1]):
            if due <= second and entity not in self.told and not self.down:
                self._tell(due, entity, "opened")

    def change(self, second: float, entity: str, state: str) -> None:
        """Take a change in."""
        self.pass_to(second)
        if entity == "eu-1":
            if (state == "Down") != self.down:
                self.heard["platform"].append(
                    (second, entity, "opened" if state == "Down" else "resolved", state)
                )
            self.down = state == "Down"
            for late in [late for late, due in self.due.items() if due <= second]:
                if late not in self.told and not self.down:
                    self._tell(second, late, "opened")
            return
        before = self.state.get(entity, "Healthy")
        self.state[entity] = state
        if state == before:
            return
        if state == "Healthy":
            if entity in self.told:
                self._tell(second, entity, "resolved")
                self.told.discard(entity)
            self.due.pop(entity, None)
            return
        if entity in self.told:
            self._tell(second, entity, "changed")
        elif state == "Crashed" or not self.quiet:
            self._tell(second, entity, "opened")
        self.due.setdefault(entity, second + WAIT)

    def _tell(self, second: float, entity: str, step: str) -> None:
        self.told.add(entity)
        self.heard["owners"].append((second, entity, step, self.state[entity]))


@DATABASES
@pytest.mark.parametrize("seed", range(3))
async def test_each_channel_hears_what_the_oracle_says(database: str, seed: int) -> None:
    """A cluster and its services fail and heal in any order, and the process dies now and then."""
    dice, quiet = random.Random(seed), seed != 2
    services = [f"s{number}" for number in range(12)]
    blueprints = {"eu-1": "cluster"} | dict.fromkeys(services, "service")
    oracle = Oracle(quiet)
    async with Catalog(database, rules(**(QUIET if quiet else {})), blueprints) as catalog:
        for service in services:
            catalog.relations[service] = {"cluster": "eu-1"}
        for turn in range(40):
            second = turn * 1.7
            # What is due before the change is due at a time of its own.
            for due in sorted({due for due in oracle.due.values() if catalog.second < due < second}):
                await catalog.go_to(due)
            catalog.second = second
            entity = dice.choice(["eu-1", "eu-1", *services])
            state = dice.choice(["Up", "Down"] if entity == "eu-1" else ["Healthy", "Degraded", "Crashed"])
            oracle.change(second, entity, state)
            await catalog.change(entity, state)
            if turn % 13 == seed:
                await catalog.die()
        for due in sorted(set(oracle.due.values())):
            await catalog.go_to(max(due, catalog.second))
        oracle.pass_to(catalog.second)
    assert {name: sorted(heard) for name, heard in catalog.heard.items()} == {
        name: sorted(heard) for name, heard in oracle.heard.items()
    }


async def failed(database: str, *more: Rule) -> Catalog:
    """Give a catalog in which a service is quiet, since its cluster is down."""
    blueprints = {"eu-1": "cluster", "eu-2": "cluster", "a": "service"}
    catalog = await Catalog(database, [*rules(**QUIET), *more], blueprints).__aenter__()
    await catalog.change("eu-1", "Down")
    await catalog.change("a", "Degraded", cluster=["eu-1", "eu-2"])
    assert catalog.heard["owners"] == []
    return catalog


def opened(catalog: Catalog) -> list[str]:
    """List why what was quiet alerts now."""
    return [alert.was_quiet for alert in catalog.alerts if alert.rule == "service-health"]


@DATABASES
async def test_what_only_explains_is_no_group(database: str) -> None:
    """It does not end because nothing of what it explains is open: seed 90 at four minutes."""
    async with Catalog(database, rules(**QUIET), {"eu-1": "cluster"}) as catalog:
        await catalog.change("eu-1", "Down")
        key = ("cluster-health", "cluster", "eu-1")
        assert await catalog.store.write(members.counted, {key}, to_micros(NOW)) == {}


@DATABASES
async def test_what_ends_the_quiet(database: str) -> None:
    """Somebody closes what explains it, or the rules change; where something else explains it, it stays."""
    catalog = await failed(database)
    row = await catalog.store.read(queries.incidents.worst, 10)
    causes = {one.incident.entity: one.cause for one in row}
    assert causes == {"eu-1": "", "a": "cluster eu-1, rule cluster-health"}
    (quiet,) = [one.incident for one in row if one.incident.entity == "a"]
    await catalog.change("eu-2", "Down")
    await catalog.store.write(queries.incidents.close, [quiet.quiet or ""], "by ada", catalog.now)
    await catalog.hear()
    assert opened(catalog) == []
    row = await catalog.store.read(queries.incidents.worst, 10)
    assert [one.cause for one in row if one.incident.entity == "a"] == ["cluster eu-2, rule cluster-health"]
    # A reload: the rule of the services is not quiet any more.
    await catalog.store.write(follow, RuleSet(rules()), catalog.now, limit=10)
    await catalog.go_to(60)
    assert opened(catalog) == [
        "rule 'service-health' is not quiet while 'cluster-health' has an incident any more"
    ]
    await catalog.change("a", "Healthy")
    assert [step for _, _, step, _ in catalog.heard["owners"]] == ["opened", "resolved"]
    await catalog.__aexit__()


async def _set_back(tx: Transaction) -> None:
    """Let all that waits move as it does when the clock is set back by a minute."""
    for statement in MOVES:
        await tx.execute(statement, -60_000_000)


@DATABASES
async def test_the_rule_of_the_cause_is_gone(database: str) -> None:
    """Its incidents are closed, and what they explained alerts; a quiet one that is closed alerts nobody."""
    catalog = await failed(database)
    await catalog.store.write(_set_back)
    without = RuleSet([rule for rule in catalog.rules if rule.name != "cluster-health"])
    await catalog.store.write(follow, without, catalog.now, limit=10)
    await catalog.go_to(60)
    (why,) = opened(catalog)
    assert why == (
        "cluster eu-1 (rule cluster-health) is closed, rule 'cluster-health' is no longer in the rules file"
    )
    await catalog.__aexit__()


STEPS: list[tuple[Verb, str]] = [
    ("acknowledge", "eu-1"),
    ("acknowledge", "a"),
    ("unacknowledge", "a"),
    ("acknowledge", "b"),
]


@DATABASES
async def test_escalations_count_from_when_it_is_not_quiet_any_more(database: str) -> None:
    """A quiet one escalates to nobody; an acknowledgement, its own or of its cause, is of that one alone."""
    escalate = {"escalate": {"after": "60s", "send": "pager"}, "again_after": "5m"}
    ada, blueprints = Person("ada", "page"), {"eu-1": "cluster", "a": "service", "b": "service"}
    async with Catalog(database, rules(**QUIET, **escalate), blueprints) as catalog:
        for entity, state in (("a", "Degraded"), ("eu-1", "Down"), ("b", "Degraded")):
            await catalog.change(entity, state, cluster="eu-1")
        rows = {row.incident.entity: row for row in await catalog.store.read(queries.incidents.worst, 10)}

        async def do(number: int, verb: Verb, entity: str) -> None:
            action = Action(str(number), verb, rows[entity].incident.id, ada)
            await catalog.store.write(act, action, catalog.now)

        for number, (verb, entity) in enumerate(STEPS):
            await do(number, verb, entity)
        await catalog.go_to(1000)
        assert (catalog.heard["owners"], catalog.heard["pager"]) == ([], [])
        # A reload while it is quiet leaves that so.
        book = Rulebook(RuleSet(catalog.rules), {name: Queues(name) for name in ("owners", "pager")})
        await catalog.store.write(follow_escalations, book, catalog.now)
        await catalog.go_to(1100)
        await catalog.change("eu-1", "Up")
        told = [(entity, step) for _, entity, step, _ in catalog.heard["owners"]]
        assert sorted(told) == [("a", "opened"), ("b", "opened")]
        assert {alert.entity: alert.acknowledged and alert.acknowledged.by for alert in catalog.alerts} == {
            "eu-1": None,
            "a": None,
            "b": ada,
        }
        for second in (1159, 1160, 1399, 1400):
            await catalog.go_to(second)
        assert [heard[:3] for heard in catalog.heard["pager"]] == [(1160, "a", "escalated")]
        assert [heard[:3] for heard in catalog.heard["owners"][2:]] == [(1400, "a", "reminded")]
        await do(9, "unacknowledge", "b")
        await catalog.go_to(1460)
        assert [heard[:3] for heard in catalog.heard["pager"][1:]] == [(1460, "b", "escalated")]


@DATABASES
async def test_a_circle_of_relations(database: str) -> None:
    """Of services that depend on each other one alerts; when it heals, the next does."""
    depends = {"quiet_while": {"relation": "needs", "rule": "service-health", "wait": "10s"}}
    names = ["a", "b", "c"]
    async with Catalog(database, rules(**depends), dict.fromkeys(names, "service")) as catalog:
        for name, other in zip(names, ["b", "c", "a"], strict=True):
            catalog.relations[name] = {"needs": other}
        for second, name in enumerate(names):
            await catalog.go_to(second)
            await catalog.change(name, "Degraded")
        await catalog.go_to(30)
        assert len(catalog.heard["owners"]) == 1
        heard = catalog.heard["owners"][0][1]
        await catalog.change(heard, "Healthy")
        await catalog.go_to(60)
        told = [(entity, step) for _, entity, step, _ in catalog.heard["owners"]]
        assert told.count((heard, "resolved")) == 1
        assert [step for _, step in told].count("opened") == 2
        for name in {*names} - {heard}:
            await catalog.change(name, "Healthy")
        told = [(entity, step) for _, entity, step, _ in catalog.heard["owners"]]
        assert {told.count((name, "opened")) - told.count((name, "resolved")) for name in names} == {0}
        assert await catalog.store.read(queries.incidents.worst, 10) == []


@DATABASES
async def test_changes_that_are_accepted_together(database: str) -> None:
    """What was told before, or was critical, is not taken back by a cause that opens in the same moment."""
    blueprints = {"eu-1": "cluster", "a": "service", "b": "service"}
    async with Catalog(database, rules(**QUIET), blueprints) as catalog:
        for service in ("a", "b"):
            catalog.relations[service] = {"cluster": "eu-1"}
        await catalog.change("a", "Crashed")
        changes = [("a", "Healthy"), ("a", "Degraded"), ("b", "Crashed"), ("b", "Degraded"), ("eu-1", "Down")]
        # The end of the first waits to be sent while it opens again, under a cause.
        for group in (changes[:1], changes[1:]):
            await catalog.store.accept([catalog.incoming(*change) for change in group])
        await catalog.go_to(100)
        told = [(entity, step) for _, entity, step, _ in catalog.heard["owners"]]
        assert told == [("a", "opened"), ("a", "resolved"), ("b", "opened"), ("b", "changed")]


@DATABASES
async def test_a_cause_that_opens_while_the_alert_is_sent(database: str) -> None:
    """It was told after all: it is not quiet any more, and reminds."""
    blueprints = {"eu-1": "cluster", "a": "service"}
    async with Catalog(database, rules(**QUIET, again_after="5m"), blueprints) as catalog:
        await catalog.change("a", "Degraded", cluster="eu-1")
        catalog.second = 30
        (claim,) = await catalog.claims()
        catalog.second = 29
        await catalog.store.accept([catalog.incoming("eu-1", "Down")])
        catalog.second = 31
        done = Attempt(Outcome.DELIVERED, "ok", catalog.now, catalog.now, catalog.now)
        assert await catalog.store.record(claim, done)
        await catalog.go_to(331)
        assert [heard[:3] for heard in catalog.heard["owners"]] == [(331, "a", "reminded")]


@DATABASES
async def test_a_cause_that_opens_by_a_clock_that_is_behind(database: str) -> None:
    """Of what another process told already, by its clock, the end is told, too: it is not quiet."""
    blueprints = {"eu-1": "cluster", "a": "service"}
    async with Catalog(database, rules(**QUIET), blueprints) as catalog:
        await catalog.change("a", "Degraded", cluster="eu-1")
        await catalog.go_to(30)
        catalog.second = 29
        await catalog.store.accept([catalog.incoming("eu-1", "Down")])
        catalog.second = 31
        await catalog.change("a", "Healthy")
        await catalog.go_to(40)
        assert [heard[1:3] for heard in catalog.heard["owners"]] == [("a", "opened"), ("a", "resolved")]


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
async def test_replicas_at_the_same_moment(database: str) -> None:
    """Two replicas take changes of a cluster and its services in: nothing is lost or waits for ever."""
    services = [f"s{number}" for number in range(20)]
    blueprints = {"eu-1": "cluster"} | dict.fromkeys(services, "service")
    async with Catalog(database, rules(**QUIET), blueprints) as catalog, open_store(database) as other:
        for service in services:
            catalog.relations[service] = {"cluster": "eu-1"}
        for turn, (cluster, state) in enumerate([("Down", "Degraded"), ("Up", "Restarting")]):
            catalog.second = turn * 5.0
            changes = [catalog.incoming(service, state) for service in services]
            changes.insert(10, catalog.incoming("eu-1", cluster))
            stores = [catalog.store, other]
            await asyncio.gather(
                *(stores[number % 2].accept([one]) for number, one in enumerate(changes)), catalog.hear()
            )
            await catalog.hear()
        await catalog.go_to(100)
        told = [entity for _, entity, step, _ in catalog.heard["owners"] if step == "opened"]
        assert sorted(told) == sorted(services)


@DATABASES
async def test_a_clock_that_is_behind_ports(database: str) -> None:
    """What is held is held from now on, and what happens meanwhile does not prolong that."""
    behind = timedelta(hours=-2)
    async with Catalog(database, rules(**QUIET), {"a": "service"}) as catalog:

        async def due_at(state: str) -> datetime | None:
            one = catalog.incoming("a", state)
            await catalog.store.accept([replace(one, received_at=one.received_at + behind, step=behind)])
            (row,) = await catalog.store.read(queries.incidents.worst, 1)
            return row.incident.due_at

        catalog.relations["a"] = {"cluster": "eu-1"}
        expected = catalog.now + behind + timedelta(seconds=WAIT)
        assert await due_at("Degraded") == expected
        catalog.second += 9
        assert await due_at("Slow") == expected


GROUP = {"of": "service-health", "by": {"relation": "cluster"}, "at_least": 3, "until": 1}


async def test_what_the_lines_are_not_about_hears_the_same(tmp_path: Path) -> None:
    """Other rules alert of the same with them and without; without them no tie is looked at."""
    dice, names = random.Random(7), [f"s{number}" for number in range(6)]
    happens = [(dice.choice(["eu-1", *names]), dice.randrange(3)) for _ in range(40)]
    others = [
        Rule.model_validate(SERVICE | {"name": "load", "again_after": "20s", "send": "load"}),
        Rule.model_validate({"name": "all", "blueprint": "*", "on": ["UPDATE"], "send": "all"}),
    ]
    group = [Rule.model_validate({"name": "many", "send": "many"} | GROUP)]

    async def heard(in_force: list[Rule], *, has_ties: bool = True) -> dict[str, list[Heard]]:
        database = f"sqlite:///{tmp_path}/{len(in_force)}-{bool(in_force[1].quiet_while)}.db"
        blueprints = {"eu-1": "cluster"} | dict.fromkeys(names, "service")
        async with Catalog(database, in_force, blueprints) as catalog:
            catalog.relations |= {name: {"cluster": "eu-1"} for name in names}
            if not has_ties:
                await catalog.store.write(_without_ties)
            for turn, (entity, state) in enumerate(happens):
                catalog.second = turn * 3.0
                states = ["Up", "Down", "Down"] if entity == "eu-1" else ["Healthy", "Degraded", "Crashed"]
                await catalog.change(entity, states[state])
            return {**catalog.heard}

    plain = await heard([*rules(), *others], has_ties=False)
    grouped = await heard([*rules(), *others, *group])
    both = await heard([*rules(**QUIET), *others, *group])
    assert grouped == plain | {"many": grouped["many"]}
    assert both == plain | {"many": grouped["many"], "owners": both["owners"]}
    assert len(both["owners"]) < len(plain["owners"])


async def _without_ties(tx: Transaction) -> None:
    """Let everything fail that looks at what incidents have to do with others."""
    await tx.execute("DROP TABLE incident_ties")
