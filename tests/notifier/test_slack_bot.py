"""Slack through a bot token: what is posted where, what each answer means, and what is found again."""

import asyncio
import logging
import socket
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from starlette.responses import JSONResponse, PlainTextResponse, Response
from structlog.testing import capture_logs

from app.alerts.incident import Step
from app.alerts.notification import Message
from app.demo import serving
from app.errors import DeliveryFailed, MessageGone, Scope
from app.notifier.base import Item, Keeper, Parcel, Sent, Story
from app.notifier.slack_bot import SlackBot
from app.notifier.slack_compose import COLORS, RESOLVED_COLOR
from app.notifier.slack_digest import digest
from app.notifier.slack_message import payload
from tests.notifier.slack_limits import shown
from tests.notifier.stand_in_slack_api import SCOPES, TOKEN, HangUp, StandInSlackApi
from tests.notifier.test_slack_compose import APP, item, notification, parcel, resolved

POST, UPDATE = "chat.postMessage", "chat.update"
HISTORY, REPLIES, LIST = "conversations.history", "conversations.replies", "conversations.list"
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
async def slack() -> AsyncIterator[StandInSlackApi]:
    """A stand-in Slack with the channel #oncall."""
    stand_in = StandInSlackApi("oncall")
    async with serving(stand_in.app) as address:
        stand_in.url = f"{address}/api/"
        yield stand_in


@asynccontextmanager
async def posting(
    slack: StandInSlackApi, channel: str = "#oncall", **options: Any
) -> AsyncIterator[SlackBot]:
    """Yield a bot for a channel, and close it."""
    bot = SlackBot(slack.token, channel, APP, api_url=slack.url, **options)
    try:
        yield bot
    finally:
        await bot.close()


async def failure(bot: SlackBot, what: Parcel | None = None) -> DeliveryFailed:
    """Send, and return the failure that comes of it."""
    with pytest.raises(DeliveryFailed) as failed:
        await bot.send(what or parcel(item("1")))
    return failed.value


def reply(delivery_id: str, parent: Message | None, **facts: Any) -> Item:
    """Return a change of an incident that has a message in the channel already."""
    return item(delivery_id, parent=parent, **({"step": Step.CHANGED} | facts))


async def opened(bot: SlackBot, delivery_id: str = "0", entity: str = "checkout") -> Message:
    """Post the first message of an incident, and return its name."""
    sent = await bot.send(parcel(item(delivery_id, entity)))
    assert sent.message is not None
    return sent.message


def told(*ids: str) -> frozenset[str]:
    """Return delivery ids."""
    return frozenset(ids)


def test_it_is_a_keeper() -> None:
    """The dispatcher sees that it can find and change messages."""
    assert isinstance(SlackBot("xoxb", "oncall", APP), Keeper)


class TestChannel:
    """New messages in the channel."""

    async def test_an_alert(self, slack: StandInSlackApi) -> None:
        """It is the payload with a bar in its colour, and has a name from then on."""
        async with posting(slack) as bot:
            sent = await bot.send(parcel(item("1", severity="critical")))
        (message,) = slack.messages("oncall")
        expected = payload(notification(severity="critical"), APP)
        assert message["text"] == expected["text"]
        assert shown(message) == shown(expected)
        assert message["attachments"][0]["color"] == COLORS["critical"]
        assert sent == Sent("ok", told("1"), Message(slack.channel("oncall").id, message["ts"]))

    async def test_nothing_is_unfolded(self, slack: StandInSlackApi) -> None:
        """Slack shows no previews of what is linked."""
        async with posting(slack) as bot:
            await bot.send(parcel(item("1")))
        ((_, given),) = slack.calls
        assert given["unfurl_links"] is given["unfurl_media"] is False

    @pytest.mark.parametrize("channel", ["oncall", "#oncall", " #oncall ", "C0000000001"])
    async def test_a_channel_has_several_names(self, slack: StandInSlackApi, channel: str) -> None:
        """With or without the sign, or its ID."""
        async with posting(slack, channel) as bot:
            await opened(bot)
        assert len(slack.messages("oncall")) == 1

    async def test_a_digest(self, slack: StandInSlackApi) -> None:
        """Several are told in one message, which says which they are."""
        async with posting(slack) as bot:
            sent = await bot.send(parcel(item("1"), item("2", "search", severity="info")))
        (message,) = slack.messages("oncall")
        both = [notification(), notification("search", severity="info")]
        assert shown(message) == shown(digest(both, APP).message)
        assert message["attachments"][0]["color"] == COLORS["warning"]
        assert message["metadata"] == {
            "event_type": "port_alert",
            "event_payload": {"deliveries": ["1", "2"], "all": False},
        }
        assert sent.told == told("1", "2")

    async def test_a_sum(self, slack: StandInSlackApi) -> None:
        """What sums up says of how many in its metadata."""
        async with posting(slack) as bot:
            sent = await bot.send(parcel(item("1"), more=1_500, counts={"Degraded": 1_501}))
        payload = slack.messages("oncall")[0]["metadata"]["event_payload"]
        assert payload == {"deliveries": ["1"], "all": True, "count": 1_501}
        assert sent.told is None

    async def test_what_cannot_be_named_is_not_told(self, slack: StandInSlackApi) -> None:
        """Metadata is small: of a thousand changes of a few entities some are left for the next message."""
        many = [item(f"{number:016x}-{number}", f"e{number % 9}") for number in range(1_000)]
        async with posting(slack) as bot:
            sent = await bot.send(parcel(*many))
        assert slack.faults == []
        named = slack.messages("oncall")[0]["metadata"]["event_payload"]["deliveries"]
        assert sent.told == told(*named)
        assert named == [one.delivery_id for one in many[: len(named)]]
        assert 200 < len(named) < 1_000

    async def test_a_sum_names_what_it_can(self, slack: StandInSlackApi) -> None:
        """Everything has been told all the same."""
        many = [item(f"{number:016x}-{number}", f"e{number}") for number in range(1_000)]
        async with posting(slack) as bot:
            sent = await bot.send(parcel(*many, more=1, counts={"Degraded": 1_001}))
        assert sent.told is None

    async def test_options_are_handed_on(self, slack: StandInSlackApi) -> None:
        """Grouping, the size of a digest and the page belong to the destination."""
        options: dict[str, Any] = {
            "group_by": ("severity",),
            "digest_after": 2,
            "page_url": "https://alerts.example.com/",
        }
        async with posting(slack, pause=timedelta(seconds=3), **options) as bot:
            assert (bot.pause, bot.at_once) == (timedelta(seconds=3), 1000)
            assert (await bot.send(parcel(item("1"), item("2", "search")))).told == told("1")
            await bot.send(parcel(item("1"), item("2"), more=9, counts={"Degraded": 11}))
        text = shown(slack.messages("oncall")[1])
        assert "*🟠 warning" in text
        assert "<https://alerts.example.com/|" in text


class TestThread:
    """Replies to the message that the incident has already."""

    @pytest.mark.parametrize(
        ("facts", "broadcast"), [({}, False), ({"worse": True}, True), ({"step": Step.OPENED}, True)]
    )
    async def test_a_reply(self, slack: StandInSlackApi, facts: dict[str, Any], broadcast: bool) -> None:
        """It stands in the thread, without a bar, and in the channel too if that concerns everybody."""
        async with posting(slack) as bot:
            parent = await opened(bot)
            sent = await bot.send(parcel(reply("1", parent, **facts)))
        (answer,) = slack.thread("oncall", parent.ts)
        assert "attachments" not in answer
        assert answer["blocks"] == payload(notification(**({"step": Step.CHANGED} | facts)), APP)["blocks"]
        assert answer["metadata"]["event_payload"]["deliveries"] == ["1"]
        assert len(slack.messages("oncall")) == (2 if broadcast else 1)
        assert sent == Sent("ok, in the thread", told("1"))

    async def test_several_of_one_incident(self, slack: StandInSlackApi) -> None:
        """They are one reply."""
        async with posting(slack) as bot:
            parent = await opened(bot)
            sent = await bot.send(parcel(reply("1", parent), Item("2", resolved(), parent)))
        assert len(slack.thread("oncall", parent.ts)) == 1
        assert sent.told == told("1", "2")

    async def test_several_incidents(self, slack: StandInSlackApi) -> None:
        """They have no thread in common, so the channel is told."""
        async with posting(slack) as bot:
            parents = [await opened(bot, entity, entity) for entity in ("checkout", "search")]
            both = [reply(str(number), parent) for number, parent in enumerate(parents)]
            sent = await bot.send(parcel(both[0], replace(both[1], notification=notification("search"))))
        assert sent.message is not None
        assert len(slack.messages("oncall")) == 3

    @pytest.mark.parametrize("unthread", [True, False])
    async def test_the_parent_was_deleted(self, slack: StandInSlackApi, unthread: bool) -> None:
        """Slack refuses, or posts to the channel: it is a message there, and the old one is gone."""
        slack.unthread = unthread
        async with posting(slack) as bot:
            parent = await opened(bot)
            slack.delete("oncall", parent.ts)
            sent = await bot.send(parcel(reply("1", parent)))
        (message,) = slack.messages("oncall")
        assert sent.gone == parent
        assert sent.message == Message(parent.channel, message["ts"])
        assert sent.told == told("1")

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
    async def test_a_thread_that_takes_no_reply(self, slack: StandInSlackApi, error: str) -> None:
        """The alert is a new message in the channel, with its bar."""
        async with posting(slack) as bot:
            parent = await opened(bot)
            slack.refuse(POST, error)
            sent = await bot.send(parcel(reply("1", parent)))
        assert sent.gone == parent
        assert sent.message is not None
        assert slack.messages("oncall")[1]["attachments"]

    async def test_a_parent_in_another_channel(self, slack: StandInSlackApi) -> None:
        """The destination's channel was changed: what is new belongs into the new one."""
        slack.add("new")
        async with posting(slack) as bot:
            parent = await opened(bot)
        for channel in ("#new", slack.channel("new").id):
            async with posting(slack, channel) as bot:
                sent = await bot.send(parcel(reply("1", parent)))
            assert sent.message is not None
            assert sent.message.channel == slack.channel("new").id
        assert slack.thread("oncall", parent.ts) == []

    async def test_an_answer_without_the_message(self, slack: StandInSlackApi) -> None:
        """Where Slack does not show what it posted, the reply is taken to be one."""
        async with posting(slack) as bot:
            parent = await opened(bot)
            slack.answers[POST].append(JSONResponse({"ok": True, "channel": parent.channel, "ts": "1.1"}))
            assert (await bot.send(parcel(reply("1", parent)))).gone is None


class TestForm:
    """Messages that Slack refuses for their form."""

    @pytest.mark.parametrize("error", ["invalid_blocks", "msg_blocks_too_long", "invalid_attachments"])
    async def test_plain_text(self, slack: StandInSlackApi, error: str) -> None:
        """Better an alert without form than none; it can be found again like any other."""
        slack.refuse(POST, error)
        async with posting(slack) as bot:
            sent = await bot.send(parcel(item("1"), item("2", "search")))
        (message,) = slack.messages("oncall")
        assert sent.detail == f"ok, as plain text, because Slack answered {error}"
        assert sent.told == told("1", "2")
        assert sent.message == Message(slack.channel("oncall").id, message["ts"])
        assert not {"blocks", "attachments"} & set(message)
        assert message["metadata"]["event_payload"]["deliveries"] == ["1", "2"]

    async def test_plain_text_in_a_thread(self, slack: StandInSlackApi) -> None:
        """It stays where it belongs."""
        async with posting(slack) as bot:
            parent = await opened(bot)
            slack.refuse(POST, "invalid_blocks")
            await bot.send(parcel(reply("1", parent)))
        (answer,) = slack.thread("oncall", parent.ts)
        assert "blocks" not in answer

    async def test_metadata(self, slack: StandInSlackApi) -> None:
        """What nobody sees is not worth the form."""
        slack.refuse(POST, "metadata_too_large")
        async with posting(slack) as bot:
            sent = await bot.send(parcel(item("1")))
        (message,) = slack.messages("oncall")
        assert sent.detail == "ok, without metadata, because Slack answered metadata_too_large"
        assert "metadata" not in message
        assert message["attachments"]

    async def test_refused_for_good(self, slack: StandInSlackApi) -> None:
        """If plain text will not do either, it is the message's fault; there is no third try."""
        slack.refuse(POST, "invalid_blocks")
        slack.refuse(POST, "msg_too_long")
        async with posting(slack) as bot:
            failed = await failure(bot, parcel(item("1"), item("2", "search")))
        assert (failed.scope, failed.reason) == (Scope.MESSAGE, "msg_too_long")
        assert len(slack.calls) == 2


TABLE = {
    "invalid_blocks": Scope.MESSAGE,
    "invalid_arguments": Scope.MESSAGE,
    "no_text": Scope.MESSAGE,
    "invalid_metadata_schema": Scope.MESSAGE,
    "thread_not_found": Scope.MESSAGE,
    "not_in_channel": Scope.DESTINATION,
    "channel_not_found": Scope.DESTINATION,
    "is_archived": Scope.DESTINATION,
    "invalid_auth": Scope.DESTINATION,
    "not_authed": Scope.DESTINATION,
    "account_inactive": Scope.DESTINATION,
    "token_revoked": Scope.DESTINATION,
    "token_expired": Scope.DESTINATION,
    "missing_scope": Scope.DESTINATION,
    "no_permission": Scope.DESTINATION,
    "restricted_action": Scope.DESTINATION,
    "restricted_action_read_only_channel": Scope.DESTINATION,
    "restricted_action_of_tomorrow": Scope.DESTINATION,
    "org_login_required": Scope.DESTINATION,
    "ekm_access_denied": Scope.DESTINATION,
    "team_access_not_granted": Scope.DESTINATION,
    "access_denied": Scope.DESTINATION,
    "message_limit_exceeded": Scope.DESTINATION,
    "ratelimited": Scope.TRANSIENT,
    "rate_limited": Scope.TRANSIENT,
    "internal_error": Scope.TRANSIENT,
    "fatal_error": Scope.TRANSIENT,
    "service_unavailable": Scope.TRANSIENT,
    "request_timeout": Scope.TRANSIENT,
    "team_added_to_org": Scope.TRANSIENT,
    "cant_update_message": Scope.TRANSIENT,  # nobody asked for that here
    "a_word_of_tomorrow": Scope.TRANSIENT,
}
"""What Slack answers with HTTP 200 and ``ok: false``, and whom that concerns."""

STRANGE = [
    (PlainTextResponse("", 200), Scope.TRANSIENT, True),
    (PlainTextResponse("ok", 200), Scope.TRANSIENT, True),
    (PlainTextResponse("<html>", 200, media_type="text/html"), Scope.TRANSIENT, True),
    (PlainTextResponse("{", 200, media_type="application/json"), Scope.TRANSIENT, True),
    (PlainTextResponse("{", 404, media_type="application/json"), Scope.DESTINATION, False),
    (JSONResponse([1]), Scope.TRANSIENT, True),
    (JSONResponse({}), Scope.TRANSIENT, True),
    (JSONResponse({"ok": False}), Scope.TRANSIENT, True),
    (JSONResponse({"ok": False, "error": 7}), Scope.TRANSIENT, True),
    (JSONResponse({"ok": True}, 201), Scope.TRANSIENT, True),
    (Response(b"\xff", 200, media_type="text/plain; charset=utf-8"), Scope.TRANSIENT, True),
    (Response(b"ok", 502, media_type="text/plain; charset=base64"), Scope.TRANSIENT, True),
    (Response(b"{}", 200, media_type="application/gzip"), Scope.TRANSIENT, True),
    (PlainTextResponse("Forbidden", 403), Scope.DESTINATION, False),
    (JSONResponse({"ok": False, "error": "invalid_auth"}, 401), Scope.DESTINATION, False),
    (JSONResponse({"ok": False, "error": "ratelimited"}, 429), Scope.TRANSIENT, False),
    (PlainTextResponse("", 429), Scope.TRANSIENT, False),
    (PlainTextResponse("", 500), Scope.TRANSIENT, True),
    (PlainTextResponse("<html>Bad Gateway</html>", 502), Scope.TRANSIENT, True),
    (JSONResponse({"ok": False, "error": "invalid_blocks"}, 503), Scope.TRANSIENT, True),
    (Response(b"", 307, {"location": "/api/elsewhere"}), Scope.TRANSIENT, False),
]
"""Other answers: whom they concern, and whether the message may have arrived."""


class TestAnswers:
    """What each answer means."""

    async def test_each_error_has_its_scope(self, slack: StandInSlackApi) -> None:
        """The table holds over the wire; only what is refused for its form is sent twice."""
        seen: dict[str, Scope] = {}
        tries: dict[str, int] = {}
        async with posting(slack) as bot:
            for error in TABLE:
                slack.refuse(POST, error)
                slack.refuse(POST, error)
                seen[error] = (await failure(bot)).scope
                tries[error] = 2 - len(slack.answers[POST])
                slack.answers.clear()
        assert seen == TABLE
        twice = {error for error, scope in TABLE.items() if scope is Scope.MESSAGE} - {"thread_not_found"}
        assert {error for error, count in tries.items() if count == 2} == twice
        assert slack.messages("oncall") == []

    async def test_other_answers(self, slack: StandInSlackApi) -> None:
        """A proxy's page or half an answer says nothing for sure."""
        heard = []
        async with posting(slack) as bot:
            for answer, _, _ in STRANGE:
                slack.answers[POST].append(answer)
                failed = await failure(bot)
                heard.append((answer, failed.scope, failed.unsure))
                assert slack.answers[POST] == type(slack.answers[POST])()
        assert heard == STRANGE

    @pytest.mark.parametrize(
        ("error", "unsure"), [("internal_error", True), ("fatal_error", True), ("service_unavailable", False)]
    )
    async def test_what_may_have_succeeded(self, slack: StandInSlackApi, error: str, unsure: bool) -> None:
        """Slack says of some errors that a part of the operation may have succeeded."""
        slack.refuse(POST, error)
        async with posting(slack) as bot:
            assert (await failure(bot)).unsure is unsure

    @pytest.mark.parametrize(
        ("answer", "reason"),
        [
            (
                {"error": "not_in_channel"},
                "not_in_channel: invite the app to the channel: /invite and its name",
            ),
            ({"error": "access_denied"}, "access_denied"),
            (
                {"error": "missing_scope", "needed": "chat:write:bot", "provided": "channels:history"},
                "missing_scope: add chat:write:bot to the app's bot token scopes, and install the app again",
            ),
            (
                {"error": "missing_scope", "needed": f"<b>{TOKEN}"},
                "missing_scope: add what is missing to the app's bot token scopes, and install the app again",
            ),
            ({"error": "internal_error"}, "internal_error"),
            ({"error": f"{TOKEN} of yours"}, "200: not an answer of Slack's"),
            ({"error": "channel_not_found", "channel": TOKEN}, None),
        ],
    )
    async def test_the_reason_says_what_to_do(
        self, slack: StandInSlackApi, answer: dict[str, str], reason: str | None
    ) -> None:
        """It is Slack's own word and our advice, and nothing else of the answer."""
        slack.refuse(POST, **answer)
        async with posting(slack) as bot:
            failed = await failure(bot)
        assert TOKEN not in failed.reason
        if reason is not None:
            assert failed.reason == str(failed) == reason

    async def test_a_real_refusal(self, slack: StandInSlackApi) -> None:
        """What is wrong with the app or the channel is the destination's affair."""
        slack.add("closed", archived=True)
        slack.add("secret", private=True, member=False)
        slack.add("far", member=False)
        reasons = {}
        for channel in ("closed", "secret", "far", "nowhere"):
            slack.scopes = SCOPES - {"chat:write.public"}
            async with posting(slack, channel) as bot:
                failed = await failure(bot)
            assert failed.scope is Scope.DESTINATION
            reasons[channel] = failed.reason.partition(":")[0]
        assert reasons == {
            "closed": "is_archived",
            "secret": "channel_not_found",
            "far": "not_in_channel",
            "nowhere": "channel_not_found",
        }
        slack.scopes = frozenset()
        async with posting(slack) as bot:
            assert "add chat:write to" in (await failure(bot)).reason
        slack.token = "xoxb-another"
        bot = SlackBot(TOKEN, "oncall", APP, api_url=slack.url)
        assert (await failure(bot)).reason == "invalid_auth: set a valid bot token"
        await bot.close()

    @pytest.mark.parametrize("status", [200, 429, 503])
    async def test_retry_after(self, slack: StandInSlackApi, status: int) -> None:
        """Slack says how long to wait; nonsense is as good as nothing."""
        asked = {"1": timedelta(seconds=1), "30.5": timedelta(seconds=30.5), "soon": None, "-1": None}
        for text in asked:
            body = {"ok": False, "error": "ratelimited"}
            slack.answers[POST].append(JSONResponse(body, status, {"Retry-After": text}))
        async with posting(slack) as bot:
            heard = [(await failure(bot)).retry_after for _ in asked]
        assert heard == list(asked.values())

    async def test_one_message_a_second(self, slack: StandInSlackApi) -> None:
        """A channel that is told too fast says so, and when to come again; other channels are not held up."""
        slack.one_a_second = True
        slack.add("other")
        async with posting(slack) as bot, posting(slack, "other") as other:
            await opened(bot)
            await opened(other)
            failed = await failure(bot)
        assert (failed.scope, failed.retry_after) == (Scope.TRANSIENT, timedelta(seconds=1))
        assert not failed.unsure
        assert slack.refused == 1


class TestWire:
    """What can happen on the way."""

    async def test_no_connection(self) -> None:
        """Where nobody listens, it has certainly not arrived."""
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            bot = SlackBot(TOKEN, "oncall", APP, api_url=f"http://127.0.0.1:{closed.getsockname()[1]}/api/")
            failed = await failure(bot)
            await bot.close()
        assert failed.scope is Scope.TRANSIENT
        assert failed.reason.startswith("no connection (Client")
        assert not failed.unsure
        assert _secret_is_kept(failed)

    async def test_stored_but_the_answer_never_arrives(self, slack: StandInSlackApi) -> None:
        """The message may have arrived, and that is said; it can then be found."""

        async def hang_up(_: dict[str, Any]) -> Response:
            return HangUp()

        slack.on_stored = hang_up
        async with posting(slack) as bot:
            failed = await failure(bot)
            found = await bot.find(parcel(item("1")), LONG_AGO)
        assert (failed.scope, failed.unsure) == (Scope.TRANSIENT, True)
        assert failed.reason.endswith("it may have arrived")
        (message,) = slack.messages("oncall")
        assert found == Sent(
            "found in the channel", told("1"), Message(slack.channel("oncall").id, message["ts"])
        )

    async def test_no_answer_in_time(self, slack: StandInSlackApi) -> None:
        """After its time a request ends, and it may have arrived; the next one goes out as usual."""
        released = asyncio.Event()

        async def hang() -> Response:
            await released.wait()
            return PlainTextResponse("too late")

        slack.answers[POST].append(hang)
        async with posting(slack, answer_within=timedelta(seconds=0.3)) as bot:
            failed = await failure(bot)
            released.set()
            assert (failed.scope, failed.unsure) == (Scope.TRANSIENT, True)
            assert failed.reason == "no answer in time; it may have arrived"
            await opened(bot)

    async def test_who_reads_is_never_unsure(self, slack: StandInSlackApi) -> None:
        """Only a message that is posted can have arrived."""
        for method in (HISTORY, UPDATE):
            slack.answers[method].append(PlainTextResponse("", 502))
        async with posting(slack) as bot:
            message = await opened(bot)
            with pytest.raises(DeliveryFailed) as failed:
                await bot.find(parcel(item("1")), LONG_AGO)
            assert (failed.value.scope, failed.value.unsure) == (Scope.TRANSIENT, False)
            with pytest.raises(DeliveryFailed) as failed:
                await bot.update(message, [Story(notification(), resolved())])
            assert (failed.value.scope, failed.value.unsure) == (Scope.TRANSIENT, False)

    async def test_the_connection_serves_again(self) -> None:
        """Several calls go over one connection, and closing ends it; after that it opens anew."""
        connections = []
        answer = b'{"ok": true, "channel": "C0000000001", "ts": "1.1"}'

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connections.append(writer)
            while await reader.read(65_536):
                head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(answer)}"
                writer.write(head.encode() + b"\r\n\r\n" + answer)
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/api"
            bot = SlackBot(TOKEN, "oncall", APP, api_url=url)
            await bot.close()
            for _ in range(3):
                await bot.send(parcel(item("1")))
            assert len(connections) == 1
            await bot.close()
            await bot.send(parcel(item("1")))
            await bot.close()
            await bot.close()
            assert len(connections) == 2

    async def test_secrets_are_kept(self, slack: StandInSlackApi, caplog: pytest.LogCaptureFixture) -> None:
        """No error and no log record, at any level, has the token or the message in it."""
        for name in (None, "aiohttp", "asyncio", "slack_sdk", "slack_sdk.web"):
            caplog.set_level(logging.DEBUG, logger=name)
        secret = {"ok": False, "echo": f"{TOKEN} Checkout"}
        for error in ("invalid_auth", "internal_error", "a_new_word", "ratelimited"):
            slack.answers[POST].append(JSONResponse({**secret, "error": error}))
        slack.answers[POST].append(PlainTextResponse(f"{TOKEN} Checkout", media_type="application/json"))
        async with posting(slack) as bot:
            failures = [await failure(bot) for _ in range(5)]
            await opened(bot)
        assert all(map(_secret_is_kept, failures))
        assert caplog.records
        for record in caplog.records:
            if record.name.startswith("uvicorn"):
                continue  # the stand-in's own
            assert TOKEN not in f"{record.getMessage()} {vars(record)}"
            assert "Checkout" not in f"{record.getMessage()} {vars(record)}"


def _secret_is_kept(error: BaseException) -> bool:
    text = "".join(traceback.format_exception(error))
    return TOKEN not in text and "Checkout" not in text


class TestFind:
    """What stands in the channel already."""

    async def test_nothing(self, slack: StandInSlackApi) -> None:
        """What was not sent is not found, whatever else was."""
        async with posting(slack) as bot:
            await opened(bot, "another")
            assert await bot.find(parcel(item("1"), item("2", "search")), LONG_AGO) is None

    async def test_a_digest(self, slack: StandInSlackApi) -> None:
        """What it told of the parcel is found, what came since is not."""
        async with posting(slack) as bot:
            sent = await bot.send(parcel(item("1"), item("2", "search")))
            found = await bot.find(parcel(item("2", "search"), item("3")), LONG_AGO)
        assert found == Sent("found in the channel", told("2"), sent.message)

    @pytest.mark.parametrize("worse", [True, False])
    async def test_a_reply(self, slack: StandInSlackApi, worse: bool) -> None:
        """A reply is found in its thread; it is no message of the channel, not even if it is shown there."""
        async with posting(slack) as bot:
            parent = await opened(bot)
            await bot.send(parcel(reply("1", parent, worse=worse)))
            found = await bot.find(parcel(reply("1", parent)), LONG_AGO)
        assert found == Sent("found in the channel", told("1"))

    async def test_a_parent_that_has_replies(self, slack: StandInSlackApi) -> None:
        """It is still the channel's message."""
        async with posting(slack) as bot:
            parent = await opened(bot, "1")
            await bot.send(parcel(reply("2", parent)))
            found = await bot.find(parcel(item("1")), LONG_AGO)
        assert found == Sent("found in the channel", told("1"), parent)

    async def test_several_messages(self, slack: StandInSlackApi) -> None:
        """All that is found counts, and the first message of the channel is the one to change."""
        async with posting(slack) as bot:
            first = await opened(bot, "1")
            await opened(bot, "2", "search")
            parent = await opened(bot, "0", "billing")
            await bot.send(parcel(reply("3", parent)))
            gone = replace(parent, ts="1749471000.000100")
            items = [item("1"), item("2", "search"), reply("3", parent), reply("4", gone)]
            found = await bot.find(parcel(*items), LONG_AGO)
        assert found == Sent("found in the channel", told("1", "2", "3"), first)

    async def test_a_sum(self, slack: StandInSlackApi) -> None:
        """It told of all that waited then; what came since is left."""
        counts = {"Degraded": 12}
        async with posting(slack) as bot:
            sent = await bot.send(parcel(item("1"), item("2", "search"), more=10, counts=counts))
            items = (item("1"), item("2", "search"))
            same = await bot.find(parcel(*items, more=10), LONG_AGO)
            grown = await bot.find(parcel(*items, more=11), LONG_AGO)
            fewer = await bot.find(parcel(*items), LONG_AGO)
        assert same == fewer == Sent("found in the channel", None, sent.message)
        assert grown == Sent("found in the channel", told("1", "2"), sent.message)

    async def test_a_sum_that_names_only_some(self, slack: StandInSlackApi) -> None:
        """Of a thousand it has room to name a few; the others have been told as well."""
        items = [item(f"{number:016x}-{number}", f"e{number}") for number in range(1_000)]
        async with posting(slack) as bot:
            await bot.send(parcel(*items, more=1, counts={"Degraded": 1_001}))
            found = await bot.find(parcel(*items, more=1), LONG_AGO)
            grown = await bot.find(parcel(*items, more=2), LONG_AGO)
        assert found is not None
        assert found.told is None
        assert grown is not None
        assert grown.told == told(*(one.delivery_id for one in items))

    async def test_only_what_is_recent(self, slack: StandInSlackApi) -> None:
        """Messages from before the attempt are not looked at, but clocks may differ by a minute."""
        async with posting(slack) as bot:
            message = await opened(bot, "1")
            at = datetime.fromtimestamp(float(message.ts), UTC)
            assert await bot.find(parcel(item("1")), at + timedelta(seconds=55)) is not None
            assert await bot.find(parcel(item("1")), at + timedelta(seconds=65)) is None

    async def test_page_by_page(self, slack: StandInSlackApi) -> None:
        """A thousand messages are looked through in five pages, and no more."""
        async with posting(slack, digest_after=1) as bot:
            await opened(bot, "1")
            posted = slack.channel("oncall").posted
            (mine,) = posted
            others = [{**mine, "metadata": {}, "ts": f"{float(mine['ts']) + n:.6f}"} for n in range(1, 1_001)]
            posted += others[:999]
            assert await bot.find(parcel(item("1")), LONG_AGO) is not None
            assert len([method for method, _ in slack.calls if method == HISTORY]) == 5
            posted += others[999:]
            assert await bot.find(parcel(item("1")), LONG_AGO) is None

    async def test_a_channel_that_is_known_by_its_name(self, slack: StandInSlackApi) -> None:
        """Its ID is looked up among all, page by page, once."""
        for number in range(1_500):
            slack.add(f"c{number}")
        async with posting(slack) as bot:
            await opened(bot, "1")
        slack.channels = dict(sorted(slack.channels.items(), key=lambda one: one[1].name))  # #oncall is last
        slack.calls.clear()
        async with posting(slack) as bot:
            for _ in range(2):
                assert await bot.find(parcel(item("1")), LONG_AGO) is not None
        assert [method for method, _ in slack.calls] == [LIST, LIST, HISTORY, HISTORY]

    async def test_a_private_channel_by_its_name(self, slack: StandInSlackApi) -> None:
        """Without the scope for the public ones too."""
        slack.add("secret", private=True)
        async with posting(slack, "secret") as bot:
            await opened(bot, "1")
        slack.scopes = SCOPES - {"channels:read"}
        async with posting(slack, "secret") as bot:
            assert await bot.find(parcel(item("1")), LONG_AGO) is not None

    async def test_what_is_known_already_is_not_looked_up(self, slack: StandInSlackApi) -> None:
        """The ID is that of the configuration, of an earlier message, or of the incident's message."""
        async with posting(slack) as bot:
            parent = await opened(bot, "1")
            assert await bot.find(parcel(item("1")), LONG_AGO) is not None
        async with posting(slack, parent.channel) as bot:
            assert await bot.find(parcel(item("1")), LONG_AGO) is not None
        async with posting(slack) as bot:
            assert await bot.find(parcel(reply("1", parent)), LONG_AGO) is not None
            await bot.send(parcel(item("2")))
        assert LIST not in {method for method, _ in slack.calls}

    @pytest.mark.parametrize("lacking", ["channels:history", "channels:read", "groups:read"])
    async def test_without_the_scope(self, slack: StandInSlackApi, lacking: str) -> None:
        """Nothing is found, and it is said once what that means and what is missing."""
        slack.scopes = SCOPES - {lacking}
        name = "elsewhere" if lacking.endswith(":read") else "oncall"
        async with posting(slack, name) as bot:
            with capture_logs() as logs:
                for _ in range(2):
                    assert await bot.find(parcel(item("1")), LONG_AGO) is None
        (line,) = logs
        assert line["event"] == "cannot read the channel: an alert may be told twice"
        assert f"add {lacking} to" in line["reason"]

    async def test_outside_of_the_channel(self, slack: StandInSlackApi) -> None:
        """An app may post to a public channel that it is not in, but not read it."""
        slack.channel("oncall").member = False
        async with posting(slack) as bot:
            await opened(bot, "1")
            with capture_logs() as logs:
                assert await bot.find(parcel(item("1")), LONG_AGO) is None
        assert "/invite" in logs[0]["reason"]

    async def test_a_channel_that_is_not_there(self, slack: StandInSlackApi) -> None:
        """Then the next message will say so."""
        async with posting(slack, "nowhere") as bot:
            assert await bot.find(parcel(item("1")), LONG_AGO) is None

    @pytest.mark.parametrize("method", [HISTORY, REPLIES, LIST])
    async def test_not_now(self, slack: StandInSlackApi, method: str) -> None:
        """What cannot be asked now must not be told twice: it is asked again later."""
        async with posting(slack) as bot:
            parent = await opened(bot)
        slack.answers[method].append(JSONResponse({"error": "ratelimited"}, 429, {"Retry-After": "30"}))
        what = parcel(item("1") if method == LIST else reply("1", parent))
        async with posting(slack) as bot:
            with pytest.raises(DeliveryFailed) as failed:
                await bot.find(what, LONG_AGO)
        assert failed.value.scope is Scope.TRANSIENT
        assert failed.value.retry_after == timedelta(seconds=30)

    @pytest.mark.parametrize(
        "metadata",
        [
            {"event_type": "somebody_elses", "event_payload": {"deliveries": ["1"]}},
            {"event_type": "port_alert"},
            {"event_type": "port_alert", "event_payload": {"deliveries": "1"}},
            {"event_type": "port_alert", "event_payload": {"deliveries": ["10"]}},
            None,
        ],
    )
    async def test_other_messages(self, slack: StandInSlackApi, metadata: dict[str, Any] | None) -> None:
        """What others post, or what we do not understand, is nothing."""
        async with posting(slack) as bot:
            await opened(bot, "1")
            slack.channel("oncall").posted[0]["metadata"] = metadata
            slack.channel("oncall").posted.append({"ts": "1999999999.000000", "subtype": "channel_join"})
            assert await bot.find(parcel(item("1")), LONG_AGO) is None


class TestUpdate:
    """A message that says how its incidents are now."""

    async def test_one_incident(self, slack: StandInSlackApi) -> None:
        """It is told as it is now, in green when it is over, and can still be found."""
        async with posting(slack) as bot:
            message = await opened(bot, "1")
            assert await bot.update(message, [Story(notification(), resolved())]) == "ok"
            assert await bot.find(parcel(item("1")), LONG_AGO) is not None
        (now,) = slack.messages("oncall")
        assert now["ts"] == message.ts
        assert now["text"] == payload(resolved(), APP)["text"]
        assert now["attachments"][0]["color"] == RESOLVED_COLOR
        assert "🟢 Healthy → 🟠 Degraded → 🟢 *Healthy*" in shown(now)

    async def test_several_incidents(self, slack: StandInSlackApi) -> None:
        """A digest keeps its lines."""
        stories = [Story(notification(), resolved()), Story(notification("search"), notification("search"))]
        async with posting(slack) as bot:
            sent = await bot.send(parcel(item("1"), item("2", "search")))
            assert sent.message is not None
            await bot.update(sent.message, stories)
        (now,) = slack.messages("oncall")
        assert now["attachments"][0]["color"] == COLORS["warning"]
        assert "🟢 Healthy" in shown(now)
        assert "Search" in shown(now)

    async def test_a_message_that_is_gone(self, slack: StandInSlackApi) -> None:
        """Somebody deleted it."""
        async with posting(slack) as bot:
            message = await opened(bot)
            slack.delete("oncall", message.ts)
            with pytest.raises(MessageGone):
                await bot.update(message, [Story(notification(), resolved())])

    @pytest.mark.parametrize(
        ("error", "scope"),
        [
            ("cant_update_message", Scope.MESSAGE),
            ("edit_window_closed", Scope.MESSAGE),
            ("is_inactive", Scope.MESSAGE),
            ("channel_not_found", Scope.MESSAGE),
            ("invalid_blocks", Scope.MESSAGE),
            ("token_revoked", Scope.DESTINATION),
            ("update_failed", Scope.TRANSIENT),
            ("ratelimited", Scope.TRANSIENT),
        ],
    )
    async def test_a_change_that_is_refused(self, slack: StandInSlackApi, error: str, scope: Scope) -> None:
        """What concerns only this message must not hold up the others."""
        slack.refuse(UPDATE, error)
        async with posting(slack) as bot:
            message = await opened(bot)
            with pytest.raises(DeliveryFailed) as failed:
                await bot.update(message, [Story(notification(), resolved())])
        assert failed.value.scope is scope
        assert not isinstance(failed.value, MessageGone)
