"""Writes docs/reliability.md: what was simulated, how often each fault struck, which mistakes are found."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
TEMPLATE = Path(__file__).with_name("report.md")


def write_report(
    seeds: Sequence[int],
    minutes: float,
    counts: Counter[str],
    struck: Counter[str],
    broken: list[int],
    found: Mapping[str, int],
) -> None:
    """Write the page.

    Args:
        seeds: The seeds that ran, one after the other.
        minutes: How long each seed disturbed, virtual.
        counts: How many there were of what, of all seeds.
        struck: How often each fault struck.
        broken: The seeds that broke a promise.
        found: By mistake that was planted, the first seed that found it; 0: none did.
    """
    faults = "\n".join(
        f"| {name.replace('_', ' ')} | {number:,} |" for name, number in sorted(struck.items())
    )
    mistakes = "\n".join(f"| {name} | {seed or '**not found**'} |" for name, seed in found.items())
    values = {
        "{seeds}": f"{seeds[0]:,} to {seeds[-1]:,}",
        "{command}": f"scripts/simulate --first {seeds[0]} --seeds {len(seeds)} --minutes {minutes:g}",
        "{minutes}": f"{minutes:g}",
        "{hours}": f"{counts['virtual_seconds'] / 3600:,.0f}",
        "{changes}": f"{counts['changes']:,}",
        "{messages}": f"{counts['messages']:,}",
        "{kills}": f"{counts['kills']:,}",
        "{broken}": f"{len(broken)} ({', '.join(map(str, broken[:20]))})" if broken else "none",
        "{faults}": faults,
        "{mistakes}": mistakes,
    }
    text = TEMPLATE.read_text(encoding="utf-8")
    for place, value in values.items():
        text = text.replace(place, value)
    PAGE.write_text(text, encoding="utf-8")
