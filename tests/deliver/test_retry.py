"""When to try again, and when to stop."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.deliver.retry import GIVE_UP_AFTER, PROBE_EVERY, NextAttempt, next_attempt
from app.errors import DeliveryFailed, Scope
from app.model.delivery import Outcome

NOW = datetime(2026, 6, 9, 12, 28, 20, tzinfo=UTC)
HOUR = timedelta(hours=1)
MOMENT = timedelta(microseconds=1)


def after(scope: Scope = Scope.TRANSIENT, retry_after: timedelta | None = None, **facts: Any) -> NextAttempt:
    """Return what follows a failure."""
    usual: dict[str, Any] = {"failures": 0, "on_hold": False, "waiting_since": NOW, "now": NOW, "jitter": 0.0}
    return next_attempt(DeliveryFailed("503", scope, retry_after), **(usual | facts))


@pytest.mark.parametrize(
    ("failures", "seconds"),
    [(0, 1), (1, 2), (2, 4), (3, 8), (7, 128), (8, 256), (9, 300), (10, 300), (20, 300), (10**9, 300)],
)
def test_the_wait_doubles_up_to_five_minutes(failures: int, seconds: int) -> None:
    """One second, two, four, …, and never more than five minutes."""
    assert after(failures=failures) == NextAttempt(Outcome.RETRY, "503", NOW + timedelta(seconds=seconds))


@pytest.mark.parametrize(("jitter", "seconds"), [(-1, 240), (0, 300), (0.5, 330), (1, 360)])
def test_the_wait_is_spread_by_a_fifth(jitter: float, seconds: int) -> None:
    """Many queues do not come back at the same moment."""
    assert after(failures=9, jitter=jitter).at == NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize("jitter", [-1, 0, 1])
@pytest.mark.parametrize("failures", [0, 9])
@pytest.mark.parametrize(
    ("asked", "floor"),
    [
        (timedelta(seconds=1.5), timedelta(seconds=1.5)),
        (timedelta(minutes=10), timedelta(minutes=10)),
        (HOUR, HOUR),
        (timedelta(days=3650), HOUR),
    ],
)
def test_retry_after_is_a_floor_of_an_hour_at_most(
    asked: timedelta, floor: timedelta, failures: int, jitter: float
) -> None:
    """Never sooner than the destination asked for, and nonsense silences nothing for years."""
    following = after(retry_after=asked, failures=failures, jitter=jitter)
    assert floor <= following.at - NOW <= max(1.2 * floor, timedelta(minutes=6))
    assert following.outcome is Outcome.RETRY


@pytest.mark.parametrize(
    ("waited", "outcome"),
    [
        (timedelta(0), Outcome.RETRY),
        (GIVE_UP_AFTER - MOMENT, Outcome.RETRY),
        (GIVE_UP_AFTER, Outcome.DEAD),
        (10 * GIVE_UP_AFTER, Outcome.DEAD),
    ],
)
def test_patience_ends_after_a_day(waited: timedelta, outcome: Outcome) -> None:
    """Up to 24 hours it is tried again, then it is given up and says so."""
    following = after(waiting_since=NOW - waited)
    assert following.outcome is outcome
    assert following.reason == ("given up after 24 h: 503" if outcome is Outcome.DEAD else "503")


@pytest.mark.parametrize("on_hold", [True, False])
@pytest.mark.parametrize("waited", [timedelta(0), 3 * GIVE_UP_AFTER])
def test_a_destination_that_takes_nothing_is_held(on_hold: bool, waited: timedelta) -> None:
    """The queue is on hold and probed every ten minutes, for as long as it takes: nothing in it is lost."""
    following = after(Scope.DESTINATION, on_hold=on_hold, waiting_since=NOW - waited, jitter=1.0)
    assert following == NextAttempt(Outcome.ON_HOLD, "503", NOW + PROBE_EVERY)


@pytest.mark.parametrize("waited", [timedelta(0), 3 * GIVE_UP_AFTER])
def test_held_stays_held(waited: timedelta) -> None:
    """A probe that fails for a passing reason does not release the queue, nor does it end its patience."""
    following = after(on_hold=True, failures=5, waiting_since=NOW - waited)
    assert following == NextAttempt(Outcome.ON_HOLD, "503", NOW + PROBE_EVERY)


@pytest.mark.parametrize("on_hold", [True, False])
def test_a_refused_message_is_dead(on_hold: bool) -> None:
    """It concerns this message alone: the queue goes on at once, held or not."""
    assert after(Scope.MESSAGE, HOUR, on_hold=on_hold) == NextAttempt(Outcome.DEAD, "503", NOW)


@pytest.mark.parametrize("on_hold", [True, False])
def test_what_is_no_place_goes_elsewhere_at_once(*, on_hold: bool) -> None:
    """However long it waited: the queue goes on, held or not."""
    following = after(Scope.PLACE, HOUR, on_hold=on_hold, waiting_since=NOW - 2 * GIVE_UP_AFTER)
    assert following == NextAttempt(Outcome.RETRY, "503", NOW)


@given(
    scope=st.sampled_from([scope for scope in Scope if scope is not Scope.PLACE]),
    retry_after=st.none() | st.timedeltas(timedelta(seconds=1), timedelta(seconds=1e9)),
    failures=st.integers(0, 10**6),
    on_hold=st.booleans(),
    waited=st.timedeltas(timedelta(0), 2 * GIVE_UP_AFTER),
    jitter=st.floats(-1, 1),
)
def test_no_wait_is_out_of_bounds(
    scope: Scope,
    retry_after: timedelta | None,
    failures: int,
    on_hold: bool,
    waited: timedelta,
    jitter: float,
) -> None:
    """Whatever failed: what is tried again waits long enough, not too long, and within patience."""
    following = after(
        scope, retry_after, failures=failures, on_hold=on_hold, waiting_since=NOW - waited, jitter=jitter
    )
    wait = following.at - NOW
    if following.outcome is Outcome.RETRY:
        assert timedelta(seconds=0.8) <= wait <= 1.2 * HOUR
        assert wait <= timedelta(minutes=6) or retry_after is not None
        assert wait >= min(retry_after or timedelta(0), HOUR)
        assert waited < GIVE_UP_AFTER
    else:
        probed = max(PROBE_EVERY, min(retry_after or timedelta(0), HOUR))
        assert wait == (probed if following.outcome is Outcome.ON_HOLD else timedelta(0))


def test_what_may_have_arrived_waits_minutes() -> None:
    """A send that may have arrived is one message more: after three more it is broken."""
    minute = timedelta(minutes=1)
    waits = [after(unsure_sends=number) for number in range(1, 5)]
    assert [following.at - NOW for following in waits[:3]] == [minute, 2 * minute, 4 * minute]
    assert [following.outcome for following in waits] == [Outcome.RETRY] * 3 + [Outcome.ON_HOLD]
    probes = [after(unsure_sends=number, on_hold=True).at - NOW for number in (1, 6, 7, 999)]
    assert probes == [PROBE_EVERY, 32 * minute, HOUR, HOUR]
    asked = after(retry_after=timedelta(minutes=3), unsure_sends=1)
    assert asked.at - NOW == 3 * minute
