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
    """Tell whether the environment asks for traces: it names an exporter, or where to export to."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporter = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    return exporter != "none" if exporter else any(environment.get(name) for name in ENDPOINTS)


def make_provider(environment: Mapping[str, str]) -> "TracerProvider | None":
    """Return what makes the spans that the environment asks for.

    Args:
        environment: The environment variables. OpenTelemetry reads its own by itself: from the process's.

    Returns:
        None: it asks for none, or for what cannot be had, which is logged.
    """
    if not asked(environment):
        return None
    try:
        from app.observe.otel_sdk import start_provider  # noqa: PLC0415 - an extra, and slow to import
    except ImportError as error:
        log.warning(
            "no traces: OpenTelemetry is asked for but not installed; install the extra otel",
            missing=error.name,
            command=f"pip install {PACKAGES}",
        )
        return None
    try:
        return start_provider(environment)
    except ValueError as error:
        log.warning("no traces: OpenTelemetry is asked for what it cannot do", reason=str(error))
        return None


def telemetry(provider: "TracerProvider | None", path: str) -> "TelemetryConfig":
    """Return what FastAPI is to make spans of: requests to one path, and nothing where there is no provider.

    Args:
        provider: Makes them.
        path: What the paths of these requests end in.
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
    """Export what there still is, in a moment."""
    if provider is not None:
        from app.observe.otel_sdk import close as shut_down  # noqa: PLC0415 - see above

        await shut_down(provider)
