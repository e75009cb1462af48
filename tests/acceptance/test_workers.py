"""Several processes on one file."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.demo.run import change_body, signed_headers
from app.demo.stand_in_slack import StandInSlack
from app.model.delivery import State
from tests.acceptance.process import UVICORN, listening, post_change
from tests.conftest import NO_TLS, SECRET
from tests.waiting import until

pytestmark = pytest.mark.acceptance


async def test_two_workers(tmp_path: Path, slack: StandInSlack) -> None:
    """`uvicorn app.main:app --workers 2`: each change alerts once, in order, whichever worker took it."""
    start = datetime.now(UTC)
    # Each alert in a message of its own, so that their order can be seen.
    destination = {"type": "slack", "webhook_url": slack.url, "digest_after": 1000, "rate": 1000}
    rules = tmp_path / "rules.json"
    rules.write_text(json.dumps({"version": 1, "destinations": {"default": destination}}))
    async with listening(tmp_path, slack.url, command=UVICORN, RULES_FILE=str(rules)) as listener:
        async with httpx.AsyncClient(base_url=listener.url, timeout=30, verify=NO_TLS) as client:

            async def post(number: int) -> httpx.Response:
                body = change_body(before="Healthy", after=f"S{number}-", at=start, entity=f"e{number % 7}")
                # A connection of its own, so that the workers share the load.
                headers = signed_headers(body, SECRET, datetime.now(UTC)) | {"connection": "close"}
                return await client.post("/api/slack", content=body, headers=headers)

            for first in range(0, 100, 20):
                numbers = [*range(first, first + 20)] * 2
                answers = await asyncio.gather(*map(post, numbers))
                assert {answer.status_code for answer in answers} == {202}
                assert sum(answer.json()["duplicate"] for answer in answers) == 20

        async def recorded() -> bool:
            return await listener.count(State.DELIVERED) >= 100

        await until(recorded)
        rows = await listener.deliveries()
    assert [row.state for row in rows] == ["delivered"] * 100
    told = [message["text"] for message in slack.messages]
    assert len(told) == 100
    posted = [row.notification.change.after for row in rows if row.notification.change]
    pairs = zip(posted, told, strict=True)
    assert [after in text for after, text in pairs] == [True] * 100


async def accepted(url: str) -> tuple[float, bool]:
    """Ask whichever worker answers: how many changes were accepted, and whether the rules are refused."""
    async with httpx.AsyncClient(verify=NO_TLS) as client:
        text = (await client.get(f"{url}/metrics")).text
    samples = [sample for one in text_string_to_metric_families(text) for sample in one.samples]
    found = {(one.name, one.labels.get("outcome")): one.value for one in samples}
    refused = found["port_listener_rules_refused", None]
    return found["port_listener_changes_total", "accepted"], bool(refused)


async def test_each_worker_counts_for_all(tmp_path: Path, slack: StandInSlack) -> None:
    """With PROMETHEUS_MULTIPROC_DIR, whichever worker is asked says what all of them have counted."""
    settings = {"METRICS_PUBLIC": "true", "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "numbers")}
    async with listening(tmp_path, slack.url, command=UVICORN, **settings) as listener:
        for number in range(20):  # each over a connection of its own, so that both workers get some
            async with httpx.AsyncClient(base_url=listener.url, verify=NO_TLS) as client:
                assert (await post_change(client, f"entity-{number}")).status_code == 202
        assert {await accepted(listener.url) for _ in range(10)} == {(20, False)}
        files = list((tmp_path / "numbers").glob("counter_*.db"))
        assert len(files) >= 2
        # A file that is damaged costs its own numbers only.
        (tmp_path / "numbers" / "counter_1.db").write_bytes(b"\x40\0\0\0" + b"damaged" * 40)
        assert await accepted(listener.url) == (20, False)
        assert "metrics_file_damaged" in listener.log.read_text()
        await until(lambda: len(slack.messages) > 0)
