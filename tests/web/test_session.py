"""Who may see the page: signing in, cookies, forms, guessing."""

import asyncio
import re
from collections.abc import AsyncIterator
from http.cookiejar import Cookie

import httpx
import pytest
from fastapi import FastAPI, HTTPException
from itsdangerous import URLSafeSerializer
from structlog.testing import capture_logs

from app.demo.run import serving
from app.store import queries
from app.web.render import MAX_FORM_BYTES, PageRoute
from app.web.session import COOKIE, Gate, Visitor, local
from app.web.throttle import FREE_TRIES, FREE_TRIES_IN_ALL, MAX_RIGHT_SOURCES, MAX_WRONG_SOURCES, Throttle
from tests.conftest import Start
from tests.web.visitor import BEARER, TOKEN, form, sign_in

PAGES = ("/", "/timeline", "/timeline/data", "/changes", "/changes/1", "/silences", "/quarantine", "/audit")
FORMS = ("/test", "/silence", "/deliveries/1/retry", "/queues/release?queue=default", "/silences/1/end")


async def test_without_a_token_there_is_no_page(start: Start) -> None:
    """Where no ADMIN_TOKEN is set, neither page nor API nor files exist."""
    async with start() as service:
        for path in (*PAGES, *FORMS, "/sign-in", "/events", "/api/v1/changes", "/static/page.css"):
            assert (await service.client.get(path)).status_code == 404, path
        assert (await service.client.post("/sign-in", data={"name": "a", "token": ""})).status_code == 404
        assert "/api/v1/changes" not in (await service.client.get("/openapi.json")).text


async def test_nothing_is_shown_before_the_sign_in(start: Start) -> None:
    """Every page leads to the sign-in, and from there back; what is no page says 401."""
    async with start(admin_token=TOKEN) as service:
        for path in (*PAGES, *FORMS):
            answer = await service.client.get(path)
            assert answer.status_code == 303, path
            assert answer.headers["location"].startswith("/sign-in?next=%2F")
        assert (await service.client.get("/events")).status_code == 401
        part = await service.client.get("/", headers={"HX-Request": "true"})
        assert (part.status_code, part.headers["hx-redirect"]) == (401, "/sign-in")
        for path in ("/sign-out", "/test", "/silence", "/deliveries/1/retry", "/quarantine/1/replay"):
            assert (await service.client.post(path, data={"csrf": "x"})).status_code == 401, path


async def test_the_cookie(start: Start) -> None:
    """It is HttpOnly and SameSite=Strict, ends, holds no token, and is Secure where the request was."""
    async with start(admin_token=TOKEN) as service:
        answer = await service.client.post("/sign-in", data={"name": "Ada", "token": TOKEN, "next": "/audit"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/audit")
        cookie = answer.headers["set-cookie"]
        assert all(part in cookie for part in ("HttpOnly", "SameSite=strict", "Max-Age=43200", "Path=/"))
        assert "Secure" not in cookie
        assert TOKEN not in cookie
        page = await service.client.get("/")
        assert (page.status_code, page.headers["cache-control"]) == (200, "no-store")
        secure = await service.client.post(
            "/sign-in", data={"name": "Ada", "token": TOKEN}, headers={"X-Forwarded-Proto": "https"}
        )
        assert "Secure" in secure.headers["set-cookie"]


async def test_strict_headers(start: Start) -> None:
    """No page can be framed, run foreign script or be kept; static files may be kept."""
    async with start(admin_token=TOKEN) as service:
        await sign_in(service)
        for path in ("/", "/sign-in", "/changes/99", "/timeline/data"):
            headers = (await service.client.get(path)).headers
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert headers["x-frame-options"] == "DENY"
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "same-origin"
            assert headers["cache-control"] == "no-store"
        text = (await service.client.get("/")).text
        assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=|javascript:", text)
        (address,) = re.findall(r'href="(/static/page.css[^"]*)"', text)
        static = await service.client.get(address)
        assert "immutable" in static.headers["cache-control"]
        assert static.headers["content-type"].startswith("text/css")


@pytest.mark.parametrize(
    "path",
    [
        "/static/../session.py",
        "/static/%2e%2e/session.py",
        "/static/..%2fsession.py",
        "/static/vendor/..%2f..%2fsession.py",
        "/static//etc/passwd",
        "/static/%2fetc%2fpasswd",
        "/static/vendor",
        "/static/",
        "/static/page.css%00.txt",
    ],
)
async def test_no_way_out_of_the_static_files(start: Start, path: str) -> None:
    """Path tricks find nothing."""
    async with start(admin_token=TOKEN) as service:
        assert (await service.client.get(path)).status_code in (404, 405), path


async def test_a_forged_cookie(start: Start) -> None:
    """Only what the listener signed with this token counts; a changed, foreign or old cookie is none."""
    async with start(admin_token=TOKEN) as service:
        await sign_in(service)
        (mine,) = (one for one in service.client.cookies.jar if isinstance(one, Cookie))
        good = mine.value or ""
        payload, signature = good.split(".")
        foreign = URLSafeSerializer(TOKEN, salt="session").dumps(["Ada", "x", 2**40])
        other = Gate("another-token-of-24-letters").enter("Ada", "another-token-of-24-letters", "")
        forged = (
            f"{payload[:-2]}AA.{signature}",
            f"{payload}.AAAA.{signature}",
            f"{payload}.{signature[:-2]}AA",
            f"{payload}.",
            f"{payload}..{signature}",
            "....",
            foreign,
            other or "",
            "%00",
        )
        service.client.cookies.clear()
        for cookie in forged:
            answer = await service.client.get("/", headers={"Cookie": f"{COOKIE}={cookie}"})
            assert answer.status_code == 303, cookie
        assert (await service.client.get("/", headers={"Cookie": f"{COOKIE}={good}"})).status_code == 200


def test_a_cookie_ends() -> None:
    """After twelve hours a cookie is no cookie any more."""
    cookie = Gate(TOKEN, now=lambda: 1_000_000.0).enter("Ada", TOKEN, "")
    for later, signed_in in ((12 * 3600 - 1, True), (12 * 3600, False), (2**32, False)):
        assert (Gate(TOKEN, now=lambda at=later: 1_000_000.0 + at).visitor(cookie) is not None) is signed_in  # type: ignore[misc]


async def test_sign_out(start: Start) -> None:
    """After it, the browser has no session; without the form's token it does nothing."""
    async with start(admin_token=TOKEN) as service:
        await sign_in(service)
        assert (await service.client.post("/sign-out")).status_code == 403
        fields = await form(service, "/silence")
        answer = await service.client.post("/sign-out", data={"csrf": fields["csrf"]})
        assert answer.headers["location"] == "/sign-in"
        assert (await service.client.get("/")).status_code == 303


async def test_forms_of_others(start: Start) -> None:
    """A form without the token, with another session's, or from another site does nothing."""
    async with start(admin_token=TOKEN) as service:
        await service.change("Healthy", "Degraded")
        await sign_in(service, "Bob")
        others = (await form(service, "/silence"))["csrf"]
        await sign_in(service, "Ada")
        mine = (await form(service, "/silence"))["csrf"]
        wanted = {"rule": "health", "for": "1h"}
        for csrf in ("", "x", others, mine[:-1], "é" * 64):
            answer = await service.client.post("/silence", data=wanted | {"csrf": csrf})
            assert answer.status_code == 403, csrf
        for site in ("cross-site", "same-site"):
            headers = {"Sec-Fetch-Site": site}
            answer = await service.client.post("/silence", data=wanted | {"csrf": mine}, headers=headers)
            assert answer.status_code == 403
            answer = await service.client.post(
                "/sign-in", data={"name": "a", "token": TOKEN}, headers=headers
            )
            assert answer.status_code == 403
        assert not await service.store.read(queries.silences.silences, active_at=None)
        assert (await service.client.post("/silence", data=wanted | {"csrf": mine})).status_code == 303


async def test_guessing(start: Start) -> None:
    """After five wrong tokens not even the right one is heard for a while; who is signed in stays so."""
    async with start(admin_token=TOKEN) as service:
        await sign_in(service)
        for number in range(FREE_TRIES):
            answer = await service.client.post("/sign-in", data={"name": "Eve", "token": f"guess-{number}"})
            assert answer.status_code == 401
            assert f"guess-{number}" not in answer.text
        for _ in range(2):
            answer = await service.client.post("/sign-in", data={"name": "Eve", "token": TOKEN})
            assert answer.status_code == 429
            assert int(answer.headers["retry-after"]) >= 1
        assert (await service.client.get("/api/v1/queues", headers=BEARER)).status_code == 429
        assert (await service.client.get("/")).status_code == 200


async def test_guessing_at_the_metrics(start: Start) -> None:
    """Wrong tokens count there as well, for all ways in; the log has whence they came, not the tokens."""
    async with start(admin_token=TOKEN) as service:
        with capture_logs() as logs:
            for _ in range(FREE_TRIES):
                answer = await service.client.get("/metrics", headers={"Authorization": "Bearer guess"})
                assert answer.status_code == 401
        assert (await service.client.get("/metrics", headers=BEARER)).status_code == 429
        right = await service.client.post("/sign-in", data={"name": "Eve", "token": TOKEN})
        assert right.status_code == 429
    wrong = [line for line in logs if line["event"] == "admin_token_wrong"]
    assert [line["address"] for line in wrong] == ["127.0.0.1"] * FREE_TRIES
    assert "guess" not in str(wrong)


@pytest.mark.parametrize(
    "path", ["/api/v1/queues", "/api/v1/nothing", "/nothing", "/metrics", "/readyz", "/sign-out"]
)
async def test_no_answer_is_kept(start: Start, path: str) -> None:
    """Whatever is answered, nobody on the way keeps it or takes it for another kind of file."""
    async with start(admin_token=TOKEN) as service:
        for headers in ({}, BEARER):
            answer = await service.client.get(path, headers=headers)
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("charset", ["unicode_escape", "utf-7", "undefined", "hex"])
async def test_a_form_in_an_odd_charset(start: Start, charset: str) -> None:
    """What is no text is refused; it is no fault of ours."""
    parts = {"name": "A\\ud800", "token": "\\ud800+2AA-"}
    body = "".join(
        f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in parts.items()
    )
    kind = {"Content-Type": f"multipart/form-data; boundary=x; charset={charset}"}
    async with start(admin_token=TOKEN) as service:
        answer = await service.client.post("/sign-in", content=f"{body}--x--\r\n", headers=kind)
        assert 400 <= answer.status_code < 500


async def test_guessing_at_the_api(start: Start) -> None:
    """Wrong bearers count as wrong tokens; a request without any does not."""
    async with start(admin_token=TOKEN) as service:
        for _ in range(20):
            answer = await service.client.get("/api/v1/queues")
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        for value in (b"Bearer x", b"Basic x", b"Bearer", "Bearer é".encode(), b"x"):
            answer = await service.client.get("/api/v1/queues", headers={b"Authorization": value})
            assert answer.status_code == 401, value
        answer = await service.client.get("/api/v1/queues", headers={"Authorization": "Bearer x"})
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")


class QuickRoute(PageRoute):
    """A page's route whose forms come soon, or not at all."""

    form_seconds = 0.05


async def test_forms_are_small_and_come_soon(start: Start) -> None:
    """Nobody who has no session can hold the listener's memory with what is no form of ours."""

    async def in_parts() -> AsyncIterator[bytes]:
        yield b"name=Eve&token="
        await asyncio.sleep(0.5)
        yield b"x" * 15

    async with start(admin_token=TOKEN) as service:
        for path in ("/sign-in", "/silence"):
            answer = await service.client.post(path, data={"name": "Eve", "token": "x" * MAX_FORM_BYTES})
            assert answer.status_code == 413
            assert (await service.client.post(path, content=in_parts())).status_code == 411
        assert (await service.client.post("/silence")).status_code == 401
    app = FastAPI()
    app.router.route_class = QuickRoute
    app.post("/form")(lambda: None)
    async with serving(app) as url, httpx.AsyncClient(base_url=url) as client:
        slow = await client.post("/form", content=in_parts(), headers={"Content-Length": "30"})
        assert (slow.status_code, "did not arrive in time" in slow.text) == (408, True)


async def test_a_name_is_needed(start: Start) -> None:
    """The trail needs a name, also if it is cut."""
    async with start(admin_token=TOKEN) as service:
        answer = await service.client.post("/sign-in", data={"name": " \t\x07", "token": TOKEN})
        assert answer.status_code == 422
        for name in ("API", " api "):
            answer = await service.client.post("/sign-in", data={"name": name, "token": TOKEN})
            assert answer.status_code == 422
            assert "calls programs that" in answer.text
        await sign_in(service, "A" * 500)
        assert "A" * 59 + "…" in (await service.client.get("/")).text


def test_the_waits_grow_and_end() -> None:
    """Each further wrong token doubles the wait, up to five minutes; a quiet quarter of an hour forgets."""
    seconds = 0.0
    throttle = Throttle(lambda: seconds)
    waits = []
    for _ in range(16):
        throttle.wrong("192.0.2.1")
        waits.append(throttle.wait("192.0.2.1"))
    assert waits[:8] == [0, 0, 0, 0, 1, 2, 4, 8]
    assert waits[-1] == 300
    assert throttle.wait("192.0.2.2") == 0
    seconds = 301
    assert throttle.wait("192.0.2.1") == 0
    seconds = 2000
    throttle.wrong("192.0.2.1")
    assert throttle.wait("192.0.2.1") == 0


def test_the_right_token_forgets() -> None:
    """Who has the right token begins again from zero."""
    throttle = Throttle(lambda: 0.0)
    for _ in range(FREE_TRIES - 1):
        throttle.wrong("192.0.2.1")
    throttle.right("192.0.2.1")
    throttle.wrong("192.0.2.1")
    assert throttle.wait("192.0.2.1") == 0


def test_many_addresses_are_slowed_down_in_all() -> None:
    """Addresses are cheap: together they wait as well, but never long; a network of IPv6 is one address."""
    throttle = Throttle(lambda: 0.0)
    for number in range(FREE_TRIES_IN_ALL + 20):
        throttle.wrong(f"192.0.2.{number}")
    assert throttle.wait("198.51.100.1") == 10
    throttle = Throttle(lambda: 0.0)
    for number in range(FREE_TRIES):
        throttle.wrong(f"2001:db8::{number}")
    assert throttle.wait("2001:db8::ffff") == 1
    assert throttle.wait("2001:db9::1") == 0


def test_guesses_from_everywhere_do_not_lock_out_who_has_the_token() -> None:
    """Where the right token came from before, only that address's own wrong tokens count."""
    throttle = Throttle(lambda: 0.0)
    throttle.right("198.51.100.1")
    for number in range(FREE_TRIES_IN_ALL + 20):
        throttle.wrong(f"192.0.2.{number}")
    assert throttle.wait("198.51.100.1") == 0
    assert throttle.wait("198.51.100.2") == 10
    for _ in range(FREE_TRIES):
        throttle.wrong("198.51.100.1")
    assert throttle.wait("198.51.100.1") == 1


def test_the_throttle_stays_small() -> None:
    """However many addresses there are, so many are remembered at the most."""
    throttle = Throttle(lambda: 0.0)
    for number in range(MAX_RIGHT_SOURCES + 500):
        throttle.right(f"address {number}")
    assert len(throttle._right) <= MAX_RIGHT_SOURCES  # noqa: SLF001 - what it is about
    for number in range(MAX_WRONG_SOURCES + 500):
        throttle.wrong(f"address {number}")
    assert len(throttle._wrong) <= MAX_WRONG_SOURCES  # noqa: SLF001 - what it is about


def test_the_gate_says_nothing_of_the_right_token_while_it_waits() -> None:
    """While an address waits, the right token and a wrong one get the same answer."""
    gate = Gate(TOKEN, lambda: 0.0)
    for _ in range(FREE_TRIES):
        assert gate.enter("Eve", "wrong", "192.0.2.1") is None
    for token in (TOKEN, "wrong"):
        with pytest.raises(HTTPException) as raised:
            gate.enter("Eve", token, "192.0.2.1")
        assert raised.value.status_code == 429


def test_a_form_belongs_to_one_session() -> None:
    """Two sessions of one name have different forms."""
    gate = Gate(TOKEN)
    one, other = Visitor("Ada", "1"), Visitor("Ada", "2")
    assert gate.check_form(gate.form_token(one), one)
    assert not gate.check_form(gate.form_token(one), other)


@pytest.mark.parametrize(
    "path",
    [
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
        "evil",
        "",
        "/\n/x",
        "///x",
        "//[",
    ],
)
def test_no_way_back_leads_elsewhere(path: str) -> None:
    """After a form, only this page's own paths are gone to."""
    assert local(path) == "/"
    assert local("/changes?q=a&state=dead") == "/changes?q=a&state=dead"
