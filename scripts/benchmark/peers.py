"""What the listener is compared with: commands and configuration, so that anybody can repeat it.

``built`` has the others that a team would build: FastAPI with a queue.
"""

import hashlib
import hmac
import itertools
import json
import re
import shutil
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from scripts.benchmark.changes import SECRET, bodies, request, signed_requests
from scripts.benchmark.load import Answer
from scripts.benchmark.processes import ROOT, Running, free_port, running
from scripts.benchmark.subjects import Subject

_ALERTS = itertools.count()
TEAMS = Path(__file__).with_name("teams")
_EVENT = "event.diff.{}.properties.healthStatus"
ARGUMENTS = (_EVENT.format("before"), _EVENT.format("after"), "event.context.entityIdentifier")


@dataclass
class Bare:
    """A bare FastAPI route in the same uvicorn: verifies the HMAC, parses the JSON, and no more.

    Attributes:
        name: What it is called in the table.
        parser: Who reads HTTP: `ours`, the listener's own protocol class, or uvicorn's with `h11`.
    """

    name: str = "a bare FastAPI route"
    parser: str = "ours"
    answer = Answer(202, "service-")
    warm_up = 300

    def start(self, folder: Path) -> AbstractContextManager[Running]:
        """Run it, in a folder."""
        port = free_port()
        command = [sys.executable, "-m", "scripts.benchmark.bare", str(port), self.parser]
        return running(command, folder, port=port, ready="/readyz", environment={"PYTHONPATH": str(ROOT)})

    def requests(self, number: int) -> Iterator[bytes]:
        """Yield so many different changes, signed now."""
        return signed_requests(number)

    def taken(self, running: Running) -> tuple[int, ...]:  # noqa: ARG002 - the protocol's
        """It keeps no account."""
        return ()


@dataclass
class Tutorial:
    """What Port's tutorial has people write: verify, parse, send to Slack in the request.

    Attributes:
        slack_url: The webhook.
        name: What it is called in the table.
    """

    slack_url: str
    name: str = "the tutorial's listener"
    answer = Answer(202, "service-")
    warm_up = 4

    def start(self, folder: Path) -> AbstractContextManager[Running]:
        """Run it, in a folder."""
        port = free_port()
        environment = {"PYTHONPATH": str(ROOT), "SLACK_WEBHOOK_URL": self.slack_url}
        command = [sys.executable, "-m", "scripts.benchmark.tutorial", str(port)]
        return running(command, folder, port=port, ready="/readyz", environment=environment)

    def requests(self, number: int) -> Iterator[bytes]:
        """Yield so many different changes, signed now."""
        return signed_requests(number)

    def taken(self, running: Running) -> tuple[int, ...]:  # noqa: ARG002 - the protocol's
        """It keeps no account."""
        return ()


@dataclass
class Alertmanager:
    """Prometheus' Alertmanager (Debian's package): takes alerts into memory, and tells Slack of each entity.

    Attributes:
        slack_url: The webhook; empty: nobody hears of them.
        name: What it is called in the table.
    """

    slack_url: str = ""
    name: str = "Alertmanager"
    answer = Answer(200)
    warm_up = 300
    durable = "no: memory"
    program = "prometheus-alertmanager"
    install = "apt install prometheus-alertmanager, or scripts/bench, which fetches it"
    quiet_seconds = 12.0

    @property
    def configuration(self) -> str:
        """Its `alertmanager.yml`: a message for each entity, which names it."""
        route = {"receiver": "team", "group_by": ["entity"], "group_wait": "1s", "group_interval": "5s"}
        text = "{{ .CommonLabels.entity }}: healthStatus {{ .CommonLabels.healthStatus }}"
        slack = {"api_url": self.slack_url, "channel": "#health", "title": "", "text": text}
        receiver = {
            "name": "team",
            "slack_configs": [slack | {"send_resolved": False}] if self.slack_url else [],
        }
        return json.dumps({"route": route, "receivers": [receiver]})

    def start(self, folder: Path) -> AbstractContextManager[Running]:
        """Run it, in a folder."""
        port = free_port()
        (folder / "alertmanager.yml").write_text(self.configuration)
        command = [self.program, "--config.file=alertmanager.yml", "--storage.path=data"]
        command += ["--cluster.listen-address=", f"--web.listen-address=127.0.0.1:{port}"]
        return running(command, folder, port=port, ready="/-/ready", environment={"GOMAXPROCS": "1"})

    def requests(self, number: int, **_: int) -> Iterator[bytes]:
        """Yield so many alerts of 1.5 kB, each with labels of its own."""
        start = datetime.now(UTC)
        for one in range(number):
            alert = {
                "labels": {
                    "alertname": "HealthStatusChanged",
                    "blueprint": "deploymentConfig",
                    "entity": f"service-0-0-{next(_ALERTS):07}",
                    "healthStatus": "Degraded",
                    "team": "Rocket",
                },
                "annotations": {"description": "before and after " * 70, "actor": "ada@example.com"},
                "startsAt": (start + timedelta(milliseconds=one)).isoformat(timespec="milliseconds"),
            }
            yield request("/api/v2/alerts", json.dumps([alert]).encode())

    def taken(self, running: Running) -> tuple[int, ...]:
        """Return how many alerts it has received."""
        with urllib.request.urlopen(f"http://127.0.0.1:{running.port}/metrics") as answer:
            text = answer.read().decode()
        found = re.findall(
            r'^alertmanager_alerts_received_total\{.*version="v2"\} (\S+)$', text, re.MULTILINE
        )
        return (int(sum(map(float, found))),)


@dataclass
class Webhook:
    """adnanh/webhook (Debian's package), which verifies the HMAC and starts a command.

    Attributes:
        slack_url: Where the command posts to (`teams/hook.sh`); empty: it is `/bin/true`.
        name: What it is called in the table.
    """

    slack_url: str = ""
    name: str = "adnanh/webhook"
    answer = Answer(200, "it runs")
    warm_up = 50
    durable = "no: processes"
    program = "webhook"
    install = "apt install webhook, or scripts/bench, which fetches it"
    quiet_seconds = 20.0

    def start(self, folder: Path) -> AbstractContextManager[Running]:
        """Run it, in a folder."""
        port = free_port()
        signature = {"type": "payload-hmac-sha256", "secret": SECRET}
        rule = {"match": signature | {"parameter": {"source": "header", "name": "X-Signature"}}}
        hook = {
            "id": "change",
            "execute-command": str(TEAMS / "hook.sh") if self.slack_url else "/bin/true",
            "pass-arguments-to-command": [{"source": "payload", "name": name} for name in ARGUMENTS],
            "response-message": "it runs",
            "trigger-rule": rule,
        }
        (folder / "hooks.json").write_text(json.dumps([hook]))
        environment = {"GOMAXPROCS": "1", "SLACK_WEBHOOK_URL": self.slack_url}
        command = [self.program, "-hooks", "hooks.json", "-ip", "127.0.0.1", "-port", str(port)]
        return running(command, folder, port=port, ready="/", environment=environment)

    def requests(self, number: int, **options: Any) -> Iterator[bytes]:
        """Yield so many different changes, signed as it takes them."""
        for body in bodies(number, **options):
            signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
            yield request("/hooks/change", body, {"X-Signature": f"sha256={signature}"})

    def taken(self, running: Running) -> tuple[int, ...]:  # noqa: ARG002 - the protocol's
        """It keeps no account."""
        return ()


def bare() -> list[Subject]:
    """Return the bare route, on our protocol class and on h11."""
    return [Bare(), Bare("a bare FastAPI route on h11", "h11")]


def missing(subject: Subject) -> str | None:
    """Return the sentence that says how to get its program, if that is not installed."""
    program = getattr(subject, "program", None)
    if not program or shutil.which(program):
        return None
    install: str = getattr(subject, "install", f"install {program}")
    return f"{subject.name} is NOT measured: {program} is not installed. To have it: {install}"
