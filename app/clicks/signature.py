"""Verifies that a request is from Slack, which signs it with the app's signing secret.

slack_sdk's verifier raises on hostile input: a timestamp ``1.5``, a body that is no UTF-8, a signature ``é``.

Rules: https://docs.slack.dev/authentication/verifying-requests-from-slack
"""

import hmac
import re
from collections.abc import Mapping
from datetime import datetime, timedelta

from app.errors import Cause, SignatureRejected

SLACK_SIGNATURE_HEADER, SLACK_TIMESTAMP_HEADER = "x-slack-signature", "x-slack-request-timestamp"
CLICKS_PATH = "/api/slack/interactive"
SLACK_SCHEME = {
    "type": "apiKey",
    "in": "header",
    "name": SLACK_SIGNATURE_HEADER,
    "description": "`v0=` and the HMAC-SHA256 in hex (signing secret, `v0:{timestamp}:{body}`)",
}
SLACK_TOLERANCE = timedelta(minutes=5)
_TIMESTAMP = re.compile(r"[0-9]{1,12}")  # \d would take the digits of every script
_SIGNATURE = re.compile(r"v0=[0-9a-f]{64}")


def sign_for_slack(body: bytes, timestamp: str, secret: str) -> str:
    """Sign a body as Slack does; return the signature header's value: ``v0=`` and the HMAC-SHA256 in hex.

    The timestamp is the text of its header, seconds since 1970.
    """
    return "v0=" + hmac.digest(secret.encode(), b"v0:%b:%b" % (timestamp.encode(), body), "sha256").hex()


def check_slack_headers(headers: Mapping[str, str], now: datetime) -> tuple[str, str]:
    """Parse a request's signature headers, whose names are in lower case; no body is needed for that.

    Returns:
        The timestamp's text and the signature.

    Raises:
        SignatureRejected: One of them is missing, malformed, or more than five minutes off.
    """
    timestamp, signature = headers.get(SLACK_TIMESTAMP_HEADER, ""), headers.get(SLACK_SIGNATURE_HEADER, "")
    for name, text, form in (
        (SLACK_TIMESTAMP_HEADER, timestamp, _TIMESTAMP),
        (SLACK_SIGNATURE_HEADER, signature, _SIGNATURE),
    ):
        if not form.fullmatch(text):
            raise SignatureRejected(f"no {name} header as Slack sends it", _missing_or_malformed(text))
    off = now.timestamp() - int(timestamp)
    if abs(off) > SLACK_TOLERANCE.total_seconds():
        raise SignatureRejected(f"the timestamp is {off:.0f} s off", Cause.STALE)
    return timestamp, signature


def verify_slack(body: bytes, timestamp: str, signature: str, secret: str) -> None:
    """Verify a body as it arrived, given the result of `check_slack_headers`.

    Raises:
        SignatureRejected: The signature is wrong.
    """
    if not hmac.compare_digest(sign_for_slack(body, timestamp, secret), signature):
        raise SignatureRejected("the signature does not match", Cause.WRONG)


def _missing_or_malformed(text: str) -> Cause:
    return Cause.MALFORMED if text else Cause.MISSING
