"""``/docs``: the description of the API, without a request to another site.

FastAPI's own page loads its script from a CDN, and would run it on a site where you may be signed in.
https://fastapi.tiangolo.com/how-to/custom-docs-ui-assets/
"""

from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

from app.web.middleware import SECURITY_HEADERS

FILES_PATH = "/docs/files"
DOCS_PAGE = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="openapi" content="{{openapi}}">
<title>Port changelog listener: its API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{FILES_PATH}/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="{FILES_PATH}/swagger-ui-bundle.js"></script>
<script src="{FILES_PATH}/docs.js"></script>
</body>
</html>
"""

router = APIRouter()
FILES = StaticFiles(directory=Path(__file__).parent / "swagger")
"""Serves the page's files under `FILES_PATH`."""


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> HTMLResponse:
    """Return the page, which reads the OpenAPI document and shows it."""
    return HTMLResponse(
        DOCS_PAGE.replace("{openapi}", str(request.app.openapi_url)), headers=SECURITY_HEADERS
    )
