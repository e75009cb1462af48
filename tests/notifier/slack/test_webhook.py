"""Slack: what a message says, its sizes, and what each answer means."""

import asyncio
import logging
import socket
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slack_sdk.webhook import WebhookResponse
from starlette.responses import PlainTextResponse, Response

from app.demo.stand_in_slack import StandInSlack
from app.errors import DeliveryFailed, Scope
from app.model.change import CatalogChange, EntitySnapshot
from app.model.diff import diff
from app.model.incident import Step
from app.model.notification import Link, Notification, ValueChange
from app.notifier.base import Item, Parcel, Sent
from app.notifier.slack.message import NOTICE_MARK, escape, payload
from app.notifier.slack.webhook import SlackNotifier, raise_for_answer
from tests.notifier.slack.limits import assert_no_markup_of_others, assert_valid, shown

APP = "https://app.port.io"
MENTIONS = ("<!here>", "<!subteam^S1>")
NOW = datetime(2026, 6, 9, 12, 28, 20, tzinfo=UTC)
SECRET_PART = "very-secret-token"
LINKS = {
    "newRelicUrl": "https://newrelic.com",
    "sentryUrl": "https://sentry.io/",
    "prometheusUrl": "https://prometheus.io",
}


def notification(**facts: Any) -> Notification:
    """Return a notification that differs from the usual one in `facts`."""
    usual: dict[str, Any] = {
        "step": Step.OPENED,
        "rule": "health",
        "blueprint": "deploymentConfig",
        "entity": "notification-service-prod",
        "title": "Notification Service",
        "teams": ("Rocket",),
        "change": ValueChange(name="healthStatus", before="Healthy", after="Degraded"),
        "links": tuple(Link(name=name, url=url) for name, url in LINKS.items()),
        "actor": "ada@example.com",
        "origin": "UI",
        "at": NOW,
    }
    return Notification(**(usual | facts))


def parcel(**facts: Any) -> Parcel:
    """Return one alert on its way, that differs from the usual one in `facts`."""
    return Parcel((Item("1", notification(**facts)),))


def message(**facts: Any) -> dict[str, Any]:
    """Return the message for a notification that differs from the usual one in `facts`, its form checked."""
    made = payload(notification(**facts), APP)
    assert_valid(made, mentions=MENTIONS)
    return made


def lines(**facts: Any) -> list[str]:
    """Return the lines of the message's blocks."""
    return shown(message(**facts)).splitlines()


def told_of(text: str, *, count: int, url_length: int = 20) -> Notification:
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
        assert made["text"] == "🟠 Notification Service: healthStatus Healthy → Degraded"
        assert [block["type"] for block in made["blocks"]] == ["section", "context", "actions"]
        url = "https://app.port.io/deploymentConfigEntity?identifier=notification-service-prod"
        date = f"<!date^{int(NOW.timestamp())}^{{date_num}} {{time_secs}}|2026-06-09 12:28:20 UTC>"
        where = "deploymentConfig `notification-service-prod`"
        assert shown(made).splitlines() == [
            f"*<{url}|Notification Service>*",
            "healthStatus: 🟢 Healthy → 🟠 *Degraded*",
            f"By ada@example.com via UI  |  {date}  |  Team Rocket  |  {where}",
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
            ("Healthy", "On fire", "🟢 Healthy → ⚪ *On fire*"),
            (None, "Healthy", "none → 🟢 *Healthy*"),
            (25, 91.0, "25 → *91*"),
            (True, None, "true → *none*"),
        ],
    )
    def test_values_have_marks(self, before: Any, after: Any, line: str) -> None:
        """Each status of the blueprint has its colour, other texts a neutral one, numbers none."""
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
                "Got worse; open for 40 s",
            ),
            ({"step": Step.CHANGED, "worse": True}, "Got worse"),
            (
                {"step": Step.FLAPPING, "moves": 4, "window": timedelta(minutes=10), "opened_at": NOW},
                "Flaps: 4 changes in 10 min; quiet until it has been stable for that long",
            ),
            ({"step": Step.FLAPPING, "moves": 4}, "Flaps: 4 changes; quiet until it is stable"),
            (
                {"step": Step.SETTLED, "moves": 4, "window": timedelta(minutes=10), "opened_at": NOW},
                "Stable for 10 min",
            ),
            ({"step": Step.SETTLED}, "Stable again"),
            ({"late": True}, "Late: a newer change of this entity was seen before this one."),
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
            (Step.FLAPPING, True, "🚨 🔴"),
        ],
    )
    def test_what_is_over_is_green(self, step: Step, ended: bool, marks: str) -> None:
        """A critical alert is marked as one until its incident is over; one that flaps is not over."""
        change = ValueChange(name="cpu", before=91, after=12)
        made = message(step=step, ended=ended, change=change, severity="critical")
        urgent, mark = marks.split(" ")
        assert made["text"].startswith(f"{mark} Notification Service")
        assert shown(made).startswith(f"{urgent} *<" if urgent else "*<")

    @pytest.mark.parametrize("mention", MENTIONS)
    def test_whom_the_rule_calls(self, mention: str) -> None:
        """The mention stands in front of the headline and of the text, whatever the message is about."""
        for facts in ({}, {"severity": "critical"}, {"change": None}, {"step": Step.REMINDED}):
            made, plain = message(mention=mention, **facts), message(**facts)
            assert made["text"] == f"{mention} {plain['text']}"
            assert shown(made) == f"{mention} {shown(plain)}"

    def test_a_notice_is_only_its_text(self) -> None:
        """The listener's own words stand by themselves, and are escaped all the same."""
        made = payload(Notification.notice("Slack refused\n<!channel> & more", NOW), APP)
        assert_valid(made)
        text = f"{NOTICE_MARK} Slack refused &lt;!channel&gt; &amp; more"
        assert made["text"] == shown(made) == text
        assert [block["type"] for block in made["blocks"]] == ["section"]
        assert_valid(payload(Notification.notice("<" * 9_000, NOW), APP))
        called = Notification.notice("x", NOW).model_copy(update={"mention": "<!here>"})
        assert payload(called, APP)["text"] == f"<!here> {NOTICE_MARK} x"

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
        assert lines(entity="x" * 2_000)[0] == "*Notification Service*"

    @pytest.mark.parametrize("letter", ["x", "é", "🚀", "<", "&", "%", "|", "*", "\u200b", '"', "\\"])
    def test_the_largest_message(self, letter: str) -> None:
        """Everything at its longest at once is within Slack's limits, and shows that it was cut."""
        made = payload(told_of(letter * 3_000, count=3_000, url_length=400), APP)
        assert_valid(made)
        assert made["text"].count("…") == 3

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
        told = told_of(f"<!channel> & <b>\x1b\x00{body}", count=count, url_length=url_length)
        made = payload(told, APP)
        assert_valid(made)


@given(st.text(st.sampled_from("&<>;ampltg \n\x00é")), st.integers(1, 30))
def test_escaped_text_is_bounded_and_whole(text: str, limit: int) -> None:
    """It keeps within the limit, and no escape is cut in half."""
    escaped = escape(text, limit)
    assert len(escaped) <= limit
    assert_no_markup_of_others({"text": escaped})


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
    (200, ""): Scope.TRANSIENT,
    (200, "OK"): Scope.TRANSIENT,
    (200, "<html>Welcome to the hotel's network</html>"): Scope.TRANSIENT,
    (200, '{"ok": true}'): Scope.TRANSIENT,
    (201, "ok"): Scope.TRANSIENT,
    (304, ""): Scope.TRANSIENT,
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
async def notifying(url: str) -> AsyncIterator[SlackNotifier]:
    """Yield a notifier for a webhook, and close it."""
    notifier = SlackNotifier(url, APP)
    try:
        yield notifier
    finally:
        await notifier.close()


async def failure(notifier: SlackNotifier) -> DeliveryFailed:
    """Send, and return the failure that comes of it."""
    with pytest.raises(DeliveryFailed) as failed:
        await notifier.send(parcel())
    return failed.value


def _secret_is_kept(error: BaseException) -> bool:
    return SECRET_PART not in "".join(traceback.format_exception(error))


class TestSend:
    """What each answer means."""

    async def test_a_message_arrives(self, slack: StandInSlack) -> None:
        """Slack gets the payload as it is, and its ok is the answer; the connection serves again."""
        async with notifying(slack.url) as notifier:
            for _ in range(2):
                assert await notifier.send(parcel()) == Sent("ok", told=frozenset({"1"}))
        assert slack.messages == [message(), message()]

    async def test_each_answer_has_its_scope(self, slack: StandInSlack) -> None:
        """The table holds over the wire; what is refused for its form is sent twice, the rest once."""
        seen: dict[tuple[int, str], Scope | None] = {}
        tries: dict[tuple[int, str], int] = {}
        async with notifying(slack.url) as notifier:
            for status, body in TABLE:
                slack.answers.extend([PlainTextResponse(body, status), PlainTextResponse(body, status)])
                try:
                    await notifier.send(parcel())
                    seen[status, body] = None
                except DeliveryFailed as failed:
                    seen[status, body] = failed.scope
                tries[status, body] = 2 - len(slack.answers)
                slack.answers.clear()
        assert seen == TABLE
        assert tries == {answer: 2 if scope is Scope.MESSAGE else 1 for answer, scope in TABLE.items()}
        assert slack.messages == []

    @pytest.mark.parametrize(
        ("status", "body", "reason"),
        [
            (403, "action_prohibited", "403 action_prohibited"),
            (400, "invalid_blocks: details of the message", "400 invalid_blocks"),
            (502, f"<html>{SECRET_PART}</html>", "502"),
            (200, "", "200: not an answer of Slack's"),
            (404, None, "404"),
        ],
    )
    def test_the_reason_is_what_slack_called_it(self, status: int, body: str | None, reason: str) -> None:
        """The reason is Slack's own word; what else a proxy writes is left out."""
        response = WebhookResponse(url=SECRET_PART, status_code=status, body=body or "", headers={})
        with pytest.raises(DeliveryFailed) as failed:
            raise_for_answer(response)
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
        """Bytes that are no text, and a redirect, which is not followed, are tried again later."""
        slack.answers.append(answer)
        async with notifying(slack.url) as notifier:
            with pytest.raises(DeliveryFailed) as failed:
                await notifier.send(parcel())
        assert failed.value.scope is Scope.TRANSIENT
        assert slack.messages == []

    @pytest.mark.parametrize("status", [429, 503])
    async def test_retry_after(self, slack: StandInSlack, status: int) -> None:
        """Whole seconds and parts of them count; nonsense is as good as nothing."""
        asked = {
            "1": timedelta(seconds=1),
            "1.5": timedelta(seconds=1.5),
            "0": timedelta(0),
            "3600": timedelta(hours=1),
            **dict.fromkeys(("", "soon", "-1", "nan", "inf", "1e300", "Wed, 21 Oct 2026 07:28:00 GMT")),
        }
        answers = [Response(status_code=status, headers={"Retry-After": text}) for text in asked]
        slack.answers.extend([*answers, Response(status_code=status)])
        async with notifying(slack.url) as notifier:
            heard = [(await failure(notifier)).retry_after for _ in (*asked, None)]
        assert heard == [*asked.values(), None]

    async def test_a_refused_form_is_tried_as_plain_text(self, slack: StandInSlack) -> None:
        """Better an alert without form than none: the second try is the text alone, and says why."""
        slack.answers.append(PlainTextResponse("invalid_blocks", 400))
        async with notifying(slack.url) as notifier:
            answer = await notifier.send(parcel())
        assert answer.detail == "ok, as plain text, because Slack answered 400 invalid_blocks"
        assert slack.messages == [{"text": message()["text"]}]

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
        assert failed.reason.startswith("no connection (Client")
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
            assert await notifier.send(parcel()) == Sent("ok", told=frozenset({"1"}))
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
            (403, "invalid_token"),
            (429, ""),
            (500, "rollup_error"),
        ]
        slack.answers.extend(PlainTextResponse(body, status) for status, body in answers)
        async with notifying(slack.url) as notifier:
            failures = [await failure(notifier) for _ in answers[1:]]
            await notifier.send(parcel())
        assert all(map(_secret_is_kept, failures))
        for record in caplog.records:
            if record.name.startswith("uvicorn"):
                continue  # the stand-in's own
            assert SECRET_PART not in f"{record.getMessage()} {vars(record)}"
            assert "Notification Service" not in f"{record.getMessage()} {vars(record)}"
