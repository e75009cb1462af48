"""Programs that are measured: started on their core, asked until they answer, ended."""

import http.client
import itertools
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from scripts.benchmark.machine import on_server_core

ROOT = Path(__file__).resolve().parents[2]
# Below what the system gives out by itself, and others for each run.
_PORTS = itertools.cycle(range(21_000 + os.getpid() % 100 * 100, 21_100 + os.getpid() % 100 * 100))
PATIENCE = 60.0


@dataclass(frozen=True)
class Running:
    """A program that runs.

    Attributes:
        process: Its process.
        port: Where it listens, on loopback.
        folder: Its working directory, with its `log.txt`.
        started: How many seconds it took from its start to its first good answer.
        others: Further processes that it needs: a worker, a store.
    """

    process: psutil.Process
    port: int
    folder: Path
    started: float
    others: tuple[psutil.Process, ...] = ()

    def cpu_seconds(self) -> float:
        """Return how much CPU it, and what it has started, has used."""
        used = 0.0
        for one in self._family():
            with suppress(psutil.NoSuchProcess):
                times = one.cpu_times()
                used += times.user + times.system + times.children_user + times.children_system
        return used

    def resident_bytes(self) -> int:
        """Return how much memory it, and what it has started, holds."""
        return sum(one.memory_info().rss for one in self._family())

    def proportional_bytes(self) -> int:
        """Return how much memory all of them hold; what several of them share counts once."""
        return sum(one.memory_full_info().pss for one in self._family())

    def kill(self) -> None:
        """End it, and what it has started, with SIGKILL; return when all of them are dead.

        Raises:
            RuntimeError: One does not die.
        """
        for process in (self.process, *self.others):
            process.suspend()  # it starts nothing more while what it has started is counted
        family, end = self._family(), time.monotonic() + PATIENCE
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        while alive := [process for process in family if lives(process)]:
            if time.monotonic() > end:
                raise RuntimeError(f"killed, but alive: {alive}")
            time.sleep(0.01)

    def _family(self) -> list[psutil.Process]:
        parents = (self.process, *self.others)
        return [process for one in parents for process in (one, *one.children(recursive=True))]


def lives(process: psutil.Process) -> bool:
    """Return whether a process has not ended; one that has stays a zombie until its parent collects it."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def free_port() -> int:
    """Return a port that nobody listens on."""
    for port in _PORTS:
        with closing(socket.socket()) as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("the ports go round for ever")


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Give a folder that goes away again."""
    with tempfile.TemporaryDirectory(prefix="port-listener-bench-") as name:
        yield Path(name)


@contextmanager
def running(
    command: Sequence[str],
    folder: Path,
    *,
    port: int,
    ready: str | None,
    environment: Mapping[str, str] | None = None,
    patience: float = PATIENCE,
    both_cores: bool = False,
) -> Iterator[Running]:
    """Run a program on its core, and end it.

    Args:
        command: What to run.
        folder: Its working directory; its output goes into `log.txt` there.
        port: Where it will listen.
        ready: The path that answers 200 when it is ready; empty: it is when it listens; None: nobody waits.
        environment: Its environment, beside PATH.
        patience: How many seconds it may take.
        both_cores: Whether it may use the core of the load, too.
    """
    surroundings = {"PATH": os.environ["PATH"], "HOME": str(folder)} | dict(environment or {})
    with (folder / "log.txt").open("ab") as log:
        began = time.perf_counter()
        process = psutil.Popen(
            on_server_core(*command, both=both_cores),
            cwd=folder,
            env=surroundings,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        while ready is not None and not _answers(port, ready):
            if process.poll() is not None or time.perf_counter() > began + patience:
                raise RuntimeError(f"{command[0]} does not run:\n{(folder / 'log.txt').read_text()[-2000:]}")
            time.sleep(0.005)
        yield Running(process, port, folder, time.perf_counter() - began)
    finally:
        with suppress(psutil.NoSuchProcess):  # it has ended by itself, which was said above
            process.terminate()
        try:
            process.wait(20)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(port: int, path: str) -> bool:
    if not path:
        with closing(socket.socket()) as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection, suppress(OSError):
        connection.request("GET", path)
        return connection.getresponse().status == 200
    return False
