"""A signed change that alerts nobody: posted to the webhook address, it shows whether the way in is open."""

import json
import math
from datetime import datetime

import httpx

from app.errors import ListenerError, SourceRefused
from app.model.notification import one_line
from app.port.setup.answers import MEANINGS, SOURCE_REFUSED
from app.receive.signature import SIGNATURE_HEADER, TIMESTAMP_HEADER, sign

PROBE = "port-listener-doctor"
"""The resource, the blueprint and the entity of the change, by which it is known in the store."""
TIMEOUT_SECONDS = 10.0
LONGEST_ANSWER = 200


def body(now: datetime) -> bytes:
    """Return the body of a change that no rule can match, because it is of nothing in the catalog.

    Args:
        now: When it happened, UTC.
    """
    event = {
        "action": "CHECK",
        "resourceType": PROBE,
        "trigger": {"by": {"userId": PROBE}, "origin": "DOCTOR", "at": now.isoformat()},
        "context": {"blueprintIdentifier": PROBE, "entityIdentifier": PROBE},
    }
    return json.dumps({"event": event}, separators=(",", ":")).encode()


TEST_MARK = "test-"


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
    """Return the body of a made-up change of one property, and the entity's identifier in it.

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
    marked = entity if entity.startswith(TEST_MARK) else f"{TEST_MARK}{entity}"

    def snapshot(value: str) -> dict[str, object]:
        return {
            "identifier": marked,
            "title": f"TEST {marked}",
            "blueprint": blueprint,
            "team": [team] if team else [],
            "properties": {changed: _number(value)},
            "relations": {},
        }

    event = {
        "action": "UPDATE",
        "resourceType": "entity",
        "trigger": {"by": {"userId": f"{who} (a test)"}, "origin": "TEST", "at": now.isoformat()},
        "context": {"blueprintIdentifier": blueprint, "entityIdentifier": marked},
        "diff": {"before": snapshot(before), "after": snapshot(after)},
    }
    return json.dumps({"event": event}, separators=(",", ":"), ensure_ascii=False).encode(), marked


def _number(value: str) -> str | float | None:
    """Return a value as a catalog has it: a number where it reads as one, so that thresholds see it."""
    try:
        number = float(value)
    except ValueError:
        return value or None
    return number if math.isfinite(number) else value


async def send(url: str, secret: str, now: datetime, *, through_smee: bool) -> None:
    """Post the change, and return if whoever answers has it.

    A listener's receipt proves that it is a listener with this secret; smee's answer proves nothing beyond
    smee, which says 200 whoever listens.

    Args:
        url: The address that Port is to call.
        secret: The client secret to sign with.
        now: The time, UTC.
        through_smee: Whether `url` is a channel of smee.

    Raises:
        SourceRefused: A listener does, and takes nothing from this machine.
        ListenerError: It does not; the text says what to do.
    """
    timestamp = str(int(now.timestamp()))
    headers = {
        "Content-Type": "application/json",
        SIGNATURE_HEADER: sign(body(now), timestamp, secret),
        TIMESTAMP_HEADER: timestamp,
    }
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS) as client:
            answer = await client.post(url, content=body(now), headers=headers)
    except httpx.TimeoutException:
        raise ListenerError(f"no answer from {url} within {TIMEOUT_SECONDS:.0f} s") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        said = one_line(str(error), LONGEST_ANSWER) or type(error).__name__
        raise ListenerError(
            f"cannot reach {url}: {said}. Is the listener running (python -m app serve), and is WEBHOOK_URL"
            " its address from outside?"
        ) from None
    if through_smee:
        if not answer.is_success:
            raise ListenerError(f"{url} answers {answer.status_code}: is it your channel? Check SMEE_URL")
    elif answer.has_redirect_location:
        target = answer.url.join(answer.headers["location"])
        raise ListenerError(f"{url} redirects to {target}: set WEBHOOK_URL to the address where it ends")
    elif answer.status_code == httpx.codes.FORBIDDEN and SOURCE_REFUSED in answer.text:
        raise SourceRefused("ALLOWED_SOURCES does not name this machine")
    elif answer.status_code != httpx.codes.ACCEPTED:
        meaning = MEANINGS.get(answer.status_code, one_line(answer.text, LONGEST_ANSWER))
        raise ListenerError(f"{url} answers {answer.status_code}: {meaning}. Check WEBHOOK_URL")
    elif not _is_receipt(answer):
        raise ListenerError(f"{url} answers 202, but not as this listener does: check WEBHOOK_URL")


def _is_receipt(answer: httpx.Response) -> bool:
    try:
        return bool(answer.json()["change"]) and answer.json()["alerts"] == 0
    except (ValueError, KeyError, TypeError):
        return False
