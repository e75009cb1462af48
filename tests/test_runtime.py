"""What the runtime makes of settings."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.jq.runner import Jq
from app.model.times import to_micros
from app.runtime.configured import notifier_context
from app.runtime.listener import _running, open_runtime
from app.settings import Settings
from app.store import queries
from tests.waiting import until

TOKEN = "an-admin-token-of-some-length"


@pytest.mark.parametrize(
    ("settings", "page"),
    [
        ({"page_url": "https://alerts.example.com", "admin_token": TOKEN}, "https://alerts.example.com"),
        ({"page_url": "https://example.com/port/", "admin_token": TOKEN}, "https://example.com/port"),
        ({"page_url": "https://alerts.example.com"}, None),
        ({"webhook_url": "https://alerts.example.com", "admin_token": TOKEN}, None),
        ({"admin_token": TOKEN}, None),
    ],
)
def test_the_address_of_the_page(settings: dict[str, Any], page: str | None) -> None:
    """There is one where there is a page, and PAGE_URL is set: Port's way in need not be people's."""
    configured = Settings(_env_file=None, accept_unsigned=True, **settings)
    assert notifier_context(configured, Jq(), None, None).page_url == page


@pytest.mark.parametrize("defined", [False, True])
async def test_the_default_that_the_rules_define(tmp_path: Path, *, defined: bool) -> None:
    """Without SLACK_WEBHOOK_URL alerts are printed, unless the rules say where they go."""
    default = {"default": {"type": "http", "url": "https://jobs.test/"}} if defined else {}
    file = tmp_path / "rules.yaml"
    file.write_text(json.dumps({"version": 1, "destinations": default}))
    database = f"sqlite:///{tmp_path}/listener.db"
    settings = Settings(_env_file=None, accept_unsigned=True, rules_file=file, database_url=database)
    with capture_logs() as logs:
        async with open_runtime(settings):
            pass
    assert ("slack_webhook_not_set" in {line["event"] for line in logs}) is not defined


async def test_what_ends_in_the_background_is_said(tmp_path: Path) -> None:
    """A fault in pruning, say: nobody waits for its result."""

    async def works() -> None:
        raise ValueError

    database = f"sqlite:///{tmp_path}/listener.db"
    settings = Settings(port_client_secret="s" * 20, database_url=database)
    async with open_runtime(settings) as runtime:
        with capture_logs() as lines:
            async with _running([works()], runtime.dispatcher):
                await until(lambda: any(line["event"] == "background_ended" for line in lines))
    assert [line["part"].rpartition(".")[2] for line in lines if "part" in line] == ["works"]


async def test_a_start_looks_at_what_is_held(tmp_path: Path) -> None:
    """The hours may have been changed while nothing ran."""
    database = f"sqlite:///{tmp_path}/listener.db"
    settings = Settings(_env_file=None, accept_unsigned=True, database_url=database)
    async with open_runtime(settings, dispatch=False) as runtime:
        begin = runtime.store.clock() + timedelta(hours=15)
        await runtime.store.write(queries.silences.of_hours, "office", begin)
    async with open_runtime(settings) as runtime:
        ends = await runtime.store.read(lambda tx: tx.fetch_value("SELECT min(ends_at) FROM silences"))
        assert ends <= to_micros(runtime.store.clock())
