"""``/metrics``: what this process counted, and how the store is, for Prometheus."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from typing import cast

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from app import __version__
from app.errors import StoreUnavailable
from app.store import queries
from app.store.store import Store
from app.store.views import QueueState, Tally
from app.web.session import get_gate

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Scrape = Callable[[], Awaitable[bytes]]
"""Gives all metrics in Prometheus' text format."""


def metrics_router(*, public: bool) -> APIRouter:
    """Make the route of the metrics.

    Args:
        public: Whether they can be read without the admin token.
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


class _Families(Collector):
    """Metrics that were read already."""

    def __init__(self, families: Sequence[GaugeMetricFamily]) -> None:
        self._families = families

    def collect(self) -> Iterable[GaugeMetricFamily]:
        return self._families


async def read_store(store: Store, now: datetime) -> CollectorRegistry:
    """Read the store's numbers. They are read for each scrape, so that all processes give the same.

    Of a store that does not answer only ``port_listener_store_up 0`` is given.

    Args:
        store: The store.
        now: The time, UTC.
    """
    registry = CollectorRegistry()
    try:
        queues, tally = (
            await store.read(queries.page.queues, now),
            await store.read(queries.counts.tally, now),
        )
    except StoreUnavailable:
        registry.register(_Families([_up(0)]))
    else:  # nothing is registered before both are read, so that no scrape has half of it
        registry.register(_Families([_up(1), *_queue_families(queues, now), *_tally_families(tally)]))
    return registry


def _up(value: int) -> GaugeMetricFamily:
    return GaugeMetricFamily("port_listener_store_up", "1 while the store can be read.", value)


def _queue_families(queues: Sequence[QueueState], now: datetime) -> list[GaugeMetricFamily]:
    def family(name: str, text: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"port_listener_queue_{name}", text, labels=["queue", "destination"])

    waiting = family("waiting_deliveries", "Deliveries that wait in a queue and are due.")
    oldest = family("oldest_waiting_seconds", "How long the first of them has waited; 0: none waits.")
    on_hold = family("on_hold", "1 while a queue is on hold, because its destination is broken.")
    failures = family("failures", "Transient failures in a row so far.")
    for queue in queues:
        labels = [queue.name, queue.destination]
        age = (now - queue.oldest_at).total_seconds() if queue.oldest_at else 0
        waiting.add_metric(labels, queue.waiting)
        oldest.add_metric(labels, max(0.0, age))  # clocks of processes differ
        on_hold.add_metric(labels, queue.on_hold is not None)
        failures.add_metric(labels, queue.failures)
    return [waiting, oldest, on_hold, failures]


def _tally_families(tally: Tally) -> list[GaugeMetricFamily]:
    incidents = GaugeMetricFamily(
        "port_listener_incidents_open", "Open incidents, by rule and severity.", labels=["rule", "severity"]
    )
    for (rule, severity), number in tally.incidents.items():
        incidents.add_metric([rule, severity], number)
    build = GaugeMetricFamily(
        "port_listener_build_info", "The release, and its store's schema.", labels=["version", "schema"]
    )
    build.add_metric([__version__, str(tally.schema)], 1)
    dead = "Deliveries that were given up, and are kept."
    return [
        incidents,
        build,
        GaugeMetricFamily("port_listener_dead_deliveries", dead, tally.dead),
        GaugeMetricFamily("port_listener_silences_active", "Silences that are active now.", tally.silences),
    ]
