"""What waits for a channel, as lines and groups."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.model.digest import (
    ENDED,
    MAX_ALONE,
    GroupBy,
    Line,
    Transition,
    gather,
    grouped,
    is_over,
    outcome,
    shortened,
)
from app.model.incident import Step
from app.model.notification import Notification, ValueChange

NOW = datetime(2026, 6, 9, 12, 28, 20, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def told(entity: str, before: Any = "Healthy", after: Any = "Degraded", **facts: Any) -> Notification:
    """Return a notification of a status that changed, that differs from the usual one in `facts`."""
    usual: dict[str, Any] = {
        "step": Step.OPENED,
        "rule": "health",
        "blueprint": "deploymentConfig",
        "entity": entity,
        "title": entity.title(),
        "change": ValueChange(name="healthStatus", before=before, after=after),
        "at": NOW,
    }
    return Notification(**(usual | facts))


def only(*notifications: Notification) -> Line:
    """Return the one line that notifications make."""
    (line,) = gather(notifications)
    return line


def entities(lines: tuple[Line, ...]) -> str:
    """Return the entities of lines, in their order."""
    return " ".join(line.last.entity for line in lines)


class TestLines:
    """What is told in one line."""

    def test_a_line_is_one_entity_under_one_rule(self) -> None:
        """Rule, blueprint and entity make a line; another of any of them makes another line."""
        waiting = [
            told("a"),
            told("b"),
            told("a", rule="other"),
            told("a", blueprint="database"),
            told("a", "Degraded", "Crashed"),
        ]
        assert [line.positions for line in gather(waiting)] == [(0, 4), (1,), (2,), (3,)]

    def test_every_notice_is_its_own_line(self) -> None:
        """They are about no entity, so nothing joins them."""
        waiting = [Notification.notice("one", NOW), told("a"), Notification.notice("two", NOW)]
        assert [(line.positions, line.is_notice) for line in gather(waiting)] == [
            ((0,), True),
            ((1,), False),
            ((2,), True),
        ]

    def test_values_are_chained(self) -> None:
        """The first value before, then each value after, the same one twice in a row once."""
        line = only(
            told("a"),
            told("a", "Healthy", "Degraded", at=NOW + SECOND),
            told("a", "Degraded", "Healthy", at=NOW + 2 * SECOND),
        )
        (chain,) = line.chains
        assert chain.values == ("Healthy", "Degraded", "Healthy")
        assert line.changes == 3

    def test_what_reconciling_found_is_as_old_as_it_came(self) -> None:
        """Its time is that when it was found: a change that came after it is newer (seed 172)."""
        found = told("a", "Degraded", "Healthy", at=NOW + SECOND, step=Step.RESOLVED)
        assert only(found, told("a", "Healthy", "Crashed")).last.step is Step.OPENED

    def test_what_came_late_happened_before(self) -> None:
        """The order in a line is that of the events, whatever the order of arrival; at the same time that."""
        late = told("a", "Restarting", "Healthy", at=NOW - SECOND, late=True)
        same = told("a", "Degraded", "Crashed")
        line = only(told("a"), late, same)
        assert line.positions == (0, 1, 2)
        assert line.chains[0].values == ("Restarting", "Healthy", "Degraded", "Crashed")

    def test_what_goes_on_under_another_name_is_not_over(self) -> None:
        """A late rename closes one of two incidents; a digest of both says how the other is (seed 78)."""
        other, opened_at = told("a", at=NOW + SECOND, opened_at=NOW + SECOND), NOW - SECOND
        closed = told("a", opened_at=opened_at).closing("its entity has another name", NOW)
        assert only(told("a", opened_at=opened_at), other, closed).last is other
        by_hand = other.closing("by hand", NOW)  # by a clock that is behind Port's
        assert only(other, by_hand).last is by_hand

    def test_each_property_has_its_own_chain(self) -> None:
        """A rule may be about several properties: their values are not mixed."""
        memory = ValueChange(name="memory", before=1.0, after=2)
        line = only(told("a"), told("a", change=memory), told("a", "Degraded", "Crashed"))
        assert [(chain.name, chain.values) for chain in line.chains] == [
            ("healthStatus", ("Healthy", "Degraded", "Crashed")),
            ("memory", ("1", "2")),
        ]
        assert line.transition == Transition("Healthy", "Crashed")

    def test_a_reminder_is_no_change(self) -> None:
        """It tells where the entity still is, not how it came there, and is not counted."""
        reminder = told("a", step=Step.REMINDED, at=NOW + SECOND)
        assert only(reminder).chains[0].values == ("Degraded",)
        assert only(reminder).transition == Transition(None, "Degraded")
        assert only(reminder).changes == 0
        assert only(told("a"), reminder).chains[0].values == ("Healthy", "Degraded")
        late = told("a", "Healthy", "Crashed", late=True)
        assert only(late, reminder).chains[0].values == ("Healthy", "Crashed")  # not back to "Degraded"

    def test_what_is_about_no_value(self) -> None:
        """Then what happened is what lines have in common: the action, and whose timer ran out."""
        made = only(told("a", change=None, action="CREATE"))
        timers = [only(told("a", change=None, action="TIMER_EXPIRED", timer=one)) for one in ("ttl", "end")]
        assert made.chains == ()
        assert len({line.transition for line in [made, *timers]}) == 3

    @pytest.mark.parametrize(("before", "after"), [(25, 91), (None, 91.5), ([1], None), ({}, {"a": 1})])
    def test_numbers_are_no_states(self, before: Any, after: Any) -> None:
        """Hardly two entities have the same: such lines share no transition, and are not counted by it."""
        assert only(told("a", before, after)).transition is None

    @pytest.mark.parametrize(
        ("facts", "counted"),
        [
            ({}, "warning"),
            ({"severity": "critical", "change": ValueChange(name="cpu", before=1, after=91)}, "critical"),
            ({"change": None, "action": "DELETE"}, "warning"),
            ({"step": Step.FLAPPING, "ended": True}, "warning"),
            ({"step": Step.SETTLED, "ended": True}, "resolved"),
            ({"step": Step.NOTICED, "ended": True}, "resolved"),
            ({"step": Step.NOTICED, "ended": True, "late": True}, "warning"),
            ({"step": Step.RESOLVED}, "resolved"),
            ({"step": Step.RESOLVED, "action": "DELETE"}, "deleted"),
            ({"step": Step.RESOLVED, "action": "CLOSED"}, "closed"),
        ],
    )
    def test_what_a_notification_is_counted_under(self, facts: dict[str, Any], counted: str) -> None:
        """How bad it is, or how it ended; what flaps or came late is not over."""
        assert outcome(told("a", **facts)) == counted

    @pytest.mark.parametrize(
        ("facts", "badness"),
        [
            ({"severity": "critical"}, 2),
            ({"severity": "warning"}, 1),
            ({"severity": "info"}, 0),
            ({"severity": "critical", "step": Step.RESOLVED, "ended": True}, ENDED),
            ({"severity": "critical", "step": Step.SETTLED, "ended": True}, ENDED),
            ({"severity": "critical", "step": Step.SETTLED}, 2),
            ({"severity": "critical", "step": Step.FLAPPING, "ended": True}, 2),
        ],
    )
    def test_how_bad_a_line_is(self, facts: dict[str, Any], badness: int) -> None:
        """The last notification says it: the rule's severity, or the least where the trouble is over."""
        before = told("a", at=NOW - SECOND, severity="info")
        line = only(before, told("a", **facts))
        assert line.badness == badness
        assert line.ended == is_over(told("a", **facts)) == (badness == ENDED)

    def test_of_many_values_the_middle_is_left_out(self) -> None:
        """Five are shown as they are; of more the first and the last two."""
        assert shortened(tuple("abcde")) == tuple("abcde")
        assert shortened(tuple("abcdef")) == ("a", "b", "…", "e", "f")

    @given(st.lists(st.tuples(st.sampled_from("ab"), st.booleans(), st.integers(0, 3)), max_size=12))
    def test_nothing_is_lost(self, facts: list[tuple[str, bool, int]]) -> None:
        """Every notification is in exactly one line, and lines stand in the order of their first."""
        waiting = [told(entity, late=late, at=NOW + second * SECOND) for entity, late, second in facts]
        lines = gather(waiting)
        assert sorted(position for line in lines for position in line.positions) == list(range(len(facts)))
        assert [line.positions[0] for line in lines] == sorted(line.positions[0] for line in lines)
        for line in lines:
            assert sorted(map(id, line.notifications)) == sorted(id(waiting[one]) for one in line.positions)
            on_time = [waiting[one] for one in line.positions if not waiting[one].late]
            assert [one for one in line.notifications if not one.late] == on_time


class TestGroups:
    """Which lines stand together, and in which order."""

    def test_by_rule_and_transition(self) -> None:
        """Lines that went the same way under the same rule stand together."""
        waiting = [
            told("a"),
            told("b", "Healthy", "Crashed"),
            told("c"),
            told("d", rule="other"),
            told("b", "Crashed", "Degraded"),
        ]
        groups = grouped(gather(waiting))
        assert [entities(group.lines) for group in groups] == ["a b c", "d"]
        assert groups[0].transition == Transition("Healthy", "Degraded")

    def test_what_is_said_once_is_true_of_all(self) -> None:
        """Other states of a jq rule, flapping and reminders do not stand under one heading."""
        states = [told(name, change=None, state=state) for name, state in (("a", "Bronze"), ("b", "Gold"))]
        assert [entities(group.lines) for group in grouped(gather(states))] == ["a", "b"]
        assert gather([told("c", change=None, step=Step.FLAPPING)])[0].transition is None

    @pytest.mark.parametrize(
        ("by", "groups"),
        [
            (("blueprint",), ["a c", "b d"]),
            (("team",), ["a d", "b", "c"]),
            (("severity",), ["b", "a c d"]),
            (("rule",), ["a b", "c d"]),
            (("transition",), ["b", "a d", "c"]),
            (("rule", "blueprint"), ["b", "a", "c", "d"]),
            ((), ["a b c d"]),
        ],
    )
    def test_by_other_facts(self, by: tuple[GroupBy, ...], groups: list[str]) -> None:
        """Each fact and each combination makes its own groups."""
        waiting = [
            told("a", teams=("Rocket",)),
            told(
                "b", "Healthy", "Crashed", blueprint="database", teams=("Ops", "Rocket"), severity="critical"
            ),
            told("c", "Crashed", "Degraded", rule="other"),
            told("d", blueprint="database", rule="other", teams=("Rocket",)),
        ]
        found = grouped(gather(waiting), by)
        assert sorted(entities(group.lines) for group in found) == sorted(groups)
        assert "b" in entities(found[0].lines)
        assert (found[0].transition is None) == ("transition" not in by)

    def test_the_worst_first(self) -> None:
        """Severity counts before size, size before arrival; what is over comes last."""
        waiting = [
            told("over", "Degraded", "Healthy", step=Step.RESOLVED, severity="critical"),
            told("over2", "Degraded", "Healthy", step=Step.RESOLVED, severity="critical"),
            told("info", severity="info", rule="info"),
            told("first", rule="first"),
            told("few", rule="second"),
            told("many", rule="third"),
            told("many2", rule="third"),
            told("worst", "Healthy", "Crashed", severity="critical"),
        ]
        groups = [entities(group.lines) for group in grouped(gather(waiting))]
        assert groups == ["worst", "many many2", "first", "few", "info", "over over2"]

    def test_one_bad_line_makes_a_bad_group(self) -> None:
        """A group is as bad as its worst line; its lines stay in the order of arrival."""
        waiting = [
            told("x", rule="other"),
            told("y", rule="other"),
            told("a"),
            told("b", severity="critical"),
            told("c", severity="critical"),
        ]
        groups = grouped(gather(waiting))
        assert [entities(group.lines) for group in groups] == ["a b c", "x y"]
        assert groups[0].worst.last.entity == "b"

    def test_numbers_stand_under_their_rule(self) -> None:
        """Where no two transitions are alike, the lines of a rule are one group."""
        (group,) = grouped(gather([told("a", 25, 91), told("b", 24, 95)]))
        assert entities(group.lines) == "a b"
        assert group.transition is None

    def test_many_transitions_of_one_entity_each(self) -> None:
        """Too many headings over one line each become one group, by arrival; larger groups stay."""
        alone = [told(f"e{number}", "v0", f"v{number}") for number in range(1, MAX_ALONE + 2)]
        waiting = [alone[0], told("n", 1, 2), told("a"), *alone[1:], told("b")]
        groups = grouped(gather(waiting))
        assert [entities(group.lines) for group in groups] == [
            f"e1 n {' '.join(one.entity for one in alone[1:])}",
            "a b",
        ]
        assert [group.transition for group in groups] == [None, Transition("Healthy", "Degraded")]
        assert len(grouped(gather(alone[:-1]))) == MAX_ALONE

    def test_notices_are_a_group_of_their_own(self) -> None:
        """Whatever the lines are grouped by, notices stand by themselves."""
        waiting = [Notification.notice("one", NOW), told("a", rule="", blueprint="", severity="info")]
        ways: list[tuple[GroupBy, ...]] = [(), ("blueprint",), ("severity",), ("transition",)]
        for by in ways:
            assert len(grouped(gather(waiting), by)) == 2

    def test_a_line_of_the_first_and_the_last(self) -> None:
        """A line can be made of what is known of an incident, though more happened in between."""
        line = Line((3,), (told("a"), told("a", "Crashed", "Healthy")), complete=False)
        assert line.chains[0].values == ("Healthy", "Degraded", "Healthy")
        assert not line.complete
