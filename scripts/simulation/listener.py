"""The listener itself, as `app.runtime` puts it together, in processes of the simulation."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from itertools import count

from app.errors import ListenerError, SignatureRejected, StoreUnavailable, UnreadableChange
from app.model.times import from_micros
from app.notifier.registry import SETTINGS_MODELS
from app.receive import rules_source
from app.receive.receiver import Receiver
from app.rules.file import Rules, load_rules
from app.runtime.listener import Machine, Runtime, open_runtime
from app.settings import Settings
from app.store.clock import StoreClock
from app.store.sqlite.schema import prepare
from app.store.store import Store
from scripts.simulation.clock import RUNNING, Process
from scripts.simulation.disk import SimulatedDatabase
from scripts.simulation.mutants import HEALTHY, Mutant
from scripts.simulation.world import DATABASE, World

ANSWER_SECONDS = 30.0


@cache
def _parsed(text: str, name: str) -> Rules:
    return load_rules(text, {}, models=SETTINGS_MODELS, name=name)


@contextmanager
def rules_parsed_once() -> Iterator[None]:
    """Let the same text be the same rules: to parse it takes longer than all the rest of a start."""
    rules_source.load_rules = lambda text, *_, name, **__: _parsed(text, name)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        rules_source.load_rules = load_rules  # type: ignore[attr-defined]


@dataclass(slots=True)
class Listener:
    """A process of the listener, started again each time that it has ended.

    Attributes:
        name: Its name.
        world: Everything around it.
        settings: Its configuration.
        mutant: The mistake that is planted.
        process: The process that runs now; None: none does.
        runtime: Its parts, once it has started.
    """

    name: str
    world: World
    settings: Settings
    mutant: Mutant = HEALTHY
    process: Process | None = None
    runtime: Runtime | None = None
    _ended: asyncio.Event = field(default_factory=asyncio.Event)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _starts: int = 0

    async def run(self) -> None:
        """Start it, and again whenever it has ended."""
        while True:
            self._starts += 1
            self.process = Process(f"{self.name}.{self._starts}")
            self.world.processes.append(self.process)
            self.process.at_death.append(self._died)
            self._ended.clear()
            self._stop = asyncio.Event()
            self.world.say(f"{self.process.name} starts")
            self.world.tries.append(self.world.loop.time())
            self.process.start(self._live(self.process))
            await self._ended.wait()
            await asyncio.sleep(
                self.world.chance.between("restart after", 0.2, 40 if self._starts % 4 else 4)
            )

    def clock(self) -> datetime:
        """Give the time of its machine."""
        return self.world.loop.wall() + timedelta(seconds=self.world.clock_offset)

    def _died(self) -> None:
        if self.process is not None:
            self.world.say(f"{self.process.name} has ended")
        self.runtime = None
        self._ended.set()

    async def _live(self, process: Process) -> None:
        jitter, numbers = self.world.chance.stream("jitter"), count()
        databases = []

        @asynccontextmanager
        async def open_store(*_: object, **__: object) -> AsyncIterator[Store]:
            prepare(DATABASE)
            database = SimulatedDatabase(DATABASE, process, self.world, self.mutant)
            databases.append(database)
            try:
                yield Store(
                    database, StoreClock(self.clock, self.world.uptime, f"boot {len(self.world.boots)}")
                )
            finally:
                await database.close()

        machine = Machine(
            clock=self.clock,
            new_token=lambda: f"{process.name}-{next(numbers)}",
            jitter=lambda: jitter.uniform(-1, 1),
            open_store=open_store,
            steady=lambda: from_micros(self.world.uptime()),
        )
        try:
            async with open_runtime(self.settings, reconcile=True, machine=machine) as runtime:
                self.mutant.plant(runtime)
                self.runtime = runtime
                await self._stop.wait()
                self.runtime = None
        except ListenerError as error:
            self.world.say(f"{process.name} cannot go on: {error}")
        except Exception as error:  # noqa: BLE001 - no fault of the world: the program or the wiring is wrong
            self.world.loop.break_off(error)
        process.at_death = [self._died]
        process.end(self.world.loop.time())

    def stop(self) -> None:
        """Ask it to stop, as SIGTERM does."""
        self._stop.set()

    async def post(self, body: bytes, headers: dict[str, str]) -> int | None:
        """Send it a webhook; give the status of the answer, None if it ended before it gave one."""
        process, runtime = self.process, self.runtime
        if process is None or runtime is None or not process.alive:
            return None
        loop = self.world.loop
        answer: asyncio.Future[int | None] = loop.create_future()

        def give(status: int | None = None) -> None:
            if not answer.done():
                answer.set_result(status)

        async def receive() -> None:
            status = await _status(runtime.receiver, body, headers)
            self.world.answered_at = loop.time()
            outside = process.context.copy()
            outside.run(RUNNING.set, None)
            loop.call_soon(give, status, context=outside)

        process.at_death.append(give)
        loop.call_later(ANSWER_SECONDS, give)
        process.start(receive())
        return await answer


async def _status(receiver: Receiver, body: bytes, headers: dict[str, str]) -> int:
    """Answer as `app.receive.webhook` does."""
    try:
        await receiver.accept(await receiver.verify(body, receiver.check_headers(headers)))
    except SignatureRejected:
        return 401
    except UnreadableChange:
        return 422
    except StoreUnavailable:
        return 503
    except Exception:  # noqa: BLE001 - any fault is a 500
        return 500
    return 202
