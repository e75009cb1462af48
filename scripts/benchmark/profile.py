"""Where the listener's time goes while it accepts: a flame graph and a list of functions, by py-spy."""

import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from scripts.benchmark.load import walk
from scripts.benchmark.processes import Running, temporary_folder
from scripts.benchmark.subjects import Subject

SAMPLES_A_SECOND = 100
SHOWN = 30


def profile(subject: Subject, graph: Path, seconds: float) -> None:
    """Give a subject load for so long, twice; write the flame graph, and print who took how much.

    Args:
        subject: What to profile.
        graph: The SVG file to write.
        seconds: For how long.
    """
    with temporary_folder() as folder:
        with subject.start(folder) as running:
            rate = walk(running.port, subject.requests(subject.warm_up), subject.answer)
            number = int(rate * seconds)
            for form, file in (("flamegraph", graph.resolve()), ("raw", folder / "stacks.txt")):
                _record(subject, running, number, form, file)
        print(f"{graph}: {number} changes, {SAMPLES_A_SECOND} samples a second", end="\n\n")
        _print_costs((folder / "stacks.txt").read_text())


def _record(subject: Subject, running: Running, number: int, form: str, file: Path) -> None:
    requests = list(subject.requests(number))
    command = [str(Path(sys.executable).with_name("py-spy")), "record", "--pid", str(running.process.pid)]
    command += ["--format", form, "--function", "--threads", "--nonblocking", "--rate", str(SAMPLES_A_SECOND)]
    spy = subprocess.Popen(
        [*command, "--output", str(file)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    time.sleep(0.3)
    try:
        walk(running.port, requests, subject.answer)
    finally:
        spy.send_signal(signal.SIGINT)  # it writes what it has
        said, _ = spy.communicate(timeout=30)
    if not file.exists():
        raise RuntimeError(f"py-spy: {said.decode().strip()}")


def _print_costs(stacks: str) -> None:
    """Print in which functions the samples were, themselves and with what they called."""
    own, whole = Counter[str](), Counter[str]()
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        own[frames[-1]] += int(count)
        for frame in set(frames):
            whole[frame] += int(count)
    print("   own   with what it calls")
    for frame, number in own.most_common(SHOWN):
        print(f"{number / own.total():6.1%}   {whole[frame] / own.total():6.1%}   {frame}")
    print("\n  with what it calls, own")
    for frame, number in whole.most_common(SHOWN * 2):
        print(f"{number / own.total():6.1%}   {own[frame] / own.total():6.1%}   {frame}")
