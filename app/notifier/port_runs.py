"""Runs in Port that wait to be told what became of the change which they brought.

Rules: https://docs.port.io/create-self-service-experiences/reflect-action-progress/,
https://docs.port.io/api-reference/rate-limits
"""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import structlog

from app.errors import DeliveryFailed, PortError, Scope, StoreUnavailable
from app.model.notification import Message
from app.model.report import Fate
from app.notifier.base import Parcel, Sent
from app.notifier.port_action import failure

log = structlog.get_logger(__name__)

HAS_ENDED = frozenset({409, 422})
"""What Port answers of a run that takes no word any more. What we say of one keeps to its description."""
UNKNOWN = frozenset({404, 410})


class PortRuns:
    """Tells runs what became of their changes, in words that are made when they are sent.

    As long as something of a change waits, its run gets a line in its log; then it is ended.
    An end that is sent twice says the same; a line stands there twice where the answer to the first got lost.

    Args:
        fate: Says what became of a run's change; raises `StoreUnavailable`.
        log_run: Adds a line to a run's log; raises `PortError`.
        patch_run: Ends a run; raises `PortError`.
        permalink: Gives the address of a message at a destination, if it has one.
        clock: Gives the time, UTC.
    """

    pause = timedelta(milliseconds=250)  # the limit is the organization's: others need it too
    at_once = 20

    def __init__(
        self,
        *,
        fate: Callable[[str], Awaitable[Fate | None]],
        log_run: Callable[[str, str], Awaitable[None]],
        patch_run: Callable[[str, dict[str, Any]], Awaitable[None]],
        permalink: Callable[[str, Message], Awaitable[str | None]],
        clock: Callable[[], datetime],
    ) -> None:
        self._fate = fate
        self._log_run = log_run
        self._patch_run = patch_run
        self._permalink = permalink
        self._clock = clock
        self._limited_until: datetime | None = None

    async def send(self, parcel: Parcel) -> Sent:
        """Refuse: nothing is sent here but reports."""
        raise DeliveryFailed("runs in Port are told of their own changes only", Scope.MESSAGE)

    async def report(self, run: str, reports: int) -> str:
        """Tell a run how its change is now, and return what came of that, for a person.

        Args:
            run: The run's id.
            reports: How many of the reports that wait for it this is about.

        Raises:
            DeliveryFailed: Port did not take it: see `_failure`.
        """
        # One queue has met the limit: the others need not find out for themselves.
        now = self._clock()
        if self._limited_until is not None and now < self._limited_until:
            raise DeliveryFailed("Port limits the rate", Scope.TRANSIENT, self._limited_until - now)
        try:
            fate = await self._fate(run)
        except StoreUnavailable as error:
            raise DeliveryFailed(str(error), Scope.TRANSIENT) from None
        if fate is None:
            return "its change is not kept any more"
        try:
            if not fate.has_ended or fate.reports > reports:  # the end is the next one's to tell
                await self._log_run(run, fate.line)
                return "a line in its log"
            await self._patch_run(run, dict(fate.ending(await self._links(fate))))
        except PortError as error:
            if error.status in HAS_ENDED and not error.logging_in:
                log.warning("a run takes no report any more", run=run, status=error.status)
                return f"the run takes no word any more: {error.status} {error.said}"
            raise self._failure(error) from None
        return f"ended: {fate.label}"

    async def close(self) -> None:
        """See `Notifier.close`: the connections are for others to close."""

    async def _links(self, fate: Fate) -> list[str]:
        found = [await self._permalink(one.destination, one.message) for one in fate.alerts if one.message]
        return [link for link in found if link]

    def _failure(self, error: PortError) -> DeliveryFailed:
        """Return what a refusal means: as `failure` has it, but that a run is not there concerns only it.

        Nor is a queue on hold for wrong credentials: a report is no alert, and is not to be tried for ever.
        """
        if error.status == 429 and error.retry_after is not None:
            self._limited_until = self._clock() + error.retry_after
        failed = failure(error)
        if error.status in UNKNOWN and not error.logging_in:
            return DeliveryFailed(failed.reason, Scope.MESSAGE)
        if failed.scope is Scope.DESTINATION:
            return DeliveryFailed(failed.reason, Scope.TRANSIENT)
        return failed
