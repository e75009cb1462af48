"""What Prometheus and Grafana load: their own tools take it, and every metric that it names exists."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard
from ruamel.yaml import YAML

from app.demo.stand_in_slack import StandInSlack
from tests.conftest import Start
from tests.scrape import TOKEN, scrape
from tests.waiting import until

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy" / "grafana" / "dashboard.json").read_text())
DOCUMENTED = set(re.findall(r"^\| `(port_listener_\w+)`", (ROOT / "docs" / "metrics.md").read_text(), re.M))
PROMTOOL = shutil.which("promtool") or shutil.which("promtool", path=str(ROOT / ".venv" / "bin"))
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="promtool is not installed: see scripts/_promtool"
)


def promtool(*arguments: str | Path, given: str = "") -> None:
    """Run promtool; the test fails with what it says."""
    command = [PROMTOOL or "promtool", *map(str, arguments)]
    done = subprocess.run(command, input=given, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def named_in(text: str) -> set[str]:
    """Return the metrics that expressions name, histograms by their own name."""
    return {re.sub(r"_(bucket|sum|count)$", "", one) for one in re.findall(r"port_listener_\w+", text)}


def expressions() -> list[str]:
    """Return every expression of the dashboard."""
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]


async def test_the_metrics_are_those_that_are_documented(start: Start, slack: StandInSlack) -> None:
    """docs/metrics.md names each metric and no other; promtool finds nothing to say against them."""
    async with start(admin_token=TOKEN) as service:
        await service.change("Healthy", "Degraded")
        await until(lambda: len(slack.messages) == 1)
        numbers = await scrape(service)
    ours = {name for name in numbers.families if name.startswith("port_listener_")}
    assert ours == DOCUMENTED
    if PROMTOOL:
        promtool("check", "metrics", given=numbers.text)


@needs_promtool
def test_alert_rules() -> None:
    """The alert rules are rules; they fire on what they are about, and on nothing else."""
    promtool("check", "rules", PROMETHEUS / "alerts.yaml")
    promtool("test", "rules", PROMETHEUS / "alerts_test.yaml")


def test_alerts_say_what_to_do() -> None:
    """Each alert has a severity, a summary and a runbook, is tested, and is about metrics that exist."""
    text = (PROMETHEUS / "alerts.yaml").read_text()
    tested = (PROMETHEUS / "alerts_test.yaml").read_text()
    for rule in YAML(typ="safe", pure=True).load(text)["groups"][0]["rules"]:
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert {"summary", "description", "runbook"} <= set(rule["annotations"])
        assert rule["alert"] in tested
    assert named_in(text) <= DOCUMENTED
    # What the runbooks tell to run exists.
    commands = set(re.findall(r"python -m app ([a-z]+)", text))
    assert commands <= {"deliveries", "doctor", "quarantine", "rules", "status"}


def kept(given: Any, read: Any, path: str = "") -> None:
    """Fail unless everything that was given was understood when it was read."""
    if isinstance(given, dict):
        for key, value in given.items():
            if value not in (None, False):
                assert key in read, f"{path}.{key}"
                kept(value, read[key], f"{path}.{key}")
    elif isinstance(given, list):
        assert len(given) == len(read), path
        for number, (one, other) in enumerate(zip(given, read, strict=True)):
            kept(one, other, f"{path}[{number}]")
    else:
        assert given == read, path


def test_the_dashboard_is_one() -> None:
    """Grafana's own model of a dashboard has a place for everything in it; no two panels overlap."""
    kept(DASHBOARD, json.loads(JSONEncoder().encode(Dashboard.from_json(DASHBOARD))))
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (place["x"] + column, place["y"] + line)
            for column in range(place["w"])
            for line in range(place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells


def test_the_dashboard_shows_what_there_is() -> None:
    """Every metric that the dashboard names exists, and every one that exists is on it."""
    text = json.dumps(DASHBOARD)
    assert named_in(text) == DOCUMENTED


@needs_promtool
def test_the_dashboards_expressions(tmp_path: Path) -> None:
    """Each is PromQL."""
    replaced = (
        one.replace("$__rate_interval", "5m").replace("$instance", ".*").replace("$job", "port-listener")
        for one in expressions()
    )
    rules = [{"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(replaced)]
    file = tmp_path / "panels.yaml"
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", file)
