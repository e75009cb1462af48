"""``POST /api/slack`` of the real service, over real HTTP, with a stand-in Slack behind it."""

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import PlainTextResponse

from app.demo.run import Shape, change_body, signed_headers
from app.demo.stand_in_slack import StandInSlack
from app.model.change import CatalogChange
from app.model.delivery import State
from app.notifier.registry import SETTINGS_MODELS
from app.receive.intake import Intake
from app.receive.receiver import Receiver
from app.receive.rules_source import make_rulebook
from app.receive.signature import SIGNATURE_HEADER, Signed
from app.receive.webhook import EXAMPLES
from app.rules.file import load_rules
from app.rules.targets import PortLookup
from app.store import queries
from app.store.sqlite.database import open_sqlite
from app.store.views import ChangeFilter
from tests.conftest import NOW, SECRET, Service, Start
from tests.notifier.slack.limits import shown
from tests.receive.mangling import PAYLOADS
from tests.waiting import until


async def test_a_change_becomes_an_alert(service: Service, slack: StandInSlack) -> None:
    """A signed change is answered 202 with its key, and Slack gets one message."""
    answer = await service.change("Healthy", "Degraded")
    assert answer.status_code == 202
    receipt = answer.json()
    assert receipt == {"change": receipt["change"], "alerts": 1, "duplicate": False}
    assert len(receipt["change"]) == 64
    await until(lambda: len(slack.messages) == 1)
    assert "Healthy → 🟠" not in slack.messages[0]["text"]
    assert "Healthy → Degraded" in slack.messages[0]["text"]


@pytest.mark.parametrize("shape", Shape)
async def test_a_change_that_comes_twice_alerts_once(
    service: Service, slack: StandInSlack, shape: Shape
) -> None:
    """The same change again, in any shape, is answered 202 as a duplicate, and nobody is told twice."""
    at = datetime.now(UTC)
    first = await service.post(change_body(before="Healthy", after="Crashed", at=at))
    again = await service.post(change_body(before="Healthy", after="Crashed", at=at, shape=shape))
    assert again.status_code == 202
    assert again.json() == first.json() | {"duplicate": True}
    await service.change("Crashed", "Healthy")
    await until(lambda: len(slack.messages) == 2)
    assert [message["text"].split()[0] for message in slack.messages] == ["🚨", "🟢"]


async def test_a_change_that_does_not_matter(service: Service) -> None:
    """A change of something else is accepted without an alert."""
    answer = await service.change("Healthy", "Healthy", title="A new title")
    assert (answer.status_code, answer.json()["alerts"]) == (202, 0)


@pytest.mark.parametrize("name", EXAMPLES)
async def test_the_documented_examples_are_accepted(service: Service, name: str) -> None:
    """Each example body of /docs is a change that alerts."""
    answer = await service.post(json.dumps(EXAMPLES[name]["value"]).encode())
    assert (answer.status_code, answer.json()["alerts"]) == (202, 1)


async def test_the_docs_show_the_examples(service: Service) -> None:
    """The OpenAPI description has the three bodies, the headers and every answer."""
    described = (await service.client.get("/openapi.json")).json()["paths"]["/api/slack"]["post"]
    content = described["requestBody"]["content"]["application/json"]
    assert set(content["examples"]) == {"automation", "workflow", "changelog"}
    assert {"202", "401", "413", "422", "503"} <= set(described["responses"])
    assert {one["name"] for one in described["parameters"]} == {"x-port-signature", "x-port-timestamp"}
    page = await service.client.get("/docs")
    assert page.status_code == 200
    assert "https://" not in page.text  # nothing is loaded from elsewhere
    for file in re.findall(r'(?:src|href)="(/[^"]+)"', page.text):
        assert (await service.client.get(file)).status_code == 200


def bad_headers(body: bytes) -> list[dict[str, str]]:
    """Return headers that do not prove that `body` comes from Port."""
    now = datetime.now(UTC)
    right = signed_headers(body, SECRET, now)
    return [
        {},
        {"x-port-timestamp": right["x-port-timestamp"]},
        {"x-port-signature": right["x-port-signature"]},
        signed_headers(body, "another-secret", now),
        signed_headers(body + b" ", SECRET, now),
        signed_headers(body, SECRET, now - timedelta(seconds=310)),
        signed_headers(body, SECRET, now + timedelta(seconds=310)),
        right | {"x-port-timestamp": str(int(now.timestamp()) + 1)},
        right | {"x-port-signature": right["x-port-signature"].replace("v1,", "sha256=")},
    ]


@pytest.mark.parametrize("number", range(9))
async def test_what_is_not_proven_to_come_from_port(service: Service, number: int) -> None:
    """No, a wrong or a stale signature is answered 401 without detail, and nothing is stored."""
    body = change_body(before="Healthy", after="Degraded", at=datetime.now(UTC))
    answer = await service.post(body, bad_headers(body)[number])
    assert answer.status_code == 401
    assert answer.json() == {"error": "the signature is missing, stale or wrong"}
    assert await service.deliveries() == []
    assert (await service.store.read(queries.quarantine.bodies, limit=100)).rows == []


async def test_a_rotated_secret(start: Start) -> None:
    """While secrets are rotated both are accepted."""
    async with start(port_previous_client_secret=SECRET, port_client_secret="the-new-one") as service:
        assert (await service.change("Healthy", "Degraded")).status_code == 202


async def test_unsigned_changes_only_where_allowed(start: Start) -> None:
    """With ACCEPT_UNSIGNED and no secret, a change without a signature is accepted."""
    async with start(port_client_secret=None, accept_unsigned=True) as service:
        body = change_body(before="Healthy", after="Degraded", at=datetime.now(UTC))
        assert (await service.post(body, {})).status_code == 202


async def test_accept_unsigned_does_not_switch_verification_off(start: Start) -> None:
    """With a secret, signatures are verified whatever ACCEPT_UNSIGNED says."""
    async with start(accept_unsigned=True) as service:
        body = change_body(before="Healthy", after="Degraded", at=datetime.now(UTC))
        assert (await service.post(body, {})).status_code == 401


async def test_an_unreadable_change_goes_to_quarantine(service: Service) -> None:
    """A signed body that is not a change is answered 422 with the field, and kept whole."""
    body = b'{"action": "UPDATE", "diff": {"before": null, "after": {"identifier": 5}}}'
    answer = await service.post(body)
    assert answer.status_code == 422
    assert answer.json()["path"] == "diff.after.identifier"
    (kept,) = (await service.store.read(queries.quarantine.bodies, limit=100)).rows
    assert kept.body == body
    assert kept.reason == answer.json()["error"]


async def chunks(number: int) -> AsyncIterator[bytes]:
    """Yield `number` chunks of a kilobyte, so that no length is announced."""
    for _ in range(number):
        yield b" " * 1024


async def test_a_large_body(start: Start) -> None:
    """A body over the limit is answered 413, announced or not; one below, or of nobody, is not."""
    async with start(max_body_bytes=100 * 1024) as service:
        headers = signed_headers(b"", SECRET, datetime.now(UTC))
        assert (await service.post(b" " * 100 * 1024 + b" ", headers)).status_code == 413
        answer = await service.client.post("/api/slack", content=chunks(150), headers=headers)
        assert answer.status_code == 413
        for path, status in (("/api/slack", 401), ("/healthz", 413)):
            answer = await service.client.post(path, content=b" " * 101 * 1024)
            assert (answer.status_code, answer.headers["cache-control"]) == (status, "no-store")
            assert answer.headers["x-content-type-options"] == "nosniff"
        answer = await service.client.post("/api/slack", content=chunks(100), headers=headers)
        assert answer.status_code == 401


async def test_headers_are_judged_before_the_body(service: Service) -> None:
    """Without headers that can prove anything the answer comes before the body; a huge one is cut."""
    host, port = service.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /api/slack HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n")
    assert b" 401 " in await reader.readline()
    writer.close()
    await writer.wait_closed()
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /api/slack HTTP/1.1\r\nhost: x\r\nx-port-signature: " + b"v1,A " * 100_000)
    assert b" 431 " in await reader.readline()
    writer.close()
    await writer.wait_closed()


async def test_a_sender_that_hangs_up(service: Service) -> None:
    """A connection that ends in the middle of a body does no harm."""
    host, port = service.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /api/slack HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{")
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert (await service.change("Healthy", "Degraded")).status_code == 202


async def test_a_store_that_cannot_write(service: Service, tmp_path: Path) -> None:
    """While the store cannot write, the answer is 503 with Retry-After; then it goes on."""
    path = tmp_path / "listener.db"
    hold = (
        "import sqlite3, sys\n"
        "sqlite3.connect(sys.argv[1]).execute('BEGIN IMMEDIATE')\n"
        "print('on_hold', flush=True)\n"
        "input()"
    )
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", hold, str(path), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert holder.stdout is not None
    await holder.stdout.readline()
    body = change_body(before="Healthy", after="Degraded", at=datetime.now(UTC))
    headers = signed_headers(body, SECRET, datetime.now(UTC))
    answer = await service.client.post("/api/slack", content=body, headers=headers, timeout=30)
    await holder.communicate(b"\n")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert (await service.post(body)).status_code == 202


async def test_health(service: Service) -> None:
    """A service that works is alive and ready."""
    assert (await service.client.head("/healthz")).status_code == 200
    assert (await service.client.head("/readyz")).content == b""
    assert (await service.client.get("/healthz")).json() == {"status": "ok", "reasons": [], "warnings": []}

    async def ready() -> bool:
        return (await service.client.get("/readyz")).status_code == 200

    await until(ready)


@pytest.mark.parametrize("traces", ["none", "console"])
async def test_a_slash_at_the_end(start: Start, traces: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address that was copied with a slash is the same address: Port follows no redirect."""
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", traces)
    body = change_body(before="Healthy", after="Degraded", at=datetime.now(UTC))
    async with start() as service:
        signed = signed_headers(body, SECRET, datetime.now(UTC))
        answer = await service.client.post("/api/slack/", content=body, headers=signed)
        assert answer.status_code == 202
        assert (await service.client.get("/healthz/")).status_code == 200


async def test_two_signature_headers(service: Service) -> None:
    """A proxy or a rotation may add one: whichever is right counts."""
    body = change_body(before="Healthy", after="Degraded", at=datetime.now(UTC))
    signed = signed_headers(body, SECRET, datetime.now(UTC))
    wrong = signed_headers(body, "other", datetime.now(UTC))[SIGNATURE_HEADER]
    headers = [(SIGNATURE_HEADER, wrong), *signed.items()]
    assert (await service.client.post("/api/slack", content=body, headers=headers)).status_code == 202


async def test_runs_are_kept_and_ignored(service: Service) -> None:
    """Port's documented run event is 202, and its reason says why nobody is told."""
    answer = await service.post(PAYLOADS["run_updated"])
    assert (answer.status_code, answer.json()["alerts"]) == (202, 0)
    (change,) = (await service.store.read(queries.changes.changes, ChangeFilter(), before=None, limit=5)).rows
    assert (change.resource, change.entity) == ("run", "r_Q0YotCZMKxDLdlaU")
    assert "run" in change.reason


async def test_a_restart_delivers_what_was_accepted(start: Start, slack: StandInSlack) -> None:
    """What was accepted while Slack was away is delivered after a restart, in order."""
    slack.answers.extend(PlainTextResponse("rollup_error", 503) for _ in range(50))
    async with start() as service:
        for after in ("Degraded", "Crashed"):
            await service.change("Healthy", after)
        await until(lambda: len(slack.answers) < 50)
    slack.answers.clear()
    async with start() as service:

        async def all_delivered() -> bool:
            return (await service.store.read(queries.counts.by_state))[State.DELIVERED] == 2

        await until(all_delivered)
        (message,) = slack.messages  # both waited, so they go out together
        assert "2 changes in" in shown(message)


async def test_a_fault_of_ours_costs_no_change(tmp_path: Path) -> None:
    """Port does not send it again: what we fail over is in quarantine, and can be replayed."""

    async def broken(_: Sequence[str], __: Mapping[str, Any]) -> Mapping[str, Any]:
        raise ZeroDivisionError

    async def nobody(_: CatalogChange, __: PortLookup) -> Sequence[object]:
        return ()

    rules = {"version": 1, "rules": [{"name": "jq", "when": {"jq": ".diff"}}]}
    book = make_rulebook(load_rules(json.dumps(rules), {}, models=SETTINGS_MODELS).file)
    store, body = open_sqlite(tmp_path / "listener.db"), change_body(before="a", after="b", at=NOW)
    intake = Intake(store, book, lambda: NOW, broken, nobody, wake=lambda _=None: None)
    receiver = Receiver(intake, (), True, timedelta(1))
    with pytest.raises(ZeroDivisionError):
        await receiver.accept(await receiver.verify(body, None))
    (kept,) = (await store.read(queries.quarantine.bodies, limit=100)).rows
    assert (kept.body, kept.reason) == (body, "a fault in this program: ZeroDivisionError")
    intake.evaluate = working
    assert (await intake.accept(Signed(kept.body, kept.signed_at))).alerts == 1
    await store.close()


async def working(programs: Sequence[str], _: Mapping[str, Any]) -> Mapping[str, Any]:
    """Say that all is true."""
    return dict.fromkeys(programs, True)


@pytest.mark.parametrize("suffix", ["", "-wal"])
@pytest.mark.parametrize("replaced", [False, True])
async def test_a_database_that_vanishes(
    service: Service, tmp_path: Path, suffix: str, *, replaced: bool
) -> None:
    """Nothing is answered 202 that the next start would not find."""
    assert (await service.change("Healthy", "Degraded")).status_code == 202
    file = tmp_path / f"listener.db{suffix}"
    file.rename(tmp_path / "elsewhere")
    if replaced:
        file.write_bytes((tmp_path / "elsewhere").read_bytes())
    answer = await service.change("Degraded", "Healthy")
    assert (answer.status_code, answer.json()["error"]) == (
        503,
        "the change could not be stored; send it again",
    )
    ready = await service.client.get("/readyz")
    assert ready.status_code == 503
    assert f"listener.db{suffix} was moved, replaced or deleted" in ready.text


async def test_an_end_that_never_came(service: Service) -> None:
    """The change that made the entity well is lost: the next one, of another value, ends the incident."""
    await service.change("Healthy", "Crashed", entity="a")
    body = json.loads(change_body(before="Healthy", after="Healthy", at=datetime.now(UTC), entity="a"))
    body["event"]["diff"]["before"]["properties"]["cpuUtil"] = 7
    answer = await service.post(json.dumps(body, separators=(",", ":")).encode())
    assert answer.status_code == 202
    assert await service.store.read(queries.incidents.worst, 10) == []
