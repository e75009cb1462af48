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
from tests.acceptance.process import UVICORN, listening
from tests.conftest import NO_TLS, SECRET
from tests.waiting import until

pytestmark = pytest.mark.acceptance


async def accepted(url: str) -> tuple[float, bool]:
    """Ask whichever worker answers: how many changes were accepted, and whether the rules are refused."""
    async with httpx.AsyncClient(verify=NO_TLS) as client:
        text = (await client.get(f"{url}/metrics")).text
    samples = [sample for one in text_string_to_metric_families(text) for sample in one.samples]
    found = {(one.name, one.labels.get("outcome")): one.value for one in samples}
    refused = found["port_listener_rules_refused", None]
    return found["port_listener_changes_total", "accepted"], bool(refused)


async def test_two_workers(tmp_path: Path, slack: StandInSlack) -> None:
    """`uvicorn app.main:app --workers 2`: each change alerts once, in order, whichever worker took it.

    With PROMETHEUS_MULTIPROC_DIR, whichever worker is asked says what all of them have counted.
    """
    start = datetime.now(UTC)
    # Each alert in a message of its own, so that their order can be seen.
    destination = {"type": "slack", "webhook_url": slack.url, "digest_after": 1000, "rate": 1000}
    rules = tmp_path / "rules.json"
    rules.write_text(json.dumps({"version": 1, "destinations": {"default": destination}}))
    numbers = tmp_path / "numbers"
    settings = {"METRICS_PUBLIC": "true", "PROMETHEUS_MULTIPROC_DIR": str(numbers), "RULES_FILE": str(rules)}
    async with listening(tmp_path, slack.url, command=UVICORN, **settings) as listener:
        async with httpx.AsyncClient(base_url=listener.url, timeout=30, verify=NO_TLS) as client:

            async def post(number: int) -> httpx.Response:
                body = change_body(before="Healthy", after=f"S{number}-", at=start, entity=f"e{number % 7}")
                # A connection of its own, so that the workers share the load.
                headers = signed_headers(body, SECRET, datetime.now(UTC)) | {"connection": "close"}
                return await client.post("/api/slack", content=body, headers=headers)

            for first in range(0, 100, 20):
                answers = await asyncio.gather(*map(post, [*range(first, first + 20)] * 2))
                assert {answer.status_code for answer in answers} == {202}
                assert sum(answer.json()["duplicate"] for answer in answers) == 20

        async def recorded() -> bool:
            return await listener.count(State.DELIVERED) >= 100

        await until(recorded)
        rows = await listener.deliveries()
        assert {await accepted(listener.url) for _ in range(10)} == {(100, False)}
        assert len(list(numbers.glob("counter_*.db"))) >= 2
        # A file that is damaged costs its own numbers only.
        (numbers / "counter_1.db").write_bytes(b"\x40\0\0\0" + b"damaged" * 40)
        assert await accepted(listener.url) == (100, False)
        assert "metrics_file_damaged" in listener.log.read_text()
    assert [row.state for row in rows] == ["delivered"] * 100
    told = [message["text"] for message in slack.messages]
    assert len(told) == 100
    posted = [row.notification.change.after for row in rows if row.notification.change]
    pairs = zip(posted, told, strict=True)
    assert [after in text for after, text in pairs] == [True] * 100
