"""The comparison of one entity with its last known state."""

import pytest

from app.model.change import EntitySnapshot
from app.model.times import to_micros
from app.port.listing import ListedEntity
from app.reconcile.difference import EntityVerdict, compare, compare_absent
from app.rules.last_known import first_state
from app.rules.watched import Watched
from tests.rules.changes import NOW
from tests.rules.watched_life import (
    HEALTH,
    SECOND,
    after,
    entity,
    known_at,
    look,
    moved,
)


def test_an_unknown_entity_whose_creation_never_came() -> None:
    """Is known from its change on, and that it exists has yet to be told."""
    known = after(None, moved("Healthy", "Degraded", 5))
    assert (known.values["properties.healthStatus"], known.exists) == ("Degraded", None)
    assert look(known, "Degraded", 5, asked=60).verdict is EntityVerdict.CREATED
    assert look(known, "Degraded", 5, asked=60, first=True).state.exists is True
    created = after(known, moved(None, "Healthy", 1))
    assert (created.values, created.exists) == (known.values, True)


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
    """Was created; but in a first reading it is only recorded."""
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


def test_what_begins_to_be_watched_is_recorded() -> None:
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
    for number, watched in enumerate((Watched(None), HEALTH, Watched(None)), 1):
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
