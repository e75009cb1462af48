"""Clicks that come by HTTP: only what Slack has signed lately, and never an error of this program."""

import json
import time
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.clicks.signature import (
    CLICKS_PATH,
    SLACK_SIGNATURE_HEADER,
    SLACK_TIMESTAMP_HEADER,
    check_slack_headers,
    sign_for_slack,
    verify_slack,
)
from app.errors import Cause, SignatureRejected
from tests.clicks.conftest import CHANNEL, Run
from tests.clicks.test_clicks import incident, labels, opened, told, trail
from tests.clicks.workspace import Workspace
from tests.conftest import NOW, Service
from tests.waiting import until

SIGNING_SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
FORM = "application/x-www-form-urlencoded"
# https://docs.slack.dev/authentication/verifying-requests-from-slack has this example.
EXAMPLE = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
    b"&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
    b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
    b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)
EXAMPLE_SIGNATURE = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"


def signed(body: bytes, *, at: float | None = None, secret: str = SIGNING_SECRET) -> dict[str, str]:
    """Make the headers that Slack sends with a body."""
    timestamp = str(int(time.time() if at is None else at))
    return {
        "Content-Type": FORM,
        SLACK_TIMESTAMP_HEADER: timestamp,
        SLACK_SIGNATURE_HEADER: sign_for_slack(body, timestamp, secret),
    }


def form(payload: Any) -> bytes:
    """Encode a payload as Slack does."""
    return f"payload={quote_plus(json.dumps(payload))}".encode()


async def post(service: Service, body: bytes, headers: dict[str, str] | None = None) -> int:
    """Post a body, signed unless other headers are given, and give the answer's status."""
    answer = await service.client.post(
        CLICKS_PATH, content=body, headers=signed(body) if headers is None else headers
    )
    return answer.status_code


def test_slacks_own_example() -> None:
    """The signature on Slack's page is the one that is made here."""
    assert sign_for_slack(EXAMPLE, "1531420618", SIGNING_SECRET) == EXAMPLE_SIGNATURE
    verify_slack(EXAMPLE, "1531420618", EXAMPLE_SIGNATURE, SIGNING_SECRET)


@pytest.mark.parametrize(
    ("timestamp", "signature", "cause"),
    [
        ("", EXAMPLE_SIGNATURE, Cause.MISSING),
        ("1.5", EXAMPLE_SIGNATURE, Cause.MALFORMED),
        ("abc", EXAMPLE_SIGNATURE, Cause.MALFORMED),
        ("-1", EXAMPLE_SIGNATURE, Cause.MALFORMED),
        ("٣" * 10, EXAMPLE_SIGNATURE, Cause.MALFORMED),
        ("9" * 400, EXAMPLE_SIGNATURE, Cause.MALFORMED),
        ("9" * 12, EXAMPLE_SIGNATURE, Cause.STALE),
        (str(int(NOW.timestamp()) - 301), EXAMPLE_SIGNATURE, Cause.STALE),
        (str(int(NOW.timestamp()) + 301), EXAMPLE_SIGNATURE, Cause.STALE),
        (str(int(NOW.timestamp())), "", Cause.MISSING),
        (str(int(NOW.timestamp())), "é", Cause.MALFORMED),
        (str(int(NOW.timestamp())), EXAMPLE_SIGNATURE.upper(), Cause.MALFORMED),
        (str(int(NOW.timestamp())), EXAMPLE_SIGNATURE + "\n", Cause.MALFORMED),
        (str(int(NOW.timestamp())), f"v0={'٣' * 64}", Cause.MALFORMED),
    ],
)
def test_headers_that_are_refused(timestamp: str, signature: str, cause: Cause) -> None:
    """slack_sdk's verifier raises on five of these."""
    headers = {SLACK_TIMESTAMP_HEADER: timestamp, SLACK_SIGNATURE_HEADER: signature}
    with pytest.raises(SignatureRejected) as rejected:
        check_slack_headers(headers, NOW)
    assert rejected.value.cause is cause


@given(st.binary(max_size=200), st.text(max_size=80), st.text(max_size=80))
@settings(max_examples=100, deadline=None)
def test_nothing_else_than_a_refusal_comes_of_hostile_input(
    body: bytes, timestamp: str, signature: str
) -> None:
    """Whatever the headers and the body are."""
    headers = {SLACK_TIMESTAMP_HEADER: timestamp, SLACK_SIGNATURE_HEADER: signature}
    with pytest.raises(SignatureRejected):
        check_slack_headers(headers, NOW)
    with pytest.raises(SignatureRejected):
        verify_slack(body, "1531420618", EXAMPLE_SIGNATURE, SIGNING_SECRET)


async def test_the_story_of_a_click_by_http(run: Run, workspace: Workspace) -> None:
    """It is done when Slack is answered; replayed, it does nothing more; a form's mistakes are the answer."""
    async with run(slack_app_token=None, slack_signing_secret=SIGNING_SECRET) as service:
        message = await opened(service, workspace, by_http=True)
        payload = workspace.payload(message, "acknowledge", channel=workspace.channel(CHANNEL).id)
        body = form(payload)
        headers = signed(body)
        assert await post(service, body, headers) == 200
        assert (await incident(service)).incident.acknowledged is not None
        await until(lambda: labels(message)[0] == "unacknowledge")
        assert await post(service, body, headers) == 200
        assert await post(service, form(payload | {"trigger_id": "2"})) == 200
        assert "already acknowledged" in await told(workspace)
        assert [entry.what for entry in await trail(service)] == ["acknowledge incident"]
        metadata = json.dumps({"block_id": payload["actions"][0]["block_id"]})
        view: dict[str, Any] = {"id": "V1", "callback_id": "silence", "private_metadata": metadata}
        view |= {"state": {"values": {"length": {"length": {"value": "9d"}}}}}
        submitted = form(
            {"type": "view_submission", "user": payload["user"], "trigger_id": "3", "view": view}
        )
        answer = await service.client.post(CLICKS_PATH, content=submitted, headers=signed(submitted))
        assert answer.json()["response_action"] == "errors"


async def test_hostile_requests(run: Run) -> None:
    """Each is refused with its own status, and none is an error of this program."""
    async with run(slack_app_token=None, slack_signing_secret=SIGNING_SECRET) as service:
        body = form({"type": "block_actions"})
        now = time.time()
        good = signed(body)
        unsigned = {name: value for name, value in good.items() if name != SLACK_SIGNATURE_HEADER}
        huge = b"payload=" + b"x" * 5_000_000
        nested = b"payload=" + b"[" * 100_000

        async def endless() -> Any:
            for _ in range(40):
                yield b"x" * 65_536

        statuses = {
            "no signature": await post(service, body, unsigned),
            "nothing": await post(service, b"", {}),
            "wrong secret": await post(service, body, signed(body, secret="x" * 32)),
            "another body": await post(service, body + b"&a=b", good),
            "stale": await post(service, body, signed(body, at=now - 400)),
            "future": await post(service, body, signed(body, at=now + 400)),
            "JSON": await post(service, body, good | {"Content-Type": "application/json"}),
            "multipart": await post(
                service, body, good | {"Content-Type": "multipart/form-data; boundary=x"}
            ),
            "no type": await post(
                service, body, {key: value for key, value in good.items() if key != "Content-Type"}
            ),
            "4 MiB of nobody": await post(service, huge[: 2**22 + 1], {}),
            "5 MB": await post(service, huge, signed(huge)),
            "2.5 MB in chunks": await post(service, endless(), good),
            "no UTF-8": await post(service, b"payload=\xff", signed(b"payload=\xff")),
            "no payload": await post(service, b"a=b", signed(b"a=b")),
            "no JSON": await post(service, b"payload={", signed(b"payload={")),
            "no object": await post(service, form([1]), signed(form([1]))),
            "nested": await post(service, nested, signed(nested)),
            "many fields": await post(service, b"a=b&" * 5_000, signed(b"a=b&" * 5_000)),
            "not as Slack sends it": await post(service, form({"type": "block_actions"})),
            "charset": await post(
                service, form({}), signed(form({})) | {"Content-Type": f"{FORM}; charset=utf-8"}
            ),
            "of no interest": await post(service, form({"type": "shortcut"})),
        }
        assert statuses == {
            **dict.fromkeys(
                (
                    "no signature",
                    "nothing",
                    "wrong secret",
                    "another body",
                    "stale",
                    "future",
                    "4 MiB of nobody",
                ),
                401,
            ),
            **dict.fromkeys(("JSON", "multipart", "no type"), 415),
            **dict.fromkeys(("5 MB", "2.5 MB in chunks"), 413),
            **dict.fromkeys(("no UTF-8", "no payload", "no JSON", "no object", "nested", "many fields"), 400),
            "not as Slack sends it": 400,
            **dict.fromkeys(("charset", "of no interest"), 200),
        }
        assert (await service.client.get(CLICKS_PATH)).status_code == 405
        assert await trail(service) == []
