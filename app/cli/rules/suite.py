"""Runs suites for `rules test --suite`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from app.errors import ListenerError, RulesError, SuiteError
from app.observe.logs import configure_logging
from app.suite.file import load_suite
from app.suite.report import as_junit, as_text, holds
from app.suite.run import run_suites


def run_files(files: Sequence[Path], junit: Path | None) -> int:
    """Run suites, print what came of them, and give the exit status.

    Args:
        files: The suites.
        junit: Where to write the results as JUnit's XML, too; None: nowhere.

    Raises:
        ListenerError: That cannot be written.
    """
    configure_logging("CRITICAL", "text")  # what fails in a test is in its story
    suites, mistakes = [], []
    for file in files:
        try:
            suites.append(load_suite(file))
        except SuiteError as error:
            mistakes.append(str(error))
    if mistakes:
        print("\n".join(dict.fromkeys(mistakes)), file=sys.stderr)
        return 2
    try:
        results = run_suites(suites)
    except RulesError as error:  # a destination that cannot be made
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    for line in as_text(suites, results):
        print(line)
    if junit is not None:
        try:
            junit.write_text(as_junit(suites, results), encoding="utf-8")
        except OSError as error:
            raise ListenerError(f"cannot write {junit}: {error.strerror}") from None
    return 0 if holds(results) else 1
