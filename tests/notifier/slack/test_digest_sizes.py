"""Many alerts in one Slack message: what fits, whatever the catalog holds."""

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.model.digest import GroupBy, gather
from app.model.incident import Step
from app.model.notification import Notification, Part, ValueChange
from app.notifier.base import Story
from app.notifier.slack.digest import updated_digest
from tests.notifier.slack.digests import (
    ALL_KEYS,
    APP,
    ATTACKS,
    MENTIONS,
    MINUTE,
    NOW,
    PAGE,
    SECOND,
    digested,
    lines,
    told,
)
from tests.notifier.slack.limits import assert_valid, shown


class TestSizes:
    """What fits into a message, and what becomes of the rest."""

    def test_a_storm(self) -> None:
        """What does not fit is left for the next message, which the last block says; the headlines add up."""
        waiting = [told(f"entity-number-{number}") for number in range(500)]
        messages = 0
        counted = 0
        while waiting:
            made = digested(*waiting)
            left = len(waiting) - len(made.shown)
            text = lines(*waiting)
            assert text[0].startswith(f"🟠 *{len(made.shown)} entities of deploymentConfig changed")
            assert sum(one.startswith("•") for one in text) == len(made.shown)
            assert (text[-1] == f"{left} more follow in the next message") == (left > 0)
            waiting = [one for number, one in enumerate(waiting) if number not in made.shown]
            messages += 1
            counted += len(made.shown)
        assert counted == 500
        assert messages <= 7

    def test_the_last_one_follows(self) -> None:
        """One is one."""
        waiting = [told(f"entity-number-{number}") for number in range(500)]
        some = len(digested(*waiting).shown)
        assert lines(*waiting[: some + 1])[-1] == "1 more follows in the next message"

    def test_a_line_is_shown_whole_or_not_at_all(self) -> None:
        """All that is told of an entity goes out together."""
        waiting = [told(f"entity-{number % 300}", at=NOW + number * SECOND) for number in range(900)]
        made = digested(*waiting)
        assert 3 * 20 < len(made.shown) < 900
        assert {position % 300 for position in made.shown} == {
            position for position in made.shown if position < 300
        }
        assert len(made.shown) % 3 == 0

    def test_the_worst_is_shown_first(self) -> None:
        """What waits for the next message is what can."""
        waiting = [told(f"e{number}") for number in range(400)]
        waiting.append(told("worst", "Healthy", "Crashed", severity="critical"))
        made = digested(*waiting)
        assert 400 in made.shown
        assert lines(*waiting)[0].startswith("🚨 🔴 *")

    def test_many_groups(self) -> None:
        """There are no more blocks than Slack takes."""
        waiting = [told(f"{'x' * 400}{number}", title="A", rule=f"r{number}") for number in range(100)]
        made = digested(*waiting)
        assert len(made.message["blocks"]) == 50
        assert len(made.shown) == 47
        assert digested(
            *(told(f"e{number}", title="x" * 70, rule=f"r{number}") for number in range(100))
        ).shown

    def test_a_group_longer_than_a_section(self) -> None:
        """It goes on in the next section, without the heading again."""
        sections = digested(*(told(f"e{number}", title="x" * 80) for number in range(40))).message["blocks"]
        assert len([one for one in sections if one["type"] == "section"]) > 2
        assert sections[2]["text"]["text"].startswith("• ")

    @pytest.mark.parametrize("letter", ["x", "é", "🚀", "<", "&", "%", "|", "*", "\u200b", '"', "\\", "\n"])
    def test_the_largest_line(self, letter: str) -> None:
        """Everything at its longest at once still fits."""
        text = letter * 3_000
        names = [f"{number}{text}" for number in range(5)]
        waiting = [
            told(
                text,
                change=ValueChange(name=name, before=f"{text}{value}", after=f"{value}{text}"),
                title=text,
                rule=text,
                blueprint=text,
                teams=(text, text),
                step=Step.FLAPPING,
                moves=4,
                window=timedelta(days=1, hours=3),
                late=True,
                worse=True,
                severity="critical",
                mention="<!here>",
                at=NOW + value * SECOND,
            )
            for name in names
            for value in range(7)
        ]
        for by in (ALL_KEYS, ("rule", "transition")):
            made = digested(*waiting, group_by=by)
            assert len(made.shown) == len(waiting)
            assert made.message["text"].strip()


words = st.sampled_from(("a", "b", "Healthy", "Degraded", *ATTACKS)) | st.text(max_size=8)
texts = st.builds(lambda word, times: word * times, words, st.sampled_from((1, 1, 1, 60, 3_000)))
values = st.one_of(texts, st.none(), st.booleans(), st.integers(), st.lists(texts, max_size=2))
changes = st.none() | st.builds(ValueChange, name=texts, before=values, after=values)
alerts = st.builds(
    Notification,
    step=st.sampled_from([step for step in Step if step is not Step.NOTICE]),
    rule=st.sampled_from(("health", "cpu", *ATTACKS)),
    severity=st.sampled_from(("critical", "warning", "info")),
    action=st.sampled_from(("UPDATE", "CREATE", "DELETE", "TIMER_EXPIRED", "<!here>")),
    blueprint=texts,
    entity=texts,
    title=texts,
    teams=st.lists(texts, max_size=3).map(tuple),
    change=changes,
    timer=st.none() | texts,
    at=st.integers(-100, 100_000).map(lambda seconds: NOW + seconds * SECOND),
    opened_at=st.none() | st.just(NOW),
    late=st.booleans(),
    worse=st.booleans(),
    ended=st.booleans(),
    moves=st.integers(0, 100),
    window=st.none() | st.just(10 * MINUTE),
    mention=st.sampled_from(("", *MENTIONS)),
    instead=st.just("") | texts,
    own_title=st.just(()) | texts.map(lambda text: (Part(text=text, literal=False),)),
)
notices = st.builds(Notification.notice, texts, st.just(NOW))
waitings = st.lists(alerts | notices, min_size=1, max_size=12).flatmap(
    lambda some: st.sampled_from((1, 1, 10, 40)).map(
        lambda times: [one.but(entity=f"{one.entity}{number}") for number in range(times) for one in some]
    )
)
ways = st.lists(st.sampled_from(ALL_KEYS), unique=True).map(tuple)


class TestAnything:
    """Whatever the catalog holds."""

    @given(waiting=waitings, by=ways)
    @settings(max_examples=40, deadline=None)
    def test_everything_is_told_in_the_end(
        self, waiting: list[Notification], by: tuple[GroupBy, ...]
    ) -> None:
        """Message after message is valid, tells whole lines, and something new, until all is told."""
        while waiting:
            made = digested(*waiting, group_by=by)
            whole = [line for line in gather(waiting) if made.shown.issuperset(line.positions)]
            assert sum(len(line.positions) for line in whole) == len(made.shown) > 0
            assert shown(made.message).count("\n• ") + shown(made.message).startswith("• ") == len(whole)
            called = {waiting[position].mention for position in made.shown} - {""}
            assert all((one in made.message["text"]) == (one in called) for one in MENTIONS)
            waiting = [one for number, one in enumerate(waiting) if number not in made.shown]

    @given(
        waiting=waitings, by=ways, more=st.integers(1, 9_999), counts=st.dictionaries(texts, st.integers(1))
    )
    @settings(max_examples=50, deadline=None)
    def test_so_many_that_they_are_summed_up(
        self, waiting: list[Notification], by: tuple[GroupBy, ...], more: int, counts: dict[str, int]
    ) -> None:
        """One message is valid, and all are told."""
        made = digested(*waiting, group_by=by, more=more, counts=counts, page_url=PAGE)
        assert made.shown == frozenset(range(len(waiting)))

    @given(first=waitings, last=waitings, by=ways)
    @settings(max_examples=50, deadline=None)
    def test_it_can_be_told_again(
        self, first: list[Notification], last: list[Notification], by: tuple[GroupBy, ...]
    ) -> None:
        """Any incidents make a valid message."""
        stories = [Story(*both) for both in zip(first, last, strict=False)]
        assert_valid(updated_digest(stories, APP, group_by=by), mentions=MENTIONS)
