"""``scripts/bench``: measures, prints a table, and writes it to docs/bench.md."""

import argparse
import sys
from pathlib import Path

from scripts.benchmark.accepting import lines, rounds
from scripts.benchmark.listeners import Listener
from scripts.benchmark.machine import take_load_core
from scripts.benchmark.peers import Alertmanager, Bare, Webhook, missing
from scripts.benchmark.profile import profile
from scripts.benchmark.slack import stand_in
from scripts.benchmark.subjects import Subject


def quick(options: argparse.Namespace) -> None:
    """Print the ratios of accepting."""
    with stand_in() as slack:
        listener = Listener(slack.url)
        subjects: list[Subject] = [listener, Bare()]
        if not options.ours:
            subjects += [Alertmanager(), Webhook()]
        for subject in subjects:
            if program := missing(subject):
                print(f"{subject.name} is not measured: {program} is not installed", file=sys.stderr)
        there = [subject for subject in subjects if not missing(subject)]
        found = rounds(there, options.rounds, options.seconds)
    for line in lines(found, listener.name):
        print(line)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("what", nargs="?", choices=["table", "profile"], default="table")
    parser.add_argument("--quick", action="store_true", help="only the ratios of accepting, in 20 s")
    parser.add_argument("--ours", action="store_true", help="only the listener and the bare route")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.5, help="how long a round is, about")
    parser.add_argument("--graph", type=Path, default=Path("profile.svg"), help="where profile writes to")
    options = parser.parse_args()
    take_load_core()
    if options.what == "profile":
        with stand_in() as slack:
            profile(Listener(slack.url), options.graph, options.seconds)
    else:
        quick(options)


if __name__ == "__main__":
    main()
