"""The numbers of this process and of one that works for it, as one answer to Prometheus."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

ADDED_GAUGES = frozenset(
    {"process_resident_memory_bytes", "process_virtual_memory_bytes", "process_open_fds"}
)
"""What two processes have of the machine; any other gauge is the same in both."""
OF_THE_FILE = "port_listener_rules_reload_failures"
"""Both read the rules file: what is wrong with it is counted once."""

Key = tuple[str, str, tuple[tuple[str, str], ...]]
"""Of a number: the metric, the series, and its labels."""


def is_count(metric: Metric) -> bool:
    """Tell whether the numbers of a metric only grow, so that those of processes can be added."""
    return metric.type in ("counter", "histogram") and metric.name != OF_THE_FILE


def numbers_of(collector: Collector) -> list[tuple[str, str, dict[str, str], float]]:
    """List what can be added to another process's, as JSON: the metric, the series, its labels, its value."""
    return [
        (metric.name, sample.name, sample.labels, sample.value)
        for metric in collector.collect()
        if is_count(metric) or metric.name in ADDED_GAUGES
        for sample in metric.samples
    ]


def by_key(numbers: Iterable[Sequence[Any]]) -> dict[Key, float]:
    """Read what `numbers_of` has listed."""
    return {
        (metric, series, tuple(sorted(labels.items()))): value for metric, series, labels, value in numbers
    }


class Together(Collector):
    """The metrics of this process, with another's numbers added.

    Args:
        own: Those of this process.
        others: The other's numbers.
    """

    def __init__(self, own: Collector, others: Mapping[Key, float]) -> None:
        self._own, self._others = own, others

    def collect(self) -> Iterable[Metric]:
        """Give the metrics to Prometheus' client."""
        others: dict[str, dict[Key, float]] = {}
        for key, value in self._others.items():
            others.setdefault(key[0], {})[key] = value
        for metric in self._own.collect():
            left = others.get(metric.name, {})
            metric.samples = [
                sample._replace(
                    value=sample.value
                    + left.pop((metric.name, sample.name, tuple(sorted(sample.labels.items()))), 0)
                )
                for sample in metric.samples
            ]
            metric.samples += [
                Sample(series, dict(labels), value) for (_, series, labels), value in left.items()
            ]
            yield metric
