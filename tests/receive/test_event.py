"""The event that is built here is one that is read here."""

import json

import pytest

from app.errors import UnreadableChange
from app.model.change import EntitySnapshot
from app.receive.event import build_event, encode
from app.receive.payload import parse_event
from app.receive.signature import Signed
from tests.conftest import NOW

ENTITY = EntitySnapshot(
    "payments-db", "database", "Zahlungen 🚀", "Database", ("Rocket", "Jet"), {"cpu": 85}, {"service": "pay"}
)


@pytest.mark.parametrize(
    ("action", "before", "after"),
    [("CREATE", None, ENTITY), ("UPDATE", ENTITY, ENTITY), ("DELETE", ENTITY, None)],
)
def test_an_entitys_change(action: str, before: EntitySnapshot | None, after: EntitySnapshot | None) -> None:
    """It comes back whole, bare or in an automation's envelope, and has the same key both times."""
    event = build_event(
        action=action,
        blueprint="database",
        entity="payments-db",
        at=NOW,
        origin="UI",
        by={"userId": "ada"},
        before=before,
        after=after,
    )
    change = parse_event(Signed(encode({"event": event}), NOW))
    assert (change.action, change.before, change.after) == (action, before, after)
    assert (change.blueprint, change.entity, change.title) == ("database", "payments-db", "Zahlungen 🚀")
    assert (change.at, change.origin, change.actor) == (NOW, "UI", "ada")
    assert parse_event(Signed(encode(event), NOW)) == change


def test_another_resources_change() -> None:
    """It has no diff, which only an entity's change must have."""
    event = build_event(
        action="CHECK", resource="probe", blueprint="p", entity="e", at=NOW, origin="DOCTOR", by={}
    )
    assert "diff" not in event
    assert parse_event(Signed(encode(event), NOW)).resource == "probe"


def test_half_an_emoji() -> None:
    """JSON may hold it and UTF-8 may not: it is replaced, and the body is one that can be stored."""
    assert json.loads(encode({"title": "a\ud83d"})) == {"title": "a?"}


def test_an_entity_without_a_name() -> None:
    """What the builder is given is judged where it is read."""
    event = build_event(action="UPDATE", blueprint="database", entity="", at=NOW, origin="", by={})
    with pytest.raises(UnreadableChange, match="an entity's change must name it"):
        parse_event(Signed(encode(event), NOW))
