"""Runs a suite: each test on the listener's real parts, with a catalog, destinations and time of its own."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Literal

from app.deliver.dispatcher import POLL_SECONDS, Dispatcher
from app.jq.runner import Jq
from app.model.incident import Person
from app.model.notification import one_line
from app.model.silence import Silence
from app.notifier.kind import NotifierContext
from app.notifier.registry import default_settings, make_notifiers
from app.observe.watch import Watch
from app.port.lookup import Lookup
from app.receive.event import encode
from app.receive.intake import Intake
from app.receive.payload import happening_at, parse_event
from app.receive.rules_source import make_rulebook
from app.receive.signature import Signed
from app.reconcile.run import ReconcileRun
from app.rules.targets import DEFAULT_DESTINATION
from app.runtime.parts import put_together
from app.store import queries
from app.store.actions import Action, act
from app.store.sqlite.schema import prepare
from app.store.store import Store
from app.store.views import IncidentFilter, StoredChange
from app.suite.catalog import SuiteCatalog
from app.suite.clock import TEST_START, SuiteClock, SuiteDatabase, SuiteStoreClock, VirtualLoop, offset
from app.suite.file import Suite
from app.suite.judge import Judge, Unmet
from app.suite.model import Moment
from app.suite.recorder import RecordedAlert, Recorder, described, let, reasons_of

PORT_APP = "https://app.getport.io"
DEFAULT_WEBHOOK = "https://hooks.slack.com/services/suite/default"
SETTLES_SECONDS = 2 * POLL_SECONDS
"""Until then, of the loop's time, the dispatcher has done what is due now."""
FIRST_READING = timedelta(minutes=-10)
"""When, before a test begins, the listener has compared Port with the last known state."""
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it
CHANGES_AT_ONCE = 100


@dataclass(slots=True)
class TestResult:
    """What came of a test.

    Attributes:
        name, line, seconds: The test's name, its line in the suite, and how long it took.
        unmet: The expectations that do not hold.
        story: What happened, as lines.
        hit: The names of the rules that matched.
    """

    __test__ = False  # nothing for pytest to collect

    name: str
    line: int
    seconds: float = 0.0
    unmet: list[Unmet] = field(default_factory=list)
    story: list[str] = field(default_factory=list)
    hit: set[str] = field(default_factory=set)


class _Hits(Watch):
    """Notes which rules matched."""

    def __init__(self) -> None:
        self.rules: set[str] = set()

    def decided(self, rule: str, outcome: str) -> None:
        if outcome != "lapses":
            self.rules.add(rule)


def run_suites(suites: Sequence[Suite]) -> list[list[TestResult]]:
    """Run suites, and give the results of the tests of each. Nothing is sent, and no time is waited for."""
    loop = VirtualLoop()
    memory = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None  # else the usual folder
    with tempfile.TemporaryDirectory(prefix="suite-", dir=memory, ignore_cleanup_errors=True) as folder:
        try:
            asyncio.set_event_loop(loop)
            return loop.run_until_complete(_run_all(suites, Path(folder), loop))
        finally:
            loop.run_until_complete(loop.shutdown_default_executor())
            asyncio.set_event_loop(None)
            loop.close()


async def _run_all(suites: Sequence[Suite], folder: Path, loop: VirtualLoop) -> list[list[TestResult]]:
    empty = folder / "empty.db"
    prepare(empty)
    numbers, jq = count(), Jq()
    results: list[list[TestResult]] = []
    try:
        for suite in suites:
            results.append([])
            for number in range(len(suite.file.tests)):
                path = folder / f"{next(numbers)}.db"
                shutil.copyfile(empty, path)
                results[-1].append(await _run_test(suite, number, path, jq, loop))
                path.unlink()
    finally:
        await jq.close()
    return results


async def _run_test(suite: Suite, number: int, path: Path, jq: Jq, loop: VirtualLoop) -> TestResult:
    test, began = suite.file.tests[number], perf_counter()
    result = TestResult(test.name, suite.lines[number,])
    async with _listener(suite, number, SuiteDatabase(path, loop), jq) as listener:
        if any(moment.reconcile for moment in test.timeline):
            listener.clock.since = FIRST_READING
            await listener.reconcile()
        listener.clock.since = timedelta(0)
        listener.story.clear()
        for step, moment in enumerate(test.timeline):
            await listener.go_to(moment.at or listener.clock.since)
            await listener.act(moment, suite.bodies.get((number, step)))
            result.unmet += await listener.judge.unmet(moment, suite.lines[number, step])
        groups = {alert.notification.rule for alert in listener.judge.alerts}  # which no change hits
        result.story, result.hit = listener.story, listener.hits.rules | groups
    result.seconds = perf_counter() - began
    return result


@dataclass(slots=True)
class _Listener:
    """The listener of one test, and the world around it."""

    clock: SuiteClock
    catalog: SuiteCatalog
    store: Store
    intake: Intake
    dispatcher: Dispatcher
    recorders: dict[str, Recorder]
    judge: Judge
    story: list[str]
    hits: _Hits
    _last: StoredChange | None = None
    _told: int = 0

    async def go_to(self, since: timedelta) -> None:
        """Let time pass, and everything happen that is due until then."""
        while self.clock.since < since:
            due = await self.store.read(queries.queues.next_due, self.clock.now())
            self.clock.since = since if due is None else min(since, due - TEST_START)
            await self._settle()

    async def act(self, moment: Moment, body: bytes | None) -> None:
        """Do what a step says, and let happen what it leads to at once."""
        now = self.clock.now()
        happened = now if moment.happened is None else TEST_START + moment.happened
        if body is not None:
            body = happening_at(body, happened)
            self.catalog.take_over(parse_event(Signed(body, now)))
            await self.intake.accept(Signed(body, now))
        elif moment.entity is not None:
            event = self.catalog.change(moment, happened)
            if moment.missed:
                self._say("missed", f"a change of {moment.entity}, of which Port sends no webhook")
            else:
                await self.intake.accept(Signed(encode(event), now))
        elif moment.reconcile:
            await self.reconcile()
        await self._operate(moment)
        await self._settle()

    async def _operate(self, moment: Moment) -> None:
        now = self.clock.now()
        if moment.silence == "end":
            for silence in await self.store.read(queries.silences.active, now):
                await self.store.write(queries.silences.end, silence.id, now)
            self._say("silence", "all end")
        elif moment.silence is not None:
            span = moment.silence
            patterns = {name: getattr(span, name) for name in ("rule", "blueprint", "entity", "team")}
            ends_at = now + span.for_
            await self.store.write(
                queries.silences.add,
                Silence(**patterns, starts_at=now, ends_at=ends_at, author="the suite", comment="in a test"),
            )
            covers = ", ".join(f"{name} {text}" for name, text in patterns.items() if text != "*")
            self._say("silence", f"of {covers or 'everything'} until {offset(ends_at - TEST_START)}")
        if moment.acknowledge is not None:
            await self._act("acknowledge", moment.acknowledge)
        if moment.unacknowledge is not None:
            await self._act("unacknowledge", moment.unacknowledge)
        for name in moment.fails or ():
            let(self.recorders, name, fail=True)
            self._say("fails", name)
        for name in moment.works or ():
            let(self.recorders, name, fail=False)
            await self.store.release_hold(name, now)
            self._say("works", name)

    async def _act(self, verb: Literal["acknowledge", "unacknowledge"], entity: str) -> None:
        """Let somebody do something to the open incidents of an entity."""
        now, person = self.clock.now(), Person("the suite", "command")
        which = IncidentFilter(entity=entity)
        for row in await self.store.read(queries.incidents.worst, CHANGES_AT_ONCE, which):
            action = Action(f"{verb} {now} {row.incident.id}", verb, row.incident.id, person)
            self._say(verb, (await self.store.write(act, action, now)).text)

    async def reconcile(self) -> None:
        """Compare the catalog with the last known state, as the listener does at intervals."""
        number = 0
        async for _ in ReconcileRun(self.intake, self.catalog).differences():
            number += 1
        watched = ", ".join(self.intake.book.watched) or "nothing: no rule names a blueprint in full"
        self._say("reconcile", f"compares {watched}; {number} differences")

    async def _settle(self) -> None:
        """Let the dispatcher do all that is due now; note what was decided and told."""
        self.dispatcher.wake()
        await asyncio.sleep(SETTLES_SECONDS)
        while rows := await self.store.read(
            queries.changes.history, since=TEST_START + FIRST_READING, after=self._last, limit=CHANGES_AT_ONCE
        ):
            self._last = rows[-1]
            for row in rows:
                self.judge.changes.append(row)
                self._say("change", described(row))
                for reason in reasons_of(row.reason):
                    self.story.append(f"{'':24}{one_line(reason)}")
        for alert in self.judge.alerts[self._told :]:
            self._say(f"→ {alert.destination}", alert.shown())
        self._told = len(self.judge.alerts)

    def _say(self, what: str, text: str) -> None:
        self.story.append(f"{offset(self.clock.since):>9}  {what:<12} {one_line(text)}")


@asynccontextmanager
async def _listener(suite: Suite, number: int, database: SuiteDatabase, jq: Jq) -> AsyncIterator[_Listener]:
    """Put the parts together, and let them work."""
    clock, alerts, hits, tokens = SuiteClock(), list[RecordedAlert](), _Hits(), count()
    catalog = SuiteCatalog({**suite.file.entities, **suite.file.tests[number].entities})
    store = Store(database, SuiteStoreClock(clock))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(store.close)
        context = NotifierContext(
            app_url=PORT_APP,
            page_url=None,
            default_webhook=DEFAULT_WEBHOOK,
            bot_token="xoxb-suite",  # noqa: S106 - nothing is sent with it
            slack_api_url="https://slack.com/api/",
            port=catalog,
            fate=None,
            render=jq.render,
            clock=clock.now,
        )
        settings = {DEFAULT_DESTINATION: default_settings(DEFAULT_WEBHOOK), **suite.rules.file.destinations}
        recorders = {}
        for name, real in make_notifiers(suite.rules, context).items():
            recorders[name] = Recorder(name, settings[name], real, context, clock, alerts)
        book = make_rulebook(suite.rules.file, DEFAULT_WEBHOOK)
        parts = put_together(
            store,
            book,
            recorders,
            conditions=jq,
            templates=jq,
            look_up=Lookup(catalog, clock.now),
            jitter=lambda: 0.0,
            new_token=lambda: f"suite-{next(tokens)}",
            watch=hits,
        )
        intake, dispatcher = parts.intake, parts.dispatcher
        stack.push_async_callback(parts.sender.close)
        running = asyncio.ensure_future(dispatcher.run())
        judge = Judge(store, clock, alerts, {name: queues.steps for name, queues in book.queues.items()})
        try:
            yield _Listener(clock, catalog, store, intake, dispatcher, recorders, judge, [], hits)
        finally:
            await dispatcher.stop(SETTLES_SECONDS)
            await running
