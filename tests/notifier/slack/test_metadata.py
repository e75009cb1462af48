"""Slack through a bot token: what of a parcel stands in the channel already."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from starlette.responses import JSONResponse, Response
from structlog.testing import capture_logs

from app.errors import DeliveryFailed, Scope
from app.notifier.base import Sent
from app.notifier.slack.bot import SlackBot
from app.notifier.slack.web_api import CHANNEL_HISTORY, LIST_CHANNELS, THREAD_REPLIES
from tests.notifier.slack.bots import LONG_AGO, opened, posting, reply, told
from tests.notifier.slack.helpers import item, parcel
from tests.notifier.slack.stand_in_api import SCOPES, StandInSlackApi


async def posted_earlier(api: StandInSlackApi, bot: SlackBot) -> datetime:
    """Post an alert, ten minutes ago; give when it was."""
    message = await opened(bot, "1")
    at = float(message.ts) - 600
    api.channel("oncall").posted[-1]["ts"] = f"{at:.6f}"
    return datetime.fromtimestamp(at, UTC)


class TestFind:
    """What stands in the channel already."""

    async def test_nothing(self, api: StandInSlackApi) -> None:
        """What was not sent is not found, whatever else was."""
        async with posting(api) as bot:
            await opened(bot, "another")
            assert await bot.find(parcel(item("1"), item("2", "search")), LONG_AGO) is None

    async def test_a_digest(self, api: StandInSlackApi) -> None:
        """What it told of the parcel is found, what came since is not."""
        async with posting(api) as bot:
            sent = await bot.send(parcel(item("1"), item("2", "search")))
            found = await bot.find(parcel(item("2", "search"), item("3")), LONG_AGO)
        assert found == Sent("found in the channel", told("2"), sent.message)

    @pytest.mark.parametrize("worse", [True, False])
    async def test_a_reply(self, api: StandInSlackApi, worse: bool) -> None:
        """A reply is found in its thread; it is no message of the channel, not even if it is shown there."""
        async with posting(api) as bot:
            parent = await opened(bot)
            await bot.send(parcel(reply("1", parent, worse=worse)))
            found = await bot.find(parcel(reply("1", parent)), LONG_AGO)
        assert found == Sent("found in the channel", told("1"))
        assert [method for method, _ in api.calls].count(THREAD_REPLIES) == (0 if worse else 1)

    async def test_a_parent_that_has_replies(self, api: StandInSlackApi) -> None:
        """It is still the channel's message."""
        async with posting(api) as bot:
            parent = await opened(bot, "1")
            await bot.send(parcel(reply("2", parent)))
            found = await bot.find(parcel(item("1")), LONG_AGO)
        assert found == Sent("found in the channel", told("1"), parent)

    async def test_several_messages(self, api: StandInSlackApi) -> None:
        """All that is found counts, and the first message of the channel is the one to change."""
        async with posting(api) as bot:
            first = await opened(bot, "1")
            await opened(bot, "2", "search")
            parent = await opened(bot, "0", "billing")
            await bot.send(parcel(reply("3", parent)))
            gone = replace(parent, ts="1749471000.000100")
            items = [item("1"), item("2", "search"), reply("3", parent), reply("4", gone)]
            found = await bot.find(parcel(*items), LONG_AGO)
        assert found == Sent("found in the channel", told("1", "2", "3"), first)

    async def test_a_sum(self, api: StandInSlackApi) -> None:
        """It told of all that waited then; what came since is left."""
        counts = {"Degraded": 12}
        async with posting(api) as bot:
            sent = await bot.send(parcel(item("1"), item("2", "search"), more=10, counts=counts))
            items = (item("1"), item("2", "search"))
            same = await bot.find(parcel(*items, more=10), LONG_AGO)
            grown = await bot.find(parcel(*items, more=11), LONG_AGO)
            fewer = await bot.find(parcel(*items), LONG_AGO)
        assert same == fewer == Sent("found in the channel", None, sent.message)
        assert grown == Sent("found in the channel", told("1", "2"), sent.message)

    async def test_a_sum_that_names_only_some(self, api: StandInSlackApi) -> None:
        """Of a thousand it has room to name a few; the others have been told as well."""
        items = [item(f"{number:016x}-{number}", f"e{number}") for number in range(1_000)]
        async with posting(api) as bot:
            await bot.send(parcel(*items, more=1, counts={"Degraded": 1_001}))
            found = await bot.find(parcel(*items, more=1), LONG_AGO)
            grown = await bot.find(parcel(*items, more=2), LONG_AGO)
        assert found is not None
        assert found.delivered is None
        assert grown is not None
        assert grown.delivered == told(*(one.delivery_id for one in items))

    async def test_only_what_is_recent(self, api: StandInSlackApi) -> None:
        """Messages from before the attempt are not looked at, but clocks may differ by a minute."""
        async with posting(api) as bot:
            at = await posted_earlier(api, bot)
            assert await bot.find(parcel(item("1")), at + timedelta(seconds=55)) is not None
            assert await bot.find(parcel(item("1")), at + timedelta(seconds=65)) is None

    async def test_a_clock_that_is_wrong(self, api: StandInSlackApi) -> None:
        """Slack's times are by its own clock: a message that arrived is found, an older one is not."""
        ahead = timedelta(days=40)
        wrong: dict[str, Any] = {"clock": lambda: datetime.now(UTC) + ahead}
        async with posting(api) as right:
            at = await posted_earlier(api, right) + ahead
        for seconds, stands in ((50, True), (70, False)):
            async with posting(api, **wrong) as bot:
                found = await bot.find(parcel(item("1")), at + timedelta(seconds=seconds))
            assert (found is not None) == stands

    async def test_a_clock_that_is_set_back_meanwhile(self, api: StandInSlackApi) -> None:
        """The time of the attempt is in the future then, and bounds nothing: seed 10194."""
        async with posting(api) as bot:
            at = await posted_earlier(api, bot)
            assert await bot.find(parcel(item("1")), at + timedelta(hours=1)) is not None

    async def test_page_by_page(self, api: StandInSlackApi) -> None:
        """A thousand messages are looked through in five pages, and no more."""
        async with posting(api, digest_after=1) as bot:
            await opened(bot, "1")
            posted = api.channel("oncall").posted
            (mine,) = posted
            others = [{**mine, "metadata": {}, "ts": f"{float(mine['ts']) + n:.6f}"} for n in range(1, 1_001)]
            posted += others[:999]
            assert await bot.find(parcel(item("1")), LONG_AGO) is not None
            assert len([method for method, _ in api.calls if method == CHANNEL_HISTORY]) == 5
            posted += others[999:]
            assert await bot.find(parcel(item("1")), LONG_AGO) is None

    async def test_a_channel_that_is_known_by_its_name(self, api: StandInSlackApi) -> None:
        """Its ID is looked up among all, page by page, once."""
        for number in range(1_500):
            api.add(f"c{number}")
        async with posting(api) as bot:
            await opened(bot, "1")
        api.channels = dict(sorted(api.channels.items(), key=lambda one: one[1].name))  # #oncall is last
        api.calls.clear()
        async with posting(api) as bot:
            for _ in range(2):
                assert await bot.find(parcel(item("1")), LONG_AGO) is not None
        assert [method for method, _ in api.calls] == [
            LIST_CHANNELS,
            LIST_CHANNELS,
            CHANNEL_HISTORY,
            CHANNEL_HISTORY,
        ]

    async def test_a_private_channel_by_its_name(self, api: StandInSlackApi) -> None:
        """Without the scope for the public ones too."""
        api.add("secret", private=True)
        async with posting(api, "secret") as bot:
            await opened(bot, "1")
        api.scopes = SCOPES - {"channels:read"}
        async with posting(api, "secret") as bot:
            assert await bot.find(parcel(item("1")), LONG_AGO) is not None

    async def test_what_is_known_already_is_not_looked_up(self, api: StandInSlackApi) -> None:
        """The ID is that of the configuration, of an earlier message, or of the incident's message."""
        async with posting(api) as bot:
            parent = await opened(bot, "1")
            assert await bot.find(parcel(item("1")), LONG_AGO) is not None
        async with posting(api, parent.channel) as bot:
            assert await bot.find(parcel(item("1")), LONG_AGO) is not None
        async with posting(api) as bot:
            assert await bot.find(parcel(reply("1", parent)), LONG_AGO) is not None
            await bot.send(parcel(item("2")))
        assert LIST_CHANNELS not in {method for method, _ in api.calls}

    @pytest.mark.parametrize("lacking", ["channels:history", "channels:read", "groups:read"])
    async def test_without_the_scope(self, api: StandInSlackApi, lacking: str) -> None:
        """Nothing is found, and it is said once what that means and what is missing."""
        api.scopes = SCOPES - {lacking}
        name = "elsewhere" if lacking.endswith(":read") else "oncall"
        async with posting(api, name) as bot:
            with capture_logs() as logs:
                for _ in range(2):
                    assert await bot.find(parcel(item("1")), LONG_AGO) is None
        (line,) = logs
        assert line["event"] == "channel_unreadable"
        assert f"add {lacking} to" in line["reason"]

    async def test_outside_of_the_channel(self, api: StandInSlackApi) -> None:
        """An app may post to a public channel that it is not in, but not read it."""
        api.channel("oncall").member = False
        async with posting(api) as bot:
            await opened(bot, "1")
            with capture_logs() as logs:
                assert await bot.find(parcel(item("1")), LONG_AGO) is None
        assert "/invite" in logs[0]["reason"]

    async def test_a_channel_that_is_not_there(self, api: StandInSlackApi) -> None:
        """Then the next message will say so."""
        async with posting(api, "nowhere") as bot:
            assert await bot.find(parcel(item("1")), LONG_AGO) is None

    @pytest.mark.parametrize("method", [CHANNEL_HISTORY, LIST_CHANNELS])
    @pytest.mark.parametrize(
        ("answer", "of_slack"),
        [
            (JSONResponse({"ok": False, "error": "missing_argument"}), True),
            (JSONResponse({"ok": False, "error": "a_word_of_tomorrow"}), True),
            (JSONResponse({"ok": True}), False),
            (JSONResponse({"ok": True, "messages": None, "channels": {}}), False),
            (JSONResponse({"success": True}), False),
            (Response('{"ok": true, "mess', media_type="application/json"), False),
            (Response("<html>Please log in", media_type="text/html"), False),
            (Response(status_code=302, headers={"Location": "https://login.example.com"}), False),
        ],
    )
    async def test_an_answer_that_nobody_knows(
        self, api: StandInSlackApi, method: str, answer: Response, of_slack: bool
    ) -> None:
        """Asking is a help only: what will not pass is said, and the message is sent.

        Half of an answer, or a proxy's page, may pass: it is asked once more before that.
        """
        api.answers[method].extend([answer] * 4)  # the list is asked for in two kinds
        async with posting(api) as bot:
            if not of_slack:
                with pytest.raises(DeliveryFailed) as failed:
                    await bot.find(parcel(item("1")), LONG_AGO)
                assert (failed.value.scope, failed.value.unsure) == (Scope.TRANSIENT, False)
            with capture_logs() as logs:
                assert await bot.find(parcel(item("1")), LONG_AGO) is None
        assert [(line["event"], line["channel"]) for line in logs] == [("channel_unreadable", "oncall")]

    @pytest.mark.parametrize("begins", [True, False])
    async def test_a_list_without_an_end(self, api: StandInSlackApi, begins: bool) -> None:
        """In a workspace of very many channels the message is sent rather than never.

        Where not even a first list comes it is asked again: what has arrived must not be sent twice.
        """
        released = asyncio.Event()

        async def never() -> JSONResponse:
            await released.wait()
            return JSONResponse({"ok": True, "channels": []})

        first = {"ok": True, "channels": [], "response_metadata": {"next_cursor": "2"}}
        api.answers[LIST_CHANNELS].extend([JSONResponse(first), never] if begins else [never])
        async with posting(api, answer_within=timedelta(seconds=0.4)) as bot:
            with capture_logs() as logs:
                if begins:
                    assert await bot.find(parcel(item("1")), LONG_AGO) is None
                else:
                    with pytest.raises(DeliveryFailed) as failed:
                        await bot.find(parcel(item("1")), LONG_AGO)
                    assert failed.value.scope is Scope.TRANSIENT
            released.set()
        reasons = [line["reason"] for line in logs]
        assert reasons == (["too many channels: give the channel by its ID"] if begins else [])

    @pytest.mark.parametrize("method", [CHANNEL_HISTORY, THREAD_REPLIES, LIST_CHANNELS])
    async def test_not_now(self, api: StandInSlackApi, method: str) -> None:
        """What cannot be asked now must not be told twice: it is asked again later."""
        async with posting(api) as bot:
            parent = await opened(bot)
        api.answers[method].append(JSONResponse({"error": "ratelimited"}, 429, {"Retry-After": "30"}))
        what = parcel(item("1") if method == LIST_CHANNELS else reply("1", parent))
        async with posting(api) as bot:
            with pytest.raises(DeliveryFailed) as failed:
                await bot.find(what, LONG_AGO)
        assert failed.value.scope is Scope.TRANSIENT
        assert failed.value.retry_after == timedelta(seconds=30)

    @pytest.mark.parametrize(
        "metadata",
        [
            {"event_type": "somebody_elses", "event_payload": {"deliveries": "1"}},
            {"event_type": "port_alert"},
            {"event_type": "port_alert", "event_payload": {"deliveries": ["1"]}},
            {"event_type": "port_alert", "event_payload": {"deliveries": "10"}},
            None,
        ],
    )
    async def test_other_messages(self, api: StandInSlackApi, metadata: dict[str, Any] | None) -> None:
        """What others post, or what we do not understand, is nothing."""
        async with posting(api) as bot:
            await opened(bot, "1")
            api.channel("oncall").posted[0]["metadata"] = metadata
            api.channel("oncall").posted.append({"ts": "1999999999.000000", "subtype": "channel_join"})
            assert await bot.find(parcel(item("1")), LONG_AGO) is None
