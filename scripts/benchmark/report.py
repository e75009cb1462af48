"""docs/bench.md: the tables in it, between marks; all else is written by hand."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from scripts.benchmark.machine import others
from scripts.benchmark.table import Figure, lines, reasons


def write(runs: Sequence[Sequence[Figure]]) -> str:
    """Return the table of goals, with the reasons for what is not met, in Markdown."""
    table, why = list(lines(runs)), [f"- {reason}" for reason in reasons(runs)]
    below = ["", "Not met:", "", *why] if why else []
    return "\n".join([*table, *below])


def fill(file: Path, name: str, text: str) -> None:
    """Put a text in place of the one between the page's marks of that name.

    Before it stand the date, and how busy other programs kept the machine.

    Raises:
        ValueError: The page has no such marks.
    """
    start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, _, rest = file.read_text().partition(start)
    _, mark, after = rest.partition(end)
    if not mark:
        raise ValueError(f"{file} has no '{start}' with '{end}' after it")
    day = f"Measured on {datetime.now(UTC):%Y-%m-%d}{others()}:"
    file.write_text("\n".join([before + start, day, "", text, "", end]) + after)
