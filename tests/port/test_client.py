"""Port's API client, against a stand-in Port on loopback."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from app.demo.run import serving
from app.errors import PortError, SettingsError
from app.port.client import PortClient
from app.port.refusal import advice, rate_limit_wait
from app.port.transport import Request
from tests.port.stand_in_port import (
    CLIENT_ID,
    CLIENT_SECRET,
    LOGIN,
    TRACE_ID,
    StandInPort,
    refusal,
    standing_in,
)

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
BLUEPRINT = {"identifier": "service", "title": "Service", "schema": {"properties": {}}}
PATH = "/v1/blueprints/service"


class Waiting:
    """Takes the place of sleep and of the screen: notes how long, and what was said."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.said: list[str] = []

    async def sleep(self, seconds: float) -> None:
        self.seconds.append(seconds)


@pytest.fixture
async def port() -> AsyncIterator[StandInPort]:
    """A stand-in Port that has the blueprint `service`."""
    async with standing_in() as stand_in:
        stand_in.blueprints["service"] = dict(BLUEPRINT)
        yield stand_in


@pytest.fixture
def waiting() -> Waiting:
    """What the client waited for."""
    return Waiting()


@pytest.fixture
async def client(port: StandInPort, waiting: Waiting) -> AsyncIterator[PortClient]:
    """A client of the stand-in with the right credentials, that never waits for real."""
    async with make(port.url, waiting) as one:
        yield one


def make(url: str, waiting: Waiting, secret: str = CLIENT_SECRET, **more: Any) -> PortClient:
    """Return a client that notes its waits instead of waiting."""
    return PortClient(
        url,
        CLIENT_ID,
        secret,
        clock=lambda: NOW,
        sleep=waiting.sleep,
        progress=waiting.said.append,
        **more,
    )


def logins(port: StandInPort) -> int:
    """Count how often a token was asked for."""
    return sum(one.path == LOGIN for one in port.requests)


async def refused(call: Awaitable[Any]) -> PortError:
    """Return the error of a call that must fail, and hold that it shows no secret."""
    with pytest.raises(PortError) as caught:
        await call
    error = caught.value
    for text in (str(error), repr(error), error.said, error.advice, repr(error.__cause__)):
        assert CLIENT_SECRET not in text
        assert "stand-in-token" not in text
        assert "\n" not in text
    return error


async def test_one_token_serves_all_calls(port: StandInPort, client: PortClient) -> None:
    """A token is fetched with the first call, and used for the next ones."""
    await client.get_blueprint("service")
    await client.get_blueprint("service")
    assert [one.path for one in port.requests] == [LOGIN, PATH, PATH]


async def test_expired_token(port: StandInPort, client: PortClient) -> None:
    """When a token has expired, a new one is fetched and the call is made once more."""
    await client.get_blueprint("service")
    port.expire_token()
    assert (await client.get_blueprint("service") or {})["title"] == "Service"
    assert logins(port) == 2


async def test_token_refused_twice(port: StandInPort, client: PortClient) -> None:
    """When Port refuses a new token too, that is an error, not a loop."""
    port.script("GET", PATH, refusal(401), refusal(401), refusal(401))
    error = await refused(client.get_blueprint("service"))
    assert (error.status, logins(port)) == (401, 2)


async def test_identifiers_are_quoted(port: StandInPort, client: PortClient) -> None:
    """An identifier cannot change the route."""
    port.entities["a/b?c", "é #1"] = {"title": "found"}
    assert await client.get_entity("a/b?c", "é #1") == {"title": "found"}
    assert port.requests[-1].path == "/v1/blueprints/a%2Fb%3Fc/entities/%C3%A9%20%231"


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
async def test_base_url_as_people_write_it(port: StandInPort, waiting: Waiting, suffix: str) -> None:
    """The tutorial writes the address with /v1, others with a slash: both work."""
    async with make(port.url + suffix, waiting) as client:
        assert await client.get_blueprint("service")


def test_base_url_that_is_none(waiting: Waiting) -> None:
    """An address without a scheme is refused by the name of its setting."""
    with pytest.raises(SettingsError, match="PORT_API_URL"):
        make("api.port.io", waiting)


async def test_entities_come_and_go(client: PortClient) -> None:
    """An entity is created, changed by merging, found page by page, and deleted; twice does no harm."""
    for name in ("a", "b", "c"):
        await client.upsert_entity("service", {"identifier": name, "properties": {"cpu": 1}})
    await client.upsert_entity("service", {"identifier": "a", "properties": {"memory": 2}})
    await client.patch_entity("service", "a", {"properties": {"cpu": 3}})
    assert (await client.get_entity("service", "a") or {})["properties"] == {"cpu": 3, "memory": 2}
    first = await client.search_entities("service", [], limit=2)
    second = await client.search_entities("service", [], limit=2, after=first.next)
    assert [one["identifier"] for one in (*first.entities, *second.entities)] == ["a", "b", "c"]
    assert second.next is None
    await client.delete_entity("service", "a")
    await client.delete_entity("service", "a")
    assert await client.get_entity("service", "a") is None


@pytest.mark.parametrize(
    "answer", [Response(), JSONResponse({"ok": True}), JSONResponse({"entities": [], "next": "page 2"})]
)
async def test_a_search_without_an_answer(client: PortClient, port: StandInPort, answer: Response) -> None:
    """What has no list of entities does not say that there are none; nor does a page that leads to itself."""
    port.script("POST", f"{PATH}/entities/search", answer)
    with pytest.raises(PortError, match="not an answer of Port's API"):
        await client.search_entities("service", [], after="page 2")


async def test_dry_run_only_reads(port: StandInPort, waiting: Waiting) -> None:
    """A client that only plans sends what reads, and keeps the rest as requests."""
    async with make(port.url, waiting, dry_run=True) as client:
        await client.patch_blueprint("service", {"title": "New"})
        assert (await client.get_blueprint("service") or {})["title"] == "Service"
        assert client.planned == [Request("PATCH", PATH, body={"title": "New"})]
    assert port.writes == []


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"x-ratelimit-reset": "7"}, 7),
        ({"x-ratelimit-reset": str(NOW.timestamp() + 9)}, 9),
        ({"x-ratelimit-reset": "3", "retry-after": "5"}, 5),
        ({"retry-after": "Mon, 23 Nov 2026 12:00:30 GMT"}, 30),
        ({"x-ratelimit-reset": "86400"}, 60),
        ({"x-ratelimit-reset": "0"}, 1),
        ({"x-ratelimit-reset": str(NOW.timestamp() - 100)}, 1),
        ({"x-ratelimit-reset": "soon", "retry-after": "later"}, 10),
        ({"x-ratelimit-reset": "nan"}, 10),
        ({}, 10),
    ],
)
def test_rate_limit_wait(headers: dict[str, str], seconds: float) -> None:
    """Both meanings of the reset header are understood, and no wait is longer than a minute."""
    assert rate_limit_wait(headers, NOW) == pytest.approx(seconds)


async def test_rate_limited(port: StandInPort, client: PortClient, waiting: Waiting) -> None:
    """A rate limit is waited for, and said in one line; it also holds for what must not be sent twice."""
    port.script("POST", "/v1/blueprints", refusal(429, **{"x-ratelimit-reset": "7"}))
    await client.create_blueprint(BLUEPRINT | {"identifier": "other"})
    assert waiting.seconds == [7]
    assert waiting.said == [
        "Port limits the rate (1 of 5): waiting 7 s, then POST /v1/blueprints again",
    ]
    assert "other" in port.blueprints


async def test_rate_limited_for_good(port: StandInPort, client: PortClient, waiting: Waiting) -> None:
    """After five waits it is an error."""
    port.script("GET", PATH, *(refusal(429, **{"retry-after": "90"}) for _ in range(9)))
    error = await refused(client.get_blueprint("service"))
    assert error.status == 429
    assert waiting.seconds == [60] * 5
    assert "try again in a few minutes" in str(error)


async def test_server_errors_pass(port: StandInPort, client: PortClient, waiting: Waiting) -> None:
    """What can be repeated is tried again when Port fails, three times in all."""
    port.script("GET", PATH, refusal(500), refusal(503))
    assert await client.get_blueprint("service")
    assert waiting.seconds == [1, 3]


async def test_server_errors_stay(port: StandInPort, client: PortClient) -> None:
    """When Port goes on failing, the error says whose fault it is and gives the trace id."""
    port.script("GET", PATH, *(refusal(500) for _ in range(9)))
    error = await refused(client.get_blueprint("service"))
    assert (error.status, error.trace_id) == (500, TRACE_ID)
    assert "fault in Port" in error.advice


async def test_creation_is_not_repeated(port: StandInPort, client: PortClient) -> None:
    """A creation that failed on Port's side may have happened: it is not sent twice."""
    port.script("POST", "/v1/blueprints", refusal(502))
    assert (await refused(client.create_blueprint(BLUEPRINT))).status == 502
    assert len(port.writes) == 1


REFUSALS = [
    (403, "administrator"),
    (404, "does not exist"),
    (409, "exists already"),
    (413, "1 MiB"),
    (422, "names the field"),
    (418, "does not accept this request"),
]


@pytest.mark.parametrize(("status", "words"), REFUSALS)
async def test_refusals(port: StandInPort, client: PortClient, status: int, words: str) -> None:
    """Each refusal names the route, Port's own message and the trace id, and says what to do."""
    port.script("PATCH", PATH, refusal(status, "no, not so"))
    error = await refused(client.patch_blueprint("service", {"title": "x"}))
    assert error.status == status
    for part in (f"PATCH {PATH}", str(status), "no, not so", TRACE_ID, words):
        assert part in str(error)


async def test_wrong_credentials(port: StandInPort, waiting: Waiting) -> None:
    """Wrong credentials are named as such, by their settings; a secret that Port repeats is hidden."""
    async with make(port.url, waiting, secret="wrong-secret") as client:
        error = await refused(client.get_blueprint("service"))
    assert f"POST {LOGIN}: 401" in str(error)
    assert "PORT_CLIENT_SECRET" in error.advice
    assert "wrong client id or secret: [hidden]" in error.said
    assert "wrong-secret" not in str(error)


@pytest.mark.parametrize(
    ("base", "hint"),
    [
        ("https://api.port.io", "set PORT_REGION=us and no PORT_API_URL, or give the command --region us"),
        ("https://api.getport.io", "--region us"),
        ("https://api.us.port.io", "set PORT_REGION=eu and no PORT_API_URL, or give the command --region eu"),
        ("https://api.us.getport.io", "--region eu"),
    ],
)
@pytest.mark.parametrize("status", [401, 404])
def test_wrong_region(base: str, hint: str, status: int) -> None:
    """Credentials that a region does not know may be the other one's: that is suggested."""
    assert hint in advice(status, base, logging_in=True)


def test_no_region_elsewhere() -> None:
    """An address that is not Port's own has no other region."""
    assert "region" not in advice(401, "https://port.example.com", logging_in=True)


BODIES: list[tuple[Response, str]] = [
    (JSONResponse({"ok": False, "error": {"name": "bad", "message": "so not"}}, 422), "422 so not"),
    (JSONResponse({"ok": False, "error": {"code": 7}}, 422), '{"code": 7}'),
    (JSONResponse({"ok": False, "error": "bad", "details": {"path": "schema.x"}}, 422), '"schema.x"'),
    (JSONResponse({"ok": False}, 422), "Unprocessable"),
    (JSONResponse(["odd"], 422), '["odd"]'),
    (PlainTextResponse("one\ntwo\x1b[31m", 400), "one two"),
    (PlainTextResponse("", 400), "Bad Request"),
    (PlainTextResponse("x" * 5000, 400), "x…"),
]


@pytest.mark.parametrize(("answer", "words"), BODIES)
async def test_forms_of_a_refusal(
    port: StandInPort, client: PortClient, answer: Response, words: str
) -> None:
    """Port's message is found in whatever form it comes, and put on one line."""
    port.script("PATCH", PATH, answer)
    error = await refused(client.patch_blueprint("service", {}))
    assert words in str(error)
    assert len(str(error)) < 1000


@pytest.mark.parametrize(
    "answer",
    [
        PlainTextResponse("<html>welcome</html>"),
        JSONResponse({"ok": True}),
        JSONResponse([]),
        JSONResponse({"ok": True, "blueprint": "odd"}),
        Response("[" * 100_000),
        RedirectResponse("https://elsewhere.example.com"),
    ],
)
async def test_not_port(port: StandInPort, client: PortClient, answer: Response) -> None:
    """An answer that is not Port's is named as such, with the setting that is to blame."""
    port.script("GET", PATH, answer)
    error = await refused(client.get_blueprint("service"))
    assert "not an answer of Port's API" in error.said
    assert "PORT_API_URL" in error.advice


async def test_list_that_is_none(port: StandInPort, client: PortClient) -> None:
    """A list that is none, or whose members are no objects, is not taken for an empty one."""
    search = "/v1/blueprints/service/entities/search"
    for content in (
        {},
        {"actions": [1], "blueprints": [None], "entities": [None]},
        {"entities": [], "next": 5},
    ):
        for method, path in (("GET", "/v1/actions"), ("GET", "/v1/blueprints"), ("POST", search)):
            port.script(method, path, JSONResponse({"ok": True} | content))
        assert "not an answer" in (await refused(client.list_automations())).said
        assert "not an answer" in (await refused(client.list_blueprints())).said
        assert "not an answer" in (await refused(client.search_entities("service", []))).said


@pytest.mark.parametrize("token", ["", None, 7, "two\nlines", "é"])
async def test_token_that_is_none(port: StandInPort, client: PortClient, token: Any) -> None:
    """A token that cannot go into a header is refused before it is sent, and not shown."""
    port.script("POST", LOGIN, JSONResponse({"ok": True, "accessToken": token}))
    assert "not an answer of Port's API" in (await refused(client.get_blueprint("service"))).said


async def test_no_network(waiting: Waiting) -> None:
    """When nobody answers, the error says so after a few tries, with what to check."""
    async with serving(Starlette()) as url:
        pass
    async with make(url, waiting) as client:
        error = await refused(client.get_blueprint("service"))
    assert error.status is None
    assert f"cannot reach {url}" in error.said
    assert "Check the network" in error.advice
    assert waiting.seconds == [1, 3]
    assert "Port cannot be reached: waiting 1 s" in waiting.said[0]


@pytest.mark.parametrize(("repeatable", "tries"), [(True, 3), (False, 1)])
async def test_broken_connection(waiting: Waiting, repeatable: bool, tries: int) -> None:
    """A connection that breaks after the request was sent is tried again only where that does no harm."""
    seen: list[str] = []

    async def break_off(scope: Any, _: Any, send: Callable[[Any], Any]) -> None:
        seen.append(scope["path"])
        start = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"99")]}
        await send(start)
        await send({"type": "http.response.body", "body": b"{", "more_body": True})

    async def log_in(_: Any) -> Response:
        return JSONResponse({"ok": True, "accessToken": "stand-in-token"})

    routes = [Route(LOGIN, log_in, methods=["POST"]), Route("/v1/{rest:path}", _Raw(break_off))]
    async with serving(Starlette(routes=routes)) as url, make(url, waiting) as client:
        call = client.get_blueprint("service") if repeatable else client.create_blueprint(BLUEPRINT)
        assert (await refused(call)).status is None
    assert len(seen) == tries


class _Raw:
    """An ASGI application that Starlette takes as an endpoint as it is."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._app(scope, receive, send)


def test_request_as_text() -> None:
    """A request reads as its method and route."""
    assert str(Request("GET", "/v1/actions", {"version": "v2"})) == "GET /v1/actions"
