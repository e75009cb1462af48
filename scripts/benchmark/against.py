"""Compares the working tree with another commit, in alternating rounds of new processes.

The commit's own code runs under the interpreter and with the libraries of this one. Where it locks other
versions of them, that is said; where it needs one that is not installed, it gets all that it locks.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import Requirement

from scripts.benchmark.accepting import accept
from scripts.benchmark.answering import CHANGES_A_SECOND, paced, percentile
from scripts.benchmark.listeners import Listener
from scripts.benchmark.machine import interpreter, look, others
from scripts.benchmark.processes import ROOT, temporary_folder
from scripts.benchmark.slack import stand_in
from scripts.benchmark.table import Figure, align, say

LOCK = "requirements.lock"


class NotComparable(Exception):
    """There is no such commit, or its libraries cannot be had; the text says which."""


@dataclass(frozen=True)
class Checkout:
    """The files of a commit.

    Attributes:
        root: Their folder.
        python: The interpreter, with the libraries.
    """

    root: Path
    python: str = sys.executable


@contextmanager
def checkout(commit: str) -> Iterator[Checkout]:
    """Give the files of a commit, which go away again; libraries of its own where some are not installed.

    Raises:
        NotComparable: There is no such commit, or its libraries cannot be had.
    """
    command = ["/usr/bin/env", "git", "archive", commit]
    archive = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        raise NotComparable(f"{commit} cannot be had: {archive.stderr.decode().strip()}")
    with temporary_folder() as folder:
        unpack = ["/usr/bin/env", "tar", "--extract", "--directory", str(folder)]
        subprocess.run(unpack, input=archive.stdout, check=True)
        absent, different = compare_libraries((folder / LOCK).read_text())
        if absent:
            say(
                f"{commit} needs libraries that are not installed here, and gets its own: {', '.join(absent)}"
            )
            yield Checkout(folder, _install(folder))
        else:
            if different:
                say(f"{commit} locks other versions than run here: {', '.join(different)}")
            yield Checkout(folder)


def _install(folder: Path) -> str:
    """Make the virtual environment of what is locked in a folder, and return its interpreter.

    Raises:
        NotComparable: Its libraries cannot be had.
    """
    surroundings = os.environ | {"PYTHON": sys._base_executable}  # type: ignore[attr-defined]  # noqa: SLF001
    command = ["/usr/bin/env", "bash", "-c", ". scripts/_venv runtime"]
    done = subprocess.run(command, cwd=folder, env=surroundings, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotComparable(f"its libraries cannot be had: {done.stderr.strip()}")
    return str(folder / ".venv/bin/python")


def compare_libraries(lock: str) -> tuple[list[str], list[str]]:
    """Compare a lock with what is installed.

    Args:
        lock: The text of a lock file.

    Returns:
        The requirements of which nothing is installed, and sentences about those of which another version is.
    """
    absent, different = [], []
    for line in re.findall(r"^([\w.-]+.*==.*?) *\\?$", lock, re.MULTILINE):
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate():
            continue
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            absent.append(f"{requirement.name}{requirement.specifier}")
        else:
            if installed not in requirement.specifier:
                different.append(f"{requirement.name}{requirement.specifier} (here {installed})")
    return absent, different


@dataclass
class Rounds:
    """What came of one commit, a figure for each round.

    Attributes:
        rates: How many it accepted a second.
        microseconds: The CPU of each change.
        p50: The median of the answers' times at the pace, milliseconds.
        p99: Their 99th percentile.
        memory: What it holds after the load, megabytes.
    """

    rates: list[float] = field(default_factory=list)
    microseconds: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)

    def add(self, listener: Listener, seconds: float) -> None:
        """Measure one round, in two new processes: one that accepts what it can, one at a pace."""
        look()
        with temporary_folder() as folder, listener.start(folder) as running:
            rate, microseconds = accept(listener, running, seconds)
            self.memory.append(running.resident_bytes() / 1e6)
        took = paced(listener, seconds)
        self.rates.append(rate)
        self.microseconds.append(microseconds)
        self.p50.append(percentile(took, 50))
        self.p99.append(percentile(took, 99))


def rows(here: Rounds, there: Rounds, commit: str) -> Iterator[str]:
    """Return the lines of a table in Markdown: both medians, and the ratio of each round with its spread."""
    table = [
        ["", commit, "working tree", "working tree / " + commit, "rounds, from", "to"],
        ["---", "--:", "--:", "--:", "--:", "--:"],
    ]
    pace_name = f"answer at {CHANGES_A_SECOND:,} changes a second"
    for what, unit, old, new in (
        ("accepted", "a second", there.rates, here.rates),
        ("CPU of a change", "µs", there.microseconds, here.microseconds),
        (f"{pace_name}, p50", "ms", there.p50, here.p50),
        (f"{pace_name}, p99", "ms", there.p99, here.p99),
        ("memory under load", "MB", there.memory, here.memory),
    ):
        ratios = [one / other for one, other in zip(new, old, strict=True)]
        medians = [Figure(what, unit, values) for values in (old, new)]
        ratio = Figure(what, "×", ratios)
        shown = [ratio.show(value) for value in (ratio.median, min(ratios), max(ratios))]
        table.append([what, *(figure.show(figure.median) for figure in medians), *shown])
    return align(table, texts={0})


def against(commit: str, rounds: int, seconds: float) -> None:
    """Print how the working tree compares with a commit.

    Args:
        commit: Whatever git knows: a hash, a branch, a tag.
        rounds: How many rounds; in each both have their turn, the other one first than in the last.
        seconds: How long each is measured in a round: accepting, and at a pace.
    """
    with checkout(commit) as other, stand_in() as slack:
        old = Listener(slack.url, root=other.root, python=other.python)
        both = [(Rounds(), old), (Rounds(), Listener(slack.url))]
        for number in range(rounds):
            say(f"round {number + 1} of {rounds} …")
            for result, listener in both if number % 2 == 0 else reversed(both):
                result.add(listener, seconds)
        (there, _), (here, _) = both
    print(*rows(here, there, commit), sep="\n")
    print(f"\n{rounds} rounds of new processes{others()}; CPU by the operating system's accounting;", end=" ")
    print(f"{interpreter()}.")
