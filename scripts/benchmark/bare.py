"""The bare route: FastAPI in the same uvicorn; verifies the HMAC, parses the JSON, and no more."""

import base64
import hashlib
import hmac
import json
import sys
from typing import Any

import uvicorn
from fastapi import FastAPI, HTTPException, Request

from app.web.protocol import LimitedProtocol
from scripts.benchmark.changes import PATH, SECRET

app = FastAPI()


async def verified(request: Request) -> bytes:
    """Return the body, if it is signed.

    Raises:
        HTTPException: It is not.
    """
    body = await request.body()
    signed = request.headers["x-port-timestamp"].encode() + b"." + body
    digest = base64.b64encode(hmac.digest(SECRET.encode(), signed, hashlib.sha256))
    if not hmac.compare_digest(b"v1," + digest, request.headers["x-port-signature"].encode()):
        raise HTTPException(401)
    return body


@app.post(PATH, status_code=202)
async def receive(request: Request) -> dict[str, str]:
    """Verify and parse."""
    event = json.loads(await verified(request))["event"]
    return {"entity": event["context"]["entityIdentifier"]}


@app.get("/readyz")
async def ready() -> None:
    """Answer."""


if __name__ == "__main__":
    protocol: Any = LimitedProtocol if sys.argv[2] == "ours" else sys.argv[2]
    uvicorn.run(
        app,
        port=int(sys.argv[1]),
        http=protocol,
        log_config=None,
        access_log=False,
        server_header=False,
    )
