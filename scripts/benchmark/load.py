"""The load: wrk over 32 connections, through requests that were made beforehand."""

import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from scripts.benchmark.processes import temporary_folder

CONNECTIONS = 32
LONGEST = 150  # seconds until a round is given up: under valgrind one takes a minute


@dataclass(frozen=True)
class Answer:
    """What a request must be answered.

    Attributes:
        status: The status.
        part: What the body must contain.
    """

    status: int
    part: str = ""


def walk(port: int, requests: Iterable[bytes], answer: Answer, *, connections: int = CONNECTIONS) -> float:
    """Post each request once, and return how many were answered a second.

    Args:
        port: Where to, on loopback.
        requests: The requests, whole; they are written to a file before the first is sent.
        answer: What each must be answered.
        connections: How many are open at once.

    Raises:
        RuntimeError: One was answered otherwise, or not at all.
    """
    if not shutil.which("wrk"):
        raise SystemExit("wrk is not installed (on Debian: apt install wrk)")
    number = 0
    with temporary_folder() as folder:
        with (folder / "requests").open("wb") as file:
            for one in requests:
                file.write(b"%08d%b" % (len(one), one))
                number += 1
        command = ["wrk", "-t1", f"-c{connections}", f"-d{LONGEST}s", "--timeout", f"{LONGEST}s"]
        command += ["-s", str(Path(__file__).with_name("walk.lua")), f"http://127.0.0.1:{port}"]
        command += [
            "--",
            str(folder / "requests"),
            str(number),
            str(folder / "result"),
            str(answer.status),
            answer.part,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        result = (
            (folder / "result").read_text() if (folder / "result").exists() else done.stdout + done.stderr
        )
        if done.returncode != 0 or not (folder / "result").exists():
            raise RuntimeError(f"the round is invalid: {result.strip()}")
        return number / float(result)
