"""Instructions of a change, by valgrind: what the clock of a shared machine cannot tell."""

import re
import shutil
import subprocess
from collections.abc import Iterator

from scripts.benchmark.listeners import Listener
from scripts.benchmark.load import walk
from scripts.benchmark.processes import temporary_folder
from scripts.benchmark.slack import StandIn
from scripts.benchmark.table import Figure, say

VALGRIND = ("valgrind", "--tool=callgrind", "--instr-atstart=no", "--callgrind-out-file=callgrind.out")
WARM_UP = 64
NUMBER = 192


def counting(slack: StandIn) -> Iterator[Figure]:
    """Yield how many instructions a change takes over 32 connections, its delivery included.

    Once is enough: the same work takes the same number, but for some hundredths.
    """
    if not shutil.which(VALGRIND[0]):
        say("instructions are NOT counted: valgrind is not installed. To have it: apt install valgrind")
        return
    listener = Listener(slack.url, under=VALGRIND)
    with temporary_folder() as folder:
        with listener.start(folder) as running:
            walk(running.port, listener.requests(WARM_UP), listener.answer)
            control = ["callgrind_control", "--instr=on", str(running.process.pid)]
            subprocess.run(control, check=True, capture_output=True)
            walk(running.port, listener.requests(NUMBER), listener.answer)
            while listener.pending(running):
                slack.wait_for(len(slack.received) + 1)
        text = (folder / "callgrind.out").read_text()  # it writes it when it ends
    total = sum(int(count) for count in re.findall(r"^summary: (\d+)", text, re.MULTILINE))
    yield Figure("instructions of a change", "thousand", [total / NUMBER / 1000], below=1450)
