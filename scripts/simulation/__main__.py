"""``scripts/simulate``: runs seeds, and shows what a failing one comes down to."""

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from time import process_time

from scripts.simulation.chance import UNPROVEN
from scripts.simulation.kinds import ALL_FAULTS, NAMES
from scripts.simulation.mutants import HEALTHY, MUTANTS, Mutant
from scripts.simulation.report import write_report
from scripts.simulation.run import Outcome, Plan, simulate
from scripts.simulation.smaller import smallest

SEEDS_OF_A_PROCESS = 100  # what is left of the dead is kept, some megabytes a seed
MUTANT_SEEDS = 200
ALL_STATEMENTS = (26, 130, 115, 151, 149, *range(7, 30))
"""Seeds whose nights run each statement that a mistake changes: at the time of writing, the first two."""


def main(arguments: Sequence[str]) -> int:
    """Run what the arguments say; give the exit status."""
    parser = argparse.ArgumentParser(
        prog="scripts/simulate",
        description="Runs the listener in a simulated world, whose faults come from a seed.",
    )
    parser.add_argument("--seeds", type=int, default=200, help="how many seeds to run (default 200)")
    parser.add_argument("--first", type=int, default=1, help="the first of them (default 1)")
    parser.add_argument("--seed", type=int, nargs="+", help="run these only")
    parser.add_argument(
        "--minutes", type=float, default=4.0, help="how long each disturbs, virtual (default 4)"
    )
    parser.add_argument("--as-is", action="store_true", help="do not make a failing one smaller")
    parser.add_argument("--trace", action="store_true", help="print everything that happened")
    parser.add_argument(
        "--without", nargs="*", default=[], metavar="FAULT", help=f"of {', '.join(ALL_FAULTS)}"
    )
    parser.add_argument(
        "--kinds",
        nargs="*",
        choices=NAMES,
        metavar="KIND",
        help=f"what there is in each world beside the rest (else the seed draws it), of {', '.join(NAMES)}",
    )
    parser.add_argument(
        "--with",
        dest="extra",
        nargs="*",
        default=[],
        choices=sorted(UNPROVEN),
        metavar="FAULT",
        help=f"faults that are not survived yet: {', '.join(UNPROVEN) or 'none'}",
    )
    parser.add_argument(
        "--mute", nargs="*", default=[], metavar="FAULT#N", help="occurrences that do not happen"
    )
    parser.add_argument("--plant", choices=sorted(MUTANTS), metavar="MISTAKE", help="plant a mistake")
    parser.add_argument(
        "--mutants", action="store_true", help="plant each mistake, and show which seed finds it"
    )
    parser.add_argument(
        "--plantable",
        action="store_true",
        help="look whether each mistake has still what to change",
    )
    parser.add_argument("--find", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--report", action="store_true", help="run all this, and write docs/reliability.md")
    parser.add_argument("--tally", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    os.environ.clear()  # nothing of this machine's configuration is to matter
    if options.report:
        return _report(options.first, options.seeds, options.minutes)
    if options.plantable or options.find or options.mutants:
        return _of_mutants(options)
    seeds = options.seed or range(options.first, options.first + options.seeds)
    if len(seeds) > SEEDS_OF_A_PROCESS:
        return _in_processes(arguments, options.first, len(seeds))
    total, struck, broken = Counter[str](seeds=len(seeds)), Counter[str](), list[int]()
    began = process_time()
    for seed in seeds:
        plan = Plan(
            seed,
            options.minutes,
            frozenset(options.without),
            frozenset(options.mute),
            frozenset(options.extra),
            None if options.kinds is None else frozenset(options.kinds),
            MUTANTS[options.plant] if options.plant else HEALTHY,
        )
        outcome = simulate(plan)
        total.update(outcome.counts)
        struck.update(name.partition("#")[0] for name in outcome.struck)
        if options.trace:
            print("\n".join(outcome.story))
        if options.trace or outcome.broken:
            print(f"seed {seed}: {outcome.digest}, {_counted(outcome.counts)}")
        if outcome.broken:
            broken.append(seed)
            _show(plan, outcome, options.plant, again=not (options.trace or options.as_is))
    if options.tally:
        print(json.dumps([total, struck, broken]))
        return int(bool(broken))
    print(
        f"{_counted(total)}, {total['virtual_seconds'] / 3600:.1f} virtual hours"
        f" in {process_time() - began:.0f} s:"
        f" {'promises were BROKEN' if broken else 'every promise was kept'}"
    )
    return int(bool(broken))


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in counts.items() if name != "virtual_seconds")


def _show(plan: Plan, outcome: Outcome, mistake: str | None, *, again: bool) -> None:
    """Print what a failing seed comes down to."""
    for line in outcome.broken:
        print(f"  BROKEN {line}")
    if not again:
        return
    plan, outcome = smallest(plan, outcome)
    print("Made smaller, it comes down to this:")
    print("\n".join(f"  {line}" for line in outcome.story))
    for line in outcome.broken:
        print(f"  BROKEN {line}")
    command = [f"scripts/simulate --seed {plan.seed} --minutes {plan.minutes:g} --trace"]
    command += [f"--plant '{mistake}'"] if mistake else []
    command += [f"--with {' '.join(sorted(plan.extra))}"] if plan.extra else []
    command += [f"--kinds {' '.join(sorted(plan.kinds))}".strip()] if plan.kinds is not None else []
    command += [f"--without {' '.join(sorted(plan.off))}"] if plan.off else []
    command += [f"--mute {' '.join(sorted(plan.muted))}"] if plan.muted else []
    print(f"Again: {' '.join(command)}", flush=True)


def _pieces(arguments: Sequence[str], first: int, seeds: int) -> Iterator[list[str]]:
    for start in range(first, first + seeds, SEEDS_OF_A_PROCESS):
        number = min(SEEDS_OF_A_PROCESS, first + seeds - start)
        piece = [*arguments, "--first", str(start), "--seeds", str(number)]
        yield [sys.executable, "-m", "scripts.simulation", *piece]


def _in_processes(arguments: Sequence[str], first: int, seeds: int) -> int:
    status = 0
    for command in _pieces(arguments, first, seeds):
        status |= subprocess.run(command, check=False).returncode  # noqa: S603 - it is this program
    return status


def _of_mutants(options: argparse.Namespace) -> int:
    if options.find:
        print(json.dumps(_find(options.plant, options.minutes)))
        return 0
    return int(bool(_not_plantable()) or (options.mutants and 0 in _find_mutants(options.minutes).values()))


def _find_mutants(minutes: float) -> dict[str, int]:
    """Plant each mistake; print and give the first seed that finds it, 0: none does."""
    found = {}
    for name in MUTANTS:
        # Each in a process of its own: what is left of the dead is kept.
        command = [sys.executable, "-m", "scripts.simulation", "--minutes", str(minutes), "--find"]
        command += ["--plant", name]
        run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603 - as above
        found[name], what = json.loads(run.stdout.splitlines()[-1])
        print(f"{name}: {f'found by seed {found[name]}: ' if found[name] else ''}{what}", flush=True)
    return found


def _find(name: str, minutes: float) -> tuple[int, str]:
    """Give the first seed that breaks a promise with a mistake only, and what it breaks."""
    mutant = MUTANTS[name]
    for seed in range(1, MUTANT_SEEDS + 1):
        broken = simulate(Plan(seed, minutes, mutant=mutant)).broken
        if broken and not simulate(Plan(seed, minutes)).broken:
            return seed, broken[0]
    return 0, f"SURVIVES {MUTANT_SEEDS} seeds" if mutant.times else "CHANGES NOTHING: its place is gone"


def _not_plantable() -> list[str]:
    """Print and give the mistakes in statements of which no statement that runs has the text."""
    statements = set[str]()

    def note(statement: str) -> str:
        statements.add(statement)
        return statement

    missing = [name for name, mutant in MUTANTS.items() if mutant.rewrite is not HEALTHY.rewrite]
    for seed in ALL_STATEMENTS:
        simulate(Plan(seed, 1.0, kinds=frozenset(NAMES), mutant=Mutant(note)))
        missing = [
            name for name in missing if all(MUTANTS[name].rewrite(text) == text for text in statements)
        ]
        if not missing:
            break
    for name in missing:
        print(f"{name}: CHANGES NOTHING: no statement that ran has its text")
    return missing


def _report(first: int, seeds: int, minutes: float) -> int:
    counts, struck, broken = Counter[str](), Counter[str](), list[int]()
    for command in _pieces(["--minutes", str(minutes), "--as-is", "--tally"], first, seeds):
        run = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)  # noqa: S603 - as above
        more_counts, more_struck, more_broken = json.loads(run.stdout.splitlines()[-1])
        counts.update(more_counts)
        struck.update({name: number for name, number in more_struck.items() if name != "change"})
        broken += more_broken
    found = _find_mutants(minutes)
    write_report(minutes, counts, struck, broken, found)
    return int(bool(broken) or 0 in found.values())


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    # Not by the interpreter's own end: it would collect what is left of the dead, and run their `finally`.
    os._exit(code)
