"""OpenTelemetry, where its own environment variables ask for it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import structlog

from app.observe.tracing import OFF, Tracing

if TYPE_CHECKING:
    from fastapi.telemetry import TelemetryConfig

log = structlog.get_logger(__name__)

PACKAGES = "opentelemetry-sdk opentelemetry-exporter-otlp-proto-http"
"""What the extra `otel` of pyproject.toml installs."""
ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def asked(environment: Mapping[str, str]) -> bool:
    """Tell whether the environment asks for traces: it names an exporter, or where to export to."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporter = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    return exporter != "none" if exporter else any(environment.get(name) for name in ENDPOINTS)


def make_tracing(environment: Mapping[str, str]) -> Tracing:
    """Return the tracing that the environment asks for; one that cannot be had is said, and is none.

    Args:
        environment: The environment variables. OpenTelemetry reads its own by itself: from the process's.
    """
    if not asked(environment):
        return OFF
    try:
        from app.observe.otel_spans import start_tracing  # noqa: PLC0415 - an extra, and slow to import
    except ImportError as error:
        log.warning(
            "no traces: OpenTelemetry is asked for but not installed; install the extra otel",
            missing=error.name,
            command=f"pip install {PACKAGES}",
        )
        return OFF
    try:
        return start_tracing(environment)
    except ValueError as error:
        log.warning("no traces: OpenTelemetry is asked for what it cannot do", reason=str(error))
        return OFF


def telemetry(tracing: Tracing, path: str) -> "TelemetryConfig":
    """Return what FastAPI is to make spans of: requests to one path, and nothing where there is no tracing.

    Args:
        tracing: Whether, and where to.
        path: What the paths of these requests end in.
    """
    return {
        "tracing": tracing.provider is not None,
        "tracer_provider": tracing.provider,
        "exclude": lambda scope: scope["type"] != "http" or not scope["path"].endswith(path),
        # Not its logs: they hold exceptions' texts. Not its metrics: /metrics has ours.
        "logs": False,
        "metrics": False,
        "operation_spans": False,
        "auto_configure": False,
    }
