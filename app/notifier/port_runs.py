"""Reports to runs in Port: what became of the change that a run has brought.

Rules: https://docs.port.io/create-self-service-experiences/reflect-action-progress/,
https://docs.port.io/api-reference/rate-limits
"""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import structlog

from app.errors import DeliveryFailed, PortError, Scope, StoreUnavailable
from app.model.notification import Message
from app.model.report import Fate
from app.notifier.base import Parcel, Reporter, Sent
from app.notifier.kind import AskFate
from app.notifier.port_action import failure_of

if TYPE_CHECKING:  # httpx is imported only where Port's credentials are configured
    from app.port.client import PortClient

log = structlog.get_logger(__name__)

HAS_ENDED = frozenset({409, 422})
"""Port's answers for a run that takes no report any more. A malformed report is 422 too: none is sent."""
RUN_UNKNOWN = frozenset({404, 410})


class PortRuns(Reporter):
    """Reports to runs what became of their changes, in words that are made at the moment of sending.

    As long as some delivery of a change waits, its run gets a line in its log; then the run is ended.
    An end that is sent twice says the same; a line stands there twice where the answer to the first got lost.
    The connections are the client's, and stay open.

    Args:
        fate: Says what became of a run's change; raises `StoreUnavailable`.
        permalink: Gives the address of a message at a destination, if it has one.
        clock: Gives the time, UTC.
    """

    pause = timedelta(milliseconds=250)  # the limit is the organization's: others need it too
    batch_limit = 20

    def __init__(
        self,
        port: "PortClient",
        fate: AskFate,
        permalink: Callable[[str, Message], Awaitable[str | None]],
        clock: Callable[[], datetime],
    ) -> None:
        self._port, self._fate, self._permalink, self._clock = port, fate, permalink, clock
        self._limited: tuple[datetime, datetime] | None = None

    async def send(self, parcel: Parcel) -> Sent:
        """Refuse: only reports go to runs."""
        raise DeliveryFailed("runs in Port get reports only", Scope.MESSAGE)

    async def report(self, run: str, reports: int) -> str:
        """Report to a run how its change is now, as `Reporter.report` says."""
        # One queue has met the limit: the others need not find out for themselves.
        now = self._clock()
        # Before it began, the clock was set back.
        if self._limited is not None and self._limited[0] <= now < self._limited[1]:
            raise DeliveryFailed("Port limits the rate", Scope.TRANSIENT, self._limited[1] - now)
        try:
            fate = await self._fate(run)
        except StoreUnavailable as error:
            raise DeliveryFailed(str(error), Scope.TRANSIENT) from None
        if fate is None:
            return "its change is not kept any more"
        try:
            if not fate.has_ended or fate.reports > reports:  # the next report ends the run
                await self._port.log_run(run, fate.line)
                return "a line in its log"
            await self._port.patch_run(run, dict(fate.ending(await self._links(fate))))
        except PortError as error:
            if error.status in HAS_ENDED and not error.logging_in:
                log.warning("run_refuses_report", run=run, status=error.status)
                return f"the run takes no report any more: {error.status} {error.said}"
            raise self._failure_of(error) from None
        return f"ended: {fate.label}"

    async def _links(self, fate: Fate) -> list[str]:
        messages = ((alert.destination, alert.message) for alert in fate.alerts if alert.message)
        return [link for place in messages if (link := await self._permalink(*place))]

    def _failure_of(self, error: PortError) -> DeliveryFailed:
        """Turn a refusal of Port's into a failure, as `failure_of` does but for two cases.

        That a run is not there concerns that run only. And nothing puts its queue on hold: a report must not
        be tried for ever, as an alert is.
        """
        if error.status == 429 and error.retry_after is not None:
            now = self._clock()
            self._limited = now, now + error.retry_after
        failed = failure_of(error, sends=False)
        if error.status in RUN_UNKNOWN and not error.logging_in and failed.scope is Scope.DESTINATION:
            return DeliveryFailed(failed.reason, Scope.MESSAGE)
        if failed.scope in {Scope.DESTINATION, Scope.STRANGE}:
            return DeliveryFailed(failed.reason, Scope.TRANSIENT)
        return failed
