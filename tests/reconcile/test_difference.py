"""The comparison of one entity with its last known state."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from app.model.change import RECONCILE, UPDATE, EntitySnapshot
from app.model.times import to_micros
from app.port.listing import ListedEntity, read_blueprint
from app.receive.event import build_event, encode
from app.receive.payload import parse_event
from app.receive.signature import Signed
from app.reconcile.difference import EntityDifference, compare, compare_absent
from app.rules.last_known import LastKnown, first_state
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
    assert look(known, "Degraded", 5, asked=60).action == "CREATE"
    assert look(known, "Degraded", 5, asked=60, first=True).exists is True
    created = after(known, moved(None, "Healthy", 1))
    assert (created.values, created.exists) == (known.values, True)


def test_no_difference_is_no_news() -> None:
    """Whatever Port's time of the last change: something else has changed, or it flapped and is back."""
    known = known_at("Healthy")
    assert look(known, "Healthy", 500, asked=600) is None


@pytest.mark.parametrize(
    ("updated", "asked", "expected"),
    [
        (50, 60, "UPDATE"),
        (None, 60, "UPDATE"),  # Port says no time
        (0, 60, "UPDATE"),  # a mirror's value: the entity itself did not change
        (-1, 60, "UPDATE"),  # the clocks of an event and of an entity are not quite the same
        (-30, 60, None),  # Port's search is behind: it has not seen what we know
        (50, 0.5, None),  # we heard of it after Port was asked
    ],
)
def test_a_difference(updated: float | None, asked: float, expected: str | None) -> None:
    """Is news if what was read is at least as new as what is known."""
    found = look(known_at("Healthy"), "Degraded", updated, asked=asked)
    assert (found and found.action) == expected
    if expected:
        assert [value.name for value in found.changes] == ["healthStatus"]


def test_a_clock_that_was_ahead() -> None:
    """What came meanwhile is from the future, so it was before Port was asked; and Port's time counts."""
    hour = timedelta(hours=1)
    known = replace(known_at("Healthy"), moved_at=to_micros(NOW + hour))
    assert look(known, "Degraded", 50, asked=60).action == "UPDATE"
    assert absent(known, 60).action == "DELETE"
    assert absent(known_at("Healthy"), 3660, hour).at == NOW + 60 * SECOND


def test_an_unknown_entity() -> None:
    """Was created; but in a first reading it is only recorded."""
    assert look(None, "Healthy", 5, asked=60).action == "CREATE"
    found = look(None, "Healthy", 5, asked=60, first=True)
    assert isinstance(found, LastKnown)
    assert look(found, "Healthy", 5, asked=70) is None


def absent(known: LastKnown, asked: int, ahead: timedelta = 0 * SECOND) -> Any:
    """Judge an entity that Port did not have so many seconds after NOW."""
    asked_at = NOW + asked * SECOND
    return compare_absent(
        "database", "e", known, asked_at=asked_at, now=asked_at, record_only=False, ahead=ahead
    )


def test_a_missing_entity() -> None:
    """Was deleted, unless we heard of it since Port was asked."""
    known = known_at("Healthy")
    deleted = absent(known, 60)
    assert isinstance(deleted, EntityDifference)
    assert deleted.action == "DELETE"
    assert absent(known, 0) is None
    gone = after(known, moved("Healthy", None, 10))
    assert absent(gone, 60) is None


def test_a_deleted_entity_that_is_listed() -> None:
    """Was created again, unless what was read is older than the deletion."""
    gone = after(known_at("Healthy"), moved("Healthy", None, 10))
    assert look(gone, "Healthy", 50, asked=60).action == "CREATE"
    assert look(gone, "Healthy", 0, asked=60) is None


def test_what_begins_to_be_watched_is_recorded() -> None:
    """After a change of the rules nobody hears of values that were never compared; a null is known."""
    known = known_at("Healthy")
    wider = Watched(frozenset({*(HEALTH.fields or ()), "properties.cpu"}))
    listed = ListedEntity(entity("Healthy", cpu=95), NOW)
    asked = NOW + 60 * SECOND
    found = compare(known, listed, wider, asked_at=asked, first=False, now=asked)
    assert isinstance(found, LastKnown)
    assert found.values["properties.cpu"] == 95
    assert compare(found, listed, wider, asked_at=asked + 60 * SECOND, first=False, now=asked) is None
    null = first_state(HEALTH.values(entity(None)), to_micros(NOW), HEALTH, to_micros(NOW))
    assert null.values["properties.healthStatus"] is None
    assert look(null, "Degraded", 50, asked=60).action == "UPDATE"
    narrower = compare(found, listed, HEALTH, asked_at=asked + 60 * SECOND, first=False, now=asked)
    assert isinstance(narrower, LastKnown)
    assert "properties.cpu" not in narrower.values


def test_from_some_fields_to_all() -> None:
    """And back: nothing of it is news."""
    known = known_at("Healthy")
    listed = ListedEntity(entity("Healthy", cpu=95), NOW)
    for number, watched in enumerate((Watched(None), HEALTH, Watched(None)), 1):
        asked = NOW + number * 60 * SECOND
        found = compare(known, listed, watched, asked_at=asked, first=False, now=asked)
        assert isinstance(found, LastKnown)
        known = found
        again = asked + 30 * SECOND
        assert compare(known, listed, watched, asked_at=again, first=False, now=again) is None


def test_the_order_of_teams_says_nothing() -> None:
    """Port's search may give them in another one."""
    one = EntitySnapshot("e", "database", "E", teams=("a", "b"))
    known = first_state(HEALTH.values(one), to_micros(NOW), HEALTH, to_micros(NOW))
    listed = ListedEntity(EntitySnapshot("e", "database", "E", teams=("b", "a")), NOW)
    asked = NOW + 60 * SECOND
    assert compare(known, listed, HEALTH, asked_at=asked, first=False, now=asked) is None


def test_a_level_on_a_scorecard() -> None:
    """It is compared, though the entity's own time stays as it was, and Port need not have sent anything."""
    watched = Watched(frozenset({"title", "team", "scorecards.ready"}))

    def listed(level: str) -> ListedEntity:
        snapshot = EntitySnapshot("e", "database", scorecards={"ready": level, "other": "Basic"})
        return ListedEntity(snapshot, NOW)

    later = NOW + 600 * SECOND
    known = first_state(watched.values(listed("Gold").entity), to_micros(later), watched, to_micros(NOW))
    facts: dict[str, Any] = {"asked_at": later, "first": False, "now": later}
    assert compare(known, listed("Gold"), watched, **facts) is None
    found = compare(known, listed("Silver"), watched, **facts)
    assert isinstance(found, EntityDifference)
    assert [(value.name, value.before, value.after) for value in found.changes] == [
        ("scorecards.ready", "Gold", "Silver")
    ]
    assert (found.missed, found.at) == (False, later)
    unsaid = replace(listed("Silver"), levels=False, entity=EntitySnapshot("e", "database"))
    assert compare(known, unsaid, watched, **facts) is None
    assert compare(known, replace(unsaid, levels=True), watched, **facts) is None
    change = parse_event(Signed(found.body(later), later))
    assert change.after
    assert change.after.scorecards == {"ready": "Silver"}
    described = read_blueprint({"identifier": "database"})
    assert described.include(watched) is None


def test_it_is_no_change_of_ports() -> None:
    """Though all of it is alike: that one may have come when the rule was not in force yet."""
    facts: dict[str, Any] = {"action": UPDATE, "blueprint": "site", "entity": "eu", "at": NOW, "by": {}}
    keys = {
        parse_event(Signed(encode(build_event(**facts, origin=origin)), NOW)).key
        for origin in ("UI", "API", RECONCILE)
    }
    assert len(keys) == 2
