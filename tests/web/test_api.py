"""The API under /api/v1."""

import json
from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse

from app.demo.stand_in_slack import StandInSlack
from app.model.delivery import State
from tests.conftest import DATABASES, Service, Start, count
from tests.waiting import until
from tests.web.visitor import BEARER, TOKEN

pytestmark = DATABASES


async def get(service: Service, path: str, status: int = 200) -> Any:
    """Ask the API, and return what it answers."""
    answer = await service.client.get(f"/api/v1{path}", headers=BEARER)
    assert answer.status_code == status, answer.text
    return answer.json()


async def test_changes_page_by_page(start: Start) -> None:
    """`next` leads through all changes; each says what changed and why it alerted."""
    async with start(admin_token=TOKEN) as service:
        for number in range(5):
            await service.change("Healthy", "Degraded", entity=f"e{number}")
        page = await get(service, "/changes?limit=2")
        found = page["items"]
        while page["next"]:
            page = await get(service, f"/changes?limit=2&before={page['next']}")
            found += page["items"]
        assert [one["entity"] for one in found] == ["e4", "e3", "e2", "e1", "e0"]
        assert found[0]["values"][0] == {"name": "healthStatus", "before": "Healthy", "after": "Degraded"}
        one = await get(service, f"/changes/{found[0]['id']}")
        assert (one["reason"], one["teams"], one["alerts"]) == ("rule 'health' matches", ["Rocket"], 1)
        assert [each["entity"] for each in (await get(service, "/changes?q=E3"))["items"]] == ["e3"]
        assert (await get(service, "/changes?state=none"))["items"] == []
        assert len((await get(service, "/changes?team=Rocket&rule=health&since=2020-01-01"))["items"]) == 5


async def test_a_delivery_and_what_can_be_done(start: Start, slack: StandInSlack) -> None:
    """A dead delivery shows its attempts, and can be retried once."""
    slack.answers.extend([PlainTextResponse("invalid_payload", 400)] * 3)
    async with start(admin_token=TOKEN) as service:
        await service.change("Healthy", "Degraded")

        async def dead() -> bool:
            return await count(service.store, State.DEAD) == 1

        await until(dead)
        (one,) = (await get(service, "/deliveries?state=dead"))["items"]
        assert one == await get(service, f"/deliveries/{one['id']}")
        assert [one] == (await get(service, f"/deliveries?change={one['change']}"))["items"]
        assert [(each["outcome"], each["detail"]) for each in one["attempts"]] == [
            ("dead", "400 invalid_payload")
        ]
        assert one["notification"]["entity"] == "notification-service-prod"
        done = await service.client.post("/api/v1/deliveries/1/retry", headers=BEARER)
        assert (done.status_code, done.json()["audit"]) == (200, 1)

        async def delivered() -> bool:
            return await count(service.store, State.DELIVERED) == 1

        await until(delivered)
        again = await service.client.post("/api/v1/deliveries/1/retry", headers=BEARER)
        assert again.status_code == 409
        (entry,) = (await get(service, "/audit"))["items"]
        assert (entry["who"], entry["what"]) == ("API", "retry")


async def test_incidents(start: Start) -> None:
    """Open and resolved ones, all and of one entity."""
    async with start(admin_token=TOKEN) as service:
        await service.change("Healthy", "Degraded", entity="a")
        await service.change("Healthy", "Degraded", entity="b")
        await service.change("Degraded", "Healthy", entity="b")
        assert [one["entity"] for one in (await get(service, "/incidents"))["items"]] == ["b", "a"]
        page = await get(service, "/incidents?order=worst&limit=1")
        assert [one["entity"] for one in page["items"]] == ["a"]
        (one,) = (await get(service, f"/incidents?order=worst&before={page['next']}"))["items"]
        assert one["entity"] == "b"
        (one,) = (await get(service, "/incidents?state=open"))["items"]
        assert (one["entity"], one["state"], one["severity"]) == ("a", "Degraded", "warning")
        assert one["title"] == "Notification Service"
        (one,) = (await get(service, "/incidents?blueprint=deploymentConfig&entity=b"))["items"]
        assert one["resolved_at"]
        one_of_three = "severity=warning&state=open&q=A"
        for fits in ("entity=a", "q=A", one_of_three, "rule=health&entity=a"):
            items = (await get(service, f"/incidents?{fits}"))["items"]
            assert [one["entity"] for one in items] == ["a"], fits
        for other in ("entity=A", "q=c", "severity=critical", "rule=x", "team=x"):
            assert not (await get(service, f"/incidents?{other}"))["items"], other


async def test_an_incident_is_closed(start: Start) -> None:
    """It is over, its channel is told who closed it, and why; a second time there is none."""
    async with start(admin_token=TOKEN) as service:
        await service.change("Healthy", "Degraded")
        (incident,) = (await get(service, "/incidents?state=open"))["items"]
        path = f"/api/v1/incidents/{incident['id']}/close"
        done = await service.client.post(path, json={"comment": "sold"}, headers=BEARER)
        assert "rule health is closed by API: sold." in done.json()["done"]
        assert (await service.client.post(path, json={}, headers=BEARER)).status_code == 409
        assert (await get(service, "/incidents?state=open"))["items"] == []
        (entry, *_) = (await get(service, "/audit"))["items"]
        assert (entry["who"], entry["what"]) == ("API", "close incident")

        async def told() -> bool:
            alerts = [row.notification for row in await service.deliveries() if row.state is State.DELIVERED]
            return [alert.closed for alert in alerts] == ["by API: sold", ""]

        await until(told)


async def test_an_incident_is_acknowledged(start: Start) -> None:
    """Who and when is told; a second time nothing is done, nor by the same key; it can be taken back."""
    async with start(admin_token=TOKEN) as service:
        await service.change("Healthy", "Degraded")
        (incident,) = (await get(service, "/incidents?acknowledged=false"))["items"]
        assert (incident["acknowledged_at"], incident["acknowledged_by"]) == (None, "")
        path = f"/api/v1/incidents/{incident['id']}"

        async def act(verb: str, key: str, **body: Any) -> httpx.Response:
            headers = BEARER | {"Idempotency-Key": key}
            return await service.client.post(f"{path}/{verb}", json=body, headers=headers)

        first = await act("acknowledge", "1", comment="on it")
        assert "rule health is acknowledged by API: on it." in first.json()["done"]
        assert (await act("acknowledge", "1")).json() == first.json()
        again = await act("acknowledge", "2")
        assert (again.status_code, "already acknowledged by API" in again.text) == (409, True)
        (incident,) = (await get(service, "/incidents?acknowledged=true"))["items"]
        assert (incident["acknowledged_by"], incident["version"]) == ("API", 2)
        assert (await act("unacknowledge", "3")).status_code == 200
        assert (await get(service, "/incidents?acknowledged=true"))["items"] == []
        assert (await act("silence", "4", seconds=60, ends_at="2036-01-01T00:00:00Z")).status_code == 422
        assert (await act("silence", "5", ends_at="1999-01-01T00:00:00Z")).status_code == 422
        silenced = await act("silence", "6")
        assert "is silenced by API, until it is over." in silenced.json()["done"]
        (silence,) = await get(service, "/silences")
        assert (silence["id"], silence["entity"]) == (silenced.json()["id"], incident["entity"])


async def test_silences(start: Start) -> None:
    """They are made with an end, listed, and ended."""
    async with start(admin_token=TOKEN) as service:
        wanted = {"entity": "checkout-*", "comment": "a deployment", "seconds": 600}
        made = await service.client.post("/api/v1/silences", json=wanted, headers=BEARER)
        assert made.status_code == 201
        (one,) = await get(service, "/silences")
        assert (one["id"], one["entity"], one["rule"], one["author"]) == (
            made.json()["id"],
            "checkout-*",
            "*",
            "API",
        )
        ended = await service.client.delete(f"/api/v1/silences/{one['id']}", headers=BEARER)
        assert ended.status_code == 200
        assert await get(service, "/silences") == []
        assert len(await get(service, "/silences?ended=true")) == 1
        assert (await service.client.delete("/api/v1/silences/1", headers=BEARER)).status_code == 404


@pytest.mark.parametrize(
    "wanted",
    [
        {"comment": "no pattern", "seconds": 60},
        {"rule": "r", "comment": "no end"},
        {"rule": "r", "comment": "two", "seconds": 60, "ends_at": "2030-01-01T00:00:00Z"},
        {"rule": "r", "comment": "no zone", "ends_at": "2030-01-01T00:00:00"},
        {"rule": "r", "comment": "over", "ends_at": "2020-01-01T00:00:00Z"},
        {"rule": "r", "comment": "", "seconds": 60},
        {"rule": "r", "comment": "typo", "second": 60},
        {"rule": "r", "seconds": 60},
        [],
        {"rule": "\ud800", "comment": "half a letter", "seconds": 60},
        {"rule": "r", "comment": "\udfff", "seconds": 60},
        {"\ud800": "\ud800"},
    ],
)
async def test_silences_that_are_none(start: Start, wanted: Any) -> None:
    """What says too little, or too much, is refused."""
    async with start(admin_token=TOKEN) as service:
        headers = BEARER | {"Content-Type": "application/json"}
        answer = await service.client.post("/api/v1/silences", content=json.dumps(wanted), headers=headers)
        assert answer.status_code == 422
        assert await get(service, "/silences?ended=true") == []


async def test_queues(start: Start, slack: StandInSlack) -> None:
    """A queue on hold says why, and is released."""
    slack.answers.append(PlainTextResponse("no_service", 404))
    async with start(admin_token=TOKEN) as service:
        await service.change("Healthy", "Degraded")

        async def on_hold() -> bool:
            return await count(service.store, State.ON_HOLD) == 1

        await until(on_hold)
        (queue,) = await get(service, "/queues")
        assert (queue["on_hold"], queue["waiting"]) == ("404 no_service", 1)
        released = await service.client.post("/api/v1/queues/default/release", headers=BEARER)
        assert released.status_code == 200
        for name, status in (("default", 409), ("no/such", 404)):
            answer = await service.client.post(f"/api/v1/queues/{name}/release", headers=BEARER)
            assert answer.status_code == status


async def test_quarantine(start: Start) -> None:
    """What is in quarantine is shown, and can be read again."""
    async with start(admin_token=TOKEN) as service:
        await service.post(b'{"no": "change"}')
        (one,) = (await get(service, "/quarantine"))["items"]
        assert (one["path"], one["body"], one["size"]) == ("action", '{"no": "change"}', 16)
        for number, status in ((1, 409), (2, 404), (0, 422)):
            answer = await service.client.post(f"/api/v1/quarantine/{number}/replay", headers=BEARER)
            assert answer.status_code == status


async def test_a_slash_at_the_end(start: Start) -> None:
    """It is the same address, of the API and of the page: nothing is redirected, least of all to http."""
    async with start(admin_token=TOKEN) as service:
        assert await get(service, "/changes/?limit=1") == await get(service, "/changes?limit=1")
        silence = {"rule": "r", "comment": "c", "seconds": 60}
        made = await service.client.post("/api/v1/silences/", json=silence, headers=BEARER)
        assert made.status_code == 201
        await service.client.post("/sign-in/", data={"name": "Ada", "token": TOKEN})
        for path in ("/", "/changes/", "/timeline//", "/docs/", "/metrics/"):
            assert (await service.client.get(path, headers=BEARER)).status_code == 200, path
        await get(service, "/nothing/", 404)


@pytest.mark.parametrize("path", ["/changes/99", "/deliveries/99"])
async def test_what_is_not_there(start: Start, path: str) -> None:
    """It is answered with 404."""
    async with start(admin_token=TOKEN) as service:
        assert "There is no" in (await get(service, path, 404))["detail"]


@pytest.mark.parametrize(
    "path",
    [
        "/changes?before=x",
        "/changes?limit=0",
        "/changes?limit=201",
        "/changes?state=x",
        "/changes?since=x",
        "/changes/0",
        "/changes/9223372036854775808",
        "/deliveries?before=1",
        "/deliveries?state=none",
        "/incidents?before=x.y",
        "/quarantine?before=x",
        "/audit?before=x",
    ],
)
async def test_what_makes_no_sense(start: Start, path: str) -> None:
    """It is answered with 422."""
    async with start(admin_token=TOKEN) as service:
        await get(service, path, 422)


@pytest.mark.parametrize("time", ["0001-01-01", "0001-01-02T00:00", "9999-12-31T23:59"])
async def test_times_at_the_ends_of_time(start: Start, time: str) -> None:
    """They are times like others."""
    async with start(admin_token=TOKEN) as service:
        await service.change("Healthy", "Degraded")
        early = time.startswith("0")
        assert len((await get(service, f"/changes?since={time}"))["items"]) == early
        assert len((await get(service, f"/changes?until={time}"))["items"]) == (not early)


async def test_every_route_wants_the_token(start: Start) -> None:
    """Each route of the API, whatever its method, answers 401 without the token; a cookie is no token."""
    async with start(admin_token=TOKEN) as service:
        await service.client.post("/sign-in", data={"name": "Ada", "token": TOKEN})
        paths = (await service.client.get("/openapi.json")).json()["paths"]
        mine = {path: methods for path, methods in paths.items() if path.startswith("/api/v1/")}
        assert len(mine) == 20
        for path, methods in mine.items():
            for method, described in methods.items():
                url = path.replace("{number}", "1").replace("{name}", "default").replace("{verb}", "close")
                answer = await service.client.request(method, url)
                assert answer.status_code == 401, path
                assert {"401", "429", "503"} <= described["responses"].keys()
                assert described["security"] == [{"HTTPBearer": []}]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/silences", {"rule": "x", "comment": "y", "starts_at": "9999-12-31T23:59:59Z", "seconds": 86400}),
        ("/deliveries/retry", {"since": "0001-01-01T00:00:00+14:00"}),
        ("/deliveries/retry", {"rule": ""}),
        ("/deliveries/retry", {"rule": "\ud800"}),
    ],
)
async def test_values_at_the_edge(start: Start, path: str, body: dict[str, Any]) -> None:
    """A time that nobody means, an empty name, half a character: no fault of this program."""
    async with start(admin_token=TOKEN) as service:
        text = json.dumps(body)
        headers = BEARER | {"Content-Type": "application/json"}
        answer = await service.client.post(f"/api/v1{path}", content=text, headers=headers)
        assert answer.status_code in (200, 422)
