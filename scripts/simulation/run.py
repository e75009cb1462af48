"""One run: a world from a seed, its night, and what the oracle says of it."""

import asyncio
import gc
import hashlib
import os
import re
import shutil
import sqlite3
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import structlog

from app.settings import Settings, load_settings
from app.store.sqlite.schema import prepare
from scripts.simulation.chance import Chance
from scripts.simulation.clock import RUNNING
from scripts.simulation.kinds import KINDS, drawn
from scripts.simulation.kinds.channels import Channels
from scripts.simulation.listener import Listener, rules_parsed_once
from scripts.simulation.mutants import HEALTHY, Mutant
from scripts.simulation.network import NetworkLoop
from scripts.simulation.oracle import Oracle
from scripts.simulation.port import SECRET, Port
from scripts.simulation.world import DATABASE, RULES_FILE, World

CALM_SECONDS = 10.0  # at first: the first comparison records how things are
ENDS_WITHIN_SECONDS = 25 * 60.0
LOOK_SECONDS = 10.0
DISTURBED_SECONDS = 30.0
GRAVES: list[object] = []
TEAM_CHANNELS = {"Rocket": "rocket", "Star": "star", "Nova": "nova"}
SETTINGS = {
    "port_client_id": "id",
    "port_client_secret": SECRET,
    "port_api_url": "http://port.sim",
    "port_app_url": "https://app.port.sim",
    "slack_webhook_url": "http://hooks.slack.sim/services/ops",
    "slack_bot_token": "xoxb-token",
    "slack_api_url": "http://slack.sim/api/",
    "rules_file": RULES_FILE,
    "database_url": f"sqlite:///{DATABASE}",
    "reconcile_minutes": 2,
}
UNSEEDED = frozenset({"event", "exc_info", "seconds"})
"""Fields of log lines that are not told: what the machine's own clock has measured."""
KEY = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")
"""A change's key, of which the beginning is enough to tell it from others."""
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be simulated.

    Attributes:
        seed: The seed.
        minutes: How long the night is, of virtual time.
        off: Faults that never strike.
        muted: Occurrences that do not happen.
        extra: Faults of `UNPROVEN` that strike.
        kinds: The names of the kinds that are in the world beside those of each; None: the seed draws them.
        mutant: The mistake that is planted.
    """

    seed: int
    minutes: float = 4.0
    off: frozenset[str] = frozenset()
    muted: frozenset[str] = frozenset()
    extra: frozenset[str] = frozenset()
    kinds: frozenset[str] | None = None
    mutant: Mutant = HEALTHY


@dataclass(slots=True)
class Outcome:
    """What came of a run.

    Attributes:
        broken: The promises that were broken.
        story: What happened.
        struck: The changes and faults that happened.
        counts: How many there were of what.
    """

    broken: list[str]
    story: list[str]
    struck: list[str]
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """A hash of the whole story."""
        return hashlib.sha256("\n".join(self.story).encode()).hexdigest()[:16]


def simulate(plan: Plan) -> Outcome:
    """Run a plan to its end. The same plan gives the same outcome."""
    chance = Chance(plan.seed, plan.off, plan.muted, plan.extra)
    loop = NetworkLoop(chance)
    world = World(loop, chance)
    folder = Path(tempfile.mkdtemp(prefix="simulate-", dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None))
    usual, here = time.perf_counter, Path.cwd()
    gc.disable()  # for good: what is collected may run code, and when would not be the seed's to say
    try:
        # The program measures its own work by it, and pauses as long.
        time.perf_counter = loop.time
        os.chdir(folder)  # so that no path differs from run to run
        _log_into(world)
        with rules_parsed_once():
            return loop.run_until_complete(_night(plan, world))
    except RuntimeError:
        if loop.fault is not None:
            raise loop.fault from None
        raise
    finally:
        time.perf_counter = usual
        os.chdir(here)
        _bury(loop, world)
        shutil.rmtree(folder, ignore_errors=True)


async def _night(plan: Plan, world: World) -> Outcome:
    loop, chance = world.loop, world.chance
    prepare(DATABASE)
    listeners = world.listeners
    settings = _settings(plan, world)

    async def post(body: bytes, headers: dict[str, str]) -> int | None:
        ready = [listener for listener in listeners if listener.runtime is not None]
        return await chance.stream("balance").choice(ready or listeners).post(body, headers)

    port = Port(world, post)
    loop.hosts["port.sim"] = port.serve
    number = chance.stream("processes").choice((1, 1, 2, 3))
    listeners += [Listener(f"listener-{name + 1}", world, settings, plan.mutant) for name in range(number)]
    background = [asyncio.ensure_future(listener.run()) for listener in listeners]
    await asyncio.sleep(CALM_SECONDS)
    chance.quiet = False
    background.append(asyncio.ensure_future(_disturb(world)))
    await port.live(loop.time() + plan.minutes * 60)
    await port.finish()
    chance.quiet = True
    background[-1].cancel()
    quiet_since = loop.time()
    world.say("nothing disturbs any more")
    for kind in world.kinds:
        kind.mend()
    waiting = await _settled(world, listeners, quiet_since)
    broken = [f"after {ENDS_WITHIN_SECONDS / 60:.0f} quiet minutes there wait: {waiting}"] if waiting else []
    with closing(sqlite3.connect(f"file:{DATABASE}?mode=ro", uri=True)) as connection:
        for kind in world.kinds:
            kind.look(connection)
    broken += Oracle(world, quiet_since).broken()
    for listener in listeners:
        if listener.process is not None:
            listener.process.end(loop.time())
    counts = {
        "changes": len(world.changes),
        "messages": len(world.told),
        "faults": sum(not name.startswith("change#") for name in chance.struck),
        "kills": sum(name.startswith("kill") for name in chance.struck),
        "virtual_seconds": int(loop.time() - 1000),
    }
    return Outcome(broken, world.story, chance.struck, counts)


def _settings(plan: Plan, world: World) -> Settings:
    """Put the kinds into a world that are to be in it; give the listener's settings."""
    wanted = drawn(world.chance) if plan.kinds is None else plan.kinds
    settings = dict(SETTINGS)
    for make in KINDS:
        if make.name and make.name not in wanted:
            continue
        world.kinds.append(kind := make(world))
        world.chance.rates |= make.faults
        settings |= make.settings
        world.loop.hosts.update(kind.hosts())
        world.kind(Channels).slack.add(kind.channels)
    world.write_rules(TEAM_CHANNELS)
    return _loaded(tuple(settings.items()))


@cache
def _loaded(settings: tuple[tuple[str, Any], ...]) -> Settings:
    return load_settings(only=(), **dict(settings))


async def _disturb(world: World) -> None:
    """Disturb until it is cancelled."""
    while True:
        await asyncio.sleep(world.chance.between("night", 0.5, 1.5) * DISTURBED_SECONDS)
        for kind in world.kinds:
            kind.disturb_world()
        for listener in world.listeners:
            process = listener.process
            if process is not None and process.alive:
                any(kind.disturb(listener, process) for kind in world.kinds)


async def _settled(world: World, listeners: list[Listener], quiet_since: float) -> list[str]:
    """Wait until nothing waits, and Port was compared once more; give what still waits in the end."""
    loop = world.loop
    waiting, calm = ["nothing was looked at"], 0
    released = False
    while calm < 2 and loop.time() < quiet_since + ENDS_WITHIN_SECONDS:
        await asyncio.sleep(LOOK_SECONDS)
        ready = [listener for listener in listeners if listener.runtime is not None]
        if not released and ready and (runtime := ready[0].runtime) and (process := ready[0].process):
            released = True
            world.tries.append(loop.time())
            for destination in (name for kind in world.kinds for name in kind.destinations):
                process.start(runtime.store.release_hold(destination, runtime.store.clock()))
        settled_at = max(kind.settled_at() for kind in world.kinds)
        # What changed after a comparison began, which may wait for Port, is compared the next time only.
        since = max(quiet_since + 10, world.answered_at + 40)
        compared = any(at > since for at, _ in world.listings)
        waiting = _waiting(world.tables[-1].rule)
        calm = calm + 1 if compared and not waiting and loop.time() > settled_at else 0
    return waiting


def _waiting(rule: str) -> list[str]:
    with closing(sqlite3.connect(f"file:{DATABASE}?mode=ro", uri=True)) as connection:
        rows = connection.execute(
            "SELECT queue, count(*) FROM deliveries"
            # An update of a message that cannot be changed is given up; and what a rule wanted that is gone.
            # What reminds never ends; what is quiet waits for its cause.
            " WHERE (state = 'pending' AND step <> 'reminded' AND due_at < 9e16) OR"
            " (state = 'dead' AND message_id IS NULL AND rule IN ('', ?)"
            "  AND NOT EXISTS (SELECT 1 FROM attempts"
            "   WHERE delivery_id = deliveries.id AND detail LIKE 'its rule is no longer there%'))"
            " GROUP BY queue ORDER BY queue",
            [rule],
        )
        return [f"{count} for {queue}" for queue, count in rows]


def _log_into(world: World) -> None:
    def note(_: object, __: str, event: structlog.typing.EventDict) -> str:
        process = RUNNING.get()
        shown = " ".join(f"{name}={value}" for name, value in event.items() if name not in UNSEEDED)
        shown = KEY.sub(r"\1", shown)
        world.say(f"{process.name if process else '-'} {event['event']} {shown}")
        raise structlog.DropEvent

    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, note],
        wrapper_class=structlog.make_filtering_bound_logger(20),
        cache_logger_on_first_use=False,
    )


def _bury(loop: NetworkLoop, world: World) -> None:
    """Keep what is left of the dead: a coroutine that is collected runs its ``finally``, and logs."""
    GRAVES.append((loop, world))
