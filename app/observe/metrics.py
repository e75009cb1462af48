"""The service's counters for Prometheus; `app.web.metrics` adds the store's numbers.

Labels are rules, destinations and queues, whose number the rules file limits, and closed sets; never an
entity.
"""

import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path

import structlog
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from app.errors import Cause, SettingsError
from app.model.delivery import Outcome
from app.observe.together import Key, Together, numbers_of
from app.observe.watch import Watch

log = structlog.get_logger(__name__)

MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable that makes prometheus_client keep its numbers in files, for several processes."""

NAMESPACE = "port_listener"
"""Begins each metric's name, here and in `app.web.metrics`."""
SHORT_BUCKETS_SECONDS = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 1, 5)
DELAY_BUCKETS_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 1800, 21600)
JOB_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)

ANSWERS = {
    400: "cut_off",  # the sender hung up before its body was whole
    401: "rejected",
    408: "too_slow",
    413: "too_large",
    422: "quarantined",
    503: "unavailable",
}
"""The outcome by status, of answers other than 202; any other status is an error in this program."""
OUTCOMES = ("accepted", "duplicate", *ANSWERS.values(), "failed")


def prepare_metrics() -> None:
    """Make the folder in which several processes keep their numbers, if the environment names one.

    Raises:
        SettingsError: It cannot be made or written, or has a damaged file.
    """
    folder = os.environ.get(MULTIPROCESS_VARIABLE)
    if folder is None:
        return
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise SettingsError(
            f"{MULTIPROCESS_VARIABLE}: cannot use the folder {folder}: {error.strerror}"
        ) from None
    if broken := [file for file in _metric_files(folder) if not _is_sound(file)]:
        raise SettingsError(f"{MULTIPROCESS_VARIABLE}: {broken[0]} is damaged: delete it")


def _metric_files(folder: str) -> list[Path]:
    return sorted(Path(folder).glob("*.db"))


def _is_sound(file: Path) -> bool:
    """Tell whether a process's file of numbers can be read; an empty one is new."""
    try:
        if file.stat().st_size:
            MultiProcessCollector.merge([str(file)])  # type: ignore[no-untyped-call]
    except FileNotFoundError:
        return True  # its process has ended
    except Exception:  # noqa: BLE001 - of a library that takes its files for sound: anything may come
        return False
    return True


def _counters(registry: CollectorRegistry, name: str, text: str, *labels: str) -> Callable[..., Counter]:
    # Children are kept, because `labels` costs more than counting. A new one begins at 0.
    return cache(Counter(name, text, labels, namespace=NAMESPACE, registry=registry).labels)


class Metrics(Watch):
    """Counts for one application, in a registry of its own."""

    def __init__(self) -> None:
        # Creation times would double the number of series, and no query uses them. The only switch is
        # process-wide; nothing else in this process exports metrics.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = registry = CollectorRegistry()
        self._several = MULTIPROCESS_VARIABLE in os.environ
        counters = partial(_counters, registry)
        counter = partial(Counter, namespace=NAMESPACE, registry=registry)
        gauge = partial(Gauge, namespace=NAMESPACE, registry=registry, multiprocess_mode="mostrecent")
        histogram = partial(Histogram, namespace=NAMESPACE, registry=registry)
        self._changes = counters("changes_total", "Requests for a change, by outcome.", "outcome")
        self._failures = counters(
            "signature_failures_total", "Requests that are not proven to come from Port, by cause.", "cause"
        )
        self._accept_seconds = histogram(
            "accept_duration_seconds",
            "From the end of a change's body until the change is on disk.",
            buckets=SHORT_BUCKETS_SECONDS,
        )
        self._decisions = counters(
            "decisions_total",
            "New changes by what they did to a rule; unmatched, with no rule: no rule was concerned.",
            "rule",
            "outcome",
        )
        self._program_failures = counters(
            "jq_failures_total", "Changes on which a jq program of a rule failed, where that matters.", "rule"
        )
        self._deliveries = counters(
            "deliveries_total",
            "Deliveries that were tried or set aside, by outcome.",
            "destination",
            "outcome",
        )
        self._messages = counters(
            "messages_sent_total",
            "Messages that a destination took; one may hold several deliveries.",
            "destination",
        )
        self._updates = counters(
            "messages_changed_total", "Messages that were changed after they were sent.", "destination"
        )
        self._retries = counters("retries_total", "Attempts that failed and are made again.", "destination")
        self._delay = histogram(
            "delivery_delay_seconds",
            "From when an alert was due until its destination had it.",
            buckets=DELAY_BUCKETS_SECONDS,
        )
        self._commit_seconds = histogram(
            "store_commit_duration_seconds",
            "How long the store's transactions took, with the wait for other processes.",
            buckets=SHORT_BUCKETS_SECONDS,
        )
        self._commit_jobs = histogram(
            "store_commit_jobs", "How many jobs one transaction of the store had.", buckets=JOB_BUCKETS
        )
        self._commit_failures = counter(
            "store_commit_failures_total", "Transactions that the store could not commit."
        )
        text = "How often the process that delivers ended, and was started again."
        self._dispatcher_ends = counter("dispatcher_restarts_total", text)
        self._clicks = counters(
            "slack_clicks_total", "Clicks on buttons in Slack, by what came of them.", "action", "outcome"
        )
        self._rules_taken = gauge(
            "rules_last_reload_success_timestamp_seconds", "When a valid rules file was last read."
        )
        self._rules_refused = gauge(
            "rules_refused", "1 while the rules file is refused and the rules before it stay in force."
        )
        self._rules_failures = counter("rules_reload_failures_total", "How often a rules file was refused.")
        self._runs = counters("reconcile_runs_total", "Reconcile runs, by outcome.", "outcome")
        self._run_seconds = gauge("reconcile_last_duration_seconds", "How long the last reconcile run took.")
        self._differences = counter(
            "reconcile_differences_total", "Entities that differed from their last known state."
        )
        text = "Of these, those for which Port should have called the listener, and had not."
        self._missed = counter("missed_webhooks_total", text)
        self._came_after = counter(
            "late_webhooks_total", "Changes that arrived after reconciling had found them."
        )
        if not self._several:
            ProcessCollector(registry=registry)
        for outcome in OUTCOMES:
            self._changes(outcome)
        for cause in Cause:
            self._failures(cause)
        self._decisions("", "unmatched")
        for outcome in ("well", "failed"):
            self._runs(outcome)

    def accepted(self, seconds: float, *, duplicate: bool) -> None:
        """Count a change that was answered 202, and its time."""
        self._changes("duplicate" if duplicate else "accepted").inc()
        self._accept_seconds.observe(seconds)

    def answered(self, status: int) -> None:
        """Count another answer by its status."""
        self._changes(ANSWERS.get(status, "failed")).inc()

    def signature_failed(self, cause: str) -> None:
        """Count a rejected signature."""
        self._failures(cause).inc()

    def decided(self, rule: str, outcome: str) -> None:
        """Count a decision of a rule."""
        self._decisions(rule, outcome).inc()

    def program_failed(self, rule: str) -> None:
        """Count a failure of a rule's jq."""
        self._program_failures(rule).inc()

    def delivered(self, destination: str, outcome: str, deliveries: int) -> None:
        """Count deliveries by outcome."""
        self._deliveries(destination, outcome).inc(deliveries)

    def sent(self, destination: str, waits: Sequence[float]) -> None:
        """Count a message, and observe how long its deliveries waited."""
        self._messages(destination).inc()
        for seconds in waits:
            self._delay.observe(max(0.0, seconds))  # clocks of processes differ

    def changed(self, destination: str) -> None:
        """Count a message that was changed."""
        self._updates(destination).inc()

    def retried(self, destination: str) -> None:
        """Count an attempt that has to be repeated."""
        self._retries(destination).inc()

    def committed(self, seconds: float, jobs: int, *, well: bool) -> None:
        """Observe a transaction's time and jobs, or count its failure."""
        if not well:
            self._commit_failures.inc()
            return
        self._commit_seconds.observe(seconds)
        self._commit_jobs.observe(jobs)

    def dispatcher_ended(self) -> None:
        """Count an end of the process that delivers."""
        self._dispatcher_ends.inc()

    def compared(self, reason: str, seconds: float, differences: int, missed: int, *, well: bool) -> None:
        """Count a reconcile run and what it found."""
        self._runs("well" if well else "failed").inc()
        self._run_seconds.set(seconds)
        self._differences.inc(differences)
        self._missed.inc(missed)

    def came_after(self) -> None:
        """Count a late webhook."""
        self._came_after.inc()

    def rules_taken(self, rules: Iterable[str], destinations: Iterable[str]) -> None:
        """Note that rules are in force, and begin the series of their names."""
        self._rules_refused.set(0)
        self._rules_taken.set_to_current_time()
        # Prometheus sees no increase in a series that begins with its first failure, so each begins at 0.
        for rule in rules:
            self._decisions(rule, "matches")
            self._program_failures(rule)
        for name in destinations:
            for outcome in Outcome:
                self._deliveries(name, outcome)
            for counters in (self._messages, self._updates, self._retries):
                counters(name)

    def rules_refused(self) -> None:
        """Note that the rules file is refused."""
        self._rules_refused.set(1)
        self._rules_failures.inc()

    def clicked(self, action: str, outcome: str) -> None:
        """Count a click."""
        self._clicks(action, outcome).inc()

    def numbers(self) -> list[tuple[str, str, dict[str, str], float]]:
        """List what another process adds to its own, as `app.observe.together` has it."""
        return numbers_of(self._registry)

    def scrape(self, state: Collector, others: Mapping[Key, float]) -> bytes:
        """Return all metrics in Prometheus' text format.

        Args:
            state: The store's numbers, read for this scrape.
            others: Those of a process that delivers for this one.
        """
        counted: Collector = _AllProcesses() if self._several else Together(self._registry, others)
        return generate_latest(counted) + generate_latest(state)


class _AllProcesses(Collector):
    """The numbers of all processes, without those of a damaged file, which would cost all others."""

    def collect(self) -> Iterable[Metric]:
        """Read the files of all processes."""
        files = _metric_files(os.environ[MULTIPROCESS_VARIABLE])
        sound = [str(file) for file in files if _is_sound(file)]
        if len(sound) < len(files):
            log.warning("metrics_file_damaged", files=[str(file) for file in files if str(file) not in sound])
        metrics: Iterable[Metric] = MultiProcessCollector.merge(sound)  # type: ignore[no-untyped-call]
        return metrics
