"""The neutral facts of an alert."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from app.model.change import CatalogChange, EntitySnapshot
from app.model.diff import diff
from app.model.incident import Step
from app.model.notification import (
    MAX_CHANGES,
    MAX_LINKS,
    MAX_VALUE_CHARS,
    Notification,
    ValueChange,
    one_line,
    text_of,
)
from app.store.rows import notification_json

NOW = datetime(2026, 6, 9, 12, 28, 20, tzinfo=UTC)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def about(before: dict[str, Any] | None, after: dict[str, Any] | None, **facts: Any) -> Notification:
    """Return the notification of a change of `healthStatus` and of these properties."""
    entities = [
        None
        if properties is None
        else EntitySnapshot(
            "checkout-prod", "deploymentConfig", properties={"healthStatus": status, **properties}
        )
        for status, properties in (("Healthy", before), ("Degraded", after))
    ]
    change = CatalogChange(
        key="k",
        action=facts.get("action", "UPDATE"),
        resource="entity",
        blueprint="deploymentConfig",
        entity="checkout-prod",
        title="Checkout",
        teams=("Payments",),
        before=entities[0],
        after=entities[1],
        actor="ada@example.com",
        origin="UI",
        at=NOW,
    )
    changes = diff(change.before, change.after)
    main = next(one for one in changes if one.name == "healthStatus")
    return Notification.about(change, main, changes, **({"rule": "health", "step": Step.OPENED} | facts))


def test_it_carries_what_the_change_says() -> None:
    """Who, what, where, when, and what else changed, the rule's own value apart from the others."""
    told = about({"cpu": 25}, {"cpu": 91}, opened_at=NOW, late=True)
    assert (told.step, told.rule, told.blueprint, told.entity) == (
        Step.OPENED,
        "health",
        "deploymentConfig",
        "checkout-prod",
    )
    assert (told.title, told.teams, told.actor, told.origin) == (
        "Checkout",
        ("Payments",),
        "ada@example.com",
        "UI",
    )
    assert (told.at, told.opened_at, told.late) == (NOW, NOW, True)
    assert told.change == ValueChange("healthStatus", "Healthy", "Degraded")
    assert told.others == (ValueChange("cpu", 25, 91),)
    assert told.others_left_out == 0


@pytest.mark.parametrize("value", ["x" * 1_000_000, ["word"] * 100_000, [{"key": "y" * 5_000}]])
def test_long_values_are_cut_text(value: Any) -> None:
    """A value of a megabyte becomes text of a bounded size that shows that it was cut."""
    (other,) = about({}, {"spec": value}).others
    assert len(other.after) == MAX_VALUE_CHARS
    assert other.after.endswith("…")
    assert other.after[:-1] == text_of(value)[: MAX_VALUE_CHARS - 1]


@pytest.mark.parametrize("value", ["x" * MAX_VALUE_CHARS, ["a", {"b": None}], {}, 25.5, True])
def test_short_values_stay_what_they_are(value: Any) -> None:
    """What fits is kept as the JSON value that it is."""
    (other,) = about({}, {"spec": value}).others
    assert other.after == value


def test_long_names_are_cut() -> None:
    """A property's name has a bounded length too."""
    (other,) = about({}, {"n" * 5_000: 1}).others
    assert len(other.name) == 500
    assert other.name.endswith("…")


@pytest.mark.parametrize(
    ("count", "left_out"), [(0, 0), (1, 0), (MAX_CHANGES, 0), (MAX_CHANGES + 1, 1), (3000, 2950)]
)
def test_others_beyond_the_limit_are_counted(count: int, left_out: int) -> None:
    """The first fifty are told, the rest is a number."""
    told = about({}, {f"p{number}": number for number in range(count)})
    assert [one.name for one in told.others] == [f"p{number}" for number in range(count - left_out)]
    assert told.others_left_out == left_out


def test_links_are_the_urls_of_the_entity() -> None:
    """Properties that are web addresses become links; other text and other schemes do not."""
    properties = {
        "newRelicUrl": "https://newrelic.com",
        "plain": "http://intranet/x",
        "script": "javascript:alert(1)",
        "ftp": "ftp://files",
        "text": "see https://example.com",
        "number": 5,
        "list": ["https://example.com"],
    }
    told = about({}, properties)
    assert [(link.name, link.url) for link in told.links] == [
        ("newRelicUrl", "https://newrelic.com"),
        ("plain", "http://intranet/x"),
    ]


def test_links_have_a_limit() -> None:
    """An entity with a hundred addresses has the first five as links."""
    told = about({}, {f"url{number}": f"https://example.com/{number}" for number in range(100)})
    assert [link.name for link in told.links] == [f"url{number}" for number in range(MAX_LINKS)]


@given(VALUES, VALUES, st.none() | st.datetimes(timezones=st.just(UTC)))
@settings(deadline=None)
def test_json_and_back(before: Any, after: Any, opened_at: datetime | None) -> None:
    """What the store keeps as JSON comes back as the same notification."""
    told = about({"x": before}, {"x": after, "url": "https://example.com"}, opened_at=opened_at)
    assert Notification.read(notification_json(told)) == told


def test_it_knows_its_time_zone() -> None:
    """A time without a zone is refused."""
    told = about({}, {})
    if TYPE_CHECKING:  # mypy holds it frozen, else it would not take the comment
        told.title = "Other"  # type: ignore[misc]
    with pytest.raises(ValidationError):
        Notification.read(notification_json(told.but(at=(NOW + timedelta(hours=1)).replace(tzinfo=None))))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "none"),
        ("Degraded", "Degraded"),
        ("", ""),
        (True, "true"),
        (False, "false"),
        (25, "25"),
        (25.0, "25"),
        (25.5, "25.5"),
        (0.1 + 0.2, "0.3"),
        (1e-7, "1e-07"),
        (10**400, "1" + "0" * 400),
        (["a", 1.0, None], "[a, 1, none]"),
        (("a",), "[a]"),
        ({"cpu": [1], "on": False}, "{cpu: [1], on: false}"),
        ([], "[]"),
        ({}, "{}"),
    ],
)
def test_values_read_as_people_write_them(value: Any, text: str) -> None:
    """No quotes, no Python, no needless decimals."""
    assert text_of(value) == text


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain", "plain"),
        ("", ""),
        (" a\n\tb\r\n c ", "a b c"),
        ("\x1b[31mred\x1b[0m", "[31mred [0m"),
        ("\x1b]0;title\x07rest", "]0;title rest"),
        ("bell\x07 back\x08 null\x00 delete\x7f", "bell back null delete"),
        ("\x9b31mred", "31mred"),
        ("a\u2028b\u2029c\xa0d", "a b c\xa0d"),
        ("café 🚀", "café 🚀"),
    ],
)
def test_text_on_one_line(text: str, line: str) -> None:
    """Lines are joined, and what a terminal would obey is gone."""
    assert one_line(text) == line


@given(st.text())
def test_no_control_character_stays(text: str) -> None:
    """Whatever comes, one printable line is left, and doing it again changes nothing."""
    line = one_line(text)
    assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in line)
    assert len(line.splitlines()) <= 1
    assert one_line(line) == line


def test_one_line_can_be_cut() -> None:
    """A limit cuts, and shows that it did."""
    assert one_line("abcdef", 4) == "abc…"
    assert one_line("abcd", 4) == "abcd"


@pytest.mark.parametrize(("action", "before"), [("CREATE", None), ("DELETE", {"cpu": 1})])
def test_what_is_new_or_gone_has_no_other_changes(action: str, before: dict[str, Any] | None) -> None:
    """All of its values are: that is no news about each."""
    after = {"cpu": 1} if before is None else None
    made = about(before, after, action=action)
    assert (made.others, made.others_left_out) == ((), 0)
    assert made.change is not None


@pytest.mark.parametrize(
    ("blueprint", "properties", "title"),
    [
        ("_rule_result", {"entity": "billing"}, "billing: Has an owner"),
        ("_rule_result", {"entity": "owner"}, "Has an owner"),
        ("_rule_result", {"entity": None}, "Has an owner"),
        ("service", {"entity": "billing"}, "Has an owner"),
    ],
)
def test_a_scorecards_result_names_its_entity(blueprint: str, properties: dict[str, Any], title: str) -> None:
    """Its own title is only that of the scorecard's rule."""
    after = EntitySnapshot("x", blueprint, "Has an owner", properties=properties)
    change = CatalogChange(
        "k", "UPDATE", "entity", blueprint, "x", "Has an owner", (), after, after, "", "", NOW
    )
    assert Notification.about(change, None, (), rule="r", step=Step.NOTICED).title == title
