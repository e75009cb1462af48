"""Instructions of a change, by valgrind: what a shared machine's clock cannot tell."""

import re
import shutil
import subprocess
from collections.abc import Iterator

from scripts.benchmark.listeners import Listener
from scripts.benchmark.load import walk
from scripts.benchmark.processes import temporary_folder
from scripts.benchmark.table import Figure, say

VALGRIND = ("valgrind", "--tool=callgrind", "--instr-atstart=no", "--callgrind-out-file=callgrind.out")
NUMBER = 600
GOAL = 1450.0


def counting(listener: Listener) -> Iterator[Figure]:
    """Yield how many instructions a change takes over 32 connections, its delivery included.

    Once is enough: the same work takes the same number, within some hundredths.
    """
    if not shutil.which("valgrind"):
        say("instructions are NOT counted: valgrind is not installed. To have it: apt install valgrind")
        return
    with temporary_folder() as folder, listener.start(folder) as running:
        walk(running.port, listener.requests(listener.warm_up), listener.answer)
        (process,) = (one for one in (running.process,) if one.is_running())
        _control(process.pid, "--instr=on")
        walk(running.port, listener.requests(NUMBER), listener.answer)
        _control(process.pid, "--dump")
        text = "".join(file.read_text() for file in folder.glob("callgrind.out*"))
    total = sum(int(count) for count in re.findall(r"^(?:summary|totals): (\d+)", text, re.MULTILINE))
    yield Figure("instructions of a change", "thousand", [total / NUMBER / 1000], below=GOAL)


def _control(pid: int, *options: str) -> None:
    subprocess.run(["callgrind_control", *options, str(pid)], check=True, capture_output=True)
