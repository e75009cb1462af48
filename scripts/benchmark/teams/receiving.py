"""What all of FastAPI's peers share: the signature, the comparison, and the message to Slack."""

import base64
import hashlib
import hmac
import json
import os
import time

import httpx
from fastapi import HTTPException, Request

SECRET = os.environ["PORT_CLIENT_SECRET"].encode()
WEBHOOK = os.environ["SLACK_WEBHOOK_URL"]
TRIES = 10
SEND_SECONDS = 5
"""How long Slack may take."""
TOLERANCE_SECONDS = 300


class Refused(Exception):
    """Slack did not take a message.

    Attributes:
        retry_after: How many seconds it asks to wait, if it does.
    """

    def __init__(self, answer: httpx.Response) -> None:
        super().__init__(f"Slack answered {answer.status_code}")
        asked = answer.headers.get("retry-after", "")
        self.retry_after = int(asked) if asked.isdigit() else None


async def alert_of(request: Request) -> tuple[str, str | None]:
    """Read Port's webhook.

    Returns:
        The entity, and what Slack is to hear; None if the health status stayed.

    Raises:
        HTTPException: It is not signed by Port, or not now.
    """
    body, timestamp = await request.body(), request.headers.get("x-port-timestamp", "")
    digest = hmac.digest(SECRET, timestamp.encode() + b"." + body, hashlib.sha256)
    expected = b"v1," + base64.b64encode(digest)
    if not hmac.compare_digest(expected, request.headers.get("x-port-signature", "").encode()):
        raise HTTPException(401)
    if abs(time.time() - int(timestamp)) > TOLERANCE_SECONDS:
        raise HTTPException(401)
    event = json.loads(body)["event"]
    entity, diff = event["context"]["entityIdentifier"], event["diff"]
    before = (diff["before"] or {}).get("properties", {}).get("healthStatus")
    after = (diff["after"] or {}).get("properties", {}).get("healthStatus")
    return entity, f"*{entity}*: healthStatus {before} → {after}" if before != after else None


def check(answer: httpx.Response) -> None:
    """Judge Slack's answer.

    Raises:
        Refused: It is no success.
    """
    if answer.status_code != 200:
        raise Refused(answer)
