"""``/healthz`` and ``/readyz``: what an orchestrator asks."""

from collections.abc import Awaitable, Callable
from typing import Annotated, cast

from fastapi import APIRouter, Depends, Request, Response, status
from pydantic import BaseModel

router = APIRouter(tags=["Health"])


class Health(BaseModel):
    """How the listener is."""

    status: str
    """``ok``, or ``unavailable``."""
    reasons: list[str] = []
    """What keeps it from working, if anything."""
    warnings: list[str] = []
    """What is to be mended, though it works."""


Readiness = Callable[[], Awaitable[Health]]


def get_readiness(request: Request) -> Readiness:
    """Return the check that the lifespan opened: it says how the listener is."""
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
    health = await readiness()
    if health.reasons:
        response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    return health
