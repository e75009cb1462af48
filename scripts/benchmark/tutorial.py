"""What Port's tutorial has people write: verifies, parses, and sends to Slack before it answers."""

import json
import os
import sys

import uvicorn
from fastapi import FastAPI, Request
from slack_sdk.webhook import WebhookClient

from scripts.benchmark.bare import verified
from scripts.benchmark.changes import PATH

app = FastAPI()
slack = WebhookClient(os.environ["SLACK_WEBHOOK_URL"])


@app.post(PATH, status_code=202)
async def receive(request: Request) -> dict[str, str]:
    """Verify, parse, and tell Slack."""
    event = json.loads(await verified(request))["event"]
    name, after = event["context"]["entityIdentifier"], event["diff"]["after"]["properties"]["healthStatus"]
    slack.send(text=f"{name} is {after}")
    return {"entity": name}


@app.get("/readyz")
async def ready() -> None:
    """Answer."""


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_config=None, access_log=False, server_header=False)
