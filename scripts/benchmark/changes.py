"""Changes as Port sends them, each with a key of its own, signed."""

import itertools
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from app.demo.run import change_body, signed_headers

SECRET = "bench-secret"  # noqa: S105 - of this benchmark's own listener
ENTITIES = 1000
PATH = "/api/slack"
_STATUSES = ("Healthy", "Degraded", "Crashed")
_MARKS = ("BEFORE", "AFTER", "ENTITY", "TIME")
_runs = itertools.count()


def _template() -> str:
    """Return a body of 1.5 kB, with marks for what differs."""
    long_ago = datetime.fromtimestamp(0, UTC)
    body = json.loads(
        change_body(before="BEFORE", after="AFTER", at=long_ago, entity="ENTITY", title="Service ENTITY")
    )
    body["event"]["trigger"]["at"] = "TIME"
    for snapshot in body["event"]["diff"].values():
        snapshot |= {"createdAt": "2026-01-01T00:00:00.000Z", "updatedAt": "TIME"}
        snapshot["properties"]["description"] = (
            "Sends what customers asked to be told, by mail and by text message."
        )
        snapshot["relations"] = {"service": "notification-service", "environment": "production"}
    return json.dumps(body, separators=(",", ":"))


_TEMPLATE = _template()


def bodies(number: int, *, entities: int = ENTITIES, team: str | None = None) -> Iterator[bytes]:
    """Yield so many changes of `healthStatus`, each of which alerts.

    They are of so many entities in turns, which no call before had; each goes from healthy to degraded, and
    then to and fro between that and crashed.

    Args:
        number: How many.
        entities: Of how many entities.
        team: The owning team, if another than the demo's; `{}` in it becomes the entity's number.
    """
    run, start = next(_runs), datetime.now(UTC) - timedelta(milliseconds=number)
    token = f"{start:%H%M%S}-{run}"
    for one in range(number):
        turn, entity = divmod(one, entities)
        before, after = (
            ("Healthy", "Degraded") if not turn else (_STATUSES[2 - turn % 2], _STATUSES[1 + turn % 2])
        )
        time = (start + timedelta(milliseconds=one)).isoformat(timespec="milliseconds")[:23] + "Z"
        text = _TEMPLATE
        for mark, value in zip(_MARKS, (before, after, f"service-{token}-{entity:04}", time), strict=True):
            text = text.replace(mark, value)
        if team is not None:
            text = text.replace('"Rocket"', json.dumps(team.format(entity)))
        yield text.encode()


def request(path: str, body: bytes, headers: dict[str, str] | None = None) -> bytes:
    """Return a POST as it goes over the wire."""
    lines = {
        "Host": "127.0.0.1",
        "User-Agent": "bench",
        "Accept": "application/json",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
    } | (headers or {})
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def signed_requests(number: int, **options: Any) -> Iterator[bytes]:
    """Yield so many different changes, signed now, as Port posts them."""
    now = datetime.now(UTC)
    for body in bodies(number, **options):
        yield request(PATH, body, signed_headers(body, SECRET, now))
