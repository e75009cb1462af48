"""Several processes on one file."""

import asyncio
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from app.demo import StandInSlack, change_body, signed_headers
from tests.acceptance.process import listening
from tests.conftest import SECRET
from tests.waiting import until

pytestmark = pytest.mark.acceptance

UVICORN = (sys.executable, "-m", "uvicorn", "app.main:app", "--workers", "2")


async def test_two_workers(tmp_path: Path, slack: StandInSlack) -> None:
    """`uvicorn app.main:app --workers 2`: each change alerts once, in order, whichever worker took it."""
    start = datetime.now(UTC)
    # Each alert in a message of its own, so that their order can be seen.
    destination = {"type": "slack", "webhook_url": slack.url, "digest_after": 1000}
    rules = tmp_path / "rules.json"
    rules.write_text(json.dumps({"version": 1, "destinations": {"default": destination}}))
    async with listening(tmp_path, slack.url, command=UVICORN, RULES_FILE=str(rules)) as listener:
        async with httpx.AsyncClient(base_url=listener.url, timeout=30) as client:

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
        await until(lambda: len(slack.messages) >= 100)
        rows = await listener.deliveries()
    assert [row["state"] for row in rows] == ["delivered"] * 100
    told = [message["text"] for message in slack.messages]
    assert len(told) == 100
    pairs = zip(rows, told, strict=True)
    assert [row["notification"]["change"]["after"] in text for row, text in pairs] == [True] * 100
