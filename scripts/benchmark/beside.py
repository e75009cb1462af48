"""The peers' table: what each accepts, what it costs with its deliveries, and what it loses.

Each change has an entity of its own, so that Slack's side shows which never came.
"""

import argparse
import re
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from scripts.benchmark.built import INSTALLED, Arq, ArqToDisk, Built, Huey, NodeRed, Procrastinate
from scripts.benchmark.listeners import Listener, by_team
from scripts.benchmark.load import walk
from scripts.benchmark.machine import look, take_load_core
from scripts.benchmark.peers import Alertmanager, Webhook, missing
from scripts.benchmark.processes import Running, temporary_folder
from scripts.benchmark.report import fill
from scripts.benchmark.slack import StandIn, stand_in
from scripts.benchmark.table import align, say

NUMBER = 1000
"""So many changes are accepted before the kill, and while Slack refuses."""
SLACK_SECONDS = 0.1  # what Slack takes in earnest
REFUSES = 3.0  # seconds
TOO_MANY = "429 Too Many Requests\r\nRetry-After: 1"
PATIENCE = 600.0
_ENTITY = re.compile(rb"service-\d+-\d+-\d+")
_core = threading.Lock()
"""Who accepts has the core alone; while nothing but deliveries is waited for, others may go on."""


class Ours(Listener):
    """The listener as one of them."""

    durable = "yes"
    quiet_seconds = 10.0


Peer = Ours | Alertmanager | Webhook | Built


@dataclass
class Result:
    """What came of one peer.

    Attributes:
        rates: How many were accepted a second, for each round.
        microseconds: The CPU of each with its delivery, for each round.
        memory: What all its processes hold after that, bytes; what they share counts once.
        starts: How long each start took, seconds.
        lost: How many of 1,000 never came, for each of `LOSSES`; None: that cannot happen to it.
    """

    rates: list[float] = field(default_factory=list)
    microseconds: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    lost: dict[str, int | None] = field(default_factory=dict)


class Heard:
    """The entities that Slack has heard of.

    Args:
        slack: The stand-in.
    """

    def __init__(self, slack: StandIn) -> None:
        self._slack = slack
        self._read = 0
        self.entities: set[bytes] = set()

    def count(self) -> int:
        """Return how many there are by now."""
        taken = self._slack.taken[self._read :]
        self._read += len(taken)
        self.entities.update(entity for body in taken for entity in _ENTITY.findall(body))
        return len(self.entities)


def settle(slack: StandIn, quiet_seconds: float, done: Callable[[], bool]) -> None:
    """Wait until all is done, or nothing has come for so long."""
    end = time.monotonic() + PATIENCE
    seen, since = len(slack.received), time.monotonic()
    while not done() and time.monotonic() < min(end, since + quiet_seconds):
        time.sleep(0.05)
        if len(slack.received) != seen:
            seen, since = len(slack.received), time.monotonic()


def accept(peer: Peer, slack: StandIn, seconds: float, result: Result) -> None:
    """Let it accept for so many seconds and deliver all of that; add what came of it.

    Raises:
        RuntimeError: Not all was delivered.
    """
    heard = Heard(slack)
    with temporary_folder() as folder, peer.start(folder) as running:
        result.starts.append(running.started)
        sent = peer.warm_up

        def done() -> bool:
            if isinstance(peer, Listener):  # its digests need not name all
                return peer.pending(running) == 0
            return heard.count() >= sent

        warm = walk(running.port, peer.requests(sent, entities=sent), peer.answer)
        settle(slack, peer.quiet_seconds, done)
        number = max(peer.warm_up, int(warm * seconds))
        spent, sent = running.cpu_seconds(), sent + number
        rate = walk(running.port, peer.requests(number, entities=number), peer.answer)
        settle(slack, peer.quiet_seconds, done)
        if not done():
            raise RuntimeError(f"{peer.name}: of {sent} only {heard.count()} came")
        result.rates.append(rate)
        result.microseconds.append((running.cpu_seconds() - spent) * 1e6 / number)
        result.memory.append(running.proportional_bytes())


def lost_to_kill(peer: Peer, slack: StandIn, number: int = NUMBER, *, database: bool = False) -> int | None:
    """Kill its processes after the last of so many answers, start it again, and count what never came.

    Args:
        peer: Who is killed, while it delivers.
        slack: Where it delivers to; it takes as long as Slack does.
        number: How many are accepted.
        database: Whether its database is killed with it.

    Returns:
        How many never came. None: it has no database whose processes are not its own.
    """
    if database and not (isinstance(peer, Built) and peer.has_database):
        return None
    heard = Heard(slack)
    with temporary_folder() as folder, ExitStack() as stack:
        start: Callable[[], AbstractContextManager[Running]] = partial(peer.start, folder)
        if isinstance(peer, Built) and not database:
            start = partial(peer.start, folder, stack.enter_context(peer.database(folder)))
        with _core, start() as running:
            walk(running.port, _each_alone(peer, number), peer.answer)
            running.kill()
        with start():
            settle(slack, peer.quiet_seconds, lambda: heard.count() >= number)
    return number - heard.count()


def lost_to_refusal(peer: Peer, slack: StandIn, number: int = NUMBER, seconds: float = REFUSES) -> int:
    """Let Slack answer 429 for so many seconds, and count of so many changes those that never came."""
    heard = Heard(slack)
    slack.status = TOO_MANY

    def relent() -> None:
        slack.wait_for(1)
        time.sleep(seconds)
        slack.status = "200 OK"

    with temporary_folder() as folder, ExitStack() as stack:
        with _core:
            running = stack.enter_context(peer.start(folder))
            later = threading.Thread(target=relent)
            later.start()
            walk(running.port, _each_alone(peer, number), peer.answer)
            later.join()
        settle(slack, peer.quiet_seconds, lambda: heard.count() >= number)
    return number - heard.count()


LOSSES: dict[str, tuple[Callable[[Peer, StandIn], int | None], float]] = {
    "lost after kill -9 of 1,000": (lost_to_kill, SLACK_SECONDS),
    "its database killed too": (partial(lost_to_kill, database=True), SLACK_SECONDS),
    "lost to 3 s of 429": (lost_to_refusal, 0.0),
}
"""The columns: how each is counted, and how long Slack takes for an answer, seconds."""


def _each_alone(peer: Peer, number: int) -> Iterator[bytes]:
    """Yield changes, each of an entity that no other has, and with us of a team of its own."""
    team: dict[str, Any] = {"team": "team{}"} if isinstance(peer, Listener) else {}
    return peer.requests(number, entities=number, **team)


def every(slack_url: str, installed: Path, *, alone: bool = False) -> list[Peer]:
    """Return the listener and its peers, the durable ones first.

    Args:
        slack_url: The webhook.
        installed: Where the programs of those are that a team would build.
        alone: Whether each change of ours has a channel of its own, so that no digest leaves a name out.
    """
    return [
        Ours(slack_url, rules=by_team(slack_url, NUMBER)) if alone else Ours(slack_url),
        ArqToDisk(slack_url, installed=installed),
        Huey(slack_url, installed=installed),
        Procrastinate(slack_url, installed=installed),
        Arq(slack_url, installed=installed),
        NodeRed(slack_url, installed=installed),
        Webhook(slack_url),
        Alertmanager(slack_url),
    ]


def measure(names: Sequence[str], installed: Path, rounds: int, seconds: float) -> dict[str, Result]:
    """Measure some peers, each in its turn in each round, and then what they lose.

    Returns:
        What came of each, by their names. One that failed is named, and left out.

    Raises:
        Exception: The listener itself failed.
    """
    results = {name: Result() for name in names}

    def attempt(name: str, what: str, function: Callable[[], None]) -> None:
        if name in results:
            say(f"{what}: {name} …")
            try:
                function()
            except Exception as error:
                if name == Ours.name:
                    raise
                say(f"{name} is NOT measured: {what} failed: {error}")
                results.pop(name, None)

    def lose(name: str, what: str) -> None:
        function, delay = LOSSES[what]
        with stand_in(delay=delay) as slack, ExitStack() as own:
            result, peer = results[name], _peer(name, slack, installed, own, alone=True)
            result.lost[what] = function(peer, slack)

    with ExitStack() as stack:
        for number in range(rounds):
            for name in names if number % 2 == 0 else reversed(names):
                slack = stack.enter_context(stand_in())
                peer = _peer(name, slack, installed, stack)
                look()
                one = partial(accept, peer, slack, seconds, results.get(name, Result()))
                attempt(name, f"round {number + 1}", one)
    with ThreadPoolExecutor(4) as pool:
        each = [(name, what) for name in names for what in LOSSES]
        for future in [pool.submit(attempt, name, what, partial(lose, name, what)) for name, what in each]:
            future.result()
    return results


def _peer(name: str, slack: StandIn, installed: Path, stack: ExitStack, *, alone: bool = False) -> Peer:
    peer = next(peer for peer in every(slack.url, installed, alone=alone) if peer.name == name)
    if isinstance(peer, Procrastinate):
        stack.callback(peer.remove)
    return peer


def rows(results: dict[str, Result], installed: Path) -> Iterator[str]:
    """Yield the lines of a table in Markdown."""
    peers = [peer for peer in every("", installed) if peer.name in results]
    table = [
        [
            "",
            "accepted a second (from, to)",
            "of the listener",
            "CPU with delivery",
            "durable before the answer",
            *LOSSES,
            "memory",
            "start",
        ],
        ["---", *["--:"] * 3, "---", *["--:"] * (len(LOSSES) + 2)],
    ]
    ours = results[peers[0].name]
    for peer in peers:
        got = results[peer.name]
        ratio = statistics.median(one / each for one, each in zip(got.rates, ours.rates, strict=True))
        table.append(
            [
                peer.name,
                f"{statistics.median(got.rates):,.0f} ({min(got.rates):,.0f}, {max(got.rates):,.0f})",
                f"{ratio:.0%}",
                f"{statistics.median(got.microseconds):,.0f} µs",
                peer.durable,
                *("-" if got.lost[what] is None else f"{got.lost[what]:,}" for what in LOSSES),
                f"{statistics.median(got.memory) / 1e6:,.0f} MB",
                f"{statistics.median(got.starts):.1f} s",
            ]
        )
    return align(table, texts={0, 4})


def main(arguments: Sequence[str]) -> None:
    """Measure the peers, print their table, and write it to docs/bench.md."""
    parser = argparse.ArgumentParser(prog="scripts/bench peers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how many rounds of accepting")
    parser.add_argument("--seconds", type=float, default=1.5, help="how long a round is, about")
    parser.add_argument("--installed", type=Path, default=INSTALLED, help="where the peers are installed")
    parser.add_argument("--only", nargs="+", help="print some of them, by parts of their names")
    parser.add_argument("--to", type=Path, default=Path("docs/bench.md"), help="where it is written to")
    options = parser.parse_args(arguments)
    take_load_core()
    installed = options.installed.resolve()
    names = []
    for index, peer in enumerate(every("", installed)):
        if index and options.only and not any(part in peer.name for part in options.only):
            continue
        if sentence := missing(peer):
            say(sentence)
        else:
            names.append(peer.name)
    text = "\n".join(rows(measure(names, installed, options.rounds, options.seconds), installed))
    print(text)
    if not options.only:
        fill(options.to, "peers", text)
