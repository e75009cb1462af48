"""Escalations and working hours over a year: each destination hears what an oracle says, to the second."""

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from app.deliver.dispatcher import POLL_SECONDS
from app.model.change import UPDATE, EntitySnapshot
from app.model.incident import Person
from app.notifier.base import Notifier, Parcel, Sent
from app.receive.event import build_event, encode
from app.receive.signature import Signed
from app.runtime.listener import Machine, Runtime, open_runtime
from app.settings import Settings
from app.store import queries
from app.store.actions import Action, Verb, act
from app.store.sqlite.schema import prepare
from app.store.store import Store
from app.suite.clock import SuiteClock, SuiteDatabase, SuiteStoreClock, VirtualLoop
from tests.deliver.year import DAY, MINUTE, SECOND, SENDS, Event, Story, planned

INCIDENTS, OUTAGES = 40, 8
RULES = """
version: 1
hours:
  berlin: {days: mon-fri, from: "09:00", to: "18:00", tz: Europe/Berlin, except: [2026-04-03, 2026-12-25]}
  york: {days: mon-fri, from: "08:30", to: "17:00", tz: America/New_York, except: [2026-07-03]}
  nights: {days: [fri, sat], from: "22:00", to: "02:30", tz: Europe/Berlin}
  early: {days: mon-sun, from: "02:30", to: "05:00", tz: America/New_York, except: [2026-11-02]}
destinations:
  desk: {type: slack, webhook_url: "https://hooks.slack.com/services/desk"}
  club: {type: slack, webhook_url: "https://hooks.slack.com/services/club"}
  owls: {type: slack, webhook_url: "https://hooks.slack.com/services/owls"}
  boss: {type: slack, webhook_url: "https://hooks.slack.com/services/boss"}
  pager: {type: http, url: "https://pager.example.com/", steps: [opened, changed, resolved, acknowledged]}
rules:
"""
RULE = """
  - name: {0}
    blueprint: {0}
    when: {{property: status, to: [Slow, Down]}}
    resolve: {{property: status, to: Up}}
    severity: {{Down: critical, Slow: warning}}
    send: {1}
    escalate:
      - {{after: 15m, send: pager}}
      - {{after: 40m, send: {{to: boss, when: york, else: hold}}}}
"""


class Ear(Notifier):
    """Hears what a destination is told.

    Args:
        name: The destination's name.
        clock: The time.
        heard: Of each destination and entity what was heard, in order.
    """

    address, batch_limit, spacing = "", 100, timedelta(0)

    def __init__(
        self, name: str, clock: SuiteClock, heard: dict[tuple[str, str], list[tuple[datetime, str]]]
    ) -> None:
        self._name, self._clock, self._heard = name, clock, heard

    async def send(self, parcel: Parcel) -> Sent:
        """Hear it."""
        for item in parcel.items:
            told = self._heard[self._name, item.notification.entity]
            told.append((self._clock.now(), str(item.notification.step)))
        return Sent("heard")

    async def close(self) -> None:
        """Nothing is open."""


class Year:
    """The listener, its clock, and what everybody hears.

    Args:
        folder: Where its files are.
        loop: Runs it.
    """

    def __init__(self, folder: Path, loop: VirtualLoop) -> None:
        self._file, self._path, self._loop = folder / "rules.yaml", folder / "year.db", loop
        self._file.write_text(RULES + "".join(RULE.format(name, send) for name, send in SENDS.items()))
        prepare(self._path)
        self._clock, self._tokens, self._stack = SuiteClock(), count(), AsyncExitStack()
        self.heard: dict[tuple[str, str], list[tuple[datetime, str]]] = defaultdict(list)
        self._delivers, self._states = False, dict[str, str]()

    @asynccontextmanager
    async def _store(self, *_: object, **__: object) -> AsyncIterator[Store]:
        store = Store(SuiteDatabase(self._path, self._loop), SuiteStoreClock(self._clock))
        yield store
        await store.close()

    async def start(self, *, delivers: bool) -> None:
        """Let another process take over: one that delivers, or one that only takes changes."""
        await self._stack.aclose()
        settings = Settings(_env_file=None, accept_unsigned=True, rules_file=self._file)
        machine = Machine(
            clock=self._clock.now,
            new_token=lambda: f"year-{next(self._tokens)}",
            jitter=lambda: 0.0,
            open_store=self._store,
            steady=self._clock.now,
        )
        work = open_runtime(settings, dispatch=delivers, machine=machine)
        self._runtime: Runtime = await self._stack.enter_async_context(work)
        ears = {name: Ear(name, self._clock, self.heard) for name in self._runtime.sender.notifiers}
        await self._runtime.sender.replace(ears).close()
        self._delivers = delivers
        await self._settle()

    async def _settle(self) -> None:
        if self._delivers:
            self._runtime.dispatcher.wake()
            await asyncio.sleep(2 * POLL_SECONDS)

    async def go_to(self, at: datetime) -> None:
        """Let time pass."""
        while self._delivers and (now := self._clock.now()) < at:
            due = await self._runtime.store.read(queries.queues.next_due, now)
            self._clock.since += min(at, due or at) - now
            await self._settle()
        self._clock.since += at - self._clock.now()

    async def happen(self, event: Event) -> None:
        """Let something happen."""
        at, entity, what = event
        if what in ("ack", "unack"):
            verb: Verb = "acknowledge" if what == "ack" else "unacknowledge"
            rows = await self._runtime.store.read(queries.incidents.worst, 1_000)
            for row in rows:
                if row.incident.entity == entity:
                    action = Action(f"{verb} {at} {entity}", verb, row.incident.id, Person("ada", "command"))
                    await self._runtime.store.write(act, action, at)
        else:
            before, after = self._states.get(entity, "Up"), what.title()
            self._states[entity] = after
            blueprint = entity.partition("-")[0]
            sides = (
                EntitySnapshot(entity, blueprint, entity, None, (), {"status": state}, {})
                for state in (before, after)
            )
            about = {"action": UPDATE, "blueprint": blueprint, "entity": entity, "at": at, "origin": "UI"}
            event_ = build_event(**about, by={}, before=next(sides), after=next(sides))  # type: ignore[arg-type]
            await self._runtime.intake.accept(Signed(encode(event_), at))
        await self._settle()

    async def close(self) -> None:
        """End it."""
        await self._stack.aclose()


async def live(folder: Path, loop: VirtualLoop, seed: int) -> list[str]:
    """Live through a year; list what was heard otherwise than it should have been."""
    dice, year = random.Random(seed), Year(folder, loop)
    stories = [planned(dice, number) for number in range(INCIDENTS)]
    events = sorted((event for story in stories for event in story), key=lambda event: event[0])
    outages: list[tuple[datetime, datetime]] = []
    for at, _, _ in sorted(dice.sample(events, OUTAGES)):
        begin = (
            at - dice.choice([SECOND, 3 * SECOND]) / 2
        )  # between two seconds, so that it is clear who is first
        if not outages or begin > outages[-1][1]:
            outages.append((begin, at + dice.choice([SECOND, 3 * SECOND, 40 * MINUTE]) / 2))
    steps = [(at, place, "") for place, times in enumerate(outages) for at in times]
    moments = [*((at, 0, None) for at, _, _ in steps), *((event[0], 1, event) for event in events)]
    await year.start(delivers=True)
    delivers = True
    for at, _, event in sorted(moments, key=lambda moment: moment[:2]):
        await year.go_to(at)
        if event is None:
            delivers = not delivers
            await year.start(delivers=delivers)
        else:
            await year.happen(event)
    await year.go_to(events[-1][0] + 20 * DAY)
    await year.close()
    wrong = []
    for story in stories:
        told = Story(story, outages).tell()
        for name in ("desk", "club", "owls", "pager", "boss"):
            heard = year.heard[name, story[0][1]]
            if heard != told[name]:
                wrong.append(
                    f"{name}: {shown(heard)}\n  but should: {shown(told[name])}\n  "
                    + ", ".join(f"{what} {at:%a %m-%d %H:%M:%S}" for at, _, what in story)
                    + f" {story[0][1]}"
                    + "".join(
                        f" out {a:%m-%d %H:%M:%S}-{b:%H:%M:%S}"
                        for a, b in outages
                        if a > story[0][0] - DAY and a < story[-1][0] + DAY
                    )
                )
    return wrong


def shown(told: list[tuple[datetime, str]]) -> str:
    """Describe what a destination hears."""
    return ", ".join(f"{what} {at:%a %m-%d %H:%M:%S}" for at, what in told) or "nothing"


@pytest.mark.parametrize("seed", [6, 27])
def test_a_year_of_escalations_and_hours(tmp_path: Path, seed: int) -> None:
    """Incidents at the edges of hours and on days when clocks are set, acknowledged as they escalate."""
    loop = VirtualLoop()
    try:
        asyncio.set_event_loop(loop)
        assert loop.run_until_complete(live(tmp_path, loop, seed)) == []
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        asyncio.set_event_loop(None)
        loop.close()
