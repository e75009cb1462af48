"""The machine: one core for what is measured, another for the load."""

import os
import shutil

_CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
SERVER_CORE = _CORES[0] if len(_CORES) > 1 and shutil.which("taskset") else None
LOAD_CORE = _CORES[1] if SERVER_CORE is not None else None


def on_server_core(*command: str) -> list[str]:
    """Return the command that runs another on the core of what is measured."""
    return list(command) if SERVER_CORE is None else ["taskset", "-c", str(SERVER_CORE), *command]


def take_load_core() -> None:
    """Move this process, and what it starts, to the core of the load."""
    if LOAD_CORE is not None:
        os.sched_setaffinity(0, {LOAD_CORE})
