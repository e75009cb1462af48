"""``/healthz`` and ``/readyz``: what an orchestrator asks."""

from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from datetime import datetime
from typing import Any, Protocol

from fastapi import APIRouter, Request, Response, status
from pydantic import BaseModel

from app.errors import StoreUnavailable
from app.store import queries
from app.store.queue_state import QueueState
from app.store.store import Store

router = APIRouter(tags=["Health"])
NO_METHOD: dict[int | str, dict[str, Any]] = {
    405: {"description": "It has no such method; Allow says which."}
}
NO_SECURITY: dict[str, Any] = {"security": []}
"""Of the description: nothing is needed to ask."""


class Health(BaseModel):
    """Whether the listener works."""

    status: str
    """``ok``, or ``unavailable``."""
    reasons: list[str] = []
    """What keeps it from working."""
    warnings: list[str] = []
    """What needs attention, though it works."""


class Deliverer(Protocol):
    """What delivers: the dispatcher, or the process that has it."""

    def stale(self) -> str | None:
        """Say why it cannot be relied on; None: it works."""


Readiness = Callable[[], Awaitable[Health]]


async def check_readiness(
    store: Store, dispatcher: Deliverer | None, known: Iterable[str], now: datetime
) -> Health:
    """Prove that the store can write and that the delivery loop turns, and collect what needs attention.

    Args:
        store: The outbox.
        dispatcher: What delivers; None: another process, which this one does not know.
        known: What else is known to need attention.
        now: The time, UTC.
    """
    reasons, warnings = [], []
    try:
        # A write, not a read: a full or read-only disk still reads well.
        if trouble := await store.check(now):
            warnings.append(trouble)
    except StoreUnavailable as error:
        reasons.append(f"the store cannot write: {error}")
    if dispatcher is not None and (stale := dispatcher.stale()):
        reasons.append(stale)
    warnings += known
    warnings += [store.clock.warning] if store.clock.warning else []
    with suppress(StoreUnavailable):  # a store that cannot be read is among the reasons already
        if no_clicks := await store.read(queries.counts.socket_trouble, now):
            warnings.append(f"no clicks come from Slack: {no_clicks}")
        queues = await store.read(queries.page.queues, now)
        warnings += queue_warnings(queues, now)
    return Health(status="unavailable" if reasons else "ok", reasons=reasons, warnings=warnings)


def queue_warnings(queues: Iterable[QueueState], now: datetime) -> list[str]:
    """Say of each queue that needs attention at a time, UTC, why it does."""
    troubles = ((queue.name, queue.on_hold, queue.trouble(now)) for queue in queues)
    return [
        f"queue {name}{'' if on_hold is not None else ':'} {trouble}"
        for name, on_hold, trouble in troubles
        if trouble
    ]


# Load balancers and monitors ask with HEAD; the server leaves the body out.
@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", summary="Is the process alive?", responses=NO_METHOD, openapi_extra=NO_SECURITY)
async def healthz() -> Health:
    """Answer as long as the process does."""
    return Health(status="ok")


@router.head("/readyz", include_in_schema=False)
@router.get(
    "/readyz",
    summary="Can it take changes and deliver alerts?",
    responses=NO_METHOD | {503: {"model": Health, "description": "It cannot; the reasons say why."}},
    openapi_extra=NO_SECURITY,
)
async def readyz(request: Request, response: Response) -> Health:
    """Prove that the store can write, and that the delivery loop turns."""
    health: Health = await request.state.readiness()
    if health.reasons:
        response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    return health
