"""The listener, as it is measured: on SQLite or PostgreSQL, with few rules or many, empty or full."""

import asyncio
import json
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.benchmark.changes import SECRET, signed_requests
from scripts.benchmark.load import Answer
from scripts.benchmark.processes import PATIENCE, ROOT, Running, free_port, running
from tests.postgres import PostgresServer

BLUEPRINTS = 50
UNDER_PATIENCE = 180.0
"""As long may a start under another program take: under valgrind all takes some fifty times as long."""
PENDING = "SELECT count(*) FROM deliveries WHERE state = 'pending'"
COUNT = "SELECT (SELECT count(*) FROM changes), (SELECT count(*) FROM deliveries)"


def rules(number: int) -> str:
    """Return a rules file of so many rules over 50 blueprints, of which one alerts of the changes."""
    health = {"property": "healthStatus"}
    listed: list[dict[str, object]] = [
        {
            "name": "health",
            "blueprint": "deploymentConfig",
            "when": health,
            "resolve": health | {"to": "Healthy"},
        }
    ]
    listed += [
        {
            "name": f"rule-{one}",
            "blueprint": f"blueprint{one % (BLUEPRINTS - 1)}" if one % BLUEPRINTS else "deploymentConfig",
            "when": {"property": f"property{one}", "above": one},
        }
        for one in range(number - 1)
    ]
    return json.dumps({"version": 1, "rules": listed})


def by_team(slack_url: str, channels: int) -> str:
    """Return a rules file by which each of so many teams has a channel of its own."""
    names = [f"team{one}" for one in range(channels)]
    rule = {
        "name": "health",
        "blueprint": "deploymentConfig",
        "when": {"property": "healthStatus"},
        "send": {"by_team": {name: name for name in names}, "default": names[0]},
    }
    destinations = {name: {"type": "slack", "webhook_url": f"{slack_url}/{name}"} for name in names}
    return json.dumps({"version": 1, "destinations": destinations, "rules": [rule]})


@dataclass
class Listener:
    """This project's listener, as a user has it: the settings' defaults, rules, and one Slack webhook.

    Attributes:
        slack_url: The webhook.
        name: What it is called in the table.
        rules: The rules file's text.
        command: The command, with its options.
        database: A SQLite file to go on with; by default a new one.
        environment: Further settings.
        root: The folder with its code: this one, or that of another commit.
        python: The interpreter, with its libraries.
        under: A program that runs it, with its options.
        both_cores: Whether it may use the core of the load, too.
    """

    slack_url: str
    name: str = "the listener"
    rules: str = field(default_factory=lambda: rules(10))
    command: tuple[str, ...] = ("serve",)
    database: Path | None = None
    environment: dict[str, str] = field(default_factory=dict)
    root: Path = ROOT
    python: str = sys.executable
    under: tuple[str, ...] = ()
    both_cores: bool = False
    answer = Answer(202, '"duplicate":false')
    warm_up = 300

    def start(self, folder: Path) -> AbstractContextManager[Running]:
        """Run it, in a folder."""
        return self._start(folder, f"sqlite:///{self._path(folder)}")

    def _start(self, folder: Path, database_url: str) -> AbstractContextManager[Running]:
        (folder / "rules.yaml").write_text(self.rules)
        environment = {
            "PYTHONPATH": str(self.root),
            "PORT_CLIENT_SECRET": SECRET,
            "SLACK_WEBHOOK_URL": self.slack_url,
            "RULES_FILE": "rules.yaml",
            "DATABASE_URL": database_url,
        } | self.environment
        port = free_port()
        command = [*self.under, self.python, "-m", "app", *self.command, "--port", str(port)]
        patience = UNDER_PATIENCE if self.under else PATIENCE
        return running(
            command,
            folder,
            port=port,
            ready="/readyz",
            environment=environment,
            patience=patience,
            both_cores=self.both_cores,
        )

    def _path(self, folder: Path) -> Path:
        return self.database or folder / "listener.db"

    def requests(self, number: int, **options: Any) -> Iterator[bytes]:
        """Yield so many different changes, signed now."""
        return signed_requests(number, **options)

    def taken(self, running: Running) -> tuple[int, ...]:
        """Return how many changes are stored, and how many alerts."""
        return self._ask(running, COUNT)

    def pending(self, running: Running) -> int:
        """Return how many alerts are not delivered yet."""
        return self._ask(running, PENDING)[0]

    def _ask(self, running: Running, statement: str) -> tuple[int, ...]:
        with closing(sqlite3.connect(self._path(running.folder))) as database:
            return tuple(database.execute(statement).fetchone())


@dataclass
class ListenerOnPostgres(Listener):
    """The listener with a new database in PostgreSQL.

    Attributes:
        server: The server.
        url: The newest database.
    """

    server: PostgresServer = field(kw_only=True)
    url: str = ""

    def start(self, folder: Path) -> AbstractContextManager[Running]:
        """Run it, in a folder."""
        self.url = asyncio.run(self.server.new_database())
        return self._start(folder, self.url)

    def taken(self, running: Running) -> tuple[int, ...]:  # noqa: ARG002 - the protocol's
        """Return how many changes are stored, and how many alerts."""
        (row,) = asyncio.run(self.server.execute(COUNT, self.url))
        return tuple(row)


@contextmanager
def postgres() -> Iterator[PostgresServer]:
    """Run a PostgreSQL that waits for the disk, on the core of the load: in earnest it is another machine."""
    server = PostgresServer(fsync=True)
    try:
        server.make()
        yield server
    finally:
        server.remove()
