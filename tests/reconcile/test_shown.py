"""How reconciling is shown: by the command, the page, its API, the metrics and the doctor."""

import html
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from app.cli.doctor import make_setup
from app.doctor.steps import examine
from app.errors import ListenerError
from app.reconcile.health import judge
from app.settings import load_settings
from app.store import queries
from app.store.opening import open_store
from app.store.views import ReconcileProgress, StoredRun
from app.web.api.models import ReconcileRunOut
from app.web.view import view_reconciling
from tests.cli.conftest import run as run_command
from tests.cli.helpers import Run as Command
from tests.conftest import NOW, Start
from tests.port.stand_in_port import CLIENT_ID, CLIENT_SECRET, StandInPort, refusal
from tests.reconcile.watching import BLUEPRINT, RULES, SEARCH, Watching, watching
from tests.scrape import TOKEN as SCRAPED
from tests.scrape import scrape
from tests.waiting import until
from tests.web.visitor import BEARER, TOKEN, sign_in

MINUTE = timedelta(minutes=1)
run = run_command


def made(
    number: int, *, missed: int = 0, error: str = "", reason: str = "interval", ago: int = 0
) -> StoredRun:
    """A run that began `ago` minutes before NOW, and took one."""
    started = NOW - ago * MINUTE
    progress = ReconcileProgress(1204, 0, missed, missed)
    return StoredRun(number, reason, started, started + 2 * MINUTE, started + MINUTE, progress, error)


@pytest.fixture
def configured(port: StandInPort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A working directory and an environment in which the command finds Port and the rules."""
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "PORT_CLIENT_ID": CLIENT_ID,
        "PORT_CLIENT_SECRET": CLIENT_SECRET,
        "PORT_API_URL": port.url,
        "DATABASE_URL": f"sqlite:///{tmp_path}/listener.db",
        "RULES_FILE": str(tmp_path / "rules.yaml"),
    }.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "rules.yaml").write_text(RULES)
    return monkeypatch


async def test_the_command(watched: Watching, configured: pytest.MonkeyPatch, run: Command) -> None:
    """Shows differences as a table, and lets them through the rules unless it is a dry run."""
    watched.set("checkout", "Degraded")
    watched.set("new", "Healthy")
    for options in (["--dry-run"], []):
        result = await run("reconcile", *options)
        assert result.status == 0, result.err
        assert "healthStatus: Healthy → Degraded" in " ".join(result.out.split())
        assert "create" in result.out
        assert result.out.endswith("2 entities; 2 differ\n")
        assert ("nobody was alerted" in result.err) is bool(options)
    assert await watched.told() == [("checkout", "Healthy", "Degraded")]
    result = await run("reconcile")
    assert result.out == "2 entities; 0 differ\n"
    newest, *_ = await watched.intake.store.read(queries.reconcile.runs, limit=9)
    assert newest.reason == "command"
    trail = (await watched.intake.store.read(queries.audit.entries, limit=9)).rows
    texts = [entry.details for entry in trail]
    assert texts == [f"Reconciled with Port: 2 entities, {number} differ." for number in (0, 2)]
    configured.setenv("RECONCILE_MINUTES", "0")
    assert (await run("reconcile")).status == 0


async def test_the_command_says_why_it_cannot(
    watched: Watching, configured: pytest.MonkeyPatch, run: Command
) -> None:
    """Port refuses, another compares, or there is nothing to compare."""
    watched.port.script("POST", SEARCH, refusal(403))
    result = await run("reconcile")
    assert (result.status, "Reconciling stopped" in result.err, "403" in result.err) == (1, True, True)
    reconciling, now = watched.intake.store, datetime.now(UTC)  # the command's clock
    assert await reconciling.write(
        queries.reconcile.begin, reason="start", token="a", now=now, lease_until=now + MINUTE, since=None
    )
    result = await run("reconcile")
    assert (result.status, "Another process is reconciling" in result.err) == (1, True)
    configured.delenv("RULES_FILE")
    result = await run("reconcile")
    assert (result.status, "no rule names a blueprint" in result.err) == (1, True)


async def test_the_page_the_api_and_the_metrics(start: Start, port: StandInPort, tmp_path: Path) -> None:
    """Say when it was last compared, what was found, and when the next is due."""
    async with watching(f"sqlite:///{tmp_path}/other.db", port, tmp_path) as one:
        one.set("checkout", "Healthy")
    options: dict[str, Any] = {
        "rules_file": tmp_path / "rules.yaml",
        "port_client_id": CLIENT_ID,
        "port_client_secret": CLIENT_SECRET,
        "port_api_url": port.url,
        "admin_token": TOKEN,
    }
    async with start(**options) as service:

        async def compared() -> bool:
            answer = await service.client.get("/api/v1/comparison", headers=BEARER)
            return answer.json()["last"] is not None

        await until(compared)
        shown = (await service.client.get("/api/v1/comparison", headers=BEARER)).json()
        assert (shown["off"], shown["error"], shown["running"]) == ("", "", None)
        assert (shown["last"]["entities"], shown["last"]["recorded"], shown["last"]["differences"]) == (
            1,
            1,
            0,
        )
        assert shown["next_at"] > shown["last"]["ended_at"]
        await sign_in(service)
        page = html.unescape((await service.client.get("/")).text)
        assert "Reconciled with Port:" in page
        assert "1 entities" in page
        assert "no difference, 1 recorded for the first time" in " ".join(page.split())
    options["admin_token"] = SCRAPED
    async with start(**options) as service:
        numbers = await scrape(service)
        assert numbers("reconcile_runs_total", outcome="failed") == 0
        assert "port_listener_missed_webhooks_total" in numbers.families


async def test_a_page_where_nothing_is_compared(start: Start) -> None:
    """Says why."""
    async with start(admin_token=TOKEN) as service:
        await sign_in(service)
        page = html.unescape((await service.client.get("/")).text)
        assert "Not reconciled with Port" in page
        assert "PORT_CLIENT_ID is not set" in page


def test_what_there_is_to_see_of_it() -> None:
    """The last run that came to its end, the one that is under way, and an error until the next goes well."""
    every = 10 * MINUTE
    running = StoredRun(9, "interval", NOW, NOW + MINUTE, None, ReconcileProgress(5), "")
    well, failed = made(1, ago=30), made(2, ago=5, error="Port is away")
    shown = view_reconciling([well], off=None, every=every, now=NOW)
    assert (shown.last, shown.error, shown.next_at) == (ReconcileRunOut.of(well), "", NOW - 19 * MINUTE)
    shown = view_reconciling([running, failed, well], off=None, every=every, now=NOW)
    under_way, last = ReconcileRunOut.of(running), ReconcileRunOut.of(well)
    assert (shown.running, shown.last, shown.error) == (under_way, last, "Port is away")
    assert shown.next_at is None
    died = view_reconciling([running, well], off=None, every=every, now=NOW + 5 * MINUTE)
    assert died.running is None
    assert view_reconciling([well], off="no", every=every, now=NOW).next_at is None
    assert view_reconciling([], off=None, every=every, now=NOW).last is None


def test_the_doctor_judges() -> None:
    """What comes by no webhook while the listener runs is a fault; what it was down for is none."""
    assert "none was made yet" in judge([], NOW)
    well = [made(2, ago=5), made(1, missed=500, reason="start", ago=15)]
    assert judge(well, NOW) == "4 min ago, 1,204 entities, 0 differences"
    assert judge([made(3, missed=2, ago=5), made(2, missed=90, ago=60 * 30)], NOW)
    with pytest.raises(ListenerError, match=r"within a day 5 changes .* do not come"):
        judge([made(4, ago=5), made(3, missed=2, ago=15), made(2, missed=3, ago=25)], NOW)
    with pytest.raises(ListenerError, match="Port is away"):
        judge([made(2, error="Port is away"), made(1)], NOW)


async def test_the_doctor_says_why_nothing_is_compared(configured: pytest.MonkeyPatch) -> None:
    """Where no rule names a blueprint, or it is switched off."""

    async def comparison() -> str:
        return {one.step: one.text async for one in examine(make_setup(None, ()))}["reconciliation"]

    async with open_store(*load_settings().database):  # the doctor itself makes no database
        pass
    assert "none was made yet" in await comparison()
    configured.setenv("RECONCILE_MINUTES", "0")
    assert "RECONCILE_MINUTES is 0" in await comparison()
    configured.delenv("RECONCILE_MINUTES")
    configured.delenv("RULES_FILE")
    assert "no rule names a blueprint" in await comparison()
    assert BLUEPRINT in RULES
