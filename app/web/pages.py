"""A kind of route that answers people: with pages, also when something is wrong, and with strict headers."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from app.errors import StoreUnavailable
from app.web.headers import SECURITY
from app.web.show import ENVIRONMENT, STATIC

LARGEST_FORM = 64 * 1024
FORM_SECONDS = 15
TITLES = {
    401: "Not signed in",
    403: "Not allowed",
    404: "Not found",
    408: "Too slow",
    409: "It cannot be done",
    411: "Not understood",
    413: "Too large",
    422: "Not understood",
    429: "Too many tries",
    503: "The store is not available",
}


class PageRoute(APIRoute):
    """A route whose errors are pages too."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, with headers that let nothing foreign in and nothing be kept."""
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                if request.method == "POST":
                    await _take_form(request)
                response = await handle(request)
            except HTTPException as error:
                response = _error(error.status_code, error.detail, dict(error.headers or {}))
            except RequestValidationError as error:
                first = error.errors()[0]
                response = _error(422, f"{first['loc'][-1]}: {first['msg']}")
            except TimeoutError:
                response = _error(408, "The form did not arrive in time.")
            except UnicodeEncodeError:  # a form may name a charset that makes letters which are none
                response = _error(422, "The form holds what is no text.")
            except StoreUnavailable as error:
                response = _error(503, f"{error}. Try again in a moment.", {"Retry-After": "5"})
            response.headers.update(SECURITY | {"Cache-Control": "no-store"})
            return response

        return handler


async def _take_form(request: Request) -> None:
    """Read a form, before anybody knows who sends it: a small one, and soon.

    Raises:
        HTTPException: 411, it does not say how large it is, as browsers do; 413, it is too large.
        TimeoutError: It takes too long.
    """
    length = request.headers.get("content-length", "0" if "transfer-encoding" not in request.headers else "")
    if not length.isascii() or not length.isdigit():
        raise HTTPException(411, "The form does not say how large it is.")
    if int(length) > LARGEST_FORM:
        raise HTTPException(413, "The form is too large.")
    async with asyncio.timeout(FORM_SECONDS):
        await request.body()  # the request keeps it for whoever parses it


def _error(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    if location := (headers or {}).get("Location"):
        return RedirectResponse(location, status)
    text = ENVIRONMENT.get_template("error.html").render(title=TITLES.get(status, "Error"), detail=detail)
    return HTMLResponse(text, status, headers)


class Static(StaticFiles):
    """The page's own files, which a browser may keep: their address changes with them."""

    def __init__(self) -> None:
        super().__init__(directory=STATIC)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return a file."""
        response = await super().get_response(path, scope)
        if response.status_code == 200:
            response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response
