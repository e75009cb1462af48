"""HTTP deliveries a second, to a destination with eight queues."""

import json

from scripts.benchmark.changes import signed_requests
from scripts.benchmark.listeners import Listener
from scripts.benchmark.load import walk
from scripts.benchmark.processes import temporary_folder
from scripts.benchmark.slack import stand_in
from scripts.benchmark.table import Figure

REQUEST = (
    "a job costs one request of aiohttp and eleven SQL statements, for its record and the queue's next claim."
    " Tried: both in one transaction, a tenth more here, and half as many on a busy machine."
)
QUEUES = 8
PATIENCE = 60.0


def deliveries(rounds: int, number: int) -> list[Figure]:
    """Return how many jobs a second go out of those that wait, from the first to the last.

    Args:
        rounds: How many rounds.
        number: How many wait.
    """
    rates = []
    for _ in range(rounds):
        with temporary_folder() as folder, stand_in() as jobs:
            destination = {"type": "http", "url": jobs.url, "allow_private": True, "queues": QUEUES}
            rule = {"name": "health", "blueprint": "deploymentConfig", "when": {"property": "healthStatus"}}
            rules = {"version": 1, "destinations": {"jobs": destination}, "rules": [rule | {"send": "jobs"}]}
            listener = Listener(jobs.url, rules=json.dumps(rules), command=("serve", "--no-dispatch"))
            with listener.start(folder) as running:
                walk(running.port, signed_requests(number, entities=number), listener.answer)
            with Listener(jobs.url, rules=listener.rules, command=("dispatch",)).start(folder):
                jobs.wait_for(number, PATIENCE)
            if len(different := {body for _, body in jobs.received}) != number:
                raise RuntimeError(
                    f"{number} jobs waited, {len(different)} came, {len(jobs.received)} with repeats"
                )
            rates.append((number - 1) / (jobs.received[-1][0] - jobs.received[0][0]))
    what = f"HTTP deliveries, destination with {QUEUES} queues"
    return [Figure(what, "a second", rates, least=1500, why=REQUEST)]
