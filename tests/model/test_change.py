"""A change's key."""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.model.change import EntitySnapshot, change_key
from app.model.times import EPOCH

AT = datetime(2026, 6, 9, 12, 28, 18, 477_000, UTC)


def entity(**fields: Any) -> EntitySnapshot:
    """Return a snapshot."""
    facts = {"identifier": "checkout-prod", "blueprint": "deploymentConfig", "properties": {"a": 1, "b": [2]}}
    return EntitySnapshot(**(facts | fields))


def key(**parts: Any) -> str:
    """Return the key of a change that differs from the usual one in `parts`."""
    usual: dict[str, Any] = {
        "action": "UPDATE",
        "resource": "entity",
        "blueprint": "deploymentConfig",
        "entity": "checkout-prod",
        "at": AT,
        "before": entity(),
        "after": entity(title="Checkout"),
    }
    return change_key(**(usual | parts))


def test_the_same_change_has_the_same_key() -> None:
    """The key rests on nothing but the change, and is of 64 hex digits."""
    assert key() == key()
    assert re.fullmatch(r"[0-9a-f]{64}", key())


def test_keys_come_in_the_order_of_time() -> None:
    """So that a store which has many writes the few pages of an index in which the newest stand."""
    times = [EPOCH - timedelta(1), EPOCH, *(AT + timedelta(milliseconds=after) for after in range(300))]
    keys = [key(at=at) for at in [*times[1:], datetime(2527, 1, 1, tzinfo=UTC)]]
    assert keys == sorted(keys)
    assert re.fullmatch(r"0{11}[0-9a-f]{53}", key(at=times[0]))


def test_the_order_of_keys_does_not_count() -> None:
    """Two senders that write an object's keys in different order mean the same change."""
    one, other = {"a": 1, "o": {"x": 1, "y": 2}}, {"o": {"y": 2, "x": 1}, "a": 1}
    assert key(after=entity(properties=one)) == key(after=entity(properties=other))


@pytest.mark.parametrize(
    "parts",
    [
        {"action": "CREATE"},
        {"resource": "run"},
        {"blueprint": "service"},
        {"entity": "search-prod"},
        {"at": AT + timedelta(milliseconds=1)},
        {"timer": "locked_until"},
        {"timer": "expires"},
        {"before": None},
        {"after": None},
        {"before": entity(title="Checkout"), "after": entity()},
        {"after": entity(identifier="search-prod", title="Checkout")},
        {"after": entity(title="Checkout 2")},
        {"after": entity(title="Checkout", icon="Server")},
        {"after": entity(title="Checkout", teams=("Payments",))},
        {"after": entity(title="Checkout", properties={"a": 1, "b": [3]})},
        {"after": entity(title="Checkout", properties={"a": True, "b": [2]})},
        {"after": entity(title="Checkout", relations={"service": "x"})},
        {"after": entity(title="Chéckout 🚀")},
    ],
)
def test_everything_that_makes_a_change_counts(parts: dict[str, Any]) -> None:
    """A change that differs in one ingredient has another key."""
    assert key(**parts) != key()


def test_neighbouring_ingredients_do_not_run_together() -> None:
    """Moving a letter from one field to the next is another change."""
    assert key(blueprint="ab", entity="c") != key(blueprint="a", entity="bc")
    assert key(timer="a") != key(timer="b") != key(timer=None)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
PROPERTIES = st.dictionaries(st.text(), VALUES, max_size=6)
EDGES: list[Any] = [
    *(0.0, -0.0, 1e-5, 1e16, 5e-324, 1e308, 123456.75, 2**53 + 1, 2**64 - 1, 2**64, -(2**63) - 1),
    '\x00\x1f\x7f\x80\u2028"/\\\b\f\n\r\t🚀',
    json.loads("[" * 300 + "]" * 300),
]


def key_of(properties: dict[str, Any]) -> str:
    """Return the key of a change to these properties."""
    return key(after=entity(properties=properties))


@given(PROPERTIES, PROPERTIES)
def test_two_values_have_one_key_only_if_they_are_one(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Whatever JSON they are."""
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (key_of(one) == key_of(other)) is same


@given(PROPERTIES)
@example({"🚀": EDGES, "\uffff": 1})
def test_a_change_that_comes_again_has_its_key(properties: dict[str, Any]) -> None:
    """Also with its keys in another order, and what is not ASCII escaped."""
    again = json.loads(json.dumps(dict(reversed(properties.items()))))
    assert key_of(again) == key_of(properties)


@pytest.mark.parametrize("value", EDGES, ids=ascii)
def test_an_odd_value_makes_another_key(value: Any) -> None:
    """Each alone, so that none hides another."""
    assert key_of({"x": value}) != key_of({"x": None})
