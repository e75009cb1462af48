"""Makes Port itself send a change, and follows it until its alert is delivered."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from app.errors import ListenerError, PortError
from app.model.delivery import State
from app.port.client import PortClient
from app.port.setup.resources import BLUEPRINT, TUTORIAL_ENTITY
from app.store import queries
from app.store.store import Store
from app.store.views import ChangeFilter, Delivery

_T = TypeVar("_T")

ARRIVAL_POLL_SECONDS = 0.05
NEWEST_CHANGES = 20  # more than one change of the entity and what others may do to it meanwhile


async def wait_for(look: Callable[[], Awaitable[_T | None]], seconds: float) -> _T | None:
    """Call `look` until it returns something; None: it did not within `seconds`."""
    end = time.monotonic() + seconds
    # It happens in another process, which notifies nobody here: polling is all there is.
    while (result := await look()) is None and time.monotonic() < end:  # noqa: ASYNC110
        await asyncio.sleep(ARRIVAL_POLL_SECONDS)
    return result


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """From Port's API to the destination: `healthStatus` of bootstrap's entity is changed and changed back.

    Attributes:
        client: Port's API; not a dry run.
        store: The running listener's store.
        patience_seconds: How long to wait for the change, and then for its alert.
    """

    client: PortClient
    store: Store
    patience_seconds: float

    async def run(self) -> str:
        """Set the status to another one and back; return how long each change and its alert took.

        Whatever happens, Ctrl-C too, the status is set back.

        Raises:
            ListenerError: A change did not arrive, or its alert was not delivered.
            PortError: Port refused.
        """
        entity = await self.client.get_entity(BLUEPRINT, TUTORIAL_ENTITY) or {}
        current = (entity.get("properties") or {}).get("healthStatus")
        other = "Healthy" if current == "Degraded" else "Degraded"
        try:
            there = await self._follow(other)
        except BaseException as error:
            # After a 4xx nothing was changed. After any other error something may have been.
            if not (isinstance(error, PortError) and (error.status or 500) < 500):
                await self._restore(current, error)
            raise
        return f"{there}\n{await self._follow(current)}"

    async def _restore(self, status: str | None, error: BaseException) -> None:
        try:
            await self._set(status)
        except PortError as refused:
            raise ListenerError(
                f"{error}\nhealthStatus of {TUTORIAL_ENTITY} could not be set back to {status}, look at it in"
                f" Port: {refused}"
            ) from None

    async def _set(self, status: str | None) -> None:
        await self.client.patch_entity(BLUEPRINT, TUTORIAL_ENTITY, {"properties": {"healthStatus": status}})

    async def _follow(self, status: str | None) -> str:
        last = max(await self._changes(after=0), default=0)
        started = time.monotonic()
        await self._set(status)

        async def arrival_time() -> float | None:
            return time.monotonic() if await self._changes(after=last) else None

        arrival = await wait_for(arrival_time, self.patience_seconds)
        if arrival is None:
            raise ListenerError(
                f"healthStatus was set to {status}, but no change arrived within {self.patience_seconds:g} s."
                " In Port, the automation's runs show what they were answered"
            )
        took = f"{arrival - started:.1f} s"

        async def settled_alerts() -> list[Delivery] | None:
            alerts = await self._alerts(last)
            return None if any(alert.state is State.PENDING for alert in alerts) else alerts

        await wait_for(settled_alerts, self.patience_seconds)
        alerts = await self._alerts(last)
        if not alerts:
            raise ListenerError(f"the change to {status} arrived after {took}, but no rule alerts on it")
        for alert in alerts:
            if alert.state is not State.DELIVERED:
                raise ListenerError(
                    f"the change to {status} arrived after {took}, but its alert is"
                    f" {alert.state.replace('_', ' ')}: {alert.detail or 'it was not tried yet'}."
                    " See python -m app deliveries"
                )
        total = f"{time.monotonic() - started:.1f} s"
        return f"to {status}: arrived after {took}, its alert was delivered after {total}"

    async def _changes(self, after: int) -> list[int]:
        """Return the numbers of the entity's changes that are greater than `after`."""
        wanted = ChangeFilter(blueprint=BLUEPRINT, entity=TUTORIAL_ENTITY)
        page = await self.store.read(queries.changes.changes, wanted, before=None, limit=NEWEST_CHANGES)
        return [change.id for change in page.rows if change.id > after]

    async def _alerts(self, after: int) -> list[Delivery]:
        """Return the alerts of the entity's changes whose numbers are greater than `after`."""
        rows = await self.store.read(queries.page.deliveries_of, await self._changes(after))
        about = (BLUEPRINT, TUTORIAL_ENTITY)
        return [
            delivery
            for delivery in rows
            if (delivery.notification.blueprint, delivery.notification.entity) == about
        ]
