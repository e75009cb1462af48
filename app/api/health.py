"""``/healthz`` and ``/readyz``: what an orchestrator asks."""

from collections.abc import Awaitable, Callable
from typing import Annotated, cast

from fastapi import APIRouter, Depends, Request, Response, status
from pydantic import BaseModel

router = APIRouter(tags=["Health"])

Readiness = Callable[[], Awaitable[list[str]]]


class Health(BaseModel):
    """How the listener is."""

    status: str
    """``ok``, or ``unavailable``."""
    reasons: list[str] = []
    """What is wrong, if anything."""


def get_readiness(request: Request) -> Readiness:
    """Return the check that the lifespan opened: it gives what is wrong."""
    return cast("Readiness", request.state.readiness)


@router.get("/healthz", summary="Is the process alive?")
async def healthz() -> Health:
    """Answer as long as the process does."""
    return Health(status="ok")


@router.get(
    "/readyz",
    summary="Can it take changes and deliver alerts?",
    responses={503: {"model": Health, "description": "It cannot; the reasons say why."}},
)
async def readyz(response: Response, readiness: Annotated[Readiness, Depends(get_readiness)]) -> Health:
    """Prove that the store can write, and that the delivery loop turns."""
    reasons = await readiness()
    if reasons:
        response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
        return Health(status="unavailable", reasons=reasons)
    return Health(status="ok")
