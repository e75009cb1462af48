"""The page over HTTP: what it shows, what its forms do."""

import html
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import PlainTextResponse

from app.demo.run import change_body
from app.demo.stand_in_slack import StandInSlack
from app.model.delivery import State
from app.store import queries
from app.web.api.incident_models import IncidentOut
from app.web.view import iso
from tests.conftest import DATABASES, Service, Start, count
from tests.store.family import CLUSTER, SERVICE, Catalog
from tests.waiting import until
from tests.web.visitor import TOKEN, do, form, sign_in

pytestmark = DATABASES

SCRIPT = """<script>alert(1)</script>'"--><img src=x onerror=alert(2)>{{ 7*7 }}"""


async def page(service: Service, path: str) -> str:
    """Return a page's text, unescaped; it is there."""
    answer = await service.client.get(path)
    assert answer.status_code == 200, answer.text
    return html.unescape(answer.text)


def links(text: str, label: str) -> list[str]:
    """Return where the links with a label lead."""
    found = re.findall(r'<a class="act" href="([^"]*)"[^>]*aria-label="([^"]*)"', text)
    return [url for url, said in found if said == label]


async def delivered(service: Service, number: int = 1) -> None:
    """Wait until so many deliveries have been delivered."""

    async def enough() -> bool:
        return await count(service.store, State.DELIVERED) >= number

    await until(enough)


async def test_empty_pages_help(start: Start) -> None:
    """Without anything to show, each page says what would be there."""
    async with start(admin_token=TOKEN) as service:
        await sign_in(service)
        assert "The listener works" in await page(service, "/")
        assert "doctor" in await page(service, "/changes")
        assert "No change matches" in await page(service, "/changes?q=x")
        assert "No alert in the last" in await page(service, "/timeline")
        assert "two clicks" in await page(service, "/silences")
        assert "Nothing is in quarantine" in await page(service, "/quarantine")
        assert "No action yet" in await page(service, "/audit")


async def test_from_the_change_to_its_delivery(start: Start) -> None:
    """A change shows before and after, the rule, its delivery and the attempt, and leads to Port."""
    async with start(admin_token=TOKEN) as service:
        await service.change("Healthy", "Degraded")
        await delivered(service)
        await sign_in(service)
        now = await page(service, "/")
        assert "Notification Service" in now
        assert 'href="/changes/1"' in now
        assert "1 delivered</span>" in await page(service, "/changes")
        change = await page(service, "/changes/1")
        for part in ("Degraded", "rule 'health' matches", "delivered", "ok", "ada@example.com", "Rocket"):
            assert part in change
        assert "https://app.port.io/deploymentConfigEntity?identifier=notification-service-prod" in change
        entity = await page(service, "/entity?blueprint=deploymentConfig&entity=notification-service-prod")
        assert "https://newrelic.com" in entity
        assert "warning" in entity


async def test_reports_to_port(start: Start) -> None:
    """A change's own page has them, with what came of each try; nowhere else do they pass for alerts."""
    unreachable = {"port_client_id": "an-id", "port_api_url": "http://127.0.0.1:9"}
    async with start(admin_token=TOKEN, **unreachable) as service:
        for after, run, entity in (
            ("Degraded", "r_1", "notification-service-prod"),
            ("Healthy", "r_2", "another"),
        ):
            body = json.loads(change_body(before="Healthy", after=after, at=datetime.now(UTC), entity=entity))
            await service.post(json.dumps(body | {"run": {"id": run}, "report": True}).encode())
        await delivered(service)
        await sign_in(service)

        async def tried() -> bool:
            return "cannot reach http://127.0.0.1:9" in await page(service, "/changes/2")

        await until(tried)
        shown = await page(service, "/changes/2")
        assert "Report to run r_2" in shown
        assert "to port/runs" in shown
        entity = "/entity?blueprint=deploymentConfig&entity=notification-service-prod"
        assert "Report to run" not in await page(service, entity)
        assert "https://newrelic.com" in await page(service, entity)
        timeline = await page(service, "/timeline")
        assert "Report to run" not in timeline
        told = await page(service, "/changes?state=delivered")
        assert ('href="/changes/1"' in told, 'href="/changes/2"' in told) == (True, False)


async def test_why_there_is_no_alert(start: Start) -> None:
    """A change that alerts nobody says why."""
    async with start(admin_token=TOKEN) as service:
        await service.change("Healthy", "Healthy")
        await sign_in(service)
        assert "rule 'health': healthStatus did not change" in await page(service, "/changes/1")
        assert "Notification Service" in await page(service, "/changes?state=none")
        assert "No change matches" in await page(service, "/changes?state=delivered")


async def test_the_timeline_has_the_states(start: Start) -> None:
    """From the state before, over those that alerted, until now."""
    async with start(admin_token=TOKEN) as service:
        await service.change("Healthy", "Degraded")
        await service.change("Degraded", "Crashed")
        await sign_in(service)
        data = (await service.client.get("/timeline/data")).json()
        (row,) = data["rows"]
        assert [one["state"] for one in row["segments"]] == ["Healthy", "Degraded", "Crashed"]
        assert [one["level"] for one in row["segments"]] == ["ok", "warning", "critical"]
        assert row["url"].startswith("/entity?")


async def test_the_timelines_order(start: Start) -> None:
    """What is not well comes first; a team's entities alone, or team by team."""
    async with start(admin_token=TOKEN) as service:
        for entity, team, last in (
            ("a", "Star", "Healthy"),
            ("b", "Rocket", "Degraded"),
            ("c", "Star", "Crashed"),
        ):
            await service.change("Healthy", "Restarting", entity=entity, team=team)
            await service.change("Restarting", last, entity=entity, team=team)
        await sign_in(service)

        async def labels(query: str) -> list[str]:
            data = (await service.client.get(f"/timeline/data?{query}")).json()
            return [row["label"] for row in data["rows"]]

        assert await labels("") == ["c", "b", "a"]
        assert await labels("team=Star") == ["c", "a"]
        assert await labels("group=team&hours=1") == ["b", "c", "a"]
        shown = await page(service, "/timeline?team=Star&group=team")
        assert '<option value="Star" selected>' in shown
        assert "/timeline/data?team=Star&group=team&hours=6" in shown


async def test_retry(start: Start, slack: StandInSlack) -> None:
    """A dead delivery is tried again, which the page and the trail say with the name."""
    slack.answers.extend([PlainTextResponse("invalid_payload", 400)] * 3)
    async with start(admin_token=TOKEN) as service:
        await service.change("Healthy", "Degraded")

        async def dead() -> bool:
            return await count(service.store, State.DEAD) == 1

        await until(dead)
        await sign_in(service, "Grace")
        assert "400 invalid_payload" in await page(service, "/")
        answer = await do(service, "/deliveries/1/retry?back=/changes%3Fstate%3Ddead")
        assert answer.url.path == "/changes"
        assert "Delivery 1 of notification-service-prod to default is tried again." in answer.text
        await delivered(service)
        trail = await page(service, "/audit")
        assert "Grace" in trail
        assert "is tried again" in trail
        assert "nothing to try again" in (await service.client.get("/deliveries/1/retry")).text
        assert (await service.client.get("/deliveries/99/retry")).status_code == 404


async def test_release(start: Start, slack: StandInSlack) -> None:
    """A queue on hold is released, and what waited goes out."""
    slack.answers.append(PlainTextResponse("no_service", 404))
    async with start(admin_token=TOKEN) as service:
        await service.change("Healthy", "Degraded")

        async def on_hold() -> bool:
            return await count(service.store, State.ON_HOLD) == 1

        await until(on_hold)
        await sign_in(service)
        assert "404 no_service; nobody was told of 1 alert that waits" in await page(service, "/")
        assert "Destination default is released." in (await do(service, "/queues/release?queue=default")).text
        await delivered(service)
        assert "not on hold" in (await service.client.get("/queues/release?queue=default")).text


async def test_silence_and_its_end(start: Start) -> None:
    """An incident is silenced for a time; the silence ends when somebody ends it."""
    async with start(admin_token=TOKEN) as service:
        await service.change("Healthy", "Degraded")
        await sign_in(service)
        ask = "/silence?rule=health&blueprint=deploymentConfig&entity=notification-service-prod"
        assert "1 open incident now, 1 alert in the last 24 hours." in await page(service, ask)
        assert "0 open incidents now," in await page(service, "/silence?team=Payments")
        answer = await do(service, ask, **{"for": "4h"})
        assert "Silence 1: rule health, blueprint deploymentConfig" in answer.text
        (silence,) = await service.store.read(queries.silences.silences, active_at=None)
        assert (silence.author, silence.entity) == ("Ada", "notification-service-prod")
        assert round((silence.ends_at - silence.starts_at).total_seconds()) == 4 * 3600
        assert re.search(r"silenced</span> <span>ends <time.*</time>, by Ada", await page(service, "/"))
        assert "No open incident matches" not in await page(service, "/?how=silenced")
        assert "Silence 1 has ended" in (await do(service, "/silences/1/end")).text
        assert "There is no silence 1" in (await service.client.get("/silences/1/end")).text


async def test_the_headline(start: Start, slack: StandInSlack) -> None:
    """It counts what is open, how bad it is and who was not told; each count is a filter."""
    slack.answers.append(PlainTextResponse("channel_is_archived", 410))
    async with start(admin_token=TOKEN) as service:
        await service.change("Healthy", "Degraded", entity="mail-prod")

        async def on_hold() -> bool:
            return await count(service.store, State.ON_HOLD) == 1

        await until(on_hold)
        await sign_in(service)
        now = await page(service, "/")
        assert "<title>1 open, warning" in now
        assert 'href="/?severity=warning"' in now
        assert ">1 not delivered</a>" in now
        assert 'class="banner critical" id="listener"' in now
        assert "1 queue on hold" in now
        assert "unarchive the channel, or give the destination another one, then Release" in now
        assert re.search(r'class="who bad"><a [^>]*>default on hold', now)
        for fits in ("severity=warning", "how=not_delivered", "team=Rocket", "q=MAIL", "rule=health"):
            assert links(await page(service, f"/incidents?{fits}"), "Close: mail-prod"), fits
            assert "No open incident matches" not in await page(service, f"/?{fits}"), fits
        for other in ("severity=critical", "how=dead", "team=Rock", "q=mail_prod", "rule=x", "how=x"):
            assert "No open incident matches" in await page(service, f"/?{other}"), other


async def test_since_when_and_who_was_told(start: Start) -> None:
    """A row says since when it is as it is, not since when it is open, and where it was said."""
    async with start(admin_token=TOKEN) as service:
        await service.change("Healthy", "Degraded")
        await service.change("Degraded", "Crashed")
        await delivered(service, 2)
        await sign_in(service)
        now = await page(service, "/")
        (row,) = await service.store.read(queries.incidents.worst, 9)
        spans = re.findall(r'<time datetime="([^"]+)"[^>]*data-span', now)
        assert spans == [iso(row.incident.changed_at), iso(row.incident.opened_at)]
        assert re.search(r'class="who"><a [^>]*>default <time.*✓', now)
        await service.change("Crashed", "Healthy")
        assert "No incident is open" in await page(service, "/")
        assert "resolved <time" in await page(service, "/incidents?state=resolved")
        assert "No incident matches" in await page(service, "/incidents?state=open")


async def test_an_incident_is_closed(start: Start) -> None:
    """From its row, after a question; the page says by whom it was."""
    async with start(admin_token=TOKEN) as service:
        await service.change("Healthy", "Degraded")
        await sign_in(service)
        (ask,) = links(await page(service, "/"), "Close: notification-service-prod")
        (row,) = await service.store.read(queries.incidents.worst, 9)
        assert row.incident.id in await page(service, ask)
        answer = await do(service, ask)
        assert "is closed by Ada." in answer.text
        assert "No incident is open" in await page(service, "/")


async def test_what_another_incident_stands_for_is_in_its_row(start: Start, tmp_path: Path) -> None:
    """A cluster, the service that is quiet because of it, and a group: each row opens; a search finds all."""
    quiet = {"quiet_while": {"relation": "cluster", "rule": "cluster-health", "wait": "30s"}}
    group = {"name": "several", "of": "service-health", "by": "team", "at_least": 2}
    rules: list[dict[str, Any]] = [CLUSTER, {**SERVICE, **quiet}, group]
    path = tmp_path / "rules.yaml"
    path.write_text(json.dumps({"version": 1, "rules": [rule | {"send": "default"} for rule in rules]}))
    blueprints = {"eu-1": "cluster", "a": "service", "b": "service"}
    catalog = Catalog("", [], blueprints, teams={"b": ["Star"], "a": ["Star"]})
    async with start(admin_token=TOKEN, rules_file=path) as service:
        for entity, state, more in (("eu-1", "Down", {}), ("a", "Degraded", {"cluster": "eu-1"})):
            await service.post(catalog.incoming(entity, state, **more).body)
        await sign_in(service)
        nested = r"<summary>1 below it</summary>\s*<ul.*entity=a\b.*quiet because of cluster eu-1, rule"
        assert re.search(nested, await page(service, "/"), re.DOTALL)
        assert "below it" not in await page(service, "/?q=a")
        (row,) = [
            row for row in await service.store.read(queries.incidents.worst, 9) if row.incident.entity == "a"
        ]
        out = IncidentOut.of(row, {})
        assert (out.cause, bool(out.quiet)) == ("cluster eu-1, rule cluster-health", True)
        await service.post(catalog.incoming("b", "Degraded").body)
        assert "<summary>2 below it</summary>" in await page(service, "/")


async def test_an_incident_is_acknowledged(start: Start) -> None:
    """From its row, at once; the row says by whom, and takes it back; a second click of the same is one."""
    async with start(admin_token=TOKEN) as service:
        await service.change("Healthy", "Degraded")
        await sign_in(service)
        now = await page(service, "/")
        (row,) = await service.store.read(queries.incidents.worst, 9)
        csrf = re.findall(r'name="csrf" value="([^"]+)"', now)[0]
        form = {"csrf": csrf, "incident": row.incident.id, "version": "1"}
        for _ in range(2):
            answer = await service.client.post("/incidents/acknowledge", data=form, follow_redirects=True)
            assert "is acknowledged by Ada." in answer.text
        now = await page(service, "/?how=acknowledged")
        assert re.search(r"acknowledged</span> <span>by Ada <time", now)
        assert 'action="/incidents/unacknowledge"' in now
        assert "No open incident matches" in await page(service, "/?how=unacknowledged")
        late = await service.client.post("/incidents/acknowledge", data=form | {"version": "2"})
        assert (late.status_code, "already acknowledged by Ada" in late.text) == (409, True)
        await service.client.post("/incidents/unacknowledge", data=form | {"version": "2"})
        assert 'action="/incidents/acknowledge"' in await page(service, "/")
        (ask,) = links(await page(service, "/"), "Silence: notification-service-prod")
        assert 'formaction="/incidents/silence">Until it is over' in await page(service, ask)


async def test_a_silence_of_names_that_look_like_patterns(start: Start, tmp_path: Path) -> None:
    """From an incident, or an entity, exactly that one is silenced, whatever letters it has."""
    rules = tmp_path / "rules.yaml"
    rules.write_text(
        "version: 1\nrules:\n"
        "  - {name: 'health [prod] *', when: {property: healthStatus},"
        " resolve: {property: healthStatus, to: Healthy}, send: [default]}\n"
    )
    async with start(admin_token=TOKEN, rules_file=rules) as service:
        for entity in ("db[1]", "db1", "a*", "ab"):
            await service.change("Healthy", "Degraded", entity=entity)
        await sign_in(service)
        await do(service, links(await page(service, "/"), "Silence: db[1]")[0], **{"for": "1h"})
        there = await page(service, "/entity?blueprint=deploymentConfig&entity=a*")
        await do(service, links(there, "Silence: a*")[0], **{"for": "1h"})
        now = await page(service, "/")
        assert not links(now, "Silence: db[1]")
        assert not links(now, "Silence: a*")
        assert links(now, "Silence: db1")
        assert links(now, "Silence: ab")


async def test_a_body_that_is_cut_says_so(start: Start) -> None:
    """Of a large body the page shows the beginning, and how much is left out."""
    async with start(admin_token=TOKEN) as service:
        await sign_in(service)
        await service.change("Healthy", "Degraded")
        assert "as it was signed</summary>" in await page(service, "/changes/1")
        await service.change("Healthy", "Degraded", entity="large", title="t" * 25_000)
        assert re.search(
            r"as it was signed, without its last [\d,]+ bytes", await page(service, "/changes/2")
        )


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"for": "1h"}, "Say what to silence"),
        ({"rule": "r"}, "Say when it ends"),
        ({"rule": "r", "until": "2020-01-01T00:00"}, "end in the future"),
        ({"rule": "r", "until": "tomorrow"}, "Say when it ends"),
        ({"rule": "r", "until": "9999-12-31T23:59"}, "within a year"),
        ({"rule": "r" * 201, "for": "1h"}, "200 characters"),
    ],
)
async def test_a_silence_that_says_too_little(start: Start, more: dict[str, str], problem: str) -> None:
    """The form comes back with what is wrong, and what was written stays in it."""
    async with start(admin_token=TOKEN) as service:
        await sign_in(service)
        answer = await do(service, "/silence", comment="my reason", **more)
        assert answer.status_code == 422
        assert problem in answer.text
        assert "my reason" in answer.text
        assert not await service.store.read(queries.silences.silences, active_at=None)


async def test_a_test_change(start: Start, slack: StandInSlack) -> None:
    """It goes the whole way, and is marked as a test everywhere."""
    async with start(admin_token=TOKEN) as service:
        await sign_in(service)
        answer = await do(service, "/test", entity="checkout-prod")
        assert "Test change of test-checkout-prod was accepted and led to 1 alert." in answer.text
        await delivered(service)
        assert "TEST test-checkout-prod" in json.dumps(slack.messages)
        assert "Ada (a test)" in await page(service, "/changes/1")
        assert (await do(service, "/test", entity=" ")).status_code == 422
        assert "nothing would change" in (await do(service, "/test", before="a", after="a")).text


async def test_replay(start: Start) -> None:
    """What can be read by now is accepted; what still cannot stays, and both are in the trail."""
    async with start(admin_token=TOKEN) as service:
        await service.post(b'{"no": "change"}')
        now = datetime.now(UTC)
        good = b'{"action": "UPDATE", "resourceType": "entity", "context": {"entity": "e", "blueprint": "b"}}'
        await service.store.quarantine(good, signed_at=now, received_at=now, path="", reason="old release")
        await sign_in(service)
        assert "no&#34;: &#34;change" in (await service.client.get("/quarantine")).text
        assert "Tried as:" in (shown := await page(service, "/quarantine"))
        assert "an automation's or a workflow's body: it has no object `event`" in shown
        assert "still cannot be read" in (await do(service, "/quarantine/1/replay")).text
        assert "Number 2 left the quarantine" in (await do(service, "/quarantine/2/replay")).text
        assert await service.store.read(queries.quarantine.body, 1) is not None
        trail = await page(service, "/audit")
        assert "still cannot be read" in trail
        assert "left the quarantine" in trail


async def test_what_was_done_is_said_to_whoever_did_it(start: Start) -> None:
    """A link cannot put words on the page: only what its reader did is said, and only by its number."""
    async with start(admin_token=TOKEN) as service:
        await sign_in(service, "Ada")
        await do(service, "/test")
        said = 'class="done"'
        assert said in await page(service, "/?did=1")
        for wrong in ("2", "x", "-1", "1e9", "9" * 30, "<script>"):
            assert said not in await page(service, f"/?did={wrong}")
        await sign_in(service, "Eve")
        assert said not in await page(service, "/?did=1")


async def test_script_in_every_field(start: Start) -> None:
    """Whatever the catalog holds is text on the page, and links lead to the web only."""
    entity = {
        "identifier": SCRIPT,
        "title": SCRIPT,
        "icon": SCRIPT,
        "blueprint": SCRIPT,
        "team": [SCRIPT],
        "relations": {SCRIPT: SCRIPT},
    }
    links = {
        "js": "javascript:alert(1)",
        "data": "data:text/html,x",
        "web": "https://ok.example/",
        "h": "//x",
    }
    event = {
        "action": "UPDATE",
        "resourceType": "entity",
        "trigger": {"by": {"userId": SCRIPT}, "origin": SCRIPT, "at": SCRIPT},
        "context": {"blueprint": SCRIPT, "entity": SCRIPT},
        "diff": {
            "before": entity | {"properties": {SCRIPT: "a", "healthStatus": "Healthy"} | links},
            "after": entity | {"properties": {SCRIPT: SCRIPT, "healthStatus": SCRIPT} | links},
        },
    }
    async with start(admin_token=TOKEN) as service:
        assert (await service.post(json.dumps(event).encode())).status_code == 202
        await service.post(json.dumps({SCRIPT: SCRIPT}).encode())
        await delivered(service)
        await sign_in(service, SCRIPT[:50])
        await do(service, "/silence", rule=SCRIPT, comment=SCRIPT, **{"for": "1h"})
        quoted = str(
            service.client.build_request("GET", "/x", params={"blueprint": SCRIPT, "entity": SCRIPT}).url
        )
        entity_page = f"/entity?{quoted.partition('?')[2]}"
        ask = f"/silence?{quoted.partition('?')[2]}"
        paths = [
            "/",
            "/timeline",
            "/changes",
            "/changes/1",
            entity_page,
            ask,
            "/silences",
            "/incidents",
            "/quarantine",
            "/audit",
        ]
        for path in paths:
            answer = await service.client.get(path)
            assert answer.status_code == 200, path
            assert "<script>alert" not in answer.text, path
            assert "<img" not in answer.text, path
            assert 'href="javascript:' not in answer.text
            assert 'href="data:' not in answer.text
            assert 'href="//' not in answer.text
        assert 'href="https://ok.example/"' in (await service.client.get(entity_page)).text


@pytest.mark.parametrize(
    "path",
    [
        "/changes?before=x",
        "/changes?state=x",
        "/changes?since=yesterday",
        "/changes?until=9999-99-99",
        "/audit?before=x",
        "/quarantine?before=x",
        "/entity?blueprint=b",
    ],
)
async def test_links_that_are_broken(start: Start, path: str) -> None:
    """They are answered with a page that says so."""
    async with start(admin_token=TOKEN) as service:
        await sign_in(service)
        answer = await service.client.get(path)
        assert answer.status_code == 422
        assert "Not understood" in answer.text


async def test_news(start: Start) -> None:
    """The stream says within two seconds that there is something new."""
    async with start(admin_token=TOKEN) as service:
        await sign_in(service)
        async with service.client.stream("GET", "/events", timeout=10) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            async for line in stream.aiter_lines():
                if line == "event: ready":
                    await service.change("Healthy", "Degraded")
                if line == "event: news":
                    break
            else:
                pytest.fail("it ended")


async def test_what_is_not_there(start: Start) -> None:
    """A page that asks about what is not there, or cannot be done, says so at once; HEAD answers as GET."""
    async with start(admin_token=TOKEN) as service:
        await service.change("Healthy", "Degraded")
        await sign_in(service)
        (row,) = await service.store.read(queries.incidents.worst, 9)
        await do(service, f"/incidents/close?incident={row.incident.id}")
        missing = (
            "/changes/9 /changes/x /entity?blueprint=a&entity=b /deliveries/9/retry /queues/release?queue=x"
            " /incidents/close?incident=x /silence?incident=x /silences/9/edit /silences/9/end /silences/x"
            " /quarantine/9/replay"
        )
        over = f"/incidents/close?incident={row.incident.id} /queues/release?queue=default"
        there = "/ /incidents /timeline /changes /changes/1 /silences /audit /test /silence /events /docs"
        for paths, status in (
            (missing, 404),
            (over, 409),
            (there, 200),
            ("/incidents/close", 422),
        ):
            for path in paths.split():
                head = await service.client.head(path, headers={"Accept": "text/html"})
                assert (head.status_code, head.content) == (status, b""), path
                assert "connection" not in head.headers  # it did not wait for a body
                if status != 200:
                    text = (await service.client.get(path, headers={"Accept": "text/html"})).text
                    assert "Back to the page" in text, path
        assert (await service.client.head("/api/slack")).status_code == 405
        lacking = await service.client.post("/incidents/close", data=await form(service, "/test"))
        assert (lacking.status_code, "The form does not say which incident" in lacking.text) == (422, True)
        part = await service.client.get("/silences/9/end", headers={"HX-Request": "true"})
        assert "<html" not in part.text
        assert "There is no silence 9 that has not ended." in part.text


async def test_a_form_keeps_what_was_typed(start: Start) -> None:
    """What is wrong is said above the form, and what was typed stays in it."""
    async with start(admin_token=TOKEN) as service:
        await service.change("Healthy", "Degraded")
        await sign_in(service)
        (row,) = await service.store.read(queries.incidents.worst, 9)
        await do(service, "/silence?entity=a", until="2999-01-01T00:00", comment="first", **{"for": "1h"})
        about, long = f"incident={row.incident.id}", "why? " * 200
        for path, typed, problem in (
            (f"/silence?entity=a&{about}", {"until": "yesterday", "comment": "typed"}, "Say when it ends."),
            ("/silences/1/edit", {"until": "2001-01-01T00:00", "comment": "typed"}, "must end in the future"),
            (f"/incidents/close?{about}", {"comment": f"typed {long}"}, "Say why in 500 characters"),
            ("/test", {"before": "typed", "after": "typed"}, "nothing would change"),
        ):
            answer = await do(service, path, **typed)
            assert (answer.status_code, problem in answer.text) == (422, True), path
            assert 'value="typed' in answer.text, path
            assert typed.get("until", "") in answer.text
            assert "Until it is over" in answer.text or "silence?" not in path
            assert 'action="' + path.partition("?")[0] in answer.text
