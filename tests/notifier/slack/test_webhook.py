"""Slack, by its incoming webhook: what each answer means."""

import asyncio
import logging
import socket
import traceback
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from slack_sdk.webhook import WebhookResponse
from starlette.responses import PlainTextResponse, Response

from app.demo.stand_in_slack import StandInSlack
from app.errors import DeliveryFailed, Scope
from app.notifier.base import Item, Parcel, Sent
from app.notifier.slack.alert import alert_message
from app.notifier.slack.compose import NO_PREVIEWS
from app.notifier.slack.webhook import SlackWebhook, raise_for_answer
from tests.notifier.helpers import APP, NOW, notification

SECRET_PART = "very-secret-token"


def parcel(**facts: Any) -> Parcel:
    """Return one alert on its way, that differs from the usual one in `facts`."""
    return Parcel((Item("1", notification(**facts)),))


TABLE = {
    (200, "ok"): None,
    (200, "ok\n"): None,
    (400, "invalid_payload"): Scope.MESSAGE,
    (400, "no_text"): Scope.MESSAGE,
    (400, "too_many_attachments"): Scope.MESSAGE,
    (400, "invalid_blocks"): Scope.MESSAGE,
    (400, "invalid_blocks: [ERROR] no more than 50 items"): Scope.MESSAGE,
    (400, "user_not_found"): Scope.MESSAGE,
    (400, "<html>Bad Request</html>"): Scope.MESSAGE,
    (403, "action_prohibited"): Scope.DESTINATION,
    (403, "posting_to_general_channel_denied"): Scope.DESTINATION,
    (403, "invalid_token"): Scope.DESTINATION,
    (403, "no_text"): Scope.MESSAGE,
    (404, "channel_not_found"): Scope.DESTINATION,
    (404, "no_service"): Scope.DESTINATION,
    (404, "no_service_id"): Scope.DESTINATION,
    (404, "no_active_hooks"): Scope.DESTINATION,
    (404, "no_team"): Scope.DESTINATION,
    (404, ""): Scope.DESTINATION,
    (410, "channel_is_archived"): Scope.DESTINATION,
    (400, "invalid_token"): Scope.DESTINATION,
    (400, "team_disabled"): Scope.DESTINATION,
    (200, "invalid_token"): Scope.DESTINATION,
    (200, ""): Scope.STRANGE,
    (200, "OK"): Scope.STRANGE,
    (200, "<html>Welcome to the hotel's network</html>"): Scope.STRANGE,
    (200, '{"ok": true}'): Scope.STRANGE,
    (201, "ok"): Scope.STRANGE,
    (304, ""): Scope.STRANGE,
    (408, ""): Scope.TRANSIENT,
    (429, ""): Scope.TRANSIENT,
    (429, "invalid_payload"): Scope.TRANSIENT,
    (500, "rollup_error"): Scope.TRANSIENT,
    (500, "no_text"): Scope.TRANSIENT,
    (502, "<html>Bad Gateway</html>"): Scope.TRANSIENT,
    (503, "channel_not_found"): Scope.TRANSIENT,
}
"""What Slack and what stands before it answers, and whom that concerns; None: delivered."""


@asynccontextmanager
async def notifying(url: str, **options: Any) -> AsyncIterator[SlackWebhook]:
    """Yield a notifier for a webhook, and close it."""
    notifier = SlackWebhook(url, APP, **options)
    try:
        yield notifier
    finally:
        await notifier.close()


async def failure(notifier: SlackWebhook) -> DeliveryFailed:
    """Send, and return the failure that comes of it."""
    with pytest.raises(DeliveryFailed) as failed:
        await notifier.send(parcel())
    return failed.value


def _secret_is_kept(error: BaseException) -> bool:
    return SECRET_PART not in "".join(traceback.format_exception(error))


class TestSend:
    """What each answer means."""

    async def test_a_message_arrives(self, slack: StandInSlack) -> None:
        """Slack gets the payload as it is, and looks at no link in it; the connection serves again."""
        async with notifying(slack.url) as notifier:
            for _ in range(2):
                assert await notifier.send(parcel()) == Sent("ok", delivered=frozenset({"1"}))
        assert slack.messages == [NO_PREVIEWS | alert_message(notification(), APP)] * 2

    async def test_each_answer_has_its_scope(self, slack: StandInSlack) -> None:
        """The table holds over the wire; what Slack refuses for its form is sent in three."""
        seen: dict[tuple[int, str], Scope | None] = {}
        tries: dict[tuple[int, str], int] = {}
        async with notifying(slack.url) as notifier:
            for status, body in TABLE:
                slack.answers.extend([PlainTextResponse(body, status) for _ in range(3)])
                try:
                    await notifier.send(parcel())
                    seen[status, body] = None
                except DeliveryFailed as failed:
                    seen[status, body] = failed.scope
                tries[status, body] = 3 - len(slack.answers)
                slack.answers.clear()
        assert seen == TABLE
        assert tries == {answer: 3 if scope is Scope.MESSAGE else 1 for answer, scope in TABLE.items()}
        assert slack.messages == []

    @pytest.mark.parametrize(
        ("status", "body", "reason"),
        [
            (403, "action_prohibited", "403 action_prohibited"),
            (400, "invalid_blocks: details of the message", "400 invalid_blocks"),
            (502, f"<html>{SECRET_PART}</html>", "502"),
            (200, "", "200: not an answer from Slack"),
            (404, None, "404"),
        ],
    )
    def test_the_reason_is_what_slack_called_it(self, status: int, body: str | None, reason: str) -> None:
        """The reason is Slack's own word; what else a proxy writes is left out."""
        response = WebhookResponse(url=SECRET_PART, status_code=status, body=body or "", headers={})
        with pytest.raises(DeliveryFailed) as failed:
            raise_for_answer(response, NOW)
        assert failed.value.reason == str(failed.value) == reason

    @pytest.mark.parametrize(
        "answer",
        [
            Response(b"\xff", 502, media_type="text/plain; charset=utf-8"),
            Response(b"ok", 502, media_type="text/plain; charset=base64"),
            Response(b"", 307, {"location": "/services/elsewhere"}),
        ],
    )
    async def test_an_answer_that_is_not_slacks(self, slack: StandInSlack, answer: Response) -> None:
        """Bytes that are no text, and a redirect, which is not followed, are not Slack's."""
        slack.answers.append(answer)
        async with notifying(slack.url) as notifier:
            with pytest.raises(DeliveryFailed) as failed:
                await notifier.send(parcel())
        assert failed.value.scope is Scope.STRANGE
        assert slack.answers == deque()
        assert slack.messages == []

    @pytest.mark.parametrize("status", [429, 503])
    async def test_retry_after(self, slack: StandInSlack, status: int) -> None:
        """Whole seconds, parts of them and dates count; nonsense is as good as nothing."""
        asked = {
            "1": timedelta(seconds=1),
            "1.5": timedelta(seconds=1.5),
            "0": timedelta(0),
            "3600": timedelta(hours=1),
            "Tue, 09 Jun 2026 13:18:20 GMT": timedelta(minutes=50),
            **dict.fromkeys(("", "soon", "-1", "nan", "inf", "1e300")),
        }
        answers = [Response(status_code=status, headers={"Retry-After": text}) for text in asked]
        slack.answers.extend([*answers, Response(status_code=status)])
        async with notifying(slack.url, clock=lambda: NOW) as notifier:
            heard = [(await failure(notifier)).retry_after for _ in (*asked, None)]
        assert heard == [*asked.values(), None]

    async def test_a_refused_form_is_tried_in_simpler_ones(self, slack: StandInSlack) -> None:
        """First without the buttons, whose addresses the catalog gave; then the text alone. It says why."""
        full = alert_message(notification(), APP)
        details = []
        async with notifying(slack.url) as notifier:
            for refusals in (1, 2):
                slack.answers.extend(PlainTextResponse("invalid_blocks", 400) for _ in range(refusals))
                details.append((await notifier.send(parcel())).detail)
        assert details == [
            f"ok, {how}, because Slack answered 400 invalid_blocks"
            for how in ("without its links", "as plain text")
        ]
        assert [block["type"] for block in full["blocks"]] == ["section", "context", "actions"]
        simpler = [full | {"blocks": full["blocks"][:2]}, {"text": full["text"]}]
        assert slack.messages == [NO_PREVIEWS | message for message in simpler]

    async def test_the_second_try_may_fail_otherwise(self, slack: StandInSlack) -> None:
        """What Slack answers to the plain text is what counts then."""
        slack.answers.extend([PlainTextResponse("invalid_blocks", 400), PlainTextResponse("", 429)])
        async with notifying(slack.url) as notifier:
            assert (await failure(notifier)).scope is Scope.TRANSIENT

    async def test_no_connection(self) -> None:
        """Where nobody listens, the queue waits; the reason names the error but not the address."""
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            port = closed.getsockname()[1]
        async with notifying(f"http://127.0.0.1:{port}/services/{SECRET_PART}") as notifier:
            failed = await failure(notifier)
        assert failed.scope is Scope.TRANSIENT
        assert failed.reason == "no connection to 127.0.0.1 (ClientConnectorError)"
        assert _secret_is_kept(failed)

    @pytest.mark.parametrize(
        "answer",
        [
            b"",
            b"HTTP/1.1 200 OK\r\nContent-Len",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no",
            b"SSH-2.0-x\r\n",
        ],
        ids=["nothing", "half a head", "half a body", "no HTTP"],
    )
    async def test_a_server_that_hangs_up(self, answer: bytes) -> None:
        """Whether the message arrived is not known; when to try again is for the queue to say."""

        connections = []

        async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connections.append(writer)
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            writer.close()

        async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with notifying(f"http://127.0.0.1:{port}/services/{SECRET_PART}") as notifier:
                failed = await failure(notifier)
        assert failed.scope is Scope.TRANSIENT
        assert _secret_is_kept(failed)
        assert len(connections) == 1

    async def test_a_hang_can_be_ended(self, slack: StandInSlack) -> None:
        """Who sends may stop waiting at any time; the next message goes out as if nothing had been."""
        asked, released = asyncio.Event(), asyncio.Event()

        async def hang() -> Response:
            asked.set()
            await released.wait()
            return PlainTextResponse("too late")

        slack.answers.append(hang)
        async with notifying(slack.url) as notifier:
            sending = asyncio.create_task(notifier.send(parcel()))
            await asked.wait()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await sending
            assert sending.cancelled()
            released.set()
            assert await notifier.send(parcel()) == Sent("ok", delivered=frozenset({"1"}))
        assert len(slack.messages) == 1

    async def test_close_is_for_ever_and_for_nothing(self, slack: StandInSlack) -> None:
        """Closing before the first message and twice does no harm, and a message after it opens anew."""
        async with notifying(slack.url) as notifier:
            await notifier.close()
            await notifier.send(parcel())
            await notifier.close()
            await notifier.send(parcel())
        assert len(slack.messages) == 2

    async def test_the_address_is_kept_secret(
        self, slack: StandInSlack, caplog: pytest.LogCaptureFixture
    ) -> None:
        """No error and no log record, at any level, has the webhook's address or the message in it."""
        for name in (None, "aiohttp", "asyncio", "slack_sdk", "slack_sdk.webhook"):
            caplog.set_level(logging.DEBUG, logger=name)
        answers = [
            (400, "invalid_blocks"),
            (400, "no_text"),
            (400, "no_text"),
            (403, "invalid_token"),
            (429, ""),
            (500, "rollup_error"),
        ]
        slack.answers.extend(PlainTextResponse(body, status) for status, body in answers)
        async with notifying(slack.url) as notifier:
            failures = [await failure(notifier) for _ in answers[2:]]
            await notifier.send(parcel())
        assert all(map(_secret_is_kept, failures))
        for record in caplog.records:
            if record.name.startswith("uvicorn"):
                continue  # the stand-in's own
            assert SECRET_PART not in f"{record.getMessage()} {vars(record)}"
            assert "Notification Service" not in f"{record.getMessage()} {vars(record)}"
