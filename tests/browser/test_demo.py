"""The demo's fake Slack in a real browser: its buttons do what Slack's do."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from app.demo.run import DEMO_RULES, serving
from app.demo.stand_in_slack import StandInSlack
from app.demo.stand_in_workspace import StandInWorkspace
from app.main import create_app
from app.settings import Settings
from tests.browser.conftest import Site, visiting
from tests.conftest import NO_TLS, SECRET

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
SIGNING_SECRET = "0123456789abcdef0123456789abcdef"


@pytest_asyncio.fixture(loop_scope="session")
async def channel(tmp_path: Path) -> AsyncIterator[Site]:
    """The fake Slack with the message of an incident, by a listener that it sends its clicks to."""
    slack, rules = StandInWorkspace(SIGNING_SECRET), tmp_path / "rules.json"
    rules.write_text(json.dumps(DEMO_RULES))
    async with serving(slack.app) as slack.url:
        settings = Settings(
            _env_file=None,
            port_client_secret=SECRET,
            slack_bot_token="xoxb-demo",
            slack_signing_secret=SIGNING_SECRET,
            slack_api_url=f"{slack.url}/api/",
            rules_file=rules,
            database_url=f"sqlite:///{tmp_path}/listener.db",
        )
        async with (
            serving(create_app(settings)) as url,
            httpx.AsyncClient(base_url=url, verify=NO_TLS) as client,
        ):
            slack.listener = url
            site = Site(slack.url, client, StandInSlack())
            await site.change(
                "Healthy", "Degraded", entity="checkout-prod", title="Checkout <b>", team="Payments"
            )
            yield site


async def test_by_keyboard(browser: Browser, channel: Site) -> None:
    """Acknowledged, taken back, and why, without a mouse; the message comes by itself."""
    async with visiting(browser, channel, 1280, "light") as visit:
        page = visit.page
        await page.goto(channel.url)
        named_by_the_catalog = page.locator("h1", has_text="#team-payments").locator("+ article")
        await expect(named_by_the_catalog).to_contain_text("Checkout <b>: warning")
        for name, then in (
            ("Acknowledge", "Acknowledged by ada"),
            ("Un-acknowledge", "Checkout <b>: warning"),
        ):
            await page.get_by_role("button", name=name, exact=True).focus()
            await page.keyboard.press("Enter")
            await expect(page.get_by_text(then)).to_be_visible()
        await expect(page.get_by_role("button", name="Acknowledge", exact=True)).to_be_visible()
        await page.get_by_label("More").focus()
        await page.keyboard.press("ArrowDown")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("Only visible to you")).to_be_visible()
        await expect(page.get_by_role("status").get_by_text("Rule health, warning")).to_be_visible()
        await visit.check("the channel")


async def test_on_a_phone(browser: Browser, channel: Site) -> None:
    """Silenced from the menu, and for another time by the form, which says what is wrong with it."""
    async with visiting(browser, channel, 390, "light") as visit:
        page = visit.page
        await page.goto(channel.url)
        await page.get_by_label("Silence").select_option("1 hour")
        await page.get_by_role("button", name="Choose").first.click()
        await expect(page.get_by_text("is silenced by ada, until")).to_be_visible()
        await page.get_by_label("Silence").select_option("other …")
        await page.get_by_role("button", name="Choose").first.click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("For how long?").fill("9h")
        await dialog.get_by_role("button", name="Silence").click()
        await expect(dialog.get_by_text("You may silence for 4 h at the most.")).to_be_visible()
        await visit.check("the form")
        await dialog.get_by_label("For how long?").fill("90m")
        await dialog.get_by_role("button", name="Silence").click()
        await expect(page.get_by_role("status")).to_have_count(2)
        await visit.check("the channel")
