"""Instructions of a change, by valgrind: what the clock of a shared machine cannot tell."""

import re
import shutil
import subprocess
from collections.abc import Iterator

from scripts.benchmark.listeners import Listener
from scripts.benchmark.load import walk
from scripts.benchmark.processes import Running, temporary_folder
from scripts.benchmark.slack import StandIn
from scripts.benchmark.table import Figure, say

VALGRIND = ("valgrind", "--tool=callgrind", "--instr-atstart=no", "--callgrind-out-file=callgrind.out")
WARM_UP = 64
LEFT = "what is left is spread: SQL takes some 400 thousand, deciding 300, parsing 200, each in small pieces."
NUMBER = 192


def counting(slack: StandIn) -> Iterator[Figure]:
    """Yield how many instructions it takes to accept a change over 32 connections.

    Without its delivery: valgrind makes all so slow that a digest would hold few. Once is enough: the same
    work takes the same number, but for some hundredths.
    """
    if not shutil.which(VALGRIND[0]):
        say("instructions are NOT counted: valgrind is not installed. To have it: apt install valgrind")
        return
    listener = Listener(slack.url, command=("serve", "--no-dispatch"), under=VALGRIND)
    with temporary_folder() as folder, listener.start(folder) as running:
        walk(running.port, listener.requests(WARM_UP), listener.answer)
        _control("--instr=on", running)
        walk(running.port, listener.requests(NUMBER), listener.answer)
        _control("--dump", running)
        text = "".join(file.read_text() for file in folder.glob("callgrind.out*"))
    total = sum(int(count) for count in re.findall(r"^summary: (\d+)", text, re.MULTILINE))
    what = "instructions of a change, without its delivery"
    yield Figure(what, "thousand", [total / NUMBER / 1000], below=1450, why=LEFT)


def _control(what: str, running: Running) -> None:
    command = ["/usr/bin/env", "callgrind_control", what, str(running.process.pid)]
    subprocess.run(command, check=True, capture_output=True)
