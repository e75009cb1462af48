"""Groups: one incident for many, counted as an oracle counts, on every store and across restarts."""

import asyncio
import random
from collections import defaultdict
from pathlib import Path

import pytest

from app.model.times import Micros
from app.rules.kin.quiet import QuietWhile
from app.rules.last_known import LastKnown
from app.rules.rule import Rule, RuleSet
from app.store import queries
from app.store.follow import follow
from app.store.opening import open_store
from app.store.transaction import Transaction
from tests.conftest import DATABASES
from tests.store.family import CLUSTER, SERVICE, Catalog
from tests.waiting import until

DOMAINS = ["pay", "ship", "search"]
SERVICES = [f"s{number}" for number in range(10)]
BLUEPRINTS = dict.fromkeys(SERVICES, "service")
TEAM_A = dict.fromkeys(SERVICES, ("a",))


def rules(for_: int = 0, **more: object) -> list[Rule]:
    """Make the rules, with `more` for the group's; the services' opens `for_` seconds after it matched."""
    waits = {"when": {"property": "healthStatus", "for": f"{for_}s"}} if for_ else {}
    group = {"name": "domain-degraded", "of": "service-health", "by": {"relation": "domain"}, "at_least": 3}
    return [
        Rule.model_validate({**SERVICE, **waits}),
        Rule.model_validate({**group, "until": 1, "send": "platform", **more}),
    ]


@DATABASES
@pytest.mark.parametrize(("seed", "for_"), [(0, 0), (1, 0), (2, 3), (3, 7)])
async def test_a_group_opens_and_resolves_as_its_members_do(database: str, seed: int, for_: int) -> None:
    """Services fail, heal, are deleted and move between domains; the process dies now and then."""
    dice, of, since = random.Random(seed), dict[str, str](), dict[str, int]()
    expected, is_open = defaultdict(list), dict.fromkeys(DOMAINS, False)

    def look(turn: int) -> None:
        for domain in DOMAINS:
            count = sum(of[name] == domain and turn >= began + for_ for name, began in since.items())
            if is_open[domain] != (count >= 3 if not is_open[domain] else count > 1):
                is_open[domain] = not is_open[domain]
                expected[domain].append((float(turn), "opened" if is_open[domain] else "resolved"))

    async with Catalog(database, rules(for_), BLUEPRINTS) as catalog:
        for service in SERVICES:
            of[service] = dice.choice(DOMAINS)
            catalog.relations[service] = {"domain": of[service]}
        for turn in range(70):
            catalog.second, service = float(turn), dice.choice(SERVICES)
            look(turn)
            what = dice.random()
            if what < 0.15:
                of[service] = dice.choice(DOMAINS)
                await catalog.change(service, domain=of[service])
            elif what < 0.2:
                await catalog.change(service)
                catalog.states[service] = "Healthy"
            else:
                await catalog.change(service, dice.choice(["Healthy", "Degraded", "Crashed"]))
            since.setdefault(service, turn)
            since = {
                name: at for name, at in since.items() if catalog.states.get(name, "Healthy") != "Healthy"
            }
            look(turn)
            if turn % 19 == seed:
                await catalog.die()
    heard = defaultdict(list)
    for second, entity, step, _ in catalog.heard["platform"]:
        heard[entity].append((second, step))
    assert heard == expected
    assert sum(map(len, expected.values())) > 3


@DATABASES
async def test_members_that_are_quiet(database: str) -> None:
    """From the one on that opens the group they are but lines of its message."""
    async with Catalog(database, rules(members="quiet"), BLUEPRINTS) as catalog:
        for service in SERVICES:
            catalog.relations[service] = {"domain": "pay"}
        for second, service in enumerate(SERVICES[:5]):
            catalog.second = second
            await catalog.change(service, "Degraded")
        assert [entity for _, entity, _, _ in catalog.heard["owners"]] == SERVICES[:2]
        (group,) = [alert for alert in catalog.alerts if alert.rule == "domain-degraded"]
        assert (group.title, group.below) == ("pay", "3 open now: 3 degraded")
        assert group.members == ("s0: Degraded", "s1: Degraded", "s2: Degraded")
        # Somebody closes all of them: the group's is closed, too, and what was quiet alerts nobody.
        rows = await catalog.store.read(queries.incidents.worst, 10)
        names = [row.incident.id for row in rows if row.incident.rule == "service-health"]
        closed = await catalog.store.write(queries.incidents.close, names, "by ada", catalog.now)
        assert len(closed) == 6
        await catalog.go_to(60)
        told = [(entity, step) for _, entity, step, _ in catalog.heard["owners"]]
        assert sorted(told[2:]) == [("s0", "resolved"), ("s1", "resolved")]
        assert [step for _, _, step, _ in catalog.heard["platform"]] == ["opened", "resolved"]


@DATABASES
@pytest.mark.parametrize("for_", [0, 1])
async def test_who_waits_for_a_group_is_no_member(database: str, for_: int) -> None:
    """What is quiet while a group's incident is open does not count in it, and does not keep it open."""
    quiet_while = {"relation": "domain", "rule": "domain-degraded"}
    below = Rule.model_validate(CLUSTER | {"quiet_while": quiet_while})
    all_rules = [*rules(for_, at_least=2, until=0), below]
    async with Catalog(database, all_rules, BLUEPRINTS | {"c1": "cluster"}) as catalog:
        for name in ("s0", "s1", "c1"):
            catalog.relations[name] = {"domain": "pay"}
        await catalog.change("s0", "Degraded")
        await catalog.change("c1", "Down")
        await catalog.change("s0", "Crashed")
        await catalog.go_to(5)
        assert [entity for _, entity, _, _ in catalog.heard["platform"]] == ["c1"]
        await catalog.change("s1", "Degraded")
        await catalog.go_to(10)
        rows = await catalog.store.read(queries.incidents.worst, 10)
        names = [row.incident.id for row in rows if row.incident.rule == "service-health"]
        await catalog.store.write(queries.incidents.close, names, "by ada", catalog.now)
        await catalog.go_to(15)
        told = [(entity, step) for _, entity, step, _ in catalog.heard["platform"]]
        assert told == [("c1", "opened"), ("pay", "opened"), ("pay", "resolved")]


@DATABASES
async def test_teams(database: str) -> None:
    """An entity counts in the group of each team that owns it."""
    teams = {"s0": ["a"], "s1": ["a", "b"], "s2": ["b"]}
    by_team = rules(by="team", at_least=2, until=0)
    async with Catalog(database, by_team, BLUEPRINTS, teams=teams) as catalog:
        for service in ("s0", "s1", "s2"):
            await catalog.change(service, "Degraded")
        told = [entity for _, entity, _, _ in catalog.heard["platform"]]
        assert told == ["a", "b"]


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
async def test_replicas_that_count_at_the_same_moment(database: str) -> None:
    """Members that open at once on two replicas make one incident, and its end is told once."""
    async with Catalog(database, rules(), BLUEPRINTS) as catalog, open_store(database) as other:
        for service in SERVICES:
            catalog.relations[service] = {"domain": "pay"}
        for turn, state in enumerate(["Degraded", "Healthy"]):
            catalog.second = turn
            changes = [catalog.incoming(service, state) for service in SERVICES]
            stores = [catalog.store, other]
            await asyncio.gather(*(stores[place % 2].accept([one]) for place, one in enumerate(changes)))
            await catalog.hear()
        assert [step for _, _, step, _ in catalog.heard["platform"]] == ["opened", "resolved"]


@DATABASES
@pytest.mark.parametrize("for_", [0, 5, 6])
async def test_members_that_are_closed_by_hand_count_no_more(database: str, for_: int) -> None:
    """The group's ends with them, once as few are left as its rule says; one that waits does, too."""
    async with Catalog(database, rules(for_, by="team"), BLUEPRINTS, teams=TEAM_A) as catalog:
        for second, service in enumerate(SERVICES[:4]):
            catalog.second = second * 2
            await catalog.change(service, "Degraded")
        if for_:  # at second 9 the third one counts, and the group's alerts; without the first, at 11
            await _close(catalog, "s0")
            await catalog.go_to(10)
            assert catalog.heard["platform"] == []
            if for_ == 6:
                await catalog.go_to(13)
                assert [heard[:3] for heard in catalog.heard["platform"]] == [(13, "a", "opened")]
                return
            await _close(catalog, "s1")
            await catalog.go_to(20)
            assert catalog.heard["platform"] == []
            return
        await _close(catalog, "s0")
        await _close(catalog, "s1")
        assert [step for _, _, step, _ in catalog.heard["platform"]] == ["opened"]
        await _close(catalog, "s2")
        assert [step for _, _, step, _ in catalog.heard["platform"]] == ["opened", "resolved"]
        closed = {alert.rule: alert.closed for alert in catalog.alerts}
        assert closed["domain-degraded"] == "only 1 of what it counts is open"


@DATABASES
async def test_groups_follow_the_rules(database: str) -> None:
    """A reload leaves members quiet; what ended while the group's rule was away does not count later."""
    both = rules(by="team", at_least=2, until=0, members="quiet")
    async with Catalog(database, both, BLUEPRINTS, teams=TEAM_A) as catalog:

        async def reload(*in_force: Rule) -> None:
            catalog.rules = [*in_force]
            await catalog.store.write(follow, RuleSet(in_force), catalog.now, limit=10)
            await catalog.hear()

        for service in ("s0", "s1", "s2"):
            await catalog.change(service, "Degraded")
        await reload(*both)
        assert [entity for _, entity, _, _ in catalog.heard["owners"]] == ["s0"]
        await reload(both[0])
        assert [entity for _, entity, _, _ in catalog.heard["owners"]] == ["s0", "s1", "s2"]
        for service in ("s1", "s2"):
            await catalog.change(service, "Healthy")
        await reload(*both)
        await catalog.change("s0", "Healthy")
        await catalog.change("s3", "Degraded")
        assert [step for _, _, step, _ in catalog.heard["platform"]] == ["opened", "resolved"]
        await catalog.change("s4", "Degraded")
        await reload(*rules(by="team", at_least=5, until=2))
        assert [step for _, _, step, _ in catalog.heard["platform"]] == ["opened", "resolved"] * 2
        closed = {alert.rule: alert.closed for alert in catalog.alerts}
        assert closed["domain-degraded"] == "only 2 of what it counts are open"


@DATABASES
async def test_a_group_by_something_else(database: str) -> None:
    """Members move when the rules are read: what is open counts where it belongs by now, old and new."""
    before, after = rules(members="quiet"), rules(by="team", at_least=5, until=3, members="quiet")
    later = rules(for_=30, by="team", at_least=4, until=1)
    async with Catalog(database, before, BLUEPRINTS, teams=TEAM_A) as catalog:
        for service in SERVICES[:4]:
            await catalog.change(service, "Degraded", domain="pay")
        states = {
            service: LastKnown(
                {"team": ["a"], "relations.domain": "pay"}, {}, exists=True, exists_at=Micros(1)
            )
            for service in SERVICES
        }
        await catalog.store.write(queries.last_known.record_states, "service", states)
        for in_force in (after, after):
            catalog.rules = in_force
            await catalog.store.write(follow, RuleSet(in_force), catalog.now, limit=10)
            await catalog.hear()
        told = [(entity, step) for _, entity, step, _ in catalog.heard["platform"]]
        assert told == [("pay", "opened"), ("pay", "resolved")]
        # What was quiet in the old group alerts: the new one is not open yet.
        assert [entity for _, entity, _, _ in catalog.heard["owners"]] == SERVICES[:4]
        await catalog.change("s4", "Degraded")
        assert [heard[1:3] for heard in catalog.heard["platform"][2:]] == [("a", "opened")]
        await _close(catalog, "s0", "s1")
        assert [heard[1:3] for heard in catalog.heard["platform"][3:]] == [("a", "resolved")]
        # What counts already goes on to do so, though the rule has a `for` now.
        catalog.rules = later
        await catalog.store.write(follow, RuleSet(later), catalog.now, limit=10)
        await catalog.change("s5", "Degraded")
        await catalog.go_to(30)
        assert [heard[:3] for heard in catalog.heard["platform"][4:]] == [(30, "a", "opened")]


@pytest.mark.parametrize("relation", ["domain", "area"])
async def test_what_is_quiet_in_its_own_group_stays_so(tmp_path: Path, relation: str) -> None:
    """A tie that quiets and counts is one: the same rules, read again, change nothing of it."""

    def by_rules(of: str) -> list[Rule]:
        quiet_while = {"relation": relation, "rule": "domain-degraded"}
        services, group = rules(of=of, by={"relation": "domain"})
        explained = services.model_copy(update={"quiet_while": QuietWhile.model_validate(quiet_while)})
        return [explained, group, Rule.model_validate(CLUSTER)]

    async def read_again(of: str) -> list[str]:
        closed = await catalog.store.write(follow, RuleSet(by_rules(of)), catalog.now, limit=10)
        await catalog.hear()
        return [incident.rule for incident in closed]

    blueprints = BLUEPRINTS | {"c": "cluster"}
    async with Catalog(f"sqlite:///{tmp_path}/own.db", by_rules("service-health"), blueprints) as catalog:
        for second, service in enumerate(SERVICES[:5]):
            catalog.second = second
            await catalog.change(service, "Degraded", domain="pay", area="pay")
        catalog.second = 9
        assert await read_again("service-health") == []
        assert [heard[1] for heard in catalog.heard["owners"]] == SERVICES[:2]
        # It counts others: those that it explained only do not count, and alert when it ends.
        assert await read_again("cluster-health") == ["domain-degraded"]
        assert [heard[1] for heard in catalog.heard["owners"]] == SERVICES[:5]


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
async def test_a_group_that_another_process_opens_while_the_rules_are_read(database: str) -> None:
    """It is left to that one: this one has no lock of it, and would count what is not there yet."""
    held, released = asyncio.Event(), asyncio.Event()

    async def hold(tx: Transaction) -> None:
        await tx.lock([("service", "s0")])
        held.set()
        await released.wait()

    async def waits(tx: Transaction) -> bool:
        return bool(await tx.fetch_value("SELECT count(*) FROM pg_locks WHERE NOT granted"))

    teams = dict.fromkeys(SERVICES[1:], ("a",))
    async with Catalog(database, rules(by="team"), BLUEPRINTS, teams=teams) as catalog:
        await catalog.change("s0", "Degraded")
        new = rules(by="team", at_least=100, until=99)
        async with open_store(database) as other, open_store(database) as third:
            holding = asyncio.create_task(other.write(hold))
            await held.wait()
            # It waits for an entity that it closes the incident of; meanwhile the group opens.
            reading = asyncio.create_task(third.write(follow, RuleSet(new[1:]), catalog.now, limit=9))
            try:
                await until(lambda: other.read(waits))
                await catalog.store.accept([catalog.incoming(name, "Degraded") for name in SERVICES[1:4]])
            finally:
                released.set()
            closed = await reading
            await holding
        assert [incident.entity for incident in closed] == ["s0"]


async def test_a_group_that_ends_with_the_rule_of_its_members(database: str) -> None:
    """The audit trail does not say that nothing is open any more, where a few are."""
    async with Catalog(database, rules(by="team"), BLUEPRINTS, teams=TEAM_A) as catalog:
        for service in ("s0", "s1", "s2"):
            await catalog.change(service, "Degraded")
        _, group = catalog.rules
        closed = await catalog.store.write(follow, RuleSet((group,)), catalog.now, limit=2)
        assert [incident.entity for incident in closed] == ["s0", "s1", "a"]
        last, *_ = (await catalog.store.read(queries.audit.entries, limit=9)).rows
        assert last.details.endswith(" a: too few of what it counts are open.")


@DATABASES
async def test_a_member_that_two_explain(database: str) -> None:
    """If the rules let one of the two explain it no more, it stays quiet because of the other."""
    quiet_while = {"relation": "cluster", "rule": "cluster-health"}
    member, group = rules(by="team", at_least=2, until=0, members="quiet")
    child = Rule.model_validate({**SERVICE, "quiet_while": quiet_while})
    all_rules, blueprints = [Rule.model_validate(CLUSTER), child, group], {**BLUEPRINTS, "c1": "cluster"}
    async with Catalog(database, all_rules, blueprints, teams=TEAM_A) as catalog:
        await catalog.change("c1", "Down")
        for service in ("s0", "s1"):
            await catalog.change(service, "Degraded", cluster="c1")
        await catalog.store.write(follow, RuleSet([member, group]), catalog.now, limit=10)
        await catalog.go_to(10)
        assert catalog.heard["owners"] == []
        catalog.rules = [member, group]
        for service in ("s0", "s1"):
            await catalog.change(service, "Healthy")
        assert catalog.heard["owners"] == []


@DATABASES
async def test_members_that_become_one(database: str) -> None:
    """An incident that goes on as another one, since its entity was renamed, counts once."""
    async with Catalog(database, rules(by="team"), BLUEPRINTS, teams=TEAM_A) as catalog:
        for service in ("s0", "s1", "s2"):
            await catalog.change(service, "Degraded")
        await catalog.store.accept([catalog.incoming("s1", "Degraded", former="s0")])
        await catalog.hear()
        assert [step for _, _, step, _ in catalog.heard["platform"]] == ["opened"]
        await catalog.change("s2", "Healthy")
        assert [step for _, _, step, _ in catalog.heard["platform"]] == ["opened", "resolved"]


@DATABASES
async def test_a_group_escalates(database: str) -> None:
    """As any incident does that nobody acknowledges."""
    escalate = {"after": "60s", "send": "pager"}
    async with Catalog(database, rules(by="team", escalate=escalate), BLUEPRINTS, teams=TEAM_A) as catalog:
        for service in ("s0", "s1", "s2"):
            await catalog.change(service, "Degraded")
        await catalog.go_to(60)
        assert [heard[:3] for heard in catalog.heard["pager"]] == [(60, "a", "escalated")]


async def _close(catalog: Catalog, *services: str) -> None:
    rows = await catalog.store.read(queries.incidents.worst, 100)
    names = [row.incident.id for row in rows if row.incident.entity in services]
    await catalog.store.write(queries.incidents.close, names, "by ada", catalog.now)
    await catalog.hear()
