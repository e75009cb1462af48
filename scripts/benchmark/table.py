"""The table: figures, each with its spread and its goal."""

import operator
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_FORMATS = {"%": "{:.0%}", "×": "{:,.2f} ×", "ms": "{:,.1f} ms", "µs": "{:,.0f} µs", "s": "{:.2f} s"}
_SHARES = "%×"


@dataclass(frozen=True)
class Figure:
    """One thing that was measured.

    Attributes:
        what: What it is.
        unit: Its unit: `%` and `×` of a ratio, `ms`, `µs`, `s`, `MB`, or `a second`.
        rounds: What each round gave; the median counts.
        least: The goal: at least so much.
        below: The goal: less than so much.
        why: Why the goal is out of reach, if it is.
    """

    what: str
    unit: str
    rounds: Sequence[float]
    least: float | None = None
    below: float | None = None
    why: str = ""

    @property
    def median(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.rounds)

    def show(self, value: float) -> str:
        """Return a value with its unit."""
        return _FORMATS.get(self.unit, "{:,.0f} " + self.unit).format(value)

    @property
    def goal(self) -> str:
        """The goal in words; empty: it has none."""
        if self.least is not None:
            return f"at least {self.show(self.least)}"
        return "" if self.below is None else f"under {self.show(self.below)}"

    def met(self, value: float) -> bool:
        """Return whether a value is as good as the goal."""
        goal = self.below if self.least is None else self.least
        return goal is None or (operator.lt if self.least is None else operator.ge)(value, goal)


Section = Sequence[Figure]


def lines(runs: Sequence[Sequence[Figure]]) -> Iterator[str]:
    """Return the lines of a table in Markdown, of one run or of several of the same figures."""
    numbers = [f"run {one}" for one in range(1, len(runs) + 1)] if len(runs) > 1 else []
    head = ["what", *(numbers or ["median"]), "rounds, from", "to", "goal", "met"]
    rows = [head, ["---"] + ["--:"] * (len(head) - 3) + ["---", "---"]]
    for same in zip(*runs, strict=True):
        first, each = same[0], [value for one in same for value in one.rounds]
        medians = [one.median for one in same]
        met = "" if not first.goal else "yes" if first.met(statistics.median(medians)) else "**no**"
        shown = [first.show(value) for value in (*medians, min(each), max(each))]
        rows.append([first.what, *shown, first.goal, met])
    return align(rows, texts={0, len(head) - 2, len(head) - 1})


def align(rows: Sequence[Sequence[str]], *, texts: set[int]) -> Iterator[str]:
    """Yield the lines of a table in Markdown, its columns of one width.

    Args:
        rows: The cells; the second row is the rule.
        texts: Which columns are text, and not figures.
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (_cell(row[one], width, left=one in texts) for one, width in enumerate(widths))
        yield f"| {' | '.join(cells)} |"


def _cell(text: str, width: int, *, left: bool) -> str:
    if text.startswith("--"):
        return "-" * (width - 1) + ("-" if left else ":")
    return text.ljust(width) if left else text.rjust(width)


def reasons(runs: Sequence[Sequence[Figure]]) -> Iterator[str]:
    """Yield why each goal that is not met is not."""
    for same in zip(*runs, strict=True):
        first = same[0]
        if first.goal and not first.met(statistics.median(one.median for one in same)):
            yield f"{first.what}: {first.why or 'not yet.'}"


def say(what: str) -> None:
    """Say on standard error what goes on."""
    print(what, file=sys.stderr, flush=True)
