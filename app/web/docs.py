"""``/docs``: the description of the API, without a request to another site.

FastAPI's own page loads its script from a CDN, and would run it on a site where you may be signed in.
https://fastapi.tiangolo.com/how-to/custom-docs-ui-assets/
"""

from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

from app.web.middleware import SECURITY_HEADERS

DOCS_FOLDER = Path(__file__).parent
FILES_PATH = "/docs/files"
DOCS_PAGE = (DOCS_FOLDER / "templates" / "docs.html").read_text(encoding="utf-8")

router = APIRouter()
FILES = StaticFiles(directory=DOCS_FOLDER / "swagger")
"""Serves the page's files under `FILES_PATH`."""


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> HTMLResponse:
    """Return the page, which reads the OpenAPI document and shows it."""
    return HTMLResponse(
        DOCS_PAGE.replace("{openapi}", str(request.app.openapi_url)), headers=SECURITY_HEADERS
    )
