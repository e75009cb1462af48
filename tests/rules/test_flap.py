"""An entity that changes too often is told of once, and again when it is stable."""

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from app.model.incident import Step
from app.rules.values import Flap
from tests.rules.changes import NOW, condition, cpu, rule
from tests.rules.life import Life, only

FLAPPING = rule(
    when={"property": "cpu", "above": 80},
    resolve={"property": "cpu", "below": 70},
    flap={"changes": 4, "within": "10m"},
)
REMINDING = FLAPPING.model_copy(update={"again_after": timedelta(hours=1)})


def flapping(one: object = FLAPPING, *, changes: int) -> Life:
    """Return a life in which the cpu goes up and down, a change a minute from minute 0."""
    life = Life([one])  # type: ignore[list-item]
    for minute in range(changes):
        life.to(50 if minute % 2 else 90, minute)
    return life


def test_the_fourth_change_says_that_it_flaps() -> None:
    """Three changes within ten minutes are told, the fourth says that it flaps, and then it is quiet."""
    life = flapping(changes=7)
    assert life.told == [
        (0, Step.OPENED),
        (1, Step.RESOLVED),
        (2, Step.OPENED),
        (3, Step.FLAPPING),
    ]


def test_what_it_settles_on_is_told() -> None:
    """Stable for the window, it is told once what it is now: well again, or not."""
    well = flapping(changes=6).wait(15)
    assert well.told[-1] == (15, Step.SETTLED)
    assert well.open == []
    ill = flapping(changes=7).wait(100)
    assert ill.told[-1] == (16, Step.SETTLED)
    assert [one.state for one in ill.open] == ["above 80"]


def test_the_notification_says_how_often_and_how_it_is() -> None:
    """It carries how many changes, the window, and whether the incident is over."""
    life = flapping(changes=3)
    fourth = life.to(50, 3)
    says, later = (alert.notification for alert in fourth.alerts)
    assert (says.step, says.moves, says.window) == (Step.FLAPPING, 4, timedelta(minutes=10))
    assert (later.step, later.ended) == (Step.SETTLED, True)
    assert fourth.alerts[1].due_at == NOW + timedelta(minutes=13)
    assert "it flaps" in fourth.reason
    assert not life.to(90, 4).alerts[-1].notification.ended


def test_after_it_has_settled_all_is_told_again() -> None:
    """What happened before the quiet does not count any more."""
    life = flapping(changes=6).wait(15)
    life.to(90, 16)
    life.to(50, 17)
    assert life.told[-2:] == [(16, Step.OPENED), (17, Step.RESOLVED)]


def test_slow_changes_do_not_flap() -> None:
    """Four changes in more than the window are four alerts."""
    life = Life([FLAPPING])
    for number in range(8):
        life.to(50 if number % 2 else 90, number * 4)
    assert [step for _, step in life.told] == [Step.OPENED, Step.RESOLVED] * 4


def test_the_same_trouble_again_is_no_change() -> None:
    """Only what would be told counts."""
    life = Life([FLAPPING])
    for minute in range(8):
        life.to(90 + minute, minute)
    assert life.told == [(0, Step.OPENED)]


def test_reminders_begin_when_it_has_settled() -> None:
    """While it flaps nobody is reminded; what is still open then is."""
    life = flapping(REMINDING, changes=7).wait(200)
    assert life.told[4:] == [
        (16, Step.SETTLED),
        (76, Step.REMINDED),
        (136, Step.REMINDED),
        (196, Step.REMINDED),
    ]


def test_trouble_that_comes_back_is_the_same_incident() -> None:
    """While it goes up and down, it is one incident, opened again: one story."""
    life = flapping(changes=7)
    assert len({one.id for one in life.state.incidents}) == 1


def test_what_arrives_long_after_it_happened() -> None:
    """Changes that were kept up on their way do not make it stable: that is seen from when they arrive."""
    life = Life([FLAPPING])
    for minute in range(8):
        before, after = (90, 50) if minute % 2 else (50, 90)
        life.take(cpu(before, after), minute, arrives=60 + minute // 4)
    life.wait(100)
    assert life.told == [
        (60, Step.OPENED),
        (60, Step.RESOLVED),
        (60, Step.OPENED),
        (60, Step.FLAPPING),
        (71, Step.SETTLED),
    ]


def test_what_comes_late_is_no_news_while_it_flaps() -> None:
    """The quiet holds for a change that was overtaken by others, too."""
    life = flapping(changes=7)
    decision = life.take(cpu(50, 90), 4, arrives=7)
    assert (decision.alerts, decision.incidents) == ((), ())
    assert "it flaps" in decision.reason
    steady = flapping(changes=2)
    assert only(steady.take(cpu(50, 90), 0, arrives=2)).notification.late


LASTING = FLAPPING.model_copy(
    update={"when": condition(property="cpu", above=80, for_="2m"), "flap": Flap(changes=2, within="10m")}
)


def lasting() -> Life:
    """Return a life that flaps since minute 6, of trouble of which people hear when it lasts two minutes."""
    life = Life([LASTING])
    for minute, value in ((0, 90), (3, 50), (4, 90), (7, 50)):
        life.to(value, minute)
    assert life.told == [(2, Step.OPENED), (3, Step.RESOLVED), (6, Step.OPENED), (7, Step.FLAPPING)]
    return life


@pytest.mark.parametrize("up_again", [8, 10])
def test_trouble_that_must_last_comes_back_while_it_flaps(up_again: int) -> None:
    """It is no end of the quiet, and what it settles on is how it is then, not how it was."""
    life = lasting()
    life.to(90, up_again)
    life.wait(100)
    assert life.told[4:] == [(up_again + 10, Step.SETTLED)]
    assert len(life.open) == 1


def test_trouble_that_must_last_and_does_not_while_it_flaps() -> None:
    """That nobody is told of it alone does not keep back what it settles on."""
    life = lasting()
    life.to(90, 8)
    life.to(50, 9)
    life.wait(100)
    assert life.told[4:] == [(19, Step.SETTLED)]
    assert life.open == []


def test_reopened_within_the_hour_only() -> None:
    """After an hour trouble is a new incident."""
    life = Life([rule(when={"property": "cpu", "above": 80}, resolve={"property": "cpu", "below": 70})])
    first = only(life.to(90, 0)).incident_id
    life.to(50, 1)
    again = only(life.to(90, 61))
    assert (again.incident_id, again.notification.step) == (first, Step.OPENED)
    assert again.notification.opened_at == again.notification.at
    life.to(50, 62)
    assert only(life.to(90, 123)).incident_id != first


@given(st.lists(st.integers(1, 15), min_size=1, max_size=30))
@settings(max_examples=200, deadline=None)
def test_the_last_word_is_how_it_is(pauses: list[int]) -> None:
    """In the end people have heard how it is, and never of more than three changes in ten minutes."""
    life, minute = Life([FLAPPING]), 0
    for number, pause in enumerate(pauses):
        minute += pause
        life.to(50 if number % 2 else 90, minute)
    life.wait(minute + 100)
    is_open = len(pauses) % 2 == 1
    last = life.told[-1][1]
    assert last is Step.SETTLED or (last is Step.OPENED) is is_open
    assert bool(life.open) is is_open
    plain = [at for at, step in life.told if step in (Step.OPENED, Step.RESOLVED)]
    assert all(sum(at - 10 < other <= at for other in plain) <= 3 for at in plain)


@given(st.lists(st.integers(1, 15), min_size=1, max_size=30))
@settings(max_examples=200, deadline=None)
def test_the_last_word_where_trouble_must_last(pauses: list[int]) -> None:
    """In the end people have heard how it is there, too; of what never lasted they have heard nothing."""
    life, minute = Life([LASTING]), 0
    for number, pause in enumerate(pauses):
        minute += pause
        life.to(50 if number % 2 else 90, minute)
    life.wait(minute + 100)
    assert (life.last is None or life.last.ended) is not bool(life.open)


@pytest.mark.parametrize("wrong", [{"changes": 1}, {"within": "25h"}, {"within": "0s"}, {"changes": "many"}])
def test_what_a_flap_cannot_be(wrong: dict[str, object]) -> None:
    """Two changes at least, a day at most."""
    with pytest.raises(ValidationError):
        Flap.model_validate({"changes": 4, "within": "10m"} | wrong)
