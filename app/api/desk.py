"""What the page and its API need of the running parts."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from fastapi import Request

from app.api.health import Readiness
from app.listener import Listener
from app.store.base import Store
from app.store.views import Views


@dataclass(frozen=True, slots=True)
class Desk:
    """The running parts, as the page and its API see them.

    Attributes:
        store: The outbox.
        views: What there is to see in it.
        listener: Takes changes.
        readiness: Says how the listener is.
        app_url: Port's app.
        clock: Gives the time, UTC.
    """

    store: Store
    views: Views
    listener: Listener
    readiness: Readiness
    app_url: str
    clock: Callable[[], datetime]


def get_desk(request: Request) -> Desk:
    """Return the desk that the lifespan opened."""
    return cast("Desk", request.state.desk)
