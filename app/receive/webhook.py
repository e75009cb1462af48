"""``POST /api/slack``: where Port's webhooks arrive."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from time import perf_counter
from typing import Any, cast

import orjson
from fastapi import APIRouter, HTTPException, Request, Response, status
from pydantic import BaseModel

from app.errors import SourceRefused
from app.model.change import UPDATE, EntitySnapshot
from app.model.notification import one_line
from app.observe.watch import Watch
from app.receive.event import WEBHOOK_PATH, Event, Trigger, build_event
from app.receive.receiver import Receiver
from app.receive.signature import SIGNATURE_HEADER, TIMESTAMP_HEADER, Signed
from app.receive.sources import Sources
from app.receive.unproven import BODY_SECONDS
from app.receive.whole import SIGNATURE, RawHeaders

_TIMESTAMP = TIMESTAMP_HEADER.encode()
FRAMEWORKS_LIMIT = 500_000_000
"""The most that MAX_BODY_BYTES may be. The framework's own limit would be answered 413 in place of a 401."""
MAX_ADDRESS_CHARS = 60  # as much of what a proxy calls an address as the log shows

_AFTER = EntitySnapshot(
    "notification-service-prod",
    "deploymentConfig",
    "Notification Service",
    teams=("Rocket",),
    properties={
        "healthStatus": "Degraded",
        "cpuUtil": 91,
        "sentryUrl": "https://sentry.io/organizations/acme",
    },
)
_EVENT = build_event(
    action=UPDATE,
    blueprint=_AFTER.blueprint,
    entity=_AFTER.identifier,
    at=datetime(2026, 6, 9, 12, 28, 18, tzinfo=UTC),
    origin="UI",
    by={"orgId": "org_1", "userId": "auth0|u1"},
    before=replace(_AFTER, properties={"healthStatus": "Healthy", "cpuUtil": 25}),
    after=_AFTER,
)
EXAMPLES: dict[str, Any] = {
    "automation": {
        "summary": "An automation, with the body that the README shows",
        "value": {
            "event": _EVENT,
            "trigger": {"by": {"user": {"email": "ada@example.com"}}},
            "run": {"id": "r_8Bvzq1"},
        },
    },
    "workflow": {
        "summary": "A workflow",
        "value": {
            "event": _EVENT,
            "workflowRun": {"identifier": "wfr_1"},
            "nodeRun": {"identifier": "wfnr_1"},
        },
    },
    "changelog": {
        "summary": "The legacy changelog destination",
        "value": _EVENT
        | {
            "status": "SUCCESS",
            "context": {
                "blueprint": "deploymentConfig",
                "entity": "notification-service-prod",
                "runId": None,
            },
        },
    },
}


class Receipt(BaseModel):
    """The change is on disk."""

    change: str
    """The change's key: the same for the same change, however often it is sent."""
    alerts: int
    """How many alerts it led to."""
    duplicate: bool
    """It was here before; nothing was stored again."""


class Refusal(BaseModel):
    """Why a request was refused."""

    error: str


class Unreadable(Refusal):
    """Why a signed body is not a change; it is kept in quarantine."""

    path: str
    """The field at fault, dotted; empty for the whole body."""


SCHEMAS = "#/components/schemas/"
SIGNATURE_SCHEME = {
    "type": "apiKey",
    "in": "header",
    "name": SIGNATURE_HEADER,
    "description": "`v1,` and the base64 of HMAC-SHA256(client secret, `{timestamp}.{body}`)",
}


class Envelope(BaseModel):
    """What an automation's body template makes around Port's event; more may stand beside it."""

    event: Event
    trigger: Trigger | None = None
    run: dict[str, Any] | None = None
    report: bool = False


def describe(document: dict[str, Any]) -> None:
    """Add to an OpenAPI document, in place, what the route's description refers to."""
    schemas = Envelope.model_json_schema(ref_template=f"{SCHEMAS}{{model}}")
    parts = document.setdefault("components", {})
    named = parts.setdefault("schemas", {})
    named.update(schemas.pop("$defs"), Envelope=schemas)
    parts.setdefault("securitySchemes", {})["PortSignature"] = SIGNATURE_SCHEME


router = APIRouter(tags=["Port"])


@router.post(
    WEBHOOK_PATH,
    status_code=status.HTTP_202_ACCEPTED,
    summary="Receive a change from Port",
    max_body_size=FRAMEWORKS_LIMIT,  # `limited` in its place
    response_class=Response,
    responses={
        202: {"model": Receipt, "description": "It is on disk, with the alerts that it leads to."},
        400: {"description": "The sender hung up before its body was whole."},
        401: {"model": Refusal, "description": "Not signed by Port, or too long ago. Nothing is stored."},
        403: {"model": Refusal, "description": "From an address that ALLOWED_SOURCES does not name."},
        405: {"description": "Only POST is taken."},
        408: {"model": Refusal, "description": f"The body took longer than {BODY_SECONDS} s."},
        413: {"description": "Larger than MAX_BODY_BYTES."},
        422: {"model": Unreadable, "description": "Signed, but not a change. It is kept in quarantine."},
        500: {"description": "A fault of the listener. The body is kept in quarantine."},
        503: {"model": Refusal, "description": "Not stored, or too busy. Send it again after Retry-After."},
    },
    openapi_extra={
        "parameters": [
            {
                "name": SIGNATURE_HEADER,
                "in": "header",
                "required": True,
                "schema": {"type": "string"},
                "description": SIGNATURE_SCHEME["description"],
            },
            {
                "name": TIMESTAMP_HEADER,
                "in": "header",
                "required": True,
                "schema": {"type": "string"},
                "description": "When it was signed: seconds or milliseconds since 1970",
            },
        ],
        "security": [{"PortSignature": []}],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"anyOf": [{"$ref": f"{SCHEMAS}{name}"} for name in ("Event", "Envelope")]},
                    "examples": EXAMPLES,
                }
            },
        },
    },
)
async def receive(request: Request) -> Response:
    """Store the change and what it leads to; the answer is sent when both are on disk.

    The body is read as bytes: what is not proven to come from Port is never parsed.
    """
    # Cheapest first: what is refused here costs neither memory nor a signature.
    sources = cast("Sources | None", request.state.sources)
    # The address is the one that uvicorn gives: a trusted proxy's header, else the connection's.
    address = request.client.host if request.client else ""
    if sources is not None and not sources.allow(address):
        raise SourceRefused(one_line(address, MAX_ADDRESS_CHARS))
    receiver = cast("Receiver", request.state.receiver)
    claim = receiver.check_headers(_signature_of(request.scope["headers"]))
    signed = await receiver.read(limited(request, receiver.unproven.body_bytes), claim)
    receipt = await _store(receiver, request.state.watch, signed)
    # Not through a response model, which would validate it again.
    return Response(receipt, status.HTTP_202_ACCEPTED, media_type="application/json")


async def limited(request: Request, most_bytes: int) -> AsyncIterator[bytes]:
    """Yield the chunks of a request's body.

    Raises:
        HTTPException: 413, it is announced to have more than so many bytes, or has.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > most_bytes:
        raise HTTPException(413, "The body is too large.")
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > most_bytes:
            raise HTTPException(413, "The body is too large.")
        yield chunk


async def take(receiver: Receiver, watch: Watch, headers: RawHeaders, body: bytes) -> bytes:
    """Do what `receive` does with a body that is here, and as small as any may be; give the receipt."""
    signed = await receiver.verify(body, receiver.check_headers(_signature_of(headers)))
    return await _store(receiver, watch, signed)


async def _store(receiver: Receiver, watch: Watch, signed: Signed) -> bytes:
    began = perf_counter()
    accepted = await receiver.accept(signed)
    watch.accepted(perf_counter() - began, duplicate=accepted.duplicate)
    receipt = {"change": accepted.key, "alerts": accepted.alerts, "duplicate": accepted.duplicate}
    return orjson.dumps(receipt)


def _signature_of(headers: RawHeaders) -> dict[str, str]:
    """Take the headers of a signature; of several signatures, which one a proxy or rotation adds, all."""
    signatures = [value for name, value in headers if name == SIGNATURE]
    timestamps = [value for name, value in headers if name == _TIMESTAMP]
    return {
        SIGNATURE_HEADER: b",".join(signatures).decode("latin-1"),
        TIMESTAMP_HEADER: timestamps[0].decode("latin-1") if timestamps else "",
    }
