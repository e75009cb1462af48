"""What is counted of the service, for Prometheus; `app.web.metrics` adds how the store is.

Labels are rules, destinations and queues, of which a rules file names but so many, and closed sets; never an
entity. Children are bound beforehand where a request needs them: `labels()` costs more than counting.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

from app.errors import Cause, SettingsError
from app.model.delivery import Outcome
from app.observe.watch import Watch

MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable with which prometheus_client keeps its numbers in files, for several processes."""

MILLISECONDS = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 1, 5)
DELAYS = (0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 1800, 21600)
JOBS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)

ANSWERS = {
    400: "cut_off",  # the sender hung up before its body was whole
    401: "rejected",
    408: "too_slow",
    413: "too_large",
    422: "quarantined",
    503: "unavailable",
}
"""What an answer other than 202 means; any other is a fault of ours."""
OUTCOMES = ("accepted", "duplicate", *ANSWERS.values(), "failed")


def prepare_metrics() -> None:
    """Make the folder in which several processes keep their numbers, where the environment names one.

    Raises:
        SettingsError: It cannot be made.
    """
    folder = os.environ.get(MULTIPROCESS)
    try:
        if folder is not None:
            Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"{MULTIPROCESS}: cannot make the folder {folder}: {error.strerror}") from None


class _Counters:
    """A counter with labels; its children are kept, because to ask it for one costs more than to count."""

    def __init__(self, registry: CollectorRegistry, name: str, text: str, *labels: str) -> None:
        self._counter = Counter(name, text, labels, registry=registry)
        self._children: dict[tuple[str, ...], Counter] = {}

    def of(self, *values: str) -> Counter:
        """Return the child with these values of the labels; it begins at 0."""
        child = self._children.get(values)
        if child is None:
            child = self._children[values] = self._counter.labels(*values)
        return child


class Metrics(Watch):
    """Counts for one application, in a registry of its own."""

    def __init__(self) -> None:
        # A time of creation for each series doubles them, and nothing asks for it. There is but this switch
        # for the whole process, and nobody else here who would want them.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = registry = CollectorRegistry()
        self._several = MULTIPROCESS in os.environ
        self._count_requests(registry)
        self._count_deliveries(registry)
        self._count_commits(registry)
        self._count_rules(registry)
        self._count_comparisons(registry)
        if not self._several:
            ProcessCollector(registry=registry)

    def _count_requests(self, registry: CollectorRegistry) -> None:
        self._changes = _Counters(
            registry, "port_listener_changes_total", "Requests for a change, by outcome.", "outcome"
        )
        self._failures = _Counters(
            registry,
            "port_listener_signature_failures_total",
            "Requests that are not proven to come from Port, by cause.",
            "cause",
        )
        self._accept_seconds = Histogram(
            "port_listener_accept_duration_seconds",
            "From the end of a change's body until the change is on disk.",
            buckets=MILLISECONDS,
            registry=registry,
        )
        self._decisions = _Counters(
            registry,
            "port_listener_decisions_total",
            "What new changes meant to a rule; no rule, unmatched: none had anything to say.",
            "rule",
            "outcome",
        )
        for outcome in OUTCOMES:
            self._changes.of(outcome)
        for cause in Cause:
            self._failures.of(cause)
        self._decisions.of("", "unmatched")

    def _count_deliveries(self, registry: CollectorRegistry) -> None:
        self._deliveries = _Counters(
            registry,
            "port_listener_deliveries_total",
            "Deliveries that were tried or set aside, by what came of it.",
            "destination",
            "outcome",
        )
        self._messages = _Counters(
            registry,
            "port_listener_messages_sent_total",
            "Messages that a destination took; one may tell of several deliveries.",
            "destination",
        )
        self._updates = _Counters(
            registry,
            "port_listener_messages_changed_total",
            "Messages that were changed where they stand.",
            "destination",
        )
        self._retries = _Counters(
            registry,
            "port_listener_retries_total",
            "Attempts that failed and are made again.",
            "destination",
        )
        self._delay = Histogram(
            "port_listener_delivery_delay_seconds",
            "From when an alert was due until its destination had it.",
            buckets=DELAYS,
            registry=registry,
        )

    def _count_commits(self, registry: CollectorRegistry) -> None:
        self._commit_seconds = Histogram(
            "port_listener_store_commit_duration_seconds",
            "How long the store's transactions took, with the wait for other processes.",
            buckets=MILLISECONDS,
            registry=registry,
        )
        self._commit_jobs = Histogram(
            "port_listener_store_commit_jobs",
            "How many jobs one transaction of the store held.",
            buckets=JOBS,
            registry=registry,
        )
        self._commit_failures = Counter(
            "port_listener_store_commit_failures_total",
            "Transactions that the store could not commit.",
            registry=registry,
        )

    def _count_rules(self, registry: CollectorRegistry) -> None:
        self._rules_taken = Gauge(
            "port_listener_rules_last_reload_success_timestamp_seconds",
            "When rules were last read that could be used.",
            registry=registry,
            multiprocess_mode="mostrecent",
        )
        self._rules_refused = Gauge(
            "port_listener_rules_refused",
            "1 while the rules file is refused and the rules before it hold.",
            registry=registry,
            multiprocess_mode="mostrecent",
        )
        self._rules_failures = Counter(
            "port_listener_rules_reload_failures_total",
            "How often a rules file was refused.",
            registry=registry,
        )

    def _count_comparisons(self, registry: CollectorRegistry) -> None:
        self._runs = _Counters(
            registry, "port_listener_reconcile_runs_total", "Comparisons with Port, by outcome.", "outcome"
        )
        self._run_seconds = Gauge(
            "port_listener_reconcile_last_duration_seconds",
            "How long the last comparison with Port took.",
            registry=registry,
            multiprocess_mode="mostrecent",
        )
        self._differences = Counter(
            "port_listener_reconcile_differences_total",
            "Entities that differed from their last known state.",
            registry=registry,
        )
        self._missed = Counter(
            "port_listener_missed_webhooks_total",
            "Of these, those of which Port should have called the listener, and had not.",
            registry=registry,
        )
        self._came_after = Counter(
            "port_listener_late_webhooks_total",
            "Changes that came after a comparison had told of them.",
            registry=registry,
        )
        for outcome in ("well", "failed"):
            self._runs.of(outcome)

    def accepted(self, seconds: float, *, duplicate: bool) -> None:
        """See `Watch.accepted`."""
        self._changes.of("duplicate" if duplicate else "accepted").inc()
        self._accept_seconds.observe(seconds)

    def answered(self, status: int) -> None:
        """See `Watch.answered`."""
        self._changes.of(ANSWERS.get(status, "failed")).inc()

    def signature_failed(self, cause: str) -> None:
        """See `Watch.signature_failed`."""
        self._failures.of(cause).inc()

    def decided(self, rule: str, outcome: str) -> None:
        """See `Watch.decided`."""
        self._decisions.of(rule, outcome).inc()

    def delivered(self, destination: str, outcome: str, deliveries: int) -> None:
        """See `Watch.delivered`."""
        self._deliveries.of(destination, outcome).inc(deliveries)

    def sent(self, destination: str, waits: Sequence[float]) -> None:
        """See `Watch.sent`."""
        self._messages.of(destination).inc()
        for seconds in waits:
            self._delay.observe(max(0.0, seconds))

    def changed(self, destination: str) -> None:
        """See `Watch.changed`."""
        self._updates.of(destination).inc()

    def retried(self, destination: str) -> None:
        """See `Watch.retried`."""
        self._retries.of(destination).inc()

    def committed(self, seconds: float, jobs: int, *, well: bool) -> None:
        """See `Watch.committed`."""
        if not well:
            self._commit_failures.inc()
            return
        self._commit_seconds.observe(seconds)
        self._commit_jobs.observe(jobs)

    def compared(self, reason: str, seconds: float, differences: int, missed: int, *, well: bool) -> None:
        """See `Watch.compared`."""
        self._runs.of("well" if well else "failed").inc()
        self._run_seconds.set(seconds)
        self._differences.inc(differences)
        self._missed.inc(missed)

    def came_after(self) -> None:
        """See `Watch.came_after`."""
        self._came_after.inc()

    def rules_taken(self, rules: Iterable[str], destinations: Iterable[str]) -> None:
        """See `Watch.rules_taken`."""
        self._rules_refused.set(0)
        self._rules_taken.set_to_current_time()
        # A series that comes into being with its first failure shows no increase by it: each begins at 0.
        for rule in rules:
            self._decisions.of(rule, "matches")
        for name in destinations:
            for outcome in Outcome:
                self._deliveries.of(name, outcome)
            for counters in (self._messages, self._updates, self._retries):
                counters.of(name)

    def rules_refused(self) -> None:
        """See `Watch.rules_refused`."""
        self._rules_refused.set(1)
        self._rules_failures.inc()

    def scrape(self, state: CollectorRegistry) -> bytes:
        """Return all in Prometheus' text format: what was counted, and how things are.

        Args:
            state: What is read when it is asked for: how the store is.
        """
        counted = self._registry
        if self._several:
            counted = CollectorRegistry()
            MultiProcessCollector(counted)  # type: ignore[no-untyped-call]
        return generate_latest(counted) + generate_latest(state)
