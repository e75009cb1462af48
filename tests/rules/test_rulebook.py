"""The queues of destinations, and their fallbacks."""

from dataclasses import replace
from datetime import UTC, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from app.model.hours import Week
from app.model.incident import Route, Step
from app.model.notification import Notification
from app.rules.condition import JqError
from app.rules.destination import ByCatalog
from app.rules.rule import Rule, RuleSet
from app.rules.rulebook import MAX_PLACES, Queues, Rulebook

CHANNEL = "{{ .diff.after.properties.slackChannel }}"


def test_one_queue_has_the_destinations_name() -> None:
    """Whatever the entity."""
    assert {Queues("rocket").of(entity) for entity in ("a", "b", "é")} == {"rocket"}


def test_an_entity_stays_in_its_queue() -> None:
    """In every process: its alerts are to stay in order, and the queues are all used."""
    queues = Queues("jobs", 4)
    assert [queues.of(entity) for entity in ("checkout", "search", "checkout")] == [
        "jobs/2",
        "jobs/3",
        "jobs/2",
    ]
    assert {queues.of(f"e{number}") for number in range(100)} == {f"jobs/{number}" for number in range(4)}


def test_fallbacks_are_routes() -> None:
    """Only of destinations that have one; two names of one channel lead to its one queue."""
    queues = {
        "default": Queues("default"),
        "rocket": Queues("rocket", fallback="default"),
        "jobs": Queues("jobs", 8, fallback="same-channel"),
        "same-channel": Queues("rocket"),
    }
    fallbacks = Rulebook(RuleSet(()), queues).fallbacks
    assert fallbacks == {"rocket": Route("default", "default"), "jobs": Route("same-channel", "rocket")}


def read(value: str) -> str:
    """Lead everything but `no` to a channel."""
    if value == "no":
        raise ValueError("it is no")
    return f"#{value}"


def test_what_the_catalog_names() -> None:
    """A queue for each value, or its own destination; what leads nowhere goes to the default."""
    named = ByCatalog(CHANNEL, read, "#ops")
    queues = {
        "default": Queues("default"),
        "teams": Queues("teams", catalog=named),
        "others": Queues("others", catalog=replace(named, default="jobs")),
        "jobs": Queues("jobs", 4, frozenset({Step.OPENED}), fallback="teams"),
        "own": Queues("shared"),
    }
    book = Rulebook(RuleSet(()), queues, channels={"#own": "own"})
    ways = book.routes("teams", "e", ["a", " own ", "a", "no", 5, "", JqError("x")])
    assert ways == (Route("teams", "#a"), Route("own", "shared"), Route("teams", "#ops"))
    assert [way.why for way in ways] == ["", "", "for teams: it is no"]
    whys = [book.routes("others", "e", [value])[0].why for value in (5, " ", None, JqError("x"))]
    nothing = "for others: the catalog gave no value"
    assert whys == ["for others: 5 is no text", nothing, nothing, "for others: its template failed"]
    (way,) = book.routes("others", "e")
    assert way == Route("jobs", queues["jobs"].of("e"), queues["jobs"].steps)
    many = book.routes("others", "e", [f"c{number}" for number in range(100)])
    assert (len(many), many[-1].destination) == (MAX_PLACES + 1, "jobs")
    assert many[-1].why == f"for others: the catalog names 100, of which {MAX_PLACES} are told at the most"
    assert book.fallbacks == {"jobs": Route("teams", "#ops")}
    assert book.defaults["teams"] == Route("teams", "#ops")
    assert book.routes("own", "e") == (Route("own", "shared"),)


OFFICE = Week(frozenset(range(5)), time(9), time(18), ZoneInfo("UTC"))
HOLDS: dict[str, Any] = {"to": "owners", "when": "office", "else": "hold"}


@pytest.mark.parametrize(
    ("targets", "held", "instead"),
    [
        ([HOLDS], {"owners", "own", "ops", "pager"}, True),  # wherever the catalog leads, and the fallback
        ([HOLDS, "own"], {"owners", "ops", "pager"}, True),
        ([HOLDS | {"to": "own"}], {"own"}, True),
        ([HOLDS | {"to": "own"}, "owners"], {"own"}, False),  # there in the place of `owners` it is told
        ([HOLDS | {"to": "pager"}, "owners"], {"pager"}, False),
        ([HOLDS | {"else": "pager"}], set(), True),
        (
            [HOLDS | {"to": {"template": "{{ .a }}", "default": "own"}}, "pager"],
            {"owners", "own", "ops"},
            True,
        ),
        ([HOLDS | {"to": "own"}, HOLDS | {"to": "own", "when": "always"}], set(), True),
    ],
)
def test_what_hours_keep_back(targets: list[object], held: set[str], *, instead: bool) -> None:
    """All that a target which holds leads to, but nothing that another one names, or leads to, as well."""
    owners = ByCatalog(CHANNEL, read, "ops")
    queues = {name: Queues(name) for name in ("default", "own", "ops", "pager")}
    queues["owners"] = Queues("owners", fallback="pager", catalog=owners)
    rule = Rule.model_validate({"name": "a", "when": {"property": "b"}, "send": targets})
    always = Week(frozenset(range(7)), time(0), time(0), ZoneInfo("UTC"))
    hours = {"office": OFFICE, "always": always}
    book = Rulebook(RuleSet([rule]), queues, channels={"#own": "own"}, hours=hours)
    night = datetime(2026, 6, 3, 22, tzinfo=UTC)
    alert = Notification.notice("", night).but(rule="a")
    assert {name for name in queues if book.held(alert, name, night)} - {"default"} == held
    assert not any(book.held(alert, name, night.replace(hour=12)) for name in queues)
    copied = alert.but(instead="for owners, which is on hold")
    assert {name for name in queues if book.held(copied, name, night)} - {"default"} == (
        held if instead else set()
    )
    assert not any(book.held(alert.but(at_any_time=True), name, night) for name in queues)


def test_what_escalates_at_any_time() -> None:
    """After a reload, too: where the catalog leads to a destination that another target keeps quiet."""
    queues = {"own": Queues("own"), "owners": Queues("owners", catalog=ByCatalog(CHANNEL, read, "own"))}
    sends: list[list[object]] = [["owners"], [HOLDS], [HOLDS | {"to": "own"}, "owners"]]
    steps = [{"after": f"{number}m", "send": send} for number, send in enumerate(sends, 1)]
    rule = Rule.model_validate({"name": "a", "when": {"property": "b"}, "escalate": steps})
    book = Rulebook(RuleSet([rule]), queues, hours={"office": OFFICE})
    ways = book.escalations(rule, (), "e", datetime(2026, 6, 3, 22, tzinfo=UTC), {})
    assert [(way.destination, way.at_any_time) for _, way in ways] == [
        ("own", True),
        ("own", False),
        ("own", True),
    ]
