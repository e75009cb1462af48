"""What the page and its API need of the running parts."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

from fastapi import Request

from app.receive.intake import Intake
from app.store.base import Store
from app.store.views import Views
from app.web.comparison import RUNS, ComparisonShown, show_comparison
from app.web.health import Readiness


@dataclass(frozen=True, slots=True)
class Desk:
    """The running parts, as the page and its API see them.

    Attributes:
        store: The outbox.
        views: What there is to see in it.
        intake: Takes changes in.
        readiness: Says how the listener is.
        not_compared: Says why nothing is compared with Port; None: it is.
        compared_every: How often.
        app_url: Port's app.
        clock: Gives the time, UTC.
    """

    store: Store
    views: Views
    intake: Intake
    readiness: Readiness
    not_compared: Callable[[], str | None]
    compared_every: timedelta
    app_url: str
    clock: Callable[[], datetime]

    async def comparison(self) -> ComparisonShown:
        """Return how the comparison with Port is."""
        runs = await self.store.reconciling.runs(limit=RUNS)
        return show_comparison(runs, off=self.not_compared(), every=self.compared_every, now=self.clock())


def get_desk(request: Request) -> Desk:
    """Return the desk that the lifespan opened."""
    return cast("Desk", request.state.desk)
