"""The last known state: what moves it, what a comparison finds, and what is not told twice."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from app.model.change import CatalogChange, EntitySnapshot
from app.model.diff import diff
from app.port.listing import Listed
from app.reconcile.compare import Verdict, compare, missing
from app.rules.decide import Decision, EntityState, decide
from app.rules.last_known import Known, follow, learned, micros, notice
from app.rules.match import Route, match
from app.rules.rule import BUILT_IN, Rule, RuleSet
from app.rules.watched import EVERYTHING, Watched, condition_fields, watched_by
from tests.rules.changes import NOW, change, rule

SECOND = timedelta(seconds=1)
HEALTH = Watched(frozenset({"title", "team", "properties.healthStatus"}))


def entity(health: str | None, **more: Any) -> EntitySnapshot:
    """An entity of this health."""
    properties = {"healthStatus": health} if health else {}
    return EntitySnapshot("payments-db", "database", "Payments", properties=properties | more)


def moved(before: str | None, after: str | None, at: float, **facts: Any) -> CatalogChange:
    """A change of the health, `at` seconds after NOW; None: there is no entity."""
    action = "CREATE" if before is None else "DELETE" if after is None else "UPDATE"
    sides = [None if one is None else entity(one) for one in (before, after)]
    return change(*sides, action=action, at=NOW + at * SECOND, **facts)


def known_at(health: str, at: float = 0) -> Known:
    """An entity of this health that was learned `at` seconds after NOW."""
    return learned(
        HEALTH.values(entity(health)), micros(NOW + at * SECOND), HEALTH, micros(NOW + at * SECOND)
    )


def followed(known: Known | None, what: CatalogChange, watched: Watched = HEALTH) -> Known | None:
    """What is known after a change that came as soon as it happened."""
    return follow(known, what, diff(what.before, what.after), watched, what.at)


def after(known: Known | None, what: CatalogChange) -> Known:
    """What is known after a change that moves something."""
    found = followed(known, what)
    assert found is not None
    return found


def look(
    known: Known | None, listed: str, updated: float | None, *, asked: float, first: bool = False
) -> Any:
    """Compare with a listing that was asked for `asked` seconds after NOW."""
    updated_at = None if updated is None else NOW + updated * SECOND
    asked_at = NOW + asked * SECOND
    return compare(
        known, Listed(entity(listed), updated_at), HEALTH, asked_at=asked_at, first=first, now=asked_at
    )


class Life:
    """What the store knows of an entity as changes and comparisons come, and what was told."""

    def __init__(self, *rules: Rule, health: str = "Healthy") -> None:
        self.rules = RuleSet(rules or (BUILT_IN,))
        self.state = EntityState(NOW, (), known_at(health))
        self.told: list[tuple[str, Any, Any]] = []

    def hears(self, what: CatalogChange, *, noticed: bool = False) -> Decision:
        """Decide on a change, and move the state."""
        found = match(self.rules, what, {})
        hits = tuple(replace(hit, routes=(Route("default", "default"),)) for hit in found.hits)
        decision = decide(
            replace(found, hits=hits, watched=HEALTH), self.state, max(what.at, NOW), noticed=noticed
        )
        incidents = {one.id: one for one in (*self.state.incidents, *decision.incidents)}
        last_at = max(self.state.last_at or what.at, what.at)
        self.state = EntityState(last_at, tuple(incidents.values()), decision.known or self.state.known)
        for alert in decision.alerts:
            value = alert.notification.change
            self.told.append((alert.notification.rule, value and value.before, value and value.after))
        return decision


# what is watched


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"when": {"property": "cpu", "above": 80}}, {"properties.cpu"}),
        ({"when": {"property": "spec.cpu"}}, {"properties.spec", "properties.spec.cpu"}),
        ({"when": {"relation": "owner"}}, {"relations.owner"}),
        ({"when": {"title": True}}, {"title"}),
        (
            {"when": {"any": [{"property": "a"}, {"team": True}]}, "resolve": {"property": "b", "to": 1}},
            {"properties.a", "properties.b", "team"},
        ),
        ({"when": {"jq": ".x"}}, None),
        ({}, None),
    ],
)
def test_the_fields_that_conditions_read(said: dict[str, Any], expected: set[str] | None) -> None:
    """`when` and `resolve` name them; jq, and a rule for any change, may read all."""
    assert condition_fields(rule(**said)) == expected


def test_only_blueprints_that_rules_name_are_watched() -> None:
    """A pattern names none, but what it reads counts for those that others name."""
    rules = RuleSet(
        [
            rule(name="one", blueprint="database", when={"property": "cpu"}),
            rule(name="two", blueprint="data*", when={"property": "ram"}),
            rule(name="three", when={"property": "healthStatus"}),
        ]
    )
    assert watched_by(rules).keys() == {"database"}
    assert watched_by(rules)["database"] == Watched(
        frozenset({*("title", "team", "properties.cpu", "properties.ram", "properties.healthStatus")})
    )
    assert watched_by(RuleSet([BUILT_IN])) == {}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            {"send": {"port": {"relation": "owner", "property": "channel"}, "default": "x"}},
            {"relations.owner"},
        ),
        ({"send": {"port": {"team": True, "property": "channel"}, "default": "x"}}, set()),
        ({"send": {"by_team": {"Rocket": "x"}, "default": "x"}}, set()),
        ({"send": {"template": "{{ .diff.after.title }}", "default": "x"}}, None),
        ({"send": {"by_team": {"Rocket": "job"}, "default": "x"}}, None),
        ({"send": ["x", "job"]}, None),
        ({"title": "{{ .diff.after.title }}"}, None),
        ({"message": "hello"}, None),
    ],
)
def test_routing_and_templates_are_watched_too(said: dict[str, Any], expected: set[str] | None) -> None:
    """What decides where to, and all where a template or a job's own may read it."""
    found = watched_by(RuleSet([rule(blueprint="database", when={"property": "cpu"}, **said)]), {"job"})
    fields = found["database"].fields
    assert fields == (None if expected is None else {"title", "team", "properties.cpu", *expected})


# what changes from Port move


def test_a_change_moves_only_what_it_changed() -> None:
    """The change of one field does not hide that another's never came."""
    known = known_at("Healthy")
    other = change(
        entity("Degraded", cpu=1), entity("Degraded", cpu=2), at=NOW + 5 * SECOND
    )  # the change to Degraded was lost
    assert followed(known, other) is None
    renamed = change(
        entity("Degraded"), EntitySnapshot("payments-db", "database", "New"), at=NOW + 6 * SECOND
    )
    moved_on = after(known, renamed)
    assert moved_on.values == {"title": "New", "team": None, "properties.healthStatus": None}
    assert moved_on.version == known.version + 1


def test_a_late_change_moves_nothing() -> None:
    """Neither a value that changed later, nor one of the same time that a comparison has found."""
    known = after(known_at("Healthy"), moved("Healthy", "Degraded", 10))
    assert followed(known, moved("Healthy", "Crashed", 5)) is None
    same_time = followed(known, moved("Healthy", "Crashed", 10))
    assert same_time is not None
    assert same_time.values["properties.healthStatus"] == "Crashed"
    what = moved("Degraded", "Crashed", 20)
    noticed = notice(known, what, diff(what.before, what.after), HEALTH, (), NOW)
    assert followed(noticed, moved("Degraded", "Restarting", 20)) is None


def test_what_is_not_watched_moves_nothing() -> None:
    """Not even the time."""
    other = change(entity("Healthy", cpu=1), entity("Healthy", cpu=2), at=NOW + 5 * SECOND)
    assert followed(known_at("Healthy"), other) is None
    timer = change(None, None, action="TIMER_EXPIRED", timer="locked")
    assert followed(known_at("Healthy"), timer) is None


def test_an_unknown_entity_whose_creation_never_came() -> None:
    """Is known from its change on, and that it exists has yet to be told."""
    known = after(None, moved("Healthy", "Degraded", 5))
    assert (known.values["properties.healthStatus"], known.exists) == ("Degraded", None)
    assert look(known, "Degraded", 5, asked=60).verdict is Verdict.CREATED
    assert look(known, "Degraded", 5, asked=60, first=True).known.exists is True
    created = after(known, moved(None, "Healthy", 1))
    assert (created.values, created.exists) == (known.values, True)


def test_deleted_and_created_again() -> None:
    """A deletion is remembered; what happened before it moves nothing, what comes after begins anew."""
    gone = after(known_at("Healthy"), moved("Healthy", None, 10))
    assert gone.gone
    assert followed(gone, moved("Healthy", "Degraded", 5)) is None
    assert followed(gone, moved("Healthy", None, 5)) is None
    again = after(gone, moved(None, "Crashed", 20))
    assert (again.exists, again.values["properties.healthStatus"]) == (True, "Crashed")
    assert again.version > gone.version


def test_everything_is_watched() -> None:
    """Then what an entity lacks is null, also where it comes later."""
    known = learned(EVERYTHING.values(entity("Healthy")), micros(NOW), EVERYTHING, micros(NOW))
    more = change(entity("Healthy"), entity(None, cpu=5), at=NOW + 5 * SECOND)
    found = follow(known, more, diff(more.before, more.after), EVERYTHING, NOW)
    assert found is not None
    assert found.values == {"title": "Payments", "properties.cpu": 5}


# what a comparison finds


def test_no_difference_is_no_news() -> None:
    """Whatever Port's time of the last change: something else has changed, or it flapped and is back."""
    known = known_at("Healthy")
    assert look(known, "Healthy", 500, asked=600).verdict is Verdict.SAME


@pytest.mark.parametrize(
    ("updated", "asked", "expected"),
    [
        (50, 60, Verdict.UPDATED),
        (None, 60, Verdict.UPDATED),  # Port says no time
        (0, 60, Verdict.UPDATED),  # a mirror's value: the entity itself did not change
        (-1, 60, Verdict.UPDATED),  # the clocks of an event and of an entity are not quite the same
        (-30, 60, Verdict.SAME),  # Port's search is behind: it has not seen what we know
        (50, 0.5, Verdict.TOUCHED),  # we heard of it after Port was asked
    ],
)
def test_a_difference(updated: float | None, asked: float, expected: Verdict) -> None:
    """Is news if what was read is at least as new as what is known."""
    found = look(known_at("Healthy"), "Degraded", updated, asked=asked)
    assert found.verdict is expected
    if expected is Verdict.UPDATED:
        assert found.fields == {"properties.healthStatus"}


def test_an_unknown_entity() -> None:
    """Was created; but in the first run it is only learned."""
    assert look(None, "Healthy", 5, asked=60).verdict is Verdict.CREATED
    found = look(None, "Healthy", 5, asked=60, first=True)
    assert found.verdict is Verdict.LEARN
    assert look(found.known, "Healthy", 5, asked=70).verdict is Verdict.SAME


def test_a_missing_entity() -> None:
    """Was deleted, unless we heard of it since Port was asked."""
    known = known_at("Healthy")
    assert missing(known, asked_at=NOW + 60 * SECOND, first=False).verdict is Verdict.DELETED
    assert missing(known, asked_at=NOW, first=False).verdict is Verdict.TOUCHED
    gone = after(known, moved("Healthy", None, 10))
    assert missing(gone, asked_at=NOW + 60 * SECOND, first=False).verdict is Verdict.SAME


def test_a_deleted_entity_that_is_listed() -> None:
    """Was created again, unless what was read is older than the deletion."""
    gone = after(known_at("Healthy"), moved("Healthy", None, 10))
    assert look(gone, "Healthy", 50, asked=60).verdict is Verdict.CREATED
    assert look(gone, "Healthy", 0, asked=60).verdict is Verdict.TOUCHED


def test_what_begins_to_be_watched_is_learned() -> None:
    """After a change of the rules nobody hears of values that were never compared; a null is known."""
    known = known_at("Healthy")
    wider = Watched(frozenset({*(HEALTH.fields or ()), "properties.cpu"}))
    listed = Listed(entity("Healthy", cpu=95), NOW)
    asked = NOW + 60 * SECOND
    found = compare(known, listed, wider, asked_at=asked, first=False, now=asked)
    assert found.verdict is Verdict.LEARN
    assert found.known is not None
    assert found.known.values["properties.cpu"] == 95
    assert compare(
        found.known, listed, wider, asked_at=asked + 60 * SECOND, first=False, now=asked
    ).verdict is (Verdict.SAME)
    null = learned(HEALTH.values(entity(None)), micros(NOW), HEALTH, micros(NOW))
    assert null.values["properties.healthStatus"] is None
    assert look(null, "Degraded", 50, asked=60).verdict is Verdict.UPDATED
    narrower = compare(found.known, listed, HEALTH, asked_at=asked + 60 * SECOND, first=False, now=asked)
    assert narrower.known is not None
    assert "properties.cpu" not in narrower.known.values


def test_from_some_fields_to_all() -> None:
    """And back: nothing of it is news."""
    known = known_at("Healthy")
    listed = Listed(entity("Healthy", cpu=95), NOW)
    for number, watched in enumerate((EVERYTHING, HEALTH, EVERYTHING), 1):
        asked = NOW + number * 60 * SECOND
        found = compare(known, listed, watched, asked_at=asked, first=False, now=asked)
        assert found.verdict is Verdict.LEARN
        assert found.known is not None
        known = found.known
        again = asked + 30 * SECOND
        assert compare(known, listed, watched, asked_at=again, first=False, now=again).verdict is Verdict.SAME


def test_the_order_of_teams_says_nothing() -> None:
    """Port's search may give them in another one."""
    one = EntitySnapshot("e", "database", "E", teams=("a", "b"))
    known = learned(HEALTH.values(one), micros(NOW), HEALTH, micros(NOW))
    listed = Listed(EntitySnapshot("e", "database", "E", teams=("b", "a")), NOW)
    asked = NOW + 60 * SECOND
    assert compare(known, listed, HEALTH, asked_at=asked, first=False, now=asked).verdict is Verdict.SAME


# never two alerts, never none


def test_a_webhook_after_the_comparison_alerts_nobody() -> None:
    """Whether its time is just before or just after that of the entity: the two may differ."""
    for at in (9.5, 10, 10.4):
        life = Life()
        life.hears(moved("Healthy", "Degraded", 10), noticed=True)
        decision = life.hears(moved("Healthy", "Degraded", at))
        assert decision.reason.endswith("rule 'health': noticed by comparison already")
        assert decision.noticed
        assert life.told == [("health", "Healthy", "Degraded")]
        assert life.hears(moved("Degraded", "Crashed", 30)).alerts


def test_several_changes_behind_one_difference() -> None:
    """All of them are in it, in whatever order they come."""
    for order in ((3, 6, 10), (10, 6, 3), (6, 10, 3)):
        life = Life()
        steps = {
            3: moved("Healthy", "Crashed", 3),
            6: moved("Crashed", "Restarting", 6),
            10: moved("Restarting", "Degraded", 10),
        }
        life.hears(moved("Healthy", "Degraded", 10), noticed=True)
        for at in order:
            life.hears(steps[at])
        assert life.told == [("health", "Healthy", "Degraded")]
        assert life.state.known is not None
        assert life.state.known.values["properties.healthStatus"] == "Degraded"


def test_flapped_and_back_is_told_as_usual() -> None:
    """Where the comparison found nothing, changes that come late are news."""
    life = Life()
    assert look(life.state.known, "Healthy", 20, asked=60).verdict is Verdict.SAME
    life.hears(moved("Healthy", "Degraded", 10))
    life.hears(moved("Degraded", "Healthy", 20))
    assert [after for _, _, after in life.told] == ["Degraded", "Healthy"]


def test_what_the_comparison_did_not_tell_is_told() -> None:
    """Another rule, to which the difference meant nothing, hears of the change that comes late."""
    crashed = rule(name="crashed", when={"property": "healthStatus", "to": "Crashed"})
    life = Life(BUILT_IN, crashed)
    life.hears(moved("Healthy", "Degraded", 10), noticed=True)
    life.hears(moved("Healthy", "Crashed", 3))
    life.hears(moved("Crashed", "Degraded", 10))
    assert life.told == [("health", "Healthy", "Degraded"), ("crashed", "Healthy", "Crashed")]


def test_a_change_after_the_one_that_was_noticed_is_told() -> None:
    """Also when it leads back to the same value within a moment."""
    life = Life()
    life.hears(moved("Healthy", "Degraded", 10), noticed=True)
    life.hears(moved("Degraded", "Healthy", 11))
    life.hears(moved("Healthy", "Degraded", 12))
    assert [after for _, _, after in life.told] == ["Degraded", "Healthy", "Degraded"]
    life.hears(moved("Healthy", "Degraded", 10.2))  # the one that was noticed, last
    assert len(life.told) == 3


def test_the_webhook_of_another_fields_change_comes_first() -> None:
    """What was lost before it is found, and when it comes after all it alerts nobody."""
    life = Life()
    title = change(
        entity("Degraded"),
        EntitySnapshot("payments-db", "database", "New", properties={"healthStatus": "Degraded"}),
        at=NOW + 8 * SECOND,
    )
    life.hears(title)
    found = look(life.state.known, "Degraded", 8, asked=60)
    assert found.verdict is Verdict.UPDATED
    assert "properties.healthStatus" in found.fields
    life.hears(moved("Healthy", "Degraded", 8), noticed=True)
    life.hears(moved("Healthy", "Degraded", 5))
    assert life.told == [("health", "Healthy", "Degraded")]


def test_two_comparisons_in_a_row() -> None:
    """What the first told does not come again after the second."""
    life = Life()
    life.hears(moved("Healthy", "Degraded", 10), noticed=True)
    life.hears(moved("Degraded", "Crashed", 20), noticed=True)
    life.hears(moved("Healthy", "Degraded", 10))
    life.hears(moved("Degraded", "Crashed", 20))
    assert [after for _, _, after in life.told] == ["Degraded", "Crashed"]


def test_a_creation_that_was_noticed() -> None:
    """Its own webhook alerts nobody; a change after it, that no rule has heard of, does."""
    created = rule(name="created", on="CREATE")
    life = Life(BUILT_IN, created)
    life.state = EntityState()
    life.hears(moved(None, "Degraded", 10), noticed=True)
    life.hears(moved(None, "Healthy", 5))
    life.hears(moved("Healthy", "Degraded", 10))
    assert [name for name, *_ in life.told] == ["created", "health"]


def test_a_deletion_that_was_noticed() -> None:
    """It ends the incident, and neither its webhook nor an older change's tells of it again."""
    life = Life(BUILT_IN, rule(name="deleted", on="DELETE"))
    life.hears(moved("Healthy", "Degraded", 5))
    life.hears(moved("Degraded", None, 20), noticed=True)
    told = list(life.told)
    assert [name for name, *_ in told] == ["health", "health", "deleted"]
    life.hears(moved("Degraded", None, 15))
    life.hears(moved("Degraded", "Crashed", 10))
    assert life.told == told
    assert life.state.known is not None
    assert life.state.known.gone


def test_a_difference_is_never_late() -> None:
    """An entity's own time may be a moment before that of an event that we know."""
    life = Life()
    life.state = EntityState(NOW + 10 * SECOND, (), known_at("Healthy"))
    decision = life.hears(moved("Healthy", "Degraded", 9), noticed=True)
    assert decision.incidents
    assert "late" not in decision.reason


def test_the_message_says_when_it_was_noticed() -> None:
    """Not when it may have happened."""
    noticed_at: datetime = NOW + 3600 * SECOND
    life = Life()
    decision = life.hears(moved("Healthy", "Degraded", 10, noticed_at=noticed_at), noticed=True)
    assert decision.alerts[0].notification.at == noticed_at
    assert decision.incidents[0].opened_at == NOW + 10 * SECOND
