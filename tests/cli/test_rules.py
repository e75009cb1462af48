"""The commands about rules, as a person runs them."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jsonschema
import pytest

from app.cli import main
from app.demo.run import change_body
from app.rules.rule import Rule
from app.store import queries
from app.store.sqlite.database import open_sqlite
from tests.conftest import NOW
from tests.store.family import CLUSTER, SERVICE, Catalog
from tests.store.helpers import incoming

RULES = """
version: 1
destinations:
  rocket: {type: slack, webhook_url: "${ROCKET_URL}"}
  job: {type: http, url: "https://jobs.example.com/${ROCKET_URL}",
    body: {of: "{{ .context.entityIdentifier }}", token: "${JOB_TOKEN}"}}
  run: {type: port_action, action: scale_out, inputs: {now: "{{ .diff.after.properties.healthStatus }}"}}
rules:
  - name: health
    blueprint: deploymentConfig
    when: {property: healthStatus, to: [Degraded, Crashed]}
    send: [{by_team: {Rocket: rocket}, default: default}, job, run]
    message: "On call: {{ .diff.after.team[0] }}"
  - name: cpu
    blueprint: deploymentConfig
    when: {property: cpuUtil, above: 95}
  - name: elsewhere
    blueprint: database
"""


@pytest.fixture(autouse=True)
def rules_file(environment: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:  # noqa: ARG001
    """The test's own rules, in the working directory."""
    monkeypatch.setenv("ROCKET_URL", "https://hooks.slack.com/services/T/B/hush")
    monkeypatch.setenv("PORT_CLIENT_ID", "listener")
    monkeypatch.setenv("JOB_TOKEN", " hush-token-of-the-job\n")
    (tmp_path / "rules.yaml").write_text(RULES)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run a command, and return its status and what it printed."""
    with pytest.raises(SystemExit) as end:
        main(["rules", *arguments])
    printed = capsys.readouterr()
    return (end.value.code if isinstance(end.value.code, int) else 1), printed.out, printed.err


def test_check(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A good file is called so; a bad one has each mistake on a line, with file and line, and status 1."""
    assert run(capsys, "check", "rules.yaml") == (0, "rules.yaml: 3 rules, 3 destinations, no mistakes\n", "")
    (tmp_path / "levels.yaml").write_text(
        RULES.replace("{property: cpuUtil, above: 95}", "{jq: .diff.after.scorecards.a}")
    )
    assert (
        "rule 'cpu': it reads scorecards, so it is not reconciled" in run(capsys, "check", "levels.yaml")[1]
    )
    (tmp_path / "bad.yaml").write_text(
        RULES.replace("healthStatus, to", "healthStatus, too") + "    send: nobody\n"
    )
    status, _, said = run(capsys, "check", "bad.yaml")
    assert status == 1
    assert "bad.yaml:11: rule 'health': when: 'too' is not known here; did you mean 'to'?" in said
    assert "hush" not in said


def test_check_tells_all_of_a_rule(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A rule that is wrong in itself is looked at for where it sends to all the same."""
    (tmp_path / "bad.yaml").write_text(RULES + "    severity: fatal\n    send: nobody\n")
    status, _, said = run(capsys, "check", "bad.yaml")
    assert status == 1
    assert "rule 'elsewhere': severity: " in said
    assert "rule 'elsewhere': there is no destination 'nobody'" in said


def test_check_runs_no_program(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A jq program that cannot be compiled is a mistake, in conditions and in templates."""
    bad = RULES.replace("{property: cpuUtil, above: 95}", '{jq: ".a ="}').replace(
        "{{ .diff.after.team[0] }}", "{{ .diff | nonsense }}"
    )
    (tmp_path / "bad.yaml").write_text(bad)
    status, _, said = run(capsys, "check", "bad.yaml")
    assert status == 1
    assert "rule 'cpu': jq: syntax error" in said
    assert "nonsense/0 is not defined" in said


@pytest.mark.parametrize("command", [("check",), ("test",), ("backtest",)])
def test_no_file(capsys: pytest.CaptureFixture[str], command: tuple[str, ...]) -> None:
    """A file that is not there is named."""
    (Path.cwd() / "body.json").write_text("{}")
    status, _, said = run(capsys, *command, "nowhere.yaml", *(["body.json"] if command == ("test",) else []))
    assert status == 1
    assert "nowhere.yaml cannot be read: No such file or directory" in said


def test_test(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Each rule about the blueprint says whether it matches and why not, and what would go where is shown."""
    body = change_body(before="Healthy", after="Degraded", at=datetime.now(UTC))
    (tmp_path / "body.json").write_bytes(body)
    (tmp_path / "odd.json").write_text("[]")
    status, said, _ = run(capsys, "test", "rules.yaml", "body.json", "odd.json")
    assert status == 0
    assert "rule 'health' matches" in said
    assert "rule 'cpu' does not match: cpuUtil went from 25 to 91" in said
    assert "elsewhere" not in said
    assert "→ rocket:" in said
    assert "On call: Rocket" in said
    assert 'POST {"of": "notification-service-prod", "token": "[hidden]"}' in said
    assert 'run of scale_out with {"now": "Degraded"}' in said
    assert "not a change: the body is not a JSON object" in said
    assert "hush" not in said


def test_test_of_a_body_that_was_kept(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """What a rule waits for counts from when it happened, however long ago that is."""
    (tmp_path / "wait.yaml").write_text(RULES.replace("above: 95", "above: 80, for: 5m"))
    at = datetime(2026, 6, 9, 12, 28, tzinfo=UTC)
    (tmp_path / "body.json").write_bytes(change_body(before="Healthy", after="Degraded", at=at))
    status, said, _ = run(capsys, "test", "wait.yaml", "body.json")
    assert status == 0
    assert "→ default, if it still holds at 12:33:00 UTC:" in said


async def store_changes(path: Path) -> None:
    """Store a day of changes: two that alerted by the built-in rule, and a recovery."""
    store = open_sqlite(path)
    start = int((datetime.now(UTC) - timedelta(hours=12)).timestamp())
    offset = start - int(incoming().received_at.timestamp())
    await store.accept(
        [
            incoming("Healthy", "Degraded", second=offset),
            incoming("Degraded", "Crashed", second=offset + 60),
            incoming("Crashed", "Healthy", second=offset + 120),
        ]
    )
    await store.close()


def test_backtest(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """What would have alerted stands beside what did, and nothing is changed."""
    asyncio.run(store_changes(tmp_path / "listener.db"))
    status, said, _ = run(capsys, "backtest", "rules.yaml", "--since", "1d")
    assert status == 0
    rows = [line.split() for line in said.splitlines()]
    assert ["health", "rocket", "2", "0"] in rows
    assert ["health", "job", "2", "0"] in rows
    assert ["health", "default", "0", "3"] in rows
    assert "3 changes in the last 1d: 6 alerts in place of 3" in said
    listed = run(capsys, "backtest", "rules.yaml", "--since", "1d", "--list")[1].splitlines()
    assert sum("health" in line and "rocket" in line and "checkout-prod" in line for line in listed) == 2
    assert "0 changes in the last 1h" in run(capsys, "backtest", "rules.yaml", "--since", "1h")[1]
    status, _, said = run(capsys, "backtest", "rules.yaml", "--since", "soon")
    assert (status, "--since soon must be a time" in said) == (1, True)


FAMILY = """
version: 1
rules:
  - name: cluster-health
    blueprint: cluster
    when: {property: healthStatus, to: Down}
    resolve: {property: healthStatus, to: Up}
  - name: service-health
    blueprint: service
    when: {property: healthStatus}
    resolve: {property: healthStatus, to: Healthy}
    quiet_while: {relation: cluster, rule: cluster-health, wait: 30s}
"""


async def store_a_failure(url: str) -> None:
    """Store how a cluster failed with its 20 services, an hour ago, under rules that alert of each."""
    services = [f"s{number}" for number in range(20)]
    rules = [Rule.model_validate({**rule, "send": "default"}) for rule in (CLUSTER, SERVICE)]
    blueprints = {"eu-1": "cluster"} | dict.fromkeys(services, "service")
    async with Catalog(url, rules, blueprints) as catalog:
        began = (datetime.now(UTC) - NOW).total_seconds() - 3600
        for state, cluster in (("Degraded", "Down"), ("Healthy", "Up")):
            for number, entity in enumerate([*services[:10], "eu-1", *services[10:]]):
                catalog.second = began + number + (600 if cluster == "Up" else 0)
                relations = {} if entity == "eu-1" else {"cluster": "eu-1"}
                await catalog.store.accept(
                    [catalog.incoming(entity, cluster if entity == "eu-1" else state, **relations)]
                )


def test_backtest_of_one_cause(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Where another incident explains them, it says how many alerts there would have been in their place."""
    asyncio.run(store_a_failure(f"sqlite:///{tmp_path}/listener.db"))
    (tmp_path / "family.yaml").write_text(FAMILY)
    status, said, _ = run(capsys, "backtest", "family.yaml", "--since", "1d")
    assert status == 0
    # Of ten services the end came after that of the cluster: they alerted until then.
    assert "42 changes in the last 1d: 22 alerts in place of 42" in said
    assert "10 incidents would be quiet, because of another one" in said


def test_schema(capsys: pytest.CaptureFixture[str]) -> None:
    """The schema is a JSON Schema."""
    status, said, _ = run(capsys, "schema")
    assert status == 0
    jsonschema.Draft202012Validator.check_schema(json.loads(said))


def test_test_of_a_stored_change(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A stored change is tried by its key; `--set` asks what another value would do."""
    asyncio.run(store_changes(tmp_path / "listener.db"))

    async def last_key() -> str:
        store = open_sqlite(tmp_path / "listener.db")
        row = await store.read(queries.changes.change, 3)
        await store.close()
        assert row is not None
        return row.key

    key = asyncio.run(last_key())
    _, said, _ = run(capsys, "test", "rules.yaml", "--change", key)
    assert "rule 'cpu' does not match" in said
    _, said, _ = run(capsys, "test", "rules.yaml", "--change", key, "--set", "cpuUtil=99")
    assert "rule 'cpu' matches" in said
    status, _, said = run(capsys, "test", "rules.yaml", "--change", "none")
    assert (status, "no change is stored with the key none" in said) == (1, True)
    status, _, said = run(capsys, "test", "rules.yaml", "--change", key, "--set", "cpuUtil")
    assert (status, "must be NAME=VALUE" in said) == (1, True)


def test_check_without_variables(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """In CI the secrets are not set: `--no-env` finds the other mistakes."""
    named = RULES.replace("ROCKET_URL", "NOT_SET_HERE")
    (tmp_path / "named.yaml").write_text(named)
    assert "NOT_SET_HERE is not set" in run(capsys, "check", "named.yaml")[2]
    Path(".env").write_text("PORT_CLIENT_SECRET=your-secret\n")  # a placeholder
    assert run(capsys, "check", "named.yaml", "--no-env")[0] == 0
    Path("body.json").write_bytes(change_body(before="Healthy", after="Degraded", at=datetime.now(UTC)))
    assert run(capsys, "test", "named.yaml", "body.json", "--no-env")[0] == 0
    assert "--junit needs --suite" in run(capsys, "test", "named.yaml", "x", "--junit", "out.xml")[2]
    (tmp_path / "bad.yaml").write_text(named + "    send: nobody\n")
    assert "no destination 'nobody'" in run(capsys, "check", "bad.yaml", "--no-env")[2]
