"""Processes forked from one that has imported the program: a start takes 10 ms instead of a second."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
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
        "uvicorn.loops.uvloop",
    ]
)
AT_THE_START = {"LD_PRELOAD", "PROMETHEUS_MULTIPROC_DIR"}
"""Variables that a process which has started reads no more."""


class ForkedProgram:
    """The program as a process of its own, to be used like `subprocess.Popen`.

    Args:
        arguments: The words after `python -m app`.
        folder: Its working directory.
        environment: Its environment, without those of AT_THE_START.
        log: The file that its output is added to.
    """

    def __init__(
        self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path
    ) -> None:
        self.args = ["app", *arguments]
        self._process = CONTEXT.Process(
            target=_run, args=(self.args, folder, dict(environment), log), daemon=True
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


def _run(arguments: list[str], folder: Path, environment: dict[str, str], log: Path) -> None:
    from app.cli import main  # noqa: PLC0415 - who only forks needs no commands

    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    sys.argv = arguments
    main(program="python -m app")
