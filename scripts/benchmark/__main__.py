"""``scripts/bench``: measures, prints a table, and writes it to docs/bench.md.

It needs wrk, two cores (one for what is measured, one for the load) and 3 GB in the temporary folder.
valgrind counts instructions; without it they are left out. On a quiet machine the goals and the peers
take a quarter of an hour each, --against two minutes, --quick half a minute. Before each turn it looks
how busy other programs keep the machine; what is printed says so, and where that is too much, that it is
to be measured again.
"""

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from scripts.benchmark import beside, page, reconcile, replicas, soak
from scripts.benchmark.accepting import accepting, lines
from scripts.benchmark.against import NotComparable, against
from scripts.benchmark.listeners import Listener
from scripts.benchmark.machine import describe, interpreter, others, take_load_core
from scripts.benchmark.peers import bare
from scripts.benchmark.profile import profile
from scripts.benchmark.report import fill, write
from scripts.benchmark.slack import stand_in
from scripts.benchmark.table import lines as table_lines
from scripts.benchmark.whole import SECTIONS, Size, whole

OTHERS: dict[str, Callable[[Sequence[str]], None]] = {
    "page": page.main,
    "peers": beside.main,
    "reconcile": reconcile.main,
    "replicas": replicas.main,
    "soak": soak.main,
}


def quick(options: argparse.Namespace) -> None:
    """Print the ratios of accepting."""
    with stand_in() as slack:
        listener = Listener(slack.url)
        found = accepting([listener, *bare()], options.rounds or 2, options.seconds or 0.8)
    print(*lines(found, listener.name), sep="\n")
    print(f"Measured on {interpreter()}{others()}.")


def main(arguments: Sequence[str]) -> None:
    """Measure."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is ended
    if arguments and arguments[0] in OTHERS:
        OTHERS[arguments[0]](arguments[1:])
        return
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("scripts/bench", description=__doc__, formatter_class=formatter)
    parser.add_argument("what", nargs="?", choices=["table", "profile", *OTHERS], default="table")
    parser.add_argument("--quick", action="store_true", help="only the ratios of accepting, printed")
    parser.add_argument("--against", metavar="COMMIT", help="compare with a commit, in alternating rounds")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, help="print these sections, and write no page")
    parser.add_argument("--runs", type=int, default=1, help="how many times the whole table is measured")
    parser.add_argument("--rounds", type=int, help="how many rounds a run has")
    parser.add_argument("--seconds", type=float, help="how long a round of accepting is, about")
    parser.add_argument("--stored", type=int, default=Size.stored, help="how many changes the full store has")
    parser.add_argument("--waiting", type=int, default=Size.waiting, help="how many alerts wait")
    parser.add_argument("--to", type=Path, default=Path("docs/bench.md"), help="where it is written to")
    parser.add_argument("--graph", type=Path, default=Path("profile.svg"), help="where profile writes to")
    options = parser.parse_args(arguments)
    take_load_core()
    if options.what == "profile":
        with stand_in() as slack:
            profile(Listener(slack.url), options.graph, options.seconds or 8.0)
    elif options.against:
        try:
            against(options.against, options.rounds or 5, options.seconds or 2.0)
        except NotComparable as error:
            sys.exit(str(error))
    elif options.quick:
        quick(options)
    else:
        table(options)


def table(options: argparse.Namespace) -> None:
    """Print the whole table and write the page; what is not the whole is printed only."""
    rounds, seconds = options.rounds or Size.rounds, options.seconds or Size.seconds
    size = Size(rounds, seconds, options.stored, options.waiting)
    if options.only or (size.stored, size.waiting) != (Size.stored, Size.waiting):
        print(*table_lines([whole(size, options.only or SECTIONS) for _ in range(options.runs)]), sep="\n")
        print(f"\nMeasured on {interpreter()}{others()}.")
    else:
        text = write([whole(size) for _ in range(options.runs)])
        print(text)
        fill(options.to, "goals", text)
        fill(options.to, "machine", "\n".join(f"- {line}" for line in describe()))


if __name__ == "__main__":
    main(sys.argv[1:])
