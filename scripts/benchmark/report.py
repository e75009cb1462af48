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
