"""One browser for all tests here, and the real service for it to look at."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, Request, async_playwright
from starlette.responses import PlainTextResponse

from app.demo.run import change_body, serving, signed_headers
from app.demo.stand_in_slack import StandInSlack
from app.main import create_app
from app.settings import Settings
from tests.conftest import NO_TLS, SECRET, rules_with_rate

TOKEN = "a-token-of-24-characters"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
AXE = Path(__file__).parent / "axe.min.js"
PAGES = (
    "/",
    "/incidents?q=prod",
    "/timeline",
    "/changes",
    "/changes?q=nothing-like-it",
    "/changes/1",
    "/entity?blueprint=deploymentConfig&entity=checkout-prod",
    "/silences",
    "/quarantine",
    "/audit",
    "/test",
    "/silence",
    "/deliveries/1/retry",
    "/changes/4711",
)


@dataclass
class Site:
    """The service, and the Slack that it tells."""

    url: str
    client: httpx.AsyncClient
    slack: StandInSlack

    async def change(self, before: str, after: str, *, ago: int = 0, **more: Any) -> None:
        """Let Port say that a health status changed, `ago` minutes ago."""
        at = datetime.now(UTC) - timedelta(minutes=ago)
        await self.post(change_body(before=before, after=after, at=at, **more))

    async def post(self, body: bytes) -> httpx.Response:
        """Post a body, signed by Port."""
        headers = signed_headers(body, SECRET, datetime.now(UTC))
        return await self.client.post("/api/slack", content=body, headers=headers)


@dataclass
class Visit:
    """A window of the browser, and what went wrong in it."""

    page: Page
    site: Site
    faults: list[str] = field(default_factory=list)

    async def sign_in(self, name: str = "Ada") -> None:
        """Sign in, and stand on the first page."""
        await self.page.goto(self.site.url)
        await self.page.get_by_label("Your name").fill(name)
        await self.page.get_by_label("Token").fill(TOKEN)
        await self.page.get_by_role("button", name="Sign in").click()
        await self.page.get_by_text("Live.").wait_for()

    async def look(self, path: str) -> None:
        """Go to a page; it has no serious fault, and nothing sticks out."""
        await self.page.goto(self.site.url + path)
        await self.check(path)

    async def check(self, where: str) -> None:
        """The page that is open has no serious fault, and nothing sticks out."""
        await self.page.evaluate(AXE.read_text())
        found = await self.page.evaluate("axe.run({resultTypes: ['violations']})")
        serious = [
            f"{where}: {one['id']} {[(node['html'], node['failureSummary']) for node in one['nodes']]}"
            for one in found["violations"]
            if one["impact"] in ("serious", "critical")
        ]
        assert not serious
        wide = await self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{where} is {wide} px wider than the window"

    def _said(self, message: ConsoleMessage) -> None:
        # That a page answers 404 is what some tests look at; Chromium tells it as an error.
        if message.type in ("error", "warning") and "status of 404" not in message.text:
            self.faults.append(message.text)

    def _asked(self, request: Request) -> None:
        if not request.url.startswith((self.site.url, "data:")):
            self.faults.append(f"a request to {request.url}")

    def watch(self, context: BrowserContext) -> None:
        """Note what the console says, and requests to elsewhere."""
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("dialog", lambda dialog: self.faults.append(f"a dialog: {dialog.message}"))
        context.on("request", self._asked)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """The system's Chromium, with a fresh profile."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium; scripts/test installs it where it can")
    async with async_playwright() as playwright:
        # Playwright's own list of arguments has what our settings need anyway, and a fresh profile.
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """The service after a bad hour: an open incident, a dead delivery, a body in quarantine."""
    slack = StandInSlack()
    async with serving(slack.app) as slack_url:
        settings = Settings(
            _env_file=None,
            port_client_secret=SECRET,
            slack_webhook_url=f"{slack_url}/services/T0/B0/x",
            rules_file=rules_with_rate(tmp_path, f"{slack_url}/services/T0/B0/x"),
            database_url=f"sqlite:///{tmp_path}/listener.db",
            admin_token=TOKEN,
        )
        async with (
            serving(create_app(settings)) as url,
            httpx.AsyncClient(base_url=url, verify=NO_TLS) as client,
        ):
            site = Site(url, client, slack)
            slack.answers.extend([PlainTextResponse("invalid_payload", 400)] * 3)
            await site.change("Healthy", "Degraded", ago=50, entity="checkout-prod", title="Checkout")
            await site.change("Degraded", "Crashed", ago=30, entity="checkout-prod", title="Checkout")
            await site.change("Healthy", "Crashed", ago=10, entity="search-prod", title="Search")
            await site.post(b'{"nobody": "knows"}')
            yield site


@asynccontextmanager
async def visiting(
    browser: Browser, site: Site, width: int, scheme: Any, *, has_touch: bool = False
) -> AsyncIterator[Visit]:
    """Open a window, and see at the end that nothing went wrong in it."""
    context = await browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme=scheme,
        has_touch=has_touch,
        reduced_motion="reduce",  # half-way through a fade, colours are not what they are to be
    )
    context.set_default_timeout(8_000)
    visit = Visit(await context.new_page(), site)
    visit.watch(context)
    try:
        yield visit
    finally:
        await context.close()  # before the service ends, which waits for open streams
    assert not visit.faults
