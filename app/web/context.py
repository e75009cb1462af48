"""What the page and its API need of the running parts."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, TypeVar

from fastapi import Depends, HTTPException, Request

from app.notifier.kind import FindLinks
from app.receive.intake import Intake
from app.reconcile.health import why_off
from app.store import queries
from app.store.store import Store
from app.store.views import Page
from app.web.api.models import ReconciliationOut
from app.web.health import Readiness
from app.web.view import RUNS_LOOKED_AT, view_reconciling

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class WebContext:
    """The running parts, as the page and its API see them.

    Attributes:
        store: The store.
        intake: Takes changes in.
        readiness: Checks whether the listener works.
        reconcile_minutes: How often the listener reconciles with Port; 0: never.
        missing_credential: The setting that is missing for Port's API; None: none is.
        app_url: The address of Port's app.
        clock: Gives the time, UTC.
        find_links: Finds the addresses of messages.
    """

    store: Store
    intake: Intake
    readiness: Readiness
    reconcile_minutes: float
    missing_credential: str | None
    app_url: str
    clock: Callable[[], datetime]
    find_links: FindLinks

    def wake(self) -> None:
        """Let the dispatcher look for work at once."""
        self.intake.wake()

    @property
    def channels(self) -> dict[str, str]:
        """The channel of each queue by the queue's name, where the rules name it: an ID is no name."""
        known = self.intake.book.channels.items()
        return {queue: channel for channel, queue in known if channel == channel.lower()}

    async def reconciling(self) -> ReconciliationOut:
        """Read the last reconcile runs, and when the next is due."""
        # The rules may have been reloaded since the last look, so whether it is off is asked each time.
        off = why_off(self.reconcile_minutes, self.missing_credential, self.intake.book)
        runs = await self.store.read(queries.reconcile.runs, limit=RUNS_LOOKED_AT)
        every = timedelta(minutes=self.reconcile_minutes)
        return view_reconciling(runs, off=off, every=every, now=self.clock())


def get_context(request: Request) -> WebContext:
    """Return the context that the lifespan made."""
    context: WebContext = request.state.context
    return context


Context = Annotated[WebContext, Depends(get_context)]


async def read_page(reading: Awaitable[Page[_T]]) -> Page[_T]:
    """Await a page of a list.

    Raises:
        HTTPException: 422, its `before` is not a page's `next`.
    """
    try:
        return await reading
    except ValueError:
        raise HTTPException(422, "`before` must be a page's `next`; without it the list begins.") from None
