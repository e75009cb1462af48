"""OpenTelemetry, where its own environment variables ask for it."""

import asyncio
import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import structlog

from app.errors import SettingsError
from app.network import Network

if TYPE_CHECKING:
    from fastapi.telemetry import TelemetryConfig
    from opentelemetry.sdk.trace import TracerProvider

log = structlog.get_logger(__name__)

SERVICE = "port-listener"
CLOSE_SECONDS = 2.0  # a collector that does not answer must not delay a stop
PACKAGES = "opentelemetry-sdk opentelemetry-exporter-otlp-proto-http"
"""What the extra `otel` of pyproject.toml installs."""
HEADERS = ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS")
ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def hidden(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the values of the headers for the collector: OpenTelemetry shows what it cannot read."""
    values = []
    for name in HEADERS:
        for header in environment.get(name, "").split(","):
            value = re.split("[=:]", header, maxsplit=1)[-1].strip()
            values += [header.strip(), value, unquote(value), *unquote(value).split()]
    return tuple(values)


def asked(environment: Mapping[str, str]) -> bool:
    """Tell whether the environment asks for traces: it names an exporter or an endpoint."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    # As OpenTelemetry's own SDK has it, but that an endpoint must be named: its default is a local collector.
    exporter = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    return exporter != "none" if exporter else any(environment.get(name) for name in ENDPOINTS)


def make_provider(environment: Mapping[str, str]) -> "TracerProvider | None":
    """Start the provider of the spans that the environment asks for.

    Args:
        environment: The environment variables. OpenTelemetry reads the process's own by itself.

    Returns:
        The provider; None: no traces are asked for, or they cannot be had, which is logged.
    """
    if not asked(environment):
        return None
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        log.warning(
            "traces_unavailable",
            reason="OpenTelemetry is asked for but not installed: install the extra otel",
            missing=error.name,
            command=f"pip install {PACKAGES}",
        )
        return None
    named = environment.get("OTEL_SERVICE_NAME") or "service.name=" in environment.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    )
    resource = Resource.create({} if named else {"service.name": SERVICE})
    # Not at exit: that waits for a collector that does not answer; `close` does not.
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    try:
        _check_headers(environment)
        for exporter in _exporters(environment):
            provider.add_span_processor(BatchSpanProcessor(exporter))
    except (ValueError, SettingsError) as error:
        log.warning("traces_unavailable", reason=str(error))
        return None
    return provider


def _check_headers(environment: Mapping[str, str]) -> None:
    for name in HEADERS:
        if any(header.strip() and "=" not in header for header in environment.get(name, "").split(",")):
            raise ValueError(
                f"{name} must be name=value, with commas between: a colon does not separate them"
            )


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
        exporter = installed[0].load()
        # By the same proxies and certificates as all other clients; of other exporters nothing is known.
        url = next((environment[name] for name in reversed(ENDPOINTS) if environment.get(name)), "")
        over_http = wanted == "otlp_proto_http"
        exporters.append(exporter(session=Network(environment).requests(url)) if over_http else exporter())
    return exporters


def telemetry(provider: "TracerProvider | None", path: str) -> "TelemetryConfig":
    """Configure FastAPI's own spans: of requests to one path; of none where there is no provider.

    Args:
        provider: Makes them.
        path: The end of the paths of these requests.
    """
    return {
        "tracing": provider is not None,
        "tracer_provider": provider,
        "exclude": lambda scope: scope["type"] != "http" or not scope["path"].endswith(path),
        # Not its logs: they hold exceptions' texts. Not its metrics: /metrics has ours.
        "logs": False,
        "metrics": False,
        "operation_spans": False,
        "auto_configure": False,
    }


async def close(provider: "TracerProvider | None") -> None:
    """Export the remaining spans, within `CLOSE_SECONDS`."""
    if provider is None:
        return
    # A thread of its own, because the end of the process waits for those of a pool.
    loop, closed = asyncio.get_running_loop(), asyncio.Event()

    def shut_down() -> None:
        provider.shutdown()
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(closed.set)

    threading.Thread(target=shut_down, name="traces", daemon=True).start()
    with suppress(TimeoutError):
        await asyncio.wait_for(closed.wait(), CLOSE_SECONDS)
