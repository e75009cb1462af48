"""The page in a real browser: what an on-call does there, at both widths, light and dark."""

import re

import pytest
from playwright.async_api import Browser, expect

from tests.browser.conftest import PAGES, Site, visiting

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

LOOKS = [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
async def test_an_on_call(browser: Browser, site: Site, width: int, scheme: str) -> None:
    """Signs in, sees a change come without a reload, follows it, retries a dead one, silences an incident."""
    async with visiting(browser, site, width, scheme) as visit:
        page = visit.page
        await visit.sign_in()
        await page.evaluate("window.sameDocument = true")
        await site.change("Healthy", "Restarting", entity="billing-prod", title="Billing")
        latest = page.get_by_role("region", name="Latest changes")
        await expect(latest.get_by_role("link", name="Billing").first).to_be_visible()
        assert await page.evaluate("window.sameDocument")

        await latest.get_by_role("link", name="Billing").first.click()
        await expect(page.get_by_role("heading", name="Billing", level=1)).to_be_visible()
        await expect(page.get_by_role("row", name="healthStatus Healthy Restarting")).to_be_visible()
        await expect(page.locator(".attempts").get_by_text("delivered")).to_be_visible()

        await page.get_by_role("link", name="Now").click()
        await page.get_by_role("link", name="Retry: delivery 1").click()
        await visit.check("the question")
        await page.get_by_role("dialog").get_by_role("button", name="Try again").click()
        await expect(
            page.get_by_text("Delivery 1 of checkout-prod to default is tried again.")
        ).to_be_visible()
        stuck = page.get_by_role("region", name="What is stuck")
        await expect(stuck.get_by_text("no delivery is dead")).to_be_visible()
        assert len(site.slack.received) >= 2

        await page.get_by_role("link", name="Silence: search-prod").click()
        await page.get_by_role("dialog").get_by_role("button", name="4 hours").click()
        await expect(page.get_by_role("status").get_by_text("entity search-prod, until")).to_be_visible()
        await expect(
            page.get_by_role("region", name="Open incidents").get_by_text("silenced")
        ).to_be_visible()

        await page.get_by_role("link", name="Audit").click()
        await expect(page.get_by_text("Silence 1: rule health")).to_be_visible()


@pytest.mark.parametrize(("width", "scheme"), [LOOKS[0], LOOKS[3]])
async def test_every_page_is_accessible(browser: Browser, site: Site, width: int, scheme: str) -> None:
    """No page has a serious fault for axe, is wider than the window, or says anything to the console."""
    async with visiting(browser, site, width, scheme) as visit:
        await visit.look("/sign-in")
        await visit.sign_in()
        for path in PAGES:
            await visit.look(path)


async def test_the_keyboard(browser: Browser, site: Site) -> None:
    """The keyboard reaches everything: past the links to the content, into the question and out again."""
    async with visiting(browser, site, 1280, "light") as visit:
        page = visit.page
        await visit.sign_in()
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.locator("main")).to_be_focused()
        opener = page.get_by_role("link", name="Silence: checkout-prod")
        await opener.focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("dialog").get_by_label("Why")).to_be_focused()
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("dialog")).to_be_hidden()
        await expect(opener).to_be_focused()
        await page.get_by_role("button", name="Acknowledge: checkout-prod", exact=True).focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("status").get_by_text("is acknowledged by Ada")).to_be_visible()
        await page.get_by_role("button", name="Un-acknowledge: checkout-prod").press("Enter")
        await expect(page.get_by_role("status").get_by_text("is not acknowledged any more")).to_be_visible()
        await opener.focus()
        await site.change("Healthy", "Degraded", entity="mail-prod", title="Mail")
        await expect(page.get_by_role("link", name="Silence: mail-prod")).to_be_visible()
        await expect(opener).to_be_focused()  # what is renewed under it does not take the focus away


async def test_a_page_that_hears_nothing_says_so(browser: Browser, site: Site) -> None:
    """After 45 seconds without a word a bar says since when; ages go on; with the next word the bar goes."""
    async with visiting(browser, site, 360, "light") as visit:
        page = visit.page
        await page.clock.install()
        await visit.sign_in()
        bar = page.get_by_text("Not live since")
        await expect(bar).to_be_hidden()
        await page.clock.fast_forward(50_000)
        await expect(bar).to_be_visible()
        await visit.check("/")
        await site.change("Healthy", "Degraded", entity="mail-prod", title="Mail")
        await expect(bar).to_be_hidden()
        await expect(page).to_have_title(re.compile("^3 open, critical"))
        await expect(page.locator("#icon")).to_have_attribute("href", re.compile("icon-critical"))


async def test_the_timeline(browser: Browser, site: Site) -> None:
    """The timeline has a row for each entity, is zoomed by the slider, and a click leads to the entity."""
    async with visiting(browser, site, 1280, "light") as visit:
        page = visit.page
        await visit.sign_in()
        await page.get_by_role("link", name="Timeline").click()
        chart = page.locator("#timeline")
        await expect(chart.locator("canvas")).to_be_visible()
        span = "(() => { const one = echarts.getInstanceByDom(document.getElementById('timeline'))"
        span += ".getOption().dataZoom[0]; return one.end - one.start })()"
        await page.wait_for_function(f"{span} === 100")
        handle = await page.locator("#timeline-axis").bounding_box()
        assert handle
        await page.mouse.move(handle["x"] + handle["width"] - 16, handle["y"] + 14)
        await page.mouse.down()
        await page.mouse.move(handle["x"] + handle["width"] - 300, handle["y"] + 14, steps=4)
        await page.mouse.up()
        await page.wait_for_function(f"{span} < 100")
        await chart.click(position={"x": 1150, "y": 45})
        await expect(page.get_by_role("heading", name="Checkout", level=1)).to_be_visible()


async def test_the_timeline_on_a_phone(browser: Browser, site: Site) -> None:
    """A swipe over the picture scrolls the page; the axis stays in sight."""
    for number in range(60):
        await site.change("Healthy", "Crashed", ago=5, entity=f"service-{number}", title=f"Service {number}")
    async with visiting(browser, site, 390, "dark", has_touch=True) as visit:
        page = visit.page
        await visit.sign_in()
        await page.goto(f"{site.url}/timeline")
        await expect(page.locator("#timeline canvas")).to_be_visible()
        await page.wait_for_function("() => document.getElementById('timeline').clientHeight > 1500")
        session = await page.context.new_cdp_session(page)
        for y in range(700, 300, -40):
            kind = "touchStart" if y == 700 else "touchMove"
            touch = {"type": kind, "touchPoints": [{"x": 250, "y": y}]}
            await session.send("Input.dispatchTouchEvent", touch)
        await session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        await page.wait_for_function("() => scrollY > 200")
        await expect(page.locator("#timeline-axis canvas")).to_be_in_viewport()


async def test_a_session_that_ends(browser: Browser, site: Site) -> None:
    """Without its session a page that is open says so, and the next click leads to the sign-in and back."""
    async with visiting(browser, site, 1280, "light") as visit:
        await visit.sign_in()
        await visit.page.context.clear_cookies()
        await visit.page.get_by_role("link", name="Changes", exact=True).click()
        await expect(visit.page.get_by_role("button", name="Sign in")).to_be_visible()
        await visit.page.get_by_label("Your name").fill("Ada")
        await visit.page.get_by_label("Token").fill("a-wrong-token-of-20-letters")
        await visit.page.get_by_role("button", name="Sign in").click()
        await expect(visit.page.get_by_role("alert")).to_have_text("This is not the ADMIN_TOKEN.")
        visit.faults.clear()  # Chromium tells of the 401


async def test_what_goes_wrong_takes_nothing_away(browser: Browser, site: Site) -> None:
    """It is light; an error while it renews leaves it as it is; a form keeps times in the viewer's zone."""
    async with visiting(browser, site, 390, "light") as visit:
        page = visit.page
        session = await page.context.new_cdp_session(page)
        sizes: list[int] = []
        session.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
        await session.send("Network.enable")
        await session.send("Emulation.setTimezoneOverride", {"timezoneId": "Asia/Kolkata"})
        await visit.sign_in()
        assert 20_000 < sum(sizes) < 100_000

        for answer in ({"status": 503, "body": "<p>away</p>"}, {"status": 200, "body": "<p>a proxy</p>"}):
            await page.route("**/*", lambda route, _, answer=answer: route.fulfill(**answer))
            async with page.expect_response("**/*"):
                await page.evaluate("document.body.dispatchEvent(new Event('news'))")
            await page.unroute_all()
        await expect(page.get_by_role("link", name="Silence: search-prod")).to_be_visible()

        await page.get_by_role("link", name="Silence: search-prod").press("Enter")
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("Why").fill("typed")
        await dialog.get_by_label("Begins").fill("2999-01-01T22:00")
        await dialog.get_by_role("button", name="2 hours").press("Enter")
        await expect(page.get_by_role("alert")).to_have_text(re.compile("within a year"))
        await expect(page.get_by_label("Why")).to_have_value("typed")
        await expect(page.get_by_label("Begins (Asia/Calcutta")).to_have_value("2999-01-01T22:00")
        assert await page.locator("input[name=from]").input_value() == "2999-01-01T16:30"
        await visit.check("the form")
        visit.faults.clear()  # Chromium tells of the 503 and the 422
