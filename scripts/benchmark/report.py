"""docs/bench.md: the table, and what it takes to repeat it."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from scripts.benchmark.machine import describe
from scripts.benchmark.table import Figure, lines, reasons

PAGE = Path(__file__).with_suffix(".md").read_text()


def write(file: Path, runs: Sequence[Sequence[Figure]], *, jobs: int) -> str:
    """Write the page, and return its table with the reasons for what is not met."""
    table, why = "\n".join(lines(runs)), [f"- {one}" for one in reasons(runs)]
    below = "\n".join(["", "Goals that are not met:", "", *why, ""]) if why else ""
    file.write_text(
        PAGE.format(
            date=f"{datetime.now(UTC):%Y-%m-%d}",
            runs=f", in {len(runs)} runs one after the other" if len(runs) > 1 else "",
            table=table,
            reasons=below,
            jobs=f"{jobs:,}",
            machine="\n".join(f"- {one}" for one in describe()),
        )
    )
    return f"{table}\n{below}"


def fill(file: Path, name: str, lines: Sequence[str]) -> None:
    """Put lines in place of those between the page's marks of that name, with the day before them.

    Raises:
        ValueError: The page has no such marks.
    """
    start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, _, rest = file.read_text().partition(start)
    _, mark, after = rest.partition(end)
    if not mark:
        raise ValueError(f"{file} has no '{start}' with '{end}' after it")
    day = f"Measured on {datetime.now(UTC):%Y-%m-%d}:"
    file.write_text("\n".join([before + start, day, "", *lines, end]) + after)
