"""Slack through a bot token: what is posted where, and what a message says later."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from starlette.responses import JSONResponse

from app.errors import DeliveryFailed, MessageGone, Scope
from app.model.incident import Step
from app.model.notification import Link, Message
from app.notifier.base import Item, Keeper, Reporter, Sent, Story
from app.notifier.slack.alert import alert_message
from app.notifier.slack.bot import SlackBot
from app.notifier.slack.compose import COLORS, RESOLVED_COLOR
from app.notifier.slack.digest import digest
from app.notifier.slack.web_api import GET_PERMALINK, POST_MESSAGE, UPDATE_MESSAGE
from tests.notifier.slack.bots import LONG_AGO, failure, opened, posting, reply, told
from tests.notifier.slack.helpers import APP, item, notification, parcel, resolved
from tests.notifier.slack.limits import shown
from tests.notifier.slack.stand_in_api import SCOPES, StandInSlackApi


def test_it_is_a_keeper() -> None:
    """The dispatcher sees that it can find and change messages, and that they have addresses."""
    bot = SlackBot("xoxb", "oncall", APP)
    assert isinstance(bot, Keeper)
    assert not isinstance(bot, Reporter)


class TestChannel:
    """New messages in the channel."""

    async def test_an_alert(self, api: StandInSlackApi) -> None:
        """It is the payload with a bar in its colour, and has a name from then on."""
        async with posting(api) as bot:
            sent = await bot.send(parcel(item("1", severity="critical")))
        (message,) = api.messages("oncall")
        expected = alert_message(notification(severity="critical"), APP)
        assert message["text"] == expected["text"]
        assert shown(message) == shown(expected)
        assert message["attachments"][0]["color"] == COLORS["critical"]
        assert sent == Sent("ok", told("1"), Message(api.channel("oncall").id, message["ts"]))

    async def test_nothing_is_unfolded(self, api: StandInSlackApi) -> None:
        """Slack shows no previews of what is linked."""
        async with posting(api) as bot:
            await bot.send(parcel(item("1")))
        ((_, given),) = api.calls
        assert given["unfurl_links"] is given["unfurl_media"] is False

    @pytest.mark.parametrize("channel", ["oncall", "#oncall", " #oncall ", "C0000000001"])
    async def test_a_channel_has_several_names(self, api: StandInSlackApi, channel: str) -> None:
        """With or without the sign, or its ID."""
        async with posting(api, channel) as bot:
            await opened(bot)
        assert len(api.messages("oncall")) == 1

    async def test_a_channel_that_is_renamed(self, api: StandInSlackApi) -> None:
        """Its ID is known since the first message; where it is gone, the name counts again."""
        async with posting(api) as bot:
            await opened(bot)
            renamed = api.channel("oncall")
            renamed.rename("alerts")
            await opened(bot, "2")
            assert len(renamed.posted) == 2
            renamed.archived = True
            api.add("oncall")
            assert (await failure(bot)).scope is Scope.DESTINATION
            await opened(bot, "3")
        assert len(api.messages("oncall")) == 1

    async def test_a_channel_that_is_renamed_before_a_restart(self, api: StandInSlackApi) -> None:
        """Then the messages of its incidents know it; another channel is never taken for it."""
        async with posting(api) as bot:
            parent = await opened(bot)
        async with posting(api, "another") as bot:
            failed = await failure(bot, parcel(reply("2", parent)))
            assert failed.reason.startswith("channel_not_found")
        renamed = api.channel("oncall")
        renamed.rename("alerts")
        async with posting(api) as bot:
            assert (await failure(bot)).scope is Scope.DESTINATION
            await bot.send(parcel(reply("2", parent)))
            await opened(bot, "3")
        assert len(api.thread("alerts", parent.ts)) == 1
        assert len(api.messages("alerts")) == 2
        api.scopes = SCOPES - {"channels:read"}
        async with posting(api) as bot:
            assert (await failure(bot, parcel(reply("4", parent)))).scope is Scope.DESTINATION

    async def test_a_digest(self, api: StandInSlackApi) -> None:
        """Several are told in one message, which says which they are."""
        async with posting(api) as bot:
            sent = await bot.send(parcel(item("1"), item("2", "search", severity="info")))
        (message,) = api.messages("oncall")
        both = [notification(), notification("search", severity="info")]
        assert shown(message) == shown(digest(both, APP).message)
        assert message["attachments"][0]["color"] == COLORS["warning"]
        assert message["metadata"] == {
            "event_type": "port_alert",
            "event_payload": {"deliveries": "1 2", "all": False},
        }
        assert sent.delivered == told("1", "2")

    async def test_a_sum(self, api: StandInSlackApi) -> None:
        """What sums up says of how many in its metadata."""
        async with posting(api) as bot:
            sent = await bot.send(parcel(item("1"), more=1_500, counts={"warning": 1_501}))
        payload = api.messages("oncall")[0]["metadata"]["event_payload"]
        assert payload == {"deliveries": "1", "all": True, "count": 1_501}
        assert sent.delivered is None

    async def test_what_cannot_be_named_is_not_told(self, api: StandInSlackApi) -> None:
        """Metadata is small: of a thousand changes of a few entities some are left for the next message."""
        many = [item(f"{number:016x}-{number}", f"e{number % 9}") for number in range(1_000)]
        async with posting(api) as bot:
            sent = await bot.send(parcel(*many))
        assert api.faults == []
        named = api.messages("oncall")[0]["metadata"]["event_payload"]["deliveries"].split()
        assert sent.delivered == told(*named)
        assert named == [one.delivery_id for one in many[: len(named)]]
        assert 200 < len(named) < 1_000

    async def test_a_sum_names_what_it_can(self, api: StandInSlackApi) -> None:
        """Everything has been told all the same."""
        many = [item(f"{number:016x}-{number}", f"e{number}") for number in range(1_000)]
        async with posting(api) as bot:
            sent = await bot.send(parcel(*many, more=1, counts={"warning": 1_001}))
        assert sent.delivered is None

    async def test_options_are_handed_on(self, api: StandInSlackApi) -> None:
        """Grouping, the size of a digest and the page belong to the destination."""
        options: dict[str, Any] = {
            "group_by": ("severity",),
            "digest_after": 2,
            "page_url": "https://alerts.example.com/",
        }
        async with posting(api, pause=timedelta(seconds=3), **options) as bot:
            assert (bot.pause, bot.batch_limit) == (timedelta(seconds=3), 1000)
            assert (await bot.send(parcel(item("1"), item("2", "search")))).delivered == told("1")
            await bot.send(parcel(item("1"), item("2"), more=9, counts={"warning": 11}))
        text = shown(api.messages("oncall")[1])
        assert "*🟠 warning" in text
        assert "<https://alerts.example.com/changes|" in text


class TestThread:
    """Replies to the message that the incident has already."""

    @pytest.mark.parametrize(
        ("facts", "broadcast"),
        [
            ({}, False),
            ({"worse": True}, True),
            ({"step": Step.OPENED}, True),
            ({"step": Step.REMINDED}, False),
            ({"step": Step.REMINDED, "mention": "<!here>"}, True),
        ],
    )
    async def test_a_reply(self, api: StandInSlackApi, facts: dict[str, Any], broadcast: bool) -> None:
        """It stands in the thread, without a bar, and in the channel too if that concerns everybody."""
        async with posting(api) as bot:
            parent = await opened(bot)
            sent = await bot.send(parcel(reply("1", parent, **facts)))
        (answer,) = api.thread("oncall", parent.ts)
        assert "attachments" not in answer
        assert (
            answer["blocks"] == alert_message(notification(**({"step": Step.CHANGED} | facts)), APP)["blocks"]
        )
        assert answer["metadata"]["event_payload"]["deliveries"] == "1"
        assert len(api.messages("oncall")) == (2 if broadcast else 1)
        assert sent == Sent("ok, in the thread", told("1"))

    async def test_several_of_one_incident(self, api: StandInSlackApi) -> None:
        """They are one reply."""
        async with posting(api) as bot:
            parent = await opened(bot)
            sent = await bot.send(parcel(reply("1", parent), Item("2", resolved(), parent)))
        assert len(api.thread("oncall", parent.ts)) == 1
        assert sent.delivered == told("1", "2")

    async def test_several_incidents(self, api: StandInSlackApi) -> None:
        """They have no thread in common, so the channel is told."""
        async with posting(api) as bot:
            parents = [await opened(bot, entity, entity) for entity in ("checkout", "search")]
            both = [reply(str(number), parent) for number, parent in enumerate(parents)]
            sent = await bot.send(parcel(both[0], replace(both[1], notification=notification("search"))))
        assert sent.message is not None
        assert len(api.messages("oncall")) == 3

    @pytest.mark.parametrize("unthread", [True, False])
    async def test_the_parent_was_deleted(self, api: StandInSlackApi, unthread: bool) -> None:
        """Slack refuses, or posts to the channel: it is a message there, and the old one is gone."""
        api.unthread = unthread
        async with posting(api) as bot:
            parent = await opened(bot)
            api.delete("oncall", parent.ts)
            sent = await bot.send(parcel(reply("1", parent)))
        (message,) = api.messages("oncall")
        assert sent.gone == parent
        assert sent.message == Message(parent.channel, message["ts"])
        assert sent.delivered == told("1")

    @pytest.mark.parametrize(
        "error",
        [
            "thread_not_found",
            "message_not_found",
            "cannot_reply_to_message",
            "restricted_action_thread_locked",
            "restricted_action_non_threadable_channel",
        ],
    )
    async def test_a_thread_that_takes_no_reply(self, api: StandInSlackApi, error: str) -> None:
        """The alert is a new message in the channel, with its bar."""
        async with posting(api) as bot:
            parent = await opened(bot)
            api.refuse(POST_MESSAGE, error)
            sent = await bot.send(parcel(reply("1", parent)))
        assert sent.gone == parent
        assert sent.message is not None
        assert api.messages("oncall")[1]["attachments"]

    async def test_a_parent_in_another_channel(self, api: StandInSlackApi) -> None:
        """The destination's channel was changed: what is new belongs into the new one."""
        api.add("new")
        async with posting(api) as bot:
            parent = await opened(bot)
        for channel in ("#new", api.channel("new").id):
            async with posting(api, channel) as bot:
                sent = await bot.send(parcel(reply("1", parent)))
            assert sent.message is not None
            assert sent.message.channel == api.channel("new").id
        # Where it is known that they differ, nothing is tried.
        assert "thread_ts" not in api.calls[-1][1]
        assert (sent.detail, sent.gone) == ("ok", None)
        assert api.thread("oncall", parent.ts) == []

    async def test_an_answer_without_the_message(self, api: StandInSlackApi) -> None:
        """Where Slack does not show what it posted, the reply is taken to be one."""
        async with posting(api) as bot:
            parent = await opened(bot)
            api.answers[POST_MESSAGE].append(
                JSONResponse({"ok": True, "channel": parent.channel, "ts": "1.1"})
            )
            assert (await bot.send(parcel(reply("1", parent)))).gone is None


class TestForm:
    """Messages that Slack refuses for their form."""

    @pytest.mark.parametrize("error", ["invalid_blocks", "msg_blocks_too_long", "invalid_attachments"])
    async def test_plain_text(self, api: StandInSlackApi, error: str) -> None:
        """Better an alert without form than none; it can be found again like any other."""
        api.refuse(POST_MESSAGE, error)
        async with posting(api) as bot:
            sent = await bot.send(parcel(item("1"), item("2", "search")))
        (message,) = api.messages("oncall")
        assert sent.detail == f"ok, as plain text, because Slack answered {error}"
        assert sent.delivered == told("1", "2")
        assert sent.message == Message(api.channel("oncall").id, message["ts"])
        assert not {"blocks", "attachments"} & set(message)
        assert message["metadata"]["event_payload"]["deliveries"] == "1 2"

    async def test_plain_text_in_a_thread(self, api: StandInSlackApi) -> None:
        """It stays where it belongs."""
        async with posting(api) as bot:
            parent = await opened(bot)
            api.refuse(POST_MESSAGE, "invalid_blocks")
            await bot.send(parcel(reply("1", parent)))
        (answer,) = api.thread("oncall", parent.ts)
        assert "blocks" not in answer

    async def test_metadata(self, api: StandInSlackApi) -> None:
        """What nobody sees is not worth the form."""
        api.refuse(POST_MESSAGE, "metadata_too_large")
        async with posting(api) as bot:
            sent = await bot.send(parcel(item("1")))
        (message,) = api.messages("oncall")
        assert sent.detail == "ok, without metadata, because Slack answered metadata_too_large"
        assert "metadata" not in message
        assert message["attachments"]

    async def test_refused_for_good(self, api: StandInSlackApi) -> None:
        """If plain text will not do either, it is the message's fault; there is no third try."""
        api.refuse(POST_MESSAGE, "invalid_blocks")
        api.refuse(POST_MESSAGE, "msg_too_long")
        async with posting(api) as bot:
            failed = await failure(bot, parcel(item("1"), item("2", "search")))
        assert (failed.scope, failed.reason) == (Scope.MESSAGE, "msg_too_long")
        assert len(api.calls) == 2


class TestUpdate:
    """A message that says how its incidents are now."""

    async def test_one_incident(self, api: StandInSlackApi) -> None:
        """It is told as it is now, in green when it is over, and can still be found."""
        async with posting(api) as bot:
            message = await opened(bot, "1")
            assert await bot.update(message, [Story(notification(), resolved())]) == "ok"
            assert await bot.find(parcel(item("1")), LONG_AGO) is not None
        (now,) = api.messages("oncall")
        assert now["ts"] == message.ts
        assert now["text"].startswith("🟢 Checkout: Healthy again, Degraded for 5 min, resolved (was warning")
        assert now["attachments"][0]["color"] == RESOLVED_COLOR
        assert "🟢 Healthy → 🟠 Degraded → 🟢 *Healthy*" in shown(now)

    async def test_several_incidents(self, api: StandInSlackApi) -> None:
        """A digest keeps its lines."""
        stories = [Story(notification(), resolved()), Story(notification("search"), notification("search"))]
        async with posting(api) as bot:
            sent = await bot.send(parcel(item("1"), item("2", "search")))
            assert sent.message is not None
            await bot.update(sent.message, stories)
        (now,) = api.messages("oncall")
        assert now["attachments"][0]["color"] == COLORS["warning"]
        assert "🟢 Healthy" in shown(now)
        assert "Search" in shown(now)

    async def test_a_message_that_is_gone(self, api: StandInSlackApi) -> None:
        """Somebody deleted it."""
        async with posting(api) as bot:
            message = await opened(bot)
            api.delete("oncall", message.ts)
            with pytest.raises(MessageGone):
                await bot.update(message, [Story(notification(), resolved())])

    @pytest.mark.parametrize(
        ("error", "scope"),
        [
            ("cant_update_message", Scope.MESSAGE),
            ("edit_window_closed", Scope.MESSAGE),
            ("channel_not_found", Scope.DESTINATION),
            ("is_archived", Scope.DESTINATION),
            ("is_inactive", Scope.DESTINATION),
            ("invalid_blocks", Scope.MESSAGE),
            ("token_revoked", Scope.DESTINATION),
            ("update_failed", Scope.TRANSIENT),
            ("a_word_of_tomorrow", Scope.MESSAGE),
            ("ratelimited", Scope.TRANSIENT),
        ],
    )
    async def test_a_change_that_is_refused(self, api: StandInSlackApi, error: str, scope: Scope) -> None:
        """What concerns only this message must not hold up the others."""
        async with posting(api) as bot:
            message = await opened(bot)
            for _ in range(2):
                api.refuse(UPDATE_MESSAGE, error)
            with pytest.raises(DeliveryFailed) as failed:
                await bot.update(message, [Story(notification(), resolved())])
        assert failed.value.scope is scope
        assert not isinstance(failed.value, MessageGone)

    async def test_a_channel_that_was_left(self, api: StandInSlackApi) -> None:
        """A message in the destination's old channel is changed; if it cannot be, nothing waits for that."""
        api.add("new")
        async with posting(api) as bot:
            message = await opened(bot)
        story = [Story(notification(), resolved())]
        async with posting(api, "#new") as bot:
            sent = await bot.send(parcel(reply("1", message)))
            assert sent.gone is None
            assert sent.message is not None
            assert sent.message.channel == api.channel("new").id
            await bot.update(message, story)
            assert "Healthy" in str(api.messages("oncall")[0])
            api.channel("oncall").archived = True
            with pytest.raises(DeliveryFailed, match="its old channel") as failed:
                await bot.update(message, story)
        assert failed.value.scope is Scope.MESSAGE

    async def test_a_form_that_is_refused(self, api: StandInSlackApi) -> None:
        """The end of an incident is shown in a simpler form rather than not at all."""
        link = Link(name="url", url="https://example.com")
        async with posting(api) as bot:
            message = await opened(bot)
            api.refuse(UPDATE_MESSAGE, "invalid_blocks")
            stories = [Story(notification(), resolved(links=(link,)))]
            details = [await bot.update(message, stories)]
            (left,) = api.messages("oncall")
            assert left["attachments"]
            assert "actions" not in str(left)
            for _ in range(2):
                api.refuse(UPDATE_MESSAGE, "invalid_blocks")
            details.append(await bot.update(message, stories))
        (left,) = api.messages("oncall")
        assert not left["attachments"]
        assert details == [
            f"ok, {how}, because Slack answered invalid_blocks"
            for how in ("without its links", "as plain text")
        ]


class TestPermalink:
    """The address of a message."""

    async def test_a_message_has_one(self, api: StandInSlackApi) -> None:
        """Slack says it, without a scope of its own."""
        async with posting(api) as bot:
            message = await opened(bot)
            api.scopes = frozenset()
            link = await bot.permalink(message)
        path = f"{message.channel}/p{message.ts.replace('.', '')}"
        assert link == f"https://example.slack.com/archives/{path}"

    async def test_one_that_is_gone(self, api: StandInSlackApi) -> None:
        """It has none any more."""
        async with posting(api) as bot:
            message = await opened(bot)
            api.delete("oncall", message.ts)
            with pytest.raises(MessageGone):
                await bot.permalink(message)

    @pytest.mark.parametrize("link", [None, 7, "javascript:alert(1)"])
    async def test_what_is_no_address(self, api: StandInSlackApi, link: Any) -> None:
        """It is left out."""
        async with posting(api) as bot:
            message = await opened(bot)
            api.answers[GET_PERMALINK].append(JSONResponse({"ok": True, "permalink": link}))
            assert await bot.permalink(message) is None
