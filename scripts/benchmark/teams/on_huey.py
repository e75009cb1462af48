"""FastAPI and Huey: the route enqueues a task in SQLite with fsync, a consumer posts it to Slack."""

import httpx
from fastapi import FastAPI, Request
from huey import SqliteHuey

from scripts.benchmark.teams.receiving import SEND_SECONDS, TRIES, WEBHOOK, alert_of, check

huey = SqliteHuey(filename="huey.db", fsync=True, results=False)
slack = httpx.Client(timeout=SEND_SECONDS)
app = FastAPI()


@huey.task(retries=TRIES, retry_delay=1, retry_backoff=2)
def post(text: str) -> None:
    """Post to Slack; what is refused is tried again after 1, 2, 4 … seconds."""
    check(slack.post(WEBHOOK, json={"text": text}))


@app.post("/api/slack", status_code=202)
async def receive(request: Request) -> dict[str, str]:
    """Answer when SQLite has the task."""
    entity, text = await alert_of(request)
    if text is not None:
        post(text)  # in a thread it would wait for the same lock of the file, and take longer
    return {"entity": entity}


@app.get("/readyz")
async def ready() -> None:
    """Answer."""
