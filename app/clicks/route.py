"""``POST /api/slack/interactive``: where Slack's clicks arrive by HTTP, if SLACK_SIGNING_SECRET is set.

Rules: https://docs.slack.dev/interactivity/handling-user-interaction (the form field ``payload``, 3 s)
"""

import asyncio
import json
from urllib.parse import parse_qsl

import structlog
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from app.clicks.handle import Clicks
from app.clicks.payload import Came
from app.clicks.signature import (
    CLICKS_PATH,
    SLACK_SCHEME,
    SLACK_SIGNATURE_HEADER,
    SLACK_TIMESTAMP_HEADER,
    check_slack_headers,
    verify_slack,
)
from app.clicks.socket_mode import CLICK_SECONDS
from app.errors import SignatureRejected, StoreUnavailable
from app.receive.unproven import BODY_SECONDS
from app.receive.webhook import FRAMEWORKS_LIMIT, Refusal, limited

log = structlog.get_logger(__name__)

FORM_TYPE = "application/x-www-form-urlencoded"
MAX_CLICK_BYTES = 1024 * 1024
"""A payload carries the whole message: some ten kilobytes."""
MAX_FIELDS = 10
router = APIRouter(tags=["Slack"])


@router.post(
    CLICKS_PATH,
    summary="Receive a click from Slack",
    max_body_size=FRAMEWORKS_LIMIT,
    response_class=Response,
    responses={
        200: {
            "content": {"application/json": {"schema": {"type": "object"}}},
            "description": "Done, or nothing was to be done; for a form the body may name its mistakes.",
        },
        400: {"model": Refusal, "description": "Signed, but not a payload that can be read."},
        401: {"model": Refusal, "description": "Not signed by Slack, or more than 5 minutes ago."},
        405: {"description": "Only POST is taken."},
        408: {"model": Refusal, "description": f"The body took longer than {BODY_SECONDS} s."},
        413: {"description": "Larger than 1 MiB."},
        415: {"model": Refusal, "description": "Not a form."},
        503: {
            "model": Refusal,
            "description": "Not stored, or too busy. Slack tells the person that it failed.",
        },
    },
    openapi_extra={
        "parameters": [
            {
                "name": name,
                "in": "header",
                "required": True,
                "schema": {"type": "string"},
                "description": description,
            }
            for name, description in (
                (SLACK_SIGNATURE_HEADER, SLACK_SCHEME["description"]),
                (SLACK_TIMESTAMP_HEADER, "When it was signed, in seconds since 1970"),
            )
        ],
        "security": [{"SlackSignature": []}],
        "requestBody": {
            "required": True,
            "content": {
                FORM_TYPE: {
                    "schema": {
                        "type": "object",
                        "required": ["payload"],
                        "properties": {"payload": {"type": "string", "contentMediaType": "application/json"}},
                    }
                }
            },
        },
    },
)
async def interactive(request: Request) -> Response:
    """Do what somebody has clicked in Slack; the answer is sent when it is on disk.

    The same request again does nothing more: the id of a click is unique.
    """
    clicks: Clicks = request.state.clicks
    # Cheapest first: what is refused here costs neither memory nor a signature.
    try:
        timestamp, signature = check_slack_headers(request.headers, clicks.clock())
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM_TYPE:
            return JSONResponse({"error": f"the body must be {FORM_TYPE}"}, 415)
        body = await request.state.receiver.unproven.read(limited(request, MAX_CLICK_BYTES))
        verify_slack(body, timestamp, signature, request.state.slack_signing_secret)
    except SignatureRejected as error:
        log.warning("slack_signature_rejected", reason=str(error))
        clicks.watch.clicked("", Came.REJECTED)
        raise
    try:
        fields = dict(parse_qsl(body.decode(), max_num_fields=MAX_FIELDS))
        async with asyncio.timeout(CLICK_SECONDS):
            answer = await clicks.take(json.loads(fields.get("payload", "")))
    except (ValueError, RecursionError):
        log.warning("click_unreadable")
        return JSONResponse({"error": "the payload cannot be read"}, 400)
    except (StoreUnavailable, TimeoutError) as error:
        log.warning("click_not_stored", reason=str(error) or "it takes too long")
        return JSONResponse({"error": "it could not be done now; click again"}, 503)
    return JSONResponse(answer) if answer else Response()
