"""HTTP destinations: what is sent, what each answer means, and what is refused."""

import asyncio
import json
import logging
import re
import socket
import traceback
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import SecretStr
from standardwebhooks import Webhook, WebhookVerificationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from app.demo.run import serving
from app.errors import DeliveryFailed, Scope, SettingsError
from app.model.incident import Step
from app.model.notification import ValueChange
from app.model.times import clock_ahead, parse_retry_after
from app.notifier.base import Item, Parcel
from app.notifier.http.destination import HttpDestination
from app.notifier.http.notifier import HttpNotifier
from tests.notifier.helpers import APP, EVENT, LINKS, context, notification
from tests.notifier.http.stand_in_resolver import StandInResolver
from tests.private_ca import private_tls

ROOT = Path(__file__).parents[3]
ALERT_SCHEMA = json.loads((ROOT / "docs/alert.schema.json").read_text(encoding="utf-8"))
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SECRET_PART = "very-secret-token"
OPTIONS = frozenset({"resolver", "connect_within", "answer_within", "text_within"})
PROPERTIES = ".diff.after.properties"


class Jobs:
    """A stand-in for whatever runs jobs: keeps what it is sent, and answers 202 or what it is told to."""

    def __init__(self) -> None:
        self.url = ""
        self.answers: deque[Response | Callable[[Request], Awaitable[Response]]] = deque()
        self.requests: list[Request] = []
        self.bodies: list[bytes] = []
        methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
        self.app = Starlette(routes=[Route("/{path:path}", self._answer, methods=methods)])

    @property
    def port(self) -> str:
        return self.url.rpartition(":")[2]

    async def _answer(self, request: Request) -> Response:
        self.bodies.append(await request.body())
        self.requests.append(request)
        answer = self.answers.popleft() if self.answers else PlainTextResponse("job 4711 queued\n", 202)
        return answer if isinstance(answer, Response) else await answer(request)


@pytest.fixture
async def jobs() -> AsyncIterator[Jobs]:
    """A stand-in on loopback."""
    stand_in = Jobs()
    async with serving(stand_in.app) as stand_in.url:
        yield stand_in


@asynccontextmanager
async def notifying(url: str, **more: Any) -> AsyncIterator[HttpNotifier]:
    """Yield a notifier that may call loopback and differs from the usual one in `more`, and close it."""
    options = {name: more.pop(name) for name in OPTIONS & more.keys()}
    notifier = _make(url, options, **({"allow_private": True} | more))
    try:
        yield notifier
    finally:
        await notifier.close()


def _make(
    url: str,
    options: dict[str, Any],
    *,
    headers: dict[str, str] | None = None,
    secret: str | None = None,
    clock: Callable[[], datetime] = lambda: NOW,
    **settings: Any,
) -> HttpNotifier:
    destination = HttpDestination.model_construct(
        url=SecretStr(url),
        headers={name: SecretStr(value) for name, value in (headers or {}).items()},
        secret=None if secret is None else SecretStr(secret),
        **settings,
    )
    return HttpNotifier("jobs", destination, context(clock=clock), **options)


async def send(notifier: HttpNotifier) -> str:
    """Send the usual alert."""
    return (await notifier.send(await notifier.prepare(Parcel((Item("d-1", notification()),), EVENT)))).detail


async def failure(url: str, **more: Any) -> DeliveryFailed:
    """Send the usual alert with a notifier of `notifying`, and return the failure; no secret is in it."""
    async with notifying(url, **more) as notifier:
        with pytest.raises(DeliveryFailed) as failed:
            await send(notifier)
    assert SECRET_PART not in "".join(traceback.format_exception(failed.value))
    return failed.value


class TestRequest:
    """What is sent."""

    async def test_all_is_filled_in(self, jobs: Jobs) -> None:
        """Method, address, headers and body take values of the change; one expression keeps its type."""
        job = {"database": "{{ .context.entityIdentifier }}", "cpu": f"{{{{ {PROPERTIES}.cpuUtil }}}}"}
        async with notifying(
            f"{jobs.url}/{{{{ {PROPERTIES}.path }}}}?db={{{{ .context.entityIdentifier }}}}",
            method="PUT",
            headers={
                "X-Cpu": f"{{{{ {PROPERTIES}.cpuUtil }}}}",
                "X-Text": "at {{ .context.entityIdentifier }} é",
                "X-None": f"{{{{ {PROPERTIES}.none }}}}",
            },
            body=job | {"fixed": [1, None]},
        ) as notifier:
            assert await send(notifier) == "202: job 4711 queued"
        (request,) = jobs.requests
        assert (request.method, request.url.path, request.url.query) == ("PUT", "/close", "db=orders-db")
        assert json.loads(jobs.bodies[0]) == {"database": "orders-db", "cpu": 85, "fixed": [1, None]}
        raw = dict(request.headers.raw)
        assert (raw[b"x-cpu"], raw[b"x-text"], raw[b"x-none"]) == (b"85", "at orders-db é".encode(), b"")
        assert request.headers["content-type"] == "application/json"

    async def test_without_a_body_it_is_the_alert(self, jobs: Jobs) -> None:
        """What Slack would say in words is sent as data, by the published schema; templates see the same."""
        lasted = {"step": Step.RESOLVED, "ended": True, "opened_at": notification().at - timedelta(minutes=2)}
        item = Item("d-1", notification(**lasted), incident_id="i-1")
        body = {"all": "{{ .alert }}", "text": "{{ .alert.incident }} in {{ .alert.links.port }}"}
        for template in (None, body):
            async with notifying(jobs.url, body=template) as notifier:
                await notifier.send(await notifier.prepare(Parcel((item,), EVENT)))
        sent, filled = map(json.loads, jobs.bodies)
        jsonschema.Draft202012Validator(ALERT_SCHEMA).validate(sent)
        link = f"{APP}/deploymentConfigEntity?identifier=notification-service-prod"
        assert filled == {"all": sent, "text": f"i-1 in {link}"}
        expected = {
            "version": 1,
            "step": "resolved",
            "state": "Degraded",
            "duration_seconds": 120,
            "incident": "i-1",
            "key": "d-1",
            "links": {"port": link, "page": None, "properties": LINKS},
            "labels": {
                "rule": "health",
                "severity": "warning",
                "blueprint": "deploymentConfig",
                "entity": "notification-service-prod",
                "team": "Rocket",
            },
        }
        assert expected.items() <= sent.items()
        assert sent["text"].startswith("🟠 Notification Service: healthStatus Healthy → Degraded, resolved")

    async def test_get_has_no_body_of_its_own(self, jobs: Jobs) -> None:
        """A GET has a body only where the rule says so."""
        for body in (None, {"a": 1}):
            async with notifying(jobs.url, method="GET", body=body) as notifier:
                await send(notifier)
        assert jobs.bodies == [b"", b'{"a":1}']
        assert "content-type" not in jobs.requests[0].headers

    async def test_half_a_letter_does_no_harm(self, jobs: Jobs) -> None:
        """It has no encoding: a question mark stands for it."""
        async with notifying(jobs.url, body={"text": "{{ .half }}"}) as notifier:
            await send(notifier)
        assert jobs.bodies == [b'{"text":"?"}']

    async def test_a_repeat_is_recognisable(self, jobs: Jobs) -> None:
        """Each attempt has the same ids, and without a secret no signature."""
        jobs.answers.append(Response(status_code=503))
        async with notifying(jobs.url) as notifier:
            with pytest.raises(DeliveryFailed):
                await send(notifier)
            await send(notifier)
        for request in jobs.requests:
            assert (request.headers["webhook-id"], request.headers["idempotency-key"]) == ("d-1", "d-1")
            assert "webhook-signature" not in request.headers

    async def test_headers_of_the_rule_win_over_usual_ones(self, jobs: Jobs) -> None:
        """A content type of one's own is sent, and only that one."""
        async with notifying(jobs.url, headers={"content-type": "application/x+json"}) as notifier:
            await send(notifier)
        assert jobs.requests[0].headers.getlist("content-type") == ["application/x+json"]

    async def test_no_cookies(self, jobs: Jobs) -> None:
        """What a server wants kept is not kept."""
        jobs.answers.append(Response(headers={"set-cookie": "a=b; Path=/"}))
        async with notifying(jobs.url.replace("127.0.0.1", "localhost")) as notifier:
            assert [await send(notifier) for _ in range(2)] == ["200", "202: job 4711 queued"]
        assert "cookie" not in jobs.requests[1].headers

    async def test_closing_twice_and_too_early(self, jobs: Jobs) -> None:
        """Closing before the first request and twice does no harm, and a request after it opens anew."""
        async with notifying(jobs.url) as notifier:
            await notifier.close()
            await send(notifier)
            await notifier.close()
            await send(notifier)
        assert len(jobs.requests) == 2


class TestSignature:
    """Standard Webhooks."""

    @pytest.mark.parametrize("secret", [SECRET, SECRET.removeprefix("whsec_")])
    @pytest.mark.parametrize("more", [{"body": {"text": "é"}}, {"method": "GET"}])
    async def test_who_receives_can_verify(self, jobs: Jobs, secret: str, more: dict[str, Any]) -> None:
        """The library's own check passes, and fails for another body or another secret."""
        async with notifying(jobs.url, secret=secret, clock=lambda: datetime.now(UTC), **more) as notifier:
            await send(notifier)
        headers = dict(jobs.requests[0].headers)
        Webhook(SECRET).verify(jobs.bodies[0], headers, json_parse=False)
        for verifier, body in ((Webhook(SECRET), b"{}"), (Webhook(b"x" * 24), jobs.bodies[0])):
            with pytest.raises(WebhookVerificationError):
                verifier.verify(body, headers)

    @pytest.mark.parametrize(
        "secret", ["whsec_", "whsec_c2hvcnQ=", "whsec_not base64, but long enough", "é" * 40, "A" * 88]
    )
    def test_a_bad_secret_does_not_start(self, secret: str) -> None:
        """What the library would take in part is refused, and not shown."""
        with pytest.raises(SettingsError, match="24 to 64 random bytes") as refused:
            _make("https://example.com", {}, secret=secret)
        assert len(secret) < 10 or secret not in str(refused.value)

    @pytest.mark.parametrize("name", ["a b", "", "X:", "é", "Host", "Content-Length", "Webhook-Id", "X\r\n"])
    def test_a_header_that_cannot_be_set(self, name: str) -> None:
        """A name that is none, and a header that this program sets itself, do not start."""
        with pytest.raises(SettingsError, match=r"headers: .* cannot be set"):
            _make("https://example.com", {}, headers={name: "x"})


UNSENDABLE = [
    ({"url": "{{ .context.entityIdentifier }}", "allow_hosts": ("a",)}, "not an http or https URL"),
    ({"url": f"http://{SECRET_PART}/{{{{ {PROPERTIES}.evil }}}}"}, "a value for the url has control char"),
    ({"url": "http://{{ .half }}", "allow_hosts": ("a",)}, "a value for the url has control characters"),
    ({"url": "http://[{{ .context.entityIdentifier }}", "allow_hosts": ("a",)}, "not an http or https URL"),
    ({"url": "http://localhost/{{ .long }}"}, "at most 8,000 characters"),
    ({"headers": {"X-A": f"{{{{ {PROPERTIES}.evil }}}}"}}, "the header X-A has control characters"),
    ({"headers": {"X-A": "{{ .half }}"}}, "the header X-A"),
    ({"headers": {"X-A": "{{ .long }}"}}, "the header X-A"),
    ({"body": {"a": "{{ .infinite }}"}}, "cannot be written as JSON"),
    ({"body": "{{ .huge }}"}, "1,000,002 bytes, and 1,000,000 are the most"),
    ({"body": "{{ .nothing }}"}, ".nothing: there is none"),
]


@pytest.mark.parametrize(("more", "reason"), UNSENDABLE)
async def test_what_cannot_be_sent(jobs: Jobs, more: dict[str, Any], reason: str) -> None:
    """A template that fails, or gives what cannot be sent, costs this message alone."""
    failed = await failure(**({"url": f"{jobs.url}/{SECRET_PART}"} | more))
    assert failed.scope is Scope.MESSAGE
    assert reason in failed.reason
    assert jobs.requests == []


@pytest.mark.parametrize("url", [f"ftp://{SECRET_PART}/", SECRET_PART, "", "http://", "http://a:b/"])
def test_a_fixed_url_that_is_none(url: str) -> None:
    """Where each message would fail alike, the destination is not made, and the check says so."""
    with pytest.raises(SettingsError, match="url: the url is not an http or https URL") as refused:
        _make(url, {})
    assert SECRET_PART not in str(refused.value)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (
            {"headers": {"Authorization": f"{SECRET_PART}\n"}},
            "headers: the header Authorization has control characters",
        ),
        ({"headers": {"X-A": "x" * 8_001}}, "the header X-A"),
        ({"body": {"limit": float("inf")}}, "body: the body cannot be written as JSON"),
        ({"body": "x" * 1_000_000}, "1,000,002 bytes"),
        ({"secret": ""}, "secret: must be whsec_"),
    ],
)
def test_what_can_never_be_sent(more: dict[str, Any], reason: str) -> None:
    """What no template changes is looked at when the destination is made, and not when it is too late."""
    with pytest.raises(SettingsError, match=re.escape(reason)) as refused:
        _make("https://example.com", {}, **more)
    assert SECRET_PART not in str(refused.value)


@pytest.mark.parametrize(
    "target", ["/a%2Fb?sp=%2Frun%2F&sig=a%2Bb%3d", "/~x/%7ex;v=1?q=a+b&&c", "/x?url=https://a:b@c/'(d)*"]
)
async def test_an_address_is_sent_as_it_is_written(jobs: Jobs, target: str) -> None:
    """Who signs an address signs its text."""
    assert await target_of(jobs, target, None) == target


async def test_what_is_over_goes_to_its_own_address(jobs: Jobs) -> None:
    """Also an alert of the beginning that comes when the incident has ended; bad entities cost themselves."""
    over = "{{ .alert.over }}/{{ .alert.incident }}"
    async with notifying(f"{jobs.url}/open", resolve_url=SecretStr(f"{jobs.url}/close/{over}")) as notifier:
        for step, late in ((Step.OPENED, False), (Step.RESOLVED, False), (Step.OPENED, True)):
            item = Item("d-1", notification(step=step), incident_id="i/1", over=late)
            await notifier.send(await notifier.prepare(Parcel((item,), EVENT)))
        # One that was dead, and is tried again by hand after the next beginning, would close that.
        overtaken = Item("d-1", notification(step=Step.RESOLVED, late=True), incident_id="i/1")
        await notifier.send(await notifier.prepare(Parcel((overtaken,), EVENT)))
        jobs.answers.append(PlainTextResponse("", 404))
        with pytest.raises(DeliveryFailed) as failed:
            await notifier.send(await notifier.prepare(Parcel((item,), EVENT)))
    paths = [request.scope["raw_path"].decode() for request in jobs.requests]
    assert paths == ["/open", *["/close/true/i%2F1"] * 3]
    assert failed.value.scope is Scope.MESSAGE
    with pytest.raises(SettingsError, match=r"^resolve_url: a template gives the host"):
        async with notifying(f"{jobs.url}/open", resolve_url=SecretStr("https://{{ .host }}/")):
            pass


async def target_of(jobs: Jobs, url: str, value: Any) -> str:
    """Send with a URL in which `V` is a template that gives a value, and return what was asked for."""
    async with notifying(jobs.url + url.replace("V", "{{ .v }}").replace("U", "{{ .v | @uri }}")) as notifier:
        await notifier.send(await notifier.prepare(Parcel((Item("d-1", notification()),), {"v": value})))
    scope = jobs.requests[-1].scope
    return f"{scope['raw_path'].decode()}?{scope['query_string'].decode()}"


@pytest.mark.parametrize(
    ("url", "value", "target"),
    [
        ("/50% é?V", "a b", "/50%25%20%C3%A9?a%20b"),
        ("/a/V/c", "a/b..", "/a/a%2Fb../c?"),
        ("/a/V/c", "b?admin=1#", "/a/b%3Fadmin%3D1%23/c?"),
        ("/a/V/c", "%2e%2e", "/a/%252e%252e/c?"),
        ("/a/x-V/c", "..", "/a/x-../c?"),
        ("/a/V", 85, "/a/85?"),
        ("/a/V", "\\;é", "/a/%5C%3B%C3%A9?"),
        ("/a?b=V&c=d", "1&c=2+3#x", "/a?b=1%26c%3D2%2B3%23x&c=d"),
        ("/a?b=V", None, "/a?b="),
        ("/a?b=V/../c", ["x"], "/a?b=%5B%22x%22%5D/../c"),
        ("/a?b=c#V", "d", "/a?b=c"),
        ("/a/U?b=U", "x/y z", "/a/x%2Fy%20z?b=x%2Fy%20z"),  # as rules had to be written before
    ],
)
async def test_a_value_stays_in_its_place(jobs: Jobs, url: str, value: Any, target: str) -> None:
    """People who edit the catalog do not choose what is called."""
    assert await target_of(jobs, url, value) == target


@pytest.mark.parametrize(
    ("url", "value"),
    [
        ("/a/V/c", ".."),
        ("/a/V/c", "../../admin"),
        ("/a/V/c", "x\\..\\admin"),
        ("/a/V", "."),
        ("/a/V", ""),
        ("/a/.V", "."),
    ],
)
async def test_a_value_that_would_lead_elsewhere(jobs: Jobs, url: str, value: str) -> None:
    """A segment that vanishes, or takes others with it, is refused: `DELETE /items/` may be all of them."""
    with pytest.raises(DeliveryFailed, match=r"url's path is empty, \. or \.\.") as failed:
        await target_of(jobs, url, value)
    assert failed.value.scope is Scope.MESSAGE
    assert jobs.requests == []


@pytest.mark.parametrize(
    ("url", "more", "reason"),
    [
        ("https://a:{{ .p }}@jobs.test/", {}, "cannot give the user or password"),
        ("https://{{ .u }}@jobs.test/", {}, "cannot give the user or password"),
        ("https://jobs.test:{{ .p }}/", {}, "cannot give the port"),
        ("https://jobs.test:80{{ .path }}", {}, "cannot give the port, or what follows it without a /"),
        ("https://{{ .h }}/", {"headers": {"Authorization": "x"}}, "name in allow_hosts where it may go"),
        ("https://x.{{ .h }}.test/", {"secret": SECRET}, "name in allow_hosts"),
        ("https://a:b@{{ .h }}:81/", {}, "name in allow_hosts"),
        ("https://{{ .h }}/?token=x", {}, "name in allow_hosts"),
        ("https://{{ .h }}/hooks", {}, "name in allow_hosts"),
        (
            "https://jobs.test/{{ .p }}",
            {"allow_hosts": ("other.test",)},
            "a host that allow_hosts does not name",
        ),
        ("https://jobs.test/", {"allow_hosts": ("other.test",)}, "a host that allow_hosts does not name"),
    ],
)
def test_where_no_template_may_stand(url: str, more: dict[str, Any], reason: str) -> None:
    """The check refuses what could send a secret wherever the catalog says."""
    with pytest.raises(SettingsError, match=f"^url: .*{reason}"):
        _make(url, {}, **more)


@pytest.mark.parametrize(
    ("host", "arrives"),
    [
        ("jobs.test", True),
        ("EU.jobs.example", True),
        ("jobs.example", False),
        ("evil.test", False),
        ("jobs.test.evil.test", False),
        ("evil.test/.jobs.example", False),
        ("evil.test#.jobs.example", False),
        ("evil.test\\.jobs.example", False),
        ("a@jobs.test", False),
        ("evil.test\N{FULLWIDTH SOLIDUS}.jobs.example", False),
        ("", False),
    ],
)
async def test_hosts_that_are_allowed(jobs: Jobs, host: str, *, arrives: bool) -> None:
    """A secret goes where the rules file says, whatever the catalog says."""
    more = {"headers": {"Authorization": "x"}, "allow_hosts": ("jobs.test", "*.jobs.example")}
    url, resolver = f"http://{{{{ .host }}}}:{jobs.port}/", StandInResolver(["127.0.0.1"])
    async with notifying(url, resolver=resolver, **more) as notifier:
        parcel = await notifier.prepare(Parcel((Item("d-1", notification()),), {"host": host}))
        if arrives:
            await notifier.send(parcel)
        else:
            with pytest.raises(DeliveryFailed) as failed:
                await notifier.send(parcel)
            assert failed.value.scope is Scope.MESSAGE
    assert len(jobs.requests) == arrives
    assert bool(resolver.asked) == arrives


OF_ONE = {Scope.DESTINATION: Scope.MESSAGE}


class TestAnswer:
    """What each answer means."""

    @pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
    async def test_success(self, jobs: Jobs, status: int) -> None:
        """Every 2xx is one."""
        jobs.answers.append(Response(status_code=status))
        async with notifying(jobs.url) as notifier:
            assert await send(notifier) == str(status)

    @pytest.mark.parametrize(
        ("statuses", "scope"),
        [
            ((407, 408, 425, 429, 500, 502, 503, 504, 599), Scope.TRANSIENT),
            ((401, 403, 404, 405, 410, 451), Scope.DESTINATION),
            ((400, 409, 413, 422, 499), Scope.MESSAGE),
        ],
    )
    async def test_refusals(self, jobs: Jobs, statuses: tuple[int, ...], scope: Scope) -> None:
        """What may pass is tried again, what the address is at fault for puts it on hold, the rest is dead.

        Where a change made the address, its fault is that of one message. The reason has the server's words.
        """
        for status in statuses:
            # 401 is about the caller; 403 may be, which is seen when several are refused.
            caller = {401: Scope.DESTINATION, 403: Scope.REFUSED}
            of_one = caller.get(status) or OF_ONE.get(scope, scope)
            for more, expected in (("", scope), ("/{{ .host }}", of_one)):
                jobs.answers.append(PlainTextResponse("not\nthis \x1bone", status))
                failed = await failure(jobs.url + more)
                assert failed.scope is expected
                assert failed.reason == f"{status}: not this one" or "HTTPS_PROXY" in failed.reason

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    async def test_no_redirect_is_followed(self, jobs: Jobs, status: int) -> None:
        """Where it leads is neither called nor named."""
        jobs.answers.append(Response(status_code=status, headers={"location": f"{jobs.url}/{SECRET_PART}"}))
        failed = await failure(jobs.url)
        assert failed.reason == f"{status}: a redirect, which is not followed"
        assert failed.scope is Scope.STRANGE
        assert len(jobs.requests) == 1

    async def test_retry_after(self, jobs: Jobs) -> None:
        """A server that says when to come back is heard, whatever else it says."""
        asked = {"Retry-After": "7"}
        statuses = (429, 503, 400, 403)
        jobs.answers.extend(Response(status_code=status, headers=asked) for status in statuses)
        heard = [await failure(jobs.url) for _ in statuses]
        assert {failed.retry_after for failed in heard} == {timedelta(seconds=7)}
        assert {failed.scope for failed in heard} == {Scope.TRANSIENT}

    @pytest.mark.parametrize(
        ("text", "wait"),
        [
            ("0", timedelta(0)),
            ("1.5", timedelta(seconds=1.5)),
            ("Mon, 23 Nov 2026 12:02:00 GMT", timedelta(minutes=2)),
            ("Mon, 23 Nov 2026 12:02:00 -0000", timedelta(minutes=2)),
            ("Mon, 23 Nov 2026 13:02:00 +0100", timedelta(minutes=2)),
            ("Mon, 23 Nov 2026 11:00:00 GMT", timedelta(0)),
            *((text, None) for text in ("", "soon", "-1", "nan", "inf", "1e300", None)),
            *(
                (text, None)
                for text in ("Mon, 99 Nov 2026 12:02:00 GMT", "Mon, 23 Nov 99999999999 12:02:00 GMT")
            ),
        ],
    )
    def test_forms_of_retry_after(self, text: str | None, wait: timedelta | None) -> None:
        """Seconds and dates count, a date that is past means now, nonsense is as good as nothing."""
        assert parse_retry_after(text, NOW) == wait

    @pytest.mark.parametrize(
        ("date", "ahead"),
        [
            ("Mon, 23 Nov 2026 11:00:00 GMT", timedelta(hours=1)),
            ("Mon, 23 Nov 2026 14:00:00 -0000", -timedelta(hours=2)),
            *((text, timedelta(0)) for text in ("Mon, 23 Nov 2026 11:59:30 GMT", "soon", "", None)),
        ],
    )
    def test_how_far_a_clock_is_ahead(self, date: str | None, ahead: timedelta) -> None:
        """By the date of an answer; less than a minute, or no date, is nothing."""
        assert clock_ahead(date, NOW) == ahead

    async def test_little_of_a_long_answer_is_kept(self, jobs: Jobs) -> None:
        """One line of 200 characters."""
        jobs.answers.append(PlainTextResponse("long\n" * 100_000))
        async with notifying(jobs.url) as notifier:
            said = await send(notifier)
        assert said.startswith("200: long long")
        assert len(said) == len("200: ") + 200

    async def test_an_endless_answer(self, jobs: Jobs) -> None:
        """It is read for a while only; the status has said already that the job is accepted."""

        async def endless() -> AsyncIterator[bytes]:
            while True:
                yield b"x" * 10_000
                await asyncio.sleep(0)

        jobs.answers.append(StreamingResponse(endless(), 200))
        async with notifying(jobs.url) as notifier:
            assert (await send(notifier)).startswith("200: xxx")

    async def test_a_text_that_does_not_come(self, jobs: Jobs) -> None:
        """A success whose text hangs or breaks off is a success: a repeat would run the job twice."""

        async def hanging() -> AsyncIterator[bytes]:
            yield b"queued"
            await asyncio.sleep(60)

        jobs.answers.append(StreamingResponse(hanging(), 200))
        async with notifying(jobs.url, text_within=timedelta(milliseconds=100)) as notifier:
            assert await send(notifier) == "200: queued"
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nque"
        async with _raw(head) as (url, _), notifying(url) as notifier:
            assert await send(notifier) == "200: que"

    async def test_a_packed_answer_stays_packed(self, jobs: Jobs) -> None:
        """Nothing is unpacked, so that nothing small becomes large."""
        jobs.answers.append(Response(b"\x1f\x8b\x08\x00", headers={"content-encoding": "gzip"}))
        async with notifying(jobs.url) as notifier:
            assert (await send(notifier)).startswith("200: ")

    async def test_an_answer_that_repeats_the_request(
        self, jobs: Jobs, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Address and headers may hold secrets: neither what is kept nor any log record has them."""
        for name in (None, "aiohttp", "asyncio"):
            caplog.set_level(logging.DEBUG, logger=name)

        async def echo(request: Request) -> Response:
            return PlainTextResponse(f"{request.url} {dict(request.headers)}", statuses.pop())

        headers = {"Authorization": f"Bearer {SECRET_PART}", "X-Key": f"{SECRET_PART}-2"}
        url = f"{jobs.url}/{SECRET_PART}?key={SECRET_PART}".replace("//", f"//user:{SECRET_PART}@")
        statuses = [500, 400, 200]
        jobs.answers.extend([echo] * 3)
        async with notifying(f"{jobs.url}/{SECRET_PART}", headers=headers) as notifier:
            assert SECRET_PART not in await send(notifier)
        for _ in range(2):
            await failure(url, headers={"X-Key": SECRET_PART})
        records = [one for one in caplog.records if one.name != "uvicorn.access"]  # the stand-in's own
        assert SECRET_PART not in "".join(map(str, (one.getMessage() for one in records)))


@asynccontextmanager
async def _raw(answer: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Serve what answers with bytes and hangs up; yield its address, and the requests that it saw."""
    seen: list[bytes] = []

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/{SECRET_PART}", seen


class TestNoAnswer:
    """What it means that none comes."""

    @pytest.mark.parametrize(
        "answer",
        [b"", b"HTTP/1.1 200 OK\r\nContent-Len", b"SSH-2.0-x\r\n"],
        ids=["nothing", "half", "no HTTP"],
    )
    async def test_a_server_that_hangs_up(self, answer: bytes) -> None:
        """The request was sent, once: it may have arrived, and the queue tries again."""
        async with _raw(answer) as (url, seen):
            failed = await failure(url)
        assert failed.scope is Scope.TRANSIENT
        assert failed.reason.startswith("no whole answer of 127.0.0.1 (")
        assert failed.reason.endswith("it may have arrived")
        assert len(seen) == 1

    async def test_a_server_that_is_slow(self, jobs: Jobs) -> None:
        """After the time that a send has, the request may have arrived; the next one goes out as usual."""

        async def slow(_: Request) -> Response:
            await asyncio.sleep(60)
            return Response()

        jobs.answers.append(slow)
        async with notifying(jobs.url, answer_within=timedelta(milliseconds=300)) as notifier:
            with pytest.raises(DeliveryFailed) as failed:
                await send(notifier)
            assert await send(notifier) == "202: job 4711 queued"
        assert failed.value.reason == "no answer of 127.0.0.1 in time; it may have arrived"
        assert failed.value.scope is Scope.TRANSIENT

    async def test_nobody_listens(self) -> None:
        """No connection: it surely has not arrived."""
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            failed = await failure(f"http://127.0.0.1:{closed.getsockname()[1]}/{SECRET_PART}")
        assert failed.scope is Scope.TRANSIENT
        assert failed.reason == "no connection to 127.0.0.1 (ClientConnectorError)"

    async def test_an_unknown_name(self) -> None:
        """A name may be known again soon."""
        failed = await failure(f"http://jobs.invalid/{SECRET_PART}")
        assert failed.scope is Scope.TRANSIENT
        assert failed.reason == "the name jobs.invalid cannot be looked up"

    async def test_a_name_server_that_is_slow(self) -> None:
        """Looking a name up counts as connecting, which has a limit of its own."""

        class Slow(StandInResolver):
            async def resolve(self, *_: Any) -> Any:
                await asyncio.sleep(60)

        more = {"resolver": Slow(), "connect_within": timedelta(milliseconds=50)}
        failed = await failure("http://jobs.test/", **more)
        assert failed.reason == "no connection to jobs.test in time"
        assert failed.scope is Scope.TRANSIENT

    @pytest.mark.parametrize(
        ("host", "scope"), [("localhost", Scope.DESTINATION), ("{{ .host }}", Scope.MESSAGE)]
    )
    async def test_a_bad_certificate(self, jobs: Jobs, tmp_path: Path, host: str, scope: Scope) -> None:
        """Somebody must fix the server, or the entity that names it."""
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=private_tls(tmp_path))
        async with server:
            address = f"https://{host}:{server.sockets[0].getsockname()[1]}/{SECRET_PART}"
            failed = await failure(address, allow_hosts=("localhost", "127.0.0.1"))
        assert failed.scope is scope
        assert re.match(r"the certificate of (localhost|127.0.0.1) is not valid: unable", failed.reason)
        spoken_to_in_plain = jobs.url.replace("http:", "https:")
        assert (await failure(spoken_to_in_plain)).scope is Scope.TRANSIENT


class TestGuard:
    """What a destination must not be, unless it says `allow_private`."""

    @pytest.mark.parametrize(
        "host",
        [
            "127.0.0.1",
            "localhost",
            "LOCALHOST",
            "localhost.",
            "2130706433",
            "017700000001",
            "0x7f.1",
            "0x7f000001",
            "0177.0.0.1",
            "127.1",
            "0",
            "0.0.0.0",
            "127.0.0.1.",
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[64:ff9b::7f00:1]",
            "[2002:7f00:1::]",
            "[fe80::1%25lo]",
            "good@127.0.0.1",
            "good.example:80@127.0.0.1",
            "①②⑦.0.0.1",
            "127。0。0。1",
            "%31%32%37.0.0.1",
            "a" * 70 + ".test",
        ],
    )
    async def test_no_way_to_loopback(self, jobs: Jobs, host: str) -> None:
        """However the address is written, nothing arrives; the word names no more than the host."""
        url = f"http://{host}:{jobs.port}/{SECRET_PART}"
        failed = await failure(url, allow_private=False)
        assert re.search(r"is refused|cannot be called|cannot be looked up", failed.reason)
        assert jobs.requests == []

    @pytest.mark.parametrize(
        ("url", "reason", "scope"),
        [
            ("http://169.254.169.254/latest", "169.254.169.254 (metadata)", Scope.DESTINATION),
            ("http://[fd00:ec2::254]/latest", "fd00:ec2::254 (metadata)", Scope.DESTINATION),
            ("http://10.0.0.1/{{ .host }}", "10.0.0.1 (private)", Scope.DESTINATION),
            ("http://{{ .host }}/", "127.0.0.1 (loopback)", Scope.MESSAGE),
        ],
    )
    async def test_a_clear_word(self, url: str, reason: str, scope: Scope) -> None:
        """It says which address, as what, and whom it concerns: one message, if the catalog gives it."""
        hosts = ("127.0.0.1",) if "{{" in url.partition("/")[2][:4] else ()
        failed = await failure(url, allow_private=False, allow_hosts=hosts)
        assert reason in failed.reason
        assert failed.scope is scope

    async def test_a_name_that_moves_to_loopback(self, jobs: Jobs) -> None:
        """Each send looks the name up and judges it: one good answer earns no trust."""
        resolver = StandInResolver(["127.0.0.1"], ["10.0.0.1"], ["127.0.0.1"])
        url = f"http://rebind.test:{jobs.port}/"
        async with notifying(url, allow_private=False, resolver=resolver) as notifier:
            reasons = []
            for _ in range(3):
                with pytest.raises(DeliveryFailed) as failed:
                    await send(notifier)
                reasons.append(failed.value.reason)
        said = "rebind.test is refused: {} is not a public address, and the destination does not say"
        kinds = ("127.0.0.1 (loopback)", "10.0.0.1 (private)", "127.0.0.1 (loopback)")
        assert reasons == [f"{said} allow_private".format(kind) for kind in kinds]
        assert jobs.requests == []

    async def test_allow_private(self, jobs: Jobs) -> None:
        """A destination that says so calls what it likes."""
        resolver = StandInResolver(["127.0.0.1"])
        async with notifying(f"http://jobs.test:{jobs.port}/", resolver=resolver) as notifier:
            assert await send(notifier) == "202: job 4711 queued"
        assert jobs.requests[0].headers["host"] == f"jobs.test:{jobs.port}"

    async def test_no_proxy_of_the_environment(self, jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
        """A proxy would look names up for itself, and connect where the guard does not see it."""
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, jobs.url)
        async with notifying("http://jobs.invalid/") as notifier:
            with pytest.raises(DeliveryFailed, match="cannot be looked up"):
                await send(notifier)
        assert jobs.requests == []


async def test_several_at_once_are_a_digest(jobs: Jobs) -> None:
    """With the alerts in their order, as far as they have room; each by the schema; one alone is itself."""
    others = [ValueChange(name=f"p{number}", before="", after="x" * 2_000) for number in range(50)]
    items = tuple(Item(f"d-{number}", notification(others=others)) for number in range(30))
    async with notifying(f"{jobs.url}/x", digest=True, secret=SECRET) as notifier:
        assert notifier.batch_limit > 1
        prepared = await notifier.prepare(Parcel(items, EVENT, more=5))
        # Without what has no room: under the same id it would be taken for known.
        together = tuple(item.delivery_id for item in prepared.items)
        sent = await notifier.send(replace(prepared, together=together))
        again = await notifier.send(await notifier.prepare(Parcel(items, EVENT, together=together)))
        await notifier.send(await notifier.prepare(Parcel(items[:1], EVENT, together=together[:1])))
        # The others were silenced, or withdrawn, since it was sent first.
        await notifier.send(await notifier.prepare(Parcel(items[:1], EVENT, together=together)))
    body = json.loads(jobs.bodies[0])
    shown = [alert["key"] for alert in body.pop("alerts")]
    assert (body, len(jobs.bodies[0]) < 1_000_000) == ({"version": 1}, True)
    assert 1 < len(shown) < 30
    assert shown == [item.delivery_id for item in items[: len(shown)]]
    assert sent.delivered == again.delivered == frozenset(together) == frozenset(shown)
    jsonschema.validate(json.loads(jobs.bodies[0])["alerts"][0], ALERT_SCHEMA)
    jsonschema.validate(json.loads(jobs.bodies[2]), ALERT_SCHEMA)
    first, second, alone, left = (request.headers["webhook-id"] for request in jobs.requests)
    assert (first == second == left, alone) == (True, "d-0")
    assert [alert["key"] for alert in json.loads(jobs.bodies[3])["alerts"]] == ["d-0"]
