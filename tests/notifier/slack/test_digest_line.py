"""One line among many in a Slack message, and the heading above it."""

import pytest

from app.model.digest import GroupBy
from app.model.incident import Step
from app.model.notification import Notification, Part, ValueChange
from app.notifier.words import NOTICE_MARK
from tests.notifier.slack.digests import ALL_KEYS, MINUTE, NOW, SECOND, line, lines, resolved, told


class TestLine:
    """What is said of one entity."""

    @pytest.mark.parametrize(
        ("waiting", "text"),
        [
            ([told("a")], "• [A]"),
            (
                [told("a"), resolved("a", at=NOW + 20 * SECOND), told("a", at=NOW + 40 * SECOND)],
                "• [A]: 🟢 Healthy → 🟠 Degraded → 🟢 Healthy → 🟠 Degraded, 3 changes in 40 s",
            ),
            (
                [told("a"), told("a", "Degraded", "Crashed", step=Step.CHANGED, at=NOW + MINUTE)],
                "• [A]: 🟢 Healthy → 🟠 Degraded → 🔴 Crashed, 2 changes in 1 min, open for 1 min",
            ),
            (
                [told("a"), resolved("a")],
                "• [A]: 🟢 Healthy → 🟠 Degraded → 🟢 Healthy, resolved after 4 min",
            ),
            (
                [told("a"), told("a", "Degraded", "on", at=NOW + SECOND), resolved("a")],
                "• [A]: 🟢 Healthy → 🟠 Degraded → on → 🟢 Healthy, 3 changes in 4 min, resolved after 4 min",
            ),
            ([resolved("a", 65)], "• [A]: resolved after 1 h 5 min"),
            ([resolved("a", opened_at=None)], "• [A]: resolved"),
            ([told("a", step=Step.CHANGED, worse=True)], "• [A]: got worse, open for 0 s"),
            ([told("a", step=Step.NOTICED, late=True)], "• 🕓 [A]: late: a newer change was seen before it"),
            (
                [told("a"), told("a", "blue", "Healthy", late=True, at=NOW - SECOND)],
                "• [A]: blue → 🟢 Healthy → 🟠 Degraded, 2 changes in 1 s, 1 of them came late",
            ),
            (
                [told("a"), resolved("a", change=None, action="DELETE")],
                "• 🗑️ [A]: 2 changes in 4 min, its incident ended after 4 min",
            ),
            (
                [
                    told("a", step=Step.NOTICED, late=True, at=NOW - SECOND),
                    told("a"),
                    resolved("a"),
                ],
                (
                    "• [A]: 🟢 Healthy → 🟠 Degraded → 🟢 Healthy, 3 changes in 4 min, 1 of them came late,"
                    " resolved after 4 min"
                ),
            ),
            (
                [told("a", step=Step.FLAPPING, moves=4, window=10 * MINUTE)],
                "• 🔁 [A] flaps (4 changes in 10 min), now 🟠 Degraded; quiet until stable",
            ),
            (
                [told("a", step=Step.FLAPPING, moves=4)],
                "• 🔁 [A] flaps (4 changes), now 🟠 Degraded; quiet until stable",
            ),
            (
                [told("a", step=Step.SETTLED, moves=4, window=10 * MINUTE)],
                "• [A]: stable for 10 min, still open",
            ),
            ([told("a", step=Step.SETTLED)], "• [A]: stable again, still open"),
            ([told("a", step=Step.REMINDED, at=NOW + 3 * 60 * MINUTE)], "• [A]: open for 3 h"),
            ([told("a", step=Step.REMINDED, opened_at=None)], "• [A]"),
            (
                [told("a"), told("a", step=Step.REMINDED, at=NOW + 60 * MINUTE)],
                "• [A]: open for 1 h",
            ),
            ([told("a", 25, 91.0, limit="above 80")], "• 🟠 [A]: 25 → 91 (above 80)"),
            ([told("a", 91, 30, step=Step.RESOLVED)], "• 🟢 [A]: 91 → 30, resolved after 0 s"),
            ([told("a", "", " ", step=Step.OPENED)], "• 🟠 [A]"),
            ([told("a", change=None, action="CREATE")], "• 🟠 [A]"),
            (
                [told("a"), told("a", change=None, action="DELETE")],
                "• 🟠 [A]: 2 changes in 0 s",
            ),
            (
                [told("a", step=Step.RESOLVED, change=None, action="DELETE", at=NOW + MINUTE)],
                "• 🗑️ [A]: its incident ended after 1 min",
            ),
            ([told("a", own_title=(Part(text="Own & <x>", literal=True),))], "• [Own &amp; &lt;x&gt;]"),
            ([told("a", title="")], "• [a]"),
            ([Notification.notice("<!channel> is gone", NOW)], f"• {NOTICE_MARK} &lt;!channel&gt; is gone"),
        ],
    )
    def test_what_it_says(self, waiting: list[Notification], text: str) -> None:
        """Only what the heading does not say already, in few words."""
        assert line(*waiting) == text

    def test_a_line_under_a_heading_without_its_transition(self) -> None:
        """Then each line says where its entity came from and where it is."""
        by = {"group_by": ("rule",)}
        assert line(told("a"), **by) == "• [A]: 🟢 Healthy → 🟠 Degraded"
        assert line(told("a", step=Step.REMINDED), **by) == "• [A]: still 🟠 Degraded, open for 0 s"
        assert line(told("a", change=None, action="CREATE"), **by) == "• 🟠 [A] was created"
        assert line(told("a", "", "x"), **by) == "• 🟠 [A]: (empty) → x"

    def test_many_values(self) -> None:
        """Of a long chain the middle is left out."""
        waiting = [told("a", f"v{number}", f"v{number + 1}") for number in range(6)]
        assert line(*waiting).startswith("• 🟠 [A]: v0 → v1 → … → v5 → v6, 6 changes")

    def test_several_properties(self) -> None:
        """Each is named where there are several, and no more of them than fit a line."""
        waiting = [told("a", change=ValueChange(name=name, before=1, after=2)) for name in "pqrs"]
        assert line(*waiting[:2]) == "• 🟠 [A]: p 1 → 2, q 1 → 2, 2 changes in 0 s"
        assert line(*waiting) == "• 🟠 [A]: q 1 → 2, r 1 → 2, s 1 → 2, and others, 4 changes in 0 s"

    def test_a_long_address_is_no_link(self) -> None:
        """The title then stands by itself."""
        assert line(told("x" * 400, title="A")) == "• A"
        assert line(told("x" * 200, title="A")) == "• [A]"


class TestHeading:
    """What the lines of a group have in common."""

    @pytest.mark.parametrize(
        ("waiting", "heading"),
        [
            ([told("a")], "*health: 🟢 Healthy → 🟠 Degraded*"),
            ([told("a"), resolved("a")], "*health: 🟢 Healthy again*"),
            ([told("a", step=Step.REMINDED)], "*health: still 🟠 Degraded*"),
            ([told("a", "blue", None)], "*health: blue → none*"),
            ([told("a", 1, 2)], "*health*"),
            ([told("a", change=None, action="CREATE")], "*health: was created*"),
            (
                [told("a", change=None, action="TIMER_EXPIRED", timer="<ttl>")],
                "*health: the timer of &lt;ttl&gt; ran out*",
            ),
            ([Notification.notice("x", NOW)], "*From the listener itself*"),
        ],
    )
    def test_rule_and_transition(self, waiting: list[Notification], heading: str) -> None:
        """The usual heading."""
        assert lines(*waiting)[1] == heading

    @pytest.mark.parametrize(
        ("by", "heading"),
        [
            (("rule",), "*health*"),
            (("transition",), "*🟢 Healthy → 🟠 Degraded*"),
            (("blueprint",), "*deploymentConfig*"),
            (("team",), "*Team Rocket*"),
            (("severity",), "*🟠 warning*"),
            (
                ("transition", *ALL_KEYS[:4]),
                "*🟠 warning, Team Rocket, deploymentConfig, health: 🟢 Healthy → 🟠 Degraded*",
            ),
        ],
    )
    def test_other_facts(self, by: tuple[GroupBy, ...], heading: str) -> None:
        """What they are grouped by is said in its order, the transition at the end."""
        assert lines(told("a"), group_by=by)[1] == heading

    def test_no_team(self) -> None:
        """Entities without a team are said to have none."""
        assert lines(told("a", teams=()), group_by=("team",))[1] == "*No team*"

    def test_nothing_in_common(self) -> None:
        """Without a fact to group by there is no heading."""
        assert lines(told("a"), group_by=())[1] == "• [A]: 🟢 Healthy → 🟠 Degraded"

    def test_several_blueprints(self) -> None:
        """Where the message is of several, each heading names its own, and a group of several its lines'."""
        waiting = [told("a"), told("b", "Healthy", "Crashed", blueprint="database")]
        assert lines(*waiting)[1:] == [
            "*health, deploymentConfig: 🟢 Healthy → 🟠 Degraded*",
            "• [A]",
            "*health, database: 🟢 Healthy → 🔴 Crashed*",
            "• [B]",
        ]
        assert lines(*waiting, group_by=("rule",))[1:] == [
            "*health*",
            "• [A] (deploymentConfig): 🟢 Healthy → 🟠 Degraded",
            "• [B] (database): 🟢 Healthy → 🔴 Crashed",
        ]

    def test_several_rules(self) -> None:
        """A line names its rule where the heading cannot."""
        waiting = [told("a"), told("a", rule="other")]
        assert lines(*waiting, group_by=("transition",))[2:] == ["• [A] (health)", "• [A] (other)"]
