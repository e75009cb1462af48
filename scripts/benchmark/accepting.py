"""Changes accepted a second, of each subject in turns."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from scripts.benchmark.load import walk
from scripts.benchmark.machine import look
from scripts.benchmark.processes import Running, temporary_folder
from scripts.benchmark.subjects import Subject
from scripts.benchmark.table import Figure


@dataclass
class Accepted:
    """What came of a subject's rounds.

    Attributes:
        rates: How many were accepted a second, for each round.
        microseconds: How much CPU each took it.
    """

    rates: list[float] = field(default_factory=list)
    microseconds: list[float] = field(default_factory=list)

    def times(self, other: "Accepted") -> list[float]:
        """Return how many it accepted for each that another did, round by round."""
        return [one / another for one, another in zip(self.rates, other.rates, strict=True)]


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


def accepting(subjects: Sequence[Subject], rounds: int, seconds: float) -> dict[str, Accepted]:
    """Measure so many rounds, in each of which each subject has its turn, each second time backwards.

    Returns:
        What came of each, by their names.
    """
    found = {subject.name: Accepted() for subject in subjects}
    for number in range(rounds):
        for subject in subjects if number % 2 == 0 else reversed(subjects):
            look()
            with temporary_folder() as folder, subject.start(folder) as running:
                rate, microseconds = accept(subject, running, seconds)
            found[subject.name].rates.append(rate)
            found[subject.name].microseconds.append(microseconds)
    return found


def absolute(found: dict[str, Accepted]) -> Iterator[Figure]:
    """Yield what each accepted a second."""
    for name, accepted in found.items():
        yield Figure(f"accepted, {name}", "a second", accepted.rates)


def lines(found: dict[str, Accepted], ours: str) -> Iterator[str]:
    """Yield a line for each subject, with our ratio to it."""
    for name, accepted in found.items():
        rates, each = accepted.rates, found[ours].times(accepted)
        line = f"{name:24} {statistics.median(rates):7,.0f} a second ({min(rates):,.0f} to {max(rates):,.0f})"
        line += f"  {statistics.median(accepted.microseconds):6,.0f} µs CPU each"
        if name != ours:
            line += f"   {ours}: {statistics.median(each):.2f} × ({min(each):.2f} to {max(each):.2f})"
        yield line
