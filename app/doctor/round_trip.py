"""Makes Port itself send a change, and follows it until its alert has left."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from app.errors import ListenerError, PortError
from app.model.delivery import State
from app.port.client import PortClient
from app.port.setup.resources import BLUEPRINT, TUTORIAL_ENTITY
from app.store.base import Store
from app.store.rows import Delivery

T = TypeVar("T")

LOOK_EVERY_SECONDS = 0.05
NEWEST = 1_000  # as many deliveries as a change and what comes with it can have made


async def wait_for(look: Callable[[], Awaitable[T | None]], seconds: float) -> T | None:
    """Return what `look` finds as soon as it finds something; None if it does not within `seconds`."""
    end = time.monotonic() + seconds
    # What is looked for happens in another process: there is nothing to be woken by.
    while (found := await look()) is None and time.monotonic() < end:  # noqa: ASYNC110
        await asyncio.sleep(LOOK_EVERY_SECONDS)
    return found


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """From Port's API to the destination: `healthStatus` of bootstrap's entity, there and back.

    Attributes:
        client: Port's API; not one that only plans.
        store: The running listener's store.
        patience: For how many seconds to wait for the change, and then for its alert.
    """

    client: PortClient
    store: Store
    patience: float

    async def run(self) -> str:
        """Set the status to another one and back; return how long each change and its alert took.

        Whatever happens, Ctrl-C too, the status is set back.

        Raises:
            ListenerError: A change did not arrive, or its alert did not leave.
            PortError: Port refused.
        """
        entity = await self.client.get_entity(BLUEPRINT, TUTORIAL_ENTITY) or {}
        current = (entity.get("properties") or {}).get("healthStatus")
        other = "Healthy" if current == "Degraded" else "Degraded"
        try:
            there = await self._follow(other)
        except BaseException as error:
            if not (isinstance(error, PortError) and (error.status or 500) < 500):  # else nothing was changed
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
        last = await self.store.last_at(BLUEPRINT, TUTORIAL_ENTITY)
        newest = await self.store.deliveries(state=None, limit=1)
        after = newest[0].id if newest else 0
        started = time.monotonic()
        await self._set(status)

        async def arrived() -> float | None:
            return time.monotonic() if await self.store.last_at(BLUEPRINT, TUTORIAL_ENTITY) != last else None

        arrival = await wait_for(arrived, self.patience)
        if arrival is None:
            raise ListenerError(
                f"healthStatus was set to {status}, but no change arrived within {self.patience:g} s. In"
                " Port, the automation's runs say what they were answered"
            )
        took = f"{arrival - started:.1f} s"

        async def settled() -> Sequence[Delivery] | None:
            rows = await self._alerts(after)
            return None if any(row.state is State.PENDING for row in rows) else rows

        await wait_for(settled, self.patience)
        rows = await self._alerts(after)
        if not rows:
            raise ListenerError(f"the change to {status} arrived after {took}, but no rule alerts on it")
        for row in rows:
            if row.state is not State.DELIVERED:
                raise ListenerError(
                    f"the change to {status} arrived after {took}, but its alert is {row.state}:"
                    f" {row.detail or 'it was not tried yet'}. See python -m app deliveries"
                )
        total = f"{time.monotonic() - started:.1f} s"
        return f"to {status}: arrived after {took}, its alert had left after {total}"

    async def _alerts(self, after: int) -> list[Delivery]:
        """Return the deliveries that are newer than the one of the number `after`, and tell of the entity."""
        rows = await self.store.deliveries(state=None, limit=NEWEST)
        return [
            row
            for row in rows
            if row.id > after
            and (row.notification.blueprint, row.notification.entity) == (BLUEPRINT, TUTORIAL_ENTITY)
        ]
