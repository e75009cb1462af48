"""``scripts/simulate``: runs seeds, and shows what a failing one comes down to."""

import argparse
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from time import process_time

from scripts.simulation.chance import FAULTS, UNPROVEN
from scripts.simulation.mutants import HEALTHY, MUTANTS
from scripts.simulation.run import Outcome, Plan, simulate
from scripts.simulation.smaller import smallest

SEEDS_OF_A_PROCESS = 100  # what is left of the dead is kept, some megabytes a seed
MUTANT_SEEDS = 200


def main(arguments: Sequence[str]) -> int:
    """Run what the arguments say; give the exit status."""
    parser = argparse.ArgumentParser(
        prog="scripts/simulate",
        description="Runs the listener in a simulated world, whose faults come from a seed.",
    )
    parser.add_argument("--seeds", type=int, default=200, help="how many seeds to run (default 200)")
    parser.add_argument("--first", type=int, default=1, help="the first of them (default 1)")
    parser.add_argument("--seed", type=int, help="run this one only")
    parser.add_argument(
        "--minutes", type=float, default=4.0, help="how long each disturbs, virtual (default 4)"
    )
    parser.add_argument("--as-is", action="store_true", help="do not make a failing one smaller")
    parser.add_argument("--trace", action="store_true", help="print everything that happened")
    parser.add_argument("--without", nargs="*", default=[], metavar="FAULT", help=f"of {', '.join(FAULTS)}")
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
    options = parser.parse_args(arguments)
    os.environ.clear()  # nothing of this machine's configuration is to matter
    if options.mutants:
        return _mutants(options.minutes)
    seeds = (
        [options.seed] if options.seed is not None else range(options.first, options.first + options.seeds)
    )
    if len(seeds) > SEEDS_OF_A_PROCESS:
        return _in_processes(arguments, options.first, len(seeds))
    total: Counter[str] = Counter()
    status, began = 0, process_time()
    for seed in seeds:
        plan = Plan(
            seed,
            options.minutes,
            frozenset(options.without),
            frozenset(options.mute),
            frozenset(options.extra),
            MUTANTS[options.plant] if options.plant else HEALTHY,
        )
        outcome = simulate(plan)
        total.update(outcome.counts)
        if options.trace:
            print("\n".join(outcome.story))
        if options.trace or outcome.broken:
            print(f"seed {seed}: {outcome.digest}, {_counted(outcome.counts)}")
        if outcome.broken:
            status = 1
            _show(plan, outcome, options.plant, again=not (options.trace or options.as_is))
    print(
        f"{len(seeds)} seeds, {_counted(total)}, {total['virtual_seconds'] / 3600:.1f} virtual hours"
        f" in {process_time() - began:.0f} s:"
        f" {'promises were BROKEN' if status else 'every promise was kept'}"
    )
    return status


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
    command += [f"--without {' '.join(sorted(plan.off))}"] if plan.off else []
    command += [f"--mute {' '.join(sorted(plan.muted))}"] if plan.muted else []
    print(f"Again: {' '.join(command)}", flush=True)


def _in_processes(arguments: Sequence[str], first: int, seeds: int) -> int:
    status = 0
    for start in range(first, first + seeds, SEEDS_OF_A_PROCESS):
        number = min(SEEDS_OF_A_PROCESS, first + seeds - start)
        piece = [*arguments, "--first", str(start), "--seeds", str(number)]
        command = [sys.executable, "-m", "scripts.simulation", *piece]
        status |= subprocess.run(command, check=False).returncode  # noqa: S603 - it is this program
    return status


def _mutants(minutes: float) -> int:
    """Plant each mistake; print the first seed that finds it, and what it says."""
    survived = 0
    for name, mutant in MUTANTS.items():
        for seed in range(1, MUTANT_SEEDS + 1):
            if broken := simulate(Plan(seed, minutes, mutant=mutant)).broken:
                print(f"{name}: found by seed {seed}: {broken[0]}", flush=True)
                break
        else:
            survived += 1
            print(f"{name}: SURVIVES {MUTANT_SEEDS} seeds", flush=True)
    return int(survived > 0)


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    # Not by the interpreter's own end: it would collect what is left of the dead, and run their `finally`.
    os._exit(code)
