"""Many alerts in one Slack message: what it says."""

import pytest

from app.model.incident import Step
from app.model.notification import Notification
from app.notifier.base import Story
from app.notifier.slack.digest import digest, updated_digest
from app.notifier.words import NOTICE_MARK
from tests.notifier.slack.digests import (
    APP,
    MENTIONS,
    NOW,
    PAGE,
    TIME,
    digested,
    lines,
    read,
    resolved,
    told,
)
from tests.notifier.slack.limits import assert_valid, shown


class TestHeadline:
    """How many changed, and how bad that is."""

    def test_a_whole_message(self) -> None:
        """The headline counts; each group has a heading, each entity a line with a link."""
        made = digested(
            *(told(f"e{number}") for number in range(9)),
            *(told(f"c{number}", "Degraded", "Crashed") for number in range(3)),
        )
        title = "12 entities of deploymentConfig changed: 12 warning"
        assert (
            made.message["text"]
            == f"🟠 {title} (E0 Degraded, E1 Degraded, E2 Degraded, …) <{APP}/|Open Port>"
        )
        assert [block["type"] for block in made.message["blocks"]] == ["section"] * 3 + ["context"]
        text = shown(made.message).splitlines()
        assert text[:3] == [
            f"🟠 *{title}*",
            "*health: 🟢 Healthy → 🟠 Degraded*",
            f"• <{APP}/deploymentConfigEntity?identifier=e0|E0>",
        ]
        assert text[-4:] == [
            *(f"• <{APP}/deploymentConfigEntity?identifier=c{number}|C{number}>" for number in range(3)),
            TIME,
        ]
        assert made.shown == frozenset(range(12))
        assert all(block["text"]["verbatim"] for block in made.message["blocks"][:3])

    @pytest.mark.parametrize(
        ("waiting", "headline"),
        [
            ([told("a")], "🟠 *A: healthStatus Healthy → Degraded (warning, rule health)*"),
            ([told("a"), told("a", rule="other")], "🟠 *1 entity of deploymentConfig changed: 2 warning*"),
            ([told("a"), told("a", blueprint="database")], "🟠 *2 entities changed: 2 warning*"),
            (
                [told("a"), told("b", "Healthy", "Crashed", severity="critical"), told("c")],
                "🚨 🔴 *3 entities of deploymentConfig changed: 1 critical, 2 warning*",
            ),
            (
                [told("a"), resolved("b"), resolved("c")],
                "🟠 *3 entities of deploymentConfig changed: 1 warning, 2 resolved*",
            ),
            (
                [resolved("a", severity="critical"), resolved("b")],
                "🟢 *2 entities of deploymentConfig changed: 2 resolved*",
            ),
            (
                [told("a", 25, 91), told("b", 25, 95)],
                "🟠 *2 entities of deploymentConfig changed: 2 warning*",
            ),
            (
                [told("a", 25, 91), told("b")],
                "🟠 *2 entities of deploymentConfig changed: 2 warning*",
            ),
            (
                [told("a", step=Step.REMINDED), told("b", step=Step.REMINDED)],
                "🟠 *2 entities of deploymentConfig have an open incident: 2 warning*",
            ),
            (
                [told("a", step=Step.REMINDED)],
                "🟠 *A: healthStatus still Degraded, open for 0 s (warning, rule health)*",
            ),
            (
                [told("a"), resolved("b", change=None, action="DELETE"), resolved("c")],
                "🟠 *3 entities of deploymentConfig changed: 1 warning, 1 deleted, 1 resolved*",
            ),
            (
                [told("a", step=Step.REMINDED), told("b")],
                "🟠 *2 entities of deploymentConfig changed: 2 warning*",
            ),
            (
                [told("a", change=None, action="CREATE", severity="info")],
                "🔵 *A was created (info, rule health)*",
            ),
            (
                [Notification.notice("x", NOW), resolved("a")],
                (
                    "🟢 *A: healthStatus Degraded → Healthy, resolved after 4 min"
                    " (was warning, rule health); 1 notice*"
                ),
            ),
            ([Notification.notice("x", NOW), Notification.notice("y", NOW)], f"{NOTICE_MARK} *2 notices*"),
        ],
    )
    def test_what_it_counts(self, waiting: list[Notification], headline: str) -> None:
        """Entities by how bad they are, the worst first, with the mark of the worst; one alone is itself."""
        assert lines(*waiting)[0] == headline

    def test_whom_it_calls(self) -> None:
        """Each mention stands once in front of the headline, and of the text as well."""
        waiting = [
            told("a", mention="<!here>"),
            told("b", mention="<!subteam^S1>"),
            told("c", mention="<!here>"),
            told("d"),
        ]
        made = digested(*waiting).message
        assert shown(made).startswith("<!here> <!subteam^S1> 🟠 *4 entities")
        assert made["text"].startswith("<!here> <!subteam^S1> 🟠 4 entities")
        assert shown(made).count("<!here>") == 1

    def test_only_those_are_called_whose_alert_is_shown(self) -> None:
        """A mention waits with its alert."""
        waiting = [told(f"e{number}") for number in range(500)]
        waiting.append(told("last", severity="info", mention="<!here>"))
        assert "<!here>" not in digested(*waiting).message["text"]

    def test_more_mentions_than_there_is_room_for(self) -> None:
        """Then their alerts wait for the next message; a mention is never cut."""
        mentions = [f"<!subteam^S{number:0100}>" for number in range(40)]
        waiting = [told(f"e{number}", mention=one) for number, one in enumerate(mentions)]
        made = digest(waiting, APP)
        assert_valid(made.message, mentions=mentions)
        called = [one for one in mentions if one in made.message["text"]]
        assert called == [waiting[position].mention for position in sorted(made.shown)]
        assert 5 < len(called) < 20

    def test_a_mention_too_long_for_any_message(self) -> None:
        """The alert is told without it."""
        made = digest([told("a", mention=f"<!subteam^{'S' * 3_000}>")], APP)
        assert_valid(made.message)
        assert made.shown == {0}


class TestSummedUp:
    """When so many wait that nobody reads them one by one."""

    def test_all_count_as_told(self) -> None:
        """The headline counts all; the last line says how many are not listed, and where they can be read."""
        waiting = [told(f"e{number}", mention="<!here>") for number in range(1_000)]
        counts = {"warning": 4_000, "critical": 1_012, "resolved": 200}
        made = digested(*waiting, more=4_212, counts=counts, page_url=PAGE)
        text = lines(*waiting, more=4_212, counts=counts, page_url=PAGE)
        assert text[0] == "<!here> 🟠 *5,212 changes: 1,012 critical, 4,000 warning, 200 resolved*"
        listed = sum(one.startswith("•") for one in text)
        assert text[-1] == f"<{PAGE}/changes|and {5_212 - listed:,} more>"
        assert 50 < listed < 200
        assert made.shown == frozenset(range(1_000))

    def test_without_a_page(self) -> None:
        """There is nothing to link to, or its address is too long."""
        assert lines(told("a"), more=2)[-1] == "and 2 more"
        assert lines(told("a"), more=2, page_url=PAGE + "x" * 3_000)[-1] == "and 2 more"
        assert lines(told("a"), more=2)[0] == "🟠 *3 changes*"

    def test_what_the_counts_leave_out(self) -> None:
        """The worst is named first; what has no count is among the others."""
        waiting = [told("a"), told("b", "Degraded", "Crashed", severity="critical"), resolved("c")]
        text = lines(*waiting, more=7, counts={"resolved": 5, "warning": 2, "critical": 1})
        assert text[0] == "🚨 🔴 *10 changes: 1 critical, 2 warning, 5 resolved and 2 others*"

    def test_everybody_is_called(self) -> None:
        """Nothing of it comes again, so those are called too whose alert is not listed."""
        waiting = [told(f"e{number}") for number in range(500)]
        waiting.append(told("last", severity="info", mention="<!subteam^S1>"))
        assert lines(*waiting, more=1)[0].startswith("<!subteam^S1> ")


class TestRetold:
    """A message that stands in the channel says how its incidents are now."""

    def test_each_incident_as_it_is_now(self) -> None:
        """What ended says so and for how long it was open, what has not stands first."""
        first = [told(f"e{number}", mention="<!here>") for number in range(4)]
        worse = told("e1", "Degraded", "Crashed", step=Step.CHANGED, severity="critical", worse=True)
        last = [resolved("e0"), worse, first[2], resolved("e3", 12)]
        made = updated_digest([Story(*both) for both in zip(first, last, strict=True)], APP)
        assert_valid(made, mentions=MENTIONS)
        assert read(made) == [
            "<!here> 🚨 🔴 *4 entities of deploymentConfig changed: 1 critical, 1 warning, 2 resolved*",
            "*health: 🟢 Healthy → 🔴 Crashed*",
            "• [E1]: 🟢 Healthy → 🟠 Degraded → 🔴 Crashed, got worse",
            "*health: 🟢 Healthy → 🟠 Degraded*",
            "• [E2]",
            "*health: 🟢 Healthy again*",
            "• [E0]: 🟢 Healthy → 🟠 Degraded → 🟢 Healthy, resolved after 4 min",
            "• [E3]: 🟢 Healthy → 🟠 Degraded → 🟢 Healthy, resolved after 12 min",
        ]

    def test_all_ended(self) -> None:
        """When the last one ends, the headline says it, in green."""
        stories = [Story(told("a"), resolved("a")), Story(told("b"), resolved("b"))]
        assert read(updated_digest(stories, APP))[0] == (
            "🟢 *2 entities of deploymentConfig changed: 2 resolved*"
        )

    def test_two_incidents_of_one_entity(self) -> None:
        """Each is told by itself."""
        stories = [Story(told("a"), resolved("a")), Story(told("a"), told("a"))]
        assert sum(one.startswith("•") for one in read(updated_digest(stories, APP))) == 2

    def test_what_does_not_fit(self) -> None:
        """The headline counts all; the last line says how many are not listed."""
        stories = [Story(told(f"e{number}"), resolved(f"e{number}")) for number in range(300)]
        made = updated_digest(stories, APP, group_by=("team",))
        assert_valid(made)
        text = read(made)
        listed = sum(one.startswith("•") for one in text)
        assert text[0] == "🟢 *300 entities of deploymentConfig changed: 300 resolved*"
        assert text[1] == "*Team Rocket*"
        assert text[-1] == f"and {300 - listed} more"
        assert 0 < listed < 300
