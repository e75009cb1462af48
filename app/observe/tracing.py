"""Spans, by OpenTelemetry's API. Attributes never hold a payload, and errors only their kind.

`app.observe.otel` sets up what takes them; without it they go nowhere.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

from opentelemetry.context import Context
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    NonRecordingSpan,
    NoOpTracer,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    Tracer,
    format_trace_id,
    get_current_span,
    set_span_in_context,
    use_span,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

OFF: Tracer = NoOpTracer()
LINKS = 100
"""So many of a digest's changes have its delivery in their traces; the rest nobody would look through."""

_W3C = TraceContextTextMapPropagator()
# OpenTelemetry's tracer that does nothing takes 5 µs a span, and a change has five.
_NO_SPAN = nullcontext(INVALID_SPAN)
_NO_SPANS = nullcontext[Sequence[Span]](())


def span(
    tracer: Tracer, name: str, *, calls_out: bool = False, **attributes: str | int | bool
) -> AbstractContextManager[Span]:
    """Return a span inside the current one, to be used in a `with`; what is raised there marks it as failed.

    Args:
        tracer: Makes it; `OFF` makes none.
        name: What happens in it.
        calls_out: It waits for somebody else's answer.
        attributes: See `note`.
    """
    if tracer is OFF:
        return _NO_SPAN
    kind = SpanKind.CLIENT if calls_out else SpanKind.INTERNAL
    return _current(tracer.start_span(name, kind=kind, attributes=_named(attributes)))


def delivery(
    tracer: Tracer, parents: Sequence[str | None], **attributes: str | int | bool
) -> AbstractContextManager[Sequence[Span]]:
    """Return the spans of a delivery, to be used in a `with`; none with `OFF`.

    The first goes on in the first change's trace, and is the current one. Each other change's trace gets one
    that is linked to it.

    Args:
        tracer: Makes them.
        parents: The `traceparent` of each change that is told of.
        attributes: See `note`.
    """
    return _NO_SPANS if tracer is OFF else _delivery(tracer, parents, _named(attributes))


def note(*spans: Span, **attributes: str | int | bool) -> None:
    """Add attributes to spans; ``port.`` is put before their names."""
    for one in spans:
        one.set_attributes(_named(attributes))


def fail(kind: str, *spans: Span) -> None:
    """Say that what spans are about went wrong.

    Args:
        kind: How, in a word: a text may hold a payload.
        spans: The spans.
    """
    for one in spans:
        one.set_attribute("error.type", kind)
        one.set_status(StatusCode.ERROR)


def traceparent() -> str | None:
    """Return the current span as W3C's header of that name writes it; None: there is none."""
    if not get_current_span().get_span_context().is_valid:
        return None
    carrier: dict[str, str] = {}
    _W3C.inject(carrier)
    return carrier["traceparent"]


def current_trace_id() -> str | None:
    """Return the current trace, in 32 hexadecimal digits; None: there is none."""
    current = get_current_span().get_span_context()
    return format_trace_id(current.trace_id) if current.is_valid else None


@contextmanager
def _current(made: Span) -> Iterator[Span]:
    # Neither the exception nor its text is recorded: they may hold a payload.
    with use_span(made, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield made
        except BaseException as error:
            fail(type(error).__name__, made)
            raise


@contextmanager
def _delivery(
    tracer: Tracer, parents: Sequence[str | None], attributes: Mapping[str, str | int | bool]
) -> Iterator[Sequence[Span]]:
    known = [one for one in map(_context_of, dict.fromkeys(parents[:LINKS])) if one is not None]
    start = partial(tracer.start_span, "deliver", kind=SpanKind.CONSUMER, attributes=attributes)
    main = start(
        context=_inside(known[0]) if known else None,
        links=[Link(one) for one in known[1:]],
    )
    links = [Link(main.get_span_context())]
    others = [start(context=_inside(one), links=links) for one in known[1:]]
    try:
        with _current(main):
            yield (main, *others)
    finally:
        for one in others:
            one.end()


def _named(attributes: Mapping[str, str | int | bool]) -> dict[str, str | int | bool]:
    return {f"port.{key}": value for key, value in attributes.items()}


def _context_of(parent: str | None) -> SpanContext | None:
    if parent is None:
        return None
    found = get_current_span(_W3C.extract({"traceparent": parent})).get_span_context()
    return found if found.is_valid else None


def _inside(parent: SpanContext) -> Context:
    return set_span_in_context(NonRecordingSpan(parent), Context())
