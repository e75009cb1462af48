"""Pages as HTML: the templates, a kind of route whose errors are pages too, and the page's own files."""

import asyncio
import glob
import gzip
import hashlib
from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime, timedelta
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, ClassVar

from fastapi import Depends, HTTPException, Request, Response
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException as RoutingError
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from app.errors import StoreUnavailable
from app.model.incident import place_of
from app.model.notification import one_line
from app.notifier.base import duration, name_of, timestamp
from app.notifier.failure import remedy
from app.store import queries
from app.web.context import WebContext
from app.web.middleware import GZIPPED, RETRY_AFTER_SECONDS, SECURITY_HEADERS, takes_gzip
from app.web.session import Gate, SignedIn, Visitor
from app.web.view import entity_path, iso, query_string

HERE = Path(__file__).parent
STATIC = HERE / "static"
MAX_FORM_BYTES = 64 * 1024
FORM_SECONDS = 15
NOTHING_HERE = "There is nothing at this address."
COMPRESSED = frozenset({".css", ".js"})
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


def is_web_address(url: object) -> bool:
    """Whether a link may be followed: a `javascript:` URL from the catalog must not become one."""
    return isinstance(url, str) and url.startswith(("https://", "http://"))


def _static_version() -> str:
    """Return a hash of the page's files: their address changes with them, so that browsers may keep them."""
    digest = hashlib.sha256()
    for file in sorted(STATIC.rglob("*.*")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _ago(time: datetime, now: datetime) -> str:
    span = now - time
    return f"{duration(span)} ago" if span >= timedelta(0) else f"in {duration(-span)}"


def _make_environment() -> Environment:
    """Load the templates: values are escaped, and a missing one is an error."""
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,  # a misspelt name is an error in a test, not an empty place on the page
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "version": _static_version(),
        "query": query_string,
        "entity_path": entity_path,
        "len": len,
    }
    environment.filters |= {
        "duration": duration,
        "timestamp": timestamp,
        "iso": iso,
        "line": one_line,
        "name_of": name_of,
        "remedy": remedy,
        "exactly": glob.escape,  # a name as a silence's pattern that matches this name only
        "milliseconds": lambda span: f"{span / timedelta(milliseconds=1):,.0f} ms",
    }
    environment.tests["web"] = is_web_address
    return environment


PAGE_TEMPLATES = _make_environment()


async def render(
    request: Request, template: str, visitor: Visitor, *, status: int = 200, **values: Any
) -> HTMLResponse:
    """Render a page for a visitor who is signed in.

    Args:
        request: The request.
        template: The template's file.
        visitor: Who is signed in.
        status: The HTTP status.
        values: What the template needs.
    """
    gate: Gate = request.state.gate
    context: WebContext = request.state.context
    now = context.clock()
    common = {
        "visitor": visitor,
        "csrf": gate.form_token(visitor),
        "now": now,
        "ago": lambda time: _ago(time, now),
        "path": request.url.path,
        "here": request.url.path + (f"?{request.url.query}" if request.url.query else ""),
        "done": await _last_action(request, context, visitor),
        "channels": (channels := context.channels),
        "place": lambda row: place_of(row.destination, row.queue, channels),
        "part": bool(request.headers.get("hx-request")),
    }
    return HTMLResponse(PAGE_TEMPLATES.get_template(template).render(common | values), status)


def get_renderer(request: Request, visitor: SignedIn) -> Callable[..., Awaitable[HTMLResponse]]:
    """Make `render` for the visitor who is signed in: it takes the template and what that needs."""
    return partial(render, request, visitor=visitor)


Render = Annotated[Callable[..., Awaitable[HTMLResponse]], Depends(get_renderer)]


async def _last_action(request: Request, context: WebContext, visitor: Visitor) -> str | None:
    """Read this visitor's last action from the audit trail: a link must not be able to put words here."""
    number = request.query_params.get("did", "")
    if not number.isascii() or not number.isdigit() or len(number) > 18:
        return None
    entry = await context.store.read(queries.audit.entry, int(number))
    return entry.details if entry and entry.who == visitor.name else None


class PageRoute(APIRoute):
    """A route whose errors are pages too, and whose answers have strict headers."""

    form_seconds: ClassVar[float] = FORM_SECONDS

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the route's handler."""
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            refuse = partial(_error_page, part=bool(request.headers.get("hx-request")))
            try:
                if request.method == "POST":
                    await read_form(request, self.form_seconds)
                response = await handle(request)
            except HTTPException as error:
                response = refuse(error.status_code, error.detail, dict(error.headers or {}))
            except RequestValidationError as error:
                response = refuse(*_what_is_wrong(error))
            except TimeoutError:
                response = refuse(408, "The form did not arrive in time.")
            except UnicodeEncodeError:  # a form may name a charset that decodes to half a surrogate pair
                response = refuse(422, "The form holds text that is not Unicode.")
            except StoreUnavailable as error:
                retry = {"Retry-After": str(RETRY_AFTER_SECONDS)}
                response = refuse(503, f"{error}. Try again in a moment.", retry)
            response.headers.update(SECURITY_HEADERS | {"Cache-Control": "no-store"})
            return response

        return handler


def _what_is_wrong(error: RequestValidationError) -> tuple[int, str]:
    first = error.errors()[0]
    place, name = first["loc"][0], first["loc"][-1]
    if place == "path":  # no number where a number names a thing
        return 404, NOTHING_HERE
    if first["type"] == "missing":
        return 422, f"The {'address' if place == 'query' else 'form'} does not say which {name} is meant."
    return 422, f"{name}: {first['msg']}"


async def read_form(request: Request, seconds: float = FORM_SECONDS) -> None:
    """Read a form's body. The sender is not known yet, so size and time are limited.

    Args:
        request: The request.
        seconds: How long it may take.

    Raises:
        HTTPException: 411, it does not announce its size, as browsers do; 413, it is too large.
        TimeoutError: It takes too long.
    """
    length = request.headers.get("content-length", "0" if "transfer-encoding" not in request.headers else "")
    if not length.isascii() or not length.isdigit():
        raise HTTPException(411, "The form does not say how large it is.")
    if int(length) > MAX_FORM_BYTES:
        raise HTTPException(413, "The form is too large.")
    async with asyncio.timeout(seconds):
        await request.body()  # the request keeps the body for the form's parser


def _error_page(
    status: int, detail: str, headers: dict[str, str] | None = None, *, part: bool = False
) -> Response:
    if location := (headers or {}).get("Location"):
        return RedirectResponse(location, status)
    template = PAGE_TEMPLATES.get_template("error_part.html" if part else "error.html")
    return HTMLResponse(template.render(title=TITLES.get(status, "Error"), detail=detail), status, headers)


async def not_found(request: Request, error: Exception) -> Response:
    """Answer a person with a page, and a program with JSON, where nothing is at an address."""
    is_program = "text/html" not in request.headers.get("accept", "") or request.url.path.startswith("/api/")
    if isinstance(error, RoutingError) and is_program:
        return await http_exception_handler(request, error)
    return _error_page(404, NOTHING_HERE, SECURITY_HEADERS)


@cache
def _compressed(file: Path) -> bytes:
    return gzip.compress(file.read_bytes(), mtime=0)


class Static(StaticFiles):
    """The page's own files, which a browser may keep: their address changes with them."""

    def __init__(self) -> None:
        super().__init__(directory=STATIC)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return a file, compressed where the browser takes that."""
        response = await super().get_response(path, scope)
        if response.status_code == 200:
            if Path(path).suffix in COMPRESSED and takes_gzip(
                Headers(scope=scope).get("accept-encoding", "")
            ):
                content = await asyncio.to_thread(_compressed, STATIC / path)
                response = Response(content, media_type=response.media_type, headers=dict(GZIPPED))
            response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response
