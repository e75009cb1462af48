"""A dispatcher over a real store, with a destination that obeys the test, and a clock to move."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

from app.deliver.dispatcher import Dispatcher
from app.deliver.turn import Sender
from app.errors import DeliveryFailed, Scope
from app.notifier.base import Item, Notifier, Parcel, Sent
from app.receive.payload import bare_event
from app.store import queries
from app.store.rows import Claim, Waiting
from app.store.store import Store
from app.store.views import Delivery
from tests.conftest import NOW
from tests.store.helpers import incoming
from tests.waiting import until

PAUSE = timedelta(seconds=1)
TRANSIENT = DeliveryFailed("503", Scope.TRANSIENT)
DEAD = DeliveryFailed("400 invalid_payload", Scope.MESSAGE)
ON_HOLD = DeliveryFailed("404 no_active_hooks", Scope.DESTINATION)


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


class ScriptedNotifier(Notifier):
    """Takes notifications, unless the script has an answer for the next one."""

    pause = PAUSE
    batch_limit = 1

    def __init__(self) -> None:
        self.tried: list[str] = []
        self.taken: list[str] = []
        self.script: list[Exception | Callable[[], Awaitable[None]]] = []
        self.result = Sent("ok")

    async def send(self, parcel: Parcel) -> Sent:
        assert parcel.event
        entities = [item.notification.entity for item in parcel.items]
        self.tried += entities
        answer = self.script.pop(0) if self.script else None
        if isinstance(answer, Exception):
            raise answer
        if answer is not None:
            await answer()
        self.taken += entities
        return self.result

    async def close(self) -> None:
        pass


async def prepare(claim: Claim, deliveries: Sequence[Waiting]) -> Parcel:
    """Say what was decided, with Port's event."""
    items = (Item(one.key, one.notification, one.parent) for one in deliveries)
    return Parcel(tuple(items), bare_event(claim.body))


class Rig:
    """A dispatcher with its parts."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.clock = Clock()
        self.notifier = ScriptedNotifier()
        tokens = itertools.count()
        self.sender = Sender(
            store, {"default": self.notifier}, prepare=prepare, clock=self.clock, jitter=lambda: 0.0
        )
        self.dispatcher = Dispatcher(
            store, self.sender, clock=self.clock, new_token=lambda: f"token-{next(tokens)}"
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the loop."""
        task = asyncio.create_task(self.dispatcher.run())
        try:
            yield
        finally:
            await self.dispatcher.stop(5)
            await task

    async def add(self, *entities: str) -> None:
        """Store an alert for each entity."""
        await self.store.accept([incoming(entity=entity) for entity in entities])
        self.dispatcher.wake()

    def move(self, span: timedelta) -> None:
        """Move the clock."""
        self.clock.now += span
        self.dispatcher.wake()

    async def idle(self) -> None:
        """Wait until nothing is on its way: to a sender, a clock that jumps is a lease that ends."""
        await until(
            lambda: (
                self.dispatcher.last_turn == self.clock.now and not self.dispatcher._turns  # noqa: SLF001 - what is on its way shows nowhere else
            )
        )

    async def newest(self) -> Delivery:
        """Return the delivery that was stored last."""
        return ((await self.store.read(queries.page.deliveries, state=None, limit=1)).rows)[0]

    async def attempts(self, number: int) -> None:
        """Wait until so many attempts are recorded, which is when their queues are free again."""

        async def so_many() -> bool:
            rows = (await self.store.read(queries.page.deliveries, state=None, limit=100)).rows
            return sum(row.attempts for row in rows) == number

        await until(so_many)

    async def nothing_more(self) -> None:
        """Let the loop look for work, and make sure that it finds none."""
        tried = list(self.notifier.tried)
        turn = self.dispatcher.last_turn
        self.clock.now += timedelta(microseconds=1)
        self.dispatcher.wake()
        await until(lambda: self.dispatcher.last_turn != turn)
        assert self.notifier.tried == tried
