"""How the store is, for Prometheus: read when it is asked for, so that all processes say the same."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from app import __version__
from app.errors import StoreUnavailable
from app.store.base import Store
from app.store.rows import QueueState, Tally


class _Read(Collector):
    """Gives what was read."""

    def __init__(self, families: Sequence[GaugeMetricFamily]) -> None:
        self._families = families

    def collect(self) -> Iterable[GaugeMetricFamily]:
        return self._families


async def read_store(store: Store, now: datetime) -> CollectorRegistry:
    """Return how the store is; one that does not answer is said to be down, and nothing else of it.

    Args:
        store: The store.
        now: The time, UTC.
    """
    registry = CollectorRegistry()
    try:
        queues, tally = await store.queues(now), await store.tally(now)
    except StoreUnavailable:
        registry.register(_Read([_up(0)]))
    else:
        registry.register(_Read([_up(1), *_of_queues(queues, now), *_of_tally(tally)]))
    return registry


def _up(value: int) -> GaugeMetricFamily:
    return GaugeMetricFamily("port_listener_store_up", "1 while the store can be read.", value)


def _of_queues(queues: Sequence[QueueState], now: datetime) -> list[GaugeMetricFamily]:
    labels = ["queue", "destination"]
    waiting = GaugeMetricFamily(
        "port_listener_queue_waiting_deliveries",
        "Deliveries that wait in a queue and could go.",
        labels=labels,
    )
    oldest = GaugeMetricFamily(
        "port_listener_queue_oldest_waiting_seconds",
        "How long the first of them has waited; 0: none does.",
        labels=labels,
    )
    on_hold = GaugeMetricFamily(
        "port_listener_queue_on_hold",
        "1 while a queue is on hold: its destination takes nothing until somebody mends it.",
        labels=labels,
    )
    failures = GaugeMetricFamily(
        "port_listener_queue_failures", "Transient failures in a row so far.", labels=labels
    )
    for one in queues:
        values = [one.name, one.destination]
        age = (now - one.oldest_at).total_seconds() if one.oldest_at else 0
        waiting.add_metric(values, one.waiting)
        oldest.add_metric(values, max(0.0, age))
        on_hold.add_metric(values, one.on_hold is not None)
        failures.add_metric(values, one.failures)
    return [waiting, oldest, on_hold, failures]


def _of_tally(tally: Tally) -> list[GaugeMetricFamily]:
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
        GaugeMetricFamily("port_listener_silences_active", "Silences that hold now.", tally.silences),
    ]
