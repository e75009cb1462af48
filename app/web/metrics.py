"""``/metrics``: what this process counted, and how the store is, for Prometheus."""

from collections.abc import Iterable
from datetime import datetime

from fastapi import APIRouter, Request, Response
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from app import __version__
from app.errors import StoreUnavailable
from app.observe.metrics import NAMESPACE
from app.store import queries
from app.store.queue_state import QueueState
from app.store.store import Store
from app.store.views import Tally
from app.web.health import NO_METHOD, NO_SECURITY, Deliverer
from app.web.session import BEARER, get_gate

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
STORE_UP = "1 while the store can be read."


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
        openapi_extra=NO_SECURITY if public else {"security": [{BEARER.scheme_name: []}]},
        responses=NO_METHOD
        | {
            200: {"content": {"text/plain": {}}, "description": "All metrics, in Prometheus' text format."},
            401: {"description": "METRICS_PUBLIC is not set, and the request does not bear ADMIN_TOKEN."},
            429: {"description": "Too many wrong tokens. Try again after Retry-After."},
        },
    )
    async def metrics(request: Request) -> Response:
        """Return all metrics: what this process counted, and how the store is now."""
        if not public:
            get_gate(request).admit(request)
        return Response(await request.state.scrape(), media_type=MEDIA_TYPE)

    return router


class StoreNumbers(Collector):
    """What the store says of itself, read already.

    Args:
        families: The metrics.
    """

    def __init__(self, families: Iterable[GaugeMetricFamily]) -> None:
        self._families = families

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Give the metrics to Prometheus' client."""
        return self._families


async def read_store(store: Store, now: datetime, dispatcher: Deliverer | None = None) -> StoreNumbers:
    """Read the store's numbers, and whether this listener delivers.

    They are read for each scrape, so that all processes give the same.

    Of a store that does not answer only ``port_listener_store_up 0`` is given.

    Args:
        store: The store.
        now: The time, UTC.
        dispatcher: What delivers; None: another process, which this one does not know.
    """
    text = "1 while what delivers can be relied on."
    up = [_family("dispatcher_up", text, value=not dispatcher.stale())] if dispatcher else []
    try:
        queues, tally, no_clicks = (
            await store.read(queries.page.queues, now),
            await store.read(queries.counts.tally, now),
            await store.read(queries.counts.socket_trouble, now),
        )
    except StoreUnavailable:
        return StoreNumbers([_family("store_up", STORE_UP, value=0), *up])
    text = "1 while no process has the connection over which clicks in Slack are to come."
    socket = _family("slack_socket_down", text, value=bool(no_clicks))
    # Nothing is given before all are read, so that no scrape has half of it.
    return StoreNumbers(
        [
            _family("store_up", STORE_UP, value=1),
            *up,
            *_queue_families(queues, now),
            *_tally_families(tally),
            socket,
        ]
    )


def _family(name: str, text: str, *labels: str, value: int | None = None) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{NAMESPACE}_{name}", text, value, labels or None)


def _queue_families(queues: Iterable[QueueState], now: datetime) -> list[GaugeMetricFamily]:
    of_queues = ("queue", "destination")
    waiting = _family("queue_waiting_deliveries", "Deliveries that wait in a queue and are due.", *of_queues)
    oldest = _family(
        "queue_oldest_waiting_seconds", "How long the first of them has waited; 0: none waits.", *of_queues
    )
    on_hold = _family(
        "queue_on_hold", "1 while a queue is on hold, because its destination is broken.", *of_queues
    )
    failures = _family("queue_failures", "Transient failures in a row so far.", *of_queues)
    together: dict[tuple[str, str], list[QueueState]] = {}
    for queue in queues:  # no metric names a person
        name = f"{queue.destination}/people" if queue.name.startswith("@") else queue.name
        together.setdefault((name, queue.destination), []).append(queue)
    for labels, members in together.items():
        ages = [(now - queue.oldest_at).total_seconds() for queue in members if queue.oldest_at]
        waiting.add_metric(labels, sum(queue.waiting for queue in members))
        oldest.add_metric(labels, max(0.0, *ages, 0.0))  # clocks of processes differ
        on_hold.add_metric(labels, any(queue.on_hold is not None for queue in members))
        failures.add_metric(labels, max(queue.failures for queue in members))
    return [waiting, oldest, on_hold, failures]


def _tally_families(tally: Tally) -> list[GaugeMetricFamily]:
    incidents = _family("incidents_open", "Open incidents, by rule and severity.", "rule", "severity")
    for names, number in tally.incidents.items():
        incidents.add_metric(names, number)
    build = _family("build_info", "The release, and its store's schema.", "version", "schema")
    build.add_metric([__version__, str(tally.schema)], 1)
    return [
        incidents,
        _family(
            "incidents_acknowledged", "Open incidents that somebody looks after.", value=tally.acknowledged
        ),
        build,
        _family("dead_deliveries", "Deliveries that were given up, and are kept.", value=tally.dead),
        _family("silences_active", "Silences that are active now.", value=tally.silences),
    ]
