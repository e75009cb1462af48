"""FastAPI and arq: the route enqueues a job in Redis, a worker posts it to Slack."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import httpx
from arq import Retry, create_pool
from arq.connections import RedisSettings
from fastapi import FastAPI, Request

from scripts.benchmark.teams.receiving import SEND_SECONDS, TRIES, WEBHOOK, Refused, alert_of, check

REDIS = RedisSettings.from_dsn(os.environ["REDIS_URL"])


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Keep a pool of connections to Redis."""
    app.state.redis = await create_pool(REDIS)
    yield
    await app.state.redis.aclose()


app = FastAPI(lifespan=lifespan)


@app.post("/api/slack", status_code=202)
async def receive(request: Request) -> dict[str, str]:
    """Answer when Redis has the job."""
    entity, text = await alert_of(request)
    if text is not None:
        await request.app.state.redis.enqueue_job("post", text)
    return {"entity": entity}


@app.get("/readyz")
async def ready() -> None:
    """Answer."""


async def post(context: dict[str, Any], text: str) -> None:
    """Post to Slack; wait as long as it asks, else longer each time."""
    try:
        check(await context["slack"].post(WEBHOOK, json={"text": text}))
    except Refused as refused:
        raise Retry(defer=refused.retry_after or 2 ** context["job_try"]) from refused
    except httpx.TransportError as error:
        raise Retry(defer=2 ** context["job_try"]) from error


async def open_client(context: dict[str, Any]) -> None:
    """Keep connections to Slack."""
    context["slack"] = httpx.AsyncClient(timeout=SEND_SECONDS)


class WorkerSettings:
    """Of `arq`; what a killed worker had in its hands is taken up when its time is over."""

    functions: ClassVar = [post]
    redis_settings = REDIS
    on_startup = open_client
    max_tries = TRIES
    job_timeout = 2 * SEND_SECONDS
    keep_result = 0
