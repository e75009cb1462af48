"""The commands, as a person runs them."""

import json
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
from starlette.responses import PlainTextResponse

from app.cli import command_line
from app.cli.base import read_pages, start_time, user_name
from app.demo.run import serving
from app.demo.stand_in_slack import StandInSlack
from app.main import create_app
from app.model.delivery import Outcome, State
from app.settings import Settings
from app.store import queries
from app.store.sqlite.database import open_sqlite
from app.store.store import Store
from app.store.views import Page
from tests.cli.helpers import Run, run_process
from tests.conftest import NOW, SECRET, Service, Start, count
from tests.store.helpers import attempt, claim, incoming
from tests.told import entities
from tests.waiting import until


def test_demo() -> None:
    """The demo shows every change and every alert, ends with one line, and needs no setting at all."""
    result = run_process("demo", "--changes", "4", "--exit", PORT_CLIENT_SECRET="")
    assert result.status == 0, result.err
    lines = result.out.strip().splitlines()
    assert re.fullmatch(r"4 changes, 4 alerts delivered in [1-4] messages?, 0 lost", lines[-1])
    assert sum("Port → listener" in line for line in lines) == 4
    assert 1 <= sum("─ Slack ─" in line for line in lines) <= 4
    assert any("🟢 Healthy → 🟠 Degraded" in line for line in lines)
    assert result.err == ""


async def test_help(run: Run) -> None:
    """Without a command there is help, and every command has its own."""
    result = await run()
    assert "Commands" in result.out + result.err
    assert "--help" in (await run("incidents", "--help")).out


def test_help_is_whole_at_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each command: nothing is cut, and each value is named in words."""
    monkeypatch.setenv("COLUMNS", "80")

    def check(command: Any, context: Any) -> None:
        text = command.get_help(context)
        assert all(len(line) <= 80 for line in text.splitlines()), text
        assert not re.search(r"\w…|\w\.\.\.$|<(str|list|path)", text, re.MULTILINE), text
        for name, below in getattr(command, "commands", {}).items():
            check(below, typer.Context(below, parent=context, info_name=name))

    group = command_line()
    check(group, typer.Context(group, info_name="python -m app"))


@pytest.mark.parametrize("command", ["serve", "send", "reconcile"])
async def test_a_missing_secret_is_a_sentence(
    run: Run, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """Without a secret each command says so in a sentence, without a traceback."""
    monkeypatch.setenv("PORT_CLIENT_SECRET", "")
    result = await run(command)
    assert result.status == 1
    assert "PORT_CLIENT_SECRET is not set" in result.err
    assert "Traceback" not in result.err


def test_a_database_that_cannot_be_opened_is_a_sentence(tmp_path: Path) -> None:
    """The start is refused with the file's name."""
    (tmp_path / "listener.db").mkdir()
    result = run_process("serve")
    assert result.status == 1
    assert "Cannot start:" in result.err
    assert "listener.db" in result.err
    assert "Traceback" not in result.err


async def test_send(service: Service, slack: StandInSlack, run: Run) -> None:
    """`send` posts one signed change, which alerts, and says what the listener answered."""
    url = f"{service.url}/api/slack"
    for shape, to in (("automation", url), ("workflow", service.url), ("changelog", f"{service.url}/")):
        result = await run(
            "send", "--url", to, "--entity", shape, "--from", "Degraded", "--to", "Odd", "--shape", shape
        )
        assert result.status == 0, result.err
        assert "accepted: 1 alert," in result.out
    await until(lambda: set(entities(slack.messages)) == {"automation", "workflow", "changelog"})
    assert "Degraded → Odd" in slack.messages[0]["text"]


@pytest.mark.parametrize(
    ("path", "secret", "said"),
    [
        ("/api/slack", "another", "refused with 401: the listener has another"),
        ("/api/slak", SECRET, "refused with 404: there is no listener at this address"),
    ],
)
async def test_send_refused(
    service: Service, run: Run, monkeypatch: pytest.MonkeyPatch, path: str, secret: str, said: str
) -> None:
    """`send` says what a refusal means."""
    monkeypatch.setenv("PORT_CLIENT_SECRET", secret)
    result = await run("send", "--url", f"{service.url}{path}")
    assert result.status == 1
    assert said in result.err


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:1/api/slack", "cannot reach http://127.0.0.1:1/api/slack"),
        ("http://a..b", "cannot reach http://a..b/api/slack: its name is none"),
        ("nonsense", "--url nonsense is not an address"),
    ],
)
async def test_send_to_nobody(run: Run, url: str, said: str) -> None:
    """`send` says that nobody listens, or that there is no address."""
    result = await run("send", "--url", url)
    assert result.status == 1
    assert said in result.err
    assert "Traceback" not in result.err


async def test_send_to_another_server(run: Run) -> None:
    """One that answers 202 to everything is no listener."""
    async with serving(PlainTextResponse("<html>", 202)) as url:
        result = await run("send", "--url", url)
    assert (result.status, "202, but not as this listener does" in result.err) == (1, True)


async def test_incidents(store: Store, run: Run) -> None:
    """They are listed, and closed by their id, with an entry in the audit trail."""
    assert (await run("incidents", "list", "--limit", str(2**63 - 1))).out == "0 open\n"
    await store.accept([incoming(entity="checkout-prod")])
    shown = json.loads((await run("incidents", "list", "--json")).out)
    assert (shown["entity"], shown["state"]) == ("checkout-prod", "Degraded")
    assert re.search(
        rf"{shown['id']} +warning +deploymentConfig +checkout-prod", (await run("incidents")).out
    )
    assert "entity: checkout-prod\n" in (await run("incident", "show", shown["id"])).out
    assert (await run("incidents", "show", "nobody")).status == 1
    acknowledged = await run("incidents", "ack", shown["id"])
    assert "rule health is acknowledged by " in acknowledged.out
    twice = await run("incidents", "ack", shown["id"])
    assert (twice.status, "is already acknowledged by" in twice.err) == (1, True)
    assert (await run("incidents", "--unacknowledged")).out == "0 open\n"
    assert "\nAcknowledged: 1\n" in (await run("status")).out
    assert (await run("incidents", "unack", shown["id"])).status == 0
    assert "until it is over" in (await run("incidents", "silence", shown["id"])).out
    closed = await run("incidents", "close", shown["id"], "--comment", "decommissioned")
    assert "rule health is closed by" in closed.out
    (entry, *_) = (await store.read(queries.audit.entries, limit=5)).rows
    assert entry.details.endswith(": decommissioned.")
    over = (await run("incidents", "--all")).out
    assert (shown["id"] in over, over.endswith("0 open\n")) == (True, True)
    again = await run("incidents", "close", shown["id"])
    assert (again.status, " is over since " in again.err) == (1, True)


async def test_deliveries(store: Store, run: Run) -> None:
    """`deliveries` shows what stands where, as a table and as JSON, and filters."""
    assert "0 pending, 0 dead, 0 delivered, 0 cancelled, 0 silenced" in (await run("deliveries")).out
    await store.accept([incoming(entity="checkout\x1b[31m-prod")])
    table = (await run("deliveries")).out
    assert "Healthy →" in table
    assert "\x1b" not in table
    assert "1 pending, 0 dead, 0 delivered, 0 cancelled, 0 silenced" in table
    row = json.loads((await run("deliveries", "--json")).out)
    assert (row["id"], row["state"], row["notification"]["change"]["after"]) == (1, "pending", "Degraded")
    assert "checkout" not in (await run("deliveries", "--state", "dead")).out


async def test_nothing_is_cut_for_a_program(store: Store, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not on a terminal there is no limit of width: `deliveries | grep ENTITY` finds what is there."""
    monkeypatch.setenv("COLUMNS", "40")
    await store.accept([incoming(entity="payments-api-prod" * 9)])
    assert "payments-api-prod" * 9 in (await run("deliveries")).out
    row = json.loads((await run("deliveries", "--json")).out)
    assert (row["created_at"], row["ended_at"], row["attempts"]) == ("2026-06-09T12:28:20Z", None, [])


@pytest.mark.parametrize(
    ("option", "value", "found"),
    [
        ("--entity", "checkout-prod", True),
        ("--entity", "checkout", False),
        ("--rule", "health", True),
        ("--rule", "other", False),
        ("--destination", "default", True),
        ("--destination", "other", False),
        ("--since", "1m", False),
    ],
)
async def test_deliveries_of(store: Store, run: Run, option: str, value: str, found: bool) -> None:
    """`deliveries` has a filter for each question that an on-call asks; `show` has the whole of one."""
    await store.accept([incoming(entity="checkout-prod")])
    assert bool((await run("deliveries", option, value, "--json")).out) == found
    assert "state: pending\n" in (await run("deliveries", "show", "1")).out


@pytest.mark.parametrize("command", ["deliveries", "incidents", "silences", "quarantine"])
@pytest.mark.usefixtures("store")
async def test_only_the_settings_that_it_uses(
    run: Run, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """What looks at the store needs no secret, and does not mind a mistake in another setting."""
    monkeypatch.setenv("PORT_CLIENT_SECRET", "")
    for name in ("SLACK_BOT_TOKEN", "PORT_REGION", "ALLOWED_SOURCES", "LOG_LEVEL"):
        monkeypatch.setenv(name, "nonsense")
    assert (await run(command)).status == 0
    monkeypatch.setenv("DATABASE_URL", "nonsense")
    assert "DATABASE_URL" in (await run(command)).err


async def test_config(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each value with where it is from, no secret, and what in .env nothing reads."""
    (tmp_path / ".env").write_text("RETENTION_DAYS=7\nRETENTION_DAY=8\nROCKET_URL=x\nRULES_FILE=rules.yaml\n")
    (tmp_path / "rules.yaml").write_text("# ${ROCKET_URL}")
    monkeypatch.delenv("RULES_FILE", raising=False)
    result = await run("config", "show")
    assert result.status == 0
    lines = [line.split() for line in result.out.splitlines()]
    assert ["RETENTION_DAYS", "7", ".env"] in lines
    assert ["PORT_CLIENT_SECRET", "(hidden)", "environment"] in lines
    assert ["LOG_LEVEL", "INFO", "default"] in lines
    assert result.err == "hint: .env: nothing reads RETENTION_DAY; did you mean RETENTION_DAYS?\n"
    monkeypatch.setenv("LOG_LEVEL", "loud")
    result = await run("config", "show", "--json")
    assert (result.status, "LOG_LEVEL" in result.err, SECRET in result.out) == (1, True, False)
    rows = {row["name"]: row for row in map(json.loads, result.out.splitlines())}
    assert rows["ACCEPT_UNSIGNED"]["value"] is False  # though another setting is wrong
    assert rows["RETENTION_DAYS"] == {"name": "RETENTION_DAYS", "value": 7, "from": ".env"}


async def test_what_acts_is_in_the_trail(store: Store, run: Run) -> None:
    """Each command that acts is logged under the user's name, as the page and the API do it."""
    await store.accept([incoming()])
    assert "is tried again" in (await run("deliveries", "retry", "1")).out
    result = await run("deliveries", "retry", "1", "77")
    assert (result.status, "There is no delivery 77" in result.err) == (1, True)
    assert "0 dead deliveries are tried again" in (await run("deliveries", "retry", "--dead")).out
    assert (await run("deliveries", "retry")).status == 2
    assert (await run("deliveries", "retry", "1", "--dead")).status == 2
    await store.record(await claim(store), attempt(Outcome.ON_HOLD, wait=600))
    assert "is released" in (await run("destinations", "release", "default")).out
    local = datetime.now().astimezone() + timedelta(hours=3)
    add = ("silences", "add", "--for", "1h", "--comment", "why", "--entity", "a", "--start", f"{local:%H:%M}")
    begins = f"from {local.astimezone(UTC):%Y-%m-%d %H:%M}:00 UTC until "
    assert begins in (await run(*add)).out
    for words in (("edit", "1", "--extend", "1h"), ("end", "1")):
        assert (await run("silences", *words)).status == 0
    await store.quarantine(incoming().body, signed_at=NOW, received_at=NOW, path="", reason="odd")
    assert "left the quarantine" in (await run("quarantine", "replay")).out
    trail = [json.loads(line) for line in (await run("audit", "--json")).out.splitlines()]
    done = ["retry", "retry", "retry", "release", "silence", "change silence", "end silence", "replay"]
    assert [row["what"] for row in trail][::-1] == done
    assert {row["who"] for row in trail} == {user_name()}


@pytest.mark.parametrize(
    ("text", "begins"),
    [
        ("22:00", "2026-10-25T21:00+00:00"),  # at 3 o'clock that night it is 2 again
        ("23:30", "2026-10-24T21:30+00:00"),
        ("30m", "2026-10-24T21:30+00:00"),
        ("2026-10-25T22:00", "2026-10-25T21:00+00:00"),
        ("2026-10-25T22:00Z", "2026-10-25T22:00+00:00"),
    ],
)
def test_a_start_in_the_zone_of_the_machine(monkeypatch: pytest.MonkeyPatch, text: str, begins: str) -> None:
    """A time of day is the next one on the clock, where clocks change before it too."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        begun = start_time("--start", text, datetime(2026, 10, 24, 21, tzinfo=UTC))
    finally:
        monkeypatch.undo()
        time.tzset()
    assert begun == datetime.fromisoformat(begins)


async def test_quarantine(store: Store, run: Run) -> None:
    """`quarantine` lists; `replay` accepts what can be read now, says what cannot, and names strangers."""
    assert "Nothing is in quarantine" in (await run("quarantine")).out
    readable = incoming()
    for body in (b"{}", readable.body):
        await store.quarantine(body, signed_at=NOW, received_at=NOW, path="action", reason="odd")
    shown = await run("quarantine")
    assert "odd" in shown.out
    rows = (await run("quarantine", "--json")).out.splitlines()
    assert json.loads(rows[-1])["body"] == "{}"
    result = await run("quarantine", "replay")
    assert result.status == 1
    assert "1: still not readable: action: Field required" in result.out
    assert "Number 2 left the quarantine: accepted, 1 alert." in result.out
    assert [row.id for row in (await store.read(queries.quarantine.bodies, before=None, limit=9)).rows] == [1]
    assert await count(store, State.PENDING) == 1
    result = await run("quarantine", "replay", "99")
    assert (result.status, "not in quarantine: 99" in result.err) == (1, True)


async def test_a_long_body_in_quarantine(store: Store, run: Run) -> None:
    """`quarantine --json` has the whole body, though the list is read with its first bytes only."""
    body = b'{"text": "' + b"x" * 50_000 + b'"}'
    await store.quarantine(body, signed_at=NOW, received_at=NOW, path="", reason="odd")
    row = json.loads((await run("quarantine", "--json")).out)
    assert (row["body"], row["size"]) == (body.decode(), len(body))
    assert str(len(body)) in (await run("quarantine")).out


@pytest.mark.parametrize(("limit", "sizes"), [(700, [500, 200]), (500, [500]), (5000, [500, 500, 500])])
async def test_lists_are_read_page_by_page(limit: int, sizes: list[int]) -> None:
    """Until the limit is reached or a page has no next one."""
    asked: list[int] = []

    async def read(before: str | None, size: int) -> Page[int]:
        asked.append(size)
        start = int(before or 0)
        rows = range(start, min(start + size, 1_200))
        return Page(rows, str(rows.stop) if rows.stop < 1_200 else None)

    assert await read_pages(read, limit) == list(range(min(limit, 1_200)))
    assert asked == sizes


async def test_console_without_slack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a webhook alerts are printed where the listener runs."""
    settings = Settings(
        _env_file=None, port_client_secret=SECRET, database_url=f"sqlite:///{tmp_path}/listener.db"
    )
    store = open_sqlite(tmp_path / "listener.db")
    await store.accept([incoming()])
    async with serving(create_app(settings)):

        async def printed() -> bool:
            return await count(store, State.DELIVERED) == 1

        await until(printed)
    await store.close()
    assert "🟢 Healthy → 🟠 Degraded" in capsys.readouterr().out


async def test_start_with_a_slack_on_hold(start: Start, slack: StandInSlack) -> None:
    """A restart probes a queue on hold at once."""
    slack.answers.append(PlainTextResponse("no_active_hooks", 404))
    async with start() as service:
        await service.change("Healthy", "Degraded")

        async def on_hold() -> bool:
            return await count(service.store, State.ON_HOLD) == 1

        await until(on_hold)
    async with start():
        await until(lambda: len(slack.messages) == 1)
