"""The parts of a request: a header, the body, the signature.

Rules: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import contextlib
import json
from typing import Any

from standardwebhooks import Webhook

from app.errors import DeliveryFailed, Scope
from app.notifier.http.job_url import MAX_LINE_CHARS, UNFIT

MAX_BODY_BYTES = 1_000_000


def header_value(name: str, value: Any) -> str:
    """Write a header's value; raises `DeliveryFailed` where it cannot be sent."""
    text = value if isinstance(value, str) else "" if value is None else json.dumps(value)
    if UNFIT.search(text) or len(text) > MAX_LINE_CHARS:
        reason = f"the header {name} has control characters, or more than {MAX_LINE_CHARS:,} characters"
        raise DeliveryFailed(reason, Scope.MESSAGE)
    return text


def json_body(value: Any) -> bytes:
    """Write a body as JSON; raises `DeliveryFailed` where it cannot be, or is too long."""
    try:
        text = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError):
        raise DeliveryFailed("the body cannot be written as JSON", Scope.MESSAGE) from None
    body = text.encode("utf-8", "replace")  # half a surrogate pair has no encoding
    if len(body) > MAX_BODY_BYTES:
        reason = f"the body has {len(body):,} bytes, and {MAX_BODY_BYTES:,} are the most"
        raise DeliveryFailed(reason, Scope.MESSAGE)
    return body


def signer(secret: str) -> Webhook:
    """Make what signs requests; raises `DeliveryFailed` where the secret is none."""
    # The library decodes whatever it is given, and would sign with what is left of a mistyped secret.
    encoded = secret.removeprefix("whsec_").rstrip("=")
    with contextlib.suppress(ValueError):
        if 24 <= len(base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)) <= 64:
            return Webhook(secret)
    raise DeliveryFailed("must be whsec_ and the base64 of 24 to 64 random bytes", Scope.DESTINATION)
