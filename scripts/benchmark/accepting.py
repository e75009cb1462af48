"""Changes accepted a second, of each subject in turns."""

import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scripts.benchmark.load import walk
from scripts.benchmark.processes import Running
from scripts.benchmark.subjects import Subject


@dataclass
class Accepted:
    """What came of a subject's rounds.

    Attributes:
        rates: How many were accepted a second, for each round.
        microseconds: How much CPU each took it.
    """

    rates: list[float] = field(default_factory=list)
    microseconds: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """The median."""
        return statistics.median(self.rates)


def accept(subject: Subject, running: Running, seconds: float) -> tuple[float, float]:
    """Give a subject that runs so many seconds' load.

    Returns:
        How many were accepted a second, and how many microseconds of CPU each took.

    Raises:
        RuntimeError: It has not taken as many as it has answered.
    """
    before = subject.taken(running)
    warm = walk(running.port, subject.requests(subject.warm_up), subject.answer)
    number = max(subject.warm_up, int(warm * seconds))
    spent = running.cpu_seconds()
    rate = walk(running.port, subject.requests(number), subject.answer)
    microseconds = (running.cpu_seconds() - spent) * 1e6 / number
    sent = subject.warm_up + number
    if (after := subject.taken(running)) != tuple(one + sent for one in before):
        raise RuntimeError(f"{subject.name}: {sent} were answered, but of {before} it has {after} now")
    return rate, microseconds


def rounds(subjects: Sequence[Subject], number: int, seconds: float) -> dict[str, Accepted]:
    """Measure so many rounds, in each of which each subject has its turn with an empty store."""
    found = {subject.name: Accepted() for subject in subjects}
    for _ in range(number):
        for subject in subjects:
            with tempfile.TemporaryDirectory(prefix="port-listener-bench-") as name:
                folder = Path(name)
                with subject.start(folder) as running:
                    rate, microseconds = accept(subject, running, seconds)
            found[subject.name].rates.append(rate)
            found[subject.name].microseconds.append(microseconds)
    return found


def ratios(found: dict[str, Accepted], one: str, other: str) -> list[float]:
    """Return what one accepted for each that the other did, round by round."""
    return [a / b for a, b in zip(found[one].rates, found[other].rates, strict=True)]


def lines(found: dict[str, Accepted], one: str) -> Iterator[str]:
    """Yield a line for each subject, with the ratios of one to the others."""
    for name, accepted in found.items():
        spread = f"{min(accepted.rates):,.0f} to {max(accepted.rates):,.0f}"
        line = f"{name:22} {accepted.rate:7,.0f} a second ({spread})"
        line += f"  {statistics.median(accepted.microseconds):6,.0f} µs CPU each"
        if name != one:
            each = ratios(found, one, name)
            line += f"   {one}: {statistics.median(each):.2f} × ({min(each):.2f} to {max(each):.2f})"
        yield line
