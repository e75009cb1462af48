"""What the Slack message of one alert says, and its sizes."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.model.change import CatalogChange, EntitySnapshot
from app.model.diff import diff
from app.model.incident import Step
from app.model.notification import Link, Notification, ValueChange
from app.notifier.slack.alert import alert_message
from app.notifier.slack.markup import escape
from app.notifier.words import NOTICE_MARK
from tests.notifier.helpers import APP, LINKS, NOW, notification
from tests.notifier.slack.limits import assert_no_markup_of_others, assert_valid, shown

MENTIONS = ("<!here>", "<!subteam^S1>")


def message(**facts: Any) -> dict[str, Any]:
    """Return the message for a notification that differs from the usual one in `facts`, its form checked."""
    made = alert_message(notification(**facts), APP)
    assert_valid(made, mentions=MENTIONS)
    return made


def said(made: dict[str, Any]) -> str:
    """Return what a message's text says, without its links."""
    return str(made["text"]).partition(" <https://")[0]


def lines(**facts: Any) -> list[str]:
    """Return the lines of the message's blocks."""
    return shown(message(**facts)).splitlines()


def full_of(text: str, *, count: int, url_length: int = 20) -> Notification:
    """Return the notification of a change in which everything is `text`, with `count` other changes."""
    url = f"https://x/{text}".ljust(url_length, "x")[:url_length]
    urls = {f"{text}{number}": url for number in range(9)}
    values = {f"{number}{text}": text for number in range(count)}
    before = EntitySnapshot(text, text, properties={"healthStatus": f"{text}1"})
    after = EntitySnapshot(text, text, properties={"healthStatus": f"{text}2", **urls, **values})
    change = CatalogChange(
        "k", "UPDATE", "entity", text, text, text, (text, text), before, after, text, text, NOW
    )
    changes = diff(before, after)
    main = next(one for one in changes if one.name == "healthStatus")
    return Notification.about(
        change, main, changes, rule="health", step=Step.CHANGED, opened_at=NOW - timedelta(days=3), late=True
    )


class TestPayload:
    """What a message says."""

    def test_a_whole_message(self) -> None:
        """The headline links to the entity; below it stand who, when, whose and what, and the buttons."""
        made = message()
        assert said(made) == "🟠 Notification Service: healthStatus Healthy → Degraded (warning, rule health)"
        assert [block["type"] for block in made["blocks"]] == ["section", "context", "actions"]
        url = "https://app.port.io/deploymentConfigEntity?identifier=notification-service-prod"
        date = f"<!date^{int(NOW.timestamp())}^{{date_num}} {{time_secs}}|2026-06-09 12:28:20 UTC>"
        where = "deploymentConfig `notification-service-prod`"
        assert shown(made).splitlines() == [
            f"🟠 *<{url}|Notification Service>*: warning",
            "healthStatus: 🟢 Healthy → 🟠 *Degraded*",
            f"By ada@example.com via UI  |  {date}  |  Team Rocket  |  {where}  |  Rule health",
            "New Relic",
            "Sentry",
            "Prometheus",
        ]
        assert [button["url"] for button in made["blocks"][-1]["elements"]] == list(LINKS.values())

    def test_slack_looks_for_nothing_in_the_text(self) -> None:
        """Every marked-up text is verbatim: names of channels and people in it stay text."""
        section, context, _ = message()["blocks"]
        assert section["text"]["verbatim"] is context["elements"][0]["verbatim"] is True

    @pytest.mark.parametrize(
        ("before", "after", "line"),
        [
            ("Degraded", "Crashed", "🟠 Degraded → 🔴 *Crashed*"),
            ("Restarting", "Healthy", "🟡 Restarting → 🟢 *Healthy*"),
            ("Healthy", "On fire", "🟢 Healthy → *On fire*"),
            (None, "Healthy", "none → 🟢 *Healthy*"),
            (25, 91.0, "25 → *91*"),
            (True, None, "true → *none*"),
        ],
    )
    def test_values_have_marks(self, before: Any, after: Any, line: str) -> None:
        """Each status of the blueprint has its colour, other texts and numbers none."""
        change = ValueChange(name="healthStatus", before=before, after=after)
        assert lines(change=change)[1] == f"healthStatus: {line}"

    @pytest.mark.parametrize(
        ("facts", "line"),
        [
            ({"step": Step.RESOLVED, "opened_at": NOW - timedelta(minutes=12)}, "Resolved after 12 min"),
            (
                {"step": Step.RESOLVED, "opened_at": NOW - timedelta(days=2, hours=4)},
                "Resolved after 2 d 4 h",
            ),
            ({"step": Step.CHANGED, "opened_at": NOW - timedelta(seconds=40)}, "Open for 40 s"),
            (
                {"step": Step.CHANGED, "opened_at": NOW - timedelta(seconds=40), "worse": True},
                "Got worse, open for 40 s",
            ),
            ({"step": Step.CHANGED, "worse": True}, "Got worse"),
            (
                {"step": Step.FLAPPING, "moves": 4, "window": timedelta(minutes=10), "opened_at": NOW},
                "Flaps (4 changes in 10 min), now 🟠 Degraded; quiet until stable",
            ),
            ({"step": Step.FLAPPING, "moves": 4}, "Flaps (4 changes), now 🟠 Degraded; quiet until stable"),
            (
                {"step": Step.SETTLED, "moves": 4, "window": timedelta(minutes=10), "opened_at": NOW},
                "Stable for 10 min, still open",
            ),
            ({"step": Step.SETTLED, "ended": True}, "Stable again, resolved"),
            ({"late": True}, "Late: a newer change was seen before it"),
        ],
    )
    def test_what_became_of_the_incident(self, facts: dict[str, Any], line: str) -> None:
        """A message says how long the trouble lasted or lasts, and whether it came late."""
        assert line in lines(**facts)

    @pytest.mark.parametrize(
        ("step", "ended", "marks"),
        [
            (Step.OPENED, False, "🚨 🔴"),
            (Step.RESOLVED, True, " 🟢"),
            (Step.SETTLED, False, "🚨 🔴"),
            (Step.SETTLED, True, " 🟢"),
            (Step.FLAPPING, True, "🚨 🔁"),
        ],
    )
    def test_what_is_over_is_green(self, step: Step, ended: bool, marks: str) -> None:
        """A critical alert is marked as one until its incident is over; one that flaps is not over."""
        change = ValueChange(name="cpu", before=91, after=12)
        made = message(step=step, ended=ended, change=change, severity="critical")
        assert made["text"].startswith(f"{marks.strip()} Notification Service")
        assert shown(made).startswith(f"{marks.strip()} *<")

    @pytest.mark.parametrize("mention", MENTIONS)
    def test_whom_the_rule_calls(self, mention: str) -> None:
        """The mention stands in front of the headline and of the text, whatever the message is about."""
        for facts in ({}, {"severity": "critical"}, {"change": None}, {"step": Step.REMINDED}):
            made, plain = message(mention=mention, **facts), message(**facts)
            assert made["text"] == f"{mention} {plain['text']}"
            assert shown(made) == f"{mention} {shown(plain)}"

    def test_a_notice_is_only_its_text(self) -> None:
        """The listener's own words stand by themselves, and are escaped all the same."""
        made = alert_message(Notification.notice("Slack refused\n<!channel> & more", NOW), APP)
        assert_valid(made)
        text = f"{NOTICE_MARK} Slack refused &lt;!channel&gt; &amp; more"
        assert made["text"] == shown(made) == text
        assert [block["type"] for block in made["blocks"]] == ["section"]
        assert_valid(alert_message(Notification.notice("<" * 9_000, NOW), APP))
        called = Notification.notice("x", NOW).but(mention="<!here>")
        assert alert_message(called, APP)["text"] == f"<!here> {NOTICE_MARK} x"

    @pytest.mark.parametrize("step", [Step.OPENED, Step.NOTICED])
    def test_a_beginning_has_no_duration(self, step: Step) -> None:
        """Where nothing lasted yet, nothing is said of it."""
        assert len(lines(step=step, opened_at=NOW, links=())) == 3

    @pytest.mark.parametrize(
        ("facts", "by"),
        [
            ({"actor": ""}, "By unknown via UI  |"),
            ({"origin": ""}, "By ada@example.com  |"),
            ({"teams": ("Rocket", "Ops & <Co>")}, "|  Team Rocket, Ops &amp; &lt;Co&gt;  |"),
        ],
    )
    def test_who_and_whose(self, facts: dict[str, Any], by: str) -> None:
        """Unknown actors are called so; several teams are all named."""
        assert by in shown(message(**facts))

    def test_no_team_is_not_mentioned(self) -> None:
        """An entity without a team has no empty place for one."""
        assert "Team" not in shown(message(teams=()))

    def test_other_changes_stand_below(self) -> None:
        """The first eight are listed, the rest is counted, those that the notification left out as well."""
        others = tuple(ValueChange(name=f"p{number}", before=number) for number in range(10))
        assert "Changed as well:" not in lines()
        assert lines(others=others[:1])[2:4] == ["Changed as well:", "• p0: 0 → none"]
        assert lines(others=others[:8])[10] == "• p7: 7 → none"
        assert lines(others=others)[11] == "… and 2 more"
        assert lines(others=others, others_left_out=40)[11] == "… and 42 more"

    @pytest.mark.parametrize(
        "attack", ["<!channel> & <b>", "<@U123>", "<https://evil|x>", "&lt;!here&gt;", "a\n> b"]
    )
    def test_text_of_the_catalog_is_only_text(self, attack: str) -> None:
        """Whichever field it stands in, nothing in it pings, links or breaks the message."""
        value = ValueChange(name=attack, before=attack, after=attack)
        made = message(
            title=attack,
            entity=attack,
            blueprint=attack,
            teams=(attack,),
            actor=attack,
            origin=attack,
            change=value,
            others=(value,),
            links=(Link(name=attack, url="https://example.com"),),
        )
        escaped = " ".join(attack.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        assert escaped in made["text"]
        assert shown(made).count(escaped) >= 9

    @pytest.mark.parametrize(
        ("url", "leads"),
        [
            *(
                (url, True)
                for url in (
                    "http://localhost:3000/d",
                    "https://[2001:db8::1]/",
                    "https://bücher.example/?q=%2F",
                    "https://हिन्दी.example/",
                )
            ),
            *(
                (url, False)
                for url in ("http://host:port/", "http://[", "http://", "http://:80/", "http://a:99999/")
            ),
            *(
                (url, False)
                for url in ("http://{{ host }}/", "http://-/", "http://a..b/", "https://?x=1", "http://a:0/")
            ),
        ],
    )
    def test_only_an_address_becomes_a_button(self, url: str, leads: bool) -> None:
        """Slack refuses a message for one button that leads nowhere, and the alert would lose its detail."""
        shown = lines(links=(Link(name="here", url=url), Link(name="there", url="https://example.com")))
        assert shown[3:] == (["Here", "There"] if leads else ["There"])

    def test_links_that_do_not_fit_are_left_out(self) -> None:
        """Long addresses cost the message its room: a button too many is dropped, the others stay."""
        sizes = (1_900, 1_900, 90, 5_000, 10)
        links = tuple(Link(name=f"l{size}", url="https://x/".ljust(size, "x")) for size in sizes)
        assert lines(links=links)[3:] == ["L1900", "L90", "L10"]

    def test_a_button_without_a_name(self) -> None:
        """A property whose name says nothing still makes a button."""
        assert lines(links=(Link(name=" ", url="https://example.com"),))[-1] == "Link"

    def test_an_identifier_too_long_for_an_address(self) -> None:
        """Then the headline is not a link."""
        assert lines(entity="x" * 2_000)[0] == "🟠 *Notification Service*: warning"

    @pytest.mark.parametrize("letter", ["x", "é", "🚀", "<", "&", "%", "|", "*", "\u200b", '"', "\\"])
    def test_the_largest_message(self, letter: str) -> None:
        """Everything at its longest at once is within Slack's limits, and shows that it was cut."""
        made = alert_message(full_of(letter * 3_000, count=3_000, url_length=400), APP)
        assert_valid(made)
        assert made["text"].count("…") == 2

    @given(
        text=st.text(min_size=1, max_size=30).filter(str.strip),
        times=st.sampled_from((1, 3, 100, 1_000)),
        count=st.sampled_from((0, 1, 8, 60, 3_000)),
        url_length=st.sampled_from((20, 400, 2_000, 5_000)),
    )
    @settings(max_examples=60, deadline=None)
    def test_any_notification_is_a_valid_message(
        self, text: str, times: int, count: int, url_length: int
    ) -> None:
        """Whatever the catalog holds, the message is within the limits and has no markup but ours."""
        body = text * times
        told = full_of(f"<!channel> & <b>\x1b\x00{body}", count=count, url_length=url_length)
        made = alert_message(told, APP)
        assert_valid(made)


@given(st.text(st.sampled_from("&<>;ampltg \n\x00é")), st.integers(1, 30))
def test_escaped_text_is_bounded_and_whole(text: str, limit: int) -> None:
    """It keeps within the limit, and no escape is cut in half."""
    escaped = escape(text, limit)
    assert len(escaped) <= limit
    assert_no_markup_of_others({"text": escaped})
