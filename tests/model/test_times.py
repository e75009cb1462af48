"""Times as microseconds."""

from datetime import UTC, datetime, timedelta, timezone

from app.model.times import EPOCH, from_micros, micros_or_none, time_or_none, to_micros


def test_there_and_back() -> None:
    """To the microsecond, before 1970 too, and from any zone."""
    for time in (
        EPOCH,
        datetime(2026, 6, 9, 12, 28, 18, 477_123, UTC),
        datetime(1969, 12, 31, 23, tzinfo=UTC),
    ):
        assert from_micros(to_micros(time)) == time
    assert to_micros(datetime(1970, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))) == 0


def test_none_stays_none() -> None:
    """A time that is not there is not there as micros."""
    assert micros_or_none(None) is None
    assert time_or_none(None) is None
    assert time_or_none(micros_or_none(EPOCH)) == EPOCH
