"""Reads Port's refusals, and gives advice about them: pure functions of an answer.

Rules: https://docs.port.io/api-reference/port-api
"""

import json
import math
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from app.port.region import region_of

RATE_LIMIT_SECONDS = (1.0, 60.0)  # the shortest and the longest wait
RATE_LIMIT_UNKNOWN_SECONDS = 10.0  # Port said nothing that we can read
RESET_IS_EPOCH_ABOVE = 1e9  # x-ratelimit-reset is claimed to be seconds until, and to be seconds since 1970
MAX_REFUSAL_CHARS = 600


def rate_limit_wait(headers: Mapping[str, str], now: datetime) -> float:
    """Compute the seconds to wait after a 429: the longest that Port asks for, 1 to 60.

    ``x-ratelimit-reset`` is seconds until, or since 1970 (both are claimed); ``Retry-After`` is seconds or
    a date: https://docs.port.io/api-reference/rate-limits
    """
    reset = _number(headers.get("x-ratelimit-reset", ""))
    if reset is not None and reset > RESET_IS_EPOCH_ABOVE:
        reset -= now.timestamp()
    after = _number(headers.get("retry-after", ""))
    if after is None and "retry-after" in headers:
        try:
            after = parsedate_to_datetime(headers["retry-after"]).timestamp() - now.timestamp()
        except ValueError:
            after = None
    # The longest: a try that comes too early counts against the limit again.
    asked = [seconds for seconds in (reset, after) if seconds is not None]
    shortest, longest = RATE_LIMIT_SECONDS
    return min(max(*asked, shortest), longest) if asked else RATE_LIMIT_UNKNOWN_SECONDS


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return None if math.isnan(number) else number


def message(body: Any, answer: httpx.Response) -> str:
    """Join Port's own words: ``{"ok": false, "error", "message", "details"}``, `error` a name or an object.

    Args:
        body: The answer's JSON; anything but an object is not Port's, and the answer's text stands for it.
        answer: The answer.
    """
    if not isinstance(body, dict):
        return answer.text.strip() or answer.reason_phrase
    error, details = body.get("error"), body.get("details")
    if isinstance(error, dict):
        details = details or error.get("details")
        error = error.get("message") or error.get("name") or json.dumps(error, ensure_ascii=False)
    parts = [str(part) for part in (error, body.get("message")) if part]
    if details:
        parts.append(json.dumps(details, ensure_ascii=False))
    return ": ".join(dict.fromkeys(parts)) or answer.reason_phrase


def advice(status: int, base_url: str, *, logging_in: bool) -> str:
    """Advise about a refusal, in a sentence without its full stop.

    Args:
        status: The HTTP status.
        base_url: Where the API is, to name the other region's address.
        logging_in: Whether it was the call for a token. The credentials of one region are unknown in the
            other, which answers 401 or 404.
    """
    other_region = _other_region(base_url)
    if logging_in and status in {400, 401, 403, 404, 422}:
        return (
            "Check PORT_CLIENT_ID and PORT_CLIENT_SECRET (in Port: the menu at your picture, Credentials)"
            f"{other_region}"
        )
    meaning = {
        401: f"Port refuses the token that it gave: try again, or make new credentials{other_region}",
        403: "The credentials may not do this: use those of an administrator of the organization",
        404: f"It does not exist in this organization{other_region}",
        409: "Something of this identifier exists already, or changes at this moment: run it again",
        413: "The request is too large for Port (1 MiB)",
        422: "Port refuses what the request says: the message above names the field",
        429: "Port still limits the rate: try again in a few minutes",
    }
    if status >= 500:
        return "This is a fault in Port: try again later, or give the trace id to its support"
    return meaning.get(status, "Port does not accept this request")


def _other_region(base_url: str) -> str:
    here = region_of(httpx.URL(base_url).host)
    if here is None:
        return ""
    return (
        f"; and this asked the {here.upper()} region: for an organization in the other one set"
        f" PORT_REGION={here.other} and no PORT_API_URL, or give the command --region {here.other}"
    )
