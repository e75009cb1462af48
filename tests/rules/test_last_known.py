"""The last known state: what moves it, and what does not alert twice."""

from dataclasses import replace
from datetime import datetime

import pytest

from app.model.change import EntitySnapshot
from app.model.diff import diff
from app.model.times import to_micros
from app.rules.decide import EntityState
from app.rules.last_known import after_change, after_reconciling, first_state
from app.rules.rule import BUILT_IN
from app.rules.watched import Watched
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


def test_deleted_and_created_again() -> None:
    """A deletion is remembered; what happened before it moves nothing, what comes after begins again."""
    gone = after(known_at("Healthy"), moved("Healthy", None, 10))
    assert gone.gone
    assert followed(gone, moved("Healthy", "Degraded", 5)) is None
    assert followed(gone, moved("Healthy", None, 5)) is None
    again = after(gone, moved(None, "Crashed", 20))
    assert (again.exists, again.values["properties.healthStatus"]) == (True, "Crashed")
    assert again.version > gone.version


def test_a_deletion_that_comes_after_the_new_beginning() -> None:
    """It is late: what the entity was created again with stays (seed 250)."""
    known = after(known_at("Healthy"), moved("Degraded", "Crashed", 20))
    assert followed(known, moved("Healthy", None, 10)) is None
    assert after(known, moved(None, "Healthy", 12)).values["properties.healthStatus"] == "Crashed"
    assert after(known, moved("Crashed", None, 30)).gone


def test_everything_is_watched() -> None:
    """Then what an entity lacks is null, also where it comes later."""
    known = first_state(
        Watched(None).values(entity("Healthy")), to_micros(NOW), Watched(None), to_micros(NOW)
    )
    more = change(entity("Healthy"), entity(None, cpu=5), at=NOW + 5 * SECOND)
    found = after_change(known, more, diff(more.before, more.after), Watched(None), NOW)
    assert found is not None
    assert found.values == {"title": "Payments", "properties.cpu": 5}


# never two alerts, never none


def test_a_webhook_after_reconciling_alerts_nobody() -> None:
    """Whether its time is just before or just after that of the entity: the two may differ."""
    for at in (9.5, 10, 10.4):
        life = WatchedLife()
        life.take(moved("Healthy", "Degraded", 10), reconciled=True)
        decision = life.take(moved("Healthy", "Degraded", at))
        assert decision.reason.endswith("rule 'health': alerted by reconciling already")
        assert decision.already_alerted
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
    """Where reconciling found nothing, changes that come late are news."""
    life = WatchedLife()
    assert look(life.state.known, "Healthy", 20, asked=60) is None
    life.take(moved("Healthy", "Degraded", 10))
    life.take(moved("Degraded", "Healthy", 20))
    assert [after for _, _, after in life.alerts] == ["Degraded", "Healthy"]


def test_what_reconciling_did_not_alert_of_alerts() -> None:
    """Another rule, to which the difference meant nothing, is told of the change that comes late."""
    crashed = rule(name="crashed", when={"property": "healthStatus", "to": "Crashed"})
    life = WatchedLife(BUILT_IN, crashed)
    life.take(moved("Healthy", "Degraded", 10), reconciled=True)
    life.take(moved("Healthy", "Crashed", 3))
    life.take(moved("Crashed", "Degraded", 10))
    assert life.alerts == [("health", "Healthy", "Degraded"), ("crashed", "Healthy", "Crashed")]


def test_a_change_after_the_one_that_was_found_alerts() -> None:
    """Also when it leads back to the same value within a moment."""
    life = WatchedLife()
    life.take(moved("Healthy", "Degraded", 10), reconciled=True)
    life.take(moved("Degraded", "Healthy", 11))
    life.take(moved("Healthy", "Degraded", 12))
    assert [after for _, _, after in life.alerts] == ["Degraded", "Healthy", "Degraded"]
    life.take(moved("Healthy", "Degraded", 10.2))  # the one that was found, last
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
    assert "healthStatus" in [value.name for value in found.changes]
    life.take(moved("Healthy", "Degraded", 8), reconciled=True)
    life.take(moved("Healthy", "Degraded", 5))
    assert life.alerts == [("health", "Healthy", "Degraded")]


def test_reconciling_twice_in_a_row() -> None:
    """What the first told does not come again after the second."""
    life = WatchedLife()
    life.take(moved("Healthy", "Degraded", 10), reconciled=True)
    life.take(moved("Degraded", "Crashed", 20), reconciled=True)
    life.take(moved("Healthy", "Degraded", 10))
    life.take(moved("Degraded", "Crashed", 20))
    assert [after for _, _, after in life.alerts] == ["Degraded", "Crashed"]


def test_a_creation_that_was_found() -> None:
    """Its own webhook alerts nobody; a change after it, that no rule has heard of, does."""
    created = rule(name="created", on="CREATE")
    life = WatchedLife(BUILT_IN, created)
    life.state = EntityState()
    life.take(moved(None, "Degraded", 10), reconciled=True)
    life.take(moved(None, "Healthy", 5))
    life.take(moved("Healthy", "Degraded", 10))
    assert [name for name, *_ in life.alerts] == ["created", "health"]


def test_a_creation_that_ends_an_incident_is_told_once() -> None:
    """The value that it was found with is no news to the rule when it is compared next (seed 389)."""
    life = WatchedLife()
    life.take(moved("Healthy", "Degraded", 1))
    life.state = EntityState(None, life.state.incidents, followed(None, moved("Healthy", "Degraded", 1)))
    life.take(moved(None, "Healthy", 10), reconciled=True)
    life.take(moved("Degraded", "Healthy", 10), reconciled=True)
    life.take(moved("Healthy", "Crashed", 20), reconciled=True)
    assert [after for _, _, after in life.alerts] == ["Degraded", "Healthy", "Crashed"]


def test_a_deletion_that_was_found() -> None:
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


def test_the_message_says_when_it_was_found() -> None:
    """Not when it may have happened."""
    found_at: datetime = NOW + 3600 * SECOND
    life = WatchedLife()
    decision = life.take(moved("Healthy", "Degraded", 10, found_at=found_at), reconciled=True)
    assert decision.alerts[0].notification.at == found_at
    assert decision.incidents[0].opened_at == NOW + 10 * SECOND


@pytest.mark.parametrize("action", ["TIMER_EXPIRED", "UPDATE", "ARCHIVE"])
@pytest.mark.parametrize("side", ["before", "after"])
def test_one_side_moves_nothing(action: str, side: str) -> None:
    """An event that is neither a creation nor a deletion, and has one side only, moves nothing known.

    https://docs.port.io/actions-and-automations/define-automations/setup-trigger
    """
    what = replace(moved("Crashed", "Crashed", 9), action=action, timer="ttl")
    what = replace(what, before=None) if side == "before" else replace(what, after=None)
    assert followed(known_at("Healthy"), what) is followed(None, what) is None
    life = WatchedLife()
    assert (life.take(what).known, life.state.known) == (None, known_at("Healthy"))


def test_a_timer_ends_no_incident() -> None:
    """What its event has of the entity says nothing of a change: the incident stays as it is."""
    life = WatchedLife()
    life.take(moved("Healthy", "Crashed", 1))
    timer = replace(moved("Healthy", "Healthy", 2), before=None, action="TIMER_EXPIRED", timer="ttl")
    assert life.take(timer).incidents == ()
    assert [alert[2] for alert in life.alerts] == ["Crashed"]


def test_a_deletion_without_a_diff() -> None:
    """The entity is gone, whatever the event lacks."""
    assert after(known_at("Healthy"), replace(moved("Healthy", None, 5), before=None)).gone
