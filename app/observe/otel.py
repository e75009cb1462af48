"""OpenTelemetry, where its own environment variables ask for it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from fastapi.telemetry import TelemetryConfig
    from opentelemetry.sdk.trace import TracerProvider

log = structlog.get_logger(__name__)

PACKAGES = "opentelemetry-sdk opentelemetry-exporter-otlp-proto-http"
"""What the extra `otel` of pyproject.toml installs."""
ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


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
        from app.observe.otel_sdk import start_provider
    except ImportError as error:
        log.warning(
            "traces_unavailable",
            reason="OpenTelemetry is asked for but not installed: install the extra otel",
            missing=error.name,
            command=f"pip install {PACKAGES}",
        )
        return None
    try:
        return start_provider(environment)
    except ValueError as error:
        log.warning("traces_unavailable", reason=str(error))
        return None


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
    """Export the remaining spans, for a few seconds at most."""
    if provider is not None:
        from app.observe.otel_sdk import close as shut_down

        await shut_down(provider)
