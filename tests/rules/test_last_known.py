"""The last known state: what moves it, what a comparison finds, and what is not told twice."""

from datetime import datetime
from typing import Any

import pytest

from app.model.change import EntitySnapshot
from app.model.diff import diff
from app.model.times import to_micros
from app.port.listing import ListedEntity
from app.reconcile.difference import EntityVerdict, compare, compare_absent
from app.rules.decide import EntityState
from app.rules.last_known import after_change, after_reconciling, first_state
from app.rules.rule import BUILT_IN, RuleSet
from app.rules.watched import EVERYTHING, Watched, condition_fields, watched_by
from tests.rules.changes import NOW, change, rule
from tests.rules.watched_life import (
    HEALTH,
    SECOND,
    WatchedLife,
    after,
    entity,
    followed,
    known_at,
    look,
    moved,
)

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
    found = after_reconciling(known, what, diff(what.before, what.after), HEALTH, (), NOW)
    assert followed(found, moved("Degraded", "Restarting", 20)) is None


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
    assert look(known, "Degraded", 5, asked=60).verdict is EntityVerdict.CREATED
    assert look(known, "Degraded", 5, asked=60, first=True).state.exists is True
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
    known = first_state(EVERYTHING.values(entity("Healthy")), to_micros(NOW), EVERYTHING, to_micros(NOW))
    more = change(entity("Healthy"), entity(None, cpu=5), at=NOW + 5 * SECOND)
    found = after_change(known, more, diff(more.before, more.after), EVERYTHING, NOW)
    assert found is not None
    assert found.values == {"title": "Payments", "properties.cpu": 5}


# what a comparison finds


def test_no_difference_is_no_news() -> None:
    """Whatever Port's time of the last change: something else has changed, or it flapped and is back."""
    known = known_at("Healthy")
    assert look(known, "Healthy", 500, asked=600).verdict is EntityVerdict.SAME


@pytest.mark.parametrize(
    ("updated", "asked", "expected"),
    [
        (50, 60, EntityVerdict.UPDATED),
        (None, 60, EntityVerdict.UPDATED),  # Port says no time
        (0, 60, EntityVerdict.UPDATED),  # a mirror's value: the entity itself did not change
        (-1, 60, EntityVerdict.UPDATED),  # the clocks of an event and of an entity are not quite the same
        (-30, 60, EntityVerdict.SAME),  # Port's search is behind: it has not seen what we know
        (50, 0.5, EntityVerdict.TOUCHED),  # we heard of it after Port was asked
    ],
)
def test_a_difference(updated: float | None, asked: float, expected: EntityVerdict) -> None:
    """Is news if what was read is at least as new as what is known."""
    found = look(known_at("Healthy"), "Degraded", updated, asked=asked)
    assert found.verdict is expected
    if expected is EntityVerdict.UPDATED:
        assert found.fields == {"properties.healthStatus"}


def test_an_unknown_entity() -> None:
    """Was created; but in the first run it is only learned."""
    assert look(None, "Healthy", 5, asked=60).verdict is EntityVerdict.CREATED
    found = look(None, "Healthy", 5, asked=60, first=True)
    assert found.verdict is EntityVerdict.RECORD
    assert look(found.state, "Healthy", 5, asked=70).verdict is EntityVerdict.SAME


def test_a_missing_entity() -> None:
    """Was deleted, unless we heard of it since Port was asked."""
    known = known_at("Healthy")
    assert compare_absent(known, asked_at=NOW + 60 * SECOND, first=False).verdict is EntityVerdict.DELETED
    assert compare_absent(known, asked_at=NOW, first=False).verdict is EntityVerdict.TOUCHED
    gone = after(known, moved("Healthy", None, 10))
    assert compare_absent(gone, asked_at=NOW + 60 * SECOND, first=False).verdict is EntityVerdict.SAME


def test_a_deleted_entity_that_is_listed() -> None:
    """Was created again, unless what was read is older than the deletion."""
    gone = after(known_at("Healthy"), moved("Healthy", None, 10))
    assert look(gone, "Healthy", 50, asked=60).verdict is EntityVerdict.CREATED
    assert look(gone, "Healthy", 0, asked=60).verdict is EntityVerdict.TOUCHED


def test_what_begins_to_be_watched_is_learned() -> None:
    """After a change of the rules nobody hears of values that were never compared; a null is known."""
    known = known_at("Healthy")
    wider = Watched(frozenset({*(HEALTH.fields or ()), "properties.cpu"}))
    listed = ListedEntity(entity("Healthy", cpu=95), NOW)
    asked = NOW + 60 * SECOND
    found = compare(known, listed, wider, asked_at=asked, first=False, now=asked)
    assert found.verdict is EntityVerdict.RECORD
    assert found.state is not None
    assert found.state.values["properties.cpu"] == 95
    assert compare(
        found.state, listed, wider, asked_at=asked + 60 * SECOND, first=False, now=asked
    ).verdict is (EntityVerdict.SAME)
    null = first_state(HEALTH.values(entity(None)), to_micros(NOW), HEALTH, to_micros(NOW))
    assert null.values["properties.healthStatus"] is None
    assert look(null, "Degraded", 50, asked=60).verdict is EntityVerdict.UPDATED
    narrower = compare(found.state, listed, HEALTH, asked_at=asked + 60 * SECOND, first=False, now=asked)
    assert narrower.state is not None
    assert "properties.cpu" not in narrower.state.values


def test_from_some_fields_to_all() -> None:
    """And back: nothing of it is news."""
    known = known_at("Healthy")
    listed = ListedEntity(entity("Healthy", cpu=95), NOW)
    for number, watched in enumerate((EVERYTHING, HEALTH, EVERYTHING), 1):
        asked = NOW + number * 60 * SECOND
        found = compare(known, listed, watched, asked_at=asked, first=False, now=asked)
        assert found.verdict is EntityVerdict.RECORD
        assert found.state is not None
        known = found.state
        again = asked + 30 * SECOND
        assert (
            compare(known, listed, watched, asked_at=again, first=False, now=again).verdict
            is EntityVerdict.SAME
        )


def test_the_order_of_teams_says_nothing() -> None:
    """Port's search may give them in another one."""
    one = EntitySnapshot("e", "database", "E", teams=("a", "b"))
    known = first_state(HEALTH.values(one), to_micros(NOW), HEALTH, to_micros(NOW))
    listed = ListedEntity(EntitySnapshot("e", "database", "E", teams=("b", "a")), NOW)
    asked = NOW + 60 * SECOND
    assert (
        compare(known, listed, HEALTH, asked_at=asked, first=False, now=asked).verdict is EntityVerdict.SAME
    )


# never two alerts, never none


def test_a_webhook_after_the_comparison_alerts_nobody() -> None:
    """Whether its time is just before or just after that of the entity: the two may differ."""
    for at in (9.5, 10, 10.4):
        life = WatchedLife()
        life.take(moved("Healthy", "Degraded", 10), reconciled=True)
        decision = life.take(moved("Healthy", "Degraded", at))
        assert decision.reason.endswith("rule 'health': alerted by reconciling already")
        assert decision.noticed
        assert life.alerts == [("health", "Healthy", "Degraded")]
        assert life.take(moved("Degraded", "Crashed", 30)).alerts


def test_several_changes_behind_one_difference() -> None:
    """All of them are in it, in whatever order they come."""
    for order in ((3, 6, 10), (10, 6, 3), (6, 10, 3)):
        life = WatchedLife()
        steps = {
            3: moved("Healthy", "Crashed", 3),
            6: moved("Crashed", "Restarting", 6),
            10: moved("Restarting", "Degraded", 10),
        }
        life.take(moved("Healthy", "Degraded", 10), reconciled=True)
        for at in order:
            life.take(steps[at])
        assert life.alerts == [("health", "Healthy", "Degraded")]
        assert life.state.known is not None
        assert life.state.known.values["properties.healthStatus"] == "Degraded"


def test_flapped_and_back_is_told_as_usual() -> None:
    """Where the comparison found nothing, changes that come late are news."""
    life = WatchedLife()
    assert look(life.state.known, "Healthy", 20, asked=60).verdict is EntityVerdict.SAME
    life.take(moved("Healthy", "Degraded", 10))
    life.take(moved("Degraded", "Healthy", 20))
    assert [after for _, _, after in life.alerts] == ["Degraded", "Healthy"]


def test_what_the_comparison_did_not_tell_is_told() -> None:
    """Another rule, to which the difference meant nothing, hears of the change that comes late."""
    crashed = rule(name="crashed", when={"property": "healthStatus", "to": "Crashed"})
    life = WatchedLife(BUILT_IN, crashed)
    life.take(moved("Healthy", "Degraded", 10), reconciled=True)
    life.take(moved("Healthy", "Crashed", 3))
    life.take(moved("Crashed", "Degraded", 10))
    assert life.alerts == [("health", "Healthy", "Degraded"), ("crashed", "Healthy", "Crashed")]


def test_a_change_after_the_one_that_was_noticed_is_told() -> None:
    """Also when it leads back to the same value within a moment."""
    life = WatchedLife()
    life.take(moved("Healthy", "Degraded", 10), reconciled=True)
    life.take(moved("Degraded", "Healthy", 11))
    life.take(moved("Healthy", "Degraded", 12))
    assert [after for _, _, after in life.alerts] == ["Degraded", "Healthy", "Degraded"]
    life.take(moved("Healthy", "Degraded", 10.2))  # the one that was noticed, last
    assert len(life.alerts) == 3


def test_the_webhook_of_another_fields_change_comes_first() -> None:
    """What was lost before it is found, and when it comes after all it alerts nobody."""
    life = WatchedLife()
    title = change(
        entity("Degraded"),
        EntitySnapshot("payments-db", "database", "New", properties={"healthStatus": "Degraded"}),
        at=NOW + 8 * SECOND,
    )
    life.take(title)
    found = look(life.state.known, "Degraded", 8, asked=60)
    assert found.verdict is EntityVerdict.UPDATED
    assert "properties.healthStatus" in found.fields
    life.take(moved("Healthy", "Degraded", 8), reconciled=True)
    life.take(moved("Healthy", "Degraded", 5))
    assert life.alerts == [("health", "Healthy", "Degraded")]


def test_two_comparisons_in_a_row() -> None:
    """What the first told does not come again after the second."""
    life = WatchedLife()
    life.take(moved("Healthy", "Degraded", 10), reconciled=True)
    life.take(moved("Degraded", "Crashed", 20), reconciled=True)
    life.take(moved("Healthy", "Degraded", 10))
    life.take(moved("Degraded", "Crashed", 20))
    assert [after for _, _, after in life.alerts] == ["Degraded", "Crashed"]


def test_a_creation_that_was_noticed() -> None:
    """Its own webhook alerts nobody; a change after it, that no rule has heard of, does."""
    created = rule(name="created", on="CREATE")
    life = WatchedLife(BUILT_IN, created)
    life.state = EntityState()
    life.take(moved(None, "Degraded", 10), reconciled=True)
    life.take(moved(None, "Healthy", 5))
    life.take(moved("Healthy", "Degraded", 10))
    assert [name for name, *_ in life.alerts] == ["created", "health"]


def test_a_deletion_that_was_noticed() -> None:
    """It ends the incident, and neither its webhook nor an older change's tells of it again."""
    life = WatchedLife(BUILT_IN, rule(name="deleted", on="DELETE"))
    life.take(moved("Healthy", "Degraded", 5))
    life.take(moved("Degraded", None, 20), reconciled=True)
    told = list(life.alerts)
    assert [name for name, *_ in told] == ["health", "health", "deleted"]
    life.take(moved("Degraded", None, 15))
    life.take(moved("Degraded", "Crashed", 10))
    assert life.alerts == told
    assert life.state.known is not None
    assert life.state.known.gone


def test_a_difference_is_never_late() -> None:
    """An entity's own time may be a moment before that of an event that we know."""
    life = WatchedLife()
    life.state = EntityState(NOW + 10 * SECOND, (), known_at("Healthy"))
    decision = life.take(moved("Healthy", "Degraded", 9), reconciled=True)
    assert decision.incidents
    assert "late" not in decision.reason


def test_the_message_says_when_it_was_noticed() -> None:
    """Not when it may have happened."""
    found_at: datetime = NOW + 3600 * SECOND
    life = WatchedLife()
    decision = life.take(moved("Healthy", "Degraded", 10, found_at=found_at), reconciled=True)
    assert decision.alerts[0].notification.at == found_at
    assert decision.incidents[0].opened_at == NOW + 10 * SECOND
