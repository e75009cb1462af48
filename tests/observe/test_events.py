"""Log events: ids in the source, their fields, and what docs/logs.md says of them."""

import re
from pathlib import Path

import pytest

from app.observe.events import EVENTS
from scripts.log_events import log_events

SOURCE = Path(__file__).parents[2] / "app"


def test_every_event_has_a_meaning() -> None:
    """Each id in the source has a meaning, and each meaning belongs to an id in the source."""
    assert sorted(EVENTS) == sorted(log_events(SOURCE))
    assert list(EVENTS) == sorted(EVENTS)


def test_ids_are_snake_case() -> None:
    """An id is made of words in lower case with underscores between; so is a field."""
    for event_id, event in log_events(SOURCE).items():
        for name in (event_id, *event.fields):
            assert re.fullmatch(r"[a-z]+(_[a-z]+)*", name), f"{event_id}: {name}"


def test_what_is_collected(tmp_path: Path) -> None:
    """Levels and fields of an id come from all its calls; an id may be a choice, fields may be a dict."""
    (tmp_path / "module.py").write_text("""
class Some:
    def method(self, well):
        fields = {"queue": 1} | ({"delivery": 2} if well else {})
        fields["detail"] = "x"
        other = "delivery_failed" if well else "delivery_dead"
        log.info("delivered" if well else other, **fields, took_ms=3)
        log.exception("delivery_failed", reason="y")

    def reject(self, error, **fields):
        log.warning("rejected", **fields)

    def call(self):
        self.reject(error=1, body_bytes=2)
""")
    events = log_events(tmp_path)
    assert (events["delivered"].levels, events["delivery_failed"].levels) == ({"info"}, {"info", "error"})
    assert events["rejected"].fields == {"body_bytes"}
    assert set(events) == {"delivered", "delivery_failed", "delivery_dead", "rejected"}
    assert events["delivered"].fields == {"queue", "delivery", "detail", "took_ms"}
    assert events["delivery_failed"].fields == {"queue", "delivery", "detail", "took_ms", "reason"}


@pytest.mark.parametrize(
    "call", ["log.info(text)", 'log.info("a", "b")', 'log.info("a", **other)', "log.info()"]
)
def test_what_cannot_be_collected(tmp_path: Path, call: str) -> None:
    """An id or fields that the source does not spell out are refused, with the place."""
    (tmp_path / "module.py").write_text(f"def work(text, other):\n    {call}\n")
    with pytest.raises(ValueError, match=r"module\.py:2: "):
        log_events(tmp_path)
