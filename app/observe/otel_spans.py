"""Spans of OpenTelemetry's. Imported only where they are asked for: it is an extra."""

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import entry_points
from types import TracebackType
from typing import Any, Self

from opentelemetry import context, trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanContext, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from app.observe.tracing import Span, Tracing

SERVICE = "port-listener"
CLOSE_SECONDS = 2.0  # a collector that is away must not hold up a stop
LINKS = 100
"""So many of a digest's changes have its delivery in their traces; the rest nobody would look through."""

_W3C = TraceContextTextMapPropagator()


def start_tracing(environment: Mapping[str, str]) -> Tracing:
    """Return tracing that exports as the environment says.

    Raises:
        ValueError: It names an exporter that there is not.
    """
    named = environment.get("OTEL_SERVICE_NAME") or "service.name=" in environment.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    )
    resource = Resource.create({} if named else {"service.name": SERVICE})
    # Not at exit: it would wait for a collector that is away; `close` does not.
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    for exporter in _exporters(environment):
        provider.add_span_processor(BatchSpanProcessor(exporter))
    return _On(provider)


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
        found = list(entry_points(group="opentelemetry_traces_exporter", name=wanted))
        if not found:
            raise ValueError(f"there is no exporter {wanted!r} installed")
        exporters.append(found[0].load()())
    return exporters


class _On(Tracing):
    """Makes spans."""

    def __init__(self, provider: TracerProvider) -> None:
        self.provider = provider
        self._tracer = provider.get_tracer("app")

    def span(self, name: str, *, calls_out: bool = False, **attributes: str | int | bool) -> Span:
        """See `Tracing.span`."""
        kind = SpanKind.CLIENT if calls_out else SpanKind.INTERNAL
        return _OneSpan(self._tracer, name, kind, attributes)

    def deliver(self, parents: Sequence[str | None], **attributes: str | int | bool) -> Span:
        """See `Tracing.deliver`; the traces of the other changes get a span that is linked to it."""
        known = [one for one in map(_context_of, dict.fromkeys(parents[:LINKS])) if one is not None]
        return _OneSpan(self._tracer, "deliver", SpanKind.CONSUMER, attributes, known)

    @property
    def traceparent(self) -> str | None:
        """See `Tracing.traceparent`."""
        carrier: dict[str, str] = {}
        _W3C.inject(carrier)
        return carrier.get("traceparent")

    @property
    def trace_id(self) -> str | None:
        """See `Tracing.trace_id`."""
        current = trace.get_current_span().get_span_context()
        return trace.format_trace_id(current.trace_id) if current.is_valid else None

    async def close(self) -> None:
        """See `Tracing.close`."""
        # A thread of its own, because the end of the process waits for those of a pool.
        loop, closed = asyncio.get_running_loop(), asyncio.Event()

        def shut_down() -> None:
            self.provider.shutdown()
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(closed.set)

        threading.Thread(target=shut_down, name="traces", daemon=True).start()
        with suppress(TimeoutError):
            await asyncio.wait_for(closed.wait(), CLOSE_SECONDS)


class _OneSpan(Span):
    """A span, and where there are several parents the shadows that it casts in the traces of the others."""

    def __init__(
        self,
        tracer: trace.Tracer,
        name: str,
        kind: SpanKind,
        attributes: Mapping[str, str | int | bool],
        parents: Sequence[SpanContext] = (),
    ) -> None:
        self._tracer, self._name, self._kind = tracer, name, kind
        self._attributes = {f"port.{key}": value for key, value in attributes.items()}
        self._parents = parents

    def __enter__(self) -> Self:
        first, *others = self._parents or (None,)
        self._began = time.time_ns()
        self._span = self._tracer.start_span(
            self._name,
            context=None if first is None else _inside(first),
            kind=self._kind,
            attributes=self._attributes,
            links=[Link(one) for one in others if one is not None],
            start_time=self._began,
            record_exception=False,
        )
        self._token = context.attach(trace.set_span_in_context(self._span))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self.fail(kind.__name__)  # not its text, which may hold a payload
        context.detach(self._token)
        self._span.end()
        links = [Link(self._span.get_span_context())]
        for one in self._parents[1:]:
            shadow = self._tracer.start_span(
                self._name, _inside(one), self._kind, self._attributes, links, start_time=self._began
            )
            shadow.end()

    def set(self, **attributes: str | int | bool) -> None:
        """See `Span.set`."""
        self._attributes |= (named := {f"port.{key}": value for key, value in attributes.items()})
        self._span.set_attributes(named)

    def fail(self, kind: str) -> None:
        """See `Span.fail`."""
        self._span.set_attribute("error.type", kind)
        self._span.set_status(StatusCode.ERROR)


def _context_of(traceparent: str | None) -> SpanContext | None:
    if traceparent is None:
        return None
    extracted = _W3C.extract({"traceparent": traceparent})
    found = trace.get_current_span(extracted).get_span_context()
    return found if found.is_valid else None


def _inside(parent: SpanContext) -> context.Context:
    return trace.set_span_in_context(trace.NonRecordingSpan(parent), context.Context())
