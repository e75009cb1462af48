"""Wrong configurations: check, doctor, a reload and the start refuse each with the same sentence."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from app.cli.doctor import make_setup
from app.doctor.steps import examine
from app.errors import RulesError
from app.main import load_app
from app.runtime.configured import load_usable
from app.runtime.listener import open_runtime
from app.settings import load_settings
from tests.cli.helpers import Run, run_process

SLACK = 'a: {type: slack, webhook_url: "https://hooks.slack.com/services/T/B/x"}'
JOB = "a: {type: http, url: https://jobs.example.com/x"

WRONG: dict[str, tuple[str, str, str]] = {
    # what is wrong: a destination, what a rule says beside its name, what is said of them
    "channel without a token": ("a: {type: slack, channel: '#x'}", "", "3: destination 'a': channel: needs SLACK_BOT_TOKEN"),
    "action without credentials": ("a: {type: port_action, action: x}", "", "3: destination 'a': action: needs PORT_CLIENT_ID"),
    "secret too short": (f"{JOB}, secret: whsec_x}}", "", "3: destination 'a': secret: must be whsec_ and the base64"),
    "secret that is no base64": (f"{JOB}, secret: 'not base64 at all, is it?'}}", "", "3: destination 'a': secret: must be"),
    "header that HTTP cannot have": (f"{JOB}, headers: {{'a b': c}}}}", "", "3: destination 'a': headers: 'a b' cannot be set"),
    "header with a line end": (f'{JOB}, headers: {{"a\\n": c}}}}', "", "3: destination 'a': headers: 'a' cannot be set"),
    "header of ours": (f"{JOB}, headers: {{Webhook-Id: c}}}}", "", "3: destination 'a': headers: 'Webhook-Id' cannot be set"),
    "header for the length": (f"{JOB}, headers: {{Content-Length: '1'}}}}", "", "'Content-Length' cannot be set"),
    "key that is none": ("a: {type: pagerduty, routing_key: secret}", "", "3: destination 'a': routing_key: must be 32 letters"),
    "card by a template": ("a: {type: teams, webhook_url: 'https://{{ .a }}.example.com'}", "", "3: destination 'a': webhook_url: must"),
    "no address": ("a: {type: http}", "", "3: destination 'a': 'url' is missing"),
    "no scheme": ("a: {type: http, url: jobs.example.com}", "", "url: must be an address that begins with https://"),
    "unknown kind": ("a: {type: slak}", "", "type: must be 'slack'"),
    "no kind": ("a: {url: x}", "", "3: destination 'a': 'type' is missing"),
    "unknown key": ("a: {type: console, colour: red}", "", "3: destination 'a': 'colour' is not known here"),
    "two ways": (f"{SLACK[:-1]}, channel: x}}", "", "needs either webhook_url, or channel"),
    "odd channel": ("a: {type: slack, channel: 'a b'}", "", "channel: must be a channel's name"),
    "rate of nothing": (f"{SLACK[:-1]}, rate: 0}}", "", "rate: must be greater than or equal to 0.001"),
    "rate that is a truth": (f"{SLACK[:-1]}, rate: true}}", "", "rate: must be a number"),
    "digest of a truth": (f"{SLACK[:-1]}, digest_after: true}}", "", "digest_after: must be a number"),
    "empty fallback": (f"{SLACK[:-1]}, fallback: }}", "", "fallback: must not be empty"),
    "fallback unknown": (f"{SLACK[:-1]}, fallback: b}}", "", "there is no destination 'b'"),
    "fallback to itself": (f"{SLACK[:-1]}, fallback: a}}", "", "fallback: must be another destination"),
    "too many queues": (f"{JOB}, queues: 65}}", "", "queues: must be less than or equal to 64"),
    "unknown step": (f"{JOB}, steps: [closed]}}", "", "steps: must be 'opened'"),
    "template not closed": ("a: {type: http, url: 'https://x.example.com/{{ .a'}", "", "url: {{ without }}"),
    "template that is no jq": (f"{JOB}, body: {{b: '{{{{ .a | nope }}}}'}}}}", "", "nope/0 is not defined"),
    "variable not set": ('a: {type: slack, webhook_url: "${NOT_THERE}"}', "", "the environment variable NOT_THERE is not set"),
    "reserved name": ("port/runs: {type: console}", "", "port/runs is what the listener calls runs in Port"),
    "unknown destination": (SLACK, "send: b", "6: rule 'r': there is no destination 'b'"),
    "address in send": (SLACK, "send: https://x.example.com", "its address belongs under `destinations`"),
    "for beside when": (SLACK, "for: 5m", "6: rule 'r': `for` belongs inside `when`"),
    "to beside when": (SLACK, "to: Down", "6: rule 'r': `to` belongs inside `when`"),
    "jq that is none": (SLACK, "when: {jq: '.a ='}", "6: rule 'r': jq: syntax error"),
    "empty when": (SLACK, "when:", "6: rule 'r': when: must not be empty"),
    "two subjects": (SLACK, "when: {property: a, relation: b}", "when: needs exactly one of property"),
    "text above": (SLACK, "when: {property: a, above: high}", "above: must be a number"),
    "waits for ever": (SLACK, "again_after: 1h\n    when: {property: a}", "`again_after` needs to see when it ends"),
    "time without unit": (SLACK, "again_after: 5", "again_after: must be a time such as 30s"),
    "odd severity": (SLACK, "severity: bad", "severity: must be 'critical', 'warning' or 'info'"),
    "odd mention": (SLACK, "mention: here", "mention: must be @here"),
    "odd action": (SLACK, "on: update", "on: must be 'CREATE', 'UPDATE', 'DELETE', 'TIMER_EXPIRED', 'RUN_CREATED' or 'RUN_UPDATED'"),
    "pattern": (SLACK, "blueprint: ^a$", "blueprint: looks like a regular expression"),
    "share of what is not reconciled": (
        SLACK,
        """when: {property: a, to: x}
    blueprint: s
    resolve: {property: a, to: y}
    send: a
  - {name: half, of: r, by: team, share: 50%}""",
        "10: rule 'half': share: needs reconciling, which is off: PORT_CLIENT_ID is not set",
    ),
    "not YAML": ("a: {type: console", "", "not YAML"),
}  # fmt: skip
GOOD = "version: 1\n"


def write(file: Path, name: str) -> None:
    """Write a rules file with what is wrong."""
    destination, said, _ = WRONG[name]
    file.write_text(f"version: 1\ndestinations:\n  {destination}\nrules:\n  - name: r\n    {said}\n")


@pytest.fixture
def rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that is configured, which is good."""
    file = tmp_path / "rules.yaml"
    file.write_text(GOOD)
    monkeypatch.setenv("RULES_FILE", str(file))
    return file


@pytest.mark.parametrize("name", WRONG)
async def test_each_way_says_the_same(rules: Path, run: Run, name: str) -> None:
    """The check, the start and the doctor: file, line, destination or rule, and what would be right."""
    write(rules, name)
    checked = await run("rules", "check", str(rules))
    said = checked.err.strip()
    assert checked.status == 1
    assert said.startswith(f"{rules}:")
    assert WRONG[name][2] in said
    assert "Traceback" not in said
    with pytest.raises(SystemExit) as refused:
        await asyncio.to_thread(load_app)
    assert str(refused.value) == f"Cannot start:\n{said}"
    findings = {one.step: one async for one in examine(make_setup(None, ())) if one.step == "rules"}
    assert findings["rules"].text == said


async def test_a_share_where_reconciling_is_by_hand(
    rules: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no mistake, but the check says what the rule needs."""
    write(rules, "share of what is not reconciled")
    for name, value in (
        ("PORT_CLIENT_ID", "id"),
        ("PORT_CLIENT_SECRET", "k8Jd02mQpWz7"),
        ("RECONCILE_MINUTES", "0"),
    ):
        monkeypatch.setenv(name, value)
    checked = await run("rules", "check", str(rules))
    assert (checked.status, checked.out.splitlines()[0]) == (
        0,
        f"{rules}:10: hint: rule 'half': share: needs reconciling, which is off: RECONCILE_MINUTES is 0",
    )


MANY = """version: 1
destinations:
  a: {type: slack, channel: '#x'}
  b: {type: http, url: https://jobs.example.com/x, secret: x, headers: {'a b': c}}
  c: {type: http, url: https://jobs.example.com/x, secret: "${NOT_THERE}"}
  d: {type: slak}
rules:
  - name: r
    send: [nowhere, b]
"""


def test_all_is_said_at_once(rules: Path) -> None:
    """What only the making of a destination shows stands beside what is wrong elsewhere, by line."""
    rules.write_text(MANY)
    with pytest.raises(RulesError) as refused:
        load_usable(load_settings())
    said = [line.removeprefix(f"{rules}:") for line in str(refused.value).splitlines()]
    starts = (
        "3: destination 'a': channel: needs SLACK_BOT_TOKEN",
        "4: destination 'b': headers: 'a b' cannot be set",
        "4: destination 'b': secret: must be whsec_",
        "5: destination 'c': secret: the environment variable NOT_THERE is not set",
        "6: destination 'd': type: must be 'slack'",
        "9: rule 'r': there is no destination 'nowhere'",
    )
    assert len(said) == len(starts)
    assert [line[: len(start)] for line, start in zip(said, starts, strict=True)] == list(starts)


WEBHOOK = "https://hooks.slack.com/services/T/B/x"
ALSO: list[tuple[dict[str, str], tuple[str, ...], int]] = [
    # what is wrong beside the file: the variables, how each line of it begins; the file's first mistake
    ({"SLACK_BOT_TOKEN": "xoxp-1"}, ("SLACK_BOT_TOKEN is no bot token",), 4),  # and so not 'needs a token'
    ({"SLACK_BOT_TOKEN_FILE": "/nowhere"}, ("SLACK_BOT_TOKEN_FILE names a file",), 4),
    (
        {"RETENTION_DAYS": "x", "PORT_CLIENT_SECRET": "a b"},
        ("PORT_CLIENT_SECRET has white space", "RETENTION_DAYS must be"),
        3,
    ),
    (
        {"ADMIN_TOKEN_FILE": "/nowhere", "PAGE_URL_FILE": "/nowhere"},
        ("ADMIN_TOKEN_FILE names a file", "PAGE_URL_FILE names a file"),
        3,
    ),
    (
        {"HTTPS_PROXY": "socks5://x", "SLACK_WEBHOOK_URL": WEBHOOK},
        ("HTTPS_PROXY names a SOCKS proxy",),
        3,
    ),
]


@pytest.mark.parametrize(("variables", "starts", "first"), ALSO)
async def test_settings_do_not_hide_the_rules_mistakes(
    rules: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    starts: Sequence[str],
    first: int,
) -> None:
    """Nor the other way round: the check, the start and the doctor name both together."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    await asyncio.to_thread(rules.write_text, MANY)
    checked = await run("rules", "check", str(rules))
    said = checked.err.strip().splitlines()
    assert checked.status == 1
    assert [line[: len(start)] for line, start in zip(said, starts, strict=False)] == list(starts)
    assert said[len(starts)].startswith(f"{rules}:{first}: destination")
    assert len(said) - len(starts) == 9 - first
    with pytest.raises(SystemExit) as refused:
        await asyncio.to_thread(load_app)
    assert str(refused.value).splitlines()[1:] == said
    shown = [one.text async for one in examine(make_setup(None, ())) if one.step in {"settings", "rules"}]
    assert set(said) <= set("\n".join(shown).splitlines())


async def test_a_reload_says_the_same(rules: Path, run: Run) -> None:
    """And the rules before it stay in force."""
    async with open_runtime(load_settings(), dispatch=False) as runtime:
        before = runtime.intake.book
        for name in WRONG:
            write(rules, name)
            await runtime.rules.reload()
            assert runtime.rules.problem == (await run("rules", "check", str(rules))).err.strip()
            assert runtime.intake.book is before


def test_as_real_processes(rules: Path) -> None:
    """What is said without a traceback is said so by the programs themselves."""
    write(rules, "channel without a token")
    said = f"{rules}:3: destination 'a': channel: needs SLACK_BOT_TOKEN"
    commands = (("rules", "check", str(rules)), ("serve", "--port", "0"), ("doctor",))
    for result in (run_process(*command) for command in commands):
        assert result.status == 1
        assert said in result.out + result.err
        assert "Traceback" not in result.out + result.err


async def test_without_the_secret_of_changes(rules: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file can be checked where changes are not received; other wrong settings are named."""
    monkeypatch.delenv("PORT_CLIENT_SECRET")
    assert (await run("rules", "check", str(rules))).status == 0
    monkeypatch.setenv("SLACK_BOT_TOKEN", "xoxp-1")
    checked = await run("rules", "check", str(rules))
    assert (checked.status, checked.out) == (1, "")
    assert "SLACK_BOT_TOKEN is no bot token" in checked.err
