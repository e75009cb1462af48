"""What tests of commands share: a command run in this process, or as one of its own."""

import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass
class Result:
    """A command's exit status and output."""

    status: int
    out: str
    err: str


Run = Callable[..., Awaitable[Result]]


def run_process(*arguments: str, **settings: str) -> Result:
    """Run a command as a process of its own."""
    process = subprocess.run(
        [sys.executable, "-W", "error", "-m", "app", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), **settings},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Result(process.returncode, process.stdout, process.stderr)
