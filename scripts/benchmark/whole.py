"""The whole table: what is measured, in which order, and the goals."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from scripts.benchmark.accepting import Accepted, absolute, accepting
from scripts.benchmark.against import NotComparable, checkout
from scripts.benchmark.answering import alerts, answers
from scripts.benchmark.counting import counting
from scripts.benchmark.delivering import deliveries
from scripts.benchmark.holding import holding, let_wait
from scripts.benchmark.listeners import Listener, ListenerOnPostgres, postgres, rules
from scripts.benchmark.peers import Tutorial, bare
from scripts.benchmark.processes import temporary_folder
from scripts.benchmark.seed import Contents, fill
from scripts.benchmark.slack import StandIn, stand_in
from scripts.benchmark.subjects import Subject
from scripts.benchmark.table import Figure, say

SLACK_SECONDS = 0.1  # what Slack takes in earnest
NO_SERVICE = "503 Service Unavailable"

TREES = (
    "what SQLite does more in larger trees, some 35 µs a change, is a larger part since the rest is cheaper,"
    " and each attempt at a digest reads up to 10,000 alerts."
    " Tried: keys in the order of time, a larger cache, mmap."
)
FLOOR = (
    "what a change costs beyond the bare route is Python, a little everywhere."
    " Tried: SQLite on the loop's thread, merged statements, fewer indexes, another parser,"
    " batches of log lines."
)


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        rounds: How many rounds.
        seconds: How long a round of accepting is, about.
        stored: How many changes the full store has.
        waiting: How many alerts wait, where many wait.
        jobs: How many HTTP deliveries a round has.
    """

    rounds: int = 3
    seconds: float = 1.5
    stored: int = 1_000_000
    waiting: int = 100_000
    jobs: int = 4000


BASELINE = "cc795fd"
"""The commit that the goals were set at."""
BESIDE_OTHERS = {
    "a bare FastAPI route on h11": ("%", 0.6),
    "a bare FastAPI route": ("%", 0.38),
    BASELINE: ("×", 1.8),
    "the tutorial's listener": ("×", None),
}
BESIDE_ITSELF = {
    "1,000 rules": 0.85,
    "100,000 alerts waiting": 0.85,
    "a million changes stored": 0.85,
    "PostgreSQL": 0.6,
}


@dataclass
class Scene:
    """What the sections share.

    Attributes:
        size: How much is measured.
        folder: Where the stores are, for as long as the run lasts.
        slack: A Slack that answers at once.
        slow: One that takes as long as Slack does.
        away: One that has no service.
    """

    size: Size
    folder: Path
    slack: StandIn
    slow: StandIn
    away: StandIn

    @cached_property
    def stored(self) -> Path:
        """A store with a million changes."""
        say(f"filling a store with {self.size.stored:,} changes …")
        fill(self.folder / "stored.db", Contents(self.size.stored))
        return self.folder / "stored.db"

    @cached_property
    def waiting(self) -> Path:
        """A store with a hundred thousand alerts that wait."""
        number = self.size.waiting
        fill(self.folder / "waiting.db", Contents(number, alerts_every=1, waiting=number, queue="default"))
        return self.folder / "waiting.db"


def accepted(scene: Scene) -> Iterator[Figure]:
    """Accepting: beside others, and with more rules, fuller stores, or PostgreSQL."""
    slack, size = scene.slack.url, scene.size
    with postgres() as server, ExitStack() as stack:
        ours = Listener(slack)
        subjects: list[Subject] = [
            ours,
            *bare(),
            Tutorial(scene.slow.url),
            Listener(slack, "1,000 rules", rules(1000)),
            Listener(scene.away.url, "100,000 alerts waiting", database=scene.waiting),
            Listener(slack, "a million changes stored", database=scene.stored),
            ListenerOnPostgres(slack, "PostgreSQL", server=server),
        ]
        try:
            old = stack.enter_context(checkout(BASELINE))
            subjects.insert(1, Listener(slack, BASELINE, root=old.root, python=old.python))
        except NotComparable as error:
            say(f"{BASELINE} is NOT measured: {error}")
        found = accepting(subjects, size.rounds, size.seconds)
    yield from absolute(found)
    yield Figure("CPU of a change, the listener", "µs", found[ours.name].microseconds, below=300, why=FLOOR)
    yield from (
        Figure(f"CPU of a change, {other.name}", "µs", found[other.name].microseconds) for other in bare()
    )
    yield from beside_others(found, ours.name)
    yield from beside_itself(found, ours.name)


def counted(scene: Scene) -> Iterator[Figure]:
    """Instructions."""
    yield from counting(scene.slack)


def answered(scene: Scene) -> Iterator[Figure]:
    """Answer times, and alerts in Slack."""
    yield from answers(scene.size.rounds, scene.size.seconds * 2)
    yield from alerts(scene.size.rounds, scene.size.seconds * 2)


def delivered(scene: Scene) -> Iterator[Figure]:
    """HTTP deliveries."""
    yield from deliveries(scene.size.rounds, scene.size.jobs)


def on_hold(scene: Scene) -> Iterator[Figure]:
    """Memory, and the time to start."""
    let_wait(scene.stored, scene.size.waiting)
    full = Listener(scene.away.url, "full", database=scene.stored)
    yield from holding(Listener(scene.slack.url), full, scene.size.rounds, scene.size.seconds)


SECTIONS: dict[str, Callable[[Scene], Iterator[Figure]]] = {
    "accepting": accepted,
    "counting": counted,
    "answering": answered,
    "delivering": delivered,
    "holding": on_hold,
}


def whole(size: Size, names: Iterable[str] = SECTIONS) -> list[Figure]:
    """Measure some sections, by default all, and return the figures in the table's order."""
    figures: list[Figure] = []
    with (
        temporary_folder() as folder,
        stand_in() as slack,
        stand_in(delay=SLACK_SECONDS) as slow,
        stand_in() as away,
    ):
        away.status = NO_SERVICE
        scene = Scene(size, folder, slack, slow, away)
        for name in names:
            say(f"{name} …")
            figures += SECTIONS[name](scene)
    return figures


def beside_others(found: dict[str, Accepted], ours: str) -> Iterator[Figure]:
    """Yield our ratios to others."""
    for name, (unit, goal) in BESIDE_OTHERS.items():
        if name in found:
            each = found[ours].times(found[name])
            yield Figure(f"accepted, of {name}", unit, each, least=goal, why=FLOOR)


def beside_itself(found: dict[str, Accepted], ours: str) -> Iterator[Figure]:
    """Yield the ratios to the listener with an empty store and ten rules."""
    for name, goal in BESIDE_ITSELF.items():
        each = found[name].times(found[ours])
        yield Figure(f"accepted, {name}, of the empty store's", "%", each, least=goal, why=TREES)
