"""The real listener as a process of its own."""

import asyncio
import itertools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any

import httpx

from app.cli import main
from app.demo.run import change_body, signed_headers
from app.model.delivery import State
from app.store import queries
from app.store.opening import open_store
from app.web.api.models import DeliveryOut
from tests.conftest import NO_TLS, SECRET, count, rules_with_rate
from tests.forking import AT_THE_START, ForkedProgram
from tests.waiting import until

app_main = partial(main, program="python -m app")
APP = (sys.executable, "-m", "app")
SERVE = (*APP, "serve", "--dispatch", "here")
"""One process: a second one takes a second of CPU to start."""
UVICORN = (sys.executable, "-m", "uvicorn", "app.main:app", "--workers", "2")
ROOT = Path(__file__).parents[2]
MOST_DELIVERIES = 100_000


# Below what the system gives out by itself, and for each process of the tests others: whoever took a port
# that another listener is about to take would be answered by that one.
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_PORTS = itertools.cycle(range(20_000 + 1_000 * _WORKER, 21_000 + 1_000 * _WORKER))


def free_port() -> int:
    """Return a port that nobody listens on."""
    for port in _PORTS:
        with closing(socket.socket()) as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("the ports go round for ever")


class Listener:
    """A listener process with a data folder, which can be killed and started again.

    Args:
        folder: Its working directory.
        slack_url: The webhook's address.
        settings: Further environment variables; without a RULES_FILE the built-in rule holds.
        command: What to start; `--port` is added. APP is forked from a process that has imported it.
        anew: Whether APP is started as a person would, which takes a second.
        rate: How many messages a second the default destination takes, without a RULES_FILE.
    """

    def __init__(
        self,
        folder: Path,
        slack_url: str,
        *,
        command: Sequence[str] = SERVE,
        rate: float = 1000,
        anew: bool = False,
        **settings: str,
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        if "RULES_FILE" not in settings:
            settings["RULES_FILE"] = str(rules_with_rate(folder, slack_url, rate))
        self.command = [*command, "--port", str(self.port)]
        self.environment = (
            {name: value for name, value in os.environ.items() if not name.startswith(("PORT_", "SLACK_"))}
            | {
                "PYTHONPATH": str(ROOT),
                "PORT_CLIENT_SECRET": SECRET,
                "SLACK_WEBHOOK_URL": slack_url,
                "LOG_LEVEL": "DEBUG",
            }
            | settings
        )
        self.log = folder / "log.txt"
        self.process: subprocess.Popen[bytes] | ForkedProgram | None = None
        self._anew = anew

    @property
    def database_url(self) -> str:
        """Where it stores."""
        return self.environment.get("DATABASE_URL", f"sqlite:///{self.folder}/data/listener.db")

    async def start(self) -> None:
        """Start it, and return when it is ready."""
        self.process = self._run(self.command, self.environment, self.log)

        async def ready() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, self.log.read_text()
            try:
                return (await client.get(f"{self.url}/readyz")).status_code == 200
            except httpx.TransportError:
                return False

        async with httpx.AsyncClient(verify=NO_TLS) as client:
            await until(ready)

    def _run(
        self, command: Sequence[str], environment: dict[str, str], output: Path
    ) -> subprocess.Popen[bytes] | ForkedProgram:
        other_program = tuple(command[:3]) != APP or environment["PYTHONPATH"] != str(ROOT)
        if self._anew or other_program or AT_THE_START & environment.keys():
            with output.open("ab") as file:
                return subprocess.Popen(command, cwd=self.folder, env=environment, stdout=file, stderr=file)
        return ForkedProgram(
            app_main, command[3:], folder=self.folder, environment=environment, output=output
        )

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send it a signal, wait for its end, and return its exit status."""
        assert self.process is not None
        self.send_signal(number)
        return await asyncio.to_thread(self.process.wait, 30)

    async def command_line(self, *arguments: str) -> str:
        """Run another command with the same settings, and return what it prints."""
        output = self.folder / f"command-{token_hex(4)}.txt"
        process = self._run((*APP, *arguments), self.environment | {"COLUMNS": "200"}, output)
        await asyncio.to_thread(process.wait)
        return output.read_text()

    async def deliveries(self) -> list[DeliveryOut]:
        """Return the deliveries in its database, as the API shows them, oldest first."""
        async with open_store(self.database_url, must_exist=True) as store:
            page = await store.read(queries.page.deliveries, state=None, before=None, limit=MOST_DELIVERIES)
            attempts = await store.read(queries.page.attempts, [row.id for row in page.rows])
        return [DeliveryOut.of(row, attempts) for row in reversed(page.rows)]

    async def count(self, state: State) -> int:
        """Return how many alerts are in a state."""
        async with open_store(self.database_url, must_exist=True) as store:
            return await count(store, state)


async def post_change(
    client: httpx.AsyncClient, entity: str, after: str = "Degraded", before: str = "Healthy"
) -> httpx.Response:
    """Post a signed change of an entity that happens now."""
    now = datetime.now(UTC)
    body = change_body(before=before, after=after, at=now, entity=entity, title=f"Title of {entity}")
    return await client.post("/api/slack", content=body, headers=signed_headers(body, SECRET, now))


@asynccontextmanager
async def listening(folder: Path, slack_url: str, **options: Any) -> AsyncIterator[Listener]:
    """Run a listener, end it, and make sure that nothing secret and no payload is in its log."""
    listener = Listener(folder, slack_url, **options)
    await listener.start()
    try:
        yield listener
    finally:
        if listener.process is not None and listener.process.poll() is None:
            await listener.stop()
    log = listener.log.read_text()
    for hidden in (SECRET, "very-secret-token", "prometheus.io", "memoryUtil", "Title of", "v1,"):
        assert hidden not in log
