"""The doctor's change, which alerts nobody."""

from datetime import UTC, datetime

from app.port.setup import probe
from app.receive.payload import parse_event
from app.receive.signature import Signed


def test_probe_is_a_change_of_nothing() -> None:
    """The doctor's change is read as any other, and is of no entity of the catalog."""
    now = datetime.now(UTC)
    change = parse_event(Signed(probe.probe_body(now), now))
    assert (change.resource, change.blueprint, change.entity) == (probe.PROBE,) * 3
    assert change.at == now
    assert change.key == parse_event(Signed(probe.probe_body(now), now)).key
