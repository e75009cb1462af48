"""What each of Slack's answers leads to, seen with the commands that an operator has."""

import asyncio
from pathlib import Path

import httpx
import pytest
from starlette.responses import PlainTextResponse, Response

from app.demo.run import serving
from app.demo.stand_in_slack import Answer, StandInSlack
from app.model.delivery import State
from tests.acceptance.process import free_port, listening, post_change
from tests.conftest import NO_TLS
from tests.told import entities
from tests.waiting import until

pytestmark = pytest.mark.acceptance


async def hang() -> Response:
    """Take longer than the listener waits."""
    await asyncio.sleep(11)
    return PlainTextResponse("ok")


def answer(status: int, body: str, retry_after: str | None = None) -> Answer:
    """Return an answer of Slack's."""
    return PlainTextResponse(body, status, {"Retry-After": retry_after} if retry_after else None)


async def test_transient_answers_delay_and_keep_the_order(tmp_path: Path, slack: StandInSlack) -> None:
    """After 500, 429 with Retry-After 1, 1.5 and none, all arrive once and in order."""
    slack.answers.extend(
        [
            answer(500, "rollup_error"),
            answer(429, "rate_limited", "1"),
            answer(429, "rate_limited", "1.5"),
            answer(429, "rate_limited"),
        ]
    )
    async with listening(tmp_path, slack.url) as listener:
        async with httpx.AsyncClient(base_url=listener.url, verify=NO_TLS) as client:
            for entity in ("one", "two", "three"):
                await post_change(client, entity)
        await until(lambda: len(entities(slack.messages)) == 3, 60)

        async def all_recorded() -> bool:
            return await listener.count(State.DELIVERED) == 3

        await until(all_recorded)
        rows = await listener.deliveries()
    assert [row.notification.entity for row in rows] == ["one", "two", "three"]
    assert [(row.state, len(row.attempts)) for row in rows] == [
        ("delivered", 5),
        ("delivered", 1),
        ("delivered", 1),
    ]
    assert entities(slack.messages) == ["one", "two", "three"]
    assert len(slack.messages) == 1  # what waited goes out together


async def test_refusals_are_seen_and_can_be_fixed(tmp_path: Path, slack: StandInSlack) -> None:
    """A refused message is dead, a dead webhook puts the queue on hold; both go out in the end."""
    slack.answers.extend(
        [
            answer(400, "invalid_payload"),
            answer(400, "invalid_payload"),  # without the buttons it is refused too
            answer(400, "invalid_payload"),  # and so is the plain text
            answer(404, "no_active_hooks"),
        ]
    )
    async with listening(tmp_path, slack.url) as listener:
        async with httpx.AsyncClient(base_url=listener.url, verify=NO_TLS) as client:
            await post_change(client, "dead")
            await until(lambda: len(slack.answers) == 1)  # else all go out together
            for entity in ("on_hold", "behind-it"):
                await post_change(client, entity)
        await until(lambda: "queue_on_hold" in listener.log.read_text())
        shown = await listener.command_line("deliveries")
        assert "2 pending (2 in queues on hold), 1 dead, 0 delivered" in shown
        assert "400 invalid_payload" in shown
        assert "404 no_active_hooks" in shown
        assert slack.messages == []
        retried = await listener.command_line("deliveries", "retry", "--dead")
        assert "is tried again" in retried
        await until(lambda: len(entities(slack.messages)) == 3)
        await until(lambda: "queue_released" in listener.log.read_text())
    assert entities(slack.messages) == ["dead", "on_hold", "behind-it"]


async def test_a_refused_form_goes_out_as_plain_text(tmp_path: Path, slack: StandInSlack) -> None:
    """When Slack refuses the blocks, the text arrives, and the record says so."""
    slack.answers.extend(answer(400, "invalid_blocks") for _ in range(2))
    async with listening(tmp_path, slack.url) as listener:
        async with httpx.AsyncClient(base_url=listener.url, verify=NO_TLS) as client:
            await post_change(client, "plain")

        async def recorded() -> bool:
            (row,) = await listener.deliveries()
            return "as plain text, because Slack answered 400 invalid_blocks" in row.detail

        await until(recorded)
    assert "blocks" not in slack.messages[0]


async def test_slack_away_and_back(tmp_path: Path) -> None:
    """While nothing listens at Slack's address alerts wait; when it is back all arrive in order."""
    port = free_port()
    slack = StandInSlack()
    async with listening(tmp_path, f"http://127.0.0.1:{port}/services/very-secret-token") as listener:
        async with httpx.AsyncClient(base_url=listener.url, verify=NO_TLS) as client:
            for number in range(20):
                assert (await post_change(client, f"entity-{number}")).status_code == 202
        await until(lambda: "no connection" in listener.log.read_text())
        async with serving(slack.app, port):
            await until(lambda: len(entities(slack.messages)) == 20, 60)
    assert entities(slack.messages) == [f"entity-{number}" for number in range(20)]
