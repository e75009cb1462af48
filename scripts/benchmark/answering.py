"""How soon Port has its answer at a constant rate, and Slack its message."""

import re
import statistics
from collections import defaultdict, deque
from collections.abc import Iterator

from scripts.benchmark.changes import signed_requests
from scripts.benchmark.listeners import Listener, by_team
from scripts.benchmark.load import walk
from scripts.benchmark.machine import look
from scripts.benchmark.pace import Paced, pace
from scripts.benchmark.processes import temporary_folder
from scripts.benchmark.slack import StandIn, stand_in
from scripts.benchmark.table import Figure

CHANGES_A_SECOND = 1000
GOALS = [
    ("deliveries in the same process", "here", False, 3.0, 20.0),
    ("deliveries in a process apart, on the same core", "apart", False, 2.0, 13.0),
    ("deliveries in a process apart, on both cores", "apart", True, 2.0, 13.0),
]
"""What is measured, `--dispatch`, whether on both cores; below which p50 and p99 answers are to be, ms."""
CHANNELS = 64
QUIET_A_SECOND = 40  # so that each channel has one in 1.6 seconds
BUSY = (
    "so many, evenly, take nearly the whole core, since few of them share a commit; and once a second the"
    " digest of a thousand alerts takes some 50 ms of it. Tried: waiting for more changes, a lower priority"
    " for deliveries, another interval for switching threads."
)
_ENTITY = re.compile(rb"service-\d+-\d+-\d+")


def percentile(values: list[float], share: int) -> float:
    """Return the value that so many hundredths are not above."""
    return statistics.quantiles(values, n=100, method="inclusive")[share - 1]


def answers(rounds: int, seconds: float) -> Iterator[Figure]:
    """Yield how soon changes are answered at a thousand a second, with deliveries here and apart."""
    for what, dispatch, both_cores, p50_ms, p99_ms in GOALS:
        middle, slow = [], []
        for _ in range(rounds):
            with stand_in() as slack:
                command = ("serve", "--dispatch", dispatch)
                took = paced(Listener(slack.url, command=command, both_cores=both_cores), seconds)
            middle.append(percentile(took, 50))
            slow.append(percentile(took, 99))
        name = f"answer at 1,000 changes a second, {what}"
        yield Figure(f"{name}, p50", "ms", middle, below=p50_ms, why=BUSY)
        yield Figure(f"{name}, p99", "ms", slow, below=p99_ms, why=BUSY)


def paced(listener: Listener, seconds: float) -> list[float]:
    """Start it, send a thousand changes a second, and return how long each waits for its answer, ms."""
    look()
    with temporary_folder() as folder, listener.start(folder) as running:
        walk(running.port, listener.requests(listener.warm_up), listener.answer)
        requests = list(listener.requests(int(CHANGES_A_SECOND * seconds)))
        took = pace(running.port, requests, CHANGES_A_SECOND, listener.answer)
    return [one.milliseconds for one in took]


def alerts(rounds: int, seconds: float) -> list[Figure]:
    """Return how soon after Port's POST Slack has the alert, where nothing else waits."""
    middle, slow = [], []
    for _ in range(rounds):
        with temporary_folder() as folder, stand_in() as slack:
            listener = Listener(slack.url, rules=by_team(slack.url, CHANNELS))
            with listener.start(folder) as running:
                number = int(QUIET_A_SECOND * seconds)
                requests = list(signed_requests(CHANNELS + number, entities=CHANNELS, team="team{}"))
                sent = pace(running.port, requests, QUIET_A_SECOND, listener.answer)
                slack.wait_for(len(requests))
            took = _until_slack(requests, sent, slack)[CHANNELS:]  # the first of each opens its connection
        middle.append(percentile(took, 50))
        slow.append(percentile(took, 99))
    return [
        Figure("from Port's POST to Slack's request, quiet channel, p50", "ms", middle, below=10),
        Figure("from Port's POST to Slack's request, quiet channel, p99", "ms", slow, below=50),
    ]


def _until_slack(requests: list[bytes], sent: list[Paced], slack: StandIn) -> list[float]:
    """Return how many milliseconds after each request its message came; an entity's come in their order."""
    came = defaultdict[bytes, deque[float]](deque)
    for at, body in slack.received:
        came[_entity(body)].append(at)
    return [
        (came[_entity(one)].popleft() - paced.due) * 1000 for one, paced in zip(requests, sent, strict=True)
    ]


def _entity(text: bytes) -> bytes:
    found = _ENTITY.search(text)
    if found is None:
        raise RuntimeError("a message names no entity")
    return found[0]
