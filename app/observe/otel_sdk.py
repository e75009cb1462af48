"""OpenTelemetry's SDK and its exporters. Imported only where traces are asked for: it is an extra."""

import asyncio
import threading
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import entry_points
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

SERVICE = "port-listener"
CLOSE_SECONDS = 2.0  # a collector that does not answer must not delay a stop


def start_provider(environment: Mapping[str, str]) -> TracerProvider:
    """Make a provider that exports as the environment says.

    Raises:
        ValueError: The environment names an exporter that is not installed.
    """
    named = environment.get("OTEL_SERVICE_NAME") or "service.name=" in environment.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    )
    resource = Resource.create({} if named else {"service.name": SERVICE})
    # Not at exit: that waits for a collector that does not answer; `close` does not.
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    for exporter in _exporters(environment):
        provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _exporters(environment: Mapping[str, str]) -> list[Any]:
    protocol = (
        environment.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
        or environment.get("OTEL_EXPORTER_OTLP_PROTOCOL")
        or "http/protobuf"
    )
    otlp = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
    exporters = []
    for name in (environment.get("OTEL_TRACES_EXPORTER") or "otlp").lower().split(","):
        wanted = otlp.get(protocol, protocol) if name.strip() == "otlp" else name.strip()
        # As OpenTelemetry's own start does it, so that any exporter that is installed can be named.
        installed = list(entry_points(group="opentelemetry_traces_exporter", name=wanted))
        if not installed:
            raise ValueError(f"the exporter {wanted!r} is not installed")
        exporters.append(installed[0].load()())
    return exporters


async def close(provider: TracerProvider) -> None:
    """Export the remaining spans, within `CLOSE_SECONDS`."""
    # A thread of its own, because the end of the process waits for those of a pool.
    loop, closed = asyncio.get_running_loop(), asyncio.Event()

    def shut_down() -> None:
        provider.shutdown()
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(closed.set)

    threading.Thread(target=shut_down, name="traces", daemon=True).start()
    with suppress(TimeoutError):
        await asyncio.wait_for(closed.wait(), CLOSE_SECONDS)
