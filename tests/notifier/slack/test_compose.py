"""Slack: which of what waits goes out next, how, and in what colour."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from starlette.responses import PlainTextResponse

from app.demo.run import serving
from app.demo.stand_in_slack import StandInSlack
from app.errors import DeliveryFailed, Scope
from app.model.incident import Severity, Step
from app.model.notification import Link, Message, Notification, ValueChange
from app.notifier.base import Item, Sent, Story
from app.notifier.slack.alert import alert_message
from app.notifier.slack.compose import (
    COLORS,
    NO_PREVIEWS,
    RESOLVED_COLOR,
    Composed,
    color_of,
    colored,
    compose,
    recompose,
)
from app.notifier.slack.digest import digest, updated_digest
from app.notifier.slack.webhook import SlackWebhook
from tests.notifier.slack.helpers import APP, NOW, item, notification, parcel, resolved
from tests.notifier.slack.limits import assert_valid, shown
from tests.told import entities

PARENT = Message("C0000000001", "1749471000.000100")
OTHER = Message("C0000000001", "1749471000.000200")


class TestCompose:
    """Which message goes out next."""

    def test_one_alone_is_itself(self) -> None:
        """An alert that nothing else waits behind is told as it always was."""
        composed = compose(parcel(item("1")), APP)
        assert composed.message == alert_message(notification(), APP)
        assert composed.delivered == frozenset("1")
        assert composed.parent is None

    def test_several_are_a_digest(self) -> None:
        """What waits together goes out together, and each of it has been told."""
        composed = compose(parcel(item("1"), item("2", "search")), APP)
        assert composed.message == digest([notification(), notification("search")], APP).message
        assert composed.delivered == frozenset("12")

    def test_several_of_one_entity_are_one_line(self) -> None:
        """Up and down of one entity reads as one alert."""
        up_and_down = parcel(item("1"), Item("2", resolved()))
        made = compose(up_and_down, APP)
        assert made.delivered == frozenset("12")
        assert "healthStatus: 🟢 Healthy → 🟠 Degraded → 🟢 *Healthy*\nResolved after 5 min" in shown(
            made.message
        )
        assert made.message["text"].startswith(
            "🟢 Checkout: Healthy again, Degraded for 5 min, resolved (was "
        )

    def test_few_are_told_one_by_one(self) -> None:
        """Up to `digest_after` alerts the first goes alone, and the others wait for their turn."""
        three = parcel(item("1"), item("2", "search"), item("3", "billing"))
        assert compose(three, APP, digest_after=3).delivered == frozenset("1")
        assert compose(three, APP, digest_after=3).message == alert_message(notification(), APP)
        assert compose(three, APP, digest_after=2).delivered == frozenset("123")

    def test_what_has_no_room_is_not_told(self) -> None:
        """Of a storm the message tells what it can hold, and says so."""
        storm = [item(str(number), f"service-{number}") for number in range(500)]
        told = compose(parcel(*storm), APP).delivered
        assert told is not None
        assert 20 < len(told) < 500
        assert told < {one.delivery_id for one in storm}

    def test_too_many_are_summed_up(self) -> None:
        """Where more wait than are known one by one, all have been told, even if a single one is known."""
        many = parcel(item("1"), item("2", "search"), more=1_998, counts={"warning": 2_000})
        composed = compose(many, APP, page_url="https://alerts.example.com/")
        assert composed.delivered is None
        assert "2,000 changes" in composed.message["text"]
        assert "<https://alerts.example.com/changes|" in shown(composed.message)
        assert (
            compose(parcel(item("1"), more=5, counts={"warning": 6}), APP, digest_after=9).delivered is None
        )

    def test_grouping_is_handed_on(self) -> None:
        """The lines are grouped as the configuration says."""
        two = parcel(item("1", teams=("Rocket",)), item("2", "search", teams=("Ops",)))
        assert "*Team Rocket*" in shown(compose(two, APP, group_by=("team",)).message)
        assert "*Team Rocket*" not in shown(compose(two, APP).message)

    @pytest.mark.parametrize(
        ("parents", "parent"),
        [
            ((PARENT, PARENT), PARENT),
            ((PARENT, OTHER), None),
            ((PARENT, None), None),
            ((None, None), None),
        ],
    )
    def test_the_thread(self, parents: tuple[Message | None, ...], parent: Message | None) -> None:
        """It is a reply only if all that it tells of has the same message in the channel."""
        items = [Item(str(number), resolved(), one) for number, one in enumerate(parents)]
        assert compose(parcel(*items), APP).parent == parent

    def test_only_what_is_told_has_a_say(self) -> None:
        """What waits for a later message does not matter for the thread, the colour or the channel."""
        worse = {"worse": True, "severity": "critical"}
        waiting = parcel(Item("1", resolved(), PARENT), item("2", "search", OTHER, **worse))
        composed = compose(waiting, APP, digest_after=2)
        assert composed.parent == PARENT
        assert composed.color == RESOLVED_COLOR
        assert not composed.broadcast

    def test_a_sum_is_no_reply(self) -> None:
        """What sums up everything stands in the channel."""
        assert compose(parcel(Item("1", resolved(), PARENT), more=1), APP).parent is None

    @pytest.mark.parametrize(
        ("facts", "broadcast"),
        [
            ({"step": Step.CHANGED}, False),
            ({"step": Step.CHANGED, "worse": True}, True),
            ({"step": Step.OPENED}, True),
            ({"step": Step.RESOLVED}, False),
            ({"step": Step.REMINDED}, False),
        ],
    )
    def test_what_concerns_the_whole_channel(self, facts: dict[str, Any], broadcast: bool) -> None:
        """A reply is shown in the channel as well when it got worse, or began again."""
        quiet = Item("1", resolved(), PARENT)
        loud = item("2", parent=PARENT, **facts)
        assert compose(parcel(loud), APP).broadcast is broadcast
        assert compose(parcel(quiet, loud), APP).broadcast is broadcast


class TestColor:
    """The bar beside a message."""

    @pytest.mark.parametrize("severity", ["critical", "warning", "info"])
    def test_a_severity_has_its_colour(self, severity: Severity) -> None:
        """Red, yellow, grey."""
        assert color_of([notification(severity=severity)]) == COLORS[severity]

    def test_over_is_green(self) -> None:
        """However bad it was."""
        assert color_of([resolved(severity="critical")]) == RESOLVED_COLOR

    @pytest.mark.parametrize(
        ("told", "color"),
        [
            ([notification(severity="info"), notification("b", severity="critical")], COLORS["critical"]),
            ([resolved(severity="critical"), notification("b", severity="info")], COLORS["info"]),
            ([resolved(), resolved("b")], RESOLVED_COLOR),
            ([notification(severity="critical"), resolved(severity="critical")], RESOLVED_COLOR),
        ],
    )
    def test_the_worst_counts(self, told: list[Notification], color: str) -> None:
        """Of several the worst decides; of one entity, how it is now."""
        assert color_of(told) == color

    def test_the_headline_stays_uncoloured(self) -> None:
        """The first block stands above the bar, the others beside it; nothing is lost."""
        plain = alert_message(notification(), APP)
        made = colored(plain, "#e01e5a")
        (attachment,) = made["attachments"]
        assert made["text"] == plain["text"]
        assert [*made["blocks"], *attachment["blocks"]] == plain["blocks"]
        assert len(made["blocks"]) == 1
        assert attachment["color"] == "#e01e5a"

    def test_a_single_block_has_no_bar(self) -> None:
        """There is nothing that could stand beside it."""
        notice = alert_message(Notification.notice("on_hold", NOW), APP)
        assert colored(notice, "#868686") == notice

    def test_the_largest_messages_keep_within_the_limits(self) -> None:
        """The bar costs room too, and there is enough."""
        long = "<&\\" * 2_000
        value = ValueChange(name=long, before=long, after=long)
        links = tuple(Link(name=long, url="https://x/".ljust(400, "x")) for _ in range(9))
        facts: dict[str, Any] = {"title": long, "change": value, "others": (value,) * 50, "links": links}
        large = [item(str(number), f"{number}{long}", teams=(long,) * 9, **facts) for number in range(300)]
        for composed in (compose(parcel(large[0]), APP), compose(parcel(*large), APP)):
            assert_valid(colored(composed.message, composed.color))
        changed = {"step": Step.CHANGED, "worse": True, "opened_at": NOW - timedelta(days=2, hours=4)}
        stories = [
            Story(one.notification, one.notification.but(**(changed | {"late": True}))) for one in large
        ]
        assert_valid(recompose(stories[:1], APP))
        assert_valid(recompose(stories, APP))


class TestRecompose:
    """A message that was posted, as its incidents are now."""

    def test_one_tells_the_way(self) -> None:
        """It says where it came from, what it went through, and where it is now, in green when it is over."""
        made = recompose([Story(notification(), resolved())], APP)
        expected = alert_message(resolved(), APP)
        assert made["text"].startswith(
            "🟢 Checkout: Healthy again, Degraded for 5 min, resolved (was warning"
        )
        first, way, after = shown(made).splitlines()[:3]
        assert first == shown(expected).splitlines()[0]
        assert way == "healthStatus: 🟢 Healthy → 🟠 Degraded → 🟢 *Healthy*"
        assert after == "Resolved after 5 min"
        assert made["attachments"][0]["color"] == RESOLVED_COLOR
        assert_valid(made)

    def test_what_is_not_known_is_left_open(self) -> None:
        """Between the first and the last there may have been others."""
        crashed = ValueChange(name="healthStatus", before="Crashed", after="Healthy")
        made = recompose([Story(notification(), resolved(change=crashed))], APP)
        assert "healthStatus: 🟢 Healthy → 🟠 Degraded → … → 🟢 *Healthy*" in shown(made)

    def test_numbers_have_no_marks(self) -> None:
        """Only states have them."""
        first, last = (ValueChange(name="cpu", before=a, after=b) for a, b in ((10, 95.0), (95.0, 20)))
        made = recompose([Story(notification(change=first), resolved(change=last))], APP)
        assert "cpu: 10 → 95 → *20*" in shown(made)

    @pytest.mark.parametrize(
        "last",
        [
            notification(),
            notification(change=None),
            notification(change=ValueChange(name="cpu", before=1, after=2), step=Step.CHANGED),
            notification(step=Step.REMINDED),
        ],
        ids=["the same", "no value", "another value", "a reminder"],
    )
    def test_there_may_be_no_way_to_tell(self, last: Notification) -> None:
        """Then the last is told as it is."""
        made = recompose([Story(notification(), last)], APP)
        assert shown(made) == shown(alert_message(last, APP))

    def test_one_that_is_open_says_since_when(self) -> None:
        """When it is read, for how long it was open at its last change is not true any more."""
        open_still = notification(step=Step.CHANGED, opened_at=NOW - timedelta(minutes=5))
        since = f"Open since <!date^{int((NOW - timedelta(minutes=5)).timestamp())}^"
        assert since in shown(recompose([Story(notification(), open_still)], APP))
        assert "Open since" not in shown(recompose([Story(notification(), resolved())], APP))

    def test_several_are_the_digest_again(self) -> None:
        """With the lines as they are now, and the colour of the worst that is left."""
        stories = [
            Story(notification(), resolved()),
            Story(notification("search"), notification("search", severity="info")),
        ]
        made = recompose(stories, APP, group_by=("severity",))
        assert made == colored(updated_digest(stories, APP, group_by=("severity",)), COLORS["info"])
        assert_valid(made)


class TestWebhook:
    """The same messages through an incoming webhook."""

    async def test_a_digest_has_no_bar(self, slack: StandInSlack) -> None:
        """A webhook gets what a bot posts, without colour and thread."""
        notifier = SlackWebhook(slack.url, APP, group_by=("severity",))
        both = parcel(item("1", parent=PARENT), item("2", "search", parent=PARENT))
        sent = await notifier.send(both)
        await notifier.close()
        assert slack.messages == [NO_PREVIEWS | compose(both, APP, group_by=("severity",)).message]
        assert sent == Sent("ok", delivered=frozenset("12"))

    async def test_few_are_told_one_by_one(self, slack: StandInSlack) -> None:
        """The size of a digest and the page are the destination's."""
        notifier = SlackWebhook(slack.url, APP, digest_after=2, page_url="https://alerts.example.com/")
        assert notifier.batch_limit == 1000
        assert (await notifier.send(parcel(item("1"), item("2", "search")))).delivered == frozenset("1")
        assert (await notifier.send(parcel(item("1"), more=9, counts={"warning": 10}))).delivered is None
        await notifier.close()
        assert "<https://alerts.example.com/changes|" in shown(slack.messages[1])

    async def test_a_refused_digest(self, slack: StandInSlack) -> None:
        """As plain text it tells the same; if that is refused as well, the message is at fault."""
        slack.answers.extend(PlainTextResponse("invalid_blocks", 400) for _ in range(3))
        notifier = SlackWebhook(slack.url, APP)
        both = parcel(item("1"), item("2", "search"))
        with pytest.raises(DeliveryFailed) as failed:
            await notifier.send(both)
        assert failed.value.scope is Scope.MESSAGE
        assert (await notifier.send(both)).delivered == frozenset("12")
        await notifier.close()
        (message,) = slack.messages
        assert set(message) == {"text", *NO_PREVIEWS}
        assert entities([message]) == ["checkout", "search"]

    @pytest.mark.parametrize("port_is_open", [True, False])
    async def test_whether_it_may_have_arrived(self, port_is_open: bool) -> None:
        """Nobody knows once the connection ended; without one it surely has not."""

        async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.close()

        async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            if not port_is_open:
                server.close()
            notifier = SlackWebhook(f"http://127.0.0.1:{port}/services/T0", APP)
            with pytest.raises(DeliveryFailed) as failed:
                await notifier.send(parcel(item("1")))
            await notifier.close()
        assert failed.value.unsure is port_is_open

    async def test_one_message_a_second(self) -> None:
        """The stand-in can be as strict as Slack."""
        stand_in = StandInSlack(one_a_second=True)
        async with serving(stand_in.app) as address:
            notifier = SlackWebhook(f"{address}/services/T0", APP)
            await notifier.send(parcel(item("1")))
            with pytest.raises(DeliveryFailed) as failed:
                await notifier.send(parcel(item("2")))
            await asyncio.sleep(1)
            await notifier.send(parcel(item("2")))
            await notifier.close()
        assert (failed.value.scope, failed.value.retry_after) == (Scope.TRANSIENT, timedelta(seconds=1))
        assert (len(stand_in.messages), stand_in.refused) == (2, 1)


def test_told_are_the_ids_of_what_is_shown() -> None:
    """No other delivery counts as told."""
    assert Composed({}, (item("a"), item("b", "search"))).delivered == frozenset("ab")
