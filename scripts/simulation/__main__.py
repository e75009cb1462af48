"""``scripts/simulate``: runs seeds, and shows what a failing one comes down to."""

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from math import inf
from time import process_time

from scripts.simulation.chance import UNPROVEN
from scripts.simulation.kinds import ALL_FAULTS, NAMES
from scripts.simulation.mutants import HEALTHY, MUTANTS, Mutant
from scripts.simulation.report import write_report
from scripts.simulation.run import Outcome, Plan, simulate
from scripts.simulation.smaller import smallest

SEEDS_OF_A_PROCESS = 50  # what is left of the dead is kept, some megabytes a seed
SEEDS = 200
MUTANT_SEEDS = 200
TALLY_BEGINS = '[{"seeds":'
Tally = tuple[Counter[str], Counter[str], list[int]]
"""How many there were of what, how often each fault struck, and which seeds broke a promise."""
ALL_STATEMENTS = (26, 130, 115, 151, 149, *range(7, 30))
"""Seeds whose nights run each statement that a mistake changes: at the time of writing, the first two."""


def main(arguments: Sequence[str]) -> int:
    """Run what the arguments say; give the exit status."""
    parser = argparse.ArgumentParser(
        prog="scripts/simulate",
        description="Runs the listener in a simulated world, whose faults come from a seed.",
    )
    parser.add_argument("--seeds", type=_whole, help=f"how many seeds to run (default {SEEDS})")
    parser.add_argument("--first", type=_whole, help="the first of them (default 1)")
    parser.add_argument("--seed", type=_whole, nargs="+", help="run these only")
    parser.add_argument("--piece", type=int, nargs="+", help=argparse.SUPPRESS)
    parser.add_argument(
        "--minutes", type=_minutes, default=4.0, help="how long each disturbs, virtual (default 4)"
    )
    parser.add_argument("--as-is", action="store_true", help="do not make a failing one smaller")
    parser.add_argument("--trace", action="store_true", help="print everything that happened")
    parser.add_argument(
        "--without",
        nargs="*",
        default=[],
        type=_fault,
        metavar="FAULT",
        help=f"of {', '.join(ALL_FAULTS)}",
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
        "--mute",
        nargs="*",
        default=[],
        type=_occurrence,
        metavar="FAULT#N",
        help="changes and faults that do not happen: kill#2 is the third kill",
    )
    parser.add_argument("--plant", choices=sorted(MUTANTS), metavar="MISTAKE", help="plant a mistake")
    whole = parser.add_mutually_exclusive_group()
    whole.add_argument(
        "--mutants",
        action="store_true",
        help=f"plant each mistake, and show which of {MUTANT_SEEDS} seeds finds it",
    )
    whole.add_argument(
        "--plantable",
        action="store_true",
        help="look whether each mistake has still what to change",
    )
    parser.add_argument("--find", action="store_true", help=argparse.SUPPRESS)
    whole.add_argument("--report", action="store_true", help="run all this, and write docs/reliability.md")
    options = parser.parse_args(arguments)
    if options.seed and (options.seeds or options.first):
        parser.error("--seed names the seeds: leave out --seeds and --first")
    if options.mutants or options.plantable or options.report:
        useless = ["seed", "trace", "plant", "kinds", "without", "mute", "as_is"]
        useless += [] if options.report else ["seeds", "first"]
        if given_too := [f"--{name.replace('_', '-')}" for name in useless if getattr(options, name)]:
            parser.error(f"leave out {' and '.join(given_too)}: the mistakes have seeds of their own")
    os.environ.clear()  # nothing of this machine's configuration is to matter
    if options.report:
        return _report(_seeds(options), options.minutes)
    if options.plantable or options.find or options.mutants:
        return _of_mutants(options)
    seeds = _seeds(options)
    if not options.piece and len(seeds) > SEEDS_OF_A_PROCESS:
        total, _, broken = _in_pieces(arguments, seeds)
    else:
        total, struck, broken = _run(options, seeds)
        if options.piece:
            print(json.dumps([total, struck, broken]))
            return int(bool(broken))
    verdict = (
        f"promises were BROKEN by seed {', '.join(map(str, broken))}" if broken else "every promise was kept"
    )
    hours = f"{total['virtual_seconds'] / 3600:.1f} virtual hours in {total['cpu_seconds']} s"
    print(f"{_counted(total)}, {hours}: {verdict}")
    return int(bool(broken))


def _whole(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"must be a whole number of 1 or more, not {text!r}")
    return int(text)


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not 0 < minutes < inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0, such as 4 or 0.5, not {text!r}")
    return minutes


def _fault(text: str) -> str:
    if text not in ALL_FAULTS and text not in UNPROVEN:
        near = get_close_matches(text, ALL_FAULTS, 1)
        hint = f"; did you mean {near[0]}?" if near else "; --help lists them"
        raise argparse.ArgumentTypeError(f"there is no fault {text!r}{hint}")
    return text


def _occurrence(text: str) -> str:
    fault, _, number = text.partition("#")
    if not number.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a fault and a number, such as kill#2, not {text!r}")
    return text if fault == "change" else f"{_fault(fault)}#{number}"


def _seeds(options: argparse.Namespace) -> Sequence[int]:
    first = options.first or 1
    return options.piece or options.seed or range(first, first + (options.seeds or SEEDS))


def _run(options: argparse.Namespace, seeds: Sequence[int]) -> Tally:
    """Run seeds in this process; print what breaks a promise, and give the tally."""
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
    total["cpu_seconds"] = round(process_time() - began)
    return total, struck, broken


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(
        f"{number:,} {name.removesuffix('s') if number == 1 else name}"
        for name, number in counts.items()
        if not name.endswith("_seconds")
    )


def _show(plan: Plan, outcome: Outcome, mistake: str | None, *, again: bool) -> None:
    """Print what a failing seed comes down to."""
    for line in outcome.broken:
        print(f"  BROKEN {line}", flush=True)
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


def _in_pieces(arguments: Sequence[str], seeds: Sequence[int]) -> Tally:
    """Run seeds, some in each process, one process after the other; print what they print."""
    total, struck, broken = Counter[str](), Counter[str](), list[int]()
    for start in range(0, len(seeds), SEEDS_OF_A_PROCESS):
        piece = seeds[start : start + SEEDS_OF_A_PROCESS]
        command = [sys.executable, "-m", "scripts.simulation", *arguments, "--piece", *map(str, piece)]
        tally = ""
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:  # noqa: S603 - this program
            for line in run.stdout or ():  # at once: what it has found is not lost if it does not end well
                tally = line if line.startswith(TALLY_BEGINS) else ""
                print("" if tally else line, end="", flush=True)
        if not tally:
            raise SystemExit(run.returncode or 1)  # it has said why
        more, more_struck, more_broken = json.loads(tally)
        total.update(more)
        struck.update(more_struck)
        broken += more_broken
        if sys.stderr.isatty():
            print(f"{total['seeds']:,} of {len(seeds):,} seeds", file=sys.stderr)
    return total, struck, broken


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


def _report(seeds: Sequence[int], minutes: float) -> int:
    counts, struck, broken = _in_pieces(["--minutes", str(minutes), "--as-is"], seeds)
    del struck["change"]  # which is no fault
    found = _find_mutants(minutes)
    write_report(seeds, minutes, counts, struck, broken, found)
    return int(bool(broken) or 0 in found.values())


if __name__ == "__main__":
    try:
        code = main(sys.argv[1:])
    except KeyboardInterrupt:
        code = 130
    sys.stdout.flush()
    # Not by the interpreter's own end: it would collect what is left of the dead, and run their `finally`.
    os._exit(code)
