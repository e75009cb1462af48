#!/usr/bin/env python3
"""Makes the README's pictures of the page: the demo's entities after some hours, wide and on a phone."""

import asyncio
import itertools
import json
import shutil
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from playwright.async_api import Page, async_playwright
from starlette.responses import PlainTextResponse

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from app.demo.run import change_body, changes, serving, signed_headers  # noqa: E402 - the root first
from app.demo.stand_in_slack import StandInSlack  # noqa: E402
from app.main import create_app  # noqa: E402
from app.observe.logs import configure_logging  # noqa: E402
from app.settings import Settings  # noqa: E402

SECRET, TOKEN = "for-pictures", "a-token-for-pictures"
NUMBER = 14
APART = timedelta(minutes=23)
ARGUMENTS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"]


async def send_changes(client: httpx.AsyncClient, slack: StandInSlack) -> None:
    """Let some hours of changes come; one alert is refused, and at the end the channel is archived."""
    slack.answers.extend([PlainTextResponse("invalid_payload", 400)] * 2)
    for number, change in enumerate(itertools.islice(changes(), NUMBER)):
        body = change_body(at=datetime.now(UTC) - APART * (NUMBER - number), **change)
        await _post(client, body)
        await asyncio.sleep(0.1)
    slack.answers.append(PlainTextResponse("channel_is_archived", 410))
    at = datetime.now(UTC) - timedelta(minutes=4)
    await _post(
        client, change_body(before="Healthy", after="Crashed", at=at, entity="mail-prod", title="Mail")
    )
    await asyncio.sleep(0.5)


async def _post(client: httpx.AsyncClient, body: bytes) -> None:
    headers = signed_headers(body, SECRET, datetime.now(UTC))
    (await client.post("/api/slack", content=body, headers=headers)).raise_for_status()


async def sign_in(page: Page, url: str) -> None:
    """Sign in, and stand on the first page."""
    await page.goto(url)
    await page.get_by_label("Your name").fill("Ada")
    await page.get_by_label("Token").fill(TOKEN)
    await page.get_by_role("button", name="Sign in").click()
    await page.get_by_text("Live.").wait_for()


async def take(url: str) -> None:
    """Take the pictures: the first page and the timeline, light and dark, wide and narrow."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        wide = await browser.new_page(viewport={"width": 1280, "height": 760}, color_scheme="light")
        await sign_in(wide, url)
        await wide.screenshot(path=ROOT / "docs/page.png")
        narrow = await browser.new_page(viewport={"width": 390, "height": 760}, color_scheme="dark")
        await sign_in(narrow, url)
        await narrow.goto(f"{url}/timeline")
        await narrow.wait_for_timeout(800)
        await narrow.screenshot(path=ROOT / "docs/page-phone.png")
        await browser.close()


async def main() -> None:
    """Run the service, fill it, and take the pictures."""
    configure_logging("CRITICAL", "text")
    slack = StandInSlack()
    with tempfile.TemporaryDirectory() as folder:
        async with serving(slack.app) as slack_url:
            default = {"type": "slack", "webhook_url": f"{slack_url}/services/T0/B0/pictures", "rate": 1000}
            rules = Path(folder) / "rules.json"
            rules.write_text(json.dumps({"version": 1, "destinations": {"default": default}}))
            settings = Settings(
                _env_file=None,
                port_client_secret=SECRET,
                rules_file=rules,
                database_url=f"sqlite:///{folder}/pictures.db",
                admin_token=TOKEN,
            )
            async with serving(create_app(settings)) as url, httpx.AsyncClient(base_url=url) as client:
                await send_changes(client, slack)
                await take(url)


if __name__ == "__main__":
    asyncio.run(main())
