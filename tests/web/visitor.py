"""Somebody at the page, without a browser."""

import html
import re

import httpx

from tests.conftest import Service

TOKEN = "a-token-of-24-characters"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


async def sign_in(service: Service, name: str = "Ada") -> httpx.Response:
    """Sign in; the client keeps the cookie."""
    return await service.client.post("/sign-in", data={"name": name, "token": TOKEN})


async def form(service: Service, path: str) -> dict[str, str]:
    """Return the fields of the last form on a page, which asks before something is done."""
    text = (await service.client.get(path)).text
    fields = re.findall(r'<input[^>]*name="(\w+)"[^>]*value="([^"]*)"', text.rpartition("<form")[2])
    return {name: html.unescape(value) for name, value in fields}


async def do(service: Service, path: str, **more: str) -> httpx.Response:
    """Fill a form in, send it, and return the page that says what was done."""
    fields = await form(service, path)
    answer = await service.client.post(path.partition("?")[0], data=fields | more)
    if answer.has_redirect_location:
        return await service.client.get(answer.headers["location"])
    return answer
