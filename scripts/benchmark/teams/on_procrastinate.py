"""FastAPI and procrastinate: the route defers a job in PostgreSQL, a worker posts it to Slack."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI, Request
from procrastinate import App, PsycopgConnector, RetryStrategy

from scripts.benchmark.teams.receiving import SEND_SECONDS, TRIES, WEBHOOK, alert_of, check

HEARTBEAT_SECONDS = 5
queue = App(
    connector=PsycopgConnector(conninfo=os.environ["DATABASE_URL"]),
    worker_defaults={
        "concurrency": 10,
        "delete_jobs": "successful",
        "update_heartbeat_interval": HEARTBEAT_SECONDS,
        "stalled_worker_timeout": 3 * HEARTBEAT_SECONDS,
    },
)
slack = httpx.AsyncClient(timeout=SEND_SECONDS)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Keep a pool of connections to PostgreSQL."""
    async with queue.open_async():
        yield


app = FastAPI(lifespan=lifespan)


@queue.task(name="post", retry=RetryStrategy(max_attempts=TRIES, exponential_wait=2))
async def post(text: str) -> None:
    """Post to Slack; what is refused is tried again after 2, 4, 8 … seconds."""
    check(await slack.post(WEBHOOK, json={"text": text}))


@queue.periodic(cron="* * * * * */10")
@queue.task(name="retry_stalled", queueing_lock="retry_stalled", pass_context=False)
async def retry_stalled(timestamp: int) -> None:  # noqa: ARG001 - procrastinate gives it
    """Take up what a killed worker had in its hands, as procrastinate's documentation has it."""
    for job in await queue.job_manager.get_stalled_jobs(seconds_since_heartbeat=3 * HEARTBEAT_SECONDS):
        await queue.job_manager.retry_job(job)


@app.post("/api/slack", status_code=202)
async def receive(request: Request) -> dict[str, str]:
    """Answer when PostgreSQL has the job."""
    entity, text = await alert_of(request)
    if text is not None:
        await post.defer_async(text=text)
    return {"entity": entity}


@app.get("/readyz")
async def ready() -> None:
    """Answer."""
