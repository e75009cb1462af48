"""``/metrics`` of the real service: each number moves when what it counts happens."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from starlette.responses import PlainTextResponse

from app import __version__
from app.demo.run import change_body, signed_headers
from app.demo.stand_in_slack import StandInSlack
from app.model.silence import Silence
from app.observe.metrics import OUTCOMES
from app.store import queries
from app.store.sqlite.schema import STEPS
from tests.conftest import DATABASES, SECRET, Service, Start
from tests.scrape import TOKEN, Numbers, scrape
from tests.waiting import until

BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
async def service(start: Start) -> AsyncIterator[Service]:
    """The service with a token, and a small limit of a body."""
    async with start(admin_token=TOKEN, max_body_bytes=100 * 1024) as running:
        yield running


def newest_schema() -> int:
    """Return the number of the newest schema file."""
    return max(int(file.name.partition("_")[0]) for file in STEPS.glob("*.sql"))


async def soon(service: Service, name: str, value: float, **labels: str) -> Numbers:
    """Return the metrics once one of them has a value."""

    async def there() -> bool:
        return (await scrape(service))(name, **labels) == value

    await until(there)
    return await scrape(service)  # again: one answer's figures of the store are older than its counters


@pytest.mark.parametrize(
    ("settings", "headers", "status"),
    [
        ({}, BEARER, 404),
        ({"admin_token": TOKEN}, {}, 401),
        ({"admin_token": TOKEN}, {"Authorization": f"Bearer {TOKEN}x"}, 401),
        ({"admin_token": TOKEN}, {"Authorization": f"Basic {TOKEN}"}, 401),
        ({"admin_token": TOKEN}, BEARER, 200),
        ({"admin_token": TOKEN, "metrics_public": True}, {}, 200),
        ({"metrics_public": True}, {}, 200),
    ],
)
async def test_who_may_see_them(
    start: Start, settings: dict[str, object], headers: dict[str, str], status: int
) -> None:
    """Without token and permission there are none; the token opens them, METRICS_PUBLIC to everybody."""
    async with start(**settings) as service:
        answer = await service.client.get("/metrics", headers=headers)
        assert answer.status_code == status
        assert ("port_listener" in answer.text) == (status == 200)
        assert ("www-authenticate" in answer.headers) == (status == 401)


async def test_changes_by_outcome(service: Service) -> None:
    """A good change, a duplicate, and each thing that can be wrong with a request count as what they are."""
    body = change_body(before="Healthy", after="Degraded", at=datetime.now(UTC))
    for _ in range(3):
        await service.post(body)
    await service.change("Healthy", "Healthy", title="Another")
    assert (await service.post(b'{"action": "UPDATE", "diff": 5}')).status_code == 422
    assert (await service.post(b" " * 101 * 1024)).status_code == 413
    assert (await service.post(body, {})).status_code == 401
    assert (await service.client.get("/api/slack")).status_code == 405
    numbers = await scrape(service)
    counted = {one: numbers("changes_total", outcome=one) for one in OUTCOMES}
    expected = {"accepted": 2, "duplicate": 2, "quarantined": 1, "too_large": 1, "rejected": 1}
    assert counted == dict.fromkeys(OUTCOMES, 0) | expected
    assert numbers("accept_duration_seconds_count") == 4
    assert 0 < numbers("accept_duration_seconds_sum") < 5
    assert numbers("decisions_total", rule="health", outcome="matches") == 1
    assert numbers("decisions_total", rule="", outcome="unmatched") == 1
    assert numbers("store_commit_duration_seconds_count") >= 3
    assert numbers("store_commit_jobs_sum") >= numbers("store_commit_jobs_count") > 0
    await service.change("Degraded", "Healthy")
    assert (await scrape(service))("decisions_total", rule="health", outcome="resolves") == 1


async def test_signature_failures_by_cause(service: Service) -> None:
    """Each way in which a signature can fail is counted once, and no more of them can come into being."""
    now, body = datetime.now(UTC), b"{}"
    right = signed_headers(body, SECRET, now)
    bad: list[tuple[str, dict[str, str]]] = [
        ("missing", {}),
        ("missing", {"x-port-timestamp": right["x-port-timestamp"]}),
        ("malformed", right | {"x-port-timestamp": "today"}),
        ("malformed", right | {"x-port-timestamp": "9" * 16}),
        ("malformed", right | {"x-port-signature": "sha256=abc"}),
        ("malformed", right | {"x-port-signature": "v1,A" + " v1,A" * 300}),
        ("stale", signed_headers(body, SECRET, now - timedelta(minutes=6))),
        ("wrong", signed_headers(body, "another", now)),
    ]
    for _, headers in bad:
        assert (await service.post(body, headers)).status_code == 401
    numbers = await scrape(service)
    for cause, times in {"missing": 2, "malformed": 4, "stale": 1, "wrong": 1}.items():
        assert numbers("signature_failures_total", cause=cause) == times
    assert numbers("changes_total", outcome="rejected") == len(bad)


async def test_a_delivery(service: Service) -> None:
    """A delivered alert counts as one delivery and one message, with the time that it took."""
    await service.change("Healthy", "Crashed")
    numbers = await soon(service, "deliveries_total", 1, destination="default", outcome="delivered")
    assert numbers("messages_sent_total", destination="default") == 1
    assert numbers("delivery_delay_seconds_count") == 1
    assert numbers("incidents_open", rule="health", severity="critical") == 1
    assert numbers("queue_waiting_deliveries", queue="default", destination="default") == 0
    assert numbers("build_info", version=__version__, schema=str(newest_schema())) == 1
    assert numbers("store_up") == 1


@DATABASES
async def test_slack_is_down(service: Service, slack: StandInSlack) -> None:
    """While Slack answers 503, retries are counted, and the queue shows what waits and for how long."""
    slack.answers.extend(PlainTextResponse("unavailable", 503) for _ in range(50))
    await service.change("Healthy", "Degraded")
    await soon(service, "retries_total", 1, destination="default")
    queue = {"queue": "default", "destination": "default"}
    numbers = await scrape(service)
    assert numbers("deliveries_total", destination="default", outcome="retry") == 1
    assert numbers("queue_waiting_deliveries", **queue) == 1
    assert numbers("queue_oldest_waiting_seconds", **queue) > 0
    assert numbers("queue_failures", **queue) == 1
    slack.answers.clear()
    numbers = await soon(service, "queue_waiting_deliveries", 0, **queue)
    assert numbers("queue_oldest_waiting_seconds", **queue) == 0


async def test_a_webhook_that_is_gone(service: Service, slack: StandInSlack) -> None:
    """A destination that refuses everything shows as a queue that is on hold."""
    slack.answers.append(PlainTextResponse("no_service", 404))
    await service.change("Healthy", "Degraded")
    numbers = await soon(service, "queue_on_hold", 1, queue="default", destination="default")
    assert numbers("deliveries_total", destination="default", outcome="on_hold") == 1


@DATABASES
async def test_a_message_that_slack_refuses(service: Service, slack: StandInSlack) -> None:
    """A dead delivery counts when it dies, and as long as it is kept."""
    slack.answers.extend(PlainTextResponse("invalid_payload", 400) for _ in range(3))
    await service.change("Healthy", "Degraded")
    numbers = await soon(service, "dead_deliveries", 1)
    numbers = await soon(service, "deliveries_total", 1, destination="default", outcome="dead")
    assert numbers("messages_sent_total", destination="default") == 0


@DATABASES
async def test_a_silence(service: Service) -> None:
    """A silence that holds is counted, and what it keeps back."""
    now = datetime.now(UTC)
    for hours in (-2, 0, 2):
        starts_at = now + timedelta(hours=hours)
        await service.store.write(
            queries.silences.add,
            Silence("*", "*", "*", "*", starts_at, starts_at + timedelta(hours=1), "ada", "planned"),
        )
    await service.change("Healthy", "Degraded")
    numbers = await soon(service, "deliveries_total", 1, destination="default", outcome="silenced")
    assert numbers("silences_active") == 1


async def test_rules_refused(start: Start, tmp_path: Path) -> None:
    """A rules file that is refused shows until it is fixed."""
    file = tmp_path / "rules.yaml"
    rules = {"version": 1, "rules": [{"name": "one", "blueprint": "service", "when": {"property": "tier"}}]}
    file.write_text(json.dumps(rules))
    async with start(admin_token=TOKEN, rules_file=file) as service:
        began = (await scrape(service))("rules_last_reload_success_timestamp_seconds")
        assert abs(began - datetime.now(UTC).timestamp()) < 60
        await asyncio.sleep(0.3)  # until the file is watched
        file.write_text("version: 1\nrules: nonsense\n")
        numbers = await soon(service, "rules_refused", 1)
        assert numbers("rules_reload_failures_total") == 1
        assert numbers("rules_last_reload_success_timestamp_seconds") == began
        file.write_text(json.dumps(rules) + "\n")
        numbers = await soon(service, "rules_refused", 0)
        assert numbers("rules_last_reload_success_timestamp_seconds") > began


async def test_a_store_that_fails(service: Service, tmp_path: Path) -> None:
    """While the store takes nothing, that is counted; while it cannot be read, the rest is still told."""
    database = await asyncio.create_subprocess_exec(
        *("python3", "-c", "import sqlite3, sys; sqlite3.connect(sys.argv[1]).executescript(sys.argv[2])"),
        str(tmp_path / "listener.db"),
        "ALTER TABLE changes RENAME TO away; ALTER TABLE queues RENAME TO away_too",
    )
    assert await database.wait() == 0
    assert (await service.change("Healthy", "Degraded")).status_code == 503
    numbers = await scrape(service)
    assert numbers("changes_total", outcome="unavailable") == 1
    assert numbers("store_commit_failures_total") >= 1
    assert numbers("store_up") == 0
    assert "port_listener_store_up 0.0" in numbers.text


async def test_two_services_in_one_process(start: Start, service: Service, tmp_path: Path) -> None:
    """Each counts for itself."""
    async with start(admin_token=TOKEN, database_url=f"sqlite:///{tmp_path}/other.db") as other:
        await service.change("Healthy", "Degraded")
        assert (await scrape(service))("changes_total", outcome="accepted") == 1
        assert (await scrape(other))("changes_total", outcome="accepted") == 0


async def test_nothing_secret(service: Service, slack: StandInSlack) -> None:
    """No entity, no person, no address and no secret is in the metrics."""
    await service.change("Healthy", "Degraded")
    await until(lambda: len(slack.messages) == 1)
    text = (await scrape(service)).text
    for hidden in (SECRET, TOKEN, slack.url, "very-secret-token", "notification-service", "ada@", "Rocket"):
        assert hidden not in text
