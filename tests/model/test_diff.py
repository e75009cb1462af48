"""What changed between two snapshots."""

from collections.abc import Iterable
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.model.change import EntitySnapshot
from app.model.diff import PropertyChange, diff, same, same_field

KEYS = st.sampled_from(("healthStatus", "cpu", "spec", ""))
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-2, 2)
    | st.sampled_from((1.0, 0.0, 25.5, 2**60))
    | st.text(max_size=3)
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=5,
)
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=3)
SNAPSHOTS = st.builds(
    EntitySnapshot,
    identifier=st.just("checkout-prod"),
    blueprint=st.just("deploymentConfig"),
    title=st.none() | st.text(max_size=3),
    icon=st.none() | st.text(max_size=3),
    teams=st.lists(st.sampled_from("AB"), max_size=2).map(tuple),
    properties=OBJECTS,
    relations=st.dictionaries(KEYS, SCALARS, max_size=1),
)


@pytest.mark.parametrize(
    ("kind", "one", "other", "are_same"),
    [
        ("team", ["a", "b"], ["b", "a"], True),
        ("relations", ["a", "b", "a"], ["a", "a", "b"], True),
        ("relations", ["a", "b", "b"], ["a", "a", "b"], False),
        ("relations", ["a"], "a", False),
        ("properties", ["a", "b"], ["b", "a"], False),
        ("properties", "2026-11-26T10:00:00Z", "2026-11-26T11:00:00.000+01:00", True),
        ("properties", {"at": ["2026-11-26T10:00:00Z"]}, {"at": ["2026-11-26T10:00:00+00:00"]}, True),
        ("properties", "2026-11-26T10:00:00Z", "2026-11-26T10:00:00.001Z", False),
        ("properties", "2026-11-26T10:00:00Z", "2026-11-26T10:00:00", False),
        ("properties", "2026-02-31T10:00:00Z", "2026-02-31T10:00:00+00:00", False),
        ("title", "1", "1.0", False),
    ],
)
def test_one_notion_of_equal(kind: str, one: Any, other: Any, are_same: bool) -> None:
    """The order of teams and related entities is no fact, and an instant is one in any notation."""
    assert same(one, other, kind) is same(other, one, kind) is are_same
    assert same_field(f"{kind}.x", one, other) is are_same


def entity(properties: dict[str, Any] | None = None, **fields: Any) -> EntitySnapshot:
    """Return a snapshot with these properties and other fields."""
    return EntitySnapshot("checkout-prod", "deploymentConfig", properties=properties or {}, **fields)


def fields(snapshot: EntitySnapshot | None) -> dict[str, Any]:
    """Return an entity as Port shows it, as far as a diff looks at it."""
    if snapshot is None:
        return {"properties": {}, "relations": {}}
    return {
        "title": snapshot.title,
        "icon": snapshot.icon,
        "team": sorted(snapshot.teams) or None,
        "properties": snapshot.properties,
        "relations": snapshot.relations,
    }


def applied(before: EntitySnapshot | None, changes: Iterable[PropertyChange]) -> dict[str, Any]:
    """Return `before` after the changes."""
    result = deepcopy(fields(before))
    for change in changes:
        *way, last = change.path
        node = result
        for name in way:
            node = node[name]
        node[last] = sorted(change.after) if way == [] and last == "team" and change.after else change.after
    return result


def canonical(value: Any) -> Any:
    """Return a value such that `==` tells true from 1, and null is the same as missing."""
    if isinstance(value, bool):
        return "a boolean", value
    if isinstance(value, dict):
        return {key: canonical(item) for key, item in value.items() if item is not None}
    return list(map(canonical, value)) if isinstance(value, list) else value


def paths(before: EntitySnapshot | None, after: EntitySnapshot | None) -> list[tuple[str, ...]]:
    """Return where the two differ."""
    return [change.path for change in diff(before, after)]


@given(SNAPSHOTS | st.none())
@settings(max_examples=60, deadline=None)
def test_an_entity_does_not_differ_from_itself(snapshot: EntitySnapshot | None) -> None:
    """diff(x, x) is empty."""
    assert diff(snapshot, deepcopy(snapshot)) == ()


@given(SNAPSHOTS | st.none(), SNAPSHOTS)
@settings(max_examples=150, deadline=None)
def test_the_diff_leads_from_before_to_after(before: EntitySnapshot | None, after: EntitySnapshot) -> None:
    """Applying the diff to `before` gives `after`, null and missing being the same, and no step is idle."""
    changes = diff(before, after)
    assert canonical(applied(before, changes)) == canonical(fields(after))
    assert len({change.path for change in changes}) == len(changes)
    assert all(canonical(change.before) != canonical(change.after) for change in changes)


@given(SNAPSHOTS | st.none(), SNAPSHOTS | st.none())
@settings(max_examples=60, deadline=None)
def test_the_way_back_is_the_same_way(before: EntitySnapshot | None, after: EntitySnapshot | None) -> None:
    """diff(b, a) is diff(a, b) with the values exchanged."""
    forth = {change.path: canonical([change.before, change.after]) for change in diff(before, after)}
    back = {change.path: canonical([change.after, change.before]) for change in diff(after, before)}
    assert forth == back


def test_an_entity_that_comes_or_goes() -> None:
    """Every value of a created entity comes from None, every value of a deleted one goes to None."""
    one = entity({"cpu": 25}, title="Checkout", teams=("Payments",))
    created = {change.name: (change.before, change.after) for change in diff(None, one)}
    deleted = {change.name: (change.after, change.before) for change in diff(one, None)}
    assert (
        created == deleted == {"title": (None, "Checkout"), "team": (None, ["Payments"]), "cpu": (None, 25)}
    )


@pytest.mark.parametrize(
    ("before", "after", "equal"),
    [
        (25, 25.0, True),
        ([25, {"a": 1}], [25.0, {"a": 1.0, "b": None}], True),
        (True, 1, False),
        (False, 0, False),
        ([True], [1], False),
        ({"a": [True]}, {"a": [1]}, False),
        (True, True, True),
        ([1, 2], [2, 1], False),
        ([1], [1, None], False),
        ([{}], [{"a": 1}], False),
        ("1", 1, False),
        ("", None, False),
        ({}, None, False),
        ("Healthy", "healthy", False),
    ],
)
def test_what_is_the_same_to_port(before: Any, after: Any, equal: bool) -> None:
    """Values compare by value, but a boolean equals no number, at any depth."""
    assert same(before, after) is same(after, before) is equal
    assert (diff(entity({"x": before}), entity({"x": after})) == ()) is equal
    assert (diff(entity({"o": {"x": before}}), entity({"o": {"x": after}})) == ()) is equal


def test_nested_objects_are_looked_into() -> None:
    """A change inside an object has its own path; what stayed beside it is not told."""
    before = entity({"spec": {"cpu": 1, "memory": {"limit": 2}}, "gone": 1})
    after = entity({"spec": {"cpu": 1, "memory": {"limit": 3}}, "new": 1})
    changes = diff(before, after)
    assert [change.name for change in changes] == ["spec.memory.limit", "new", "gone"]
    assert changes[0] == PropertyChange(("properties", "spec", "memory", "limit"), 2, 3)


def test_an_object_that_becomes_something_else_is_one_change() -> None:
    """Where only one side is an object, the whole value changed."""
    before, after = entity({"spec": {"cpu": 1}}), entity({"spec": "small"})
    assert diff(before, after) == (PropertyChange(("properties", "spec"), {"cpu": 1}, "small"),)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"title": "B"}, ("title",)),
        ({"title": None}, ("title",)),
        ({"icon": "Server"}, ("icon",)),
        ({"teams": ("Payments", "Rocket")}, ("team",)),
        ({"teams": ()}, ("team",)),
        ({"relations": {"service": "search"}}, ("relations", "service")),
        ({"relations": {}}, ("relations", "service")),
    ],
)
def test_what_else_an_entity_has(change: dict[str, Any], path: tuple[str, ...]) -> None:
    """Title, icon, team and relations count too."""
    old: dict[str, Any] = {"title": "A", "teams": ("Rocket",), "relations": {"service": "checkout"}}
    assert paths(entity(**old), entity(**(old | change))) == [path]


def test_a_property_may_be_called_title() -> None:
    """A property and a field of the same name are two things."""
    before, after = entity({"title": "a"}, title="A"), entity({"title": "b"}, title="B")
    assert paths(before, after) == [("title",), ("properties", "title")]
