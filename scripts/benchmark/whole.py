"""The whole table: what is measured, in which order, and the goals."""

import statistics
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from scripts.benchmark.accepting import Accepted, absolute, accepting, cpu
from scripts.benchmark.answering import alerts, answers
from scripts.benchmark.delivering import deliveries
from scripts.benchmark.holding import holding, let_wait
from scripts.benchmark.listeners import Listener, ListenerOnPostgres, postgres, rules
from scripts.benchmark.peers import Alertmanager, Bare, Tutorial, Webhook, missing
from scripts.benchmark.processes import temporary_folder
from scripts.benchmark.seed import Contents, fill
from scripts.benchmark.slack import stand_in
from scripts.benchmark.subjects import Subject
from scripts.benchmark.table import Figure

SLACK_SECONDS = 0.1  # what Slack takes in earnest
NO_SERVICE = "503 Service Unavailable"


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


# How many the listener is to accept for each that a peer does, or that itself does empty, with ten rules.
BESIDE_PEERS = {
    "a bare FastAPI route": ("%", 0.75),
    "Alertmanager": ("×", 1.5),
    "adnanh/webhook": ("×", 5.0),
    "the tutorial's listener": ("×", 300.0),
}
BESIDE_ITSELF = {
    "1,000 rules": 0.85,
    "100,000 alerts waiting": 0.85,
    "a million changes stored": 0.85,
    "PostgreSQL": 0.6,
}


def whole(size: Size) -> list[Figure]:
    """Measure all of it, and return the figures in the table's order."""
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_folder())
        say(f"filling a store with {size.stored:,} changes, and one with {size.waiting:,} alerts that wait …")
        fill(folder / "stored.db", Contents(size.stored))
        fill(
            folder / "waiting.db",
            Contents(size.waiting, alerts_every=1, waiting=size.waiting, lane="default"),
        )
        slack, slow = stack.enter_context(stand_in()), stack.enter_context(stand_in(delay=SLACK_SECONDS))
        away = stack.enter_context(stand_in())
        away.status = NO_SERVICE
        ours = Listener(slack.url)
        stored = Listener(slack.url, "a million changes stored", database=folder / "stored.db")
        variants: list[Subject] = [
            Listener(slack.url, "1,000 rules", rules(1000)),
            Listener(away.url, "100,000 alerts waiting", database=folder / "waiting.db"),
            stored,
            ListenerOnPostgres(slack.url, "PostgreSQL", server=stack.enter_context(postgres())),
        ]
        say("accepting …")
        found = accepting([ours, *peers(slow.url), *variants], size.rounds, size.seconds)
        figures = [
            *absolute(found),
            *cpu(found, ours.name, Bare.name),
            *beside_peers(found, ours.name),
            *beside_itself(found, ours.name),
        ]
        say("answering …")
        figures += answers(size.rounds, size.seconds * 2)
        figures += alerts(size.rounds, size.seconds * 2)
        say("delivering …")
        figures += deliveries(size.rounds, size.jobs)
        say("starting …")
        let_wait(folder / "stored.db", size.waiting)
        full = Listener(away.url, "full", database=folder / "stored.db")
        return figures + holding(ours, full, size.rounds, size.seconds)


def peers(slow_slack: str) -> list[Subject]:
    """Return the peers, as far as they are installed; of the others, say so."""
    every: list[Subject] = [Bare(), Alertmanager(), Webhook(), Tutorial(slow_slack)]
    for peer in every:
        if program := missing(peer):
            say(f"{peer.name} is NOT measured: {program} is not installed")
    return [peer for peer in every if not missing(peer)]


def beside_peers(found: dict[str, Accepted], ours: str) -> Iterator[Figure]:
    """Yield our ratios to the peers; where a goal is beyond what the bare route reaches, that is why."""
    bare = found[Bare.name]
    for name, (unit, goal) in BESIDE_PEERS.items():
        if name in found:
            most = statistics.median(bare.times(found[name]))
            why = f"the bare route, which stores nothing, accepts only {most:.2f} times as many itself."
            each = found[ours].times(found[name])
            yield Figure(f"accepted, of {name}", unit, each, least=goal, why=why if most < goal else "")


def beside_itself(found: dict[str, Accepted], ours: str) -> Iterator[Figure]:
    """Yield the ratios to the listener with an empty store and ten rules."""
    for name, goal in BESIDE_ITSELF.items():
        yield Figure(
            f"accepted, {name}, of the empty store's", "%", found[name].times(found[ours]), least=goal
        )


def say(what: str) -> None:
    """Say on standard error what goes on."""
    print(what, file=sys.stderr, flush=True)
