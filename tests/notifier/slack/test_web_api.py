"""Slack's Web API: what each answer means, and what can happen on the way."""

import asyncio
import logging
import socket
from datetime import timedelta
from typing import Any

import pytest
from starlette.responses import JSONResponse, PlainTextResponse, Response

from app.errors import DeliveryFailed, Scope
from app.model.notification import Message
from app.notifier.base import Sent, Story
from app.notifier.slack.bot import SlackBot
from app.notifier.slack.web_api import CHANNEL_HISTORY, POST_MESSAGE, UPDATE_MESSAGE
from tests.notifier.slack.bots import LONG_AGO, failure, opened, posting, secret_is_kept, told
from tests.notifier.slack.helpers import APP, item, notification, parcel, resolved
from tests.notifier.slack.stand_in_api import SCOPES, TOKEN, HangUp, StandInSlackApi

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
    "cant_update_message": Scope.STRANGE,  # nobody asked for that here
    "a_word_of_tomorrow": Scope.STRANGE,
}
"""What Slack answers with HTTP 200 and ``ok: false``, and whom that concerns."""

STRANGE = [
    (PlainTextResponse("", 200), Scope.STRANGE, True),
    (PlainTextResponse("ok", 200), Scope.STRANGE, True),
    (PlainTextResponse("<html>", 200, media_type="text/html"), Scope.STRANGE, True),
    (PlainTextResponse("{", 200, media_type="application/json"), Scope.STRANGE, True),
    (PlainTextResponse("{", 404, media_type="application/json"), Scope.DESTINATION, False),
    (JSONResponse([1]), Scope.STRANGE, True),
    (JSONResponse({}), Scope.STRANGE, True),
    (JSONResponse({"ok": False}), Scope.STRANGE, True),
    (JSONResponse({"ok": False, "error": 7}), Scope.STRANGE, True),
    (JSONResponse({"ok": True}, 201), Scope.STRANGE, True),
    (Response(b"\xff", 200, media_type="text/plain; charset=utf-8"), Scope.STRANGE, True),
    (Response(b"ok", 502, media_type="text/plain; charset=base64"), Scope.STRANGE, True),
    (Response(b"{}", 200, media_type="application/gzip"), Scope.STRANGE, True),
    (PlainTextResponse("Forbidden", 403), Scope.DESTINATION, False),
    (JSONResponse({"ok": False, "error": "invalid_auth"}, 401), Scope.DESTINATION, False),
    (JSONResponse({"ok": False, "error": "ratelimited"}, 429), Scope.TRANSIENT, False),
    (PlainTextResponse("", 429), Scope.TRANSIENT, False),
    (PlainTextResponse("", 500), Scope.TRANSIENT, True),
    (PlainTextResponse("<html>Bad Gateway</html>", 502), Scope.TRANSIENT, True),
    (JSONResponse({"ok": False, "error": "invalid_blocks"}, 503), Scope.TRANSIENT, True),
    (Response(b"", 307, {"location": "/api/elsewhere"}), Scope.STRANGE, False),
]
"""Other answers: whom they concern, and whether the message may have arrived."""


class TestAnswers:
    """What each answer means."""

    async def test_each_error_has_its_scope(self, api: StandInSlackApi) -> None:
        """The table holds over the wire; only what is refused for its form is sent twice."""
        seen: dict[str, Scope] = {}
        tries: dict[str, int] = {}
        async with posting(api) as bot:
            for error in TABLE:
                for _ in range(4):
                    api.refuse(POST_MESSAGE, error)
                seen[error] = (await failure(bot)).scope
                tries[error] = 4 - len(api.answers[POST_MESSAGE])
                api.answers.clear()
        assert seen == TABLE
        of_form = {error for error, scope in TABLE.items() if scope in {Scope.MESSAGE, Scope.STRANGE}}
        twice = of_form - {"thread_not_found"}
        assert {error for error, count in tries.items() if count == 2} == twice - {"invalid_metadata_schema"}
        assert tries["invalid_metadata_schema"] == 3  # without it, and then without the form
        assert api.messages("oncall") == []

    async def test_other_answers(self, api: StandInSlackApi) -> None:
        """A proxy's page or half an answer says nothing for sure."""
        heard = []
        async with posting(api) as bot:
            for answer, _, _ in STRANGE:
                api.answers[POST_MESSAGE].append(answer)
                failed = await failure(bot)
                heard.append((answer, failed.scope, failed.unsure))
                assert api.answers[POST_MESSAGE] == type(api.answers[POST_MESSAGE])()
        assert heard == STRANGE

    @pytest.mark.parametrize(
        ("error", "unsure"), [("internal_error", True), ("fatal_error", True), ("service_unavailable", False)]
    )
    async def test_what_may_have_succeeded(self, api: StandInSlackApi, error: str, unsure: bool) -> None:
        """Slack says of some errors that a part of the operation may have succeeded."""
        api.refuse(POST_MESSAGE, error)
        async with posting(api) as bot:
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
            ({"error": f"{TOKEN} of yours"}, "200: not an answer from Slack"),
            ({"error": "channel_not_found", "channel": TOKEN}, None),
        ],
    )
    async def test_the_reason_says_what_to_do(
        self, api: StandInSlackApi, answer: dict[str, str], reason: str | None
    ) -> None:
        """It is Slack's own word and our advice, and nothing else of the answer."""
        api.refuse(POST_MESSAGE, **answer)
        async with posting(api) as bot:
            failed = await failure(bot)
        assert TOKEN not in failed.reason
        if reason is not None:
            assert failed.reason == str(failed) == reason

    async def test_a_real_refusal(self, api: StandInSlackApi) -> None:
        """What is wrong with the app or the channel is the destination's affair."""
        api.add("closed", archived=True)
        api.add("secret", private=True, member=False)
        api.add("far", member=False)
        reasons = {}
        for channel in ("closed", "secret", "far", "nowhere"):
            api.scopes = SCOPES - {"chat:write.public"}
            async with posting(api, channel) as bot:
                failed = await failure(bot)
            assert failed.scope is Scope.DESTINATION
            reasons[channel] = failed.reason.partition(":")[0]
        assert reasons == {
            "closed": "is_archived",
            "secret": "channel_not_found",
            "far": "not_in_channel",
            "nowhere": "channel_not_found",
        }
        api.scopes = frozenset()
        async with posting(api) as bot:
            assert "add chat:write to" in (await failure(bot)).reason
        api.token = "xoxb-another"
        bot = SlackBot(TOKEN, "oncall", APP, api_url=api.url)
        assert (await failure(bot)).reason == "invalid_auth: set a valid bot token"
        await bot.close()

    @pytest.mark.parametrize("status", [200, 429, 503])
    async def test_retry_after(self, api: StandInSlackApi, status: int) -> None:
        """Slack says how long to wait; nonsense is as good as nothing."""
        asked = {"1": timedelta(seconds=1), "30.5": timedelta(seconds=30.5), "soon": None, "-1": None}
        for text in asked:
            body = {"ok": False, "error": "ratelimited"}
            api.answers[POST_MESSAGE].append(JSONResponse(body, status, {"Retry-After": text}))
        async with posting(api) as bot:
            heard = [(await failure(bot)).retry_after for _ in asked]
        assert heard == list(asked.values())

    async def test_one_message_a_second(self, api: StandInSlackApi) -> None:
        """A channel that is told too fast says so, and when to come again; others are not held up."""
        api.one_a_second = True
        api.add("other")
        async with posting(api) as bot, posting(api, "other") as other:
            await opened(bot)
            await opened(other)
            failed = await failure(bot)
        assert (failed.scope, failed.retry_after) == (Scope.TRANSIENT, timedelta(seconds=1))
        assert not failed.unsure
        assert api.refused == 1


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
        assert failed.reason == "no connection to 127.0.0.1 (ClientConnectorError)"
        assert not failed.unsure
        assert secret_is_kept(failed)

    async def test_stored_but_the_answer_never_arrives(self, api: StandInSlackApi) -> None:
        """The message may have arrived, and that is said; it can then be found."""

        async def hang_up(_: dict[str, Any]) -> Response:
            return HangUp()

        api.on_stored = hang_up
        async with posting(api) as bot:
            failed = await failure(bot)
            found = await bot.find(parcel(item("1")), LONG_AGO)
        assert (failed.scope, failed.unsure) == (Scope.TRANSIENT, True)
        assert failed.reason.endswith("it may have arrived")
        (message,) = api.messages("oncall")
        assert found == Sent(
            "found in the channel", told("1"), Message(api.channel("oncall").id, message["ts"])
        )

    @pytest.mark.parametrize(
        "answer",
        [
            b"",
            b"HTTP/1.1 200 OK\r\nContent-Len",
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{",
            b"SSH-2.0-x\r\n",
        ],
        ids=["nothing", "half a head", "half a body", "no HTTP"],
    )
    async def test_a_server_that_hangs_up(self, answer: bytes) -> None:
        """Nobody knows whether the message arrived, so it is not sent again before that was found out."""
        connections = []

        async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connections.append(writer)
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            writer.close()

        async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/api/"
            bot = SlackBot(TOKEN, "oncall", APP, api_url=url)
            failed = await failure(bot)
            await bot.close()
        assert (failed.scope, failed.unsure) == (Scope.TRANSIENT, True)
        assert secret_is_kept(failed)
        assert len(connections) == 1

    async def test_no_answer_in_time(self, api: StandInSlackApi) -> None:
        """After its time a request ends, and it may have arrived; the next one goes out as usual."""
        released = asyncio.Event()

        async def hang() -> Response:
            await released.wait()
            return PlainTextResponse("too late")

        api.answers[POST_MESSAGE].append(hang)
        async with posting(api, answer_within=timedelta(seconds=0.3)) as bot:
            failed = await failure(bot)
            released.set()
            assert (failed.scope, failed.unsure) == (Scope.TRANSIENT, True)
            assert failed.reason == "no answer of 127.0.0.1 in time; it may have arrived"
            await opened(bot)

    async def test_who_reads_is_never_unsure(self, api: StandInSlackApi) -> None:
        """Only a message that is posted can have arrived."""
        for method in (CHANNEL_HISTORY, UPDATE_MESSAGE):
            api.answers[method].append(PlainTextResponse("", 502))
        async with posting(api) as bot:
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

    async def test_secrets_are_kept(self, api: StandInSlackApi, caplog: pytest.LogCaptureFixture) -> None:
        """No error and no log record, at any level, has the token or the message in it."""
        for name in (None, "aiohttp", "asyncio", "slack_sdk", "slack_sdk.web"):
            caplog.set_level(logging.DEBUG, logger=name)
        secret = {"ok": False, "echo": f"{TOKEN} Checkout"}
        for error in ("invalid_auth", "internal_error", "a_new_word", "a_new_word", "ratelimited"):
            api.answers[POST_MESSAGE].append(JSONResponse({**secret, "error": error}))
        api.answers[POST_MESSAGE].append(
            PlainTextResponse(f"{TOKEN} Checkout", media_type="application/json")
        )
        async with posting(api) as bot:
            failures = [await failure(bot) for _ in range(5)]
            await opened(bot)
        assert all(map(secret_is_kept, failures))
        assert caplog.records
        for record in caplog.records:
            if record.name.startswith("uvicorn"):
                continue  # the stand-in's own
            assert TOKEN not in f"{record.getMessage()} {vars(record)}"
            assert "Checkout" not in f"{record.getMessage()} {vars(record)}"
