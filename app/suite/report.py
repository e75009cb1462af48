"""Says what came of suites: as text for people, and as JUnit's XML for programs."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from app.model.notification import one_line
from app.suite.file import Suite
from app.suite.judge import Unmet
from app.suite.run import TestResult

Results = Sequence[Sequence[TestResult]]
"""The results of the tests of each suite."""


def holds(results: Results) -> bool:
    """Tell whether everything holds that is expected."""
    return not any(result.unmet for tests in results for result in tests)


def as_text(suites: Sequence[Suite], results: Results) -> Iterator[str]:
    """Yield the lines for people: what does not hold and why, how many tests hold, which rules none hits."""
    for suite, tests in zip(suites, results, strict=True):
        failed = [result for result in tests if result.unmet]
        for result in failed:
            yield f"{suite.name}:{result.line}: test {result.name!r} does not hold"
            for unmet in result.unmet:
                yield from (f"  {line}" for line in _lines(unmet, suite.name))
            yield "  what happened:"
            yield from (f"  {line}" for line in result.story or ["nothing"])
            yield ""
        number = f"{len(tests)} test{'s' * (len(tests) != 1)}"
        seconds = sum(result.seconds for result in tests)
        what = f"{number} hold{'s' * (len(tests) == 1)}"
        if failed:
            what = f"{len(failed)} of {number} {'does' if len(failed) == 1 else 'do'} not hold"
        yield f"{suite.name}: {what} ({seconds:.1f} s)"
    yield from _never_hit(suites, results)


def _lines(unmet: Unmet, name: str) -> Iterator[str]:
    yield f"{name}:{unmet.line}: at {unmet.at}, expected: {one_line(unmet.expected)}"
    for title, lines in (("happened", unmet.happened), ("because", unmet.why)):
        for number, line in enumerate(lines):
            indent = "  " if line.startswith("  ") else ""
            yield f"  {f'{title}:' if number == 0 else '':<10} {indent}{one_line(line)}"


def _never_hit(suites: Sequence[Suite], results: Results) -> Iterator[str]:
    """Yield the rules that no change of any suite about their file has matched."""
    hit: dict[Path, set[str]] = {}
    files = {}
    for suite, tests in zip(suites, results, strict=True):
        file = Path(suite.rules.name).resolve()
        files[file] = suite.rules
        hit.setdefault(file, set()).update(*(result.hit for result in tests))
    for file, rules in files.items():
        for number, rule in enumerate(rules.file.rules):
            if rule.name not in hit[file]:
                line = rules.line_of("rules", number)
                yield f"{rules.name}:{line}: rule {rule.name!r} was never hit"


def as_junit(suites: Sequence[Suite], results: Results) -> str:
    """Write the results as the XML that continuous integration reads."""
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', "<testsuites>"]
    for suite, tests in zip(suites, results, strict=True):
        failures = sum(bool(result.unmet) for result in tests)
        seconds = sum(result.seconds for result in tests)
        counts = f'tests="{len(tests)}" failures="{failures}" errors="0" time="{seconds:.3f}"'
        lines.append(f"  <testsuite name={_attribute(suite.name)} {counts}>")
        for result in tests:
            facts = f"name={_attribute(result.name)} classname={_attribute(suite.name)}"
            facts += f' file={_attribute(suite.name)} line="{result.line}" time="{result.seconds:.3f}"'
            if not result.unmet:
                lines.append(f"    <testcase {facts}/>")
                continue
            lines.append(f"    <testcase {facts}>")
            for unmet in result.unmet:
                text = escape("\n".join(_lines(unmet, suite.name)))
                lines.append(f"      <failure message={_attribute(unmet.expected)}>{text}</failure>")
            lines.append("    </testcase>")
        lines.append("  </testsuite>")
    return "\n".join([*lines, "</testsuites>", ""])


def _attribute(text: str) -> str:
    return quoteattr(one_line(text))
