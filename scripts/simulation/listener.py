"""The listener itself: its real parts, wired as in `app.runtime`, as processes of the simulation."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache, partial
from itertools import count
from pathlib import Path

from app.deliver.dispatcher import Dispatcher
from app.deliver.message import Messages
from app.deliver.reload import RulesInForce
from app.deliver.turn import Sender
from app.errors import SignatureRejected, StoreUnavailable, UnreadableChange
from app.jq.runner import Jq
from app.network import DIRECT
from app.notifier.base import Notifier
from app.notifier.kind import NotifierContext
from app.notifier.registry import SETTINGS_MODELS, make_notifiers
from app.observe.watch import NOBODY
from app.port.client import PortClient
from app.receive.intake import Intake
from app.receive.receiver import Receiver
from app.receive.rules_source import make_rulebook
from app.reconcile.schedule import Reconciler
from app.rules.file import Rules, load_rules
from app.store import queries
from app.store.clock import StoreClock
from app.store.sqlite.schema import prepare
from app.store.store import Store
from scripts.simulation.clock import RUNNING, Process
from scripts.simulation.disk import SimulatedDatabase
from scripts.simulation.mutants import HEALTHY, Mutant
from scripts.simulation.port import SECRET
from scripts.simulation.slack import CHANNELS
from scripts.simulation.world import World

RECONCILE_EVERY = timedelta(minutes=2)
STOP_SECONDS = 5.0
ANSWER_SECONDS = 30.0
RULES = """
version: 1
destinations:
  rocket: {type: slack, webhook_url: "http://hooks.slack.sim/services/rocket", fallback: ops}
  star: {type: slack, channel: STAR_ID, fallback: ops}
  nova: {type: slack, channel: "#nova", fallback: ops}
  ops: {type: slack, webhook_url: "http://hooks.slack.sim/services/ops"}
  pager: {type: http, url: "http://pager.sim/alerts", steps: [opened, changed, resolved], fallback: ops}
rules:
  - name: load
    blueprint: service
    when: {property: load}
    resolve: {property: load, below: 50}
    send: [{by_team: {Rocket: rocket, Star: star, Nova: nova}, default: ops}, pager]
""".replace("STAR_ID", CHANNELS["star"])


@cache
def _rules(text: str) -> Rules:
    return load_rules(text, {}, models=SETTINGS_MODELS, name="rules.yaml", check_jq=lambda _: None)


@dataclass(slots=True)
class Listener:
    """A process of the listener, started anew each time that it has ended.

    Attributes:
        name: Its name.
        world: Everything around it.
        path: The database's file.
        clock: Gives the machine's time.
        mutant: The mistake that is planted.
        process: The process that runs now; None: none does.
    """

    name: str
    world: World
    path: Path
    clock: Callable[[], datetime]
    mutant: Mutant = HEALTHY
    process: Process | None = None
    database: SimulatedDatabase | None = None
    receiver: Receiver | None = None
    rules: RulesInForce | None = None
    dispatcher: Dispatcher | None = None
    reconciler: Reconciler | None = None
    _ended: asyncio.Event = field(default_factory=asyncio.Event)
    _starts: int = 0
    _stopping: bool = False
    _loops: list[asyncio.Task[None]] = field(default_factory=list)

    async def run(self) -> None:
        """Start it, and again whenever it has ended."""
        while True:
            self._starts += 1
            self.process = Process(f"{self.name}.{self._starts}")
            self.process.at_death.append(self._died)
            self._ended.clear()
            self._stopping = False
            self.world.say(f"{self.process.name} starts")
            starting = self.process.start(self._start(self.process))
            starting.add_done_callback(self._started)
            await self._ended.wait()
            await asyncio.sleep(
                self.world.chance.between("restart after", 0.2, 40 if self._starts % 4 else 4)
            )

    def _started(self, starting: asyncio.Task[None]) -> None:
        if not starting.cancelled() and isinstance(starting.exception(), TypeError | AttributeError):
            self.world.loop.break_off(starting.exception())  # the wiring is wrong: no fault of the world

    def _died(self) -> None:
        if self.process is not None:
            self.world.say(f"{self.process.name} has ended")
        self.receiver = self.rules = self.dispatcher = self.reconciler = None
        self._ended.set()

    async def _start(self, process: Process) -> None:
        world, clock = self.world, self.clock
        numbers = count()
        prepare(self.path)
        database = SimulatedDatabase(self.path, process, world.loop, world.chance, self.mutant)
        store = Store(database, StoreClock(clock, world.loop.uptime, "the machine's only start"))
        port = PortClient("http://port.sim", "id", "port-secret-text", clock=clock, patient=False)
        jq = Jq()
        context = NotifierContext(
            app_url="https://app.port.sim",
            page_url=None,
            default_webhook="http://hooks.slack.sim/services/ops",
            bot_token="xoxb-token",  # noqa: S106 - of no real Slack
            slack_api_url="http://slack.sim/api/",
            port=port,
            fate=None,
            render=jq.render,
            clock=clock,
            network=DIRECT,
        )

        def load() -> tuple[Rules, Mapping[str, Notifier]]:
            return _rules(RULES), make_notifiers(_rules(RULES), context)

        make_book = partial(make_rulebook, default_webhook=context.default_webhook)
        file = _rules(RULES).file
        book = make_book(file)
        messages = Messages(store.body, jq, book.rules)
        jitter = world.chance.stream("jitter")
        sender = Sender(
            store,
            load()[1],
            prepare=messages.prepare,
            clock=store.clock,
            jitter=lambda: jitter.uniform(-1, 1),
            fallbacks=book.fallbacks,
            why_not=messages.why_not,
        )

        def new_token() -> str:
            return f"{process.name}-{next(numbers)}"

        dispatcher = Dispatcher(store, self.mutant.sender(sender), clock=store.clock, new_token=new_token)
        intake = Intake(
            store=store,
            book=book,
            clock=store.clock,
            evaluate=jq.evaluate,
            look_up=_no_look_up,
            wake=dispatcher.wake,
        )
        await store.write(queries.deliveries.probe_on_hold, store.clock())
        patient = PortClient("http://port.sim", "id", "port-secret-text", clock=clock)
        reconciler = Reconciler(intake, patient, RECONCILE_EVERY, new_token=new_token, share=1.0)
        self.database = database
        self.dispatcher = dispatcher
        self.reconciler = reconciler
        self.rules = RulesInForce(
            load=load,
            make_book=make_book,
            intake=intake,
            messages=messages,
            sender=sender,
            dispatcher=dispatcher,
            store=store,
            clock=store.clock,
            watch=NOBODY,
        )
        self.receiver = Receiver(intake, (SECRET,), False, timedelta(minutes=5))
        self._loops = [
            asyncio.ensure_future(dispatcher.run()),
            asyncio.ensure_future(reconciler.reconcile_when_due()),
        ]

    def restart(self) -> None:
        """Ask it to stop, as SIGTERM does."""
        process, dispatcher = self.process, self.dispatcher
        if process is not None and process.alive and dispatcher is not None and not self._stopping:
            self._stopping = True
            self.receiver = None
            process.start(self._stop(process, dispatcher))

    async def _stop(self, process: Process, dispatcher: Dispatcher) -> None:
        await dispatcher.stop(STOP_SECONDS)
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        if self.database is not None:
            await self.database.close()
        process.at_death = [self._died]
        process.troubles.append(self.world.loop.time())  # what was cut off may be repeated
        process.end(self.world.loop.time())

    async def post(self, body: bytes, headers: dict[str, str]) -> int | None:
        """Send it a webhook; give the status of the answer, None if it ended before it gave one."""
        process, receiver = self.process, self.receiver
        if process is None or receiver is None or not process.alive:
            return None
        loop = self.world.loop
        answer: asyncio.Future[int | None] = loop.create_future()

        def lost() -> None:
            if not answer.done():
                answer.set_result(None)

        def give(status: int) -> None:
            if not answer.done():
                answer.set_result(status)

        async def receive() -> None:
            status = await _status(receiver, body, headers)
            outside = process.context.copy()
            outside.run(RUNNING.set, None)
            loop.call_soon(give, status, context=outside)

        process.at_death.append(lost)
        loop.call_later(ANSWER_SECONDS, lost)
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


async def _no_look_up(_: object, __: object) -> str | None:
    return None
