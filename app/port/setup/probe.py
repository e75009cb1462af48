"""A signed change that alerts nobody: posted to the webhook address, it shows whether changes can arrive."""

import math
from datetime import datetime

import httpx

from app.errors import ListenerError, SourceRefused
from app.model.change import UPDATE, EntitySnapshot
from app.model.notification import one_line
from app.network import DIRECT, Network
from app.port.refusal import MAX_REFUSAL_CHARS, UNREACHED, why_unreached
from app.receive.event import build_event, encode
from app.receive.signature import SIGNATURE_HEADER, TIMESTAMP_HEADER, sign
from app.receive.sources import SOURCE_REFUSED

PROBE = "port-listener-doctor"
"""The resource, the blueprint and the entity of the change, by which it is found in the store."""
ANSWER_SECONDS = 10.0
MAX_RECEIPT_CHARS = 200
TEST_MARK = "test-"
MEANINGS = {
    401: "the listener has another PORT_CLIENT_SECRET than the sender, or the clocks differ",
    403: "the listener's ALLOWED_SOURCES does not name the sender's address, which its log has",
    404: "there is no listener at this address; its path is /api/slack",
    413: "the body is larger than the listener's MAX_BODY_BYTES",
    422: "the listener cannot read it as a change",
    503: "the listener cannot store it now; its log says why",
}
"""The listener's answers to a change, by HTTP status, in words for the sender."""


def probe_body(now: datetime) -> bytes:
    """Build the body of a change at `now`, UTC, that no rule can match: it is of nothing in the catalog."""
    event = build_event(
        action="CHECK",
        resource=PROBE,
        blueprint=PROBE,
        entity=PROBE,
        at=now,
        origin="DOCTOR",
        by={"userId": PROBE},
    )
    return encode({"event": event})


def marked_change(
    *,
    blueprint: str,
    entity: str,
    changed: str,
    before: str,
    after: str,
    team: str,
    who: str,
    now: datetime,
) -> tuple[bytes, str]:
    """Build the body of a made-up change of one property; return it with the entity's identifier.

    The identifier and the title are marked, so that nobody takes it for an entity of the catalog.

    Args:
        blueprint: The blueprint's identifier.
        entity: The entity's name, which is marked.
        changed: The property.
        before: Its value before; empty: none.
        after: Its value after; empty: none.
        team: The owning team; empty: none.
        who: Who makes it up.
        now: When, UTC.
    """
    # Not twice, where the name was copied from an earlier test.
    marked = entity if entity.startswith(TEST_MARK) else f"{TEST_MARK}{entity}"
    teams = (team,) if team else ()

    def snapshot(value: str) -> EntitySnapshot:
        return EntitySnapshot(marked, blueprint, f"TEST {marked}", None, teams, {changed: _number(value)})

    event = build_event(
        action=UPDATE,
        blueprint=blueprint,
        entity=marked,
        at=now,
        origin="TEST",
        by={"userId": f"{who} (a test)"},
        before=snapshot(before),
        after=snapshot(after),
    )
    return encode({"event": event}), marked


def _number(value: str) -> str | float | None:
    """Read a value as the catalog has it: a number where it looks like one, so that thresholds see it."""
    try:
        number = float(value)
    except ValueError:
        return value or None
    # "nan" and "inf" are no numbers in JSON.
    return number if math.isfinite(number) else value


async def send(
    url: str, secret: str, now: datetime, *, through_smee: bool, network: Network = DIRECT
) -> None:
    """Post the change, and return once the listener, or, `through_smee`, that channel has it.

    A listener's receipt proves that it is a listener with this secret; smee's answer proves nothing beyond
    smee, which answers 200 even if nothing listens.

    Raises:
        SourceRefused: A listener answers that it takes nothing from this machine.
        ListenerError: It did not arrive; the text says what to do.
    """
    body, timestamp = probe_body(now), str(int(now.timestamp()))
    headers = {
        "Content-Type": "application/json",
        SIGNATURE_HEADER: sign(body, timestamp, secret),
        TIMESTAMP_HEADER: timestamp,
    }
    try:
        async with httpx.AsyncClient(timeout=ANSWER_SECONDS, **network.httpx(url)) as client:
            answer = await client.post(url, content=body, headers=headers)
    except httpx.TimeoutException:
        raise ListenerError(f"no answer from {url} within {ANSWER_SECONDS:.0f} s") from None
    except UNREACHED as error:
        reason = one_line(why_unreached(error), MAX_REFUSAL_CHARS)
        raise ListenerError(
            f"cannot reach {url}: {reason}. Is the listener running (python -m app serve), and is WEBHOOK_URL"
            " its address from outside?"
        ) from None
    if not through_smee:
        _demand_receipt(url, answer)
    elif not answer.is_success:
        raise ListenerError(f"{url} answers {answer.status_code}: is it your channel? Check SMEE_URL")


def _demand_receipt(url: str, answer: httpx.Response) -> None:
    """Raise unless the answer is a listener's receipt."""
    if answer.has_redirect_location:
        target = answer.url.join(answer.headers["location"])
        raise ListenerError(f"{url} redirects to {target}: set WEBHOOK_URL to the address where it ends")
    # A proxy may answer 403 as well: then the address is not the listener's, or not open.
    if answer.status_code == httpx.codes.FORBIDDEN and SOURCE_REFUSED in answer.text:
        raise SourceRefused("ALLOWED_SOURCES does not name this machine")
    if answer.status_code != httpx.codes.ACCEPTED:
        meaning = MEANINGS.get(answer.status_code, one_line(answer.text, MAX_RECEIPT_CHARS))
        raise ListenerError(f"{url} answers {answer.status_code}: {meaning}. Check WEBHOOK_URL")
    # The probe alerts nobody: a receipt with alerts is of something else.
    if not _is_receipt(answer):
        raise ListenerError(f"{url} answers 202, but not as this listener does: check WEBHOOK_URL")


def _is_receipt(answer: httpx.Response) -> bool:
    try:
        return bool(answer.json()["change"]) and answer.json()["alerts"] == 0
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
