"""What is measured: the listener, and its peers with their commands and configuration."""

import hashlib
import hmac
import itertools
import json
import re
import shutil
import sqlite3
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from scripts.benchmark.changes import SECRET, bodies, request, signed_requests
from scripts.benchmark.load import Answer
from scripts.benchmark.processes import Running, free_port, running

ROOT = Path(__file__).resolve().parents[2]
BLUEPRINTS = 50
_ALERTS = itertools.count()


class Subject(Protocol):
    """Something that takes POSTs.

    Attributes:
        name: What it is called in the table.
        answer: What it answers to what it has taken.
    """

    name: str
    answer: Answer

    def start(self, folder: Path) -> AbstractContextManager[Running]:
        """Run it, in a folder."""
        ...

    def requests(self, number: int) -> Iterator[bytes]:
        """Yield so many different requests."""
        ...

    def taken(self, running: Running) -> int | None:
        """Return how many it has taken, by its own account; None: it has none."""
        ...


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


@dataclass
class Listener:
    """This project's listener, as a user has it: the settings' defaults, rules, and one Slack webhook.

    Attributes:
        slack_url: The webhook.
        name: What it is called in the table.
        rules: The rules file's text.
        command: The command, with its options.
        settings: Further environment variables.
    """

    slack_url: str
    name: str = "the listener"
    rules: str = field(default_factory=lambda: rules(10))
    command: tuple[str, ...] = ("serve",)
    settings: dict[str, str] = field(default_factory=dict)
    answer = Answer(202, '"duplicate":false')

    def start(self, folder: Path) -> AbstractContextManager[Running]:
        """Run it, in a folder."""
        (folder / "rules.yaml").write_text(self.rules)
        environment = {
            "PYTHONPATH": str(ROOT),
            "PORT_CLIENT_SECRET": SECRET,
            "SLACK_WEBHOOK_URL": self.slack_url,
            "RULES_FILE": "rules.yaml",
        }
        port = free_port()
        command = [sys.executable, "-m", "app", *self.command, "--port", str(port)]
        return running(command, folder, port=port, ready="/readyz", environment=environment | self.settings)

    def requests(self, number: int) -> Iterator[bytes]:
        """Yield so many different changes, signed now."""
        return signed_requests(number)

    def taken(self, running: Running) -> int:
        """Return how many changes are stored, each with an alert."""
        with closing(sqlite3.connect(running.folder / "data/listener.db")) as database:
            ((changes,),) = database.execute("SELECT count(*) FROM changes")
            ((alerts,),) = database.execute("SELECT count(*) FROM deliveries")
        return int(min(changes, alerts))


@dataclass
class Bare:
    """A bare FastAPI route in the same uvicorn: verifies the HMAC, parses the JSON, and no more."""

    name: str = "a bare FastAPI route"
    answer = Answer(202, "service-")

    def start(self, folder: Path) -> AbstractContextManager[Running]:
        """Run it, in a folder."""
        port = free_port()
        command = [sys.executable, "-m", "scripts.benchmark.bare", str(port)]
        return running(command, folder, port=port, ready="/readyz", environment={"PYTHONPATH": str(ROOT)})

    def requests(self, number: int) -> Iterator[bytes]:
        """Yield so many different changes, signed now."""
        return signed_requests(number)

    def taken(self, running: Running) -> None:
        """It keeps no account."""


@dataclass
class Alertmanager:
    """Prometheus' Alertmanager (Debian's package), which takes alerts into memory."""

    name: str = "Alertmanager"
    answer = Answer(200)
    program = "prometheus-alertmanager"
    configuration = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"

    def start(self, folder: Path) -> AbstractContextManager[Running]:
        """Run it, in a folder."""
        port = free_port()
        (folder / "alertmanager.yml").write_text(self.configuration)
        command = [self.program, "--config.file=alertmanager.yml", "--storage.path=data"]
        command += ["--cluster.listen-address=", f"--web.listen-address=127.0.0.1:{port}"]
        return running(command, folder, port=port, ready="/-/ready", environment={"GOMAXPROCS": "1"})

    def requests(self, number: int) -> Iterator[bytes]:
        """Yield so many alerts of 1.5 kB, each with labels of its own."""
        start = datetime.now(UTC)
        for one in range(number):
            alert = {
                "labels": {
                    "alertname": "HealthStatusChanged",
                    "blueprint": "deploymentConfig",
                    "entity": f"service-{next(_ALERTS):07}",
                    "healthStatus": "Degraded",
                    "team": "Rocket",
                },
                "annotations": {"description": "before and after " * 70, "actor": "ada@example.com"},
                "startsAt": (start + timedelta(milliseconds=one)).isoformat(timespec="milliseconds"),
            }
            yield request("/api/v2/alerts", json.dumps([alert]).encode())

    def taken(self, running: Running) -> int:
        """Return how many alerts it has received."""
        with urllib.request.urlopen(f"http://127.0.0.1:{running.port}/metrics") as answer:
            text = answer.read().decode()
        found = re.findall(
            r'^alertmanager_alerts_received_total\{.*version="v2"\} (\S+)$', text, re.MULTILINE
        )
        return int(sum(map(float, found)))


@dataclass
class Webhook:
    """adnanh/webhook (Debian's package), which verifies the HMAC and starts a command."""

    name: str = "adnanh/webhook"
    answer = Answer(200, "it runs")
    program = "webhook"

    def start(self, folder: Path) -> AbstractContextManager[Running]:
        """Run it, in a folder."""
        port = free_port()
        signature = {"type": "payload-hmac-sha256", "secret": SECRET}
        rule = {"match": signature | {"parameter": {"source": "header", "name": "X-Signature"}}}
        hook = {
            "id": "change",
            "execute-command": "/bin/true",
            "response-message": "it runs",
            "trigger-rule": rule,
        }
        (folder / "hooks.json").write_text(json.dumps([hook]))
        command = [self.program, "-hooks", "hooks.json", "-ip", "127.0.0.1", "-port", str(port)]
        return running(command, folder, port=port, ready="/", environment={"GOMAXPROCS": "1"})

    def requests(self, number: int) -> Iterator[bytes]:
        """Yield so many different changes, signed as it takes them."""
        for body in bodies(number):
            signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
            yield request("/hooks/change", body, {"X-Signature": f"sha256={signature}"})

    def taken(self, running: Running) -> None:
        """It keeps no account."""


def missing(subject: Subject) -> str | None:
    """Return the program that is not installed, if one is needed."""
    program = getattr(subject, "program", None)
    return program if program and not shutil.which(program) else None
