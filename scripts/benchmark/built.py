"""What a team would build: FastAPI with a queue, or Node-RED; the code is in ``teams/``.

All processes of one, its store among them, share the core of what is measured.
"""

import asyncio
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from scripts.benchmark.changes import SECRET, signed_requests
from scripts.benchmark.load import Answer
from scripts.benchmark.machine import SERVER_CORE
from scripts.benchmark.peers import TEAMS
from scripts.benchmark.processes import ROOT, Running, free_port, lives, running
from tests.postgres import PostgresServer

INSTALLED = Path("~/.cache/port-listener-bench").expanduser()
PIP = (
    "python3 -m venv {installed}/venv"
    " && {installed}/venv/bin/pip install -r scripts/benchmark/teams/requirements.txt"
)


@dataclass(frozen=True)
class Database:
    """A database that runs.

    Attributes:
        environment: What the others must know of it.
        processes: Its processes.
    """

    environment: dict[str, str] = field(default_factory=dict)
    processes: tuple[psutil.Process, ...] = ()


@dataclass
class Built:
    """A peer whose programs are in a folder of their own.

    Attributes:
        slack_url: The webhook.
        name: What it is called in the table.
        installed: The folder where its programs are.
        durable: Whether a change is on disk before its answer, and how.
        has_database: Whether its database is a process of its own.
        quiet_seconds: When nothing has come for so long, nothing comes any more.
    """

    slack_url: str
    name: str
    installed: Path = INSTALLED
    durable: str = "no"
    quiet_seconds: float = 20.0  # longer than the longest wait between two tries
    install: str = PIP
    answer = Answer(202, "service-")
    warm_up = 300
    module = ""
    has_database = False

    def requests(self, number: int, **options: int) -> Iterator[bytes]:
        """Yield so many different changes, signed now."""
        return signed_requests(number, **options)

    def taken(self, running: Running) -> tuple[int, ...]:  # noqa: ARG002 - the protocol's
        """It keeps no account."""
        return ()

    def __post_init__(self) -> None:
        self.install = self.install.format(installed=self.installed)

    @property
    def program(self) -> str:
        """What must be installed."""
        return str(self.installed / "venv/bin/uvicorn")

    @contextmanager
    def database(self, folder: Path) -> Iterator[Database]:  # noqa: ARG002 - the others'
        """Run its database, if that is a process of its own."""
        yield Database()

    @contextmanager
    def start(self, folder: Path, database: Database | None = None) -> Iterator[Running]:
        """Run its worker and its web server, in a folder.

        Args:
            folder: Where.
            database: One that runs, and is not theirs; by default it is started and ended with them.
        """
        with ExitStack() as stack:
            began = time.perf_counter()
            own = stack.enter_context(self.database(folder)) if database is None else Database()
            environment = {"PYTHONPATH": str(ROOT)} | (database or own).environment | self._secrets()
            worker = running(self._worker(), folder, port=0, ready=None, environment=environment)
            others = (stack.enter_context(worker).process, *own.processes)
            port, python = free_port(), self.installed / "venv/bin"
            command = [str(python / "uvicorn"), f"{self.module}:app", "--port", str(port), "--no-access-log"]
            web = stack.enter_context(
                running(command, folder, port=port, ready="/readyz", environment=environment)
            )
            yield replace(web, others=others, started=time.perf_counter() - began)

    def _secrets(self) -> dict[str, str]:
        return {"PORT_CLIENT_SECRET": SECRET, "SLACK_WEBHOOK_URL": self.slack_url}

    def _worker(self) -> list[str]:
        """Return the command of its worker."""
        raise NotImplementedError


@dataclass
class Arq(Built):
    """FastAPI and arq on Redis.

    Attributes:
        redis: Redis' options: by default it writes a snapshot now and then.
    """

    name: str = "FastAPI + arq on Redis"
    durable: str = "no: snapshots"
    quiet_seconds: float = 25.0  # a killed worker's jobs are free again after 20
    install: str = PIP + ", and apt install redis-server"
    redis: tuple[str, ...] = ()
    module = "scripts.benchmark.teams.on_arq"
    has_database = True

    @property
    def program(self) -> str:
        """What must be installed."""
        return super().program if shutil.which("redis-server") else "redis-server"

    @contextmanager
    def database(self, folder: Path) -> Iterator[Database]:
        """Run Redis."""
        port = free_port()
        command = [*f"redis-server --port {port} --bind 127.0.0.1 --dir .".split(), *self.redis]
        with running(command, folder, port=port, ready="") as redis:
            yield Database({"REDIS_URL": f"redis://127.0.0.1:{port}"}, (redis.process,))

    def _worker(self) -> list[str]:
        return [str(self.installed / "venv/bin/arq"), f"{self.module}.WorkerSettings"]


@dataclass
class ArqToDisk(Arq):
    """The same, with a Redis that writes each command to disk before it answers."""

    name: str = "FastAPI + arq on Redis, appendfsync always"
    durable: str = "yes"
    redis: tuple[str, ...] = ("--appendonly", "yes", "--appendfsync", "always")


@dataclass
class Huey(Built):
    """FastAPI and Huey on SQLite."""

    name: str = "FastAPI + Huey on SQLite, fsync"
    durable: str = "yes"
    module = "scripts.benchmark.teams.on_huey"

    def _worker(self) -> list[str]:
        consumer = str(self.installed / "venv/bin/huey_consumer")
        return [consumer, f"{self.module}.huey", "--workers", "10"]


@dataclass
class Procrastinate(Built):
    """FastAPI and procrastinate on PostgreSQL, which waits for the disk.

    Attributes:
        servers: The PostgreSQL of each folder; the same goes on when it is started there again.
    """

    name: str = "FastAPI + procrastinate on PostgreSQL"
    durable: str = "yes"
    quiet_seconds: float = 35.0  # a killed worker's jobs are taken up after 15 to 25
    servers: dict[Path, tuple[PostgresServer, str]] = field(default_factory=dict)
    module = "scripts.benchmark.teams.on_procrastinate"
    has_database = True

    @contextmanager
    def start(self, folder: Path, database: Database | None = None) -> Iterator[Running]:
        """Make the database first, if it is new: that is no part of a start."""
        self._make(folder)
        with super().start(folder, database) as web:
            yield web

    @contextmanager
    def database(self, folder: Path) -> Iterator[Database]:
        """Run PostgreSQL."""
        self._make(folder)
        server, url = self.servers[folder]
        # One that was killed leaves them; until somebody collects it, the next start would take it for alive.
        for lock in (server.data / "postmaster.pid", *server.folder.glob(".s.PGSQL.*.lock")):
            lock.unlink(missing_ok=True)
        server.start()
        postmaster = psutil.Process(int((server.data / "postmaster.pid").read_text().split()[0]))
        if SERVER_CORE is not None:
            for process in (postmaster, *postmaster.children()):
                process.cpu_affinity([SERVER_CORE])
        try:
            yield Database({"DATABASE_URL": url}, (postmaster,))
        finally:
            if lives(postmaster):
                server.stop()

    def _make(self, folder: Path) -> None:
        if folder in self.servers:
            return
        server = PostgresServer(fsync=True)
        server.make()
        try:
            url = asyncio.run(server.new_database())
            environment = {"PYTHONPATH": str(ROOT), "DATABASE_URL": url} | self._secrets()
            command = [*self._command(), "schema", "--apply"]
            subprocess.run(command, env=environment, check=True, capture_output=True)
        finally:
            server.stop()
        self.servers[folder] = server, url

    def _worker(self) -> list[str]:
        return [*self._command(), "worker"]

    def _command(self) -> list[str]:
        return [str(self.installed / "venv/bin/procrastinate"), "--app", f"{self.module}.queue"]

    def remove(self) -> None:
        """Remove the databases, which have ended."""
        for server, _ in self.servers.values():
            shutil.rmtree(server.folder, ignore_errors=True)
        self.servers.clear()


@dataclass
class NodeRed(Built):
    """Node-RED with a flow that answers, and sends at once."""

    name: str = "Node-RED"
    durable: str = "no: memory"
    install: str = "npm install --prefix {installed}/node-red node@24 node-red@5.0.7"

    @property
    def program(self) -> str:
        """What must be installed."""
        return str(self.installed / "node-red/node_modules/.bin/node-red")

    @contextmanager
    def start(self, folder: Path, database: Database | None = None) -> Iterator[Running]:  # noqa: ARG002
        """Run it, in a folder."""
        flow = json.loads((TEAMS / "flow.json").read_text())
        for node in flow:
            if node["type"] == "function":
                node["func"] = (TEAMS / node["func"]).read_text()
        (folder / "flow.json").write_text(json.dumps(flow))
        (folder / "settings.js").write_text("module.exports = {functionExternalModules: true};\n")
        bin_folder, port = self.installed / "node-red/node_modules/.bin", free_port()
        command = [str(bin_folder / "node"), str((bin_folder / "node-red").resolve())]
        command += f"--userDir . --settings settings.js --port {port} flow.json".split()
        with running(command, folder, port=port, ready="/readyz", environment=self._secrets()) as process:
            yield process
