"""``/metrics``: the numbers that Prometheus collects."""

from collections.abc import Awaitable, Callable
from typing import cast

from fastapi import APIRouter, Request, Response

from app.web.session import get_gate

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Scrape = Callable[[], Awaitable[bytes]]
"""Gives all metrics in Prometheus' text format."""


def metrics_router(*, public: bool) -> APIRouter:
    """Return the route of the metrics.

    Args:
        public: Everybody may see them, and not only who has the token.
    """
    router = APIRouter(tags=["Health"])

    @router.get(
        "/metrics",
        summary="What Prometheus collects",
        response_class=Response,
        responses={
            200: {"content": {"text/plain": {}}, "description": "All metrics, in Prometheus' text format."},
            401: {"description": "METRICS_PUBLIC is not set, and the request does not bear ADMIN_TOKEN."},
            429: {"description": "Too many wrong tokens. Try again after Retry-After."},
        },
    )
    async def metrics(request: Request) -> Response:
        """Return all metrics: what this process counted, and how the store is now."""
        if not public:
            get_gate(request).admit(request)
        scrape = cast("Scrape", request.state.scrape)
        return Response(await scrape(), media_type=MEDIA_TYPE)

    return router
