"""The machine: one core for what is measured, another for the load; and what it is."""

import os
import platform
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import psutil

from tests.postgres import VERSION as POSTGRES

_CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
SERVER_CORE = _CORES[0] if len(_CORES) > 1 and shutil.which("taskset") else None
LOAD_CORE = _CORES[1] if SERVER_CORE is not None else None
LOOK_SECONDS = 0.2
BUSY = 0.1
"""Where others take so much of the machine, the figures say little."""
_OTHERS: list[float] = []
PACKAGES = ("fastapi", "uvicorn", "uvloop", "httptools", "h11", "pydantic")
PROGRAMS = {
    "wrk": ["wrk", "-v"],
    "Redis": ["redis-server", "--version"],
    "Alertmanager": ["prometheus-alertmanager", "--version"],
    "adnanh/webhook": ["webhook", "-version"],
}


def on_server_core(*command: str, both: bool = False) -> list[str]:
    """Return the command that runs another on the core of what is measured, or on that and the load's."""
    if SERVER_CORE is None:
        return list(command)
    return ["taskset", "-c", f"{SERVER_CORE},{LOAD_CORE}" if both else str(SERVER_CORE), *command]


def take_load_core() -> None:
    """Move this process, and what it starts, to the core of the load."""
    if LOAD_CORE is not None:
        os.sched_setaffinity(0, {LOAD_CORE})


def look() -> None:
    """Look how busy other programs keep the machine, while this run has nothing to do."""
    _OTHERS.append(psutil.cpu_percent(LOOK_SECONDS) / 100)


def others(shares: Sequence[float] = _OTHERS) -> str:
    """Return how busy other programs were, as the end of a sentence; empty: nobody has looked.

    Args:
        shares: What each look has seen of the machine, of 1; by default those of this run.
    """
    if not shares:
        return ""
    share, least, most = statistics.median(shares), min(shares), max(shares)
    text = f", while other programs took {share:.0%} of the machine (from {least:.0%} to {most:.0%})"
    return text if share < BUSY else f"{text}; **to be measured again**"


def interpreter() -> str:
    """Return which Python this is: one built with optimization takes a sixth less than one without."""
    systems = sys.base_prefix in ("/usr", "/usr/local")
    return f"Python {platform.python_version()}, {'of the system' if systems else 'built apart'}"


def describe() -> list[str]:
    """Return what the machine is, and the versions of what is measured, a line each."""
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    programs = [f"{name}: {_says(command)}" for name, command in PROGRAMS.items() if shutil.which(command[0])]
    cpu, memory = _first("/proc/cpuinfo", "model name"), _first("/proc/meminfo", "MemTotal").split()[0]
    gigabytes = f"{int(memory) / 2**20:.0f} GiB" if memory.isdecimal() else memory
    return [
        f"{cpu}, {os.cpu_count()} cores, {gigabytes} of memory, {platform.system()} {platform.release()}",
        f"the stores are on {_disk()}",
        _pinned(),
        f"{interpreter()}, {packages}",
        f"SQLite {sqlite3.sqlite_version}, PostgreSQL {POSTGRES}",
        *programs,
    ]


def _pinned() -> str:
    if SERVER_CORE is None:
        return "nothing is pinned to a core"
    return f"what is measured has core {SERVER_CORE}, the load core {LOAD_CORE}"


def _first(file: str, name: str) -> str:
    """Return the first value of that name in a file of /proc."""
    try:
        lines = Path(file).read_text().splitlines()
    except OSError:
        return "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "unknown")


def _disk() -> str:
    command = ["df", "--output=source,fstype", tempfile.gettempdir()]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return " ".join(said.splitlines()[-1].split()) if said else "an unknown disk"


def _says(command: list[str]) -> str:
    """Return the first line of what a program says of itself."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).splitlines()[0].partition(" (branch")[0].partition(" Copyright")[0]
