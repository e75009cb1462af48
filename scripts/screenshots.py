#!/usr/bin/env python3
"""A realistic morning of on-call, and the README's pictures of it: 40 entities, 6 teams, what goes wrong."""

import asyncio
import json
import random
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from playwright.async_api import Page, async_playwright
from starlette.responses import PlainTextResponse

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from app.demo.run import change_body, serving, signed_headers  # noqa: E402 - the root first
from app.demo.stand_in_slack import StandInSlack  # noqa: E402
from app.main import create_app  # noqa: E402
from app.observe.logs import configure_logging  # noqa: E402
from app.settings import Settings  # noqa: E402

SECRET, TOKEN = "for-pictures", "a-token-for-pictures"
TEAMS = ("Payments", "Rocket", "Discovery", "Platform", "Data", "Mobile")
SERVICES = ("api", "worker", "checkout", "search", "billing", "mail", "gateway")
ENTITIES = [f"{team.lower()}-{service}-prod" for service in SERVICES for team in TEAMS][:40]
SEED = 20260609
ARGUMENTS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"]
LOOKS = [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]
SHOWN = ("/", "/incidents", "/timeline", "/changes", "/silences", "/quarantine", "/audit")


def _team(entity: str) -> str:
    return next(team for team in TEAMS if entity.startswith(team.lower()))


class Morning:
    """What happens to the listener, and the Slack that it tells."""

    def __init__(self, client: httpx.AsyncClient, slack: StandInSlack, broken: StandInSlack) -> None:
        self.client, self.slack, self.broken = client, slack, broken

    async def change(self, entity: str, before: str, after: str, minutes_ago: float) -> None:
        """Let Port tell that a health status changed."""
        body = change_body(
            before=before,
            after=after,
            at=datetime.now(UTC) - timedelta(minutes=minutes_ago),
            entity=entity,
            title=entity.replace("-prod", "").replace("-", " ").title(),
            team=_team(entity),
        )
        await self.post(body)

    async def post(self, body: bytes) -> None:
        """Post a body, signed by Port."""
        headers = signed_headers(body, SECRET, datetime.now(UTC))
        await self.client.post("/api/slack", content=body, headers=headers)

    async def act(self, path: str, **values: object) -> None:
        """Let somebody act through the API."""
        answer = await self.client.post(
            f"/api/v1{path}", json=values, headers={"Authorization": f"Bearer {TOKEN}"}
        )
        answer.raise_for_status()

    async def happen(self) -> None:
        """Let it happen: outages that end, one that flaps, a dead alert, a channel on hold, a silence."""
        chance = random.Random(SEED)  # noqa: S311 - a story, no secret
        for entity in chance.sample(ENTITIES, 24):  # the night: what came and went
            ago = chance.uniform(100, 340)
            bad = chance.choice(("Degraded", "Crashed", "Restarting"))
            await self.change(entity, "Healthy", bad, ago)
            await self.change(entity, bad, "Healthy", ago - chance.uniform(4, 60))
        await asyncio.sleep(2)  # what follows is no digest of the night's
        self.slack.answers.extend([PlainTextResponse("invalid_payload", 400)] * 3)
        await self.change("rocket-mail-prod", "Healthy", "Crashed", 88)
        await asyncio.sleep(0.5)
        await self.act("/silences", team="Data", seconds=3 * 3600, comment="migration of the warehouse")
        for entity, bad, ago in (
            ("platform-gateway-prod", "Crashed", 54),
            ("discovery-search-prod", "Degraded", 41),
            ("mobile-api-prod", "Degraded", 33),
            ("data-worker-prod", "Degraded", 26),
            ("data-billing-prod", "Crashed", 25),
            ("rocket-checkout-prod", "Restarting", 12),
        ):
            await self.change(entity, "Healthy", bad, ago)
        for turn in range(5):  # one flaps
            await self.change("discovery-api-prod", "Healthy", "Degraded", 20 - 4 * turn)
            await self.change("discovery-api-prod", "Degraded", "Healthy", 18 - 4 * turn)
        await self.change("discovery-api-prod", "Healthy", "Degraded", 1)
        self.broken.answers.extend([PlainTextResponse("channel_is_archived", 410)] * 50)
        await self.change("payments-checkout-prod", "Healthy", "Crashed", 9)
        await self.change("payments-billing-prod", "Healthy", "Degraded", 6)
        await self.post(b'{"action": "UPDATE", "diff": {"before": {"identifier": "x"}, "after": {}}}')
        await asyncio.sleep(1.5)


@asynccontextmanager
async def morning(folder: Path) -> AsyncIterator[tuple[str, Morning]]:
    """Run the service after such a morning; gives its address and the morning."""
    slack, broken = StandInSlack(), StandInSlack()
    async with serving(slack.app) as slack_url, serving(broken.app) as broken_url:
        teams = {team.lower(): slack_url for team in TEAMS} | {"payments": broken_url, "oncall": slack_url}
        destinations = {
            name: {"type": "slack", "webhook_url": f"{url}/services/T0/B0/{name}", "rate": 1000}
            for name, url in teams.items()
        }
        health = {
            "name": "health",
            "blueprint": "deploymentConfig",
            "when": {"property": "healthStatus"},
            "resolve": {"property": "healthStatus", "to": "Healthy"},
            "severity": {"Crashed": "critical", "Degraded": "warning", "Restarting": "info"},
            "flap": {"changes": 4, "within": "30m"},
            "send": [{"by_team": {team: team.lower() for team in TEAMS}, "default": "oncall"}],
        }
        rules = folder / "rules.json"
        rules.write_text(json.dumps({"version": 1, "destinations": destinations, "rules": [health]}))
        settings = Settings(
            _env_file=None,
            port_client_secret=SECRET,
            rules_file=rules,
            database_url=f"sqlite:///{folder}/pictures.db",
            admin_token=TOKEN,
        )
        async with serving(create_app(settings)) as url, httpx.AsyncClient(base_url=url) as client:
            happening = Morning(client, slack, broken)
            await happening.happen()
            yield url, happening


async def sign_in(page: Page, url: str) -> None:
    """Sign in, and stand on the first page."""
    await page.goto(url)
    await page.get_by_label("Your name").fill("Ada")
    await page.get_by_label("Token").fill(TOKEN)
    await page.get_by_role("button", name="Sign in").click()
    await page.get_by_text("Live.").wait_for()


async def take(url: str, folder: Path | None) -> None:
    """Take the README's pictures, or, with a folder, those of every page at both widths, light and dark."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        for width, scheme in LOOKS if folder else (LOOKS[0], LOOKS[3]):
            page = await browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)  # type: ignore[arg-type]
            await sign_in(page, url)
            if folder is None and width == 1280:
                await page.screenshot(path=ROOT / "docs/page.png")
            elif folder is None:
                await page.goto(f"{url}/timeline")
                await page.wait_for_timeout(800)
                await page.screenshot(path=ROOT / "docs/page-phone.png")
            for path in SHOWN if folder else ():
                await page.goto(f"{url}{path}")
                await page.wait_for_timeout(800)
                name = path.strip("/") or "now"
                await page.screenshot(path=folder / f"{name}-{width}-{scheme}.png")  # type: ignore[operator]
        await browser.close()


async def main() -> None:
    """Run the service, let the morning happen, and take the pictures, or keep it open to look at."""
    configure_logging("CRITICAL", "text")
    print("The morning happens, which takes some ten seconds …", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        async with morning(Path(folder)) as (url, _):
            if "--stay" in sys.argv:
                print(f"{url}, with the token {TOKEN}; Ctrl-C ends it", flush=True)
                await asyncio.Event().wait()
            await take(url, Path(sys.argv[1]) if len(sys.argv) > 1 else None)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        sys.exit(130)
