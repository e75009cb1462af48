"""The page behind a path of its own, and addresses at which nothing is."""

import re

import httpx
import pytest

from tests.conftest import SECRET, Start
from tests.web.visitor import TOKEN

PREFIX = "/ops/listener"
LED = re.compile(r' (href|src|action|content|hx-get|data-url|data-events)="(/[^"]*)"')


@pytest.mark.parametrize("stripped", [False, True], ids=["the path as it is", "the proxy takes it away"])
@pytest.mark.parametrize("way", ["page_url", "root_path"])
async def test_everything_leads_to_the_prefix(start: Start, stripped: bool, way: str) -> None:
    """Pages, redirects and files work behind a proxy, whether it takes the prefix away or not."""
    told = {"page_url": f"https://ops.example.com{PREFIX}/", "root_path": PREFIX}[way]
    async with start(admin_token=TOKEN, **{way: told}) as service:

        async def ask(method: str, path: str, **more: object) -> httpx.Response:
            assert path.startswith(f"{PREFIX}/"), path
            inner = path.removeprefix(PREFIX) if stripped else path
            # A browser has the cookie for what is under the prefix, though the proxy takes that away.
            headers = {"Cookie": "; ".join(cookies)}
            return await service.client.request(method, inner, headers=headers, **more)  # type: ignore[arg-type]

        cookies: list[str] = []
        await service.change("Healthy", "Degraded")
        asked = await ask("GET", f"{PREFIX}/")
        assert asked.headers["location"] == f"{PREFIX}/sign-in?next=%2F"
        signed = await ask("POST", f"{PREFIX}/sign-in", data={"name": "Ada", "token": TOKEN})
        assert signed.headers["location"] == f"{PREFIX}/"
        cookie = signed.headers["set-cookie"]
        assert f"Path={PREFIX};" in cookie
        service.client.cookies.clear()
        cookies.append(cookie.partition(";")[0])
        seen, pending = set[str](), {f"{PREFIX}/", f"{PREFIX}/docs", f"{PREFIX}/timeline"}
        while pending - seen:
            path = min(pending - seen)
            seen.add(path)
            answer = await ask("GET", path)
            assert answer.status_code == 200, path
            if answer.headers["content-type"].startswith("text/html"):
                found = LED.findall(answer.text)
                assert found
                assert all(link.startswith(f"{PREFIX}/") for _, link in found), path
                pending |= {
                    link.partition("#")[0].replace("&amp;", "&") for name, link in found if name != "action"
                }
                pending -= {f"{PREFIX}/events"}  # it does not end
        assert len(seen) > 20
        assert (await ask("GET", f"{PREFIX}/openapi.json")).json()["servers"][0] == {"url": PREFIX}
        assert (await ask("GET", f"{PREFIX}/healthz")).json()["status"] == "ok"
        cookies.clear()
        lost = await service.client.get("/", headers={"HX-Request": "true"})
        assert lost.headers["hx-redirect"] == f"{PREFIX}/sign-in"


async def test_a_prefix_that_the_webhook_begins_with(start: Start) -> None:
    """Port's changes arrive whatever the page's address is."""
    async with start(page_url="https://ops.example.com/api") as service:
        assert (await service.change("Healthy", "Degraded")).status_code == 202


@pytest.mark.parametrize("path", ["/nothing", "/changes/1/x", "/static/x.js"])
async def test_nothing_is_there(start: Start, path: str) -> None:
    """A person gets a page in words, a program JSON; a known address keeps its 405."""
    async with start(admin_token=TOKEN) as service:
        person = await service.client.get(path, headers={"Accept": "text/html,*/*"})
        assert (person.status_code, "There is nothing at this address." in person.text) == (404, True)
        assert "frame-ancestors" in person.headers["content-security-policy"]
        program = await service.client.get(path)
        assert (program.status_code, program.json()) == (404, {"detail": "Not Found"})
        of_api = await service.client.get("/api/v1/x", headers={"Accept": "text/html"})
        assert (of_api.status_code, of_api.json()) == (404, {"detail": "Not Found"})
        assert (await service.client.get("/api/slack", headers={"Accept": "text/html"})).status_code == 405
        assert SECRET not in person.text
