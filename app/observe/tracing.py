"""Spans, by OpenTelemetry's API. Attributes never hold a payload, and errors only their kind.

`app.observe.otel` sets up where they are exported to; without it there are none.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

from opentelemetry.context import Context
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    NoOpTracer,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    Tracer,
    format_trace_id,
    get_current_span,
    use_span,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

OFF: Tracer = NoOpTracer()
MAX_LINKED_CHANGES = 100  # of a digest, in whose traces its delivery shows; nobody would look through more

_W3C = TraceContextTextMapPropagator()
# OpenTelemetry's tracer that does nothing takes 5 µs a span, and a change has five.
_NO_SPAN = nullcontext(INVALID_SPAN)
_NO_SPANS = nullcontext[Sequence[Span]](())


def span(
    tracer: Tracer, name: str, *, calls_out: bool = False, **attributes: str | int | bool
) -> AbstractContextManager[Span]:
    """Start a span inside the current one, to be used in a `with`; what is raised there marks it as failed.

    Args:
        tracer: Makes it; `OFF` makes none.
        name: The operation that it measures.
        calls_out: Whether it waits for another program's answer.
        attributes: Its attributes; ``port.`` is put before their names.
    """
    if tracer is OFF:
        return _NO_SPAN
    kind = SpanKind.CLIENT if calls_out else SpanKind.INTERNAL
    return _current(tracer.start_span(name, kind=kind, attributes=_named(attributes)))


def delivery_spans(
    tracer: Tracer, parents: Sequence[str | None], **attributes: str | int | bool
) -> AbstractContextManager[Sequence[Span]]:
    """Start the spans of a delivery, to be used in a `with`; none with `OFF`.

    The first goes on in the first change's trace, and is the current one. Each other change's trace gets one
    that is linked to it.

    Args:
        tracer: Makes them.
        parents: The `traceparent` of each change that the delivery alerts of; None: it has none.
        attributes: The attributes of each; ``port.`` is put before their names.
    """
    return _NO_SPANS if tracer is OFF else _delivery(tracer, parents, _named(attributes))


def note(*spans: Span, **attributes: str | int | bool) -> None:
    """Add attributes to spans; ``port.`` is put before their names."""
    for each in spans:
        if each.is_recording():
            each.set_attributes(_named(attributes))


def fail(kind: str, *spans: Span) -> None:
    """Mark spans as failed.

    Args:
        kind: The error's kind, in a word: its text may hold a payload.
        spans: The spans.
    """
    for each in spans:
        each.set_attribute("error.type", kind)
        each.set_status(StatusCode.ERROR)


def traceparent() -> str | None:
    """Write the current span as W3C's ``traceparent`` header has it; None: there is none."""
    if not _span_of().is_valid:
        return None
    carrier: dict[str, str] = {}
    _W3C.inject(carrier)
    return carrier["traceparent"]


def current_trace_id() -> str | None:
    """Return the current trace, in 32 hexadecimal digits; None: there is none."""
    current = _span_of()
    return format_trace_id(current.trace_id) if current.is_valid else None


@contextmanager
def _current(started: Span) -> Iterator[Span]:
    # Neither the exception nor its text is recorded: they may hold a payload.
    with use_span(started, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield started
        except BaseException as error:
            fail(type(error).__name__, started)
            raise


@contextmanager
def _delivery(
    tracer: Tracer, parents: Sequence[str | None], attributes: Mapping[str, str | int | bool]
) -> Iterator[Sequence[Span]]:
    contexts = [
        _W3C.extract({"traceparent": parent or ""}, Context())
        for parent in dict.fromkeys(parents[:MAX_LINKED_CHANGES])
    ]
    changes = [context for context in contexts if _span_of(context).is_valid]
    start = partial(tracer.start_span, "deliver", kind=SpanKind.CONSUMER, attributes=attributes)
    main = start(
        context=changes[0] if changes else None, links=[Link(_span_of(change)) for change in changes[1:]]
    )
    links = [Link(main.get_span_context())]
    others = [start(context=change, links=links) for change in changes[1:]]
    try:
        with _current(main):
            yield (main, *others)
    finally:
        for other in others:
            other.end()


def _named(attributes: Mapping[str, str | int | bool]) -> dict[str, str | int | bool]:
    return {f"port.{key}": value for key, value in attributes.items()}


def _span_of(context: Context | None = None) -> SpanContext:
    return get_current_span(context).get_span_context()
