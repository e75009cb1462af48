"""Processes forked from one that has imported the program: a start takes 10 ms instead of a second."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
# With what a listener with a Slack bot imports: `python -X importtime -m app serve` shows it.
CONTEXT.set_forkserver_preload(
    [
        "tests.acceptance.dispatching",
        "tests.store.writers",
        "app.main",
        "app.cli.serve",
        "app.notifier.slack.bot",
        "app.runtime.apart",
        "app.runtime.clicks",
        "app.runtime.listener",
        "app.store.postgres.database",
        "scripts.simulation.__main__",
        "uvicorn.loops.uvloop",
    ]
)
AT_THE_START = {"LD_PRELOAD", "PROMETHEUS_MULTIPROC_DIR"}
"""Variables that a process which has started reads no more."""


class ForkedProgram:
    """A program as a process of its own, to be used like `subprocess.Popen`.

    Args:
        main: What it runs, with the arguments; it gives the exit status, or raises SystemExit.
        arguments: The words after its name.
        folder: Its working directory.
        environment: Its environment, without those of AT_THE_START.
        output: The file that its output is added to.
        errors: The file that its standard error is added to, if it is another.
    """

    def __init__(
        self,
        main: Callable[[list[str]], int],
        arguments: Sequence[str],
        *,
        folder: Path,
        environment: Mapping[str, str],
        output: Path,
        errors: Path | None = None,
    ) -> None:
        self.args = list(arguments)
        self._process = CONTEXT.Process(
            target=_run,
            args=(main, self.args, folder, dict(environment), (output, errors or output)),
            daemon=True,
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Return the exit status of a process that has ended."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, and return the exit status."""
        self._process.join(timeout)
        status = self.poll()
        if status is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return status

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)


def _run(
    main: Callable[[list[str]], int],
    arguments: list[str],
    folder: Path,
    environment: dict[str, str],
    outputs: tuple[Path, Path],
) -> None:
    for number, file in enumerate(outputs, 1):
        opened = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    sys.exit(main(arguments))
