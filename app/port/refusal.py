"""Reads Port's refusals, and gives advice about them: pure functions of an answer.

Rules: https://docs.port.io/api-reference/port-api
"""

import json
import math
import socket
import ssl
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import httpx

from app.errors import CERTIFICATE_ADVICE
from app.model.times import MAX_RETRY_AFTER_SECONDS, parse_retry_after
from app.port.region import region_of

RATE_LIMIT_SECONDS = (1.0, 60.0)  # the shortest and the longest wait
RATE_LIMIT_UNKNOWN_SECONDS = 10.0  # Port said nothing that we can read
RESET_IS_EPOCH_ABOVE = 1e9  # x-ratelimit-reset is claimed to be seconds until, and to be seconds since 1970
MAX_REFUSAL_CHARS = 600
UNREACHED = (httpx.HTTPError, httpx.InvalidURL, UnicodeError)
"""What httpx raises where it does not reach an address; UnicodeError: its name is none, as ``a..b``."""


def asked_wait(status: int, headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """Read how long Port asks to wait before the next call; None: it does not ask.

    ``Retry-After``, seconds or a date, counts with every status; with 429 ``x-ratelimit-reset`` too, seconds
    until or since 1970 (both are claimed): https://docs.port.io/api-reference/rate-limits
    """
    after = parse_retry_after(headers.get("retry-after"), now)
    reset = _number(headers.get("x-ratelimit-reset", "")) if status == httpx.codes.TOO_MANY_REQUESTS else None
    if reset is None:
        return after
    if reset > RESET_IS_EPOCH_ABOVE:
        reset -= now.timestamp()
    # The longest: a try that comes too early counts against the limit again.
    return max(after or timedelta(0), timedelta(seconds=min(max(reset, 0), MAX_RETRY_AFTER_SECONDS)))


def rate_limit_wait(headers: Mapping[str, str], now: datetime) -> float:
    """Compute the seconds for which a call waits after a 429: as Port asks, but 1 to 60."""
    asked = asked_wait(httpx.codes.TOO_MANY_REQUESTS, headers, now)
    shortest, longest = RATE_LIMIT_SECONDS
    return RATE_LIMIT_UNKNOWN_SECONDS if asked is None else min(max(asked.total_seconds(), shortest), longest)


def why_unreached(error: Exception) -> str:
    """Say why Port's API was not reached, by the error that httpx raised; its text may hold what was sent."""
    text = str(error) or type(error).__name__
    if isinstance(error, httpx.ProxyError):
        return f"the proxy (HTTPS_PROXY) does not connect: {text}"
    if caused_by(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {text}; {CERTIFICATE_ADVICE}"
    if isinstance(error, UnicodeError):
        return f"its name is none: {text}"
    if caused_by(error, socket.gaierror):
        return f"its name, or the proxy's, cannot be looked up: {text}"
    return text


def caused_by(error: BaseException, kind: type[BaseException]) -> bool:
    """Tell whether an error is of a kind, or comes of one that is."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, kind):
        cause = cause.__cause__ or cause.__context__
    return cause is not None


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
