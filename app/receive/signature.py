"""Verifies that a request is from Port, which signs its webhooks with the organization's client secret.

Rule: https://docs.port.io/actions-and-automations/setup-backend/webhook/signature-verification/
"""

import base64
import hmac
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from app.errors import Cause, SignatureRejected
from app.model.immutable import immutable

SIGNATURE_HEADER = "x-port-signature"
TIMESTAMP_HEADER = "x-port-timestamp"
SIGNATURE_VERSION = "v1,"
MILLISECONDS_ABOVE = 100_000_000_000  # in seconds that is the year 5138, in milliseconds 1973
MAX_TIMESTAMP_CHARS = 16
_SIGNATURE = re.compile(rf"(?:^|[\s,]){SIGNATURE_VERSION}([^\s,]+)")
MAX_SIGNATURES_CHARS = 1_024
MAX_REENCODED_BYTES = 256 * 1024
"""Larger bodies must arrive as they were signed: encoding one again would take a second."""


@immutable(frozen=True, slots=True)
class Signed:
    """A body that is proven to come from Port.

    Attributes:
        body: The bytes that were signed, which need not be the bytes that arrived.
        at: When they were signed, UTC.
    """

    body: bytes
    at: datetime


@immutable(frozen=True, slots=True)
class SignatureClaim:
    """The signature that a request's headers give for its body.

    Attributes:
        timestamp: The text of the timestamp header, as it came.
        at: The same as a time, UTC.
        signatures: The signatures, without their version.
    """

    timestamp: str
    at: datetime
    signatures: tuple[bytes, ...]


def sign(body: bytes, timestamp: str, secret: str) -> str:
    """Sign a body; return the signature header's value: ``v1,`` and the base64 of the HMAC-SHA256.

    The timestamp is the text of its header as it will be sent, the secret the organization's client secret.
    """
    return SIGNATURE_VERSION + _digest(body, timestamp, secret).decode()


def verify(body: bytes, claim: SignatureClaim, secrets: Sequence[str]) -> Signed | None:
    """Verify a body as it arrived; None: what was signed may be another encoding of it.

    Args:
        body: The bytes that arrived.
        claim: What the headers say.
        secrets: The secrets that Port may sign with, the current one first.
    """
    for secret in secrets:
        # Each secret: while one is replaced, Port signs with the old or the new one.
        expected = _digest(body, claim.timestamp, secret)
        for signature in claim.signatures:
            if hmac.compare_digest(expected, signature):
                return Signed(body, claim.at)
    return None


def verify_encoded(body: bytes, claim: SignatureClaim, secrets: Sequence[str]) -> Signed:
    """Verify a body by what a proxy may have made it from: costly, it takes up to 20 ms of CPU.

    Args:
        body: The bytes that arrived, which `verify` did not find signed.
        claim: What the headers say.
        secrets: The secrets that Port may sign with, the current one first.

    Raises:
        SignatureRejected: The signature is wrong.
    """
    tried = {body}
    for candidate in _encodings(body):
        if candidate not in tried:
            tried.add(candidate)
            if signed := verify(candidate, claim, secrets):
                return signed
    reason = "the signature does not match"
    if len(body) > MAX_REENCODED_BYTES:
        reason += (
            f"; above {MAX_REENCODED_BYTES // 1024} KiB a body must arrive byte for byte as it was signed,"
            " and Port's agent, or a proxy that reformats JSON, does not send it so"
        )
    raise SignatureRejected(reason, Cause.WRONG)


def parse_headers(headers: Mapping[str, str], now: datetime, tolerance: timedelta) -> SignatureClaim:
    """Parse a request's signature headers, whose names are in lower case; no body is needed for that.

    Several signatures may stand in one header, with spaces or, where a proxy joined several headers
    (RFC 9110, 5.3), commas between them. The timestamp may lie as far as the tolerance in the past or in the
    future.

    Raises:
        SignatureRejected: One of them is missing, malformed or stale.
    """
    timestamp = headers.get(TIMESTAMP_HEADER, "")
    signed_at = _parse_timestamp(timestamp)
    if abs(now - signed_at) > tolerance:
        reason = f"the timestamp is {(now - signed_at).total_seconds():.0f} s off"
        raise SignatureRejected(reason, Cause.STALE)
    header = headers.get(SIGNATURE_HEADER, "")
    if len(header) > MAX_SIGNATURES_CHARS:  # each costs time, and the sender has proven nothing yet
        reason = f"the {SIGNATURE_HEADER} header is longer than {MAX_SIGNATURES_CHARS} characters"
        raise SignatureRejected(reason, Cause.MALFORMED)
    signatures = tuple(signature.encode() for signature in _SIGNATURE.findall(header))
    if not signatures:
        reason = f"no {SIGNATURE_HEADER} header of the form v1,<base64>"
        raise SignatureRejected(reason, Cause.MALFORMED if header.strip() else Cause.MISSING)
    return SignatureClaim(timestamp, signed_at, signatures)


def _digest(body: bytes, timestamp: str, secret: str) -> bytes:
    return base64.b64encode(hmac.digest(secret.encode(), b"%b.%b" % (timestamp.encode(), body), "sha256"))


def _parse_timestamp(text: str) -> datetime:
    # isascii: isdigit alone takes ² and the digits of other scripts, on which int() fails or which it reads.
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_TIMESTAMP_CHARS):
        reason = f"no {TIMESTAMP_HEADER} header in seconds or milliseconds"
        raise SignatureRejected(reason, Cause.MALFORMED if text else Cause.MISSING)
    number = int(text)
    seconds = number / 1000 if number > MILLISECONDS_ABOVE else number
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        raise SignatureRejected(f"{TIMESTAMP_HEADER} is out of range", Cause.MALFORMED) from None


def _encodings(body: bytes) -> Iterator[bytes]:
    """Yield the bytes that may have been signed: what those that arrived were before a proxy.

    Port signs compact JSON and does not escape what is not ASCII, but its agent sends spaces around what
    it signed, and pysmee turns ``é`` into ``Ã©`` and escapes it.
    """
    if len(body) > MAX_REENCODED_BYTES:
        return
    try:
        parsed = json.loads(body)
        compact = json.dumps(parsed, separators=(",", ":"), ensure_ascii=False)
        yield from _encoded(compact, "utf-8")
        yield from _encoded(json.dumps(parsed, separators=(",", ":")), "ascii")
    except (ValueError, RecursionError):
        return
    # UTF-8 that was read as latin-1 gives its bytes back when it is written as latin-1.
    yield from _encoded(compact, "latin-1")


def _encoded(text: str, encoding: str) -> Iterator[bytes]:
    with suppress(UnicodeEncodeError):
        yield text.encode(encoding)
